"""The rows of the benchmark: what is measured, beside which yardstick, and what it shall reach.

Called by the command. Each figure is taken by `contest_runner.bench.measure`, or is of a whole program
(`contest_runner.bench.serving`), in a process of its own, ours and the yardstick in turn. Those of the wires are in
`contest_runner.bench.wires`.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Final

import msgspec

from contest_runner.bench.row import Row, RowFailed, Sample
from contest_runner.bench.serving import environment, first_answer, idle_memory, job_beside_flood, program
from contest_runner.bench.wires import WIRE_ROWS

_PATIENCE: Final = 900.0
"""Seconds for one figure."""

_MIB: Final = 1 << 20


def _figures(name: str, scale: float) -> list[dict[str, float]]:
    command = [sys.executable, "-m", "contest_runner.bench.measure", name, str(scale)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        raise RowFailed(f"{name}: not done within {_PATIENCE:g} s") from None
    if done.returncode != 0:
        raise RowFailed(f"{name}: {done.stderr.strip()[-2000:]}")
    return msgspec.json.decode(done.stdout, type=list[dict[str, float]])


def _rate(figure: dict[str, float]) -> float:
    return figure["count"] / figure["seconds"]


def _sample(ours: dict[str, float], yardstick: dict[str, float], beside: float | None = None) -> Sample:
    return Sample(
        ours=_rate(ours),
        yardstick=_rate(yardstick),
        cpu=ours["cpu"] / ours["count"] * 1e6,
        peak=int(ours["peak"]),
        beside=beside,
    )


def _pair(ours: str, yardstick: str) -> Callable[[float], Sample]:
    def sample(scale: float) -> Sample:
        (held,) = _figures(yardstick, scale)
        (figure,) = _figures(ours, scale)
        return _sample(figure, held)

    return sample


def _status(scale: float) -> Sample:
    ours, held = _figures("status", scale)
    return _sample(ours, held)


def _flood(scale: float) -> Sample:
    (held,) = _figures("rows", scale)
    try:
        ours, flood = job_beside_flood(max(10, int(1000 * scale)), 100)
    except (OSError, RuntimeError) as error:
        raise RowFailed(f"flood: {error}") from None
    return _sample(ours, held, flood)


def _timed(command: Sequence[str]) -> float:
    start = perf_counter()
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=_PATIENCE, env=environment())
    except (OSError, subprocess.SubprocessError) as error:
        raise RowFailed(str(error)) from None
    return perf_counter() - start


def _help(scale: float) -> Sample:
    times = max(2, int(10 * scale))
    pairs = [
        (_timed(program("--help")), _timed([sys.executable, "-c", "import click"])) for _ in range(times)
    ]
    return _fastest(pairs)


def _start(scale: float) -> Sample:
    libraries = [name for name in _LIBRARIES if find_spec(name) is not None]
    command = [sys.executable, "-c", f"import {', '.join(libraries)}"]
    pairs = []
    for _ in range(max(2, int(5 * scale))):
        with tempfile.TemporaryDirectory(prefix="contest-bench-") as folder:
            try:
                ours = first_answer(Path(folder))
            except (OSError, RuntimeError) as error:
                raise RowFailed(f"start: {error}") from None
        pairs.append((ours, _timed(command)))
    return _fastest(pairs)


_LIBRARIES: Final = (
    "asyncio", "click", "pluggy", "yaml", "msgspec", "uvicorn", "httptools", "uvloop", "sqlalchemy", "sqlite3",
)  # fmt: skip


def _fastest(pairs: Sequence[tuple[float, float]]) -> Sample:
    """Of times the shortest: what else the machine does only makes them longer."""
    ours, held = zip(*pairs, strict=True)
    return Sample(ours=min(ours), yardstick=min(held))


def _idle(scale: float) -> Sample:
    with tempfile.TemporaryDirectory(prefix="contest-bench-") as folder:
        try:
            return Sample(ours=float(idle_memory(Path(folder))), yardstick=None)
        except (OSError, RuntimeError) as error:
            raise RowFailed(f"idle: {error}") from None


ROWS: Final = (
    Row(
        name="durable",
        what="a job of 1,000 targets x 100 echo steps, durable",
        unit="target-steps/s",
        yardstick="raw insertion of as many event rows into SQLite, 1,000 a commit",
        at_least=0.35,
        sample=_pair("durable", "rows"),
    ),
    Row(
        name="wide",
        what="100,000 targets x 1 step",
        unit="target-steps/s",
        yardstick="the row `durable`, a target-step",
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
        yardstick="the yardstick of `durable`",
        needs=("contest_steps", "contest_http"),
        at_least=0.05,
        beside="answers/s to the flood",
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
        yardstick="asyncio.create_subprocess_exec and wait, as many at once",
        at_least=0.7,
        sample=_pair("commands", "processes"),
    ),
    Row(
        name="status",
        what="the status of a running job of 10,000 target-steps",
        unit="answers/s",
        yardstick="encoding the decoded answer once",
        at_least=0.9,
        sample=_status,
    ),
    Row(
        name="start",
        what="from start to the first answer of `contest serve`",
        unit="s",
        yardstick="a bare import of the same libraries",
        needs=("contest_http",),
        at_most=1.6,
        sample=_start,
    ),
    Row(
        name="help",
        what="`contest --help`",
        unit="s",
        yardstick="a bare import of click",
        needs=(),
        at_most=1.6,
        sample=_help,
    ),
    Row(
        name="idle",
        what="memory of an idle server",
        unit="bytes",
        yardstick="",
        needs=("contest_http",),
        at_most=80 * _MIB,
        sample=_idle,
    ),
    *WIRE_ROWS,
)
