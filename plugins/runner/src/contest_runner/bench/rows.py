"""The rows of the benchmark: what is measured, beside which yardstick, and what it shall reach.

Runs `contest_runner.bench.measure` and other programs in child processes, ours and the yardstick in turn.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Final

from msgspec import Struct

from contest_runner.bench.serving import Flood, first_answer, idle_memory

_PATIENCE: Final = 900.0
"""Seconds for one figure."""


class RowFailed(Exception):
    """A figure could not be taken; says why."""


class Sample(Struct, frozen=True, kw_only=True):
    """One round of a row."""

    ours: float
    """Things a second; of times, seconds; of memory, bytes."""
    yardstick: float | None
    cpu: float | None = None
    """Microseconds of our processor time a thing."""
    peak: int = 0
    """Bytes."""


class Row(Struct, frozen=True, kw_only=True):
    """One row."""

    name: str
    what: str
    unit: str
    yardstick: str
    """What it is held against; empty where it is a bound of its own."""
    at_least: float | None = None
    """What ours by the yardstick has to be."""
    at_most: float | None = None
    """What ours by the yardstick may be; of memory, bytes."""
    peak_below: int | None = None
    sample: Callable[[float], Sample]


def _figure(name: str, scale: float) -> dict[str, float]:
    command = [sys.executable, "-m", "contest_runner.bench.measure", name, str(scale)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, check=False)
    if done.returncode != 0:
        raise RowFailed(f"{name}: {done.stderr.strip()[-2000:]}")
    figure: dict[str, float] = json.loads(done.stdout)
    return figure


def _rate(figure: dict[str, float]) -> float:
    return figure["count"] / figure["seconds"]


def _sample(ours: dict[str, float], yardstick: dict[str, float]) -> Sample:
    return Sample(
        ours=_rate(ours),
        yardstick=_rate(yardstick),
        cpu=ours["cpu"] / ours["count"] * 1e6,
        peak=int(ours["peak"]),
    )


def _pair(ours: str, yardstick: str) -> Callable[[float], Sample]:
    def sample(scale: float) -> Sample:
        held = _figure(yardstick, scale)
        return _sample(_figure(ours, scale), held)

    return sample


def _flood(scale: float) -> Sample:
    held = _figure("rows", scale)
    with Flood() as flood:
        ours = flood.job(max(10, int(1000 * scale)), 100)
    return _sample(ours, held)


def _timed(command: Sequence[str]) -> float:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    start = perf_counter()
    subprocess.run(command, check=True, capture_output=True, timeout=_PATIENCE, env=environment)
    return perf_counter() - start


def _best(command: Sequence[str], scale: float) -> float:
    return min(_timed(command) for _ in range(max(2, int(10 * scale))))


def _help(scale: float) -> Sample:
    contest = str(Path(sys.executable).with_name("contest"))
    return Sample(
        ours=_best([contest, "--help"], scale), yardstick=_best([sys.executable, "-c", "import click"], scale)
    )


_LIBRARIES: Final = (
    "import click, pluggy, yaml, msgspec, uvicorn, httptools, uvloop, sqlalchemy, sqlite3, asyncio"
)


def _start(scale: float) -> Sample:
    with tempfile.TemporaryDirectory(prefix="contest-bench-") as folder:
        ours = min(first_answer(Path(folder)) for _ in range(max(2, int(5 * scale))))
    return Sample(ours=ours, yardstick=_best([sys.executable, "-c", _LIBRARIES], scale))


def _idle(scale: float) -> Sample:
    with tempfile.TemporaryDirectory(prefix="contest-bench-") as folder:
        return Sample(ours=float(idle_memory(Path(folder))), yardstick=None)


_MIB: Final = 1 << 20

ROWS: Final = (
    Row(
        name="durable",
        what="a job of 1,000 targets x 100 echo steps, durable",
        unit="target-steps/s",
        yardstick="raw insertion of as many event rows",
        at_least=0.35,
        sample=_pair("durable", "rows"),
    ),
    Row(
        name="wide",
        what="100,000 targets x 1 step",
        unit="target-steps/s",
        yardstick="the row `durable`",
        at_least=0.4,
        peak_below=400 * _MIB,
        sample=_pair("wide", "durable"),
    ),
    Row(
        name="jobs",
        what="1,000 jobs at once, each 10 targets x 3 steps",
        unit="target-steps/s",
        yardstick="one job of 10,000 x 3",
        at_least=0.5,
        sample=_pair("jobs", "large"),
    ),
    Row(
        name="flood",
        what="the job of `durable` while 64 connections flood `version`",
        unit="target-steps/s",
        yardstick="raw insertion of as many event rows",
        at_least=0.05,
        sample=_flood,
    ),
    Row(
        name="lone",
        what="a lone job of 1 target x 100 steps",
        unit="steps/s",
        yardstick="bare commits of one row",
        at_least=0.5,
        sample=_pair("lone", "commits"),
    ),
    Row(
        name="cmd",
        what="200 targets x 5 cmd steps of `true`",
        unit="processes/s",
        yardstick="asyncio.create_subprocess_exec and wait",
        at_least=0.7,
        sample=_pair("commands", "processes"),
    ),
    Row(
        name="status",
        what="the status of a running job of 10,000 target-steps",
        unit="answers/s",
        yardstick="encoding the answer once",
        at_least=0.9,
        sample=_pair("status", "encoding"),
    ),
    Row(
        name="start",
        what="from start to the first answer of `contest serve`",
        unit="s",
        yardstick="a bare import of the same libraries",
        at_most=1.6,
        sample=_start,
    ),
    Row(
        name="help",
        what="`contest --help`",
        unit="s",
        yardstick="a bare import of click",
        at_most=1.6,
        sample=_help,
    ),
    Row(
        name="idle",
        what="memory of an idle server",
        unit="bytes",
        yardstick="",
        at_most=80 * _MIB,
        sample=_idle,
    ),
)


class Result(Struct, frozen=True, kw_only=True):
    """A row, measured: medians over the rounds."""

    row: str
    what: str
    unit: str
    ours: float
    yardstick: float | None
    yardstick_is: str
    ratio: float | None
    wanted: str
    reached: bool
    cpu_microseconds: float | None
    peak_bytes: int | None
    rounds: int


def measure(row: Row, *, rounds: int, scale: float, told: Callable[[str], None]) -> Result:
    """Takes a row, ours and its yardstick in turn. Raises `RowFailed`."""
    samples = []
    for number in range(rounds):
        told(f"{row.name}: round {number + 1} of {rounds}")
        samples.append(row.sample(scale))
    return _result(row, samples)


def _result(row: Row, samples: Sequence[Sample]) -> Result:
    ours = statistics.median(sample.ours for sample in samples)
    held = [sample.yardstick for sample in samples if sample.yardstick is not None]
    ratios = [sample.ours / sample.yardstick for sample in samples if sample.yardstick is not None]
    ratio = statistics.median(ratios) if ratios else None
    cpus = [sample.cpu for sample in samples if sample.cpu is not None]
    peak = max(sample.peak for sample in samples)
    value = ours if ratio is None else ratio
    reached = (row.at_least is None or value >= row.at_least) and (
        row.at_most is None or value <= row.at_most
    )
    reached = reached and (row.peak_below is None or peak < row.peak_below)
    return Result(
        row=row.name,
        what=row.what,
        unit=row.unit,
        ours=ours,
        yardstick=statistics.median(held) if held else None,
        yardstick_is=row.yardstick,
        ratio=ratio,
        wanted=_wanted(row),
        reached=reached,
        cpu_microseconds=statistics.median(cpus) if cpus else None,
        peak_bytes=peak or None,
        rounds=len(samples),
    )


def _wanted(row: Row) -> str:
    if row.at_least is not None:
        return f">= {row.at_least:g}" + (f", < {row.peak_below // _MIB} MiB" if row.peak_below else "")
    if row.at_most is not None and row.unit == "bytes":
        return f"< {row.at_most / _MIB:g} MiB"
    return f"<= {row.at_most:g}"
