"""`contest bench`: the project's benchmark as a table or as JSON. Its rows are in `contest_runner.bench`."""

from __future__ import annotations

import os
import platform
import sqlite3
import tempfile
from collections.abc import Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

import click
import msgspec

from contest_core.cli.failures import FAULT
from contest_core.cli.output import coloured, out, out_json, say, table
from contest_core.cli.progress import Progress
from contest_runner.bench.results import Result, measure
from contest_runner.bench.rows import ROWS

_QUICK: Final = 0.02
"""What `--quick` takes of a row."""

_ON_DISK: Final = "/var/tmp"
"""Where temporary files are on a disk, while `/tmp` may be memory, to which nothing has to be synced."""


@click.command(short_help="Measure this machine and Contest on it.")
@click.argument("rows", nargs=-1, type=click.Choice([row.name for row in ROWS]), metavar="[ROW]...")
@click.option(
    "--rounds", default=3, show_default=True, type=click.IntRange(1, 100), help="Medians over so many."
)
@click.option("--quick", is_flag=True, help="Small and once: shows that it works, not how fast.")
@click.option(
    "--directory",
    type=click.Path(exists=True, file_okay=False, writable=True),
    metavar="DIRECTORY",
    help="Where stores are made, on the disk that is to be measured.",
)
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object.")
@click.pass_context
def bench(
    ctx: click.Context,
    /,
    rows: tuple[str, ...],
    rounds: int,
    quick: bool,
    directory: str | None,
    as_json: bool,
) -> None:
    """Measure Contest beside yardsticks taken in the same run, so that a slow machine changes both.

    Each figure is taken in a process of its own, ours and the yardstick in turn. Without a ROW all are taken, which
    takes some minutes.

    \b
    Rows, of jobs:      durable, wide, jobs, flood, lone, cmd, status
    of the program:     start, help, idle
    of the wires:       http-{version,list,status}-{16,64}, websocket, lines-{version,list}
    of peers in floods: p99-{http,websocket}-{garbage,version,large,slow}

    Exit status: 0, whatever the figures are; 3 where one could not be taken.
    """
    _make_temporary_files_in(directory or _disk())
    progress = Progress()
    try:
        results = [
            measure(
                row,
                rounds=1 if quick else rounds,
                scale=_QUICK if quick else 1.0,
                told=partial(_tell, progress),
            )
            for row in ROWS
            if not rows or row.name in rows
        ]
    finally:
        progress.close()
    if as_json:
        out_json(msgspec.json.encode({"machine": _machine(), "quick": quick, "rows": results}))
    else:
        _show(results)
    if quick:
        say("--quick: these figures show that the benchmark works, and nothing else")
    ctx.exit(FAULT if any("failed" in (result.trouble or "") for result in results) else 0)


def _tell(progress: Progress, text: str) -> None:
    progress.show(text, line=text)


def _disk() -> str:
    return _ON_DISK if os.path.isdir(_ON_DISK) and os.access(_ON_DISK, os.W_OK) else tempfile.gettempdir()


def _make_temporary_files_in(directory: str) -> None:
    """For this process and all that it starts."""
    tempfile.tempdir = os.environ["TMPDIR"] = os.path.abspath(directory)


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
        "directory": tempfile.gettempdir(),
    }


def _show(results: Sequence[Result]) -> None:
    facts = _machine()
    out(
        f"{facts['system']}, {facts['processors']} processors, Python {facts['python']}, "
        f"SQLite {facts['sqlite']}, {facts['loop']}, stores in {facts['directory']}"
    )
    header = ("ROW", "WHAT", "OURS", "YARDSTICK", "RATIO", "WANTED", "", "CPU EACH, us", "PEAK")
    for line in table(header, map(_cells, results)):
        out(line)
    for result in results:
        if result.trouble is not None:
            out(f"{result.row}: {result.trouble}")
            continue
        notes = [f"held against {result.yardstick_is}"] if result.yardstick_is else []
        notes += [f"beside {result.beside}"] if result.beside else []
        if notes:
            out(f"{result.row}: {'; '.join(notes)}")


def _cells(result: Result) -> tuple[str, ...]:
    return (
        result.row,
        result.what,
        _value(result.ours, result.unit),
        _value(result.yardstick, result.unit),
        "-" if result.ratio is None else f"{result.ratio:.2f}",
        result.wanted,
        _word(result),
        " : ".join(
            f"{cpu:,.1f}"
            for cpu in (result.cpu_microseconds, result.yardstick_cpu_microseconds)
            if cpu is not None
        )
        or "-",
        "-" if result.peak_bytes is None else f"{result.peak_bytes >> 20} MiB",
    )


def _word(result: Result) -> str:
    if result.trouble is not None:
        return coloured(result.trouble.partition(":")[0], "yellow")
    if result.reached is None:
        return ""
    return coloured("reached", "green") if result.reached else coloured("missed", "red")


def _value(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    if unit == "bytes":
        return f"{value / (1 << 20):.0f} MiB"
    if unit == "ms":
        return f"{value:.2f} ms"
    return f"{value:.3f} s" if unit == "s" else f"{value:,.0f} {unit}"
