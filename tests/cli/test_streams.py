"""Stdout and stderr as they are in life: pipes whose reader goes away, full disks, terminals, odd encodings."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from contest_core.testing.terminals import pseudo_terminal

Contest = Callable[..., subprocess.CompletedProcess[str]]

LONG = """
from contest_core.cli import main
from contest_core.cli.group import Program
import click
from contest_core.cli.output import out
@click.command()
def much():
    for n in range(200_000):
        if not out(f"line {n}"):
            break
    click.get_current_context().exit(4)
@click.command()
def coloured():
    from contest_core.cli.output import coloured, say
    out(coloured("passed"))
    say(coloured("failed"))
    out("\\x1b[2Jfrom a target")
@click.command()
def odd():
    out("試験 \\ud800")
commands = {"much": much, "coloured": coloured, "odd": odd}
get = Program.get_command
Program.get_command = lambda self, ctx, name: commands.get(name) or get(self, ctx, name)
main()
"""


def run(name: str, **more: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", LONG, name], **more)


def test_a_reader_that_goes_away_ends_nothing_but_the_output() -> None:
    # Unbuffered, nothing would be left to be flushed at the end.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with run("much", stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"line 0\n"
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(40) == 4


def test_a_full_disk_under_stdout_is_told_and_is_no_verdict() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with open("/dev/full", "wb") as full, run("odd", stdout=full, stderr=subprocess.PIPE) as process:
        _, err = process.communicate(timeout=40)
    assert process.returncode == 3
    assert err == b"contest: cannot write to stdout: No space left on device\n"


def test_no_stdout_and_no_stderr_are_no_error() -> None:
    shell = f"exec \"{sys.executable}\" -c '{LONG}' coloured >&- 2>&-"
    assert subprocess.run(["sh", "-c", shell], timeout=40, check=False).returncode == 0


def test_an_encoding_that_lacks_a_character_gets_it_written_out() -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    with run("odd", stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        out, _ = process.communicate(timeout=40)
    assert process.returncode == 0
    assert out == b"\\u8a66\\u9a13 \\ud800\n"


def on_a_terminal(name: str, **variables: str) -> bytes:
    """What the command writes where both streams are a terminal."""
    master, slave = pseudo_terminal()
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    with run(name, stdout=slave, stderr=slave, env={**environment, "TERM": "xterm", **variables}) as process:
        os.close(slave)
        written = b""
        while True:
            try:
                piece = os.read(master, 4096)
            except OSError:
                break
            if not piece:
                break
            written += piece
        assert process.wait(40) == 0
    os.close(master)
    return written


def test_a_terminal_gets_colours_and_no_control_characters_from_elsewhere() -> None:
    written = on_a_terminal("coloured")
    assert b"\x1b[32mpassed\x1b[0m" in written
    assert b"\x1b[31mfailed\x1b[0m" in written
    assert b"\\x1b[2Jfrom a target" in written


@pytest.mark.parametrize("variables", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_color_and_dumb_terminals_get_none(variables: dict[str, str]) -> None:
    written = on_a_terminal("coloured", **variables)
    assert b"\x1b[" not in written.replace(b"\\x1b[2J", b"")
    assert b"passed" in written


def test_a_pipe_gets_no_colours_and_nothing_that_would_move_a_cursor() -> None:
    with run("coloured", stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        out, err = process.communicate(timeout=40)
    assert out == b"passed\nfrom a target\n"
    assert err == b"failed\n"


def test_the_live_line_is_rewritten_on_a_terminal_and_taken_away_at_the_end() -> None:
    code = (
        "from contest_core.cli.progress import Progress\n"
        "p = Progress()\np.show('one', line='x')\np.show('one')\np.show('two' * 99)\np.tell('stays')\np.close()\n"
    )
    master, slave = pseudo_terminal()
    environment = {**os.environ, "COLUMNS": "20", "TERM": "xterm"}
    with subprocess.Popen([sys.executable, "-c", code], stderr=slave, env=environment) as process:
        os.close(slave)
        assert process.wait(40) == 0
    written = os.read(master, 65536).decode()
    os.close(master)
    clear = "\r\x1b[K"
    cut = ("two" * 99)[:18] + "…"
    assert written == f"{clear}one{clear}{cut}{clear}stays\r\n{clear}{cut}{clear}"
