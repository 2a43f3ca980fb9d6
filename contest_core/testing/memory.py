"""A job manager in memory: the smallest real implementation of the contract.

Used by tests of the core, of transports and of whatever wants a server without I/O. Its jobs do nothing: they run
until somebody calls `finish`, or until they are stopped.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import Struct

from contest_core.caller import Caller
from contest_core.errors import (
    InvalidDescriptor,
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
    state: JobState = JobState.STARTED
    start_time: datetime = field(default_factory=lambda: datetime.now(UTC))
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

    def __init__(self, settings: Any = None) -> None:
        super().__init__(settings)
        self.jobs: dict[int, MemoryJob] = {}
        """By number."""
        self._keys: dict[str, int] = {}
        self._events: list[JobEvent] = []
        self._changed = asyncio.Event()
        self._ended = False

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
        self._ended = True
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
        job.end_time = datetime.now(UTC)
        self._emit(job)

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
        job = self._add(descriptor, message.requestor)
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
        new = self._add(job.descriptor, message.requestor)
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
        yield _MemoryWatch(self, message)

    # --- inside

    def _job(self, job_id: int) -> MemoryJob:
        if job_id not in self.jobs:
            raise UnknownJob(job_id=job_id)
        return self.jobs[job_id]

    def _running(self) -> tuple[MemoryJob, ...]:
        return tuple(job for job in self.jobs.values() if job.state is JobState.STARTED)

    def _add(self, descriptor: dict[str, Any], requestor: str) -> MemoryJob:
        job = MemoryJob(len(self.jobs) + 1, descriptor, requestor)
        self.jobs[job.job_id] = job
        self._emit(job)
        return job

    def _emit(self, job: MemoryJob) -> None:
        header = Header(
            job_id=job.job_id, run_id=None, test_name=None, test_attempt=None, test_step_label=None
        )
        own = sum(event.header.job_id == job.job_id for event in self._events)
        data = EventData(target=None, event_name=job.state.wire_name, payload=None)
        event = JobEvent(
            sequence_id=own + 1,
            emit_time=datetime.now(UTC),
            header=header,
            data=data,
            cursor=str(len(self._events) + 1),
        )
        self._events.append(event)
        self._notify()

    def _notify(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def _change(self) -> None:
        await self._changed.wait()


class _MemoryWatch(Watch):
    def __init__(self, manager: MemoryJobManager, message: EventWatchMsg) -> None:
        self.cursor = message.since or Cursor("0")
        self._manager = manager
        self._job_id = message.job_id

    async def __anext__(self) -> JobEvent | Gap:
        manager = self._manager
        while True:
            for event in manager._events[int(self.cursor.text) :]:
                self.cursor = Cursor(event.cursor or "")
                if self._job_id in (None, event.header.job_id):
                    return event
            if manager._ended or (self._job_id and manager.jobs[self._job_id].state.ended):
                raise StopAsyncIteration
            await manager._change()


def _descriptor(text: str) -> dict[str, Any]:
    try:
        descriptor = msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.MsgspecError as error:
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
        principal=None,
        tags=_tags(job),
        start_time=job.start_time,
        end_time=job.end_time,
    )
