"""When the store has no room: steps wait, the server says so, and goes on when there is room again."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Iterator

import pytest

from contest_runner.testing import Lab, eventually, simple, step


@pytest.fixture
def size_limit() -> Iterator[None]:
    """What this process may write to one file is put back at the end."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_a_full_disk_makes_steps_wait_and_is_told_until_there_is_room(
    lab: Lab, size_limit: None
) -> None:
    async with lab.server() as serving:
        await serving.run(simple(step("echo", text="x")))
        job = await serving.start(simple(step("sleep", duration="100ms"), step("echo", text="y")))
        await eventually(lambda: serving.manager._runner.jobs, "the job")
        await asyncio.sleep(0.05)
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        # SIGXFSZ is ignored by Python: a write beyond the limit is an error like that of a full disk.
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
        await eventually(serving.server.readiness, "the bad news")
        assert (await serving.status(job))["State"] == "JobStateStarted"
        await asyncio.sleep(0.1)
        assert (await serving.entry(job))["Verdict"] is None
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        status = await serving.ended(job)
        assert status["Verdict"] == "passed"
        await eventually(lambda: serving.server.readiness() is None, "the good news")
        rows = await serving.events(job)
        assert [row.sequence for row in rows] == list(range(1, len(rows) + 1))
        assert "EventRefused" not in [row.name for row in rows]
