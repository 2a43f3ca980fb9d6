"""Job descriptors for the benchmark, and a server in this process to run them on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from contest_core import JobQuery, JobState, ServerOptions, open_server
from contest_core.caller import Caller
from contest_core.lifecycle import Server
from contest_core.plugins import load_plugins
from contest_runner.manager import LocalJobManager
from contest_runner.settings import LocalSettings


def descriptor(
    targets: int, steps: int, *, step: str = "echo", prefix: str = "T", **parameters: list[Any]
) -> str:
    """A job of so many targets and steps; by default each step echoes a text with the target's ID."""
    test = {
        "TargetManagerName": "TargetList",
        "TargetManagerAcquireParameters": {"Targets": [{"ID": f"{prefix}{n:05}"} for n in range(targets)]},
        "TargetManagerReleaseParameters": {},
        "TestFetcherName": "literal",
        "TestFetcherFetchParameters": {
            "TestName": "bench",
            "Steps": [
                {
                    "name": step,
                    "label": f"step{n}",
                    "parameters": parameters or {"text": ["hello {{ .ID }}"]},
                }
                for n in range(steps)
            ],
        },
    }
    report = {"Name": "TargetSuccess", "Parameters": {"SuccessExpression": "=100%"}}
    return json.dumps(
        {
            "JobName": "bench",
            "Version": "1.0",
            "Runs": 1,
            "TestDescriptors": [test],
            "Reporting": {"RunReporters": [report]},
        }
    )


@asynccontextmanager
async def bench_server(directory: Path) -> AsyncIterator[tuple[Server, Caller]]:
    """A server with the job manager `local` over a file in `directory`, and somebody who asks."""
    manager = LocalJobManager(LocalSettings(store="sqlite:///bench.db"))
    options = ServerOptions(directory=directory, plugins=load_plugins(), event_timeout=600)
    async with open_server(manager, options=options) as server:
        yield server, server.api.caller(listener="bench", peer="bench", requestor="bench")


async def run_jobs(server: Server, caller: Caller, texts: Sequence[str]) -> set[int]:
    """Hands in all jobs at once and runs them to their end; their numbers."""
    async with asyncio.TaskGroup() as group:
        starts = [group.create_task(server.api.start(caller, text)) for text in texts]
    manager = server.manager
    assert isinstance(manager, LocalJobManager)
    await manager.idle()
    return {start.result().result().job_id for start in starts}


async def check_passed(server: Server, caller: Caller, job_ids: set[int]) -> None:
    """Raises `RuntimeError` unless all of these jobs have passed."""
    jobs = (await server.api.list(caller, JobQuery(states=(JobState.COMPLETED,)))).result().jobs
    passed = {job.job_id for job in jobs if job.verdict == "passed"}
    if job_ids - passed:
        raise RuntimeError(f"{len(job_ids - passed)} jobs of the benchmark have not passed")
