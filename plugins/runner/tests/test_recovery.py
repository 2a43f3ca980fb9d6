"""Taking jobs on after an interruption, where no process has to be killed to see it."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from contest_runner.store import Store
from contest_runner.testing import Lab, simple, step


async def test_plans_that_cannot_be_read_fail_their_job_and_no_other(lab: Lab) -> None:
    async with lab.server() as serving:
        await serving.run(simple(step("echo", text="x")))
        template = await serving.store.job(1)
        plan = await serving.store.plan(1)
    await _smuggle(
        lab, template, {"format": 99, **{k: v for k, v in msgspec.json.decode(plan).items() if k != "format"}}
    )
    await _smuggle(lab, template, {"name": "strange", "tests": 7})
    await _smuggle(lab, template, msgspec.json.decode(plan))
    async with lab.server() as serving:
        newer, strange, good = [await asyncio.wait_for(serving.ended(job), 5) for job in (2, 3, 4)]
        assert newer["State"] == strange["State"] == "JobStateFailed"
        assert "format 99" in newer["StateErrMsg"]
        assert "cannot be read" in strange["StateErrMsg"]
        assert newer["Verdict"] == "error"
        assert good["Verdict"] == "passed"


async def _smuggle(lab: Lab, like: Any, plan: Any) -> None:
    """Puts a job into the store that a server would find unfinished."""
    import logging

    from contest_runner.store import NewJob

    store = await Store.open("sqlite:///jobs.db", directory=lab.folder, log=logging.getLogger("test"))
    try:
        await store.create_job(
            NewJob(
                name=like.name,
                requestor="t",
                server_id="lab",
                request_time=1,
                start_time=1,
                state=1,
                descriptor="{}",
                plan=msgspec.json.encode(plan).decode(),
                plan_format=1,
            )
        )
    finally:
        await store.aclose()
