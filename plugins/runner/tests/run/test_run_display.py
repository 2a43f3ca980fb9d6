"""What `contest run` shows on a terminal, and how it counts."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from contest_core import EventData, Header, JobEvent, TargetInfo, Waiting, WaitingTarget
from contest_core.testing.terminals import pseudo_terminal
from contest_runner.cli.following import Following
from contest_runner.cli.stdout import LineWriter
from contest_runner.cli.tally import Tally

pty = pytest.importorskip("pty")

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")
NOISY = (
    "cmd",
    {"executable": ["sh"], "args": ["-c", r"printf 'one\n\033[2J\001two\n' >&2; test $0 = a", "{{ .ID }}"]},
)


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    reader, writer = pseudo_terminal()
    yield reader, writer
    for descriptor in (reader, writer):
        try:
            os.close(descriptor)
        except OSError:
            continue


def on_terminal(
    program: Any, terminal: tuple[int, int], *arguments: str, **environment: str
) -> tuple[str, Any]:
    """All that the program wrote to the terminal that its stderr is; and the program, ended."""
    reader, writer = terminal
    env = {**program.environment, "TERM": "xterm-256color", **environment}
    running = program.begin(*arguments, stderr=writer, env=env)
    os.close(writer)
    said = b""
    while True:
        try:
            piece = os.read(reader, 65536)
        except OSError:  # how Linux says that nobody has the other end any more
            break
        if not piece:
            break
        said += piece
    running.wait(40)
    return said.decode(), running


def test_a_terminal_shows_how_many_targets_are_where(program: Any, terminal: tuple[int, int]) -> None:
    job = program.job(("sleep", {"duration": ["300ms"]}), ("sleep", {"duration": ["900ms"]}), name="smoke")
    said, running = on_terminal(program, terminal, job)
    assert running.returncode == 0
    plain = CONTROL.sub("", said)
    assert re.search(r"smoke  started  run 1 of 1  test 1 of 1: the test  \d", plain)
    assert re.search(r"STEP\s+INSIDE\s+PASSED\s+FAILED\s+step_1\s+2\s+0\s+0\s+step_2\s+0\s+0\s+0", plain)
    assert re.search(r"step_1\s+0\s+2\s+0\s+step_2\s+2\s+0\s+0", plain)
    assert "run 1 of 1 began" not in plain
    assert said.endswith("\x1b[2K"), "the display is taken away"
    assert "\x1b[?25h" in said, "the cursor is back"


def test_failures_stay_above_the_display_and_cannot_play_with_the_terminal(
    program: Any, terminal: tuple[int, int]
) -> None:
    said, running = on_terminal(program, terminal, program.job(NOISY, ("sleep", {"duration": ["500ms"]})))
    assert running.returncode == 1
    plain = CONTROL.sub("", said)
    assert "failed: the test: b: step_1: exit status 1: one\n    one\n" in plain
    assert r"    \x1b[2J\x01two" in plain
    assert "\x01" not in said
    assert "\x1b[2J" not in said


def test_a_terminal_without_abilities_gets_plain_lines(program: Any, terminal: tuple[int, int]) -> None:
    said, _ = on_terminal(program, terminal, program.job(("echo", {"text": ["x"]})), TERM="dumb")
    assert said.splitlines() == ["job 1 started", "run 1 of 1 began", "job 1 completed"]


def test_no_colours_are_used_where_none_are_wanted(program: Any, terminal: tuple[int, int]) -> None:
    said, _ = on_terminal(program, terminal, program.job(NOISY), NO_COLOR="1")
    assert "failed: the test: b" in said
    assert not re.search(r"\x1b\[3[0-7]m", said)


def test_many_steps_are_shown_where_there_is_something_to_see(
    program: Any, terminal: tuple[int, int]
) -> None:
    steps = [("echo", {"text": ["x"]})] * 30 + [("sleep", {"duration": ["700ms"]})]
    said, _ = on_terminal(program, terminal, program.job(*steps))
    plain = CONTROL.sub("", said)
    assert re.search(r"step_31\s+2\s+0\s+0\s+and 30 more", plain)


# --- the counting


def event(
    name: str, *, test: str | None = "t", step: str = "s", target: str = "a", attempt: int = 0
) -> JobEvent:
    return JobEvent(
        sequence_id=1,
        emit_time=datetime.now(UTC),
        header=Header(
            job_id=1,
            run_id=1,
            test_name=test,
            test_attempt=None if test is None else attempt,
            test_step_label=step if test else None,
        ),
        data=EventData(target=TargetInfo(id=target), event_name=name, payload=None),
    )


def counted(*events: JobEvent) -> Tally:
    tally = Tally()
    for each in events:
        tally.count(each)
    return tally


def test_a_target_is_inside_until_it_comes_out() -> None:
    tally = counted(
        *map(event, ["TargetAcquired", "TargetIn", "TargetIn", "TargetIn", "TargetOut", "TargetErr"])
    )
    assert (tally.inside["s"], tally.passed["s"], tally.failed["s"]) == (1, 1, 1)


def test_what_a_step_emits_moves_nobody() -> None:
    tally = counted(event("TargetIn"), event("CmdStart"), event("CmdEnd"))
    assert tally.inside["s"] == 1


def test_each_test_and_each_attempt_is_counted_anew() -> None:
    tally = counted(
        event("RunStarted", test=None), event("TargetIn"), event("TargetOut"), event("TargetIn", test="u")
    )
    assert (tally.test, tally.tests_begun, tally.passed.total(), tally.inside.total()) == ("u", 2, 0, 1)
    tally.count(event("TargetIn", test="u", attempt=1))
    assert (tally.tests_begun, tally.inside.total()) == (2, 1)


# --- what is waited for


def test_who_holds_what_a_job_waits_for_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    now = datetime.now(UTC)
    held = [WaitingTarget(id=name, held_by=3, since=now, until=now) for name in ("board", "rack")]
    job: Any = SimpleNamespace(waiting=Waiting(since=now, targets=held), plan=None)
    following = Following(name="smoke", quiet=False)
    for _ in range(2):
        following.look(job, None)
    job.waiting = None
    following.look(job, "the disk is full")
    assert capsys.readouterr().err.splitlines() == [
        "waiting for board, held by job 3 and 1 more",
        "waiting no longer",
    ]


def test_the_display_shows_why_nothing_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("contest_runner.cli.following.is_terminal", lambda stream: True)
    following = Following(name="smoke", quiet=False)
    job: Any = SimpleNamespace(waiting=None, plan=None)
    following.look(job, "the disk is full: make room")
    following.close()
    assert "  waiting: the disk is full: make room" in CONTROL.sub("", capsys.readouterr().err)


# --- the writer of lines


async def test_lines_come_out_whole_and_in_order(tmp_path: Path) -> None:
    file = tmp_path / "lines"
    with file.open("wb") as stream:
        writer = LineWriter(stream.fileno())
        running = asyncio.create_task(writer.run())
        for number in range(5000):
            await writer.write(b"%d" % number)
        await writer.finish()
        running.cancel()
    assert file.read_bytes().split() == [b"%d" % number for number in range(5000)]


async def test_a_writer_waits_for_its_reader_and_can_be_told_not_to() -> None:
    source, sink = os.pipe()
    writer = LineWriter(sink)
    running = asyncio.create_task(writer.run())
    writing = asyncio.create_task(_write_much(writer))
    await asyncio.wait([writing], timeout=0.5)
    assert not writing.done()
    writer.give_up()
    async with asyncio.timeout(10):
        await writing
        await writer.finish()
    running.cancel()
    for descriptor in (source, sink):
        os.close(descriptor)


async def test_a_writer_without_a_reader_says_so_and_drops_the_rest() -> None:
    source, sink = os.pipe()
    os.close(source)
    writer = LineWriter(sink)
    running = asyncio.create_task(writer.run())
    async with asyncio.timeout(10):
        await _write_much(writer)
        await writer.finish()
    assert isinstance(writer.error, BrokenPipeError)
    running.cancel()
    os.close(sink)


async def _write_much(writer: LineWriter) -> None:
    for _ in range(40):
        await writer.write(b"x" * 100_000)
