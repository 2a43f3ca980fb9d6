"""Signals, and readers and disks that go away, in the middle of `contest run`."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

SECONDS = 40

Until = Callable[..., None]


def stubborn(seconds: int) -> tuple[str, dict[str, list[Any]]]:
    """A command that does not obey a SIGTERM, and neither does its child."""
    script = f"trap '' TERM; echo $$ > pid.$0; sleep {seconds}; sleep {seconds}"
    return "cmd", {"executable": ["sh"], "args": ["-c", script, "{{ .ID }}"]}


def lives(pid: int) -> bool:
    """Whether the process runs, and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def pids(folder: Path) -> list[int]:
    found = [(folder / f"pid.{target}") for target in ("a", "b")]
    return [int(file.read_text()) for file in found if file.exists() and file.read_text().strip()]


def group(pid: int) -> list[str]:
    """What still runs in a command's session."""
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, session = file.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(session) == pid and state != "Z":
            found.append(state)
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_cancels_the_job_and_the_report_is_shown(
    program: Any, number: signal.Signals
) -> None:
    running = program.begin(program.job(("sleep", {"duration": ["1h"]})))
    assert running.stderr.readline() == "job 1 started\n"
    assert running.stderr.readline() == "run 1 of 1 began\n"
    running.send_signal(number)
    stdout, stderr = running.communicate(timeout=SECONDS)
    assert running.returncode == 4
    assert stderr.splitlines()[0].startswith(
        f"{number.name}: cancelling the running jobs and waiting for their steps to end; "
        "once more does not wait for what does not obey, a third time exits at once"
    )
    assert stderr.endswith("job 1 cancelled\n")
    assert stdout.startswith("job 1  job  cancelled  cancelled\n")
    assert stdout.endswith("verdict: cancelled (2 targets)\n")
    assert program.leftovers() == []


def test_a_cancelled_commands_processes_are_gone_when_the_program_is(program: Any, until: Until) -> None:
    running = program.begin(program.job(stubborn(611)), "--stop-grace", "2s")
    until(lambda: len(pids(program.folder)) == 2, "the commands")
    commands = pids(program.folder)
    assert all(map(lives, commands))
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=SECONDS)
    assert running.returncode == 4
    assert not any(map(group, commands))
    assert program.leftovers() == []


def test_the_second_signal_does_not_wait_for_what_does_not_obey(program: Any, until: Until) -> None:
    running = program.begin(program.job(stubborn(612)), "--stop-grace", "1h")
    until(lambda: len(pids(program.folder)) == 2, "the commands")
    commands = pids(program.folder)
    running.send_signal(signal.SIGINT)
    _until_said(running, "job 1 cancelling")
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=4)  # a command alone has five seconds between SIGTERM and SIGKILL
    assert running.returncode == 4
    assert not any(map(group, commands))


def test_the_third_signal_exits_at_once_and_leaves_nothing(program: Any, until: Until) -> None:
    program.install()
    running = program.begin(program.job(stubborn(613), ("deaf", {})), "--stop-grace", "1h")
    until(lambda: len(pids(program.folder)) == 2, "the commands")
    commands = pids(program.folder)
    os.kill(running.pid, signal.SIGSTOP)  # so that the program sees all of them before it can end by itself
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(running.pid, number)
    os.kill(running.pid, signal.SIGCONT)
    _until_said(running, "again: not waiting for what does not obey; once more exits at once")
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=SECONDS)
    assert running.returncode in (4, 128 + signal.SIGINT)
    until(lambda: not any(map(group, commands)), "the end of the commands")
    assert program.leftovers() == []


def test_a_step_that_swallows_its_cancellation_is_told_once_and_by_the_report(program: Any) -> None:
    program.install()
    running = program.begin(program.job(("swallowing", {})), "--stop-grace", "1s")
    _until_said(running, "run 1 of 1 began")
    running.send_signal(signal.SIGINT)
    stdout, stderr = running.communicate(timeout=SECONDS)
    assert running.returncode == 4
    assert "still there after the stop: a: step 'step_1' (swallowing); b: step" in stdout
    assert [line for line in stderr.splitlines() if "job" not in line] == []


def test_a_job_without_end_says_so_and_ends_when_it_is_drained(program: Any) -> None:
    job = program.job(("sleep", {"duration": ["1ms"]}), Runs=0, RunInterval="10ms")
    running = program.begin(job)
    assert "it has no end" in running.stderr.readline()
    _until_said(running, "run 3 began")
    running.send_signal(signal.SIGUSR1)
    stdout, _ = running.communicate(timeout=SECONDS)
    assert running.returncode == 0
    assert stdout.splitlines()[-1] == "verdict: passed (2 targets)"


def test_a_reader_that_goes_away_cancels_the_job_and_is_no_error(program: Any, until: Until) -> None:
    running = program.begin(program.job(stubborn(614)), "--json", "--stop-grace", "2s")
    names: list[str] = []
    while names.count("CmdStart") < 2:
        names.append(json.loads(running.stdout.readline())["Data"]["EventName"])
    assert names[0] == "JobStateStarted"
    until(lambda: len(pids(program.folder)) == 2, "the commands")
    commands = pids(program.folder)
    running.stdout.close()  # no event comes any more whose writing could fail
    stderr = running.stderr.read()
    assert running.wait(SECONDS) == 4
    assert "nobody reads stdout any more: cancelling the job\n" in stderr
    assert "Traceback" not in stderr
    assert "BrokenPipe" not in stderr
    assert not any(map(group, commands))


def test_a_report_that_nobody_reads_is_no_error(program: Any) -> None:
    running = program.begin(program.job(("echo", {"text": ["x"]})))
    running.stdout.close()
    stderr = running.stderr.read()
    assert running.wait(SECONDS) == 0
    assert stderr.splitlines() == ["job 1 started", "run 1 of 1 began", "job 1 completed"]


def test_a_slow_reader_of_events_does_not_hold_up_the_job_and_gets_all_of_them(
    program: Any, until: Until
) -> None:
    targets = [f"t{number}" for number in range(200)]
    job = program.job(*[("echo", {"text": ["x" * 200]})] * 10, targets=targets)
    running = program.begin(job, "--json", "--store", "kept.db")
    _until_said(running, "run 1 of 1 began")
    until(lambda: _jobs(program.folder) == [("job", "passed", 0)], "the end of the job")
    lines = running.stdout.readlines()
    assert running.wait(SECONDS) == 0
    assert [json.loads(line)["SequenceID"] for line in lines] == list(range(1, len(lines) + 1))
    assert sum(map(len, lines)) > (1 << 20) + (1 << 16), "more than what may wait, and a pipe, can hold"


def test_a_job_that_was_killed_goes_on_beside_the_next_one_on_its_store(program: Any, until: Until) -> None:
    first = program.begin(program.job(stubborn(615), name="first"), "--store", "kept.db")
    until(lambda: len(pids(program.folder)) == 2, "the commands")
    commands = pids(program.folder)
    first.kill()
    first.wait(SECONDS)
    done = program.run(program.job(("echo", {"text": ["x"]}), name="second"), "--store", "kept.db")
    assert done.returncode == 0
    assert "job 1 (first) was interrupted and goes on: this program waits for it, too" in done.stderr
    assert not any(map(group, commands))
    assert _jobs(program.folder) == [("first", "error", 0), ("second", "passed", 0)]


def test_an_interrupted_job_is_not_cut_short_by_the_end_of_the_next_one(program: Any) -> None:
    first = program.begin(program.job(("sleep", {"duration": ["5s"]}), name="first"), "--store", "kept.db")
    _until_said(first, "run 1 of 1 began")
    first.kill()
    first.wait(SECONDS)
    done = program.run(
        program.job(("echo", {"text": ["x"]}), name="second", targets=["c"]), "--store", "kept.db"
    )
    assert done.returncode == 0
    assert _jobs(program.folder) == [("first", "passed", 0), ("second", "passed", 0)]


def test_a_disk_that_takes_nothing_more_is_told_and_the_program_can_be_ended(program: Any) -> None:
    text = {"text": ["x" * 1000]}
    job = program.job(*[("echo", text)] * 20, targets=[f"t{number}" for number in range(200)])
    command = ["sh", "-c", 'ulimit -f 700; exec "$@"', "sh", *program.command, job]
    running = subprocess.Popen(
        command, cwd=program.folder, env=program.environment, text=True, stderr=subprocess.PIPE
    )
    program.begun.append(running)
    _until_said(running, "degraded: the disk of ")
    running.send_signal(signal.SIGINT)
    _until_said(running, "a third time exits at once")
    running.send_signal(signal.SIGINT)
    _until_said(running, "again: not waiting for what does not obey; once more exits at once")
    running.send_signal(signal.SIGINT)
    assert running.wait(SECONDS) == 128 + signal.SIGINT
    assert program.leftovers() == []


def test_a_job_that_waits_for_a_target_says_who_holds_it(program: Any) -> None:
    first = program.begin(program.job(("sleep", {"duration": ["4s"]}), name="first"), "--store", "kept.db")
    _until_said(first, "run 1 of 1 began")
    first.kill()
    first.wait(SECONDS)
    done = program.run(program.job(("echo", {"text": ["x"]}), name="second"), "--store", "kept.db")
    assert "waiting for a, held by job 1 and 1 more\n" in done.stderr
    assert done.returncode == 0


def test_two_programs_on_one_store_do_not_mix(program: Any) -> None:
    first = program.begin(program.job(("sleep", {"duration": ["1h"]})), "--store", "kept.db")
    _until_said(first, "run 1 of 1 began")
    second = program.run("job.json", "--store", "kept.db")
    assert second.returncode == 3
    assert "kept.db" in second.stderr
    assert "Traceback" not in second.stderr
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=SECONDS)
    assert first.returncode == 4


def _until_said(running: Any, text: str) -> None:
    for line in running.stderr:
        if text in line:
            return
    raise AssertionError(f"the program ended without saying {text!r}")


def _jobs(folder: Path) -> list[tuple[str, str | None, int]]:
    with closing(sqlite3.connect(folder / "kept.db")) as store:
        return store.execute("SELECT name, verdict, end_time IS NULL FROM jobs ORDER BY job_id").fetchall()
