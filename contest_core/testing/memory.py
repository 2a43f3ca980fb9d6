"""A job manager in memory: the smallest real implementation of the contract.

Used by tests of the core, of transports and of whatever wants a server without I/O. Its jobs do nothing: they run
until somebody calls `finish`, or until they are stopped.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import Struct

from contest_core.caller import Caller
from contest_core.errors import (
    InvalidDescriptor,
    InvalidParameters,
    JobEnded,
    JobRunning,
    StartKeyConflict,
    UnknownJob,
)
from contest_core.events import (
    EventListMsg,
    EventLocksMsg,
    EventRetryMsg,
    EventStartMsg,
    EventStatusMsg,
    EventStopMsg,
    EventValidateMsg,
    EventWatchMsg,
)
from contest_core.job_event import Cursor, EventData, Gap, Header, JobEvent
from contest_core.job_manager import JobManager, JobManagerContext, Termination
from contest_core.responses import (
    EncodedJSON,
    ResponseDataList,
    ResponseDataLocks,
    ResponseDataRetry,
    ResponseDataStart,
    ResponseDataStatus,
    ResponseDataStop,
    ResponseDataValidate,
)
from contest_core.status import Finding, JobEntry, JobReport, JobState, JobStatus, Severity, Verdict
from contest_core.watch import Watch

_VERDICTS = {JobState.COMPLETED: Verdict.PASSED, JobState.CANCELLED: Verdict.CANCELLED}


@dataclass
class MemoryJob:
    """One job of a `MemoryJobManager`."""

    job_id: int
    descriptor: dict[str, Any]
    requestor: str
    principal: str | None
    start_time: datetime
    state: JobState = JobState.STARTED
    events: int = 0
    """How many it has had."""
    end_time: datetime | None = None
    retry_of: int | None = None

    @property
    def verdict(self) -> Verdict | None:
        """None while it runs."""
        return _VERDICTS.get(self.state, Verdict.ERROR) if self.state.ended else None


class MemoryJobManager(JobManager):
    """Keeps jobs in a dictionary. Everything is answered at once, nothing outlives the object."""

    class Settings(Struct, frozen=True, kw_only=True):
        """It has none."""

    def __init__(
        self, settings: Any = None, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        """`now` is asked for every time that it gives out."""
        super().__init__(settings)
        self.jobs: dict[int, MemoryJob] = {}
        """By number."""
        self._now = now
        self._keys: dict[str, int] = {}
        self._events: list[JobEvent] = []
        self._pruned = 0
        self._changed = asyncio.Event()
        self.ended = False
        """Whether `serve` has come to its end."""

    def capabilities(self) -> frozenset[str]:
        """All verbs, start keys and `strict`."""
        verbs = {"start", "stop", "status", "retry", "list", "validate", "locks", "watch"}
        return frozenset({*verbs, "start.start_key", "start.strict"})

    async def serve(self, context: JobManagerContext) -> None:
        """Ends when all jobs have; a harder word than drain ends them."""
        context.ready()
        how = await context.stopping()
        async with asyncio.TaskGroup() as group:
            harder = group.create_task(self._end_jobs(how, context))
            while self._running():
                await self._change()
            harder.cancel()
        self.ended = True
        self._notify()

    async def _end_jobs(self, how: Termination, context: JobManagerContext) -> None:
        if how is Termination.DRAIN:
            how = await context.harder()
        for job in self._running():
            self.finish(job.job_id, JobState.PAUSED if how is Termination.PAUSE else JobState.CANCELLED)

    def finish(self, job_id: int, state: JobState = JobState.COMPLETED) -> None:
        """Ends a running job."""
        job = self.jobs[job_id]
        job.state = state
        job.end_time = self._now()
        self.emit(job_id, state.wire_name)

    def emit(self, job_id: int, name: str, payload: object = None) -> None:
        """Something happens in a job."""
        job = self.jobs[job_id]
        job.events += 1
        header = Header(job_id=job_id, run_id=None, test_name=None, test_attempt=None, test_step_label=None)
        event = JobEvent(
            sequence_id=job.events,
            emit_time=self._now(),
            header=header,
            data=EventData(target=None, event_name=name, payload=payload),
            cursor=str(self._pruned + len(self._events) + 1),
        )
        self._events.append(event)
        self._notify()

    def prune(self, count: int) -> None:
        """Forgets the oldest events, so many: whoever has not read them is told of a gap."""
        del self._events[:count]
        self._pruned += count

    # --- the verbs

    async def start(self, message: EventStartMsg, caller: Caller) -> ResponseDataStart:
        """Any JSON object with a `JobName` is a descriptor."""
        descriptor = _descriptor(message.job_descriptor)
        known = self._keys.get(message.start_key or "")
        if known is not None:
            if self.jobs[known].descriptor != descriptor:
                difference = "they are not equal"
                raise StartKeyConflict(start_key=message.start_key or "", job_id=known, difference=difference)
            return ResponseDataStart(job_id=known)
        job = self._add(descriptor, message.requestor, caller)
        if message.start_key:
            self._keys[message.start_key] = job.job_id
        return ResponseDataStart(job_id=job.job_id)

    async def stop(self, message: EventStopMsg, caller: Caller) -> ResponseDataStop:
        """The job is cancelled at once."""
        job = self._job(message.job_id)
        if job.state.ended:
            raise JobEnded(job_id=job.job_id, state=job.state.wire_name)
        self.finish(job.job_id, JobState.CANCELLED)
        return ResponseDataStop()

    async def status(self, message: EventStatusMsg, caller: Caller) -> ResponseDataStatus | EncodedJSON:
        """A status without runs."""
        job = self._job(message.job_id)
        status = JobStatus(
            name=job.descriptor["JobName"],
            state_name=job.state.wire_name,
            state_err_msg="",
            start_time=job.start_time,
            end_time=job.end_time,
            run_status=None,
            run_statuses=None,
            job_report=JobReport(job_id=job.job_id, run_reports=None, final_reports=None),
            verdict=job.verdict,
            retry_of=job.retry_of,
        )
        return ResponseDataStatus(status=status)

    async def retry(self, message: EventRetryMsg, caller: Caller) -> ResponseDataRetry:
        """The same descriptor, as a new job."""
        job = self._job(message.job_id)
        if not job.state.ended:
            raise JobRunning(job_id=job.job_id, state=job.state.wire_name)
        new = self._add(job.descriptor, message.requestor, caller)
        new.retry_of = job.job_id
        return ResponseDataRetry(job_id=job.job_id, new_job_id=new.job_id)

    async def list(self, message: EventListMsg, caller: Caller) -> ResponseDataList:
        """In the order of their numbers."""
        query = message.query
        found = [
            job
            for job in self.jobs.values()
            if (not query.states or job.state in query.states) and set(query.tags) <= set(_tags(job))
        ]
        return ResponseDataList(job_ids=[job.job_id for job in found], jobs=[_entry(job) for job in found])

    async def validate(self, message: EventValidateMsg, caller: Caller) -> ResponseDataValidate:
        """Nothing, or what `start` would say."""
        try:
            _descriptor(message.job_descriptor)
        except InvalidDescriptor as error:
            return ResponseDataValidate(findings=list(error.findings))
        return ResponseDataValidate(findings=[])

    async def locks(self, message: EventLocksMsg, caller: Caller) -> ResponseDataLocks:
        """Its jobs lock nothing."""
        return ResponseDataLocks(locks=[])

    def watch(self, message: EventWatchMsg, caller: Caller) -> AbstractAsyncContextManager[Watch]:
        """One event a change of state."""
        return self._watch(message)

    @asynccontextmanager
    async def _watch(self, message: EventWatchMsg) -> AsyncIterator[Watch]:
        if message.job_id is not None:
            self._job(message.job_id)
        since = message.since.text if message.since else "0"
        if not since.isdecimal() or int(since) > self._pruned + len(self._events):
            raise InvalidParameters(reason=f"{since[:40]!r} is no cursor of this store", parameter="since")
        yield _MemoryWatch(self, message.job_id, int(since))

    # --- inside

    def _job(self, job_id: int) -> MemoryJob:
        if job_id not in self.jobs:
            raise UnknownJob(job_id=job_id)
        return self.jobs[job_id]

    def _running(self) -> tuple[MemoryJob, ...]:
        return tuple(job for job in self.jobs.values() if job.state is JobState.STARTED)

    def _add(self, descriptor: dict[str, Any], requestor: str, caller: Caller) -> MemoryJob:
        principal = None if caller.principal is None else caller.principal.name
        job = MemoryJob(len(self.jobs) + 1, descriptor, requestor, principal, self._now())
        self.jobs[job.job_id] = job
        self.emit(job.job_id, job.state.wire_name)
        return job

    def _notify(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def _change(self) -> None:
        await self._changed.wait()


class _MemoryWatch(Watch):
    def __init__(self, manager: MemoryJobManager, job_id: int | None, position: int) -> None:
        self.cursor = Cursor(str(position))
        self._manager = manager
        self._job_id = job_id
        self._position = position
        self._read = 0

    async def __anext__(self) -> JobEvent | Gap:
        manager = self._manager
        while True:
            while (at := self._position - manager._pruned) < len(manager._events):
                if at < 0:
                    return self._gap(manager)
                event = manager._events[at]
                self._move(self._position + 1)
                if self._job_id in (None, event.header.job_id):
                    self._read = event.sequence_id
                    return event
            if manager.ended or (self._job_id and manager.jobs[self._job_id].state.ended):
                raise StopAsyncIteration
            await manager._change()

    def _move(self, position: int) -> None:
        self._position = position
        self.cursor = Cursor(str(position))

    def _gap(self, manager: MemoryJobManager) -> Gap:
        """What was pruned before it was read; of one job it is known how much."""
        left = [event for event in manager._events if event.header.job_id == self._job_id]
        missed = None
        if self._job_id is not None:
            first = left[0].sequence_id if left else manager.jobs[self._job_id].events + 1
            missed = first - 1 - self._read
        self._move(manager._pruned)
        return Gap(missed=missed, cursor=str(self.cursor))


def _descriptor(text: str) -> dict[str, Any]:
    try:
        descriptor = msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError) as error:
        raise _invalid("", f"not a JSON object: {error}") from None
    if not isinstance(descriptor.get("JobName"), str) or not descriptor["JobName"]:
        raise _invalid("/JobName", "a job needs a name")
    return descriptor


def _invalid(path: str, message: str) -> InvalidDescriptor:
    finding = Finding(severity=Severity.ERROR, code="bad_descriptor", path=path, message=message)
    return InvalidDescriptor(findings=[finding])


def _tags(job: MemoryJob) -> list[str]:
    tags: list[str] = job.descriptor.get("Tags", [])
    return tags


def _entry(job: MemoryJob) -> JobEntry:
    return JobEntry(
        job_id=job.job_id,
        name=job.descriptor["JobName"],
        state_name=job.state.wire_name,
        verdict=job.verdict,
        flaky=False,
        requestor=job.requestor,
        principal=job.principal,
        tags=_tags(job),
        start_time=job.start_time,
        end_time=job.end_time,
    )
