"""`contest bench` works; how fast anything is decides no test."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from contest_core.plugins import Plugins
from contest_runner.bench.results import Result, measure
from contest_runner.bench.row import Row, RowFailed, Sample
from contest_runner.bench.rows import ROWS
from contest_runner.cli import bench as command
from contest_runner.cli.bench import bench

PROGRAM = [sys.executable, "-c", "from contest_core.cli import main; main()", "bench"]


@pytest.fixture
def program(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*PROGRAM, "--directory", str(tmp_path), *arguments],
            capture_output=True,
            text=True,
            timeout=240,
            cwd=tmp_path,
        )

    return run


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "rows",
    [
        ("durable", "wide", "jobs"),
        ("lone", "cmd", "status"),
        ("flood", "start", "idle", "help"),
        ("http-list-16", "websocket", "lines-list"),
        ("p99-http-garbage", "p99-websocket-slow"),
        pytest.param(
            (
                *("http-version-16", "http-version-64", "http-list-64", "http-status-16", "http-status-64"),
                *("lines-version", "p99-http-version", "p99-http-large", "p99-http-slow"),
                *("p99-websocket-garbage", "p99-websocket-version", "p99-websocket-large"),
            ),
            id="others[2]",
            marks=pytest.mark.heavy,
        ),
    ],
)
def test_every_row_can_be_measured(program: Any, tmp_path: Path, rows: tuple[str, ...]) -> None:
    done = program("--quick", "--json", *rows)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert set(told) == {"machine", "quick", "rows"}
    assert told["machine"]["directory"] == str(tmp_path)
    measured = {result["row"]: result for result in told["rows"]}
    assert set(measured) == set(rows)
    for result in measured.values():
        assert result["trouble"] is None
        assert result["ours"] > 0
        assert isinstance(result["reached"], bool) or result["row"].startswith("p99-")
        assert result["yardstick"] is None or result["ratio"] > 0
        if result["unit"] == "answers/s" and result["row"] != "status":
            # The system counts it in hundredths of a second, which these few answers may not take.
            assert result["cpu_microseconds"] >= 0
            assert result["yardstick_cpu_microseconds"] >= 0
        elif result["unit"].endswith("/s"):
            assert result["cpu_microseconds"] > 0
    assert "round 1 of 1" in done.stderr
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


@pytest.mark.timeout(300)
def test_the_table_names_the_row_its_yardstick_and_the_machine(program: Any) -> None:
    done = program("--quick", "lone")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert "Python" in lines[0]
    assert "SQLite" in lines[0]
    assert lines[1].split() == [
        "ROW",
        "WHAT",
        "OURS",
        "YARDSTICK",
        "RATIO",
        "WANTED",
        "CPU",
        "EACH,",
        "us",
        "PEAK",
    ]
    assert lines[2].startswith("lone  a lone job of 1 target x 100 steps")
    assert lines[3] == "lone: held against bare commits of one row"
    assert "these figures show that the benchmark works" in done.stderr


def test_a_row_that_is_not_there_is_refused_with_the_ones_that_are(program: Any) -> None:
    done = program("loan")
    assert done.returncode == 2
    assert "lone" in done.stderr


# --- what comes of samples


def row(sample: Callable[[float], Sample], **more: Any) -> Row:
    return Row(name="x", what="it", unit="things/s", yardstick="that", needs=(), sample=sample, **more)


def taken(*samples: Sample, **more: Any) -> Result:
    left = list(samples)
    return measure(
        row(lambda scale: left.pop(0), **more), rounds=len(samples), scale=1, told=lambda text: None
    )


def test_the_ratio_is_the_median_of_the_rounds_ratios() -> None:
    samples = [Sample(ours=ours, yardstick=held) for ours, held in ((10, 10), (30, 10), (20, 100))]
    result = taken(*samples, at_least=1.0)
    assert (result.ours, result.yardstick, result.ratio, result.reached) == (20, 10, 1.0, True)
    assert result.ratios == [1.0, 3.0, 0.2]


def test_a_row_misses_by_its_ratio_its_bound_or_its_memory() -> None:
    slow = Sample(ours=1, yardstick=10)
    assert taken(slow, at_least=0.5).reached is False
    assert taken(slow, at_most=0.05).reached is False
    assert taken(Sample(ours=90, yardstick=None), at_most=80).reached is False
    assert (
        taken(Sample(ours=9, yardstick=10, peak=500 << 20), at_least=0.5, peak_below=400 << 20).reached
        is False
    )


def test_a_row_without_its_plugin_is_skipped_and_one_that_fails_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(scale: float) -> Sample:
        raise RowFailed("the disk is gone")

    rows = (
        row(fails, at_least=1.0),
        Row(
            name="y",
            what="it",
            unit="s",
            yardstick="",
            needs=("contest_nobody_has",),
            at_most=1.0,
            sample=fails,
        ),
    )
    monkeypatch.setattr(command, "ROWS", rows)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    done = CliRunner().invoke(bench, ["--directory", str(tmp_path)], obj=Plugins())
    assert done.exit_code == 3
    assert "x: failed: the disk is gone" in done.stdout
    assert "y: skipped: contest-nobody-has is not installed" in done.stdout


def test_the_rows_are_those_of_the_promises() -> None:
    promised = {found.name: (found.at_least, found.at_most, found.peak_below) for found in ROWS}
    mib = 1 << 20
    assert promised == {
        "durable": (0.35, None, None),
        "wide": (0.4, None, 400 * mib),
        "jobs": (0.5, None, None),
        "flood": (0.05, None, None),
        "lone": (0.5, None, None),
        "cmd": (0.7, None, None),
        "status": (0.9, None, None),
        "start": (None, 1.6, None),
        "help": (None, 1.6, None),
        "idle": (None, 80 * mib, None),
        **{f"http-version-{connections}": (0.8, None, None) for connections in (16, 64)},
        **{f"http-{verb}-{number}": (0.5, None, None) for verb in ("list", "status") for number in (16, 64)},
        "websocket": (0.5, None, None),
        "lines-version": (0.4, None, None),
        "lines-list": (0.25, None, None),
        **{
            f"p99-{wire}-{flood}": (None, None, None)
            for wire in ("http", "websocket")
            for flood in ("garbage", "version", "large", "slow")
        },
    }


def test_the_help_names_every_row(program: Any) -> None:
    text = program("--help").stdout
    told = set(re.findall(r"[a-z0-9]+", text))
    assert all(part in told for found in ROWS for part in found.name.split("-"))


def test_a_row_that_only_tells_is_neither_reached_nor_missed() -> None:
    result = taken(Sample(ours=3, yardstick=1, cpu=2.0, yardstick_cpu=1.0))
    assert (result.reached, result.wanted, result.ratio) == (None, "", 3.0)
    assert (result.cpu_microseconds, result.yardstick_cpu_microseconds) == (2.0, 1.0)
