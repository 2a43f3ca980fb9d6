"""What a job took of the server's memory: it is given back when the job has ended."""

from __future__ import annotations

import gc

from contest_runner.job import Job
from contest_runner.status_tree import RunTree
from contest_runner.store.batch import Batch
from contest_runner.testing import Lab, eventually, simple, step


def held() -> int:
    """How much is left of jobs."""
    gc.collect()
    left = [each for each in gc.get_objects() if type(each) in (Batch, Job, RunTree)]
    return sum(not isinstance(each, Batch) or bool(each.cells) for each in left)


async def test_nothing_of_an_ended_job_is_held(lab: Lab) -> None:
    targets = [f"t{number}" for number in range(100)]
    async with lab.server() as serving:
        before = held()
        await serving.run(simple(step("echo", text="x"), targets=targets))
        await eventually(lambda: held() <= before, "memory that is free again")
