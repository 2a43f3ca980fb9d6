"""`contest bench`: the project's benchmark as a table or as JSON."""

from __future__ import annotations

import os
import platform
import sqlite3
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import click
import msgspec

from contest_core.cli.failures import Failure
from contest_core.cli.output import coloured, out, out_json, say, table
from contest_core.cli.progress import Progress
from contest_runner.bench.rows import ROWS, Result, RowFailed, measure

_QUICK = 0.02
_NAMES = [row.name for row in ROWS]


@click.command(short_help="Measure this machine and Contest on it.")
@click.argument("rows", nargs=-1, type=click.Choice(_NAMES), metavar="[ROW]...")
@click.option(
    "--rounds", default=3, show_default=True, type=click.IntRange(1, 100), help="Medians over so many."
)
@click.option("--quick", is_flag=True, help="Small and once: shows that it works, not how fast.")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object.")
def bench(rows: tuple[str, ...], rounds: int, quick: bool, as_json: bool) -> None:
    """Measure Contest beside yardsticks taken in the same run, so that a slow machine changes both.

    Each figure is taken in a process of its own, ours and the yardstick in turn. Without a ROW, all are taken: some
    minutes. Rows: durable, wide, jobs, flood, lone, cmd, status, start, help, idle.
    """
    progress = Progress()
    results = []
    try:
        for row in ROWS:
            if not rows or row.name in rows:
                told = _teller(progress)
                results.append(
                    measure(row, rounds=1 if quick else rounds, scale=_QUICK if quick else 1.0, told=told)
                )
    except RowFailed as error:
        raise Failure(str(error)) from None
    finally:
        progress.close()
    if as_json:
        out_json(msgspec.json.encode({"machine": _machine(), "quick": quick, "rows": results}))
    else:
        _show(results, quick=quick)


def _teller(progress: Progress) -> Any:
    def told(text: str) -> None:
        progress.show(text, line=text)

    return told


def _machine() -> dict[str, Any]:
    try:
        loop = f"uvloop {version('uvloop')}"
    except PackageNotFoundError:
        loop = "asyncio"
    return {
        "system": platform.platform(),
        "processors": os.cpu_count(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "loop": loop,
    }


def _show(results: list[Result], *, quick: bool) -> None:
    facts = _machine()
    out(f"{facts['system']}, {facts['processors']} processors, Python {facts['python']}, "
        f"SQLite {facts['sqlite']}, {facts['loop']}")  # fmt: skip
    header = ("ROW", "WHAT", "OURS", "YARDSTICK", "RATIO", "WANTED", "", "CPU", "PEAK")
    for line in table(header, [_cells(result) for result in results]):
        out(line)
    for result in results:
        if result.yardstick_is:
            out(f"{result.row}: held against {result.yardstick_is}")
    if quick:
        say("--quick: these figures say only that the benchmark works")
    sys.stdout.flush()


def _cells(result: Result) -> tuple[str, ...]:
    return (
        result.row,
        result.what,
        _value(result.ours, result.unit),
        "-" if result.yardstick is None else _value(result.yardstick, result.unit),
        "-" if result.ratio is None else f"{result.ratio:.2f}",
        result.wanted,
        coloured("reached", "green") if result.reached else coloured("missed", "red"),
        "-" if result.cpu_microseconds is None else f"{result.cpu_microseconds:,.1f} us",
        "-" if result.peak_bytes is None else f"{result.peak_bytes >> 20} MiB",
    )


def _value(value: float, unit: str) -> str:
    if unit == "bytes":
        return f"{value / (1 << 20):.0f} MiB"
    return f"{value:.3f} s" if unit == "s" else f"{value:,.0f} {unit}"
