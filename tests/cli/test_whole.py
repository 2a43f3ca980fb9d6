"""The program against a server of its own: real processes, a real job, every command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contest_core.testing.terminals import pseudo_terminal

SECONDS = 50
PROGRAM = [sys.executable, "-c", "from contest_core.cli import main; main()"]

JOB = """\
JobName: {name}
Version: "1.0"
Runs: 1
Tags: [{tag}]
TestDescriptors:
  - TargetManagerName: TargetList
    TargetManagerAcquireParameters: {{Targets: [{{ID: {target}}}]}}
    TargetManagerReleaseParameters: {{}}
    TestFetcherName: literal
    TestFetcherFetchParameters:
      TestName: Hello
      Steps:
        - name: {step}
          label: first
          parameters: {parameters}
Reporting:
  RunReporters:
    - {{Name: TargetSuccess, Parameters: {{SuccessExpression: ">80%"}}}}
"""


def job(
    folder: Path,
    step: str = "cmd",
    parameters: str = '{executable: ["true"]}',
    name: str = "smoke",
    target: str = "board-1",
) -> str:
    file = folder / f"{name}.yaml"
    file.write_text(JOB.format(name=name, tag="nightly", target=target, step=step, parameters=parameters))
    return file.name


class Program:
    """Runs commands against one server."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "contest.yaml").write_text(
            "listeners:\n  - http: {port: 0}\njob_manager:\n  local: {store: 'sqlite:///jobs.db'}\n"
        )
        self.environment = {
            **{name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS")},
            "LOGNAME": "alice",
        }
        self.server: subprocess.Popen[str] | None = None

    def serve(self) -> None:
        self.server = subprocess.Popen(
            [*PROGRAM, "serve", "-c", "contest.yaml", "--log-level", "error"],
            cwd=self.folder,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.server.stderr is not None
        self.environment["CONTEST_ADDRESS"] = (
            self.server.stderr.readline().partition("listening on ")[2].strip()
        )

    def begin(self, *arguments: str, **more: Any) -> subprocess.Popen[str]:
        given = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": self.folder}
        return subprocess.Popen([*PROGRAM, *arguments], **{**given, "env": self.environment, **more})

    def __call__(self, *arguments: str, status: int = 0, stdin: str = "") -> tuple[str, str]:
        with self.begin(*arguments, stdin=subprocess.PIPE) as process:
            out, err = process.communicate(stdin, timeout=SECONDS)
        assert process.returncode == status, (out, err)
        return out, err

    def end(self) -> None:
        if self.server is not None:
            self.server.send_signal(signal.SIGTERM)
            self.server.communicate(timeout=SECONDS)
            assert self.server.returncode == 0


@pytest.fixture(scope="module")
def contest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    program = Program(tmp_path_factory.mktemp("whole"))
    program.serve()
    yield program
    program.end()


def test_a_job_that_passes_exits_with_0_and_one_that_fails_with_1(contest: Program) -> None:
    out, _ = contest("start", "--wait", job(contest.folder))
    assert "completed  passed" in out.splitlines()[0]
    assert "report TargetSuccess: success" in out
    failing = job(contest.folder, parameters='{executable: [sh], args: ["-c", "echo broken >&2; exit 3"]}')
    out, err = contest("start", "-w", failing, status=1)
    row = next(line for line in out.splitlines() if line.startswith("    board-1 "))
    assert row.split()[1:4] == ["failed", "first", "(1/1)"]
    assert "exit status 3" in row
    assert "      broken" in out
    assert "smoke: started" in err or err == ""


def test_a_job_comes_through_a_pipe_and_is_found_again(contest: Program) -> None:
    text = (contest.folder / job(contest.folder, name="piped")).read_text()
    number = contest("start", stdin=text)[0].strip()
    assert number.isdigit()
    listed = json.loads(contest("list", "--tag", "nightly", "--json")[0])
    mine = next(entry for entry in listed["Data"]["Jobs"] if entry["JobID"] == int(number))
    assert (mine["Name"], mine["Requestor"]) == ("piped", "alice")
    assert f"\n{number} " in "\n" + contest("list")[0]
    assert contest("status", number)[0].startswith(f"job {number}  piped  ")


def test_a_typo_is_shown_at_its_place_and_exits_with_2(contest: Program) -> None:
    file = job(contest.folder, step="ecko", parameters="{text: [hi]}", name="typo")
    for command in (("start",), ("start", "--wait"), ("validate",)):
        _, err = contest(*command, file, status=2)
        line = err.splitlines()[0]
        assert line.startswith("typo.yaml:13:17: error: ")
        assert "ecko" in line
        assert "did you mean 'echo'" in line.replace('"', "'")
        assert "Traceback" not in err


def test_a_job_can_be_stopped_while_somebody_waits_for_it(contest: Program) -> None:
    file = job(contest.folder, step="sleep", parameters='{duration: ["1h"]}', name="nap", target="bed")
    with contest.begin("start", "--wait", file) as waiting:
        assert waiting.stderr is not None
        number = waiting.stderr.readline().split()[1]
        assert "bed" in contest("locks")[0]
        contest("stop", number)
        out, _ = waiting.communicate(timeout=SECONDS)
    assert waiting.returncode == 4
    assert "cancelled" in out
    assert contest("locks")[1] == "no target is locked\n"
    assert "ended already" in contest("stop", number, status=2)[1]


def test_ctrl_c_leaves_the_job_and_says_how_to_stop_it(contest: Program) -> None:
    file = job(contest.folder, step="sleep", parameters='{duration: ["1h"]}', name="left", target="cot")
    with contest.begin("start", "--wait", file) as waiting:
        assert waiting.stderr is not None
        number = waiting.stderr.readline().split()[1]
        waiting.send_signal(signal.SIGINT)
        _, err = waiting.communicate(timeout=SECONDS)
    assert waiting.returncode == 130
    assert f"job {number} goes on; `contest stop {number}` stops it" in err
    assert "Traceback" not in err
    assert "started" in contest("status", number)[0]
    contest("stop", number)


def test_a_job_that_waits_says_for_what_and_who_holds_it(contest: Program) -> None:
    first = job(contest.folder, step="sleep", parameters='{duration: ["1h"]}', name="holder", target="desk")
    holder = contest("start", first)[0].strip()
    with contest.begin("start", "--wait", job(contest.folder, name="waiter", target="desk")) as waiting:
        assert waiting.stderr is not None
        for line in waiting.stderr:
            if f"waiting for desk, held by job {holder}" in line:
                break
        else:
            raise AssertionError("nothing was said of waiting")
        contest("stop", holder)
        out, _ = waiting.communicate(timeout=SECONDS)
    assert waiting.returncode == 0
    assert "completed  passed" in out


def test_an_ended_job_is_run_again(contest: Program) -> None:
    number = contest("start", "--wait", job(contest.folder, name="again"))[0].split()[1]
    assert f"a retry of job {number}" in contest("retry", "--wait", number)[0]


def test_the_same_start_key_gives_the_same_job(contest: Program) -> None:
    file = job(contest.folder, name="keyed")
    first = contest("start", file, "--start-key", "monday")[0]
    assert contest("start", file, "--start-key", "monday")[0] == first
    other = job(contest.folder, name="other")
    contest("start", other, "--start-key", "monday", status=2)


def test_a_reader_of_the_list_may_go_away(contest: Program) -> None:
    contest("start", job(contest.folder, name="listed"))
    with contest.begin("list") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0


def test_on_a_terminal_progress_is_one_line_that_goes_away(contest: Program) -> None:
    master, slave = pseudo_terminal()
    file = job(contest.folder, step="sleep", parameters='{duration: ["1s"]}', name="shown", target="sofa")
    with contest.begin("start", "--wait", file, stderr=slave) as process:
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
        assert process.wait(SECONDS) == 0
    os.close(master)
    assert b"shown: " in written
    assert b"\n" not in written
    assert written.endswith(b"\r\x1b[K")


def test_a_server_that_is_restarted_meanwhile_is_waited_for(tmp_path: Path) -> None:
    program = Program(tmp_path)
    program.serve()
    port = program.environment["CONTEST_ADDRESS"].rpartition(":")[2]
    file = job(tmp_path, step="sleep", parameters='{duration: ["3s"]}', name="survivor")
    with program.begin("start", "--wait", file) as waiting:
        assert waiting.stderr is not None
        assert "survivor" in waiting.stderr.readline()
        assert program.server is not None
        program.server.kill()
        program.server.communicate(timeout=SECONDS)
        assert "waiting" in waiting.stderr.readline()
        config = tmp_path / "contest.yaml"
        config.write_text(config.read_text().replace("port: 0", f"port: {port}"))
        program.serve()
        out, _ = waiting.communicate(timeout=SECONDS)
    assert waiting.returncode == 0, out
    assert "completed  passed" in out
    program.end()


def test_a_command_can_spawn_the_server_that_it_asks(contest: Program) -> None:
    (contest.folder / "server.yaml").write_text(
        "listeners:\n  - stdio: {}\njob_manager:\n  local: {store: 'sqlite:///spawned.db'}\n"
    )
    (contest.folder / "program.py").write_text("from contest_core.cli import main\nmain()\n")
    address = f"stdio:{sys.executable} program.py serve -c server.yaml"
    out, _ = contest("start", "--wait", "-a", address, job(contest.folder, name="spawned"))
    assert "spawned  completed  passed" in out
    assert "spawned" in contest("list", "-a", address)[0]


def test_nobody_there_is_told_with_what_to_do(contest: Program) -> None:
    _, err = contest("list", "-a", "http://127.0.0.1:1", status=3)
    assert "cannot reach http://127.0.0.1:1" in err
    assert "`contest serve` starts a server" in err
