"""What a type checker makes of programs that use the clients: all is known, and what is wrong is found."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

from contest_core import Contest

pytest.importorskip("mypy")

PROGRAM = Path(__file__).with_name("client_program.py")
EXAMPLES = sorted((Path(__file__).parents[2] / "docs" / "examples" / "client").glob("*.py"))


def check(folder: Path, *files: Path) -> str:
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--no-error-summary",
        "--cache-dir",
        str(folder / "cache"),
    ]
    done = subprocess.run(
        [*command, *map(str, files)], capture_output=True, text=True, timeout=120, cwd=folder
    )
    return done.stdout + done.stderr


def test_programs_are_typed_strictly_and_mistakes_are_found(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.py"
    wrong.write_text(re.sub(r"failed_only=True", "failed_only=1.5", PROGRAM.read_text()))
    found = check(tmp_path, PROGRAM, wrong, *EXAMPLES).splitlines()
    assert len(found) == 2, found
    assert all(line.startswith("wrong.py:") and "failed_only" in line for line in found), found


@pytest.mark.parametrize("opened", ["await contest", "contest"])
def test_the_program_uses_every_method(opened: str) -> None:
    text = PROGRAM.read_text()
    for name, method in vars(Contest).items():
        if inspect.isfunction(method) and not name.startswith("_"):
            assert re.search(rf"(?:{opened}|with contest)\.{name}\(", text), name
