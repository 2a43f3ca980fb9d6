"""One figure of the benchmark, taken in a process of its own: `python -m contest_runner.bench.measure NAME SCALE`.

Prints one JSON object: how many things were done, in how many seconds, with how much processor time and memory.
A fresh process for each figure, so that none inherits another's memory, caches or heap.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from msgspec import Struct

from contest_core.cli.loop import loop_factory
from contest_runner.bench import yardsticks
from contest_runner.bench.jobs import bench_server, descriptor, run_job, run_jobs


class Figure(Struct, frozen=True, kw_only=True):
    """What was measured."""

    count: int
    """Things done: target-steps, processes, answers."""
    seconds: float
    cpu: float
    """Seconds of processor time of this process."""
    peak: int = 0
    """Peak memory of this process, in bytes."""


class Timer:
    """Measures what is done while it is entered."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.figure: Figure | None = None

    def __enter__(self) -> None:
        gc.collect()
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def __exit__(self, *_: object) -> None:
        seconds, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        self.figure = Figure(count=self.count, seconds=seconds, cpu=cpu, peak=peak)


async def _job(directory: Path, targets: int, steps: int) -> Figure:
    text = descriptor(targets, steps)
    async with bench_server(directory) as (server, caller):
        await run_job(server, caller, descriptor(2, 2))  # imports, statements, pages
        timer = Timer(targets * steps)
        with timer:
            await run_job(server, caller, text)
    assert timer.figure is not None
    return timer.figure


async def durable(directory: Path, scale: float) -> Figure:
    """A job of 1,000 targets and 100 steps."""
    return await _job(directory, max(10, int(1000 * scale)), 100)


async def wide(directory: Path, scale: float) -> Figure:
    """A job of 100,000 targets and one step."""
    return await _job(directory, max(10, int(100_000 * scale)), 1)


async def large(directory: Path, scale: float) -> Figure:
    """One job of 10,000 targets and 3 steps."""
    return await _job(directory, max(10, int(10_000 * scale)), 3)


async def lone(directory: Path, scale: float) -> Figure:
    """A job of one target and 100 steps."""
    return await _job(directory, 1, 100)


async def jobs(directory: Path, scale: float) -> Figure:
    """1,000 jobs at once, each of 10 targets and 3 steps."""
    number = max(2, int(1000 * scale))
    texts = [descriptor(10, 3, prefix=f"J{job:04}-") for job in range(number)]
    async with bench_server(directory) as (server, caller):
        await run_job(server, caller, descriptor(2, 2))
        timer = Timer(number * 30)
        with timer:
            await run_jobs(server, caller, texts)
    assert timer.figure is not None
    return timer.figure


async def commands(directory: Path, scale: float) -> Figure:
    """A job of 200 targets and 5 `cmd` steps that run `true`."""
    targets = max(5, int(200 * scale))
    text = descriptor(targets, 5, step="cmd", executable=["true"])
    async with bench_server(directory) as (server, caller):
        await run_job(server, caller, descriptor(2, 1, step="cmd", executable=["true"]))
        timer = Timer(targets * 5)
        with timer:
            await run_job(server, caller, text)
    assert timer.figure is not None
    return timer.figure


async def status(directory: Path, scale: float) -> Figure:
    """Statuses of a running job of 10,000 target-steps: the answer as a wire carries it."""
    return (await _statuses(directory, scale))[0]


async def encoding(directory: Path, scale: float) -> Figure:
    """The same answer, decoded and encoded once."""
    return (await _statuses(directory, scale))[1]


async def _statuses(directory: Path, scale: float) -> tuple[Figure, Figure]:
    from contest_runner.bench.statuses import running_job

    async with running_job(directory, max(10, int(1000 * scale))) as (server, caller, job_id):
        return await yardsticks.statuses(server, caller, job_id, max(3, int(50 * scale)))


MEASURES: dict[str, Callable[[Path, float], Coroutine[Any, Any, Figure]]] = {
    "durable": durable,
    "wide": wide,
    "large": large,
    "jobs": jobs,
    "lone": lone,
    "commands": commands,
    "status": status,
    "encoding": encoding,
    "rows": yardsticks.rows,
    "commits": yardsticks.commits,
    "processes": yardsticks.processes,
}


def main() -> None:
    """Takes one figure."""
    name, scale = sys.argv[1], float(sys.argv[2])
    logging.disable(logging.INFO)
    # asyncio's own processes are quicker than uvloop's: the yardstick is the better one.
    factory = None if name == "processes" else loop_factory()
    with tempfile.TemporaryDirectory(prefix="contest-bench-") as folder:
        with asyncio.Runner(loop_factory=factory) as runner:
            figure = runner.run(MEASURES[name](Path(folder), scale))
    sys.stdout.write(json.dumps({field: getattr(figure, field) for field in figure.__struct_fields__}))


if __name__ == "__main__":
    main()
