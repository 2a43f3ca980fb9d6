"""The job manager in memory under the conformance kit."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, ClassVar

from contest_core import JobManager, JobState
from contest_core.testing import JobManagerSuite, MemoryJobManager


class Playing(MemoryJobManager):
    """Its jobs end as their descriptor says."""

    async def start(self, message: Any, caller: Any) -> Any:
        known = len(self.jobs)
        data = await super().start(message, caller)
        if len(self.jobs) > known:
            self._play(data.job_id)
        return data

    async def retry(self, message: Any, caller: Any) -> Any:
        data = await super().retry(message, caller)
        self._play(data.new_job_id)
        return data

    def _play(self, job_id: int) -> None:
        ends = self.jobs[job_id].descriptor.get("Ends")
        if ends is not None:
            asyncio.get_running_loop().call_soon(self._end, job_id, JobState.from_wire(ends))

    def _end(self, job_id: int, state: JobState) -> None:
        if not self.jobs[job_id].state.ended:
            self.finish(job_id, state)


class TestMemoryJobManager(JobManagerSuite):
    passes: ClassVar = {"JobName": "short", "Ends": "JobStateCompleted"}
    fails: ClassVar = {"JobName": "wrong", "Ends": "JobStateFailed"}
    lasts: ClassVar = {"JobName": "long"}
    refused: ClassVar = {"JobName": ""}

    def manager(self, directory: Path) -> JobManager:
        return Playing()
