"""schemathesis, from the document that a server serves, finds nothing but what ConTest's wire demands.

What it is told not to mind stands in `data/schemathesis`, and in words in docs/wires.md.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

DATA = Path(__file__).parent / "data" / "schemathesis"
JOB = Path(__file__).parents[1] / "configs" / "jobs" / "hello.yaml"
CONTEST = [sys.executable, "-c", "from contest_core.cli import main; main()"]
SCHEMATHESIS = [sys.executable, "-m", "schemathesis.cli"]
PATIENCE = 50
CONFIGURATION = "listeners: [http: {port: 0}]\njob_manager: {local: {store: 'sqlite:///contest.db'}}\n"


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """A server of its own, which has a job that has ended."""
    (tmp_path / "contest.yaml").write_text(CONFIGURATION)
    serve = [*CONTEST, "serve", "-c", "contest.yaml", "--log-level", "error"]
    with subprocess.Popen(serve, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            line = process.stderr.readline()
            assert line.startswith("listening on http://"), line
            address = line.split()[-1]
            start = [*CONTEST, "start", str(JOB), "--wait", "--address", address]
            subprocess.run(start, check=True, capture_output=True, timeout=PATIENCE)
            yield address
            process.terminate()
            assert process.wait(PATIENCE) == 0
            assert "Traceback" not in process.stderr.read()
        finally:
            process.kill()


def schemathesis(address: str, folder: Path, *options: str, patience: float = PATIENCE) -> None:
    """Runs it, and shows what it says where it finds something."""
    for file in DATA.iterdir():
        if file.is_file():
            shutil.copy(file, folder)
    told = ["--config-file", "schemathesis.toml", "run", f"{address}/openapi.json", *options]
    command = [*SCHEMATHESIS, *told, "--generation-database", "none", "--no-color"]
    done = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True, timeout=patience)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "No issues found" in done.stdout


def test_it_finds_nothing(address: str, tmp_path: Path) -> None:
    schemathesis(address, tmp_path, "--max-examples", "10", "--seed", "1")


@pytest.mark.heavy
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [1, 2, 3, 4, 5])
def test_it_finds_nothing_however_long_it_looks(address: str, tmp_path: Path, seed: int) -> None:
    schemathesis(address, tmp_path, "--max-examples", "150", "--seed", str(seed), patience=800)
