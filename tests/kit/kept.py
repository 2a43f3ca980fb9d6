"""A job manager that keeps every promise of the contract, the optional ones too. It is what is broken on purpose.

Its jobs do nothing and end as their descriptor says; they outlive it in a `Kept`, as in a database.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from contest_core import (
    Caller,
    Finding,
    InvalidDescriptor,
    InvalidParameters,
    JobManager,
    JobManagerContext,
    JobQuery,
    JobState,
    Lock,
    ResponseDataList,
    ResponseDataLocks,
    ResponseDataStart,
    ResponseDataStatus,
    ResponseDataValidate,
    RunStatus,
    Severity,
    TargetInfo,
    TargetStatus,
    TestStatus,
)
from contest_core.testing import JobManagerSuite, MemoryJobManager
from contest_core.testing.manager_life import KNOWN
from contest_core.testing.memory import MemoryJob


class Kept:
    """What outlives a manager."""

    def __init__(self) -> None:
        self.jobs: dict[int, MemoryJob] = {}
        self.keys: dict[str, int] = {}
        self.events: list[Any] = []
        self.locks: dict[str, Lock] = {}
        self.tokens: Iterator[int] = itertools.count(1)


class KeptJobManager(MemoryJobManager):
    """Keeps its jobs, and all promises."""

    def __init__(self, directory: Path, kept: Kept) -> None:
        super().__init__()
        self.directory = directory
        self.kept = kept
        self.jobs, self._keys, self._events = kept.jobs, kept.keys, kept.events

    def capabilities(self) -> frozenset[str]:
        return KNOWN

    async def serve(self, context: JobManagerContext) -> None:
        for job in self.jobs.values():
            if job.state is JobState.PAUSED:
                job.state, job.end_time = JobState.STARTED, None
                self.emit(job.job_id, job.state.wire_name)
                self.play(job)
        await super().serve(context)

    # --- jobs

    def play(self, job: MemoryJob) -> None:
        """It locks what it says, and ends as it says."""
        now = datetime.now(UTC)
        for target in job.descriptor.get("Locks", ()):
            self.kept.locks[target] = Lock(
                target=target,
                job_id=job.job_id,
                since=now,
                until=now + timedelta(hours=1),
                token=next(self.kept.tokens),
            )
        ends = job.descriptor.get("Ends")
        if ends is not None:
            asyncio.get_running_loop().call_soon(self.end, job, JobState.from_wire(ends))

    def end(self, job: MemoryJob, state: JobState) -> None:
        if not job.state.ended:
            self.finish(job.job_id, state)

    def finish(self, job_id: int, state: JobState = JobState.COMPLETED) -> None:
        self.unlock(job_id)
        super().finish(job_id, state)

    def unlock(self, job_id: int) -> None:
        locks = self.kept.locks
        self.kept.locks = {target: lock for target, lock in locks.items() if lock.job_id != job_id}

    def _add(self, descriptor: dict[str, Any], requestor: str, caller: Caller) -> MemoryJob:
        job = super()._add(descriptor, requestor, caller)
        self.play(job)
        return job

    # --- verbs

    async def start(self, message: Any, caller: Caller) -> ResponseDataStart:
        warnings = self.warnings(message.job_descriptor)
        if message.strict and warnings:
            raise InvalidDescriptor(findings=warnings)
        data = await super().start(message, caller)
        return ResponseDataStart(job_id=data.job_id, warnings=warnings)

    async def validate(self, message: Any, caller: Caller) -> ResponseDataValidate:
        found = (await super().validate(message, caller)).findings
        return ResponseDataValidate(findings=found or self.warnings(message.job_descriptor))

    def warnings(self, descriptor: str) -> list[Finding]:
        if '"Warned"' not in descriptor:
            return []
        return [Finding(severity=Severity.WARNING, code="warned", path="/Warned", message="take care")]

    async def status(self, message: Any, caller: Caller) -> ResponseDataStatus:
        answer: Any = await super().status(message, caller)
        job = self.jobs[message.job_id]
        run = _run(job) if message.run in (None, 1) else None
        status = msgspec.structs.replace(answer.status, run_status=run, run_statuses=[run] if run else [])
        return ResponseDataStatus(status=status)

    async def list(self, message: Any, caller: Caller) -> ResponseDataList:
        query = message.query
        every = await super().list(message, caller)
        found = [entry for entry in every.jobs if self.matches(entry, query)]
        limit, before = self.page(query)
        found = [entry for entry in found if entry.job_id < before]
        page = found[-limit:]
        cursor = str(page[0].job_id) if len(found) > limit else None
        return ResponseDataList(job_ids=[entry.job_id for entry in page], jobs=page, cursor=cursor)

    def matches(self, entry: Any, query: JobQuery) -> bool:
        return (
            (query.name is None or self.is_named(entry.name, query.name))
            and (not query.requestors or entry.requestor in query.requestors)
            and (query.since is None or entry.start_time >= query.since)
            and (query.until is None or entry.start_time < query.until)
        )

    def is_named(self, name: str, pattern: str) -> bool:
        wild = "*" in pattern or "?" in pattern
        return fnmatchcase(name.lower(), pattern.lower()) if wild else name == pattern

    def page(self, query: JobQuery) -> tuple[int, int]:
        """How many jobs, and below which number."""
        if query.limit is not None and query.limit < 1:
            raise InvalidParameters(reason="a limit is at least 1", parameter="limit")
        if query.cursor is not None and not query.cursor.isdecimal():
            raise InvalidParameters(reason="the cursor is none of ours", parameter="cursor")
        return query.limit or 1_000_000, int(query.cursor) if query.cursor else 1_000_000

    async def locks(self, message: Any, caller: Caller) -> ResponseDataLocks:
        return ResponseDataLocks(locks=list(self.kept.locks.values()))


def _run(job: MemoryJob) -> RunStatus:
    status = TargetStatus(
        job_id=job.job_id,
        run_id=1,
        test_name="test",
        test_step_name="step",
        test_step_label="step",
        target=TargetInfo(id="target"),
        in_time=job.start_time,
        out_time=job.start_time,
        error="",
        events=None,
    )
    test = TestStatus(
        job_id=job.job_id, run_id=1, test_name="test", test_step_statuses=[], target_statuses=[status]
    )
    return RunStatus(job_id=job.job_id, run_id=1, start_time=job.start_time, test_statuses=[test])


class KeptSuite(JobManagerSuite):
    """The suite of all managers here."""

    manager_class: ClassVar[Any] = KeptJobManager
    passes: ClassVar = {"JobName": "short", "Ends": "JobStateCompleted"}
    fails: ClassVar = {"JobName": "wrong", "Ends": "JobStateFailed"}
    warned: ClassVar = {"JobName": "odd", "Ends": "JobStateCompleted", "Warned": True}
    lasts: ClassVar = {"JobName": "long", "Locks": ["t1", "t2"]}
    refused: ClassVar = {"JobName": ""}
    locked = frozenset({"t1", "t2"})
    persistent = True
    pauses = True

    def manager(self, directory: Path) -> JobManager:
        if not hasattr(self, "kept"):  # pytest collects no class with an `__init__`
            self.kept = Kept()
        made: JobManager = self.manager_class(directory, self.kept)
        return made
