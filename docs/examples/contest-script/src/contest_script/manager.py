"""The job manager `script`: its jobs are shell scripts on this machine, and end with the server."""

from __future__ import annotations

import asyncio
from typing import Any

from msgspec import Struct

from contest_core import (
    Caller,
    EventListMsg,
    EventStartMsg,
    EventStatusMsg,
    EventStopMsg,
    JobEnded,
    JobManager,
    JobManagerContext,
    ResponseDataList,
    ResponseDataStart,
    ResponseDataStatus,
    ResponseDataStop,
    ShuttingDown,
    Termination,
    UnknownJob,
)
from contest_script.job import Job, read


class ScriptJobManager(JobManager):
    """Runs scripts. It keeps nothing on disk."""

    class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
        """What may stand under `script:` in a configuration."""

        shell: str = "/bin/sh"
        """What runs the scripts."""

    def __init__(self, settings: Any) -> None:
        super().__init__(settings)
        self._jobs: dict[int, Job] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._group: asyncio.TaskGroup | None = None

    def capabilities(self) -> frozenset[str]:
        """All else is refused in its name."""
        return frozenset({"start", "stop", "status", "list"})

    async def serve(self, context: JobManagerContext) -> None:
        """Its life: from `ready` until the last job has ended."""
        async with asyncio.TaskGroup() as self._group:
            context.ready()
            how = await context.stopping()
            ending = self._group.create_task(self._end(how, context))
            while self._running:
                await asyncio.wait(self._running)
            self._group = None
            ending.cancel()

    async def _end(self, how: Termination, context: JobManagerContext) -> None:
        """Lets the jobs finish where it is told to drain, until a harder word comes."""
        if how is Termination.DRAIN:
            await context.harder()
        for job in self._jobs.values():
            job.stop()

    async def start(self, message: EventStartMsg, caller: Caller) -> ResponseDataStart:
        """Begins a job."""
        descriptor = read(message.job_descriptor)
        if self._group is None:
            raise ShuttingDown
        job = Job(len(self._jobs) + 1, descriptor, caller)
        self._jobs[job.id] = job
        task = self._group.create_task(job.run(self.settings.shell))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return ResponseDataStart(job_id=job.id)

    async def stop(self, message: EventStopMsg, caller: Caller) -> ResponseDataStop:
        """Kills the script."""
        job = self._job(message.job_id)
        if job.state.ended:
            raise JobEnded(job_id=job.id, state=job.state.wire_name)
        job.stop()
        return ResponseDataStop()

    async def status(self, message: EventStatusMsg, caller: Caller) -> ResponseDataStatus:
        """The status of a job."""
        return ResponseDataStatus(status=self._job(message.job_id).status())

    async def list(self, message: EventListMsg, caller: Caller) -> ResponseDataList:
        """The jobs in any of the states, with all of the tags."""
        states, tags = message.query.states, set(message.query.tags)
        found = [
            job
            for job in self._jobs.values()
            if (not states or job.state in states) and tags <= set(job.descriptor.tags)
        ]
        return ResponseDataList(job_ids=[job.id for job in found], jobs=[job.entry() for job in found])

    def _job(self, job_id: int) -> Job:
        if job_id not in self._jobs:
            raise UnknownJob(job_id=job_id)
        return self._jobs[job_id]
