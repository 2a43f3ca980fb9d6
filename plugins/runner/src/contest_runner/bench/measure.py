"""One figure of the benchmark, taken in a process of its own: `python -m contest_runner.bench.measure NAME SCALE`.

Prints a JSON list of figures: how many things were done, in how many seconds, with how much processor time and
memory. A fresh process for each figure, so that none inherits another's memory, caches or heap.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from contest_core.cli.loop import loop_factory
from contest_runner.bench import yardsticks
from contest_runner.bench.jobs import bench_server, check_passed, descriptor, run_jobs

_KIB = 1 if sys.platform == "darwin" else 1024
"""Bytes in the unit of `ru_maxrss`."""


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
    """Measures what is done while it is entered, all times together."""

    def __init__(self, count: int) -> None:
        """`count` things are done each time."""
        self._count = count
        self._times = 0
        self._seconds = 0.0
        self._cpu = 0.0

    def __enter__(self) -> None:
        gc.collect()
        self._begun, self._used = time.perf_counter(), time.process_time()

    def __exit__(self, *_: object) -> None:
        self._seconds += time.perf_counter() - self._begun
        self._cpu += time.process_time() - self._used
        self._times += 1

    @property
    def figure(self) -> Figure:
        """What was measured so far."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _KIB
        return Figure(count=self._times * self._count, seconds=self._seconds, cpu=self._cpu, peak=peak)


async def _jobs(
    directory: Path, texts: Sequence[str], count: int, *, first: str = "", times: int = 1
) -> Figure:
    """Jobs that make `count` target-steps together, after a `first` one: imports, statements, pages."""
    async with bench_server(directory) as (server, caller):
        await run_jobs(server, caller, [first or descriptor(2, 50)])
        timer = Timer(count)
        for _ in range(times):
            with timer:
                jobs = await run_jobs(server, caller, texts)
            await check_passed(server, caller, jobs)
    return timer.figure


async def _job(directory: Path, targets: int, steps: int, *, times: int = 1) -> Figure:
    return await _jobs(directory, [descriptor(targets, steps)], targets * steps, times=times)


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
    """A job of one target and 100 steps, as often as its yardstick has steps."""
    return await _job(directory, 1, 100, times=5)


async def jobs(directory: Path, scale: float) -> Figure:
    """1,000 jobs at once, each of 10 targets and 3 steps."""
    number = max(2, int(1000 * scale))
    texts = [descriptor(10, 3, prefix=f"J{job:04}-") for job in range(number)]
    return await _jobs(directory, texts, number * 30)


async def commands(directory: Path, scale: float) -> Figure:
    """A job of 200 targets and 5 `cmd` steps that run `true`."""
    targets = max(5, int(200 * scale))
    text = descriptor(targets, 5, step="cmd", executable=["true"])
    first = descriptor(2, 1, step="cmd", executable=["true"])
    return await _jobs(directory, [text], targets * 5, first=first)


async def status(directory: Path, scale: float) -> list[Figure]:
    """Statuses of a running job of 10,000 target-steps, and the same answer decoded and encoded once."""
    from contest_runner.bench.statuses import running_job

    async with running_job(directory, max(10, int(1000 * scale))) as (server, caller, job_id):
        return await yardsticks.statuses(server, caller, job_id, max(3, int(50 * scale)))


MEASURES: dict[str, Callable[[Path, float], Coroutine[Any, Any, Figure | list[Figure]]]] = {
    "durable": durable,
    "wide": wide,
    "large": large,
    "jobs": jobs,
    "lone": lone,
    "commands": commands,
    "status": status,
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
            taken = runner.run(MEASURES[name](Path(folder), scale))
    sys.stdout.write(msgspec.json.encode(taken if isinstance(taken, list) else [taken]).decode())


if __name__ == "__main__":
    main()
