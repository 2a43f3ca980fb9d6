"""One job of the job manager `script`: a shell script, and what is said of it."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from datetime import UTC, datetime

import msgspec
from msgspec import Struct

from contest_core import (
    Caller,
    Finding,
    InvalidDescriptor,
    JobEntry,
    JobReport,
    JobState,
    JobStatus,
    Severity,
    Verdict,
)


class Descriptor(Struct, frozen=True, kw_only=True, rename="pascal"):
    """What a client hands in: `{"JobName": "uptime", "Script": "uptime", "Tags": ["nightly"]}`."""

    job_name: str
    script: str
    tags: list[str] = []


def read(text: str) -> Descriptor:
    """The descriptor. Raises `InvalidDescriptor`, which says what is wrong."""
    try:
        descriptor = msgspec.json.decode(text, type=Descriptor)
        if descriptor.job_name:
            return descriptor
        wrong, path = "a job needs a name", "/JobName"
    except (msgspec.MsgspecError, RecursionError) as error:
        wrong, path = str(error), ""
    finding = Finding(severity=Severity.ERROR, code="bad_descriptor", path=path, message=wrong)
    raise InvalidDescriptor(findings=[finding])


class Job:
    """A job that runs, or has run."""

    def __init__(self, job_id: int, descriptor: Descriptor, caller: Caller) -> None:
        self.id = job_id
        self.descriptor = descriptor
        self.state = JobState.STARTED
        self._passed = False
        self._caller = caller
        self._start_time = datetime.now(UTC)
        self._end_time: datetime | None = None
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Ends it soon."""
        if not self.state.ended:
            self._stopping.set()
            self.state = JobState.CANCELLING

    async def run(self, shell: str) -> None:
        """Runs it to its end. Cancelled, it leaves no process."""
        process = await asyncio.create_subprocess_exec(
            shell, "-c", self.descriptor.script, stdin=asyncio.subprocess.DEVNULL, start_new_session=True
        )
        ended, stopped = asyncio.ensure_future(process.wait()), asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait([ended, stopped], return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            with suppress(ProcessLookupError):  # the script's own children, too
                os.killpg(process.pid, signal.SIGKILL)
            self._passed = await ended == 0
            self.state = JobState.CANCELLED if self._stopping.is_set() else JobState.COMPLETED
            self._end_time = datetime.now(UTC)

    @property
    def verdict(self) -> Verdict | None:
        """None while it runs."""
        if self.state is JobState.CANCELLED:
            return Verdict.CANCELLED
        if self.state is JobState.COMPLETED:
            return Verdict.PASSED if self._passed else Verdict.FAILED
        return None

    def status(self) -> JobStatus:
        """Its status."""
        return JobStatus(
            name=self.descriptor.job_name,
            state_name=self.state.wire_name,
            state_err_msg="",
            start_time=self._start_time,
            end_time=self._end_time,
            run_status=None,
            run_statuses=None,
            job_report=JobReport(job_id=self.id, run_reports=None, final_reports=None),
            verdict=self.verdict,
        )

    def entry(self) -> JobEntry:
        """Its line in a list."""
        principal = self._caller.principal
        return JobEntry(
            job_id=self.id,
            name=self.descriptor.job_name,
            state_name=self.state.wire_name,
            verdict=self.verdict,
            flaky=False,
            requestor=self._caller.requestor or "",
            principal=None if principal is None else principal.name,
            tags=self.descriptor.tags,
            start_time=self._start_time,
            end_time=self._end_time,
        )
