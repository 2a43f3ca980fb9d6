"""A running job to ask about: its targets have gone through nine steps and sleep in the tenth."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from contest_core import JobEvent
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
        await _until_all_rest(server, caller, job_id, targets)
        yield server, caller, job_id


async def _until_all_rest(server: Server, caller: Caller, job_id: int, targets: int) -> None:
    async with asyncio.timeout(300), server.api.watch(caller, job_id=job_id) as watch:
        async for event in watch:
            if isinstance(event, JobEvent) and event.header.test_step_label == "rest":
                targets -= event.data.event_name == "TargetIn"
            if not targets:
                return
