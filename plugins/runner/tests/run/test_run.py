"""`contest run` as people and scripts use it: what it says, where, and the status with which it exits."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import pytest

HELLO = ("echo", {"text": ["hello {{ .ID }}"]})
FAILING = (
    "cmd",
    {"executable": ["sh"], "args": ["-c", "echo first >&2; echo $0 >&2; test $0 = a", "{{ .ID }}"]},
)


def test_a_job_that_passes_exits_with_0_and_ends_its_report_with_the_verdict(program: Any) -> None:
    done = program.run(program.job(HELLO, HELLO))
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[0] == "job 1  job  completed  passed"
    assert "  test the test: 2 passed" in lines
    assert lines[-1] == "verdict: passed (2 targets)"
    assert any(line.startswith("report TargetSuccess: success  Test the test passes") for line in lines)
    assert done.stderr.splitlines() == ["job 1 started", "run 1 of 1 began", "job 1 completed"]


def test_a_job_that_fails_exits_with_1_and_shows_why_on_the_way_and_in_the_report(program: Any) -> None:
    done = program.run(program.job(FAILING))
    assert done.returncode == 1
    told = done.stderr.splitlines()
    start = told.index("failed: the test: b: step_1: exit status 1: first")
    assert told[start + 1 : start + 3] == ["    first", "    b"]
    assert "    b: stderr (8 bytes)\n      first\n      b\n" in done.stdout
    assert done.stdout.endswith("verdict: failed (1 of 2 targets failed)\n")


def test_a_fault_of_a_plugin_exits_with_3_and_not_with_a_verdict_about_the_test(program: Any) -> None:
    program.install()
    done = program.run(program.job(("broken", {})))
    assert done.returncode == 3
    assert done.stdout.endswith("verdict: error (2 of 2 targets failed, blame: plugin)\n")
    assert "RuntimeError: this plugin is broken" in done.stderr
    assert "Traceback" in done.stderr


@pytest.mark.parametrize("arguments", [(), ("-",)])
def test_a_job_in_yaml_can_be_piped_in(program: Any, arguments: tuple[str, ...]) -> None:
    yaml = """
JobName: piped
Runs: 1
TestDescriptors:
  - TargetManagerName: TargetList
    TargetManagerAcquireParameters: {Targets: [{ID: board}]}
    TargetManagerReleaseParameters: {}
    TestFetcherName: literal
    TestFetcherFetchParameters:
      TestName: t
      Steps: [{name: echo, label: hello, parameters: {text: [hello]}}]
Reporting:
  RunReporters: [{Name: noop}]
"""
    done = program.run(*arguments, input=yaml)
    assert done.returncode == 0
    assert "job 1  piped  completed  passed" in done.stdout


def test_a_typo_is_shown_at_its_place_and_nothing_is_run(program: Any) -> None:
    file = program.folder / program.job(("ecko", {"text": ["x"]}))
    done = program.run(file.name)
    line = next(
        number for number, text in enumerate(file.read_text().splitlines(), 1) if '"name": "ecko"' in text
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert f"{file.name}:{line}:" in done.stderr
    assert "unknown step 'ecko', did you mean 'echo'?" in done.stderr
    assert done.stderr.endswith(f"{file.name}: the job is refused: 1 error\n")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "it is empty"),
        ("{", "bad.yaml:1:2: error: "),
        ("- 1\n", "this is a list"),
        ("a: [\n", "bad.yaml:2:1"),
    ],
)
def test_a_file_that_is_no_job_exits_with_2(program: Any, content: str, said: str) -> None:
    (program.folder / "bad.yaml").write_text(content)
    done = program.run("bad.yaml")
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_that_is_not_there_exits_with_2(program: Any) -> None:
    done = program.run("nothing.yaml")
    assert (done.returncode, done.stderr) == (2, "contest: nothing.yaml: No such file or directory\n")


def test_warnings_are_told_and_with_strict_they_refuse_the_job(program: Any) -> None:
    file = program.job(HELLO, Colour="red")
    done = program.run(file)
    assert done.returncode == 0
    assert "warning: " in done.stderr
    strict = program.run("--strict", file)
    assert strict.returncode == 2
    assert strict.stdout == ""
    assert strict.stderr.endswith("the job is refused: --strict takes warnings for errors\n")


def test_with_json_stdout_has_the_jobs_events_a_line_each(program: Any) -> None:
    done = program.run("--json", program.job(FAILING))
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 1
    assert [event["SequenceID"] for event in events] == list(range(1, len(events) + 1))
    assert {"EmitTime", "Header", "Data", "Cursor"} <= events[0].keys()
    names = [event["Data"]["EventName"] for event in events]
    assert (names[0], names[-1]) == ("JobStateStarted", "JobStateCompleted")
    failed = next(event for event in events if event["Data"]["EventName"] == "TargetErr")
    assert failed["Data"]["Target"] == {"ID": "b"}
    assert failed["Data"]["Payload"]["Output"]["Stderr"] == "first\nb\n"
    assert done.stderr.endswith("verdict: failed (1 of 2 targets failed)\n")


def test_what_a_step_prints_does_not_reach_stdout(program: Any) -> None:
    program.install()
    done = program.run("--json", program.job(("loud", {})))
    assert done.returncode == 0
    assert all(isinstance(json.loads(line), dict) for line in done.stdout.splitlines())
    assert "printed" in done.stderr
    assert "written" in done.stderr
    report = program.run("job.json")
    assert report.stdout.startswith("job 1  job  completed")


def test_quiet_says_nothing_but_the_report(program: Any) -> None:
    done = program.run("--quiet", program.job(FAILING))
    assert (done.returncode, done.stderr) == (1, "")


def test_control_characters_of_targets_do_not_reach_a_person(program: Any) -> None:
    noisy = ("cmd", {"executable": ["sh"], "args": ["-c", r"printf 'one\n\033[2J\001two\n' >&2; exit 1"]})
    done = program.run(program.job(noisy))
    assert done.returncode == 1
    assert "\x1b" not in done.stderr


def test_a_job_of_several_runs_is_told_run_by_run(program: Any) -> None:
    done = program.run(program.job(HELLO, Runs=2))
    assert done.returncode == 0
    assert "run 1 of 2 began\nrun 2 of 2 began" in done.stderr
    assert done.stdout.count("  test the test: 2 passed") == 2


def test_more_failures_than_anybody_reads_are_not_told_one_by_one(program: Any) -> None:
    done = program.run(
        program.job(("cmd", {"executable": ["false"]}), targets=[f"t{number}" for number in range(60)])
    )
    assert done.stderr.count("failed: ") == 50
    assert "more failures are not told as they come" in done.stderr
    assert "and 20 more targets\n" in done.stdout
    assert done.stdout.endswith("verdict: failed (60 of 60 targets failed)\n")


def test_the_requestor_is_who_is_named_or_whoever_runs_it(program: Any) -> None:
    file = program.job(HELLO)
    program.run(file, "--store", "kept.db", "--requestor", "bob")
    program.run(file, "--store", "kept.db", env={**program.environment, "LOGNAME": "alice"})
    assert _column(program.folder / "kept.db", "requestor") == ["bob", "alice"]


def test_a_requestor_that_is_too_long_exits_with_2(program: Any) -> None:
    done = program.run(program.job(HELLO), "--requestor", "x" * 33)
    assert done.returncode == 2
    assert "requestor" in done.stderr


def test_a_store_that_is_kept_has_all_jobs_that_ran_on_it(program: Any) -> None:
    file = program.job(HELLO)
    first, second = (program.run(file, "--store", "kept.db") for _ in range(2))
    assert (first.returncode, second.returncode) == (0, 0)
    assert second.stdout.startswith("job 2  job  completed")
    assert _column(program.folder / "kept.db", "verdict") == ["passed", "passed"]


def test_nothing_is_left_behind(program: Any) -> None:
    file = program.job(FAILING)
    before = sorted(path.name for path in program.folder.iterdir())
    for _ in range(2):
        assert program.run(file).returncode == 1
    assert sorted(path.name for path in program.folder.iterdir()) == before
    assert program.leftovers() == []


def test_a_store_that_cannot_be_opened_says_why(program: Any) -> None:
    file = program.job(HELLO)
    (program.folder / "no.db").write_text("this is no database, whatever its name says")
    done = program.run(file, "--store", "no.db")
    assert done.returncode == 3
    assert "no.db" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_full_disk_under_stdout_is_said(program: Any) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("there is no /dev/full here")
    file = program.job(HELLO)
    for arguments in ((), ("--json",)):
        with full.open("w") as stdout:
            done = program.run(file, *arguments, stdout=stdout, stderr=subprocess.PIPE, capture_output=False)
        assert done.returncode == 3
        assert "cannot write to stdout: No space left on device" in done.stderr


def test_a_closed_stdout_is_no_error(program: Any) -> None:
    file = program.job(FAILING)
    for arguments in ("", "--json"):
        script = f'"$@" {file} {arguments} >&-'
        command = ["sh", "-c", script, "sh", *program.command]
        done = subprocess.run(
            command, cwd=program.folder, env=program.environment, capture_output=True, text=True, timeout=40
        )
        assert done.returncode == 1
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("closed", ["<&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_are_no_error(program: Any, closed: str) -> None:
    command = ["sh", "-c", f'"$@" {closed}', "sh", *program.command, program.job(HELLO)]
    options: dict[str, Any] = {"capture_output": True, "text": True, "timeout": 40}
    done = subprocess.run(command, cwd=program.folder, env=program.environment, **options)
    assert done.returncode == 0
    report = "" if " >&-" in closed else "verdict: passed (2 targets)\n"
    assert done.stdout.endswith(report)
    assert "Traceback" not in done.stderr


def test_a_closed_stdin_is_no_job(program: Any) -> None:
    command = ["sh", "-c", '"$@" <&-', "sh", *program.command]
    options: dict[str, Any] = {"capture_output": True, "text": True, "timeout": 40}
    done = subprocess.run(command, cwd=program.folder, env=program.environment, **options)
    assert done.returncode == 2
    assert done.stderr == "contest: stdin is closed, and no file with a job descriptor is named\n"


@pytest.mark.parametrize("grace", ["0s", "-1s", "soon", ""])
def test_a_grace_that_is_none_is_refused(program: Any, grace: str) -> None:
    done = program.run(program.job(HELLO), "--stop-grace", grace)
    assert done.returncode == 2
    assert "--stop-grace" in done.stderr


def _column(store: Path, name: str) -> list[Any]:
    connection = sqlite3.connect(store)
    try:
        return [row[0] for row in connection.execute(f"SELECT {name} FROM jobs ORDER BY job_id")]
    finally:
        connection.close()
