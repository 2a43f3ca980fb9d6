"""Every job in `configs/jobs` runs as its comment says: processes of `contest run`, by exit status and report."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

JOBS = Path(__file__).parents[1] / "configs" / "jobs"
PROGRAM = [sys.executable, "-c", "from contest_core.cli import main; main()"]
SECONDS = 50

FAILING = {"cleanup.yaml": 1, "failing.yaml": 1}
"""Exit statuses that are not 0."""

SAYS = {
    "chance.yaml": ["test chance: ", ">= 0.00%", "completed  passed"],
    "cleanup.yaml": ["completed  failed", "leaves a mess: 1 failed", "cleanup: 1 passed"],
    "command.json": ["vm-1    passed  kernel (1/1)"],
    "disabled.yaml": ["test runs: 1 passed", "not run: does not run"],
    "failing.yaml": [
        "completed  failed",
        "exit status 7: sensor 3 does not answer (blame: test)",
        "good    passed  after (2/2)",
        "report TargetSuccess: failure",
    ],
    "fetched.yaml": ["test smoke: 1 passed", "board-1  passed  smoke (2/2)"],
    "gather.yaml": ["board-1  passed  after (3/3)", "board-2  passed  after (3/3)"],
    "held-target.yaml": ["board-1  passed  hold (1/1)"],
    "hello.yaml": ["board-1  passed", "board-2  passed", "report TargetSuccess: success"],
    "interrupted.yaml": ["T1      passed  probe (1/1)"],
    "pool.yaml": ["test two boards: 2 passed", "board-2  passed  say (1/1)"],
    "retries.yaml": ["completed  passed  flaky", "warm up: 2 passed, attempt 2", "attempt 1: 2 failed"],
    "runs-and-tests.yaml": ["run 2", "test second: 1 passed", "final report TargetSuccess: success"],
    "templates.yaml": ["7       passed  show (1/1)"],
    "waitport.yaml": ["board-1  passed  up (2/2)"],
    "variables.yaml": ["board-1  passed  compare (2/2)"],
    "threshold.yaml": ["2 passed, 1 failed", "66.67% > 50.00%", "2.00 >= 2.00", "completed  passed"],
}
"""What stands in the report of each job that ends by itself."""

ENDLESS = "endless.yaml"


EVENTS = ("hello.yaml", "templates.yaml")
"""Jobs whose events are looked at, too."""

FORK = """
import os, sys
import contest_core.cli, contest_core.lifecycle, contest_runner.cli.running, contest_runner.manager
import contest_runner.store.sqlite, contest_steps.cmd, contest_steps.target_success
begun = {}
for command in sys.argv[1:]:
    name, _, options = command.partition(" ")
    sys.argv = ["contest", "run", "--quiet", *options.split(" ")]
    if not (pid := os.fork()):
        for number, kind in ((1, "out"), (2, "err")):
            os.dup2(os.open(f"{name}.{kind}", os.O_WRONLY | os.O_CREAT), number)
        contest_core.cli.main()
    begun[pid] = name
while begun:
    pid, status = os.wait()
    print(begun.pop(pid), os.waitstatus_to_exitcode(status))
"""
"""Runs commands side by side, each in a process that needs not import anything: that would be most of its time."""


class Done(NamedTuple):
    status: int
    out: str
    err: str


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Done]:
    """What came of each job, by its file's name; of its events, with `--json` behind that."""
    folder = tmp_path_factory.mktemp("jobs")
    (folder / "configs").symlink_to(JOBS.parent)
    commands = [f"{job} --strict {JOBS / job}" for job in SAYS]
    commands += [f"{job}--json --json {JOBS / job}" for job in EVENTS]
    fork = [sys.executable, "-c", FORK, *commands]
    ended = subprocess.run(fork, cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=True)
    return {
        name: Done(int(status), (folder / f"{name}.out").read_text(), (folder / f"{name}.err").read_text())
        for name, status in map(str.split, ended.stdout.splitlines())
    }


def written(done: Done) -> list[str]:
    """What the commands of a job wrote to stdout, where they emit that."""
    assert done.status == 0, done.err
    events: list[dict[str, Any]] = [json.loads(line)["Data"] for line in done.out.splitlines()]
    return [event["Payload"]["Msg"] for event in events if event["EventName"] == "CmdStdout"]


@pytest.mark.parametrize("job", sorted(SAYS))
def test_a_job_runs_as_its_comment_says(done: dict[str, Done], job: str) -> None:
    status, out, err = done[job]
    assert (status, err) == (FAILING.get(job, 0), "")
    for words in SAYS[job]:
        assert words in out


def test_an_endless_job_ends_after_its_run_when_it_is_told_to_drain() -> None:
    command = [*PROGRAM, "run", str(JOBS / ENDLESS)]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as process:
        assert process.stderr is not None
        assert any("run 2 began" in line for line in process.stderr)
        process.send_signal(signal.SIGUSR1)
        out, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 0
    assert "completed  passed" in out
    assert "final report" not in out


def test_templates_are_expanded_for_the_target(done: dict[str, Done]) -> None:
    assert written(done["templates.yaml--json"]) == ["RACK7.LAB.EXAMPLE.ORG\nHello World\nat 192.0.2.7\n7\n"]


def test_each_target_greets_by_its_own_name(done: dict[str, Done]) -> None:
    greetings = [f"hello from board-{n}, known as BOARD-{n}.EXAMPLE.ORG\n" for n in (1, 2)]
    assert sorted(written(done["hello.yaml--json"])) == greetings


def test_every_job_is_run_here_and_says_what_it_teaches() -> None:
    files = {file.name: file.read_text() for file in JOBS.iterdir()}
    assert sorted(files) == sorted([*SAYS, ENDLESS])
    for name, text in files.items():
        assert name.endswith(".json") or text.startswith("# "), f"{name} begins with no comment"
    assert {name for name, text in files.items() if "exit status 1" in text} == set(FAILING)
