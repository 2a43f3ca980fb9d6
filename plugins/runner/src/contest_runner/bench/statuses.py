"""A running job to ask about: its targets have gone through nine steps and sleep in the tenth."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from contest_core.caller import Caller
from contest_core.lifecycle import Server
from contest_runner.bench.jobs import bench_server, descriptor


@asynccontextmanager
async def running_job(directory: Path, targets: int) -> AsyncIterator[tuple[Server, Caller, int]]:
    """A server, somebody who asks, and the number of the job."""
    job = json.loads(descriptor(targets, 9))
    steps = job["TestDescriptors"][0]["TestFetcherFetchParameters"]["Steps"]
    steps.append({"name": "sleep", "label": "rest", "parameters": {"duration": ["1h"]}})
    async with bench_server(directory) as (server, caller):
        job_id = (await server.api.start(caller, json.dumps(job))).result().job_id
        async with asyncio.timeout(300):
            while not await _all_rest(server, caller, job_id, targets):
                await asyncio.sleep(0.1)
        yield server, caller, job_id


async def _all_rest(server: Server, caller: Caller, job_id: int, targets: int) -> bool:
    status = (await server.api.status(caller, job_id, events=False)).result().status
    if status is None or status.run_status is None:
        return False
    resting = status.run_status.test_statuses[0].test_step_statuses[-1].target_statuses or []
    return len(resting) == targets
