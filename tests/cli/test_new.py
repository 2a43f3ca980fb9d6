"""`contest new`: what it says, and what it refuses. What it writes is tried in `test_scaffolds.py`."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from contest_core.cli import program
from contest_core.plugins import load_plugins

New = Callable[..., Result]


@pytest.fixture
def new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> New:
    """Runs `contest new` in an empty folder, with all that is installed."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(program, ["new", *arguments], obj=load_plugins(), prog_name="contest")

    return run


def test_it_says_what_it_wrote_and_what_comes_next(new: New, tmp_path: Path) -> None:
    done = new("step", "my-check")
    assert done.exit_code == 0
    assert done.stderr == ""
    told = done.stdout.splitlines()
    assert told[0] == "wrote contest-my-check: 8 files, a step that works. Next:"
    assert "  pip install -e ." in told
    assert [path.name for path in tmp_path.iterdir()] == ["contest-my-check"]


def test_it_writes_where_it_is_told_to(new: New, tmp_path: Path) -> None:
    assert new("listener", "my-bus", "--directory", "deep/down").exit_code == 0
    assert (tmp_path / "deep" / "down" / "src" / "contest_my_bus" / "plugin.py").is_file()


def test_it_writes_nothing_over_what_is_there(new: New, tmp_path: Path) -> None:
    (tmp_path / "contest-my-bus").mkdir()
    done = new("listener", "my-bus")
    assert done.exit_code == 2
    assert done.stderr == "contest: contest-my-bus is there already: choose another name, or --directory\n"
    assert list((tmp_path / "contest-my-bus").iterdir()) == []


def test_what_cannot_be_written_whole_leaves_nothing(
    new: New, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes = Path.write_text
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def write_text(path: Path, text: str, *given: str) -> int:
        if path.name == "plugin.py":
            raise full
        return writes(path, text, *given)

    monkeypatch.setattr(Path, "write_text", write_text)
    done = new("step", "my-check")
    assert done.exit_code == 3
    assert done.stderr == "contest: cannot write contest-my-check: No space left on device\n"
    assert list(tmp_path.iterdir()) == []


def test_the_lines_that_come_next_may_be_pasted(new: New) -> None:
    done = new("step", "my-check", "--directory", "has spaces/~down")
    assert "  cd 'has spaces/~down'" in done.stdout.splitlines()


@pytest.mark.parametrize("name", ["My", "contest-bus", "core", "../bus"])
def test_a_bad_name_is_a_wrong_use_and_leaves_nothing(new: New, tmp_path: Path, name: str) -> None:
    done = new("listener", name)
    assert done.exit_code == 2
    assert repr(name) in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "name", "warning"),
    [
        ("listener", "http", "is a plugin of that name: only one of them can be installed"),
        ("listener", "ws", "the client 'ws' of contest-websocket"),
        ("step", "waitport", "the step 'waitport' of contest-steps"),
    ],
)
def test_a_name_that_is_taken_is_warned_of(new: New, kind: str, name: str, warning: str) -> None:
    done = new(kind, name)
    assert done.exit_code == 0
    assert done.stderr.startswith("contest: warning: ") or done.stderr.startswith("warning: ")
    assert warning in done.stderr


def test_a_step_may_have_the_name_of_a_listener(new: New) -> None:
    assert new("step", "ws").stderr == ""


def test_the_kinds_are_listed_and_the_nearest_is_named(new: New) -> None:
    assert {"listener", "step"} <= {
        line.split()[0] for line in new("--help").stdout.splitlines() if line.strip()
    }
    done = new("stepp", "x")
    assert done.exit_code == 2
    assert "did you mean 'step'?" in done.stderr
