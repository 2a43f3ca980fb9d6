"""`contest report`: what it asks for, what it prints, and where it writes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from junitparser import JUnitXml

from contest_core import (
    JobState,
    JobStatus,
    ResponseDataList,
    ResponseDataStatus,
    RunStatus,
    TargetInfo,
    TargetStatus,
    TestStatus,
    TestStepStatus,
    TooLarge,
    UnknownJob,
    encode,
)

Invoke = Callable[..., Result]

LISTS = ("list", "status", "status.events", "status.run", "status.test", "status.target", "list.since")


def run_of(server: Any, *names: str, run_id: int = 1, error: str = "") -> RunStatus:
    """A run with tests of these names, each with one target."""
    noon = server.status().start_time
    tests = []
    for name in names:
        where: dict[str, Any] = {"job_id": 7, "run_id": run_id, "test_name": name}
        step = {"test_step_name": "Cmd", "test_step_label": "only"}
        target = TargetStatus(
            **where,
            **step,
            target=TargetInfo(id=f"{name}-board"),
            in_time=noon,
            out_time=noon + timedelta(seconds=1),
            error=error,
            events=None,
        )
        steps = [TestStepStatus(**where, **step, events=None, target_statuses=[target])]
        tests.append(TestStatus(**where, test_step_statuses=steps, target_statuses=[target]))
    return RunStatus(job_id=7, run_id=run_id, start_time=noon, test_statuses=tests)


def answers(server: Any, status: JobStatus, *tags: str) -> None:
    server.answers["status"] = [server.answer(ResponseDataStatus(status=status))]
    entries = [server.entry(6, requestor="bob"), server.entry(7, tags=list(tags))]
    server.answers["list"] = [server.answer(ResponseDataList(job_ids=[6, 7], jobs=entries))]


def test_a_report_is_markdown_where_nothing_else_is_said(invoke: Invoke, server: Any) -> None:
    answers(server, server.status(run_statuses=[run_of(server, "Boot")], verdict="passed"), "nightly")
    result = invoke("report", "7")
    assert result.exit_code == 0
    assert result.stdout.startswith("# job 7: smoke: passed\n\n- requestor: alice\n- tags: nightly\n")
    assert "| Boot-board | passed | only | 1.00 s |  |" in result.stdout


def test_events_are_not_asked_for_and_the_job_is_found_by_when_it_began(invoke: Invoke, server: Any) -> None:
    server.offer(*LISTS)
    answers(server, server.status(run_statuses=[run_of(server, "Boot")]))
    assert "requestor: alice" in invoke("report", "7").stdout
    assert [asked["events"] for asked in server.calls("status")] == [False]
    [asked] = server.calls("list")
    assert asked["since"] == "2026-01-02T12:00:00Z"
    assert asked["until"] == "2026-01-02T12:00:00.001000Z"


def test_a_job_that_is_not_listed_by_its_time_is_found_by_its_state(invoke: Invoke, server: Any) -> None:
    server.offer(*LISTS)
    answers(server, server.status(JobState.STARTED, run_statuses=[run_of(server, "Boot")]))
    listed = server.answers["list"]
    server.answers["list"] = [server.answer(ResponseDataList(job_ids=[])), *listed]
    assert "requestor: alice" in invoke("report", "7").stdout
    assert server.calls("list")[1]["states"] == "JobStateStarted"


def test_a_server_of_contests_own_that_lists_numbers_is_reported_of_as_well(
    invoke: Invoke, server: Any
) -> None:
    server.offer()
    run = run_of(server, "Boot", error="exit status 1")
    server.answers["status"] = [server.answer(ResponseDataStatus(status=server.status(run_status=run)))]
    server.answers["list"] = [server.answer(ResponseDataList(job_ids=[7]))]
    result = invoke("report", "7", "--format", "junit")
    assert result.exit_code == 0
    found = JUnitXml.fromstring(result.stdout_bytes)
    assert (found.tests, found.failures) == (1, 1)
    assert server.calls("status")[0].get("events") is None


def test_a_file_is_written_and_its_name_told(invoke: Invoke, server: Any, tmp_path: Path) -> None:
    answers(server, server.status(run_statuses=[run_of(server, "Boot")]))
    path = tmp_path / "new" / "results.xml"
    result = invoke("report", "7", "--format", "junit", "--output", str(path))
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == f"{path}: job 7: smoke\n"
    assert JUnitXml.fromfile(str(path)).tests == 1


def test_a_file_that_cannot_be_written_is_named(invoke: Invoke, server: Any, tmp_path: Path) -> None:
    answers(server, server.status())
    result = invoke("report", "7", "-f", "tap", "-o", str(tmp_path))
    assert result.exit_code == 3
    assert result.stderr == f"contest: cannot write {tmp_path}: Is a directory\n"


def test_a_dash_is_stdout(invoke: Invoke, server: Any) -> None:
    answers(server, server.status(run_statuses=[run_of(server, "Boot")]))
    assert invoke("report", "7", "-f", "tap", "-o", "-").stdout.startswith("TAP version 13\n1..1\n")


def test_json_prints_the_status_and_goes_with_nothing_else(invoke: Invoke, server: Any) -> None:
    answers(server, server.status())
    assert invoke("report", "7", "--json").stdout.startswith('{"ServerID":"lab","Type":"ResponseTypeStatus"')
    wrong = invoke("report", "7", "--json", "--format", "tap")
    assert wrong.exit_code == 2
    assert "it goes without --format" in wrong.stderr


def test_one_run_is_asked_for(invoke: Invoke, server: Any) -> None:
    answers(server, server.status(run_statuses=[run_of(server, "Boot", run_id=3)]))
    assert "Boot (run 3)" in invoke("report", "7", "--run", "3").stdout
    assert server.calls("status")[0]["run"] == 3


def test_a_status_that_is_too_large_is_asked_for_test_by_test(invoke: Invoke, server: Any) -> None:
    server.offer(*LISTS)
    whole = server.status(run_statuses=[run_of(server, "Boot", "Soak")])
    answers(server, whole)
    parts = [server.status(run_statuses=[run_of(server, name)]) for name in ("Boot", "Soak")]
    too_large = encode(TooLarge(what="the status", limit=1, size=2, hint="ask for less"))
    server.answers["status"] = [
        too_large,
        *(server.answer(ResponseDataStatus(status=each)) for each in (whole, *parts)),
    ]
    result = invoke("report", "7", "--format", "tap")
    assert result.exit_code == 0, result.stderr
    assert [line for line in result.stdout.splitlines() if line.startswith("ok")] == [
        "ok 1 - Boot: Boot-board",
        "ok 2 - Soak: Soak-board",
    ]
    assert [asked.get("test") for asked in server.calls("status")][-2:] == ["Boot", "Soak"]


def test_a_status_that_cannot_be_cut_up_is_refused_in_the_servers_words(invoke: Invoke, server: Any) -> None:
    server.offer()
    server.answers["status"] = [encode(TooLarge(what="the status", limit=1, size=2, hint="ask for less"))]
    result = invoke("report", "7")
    assert result.exit_code == 2
    assert "ask for less" in result.stderr


def test_a_job_that_there_is_not_is_no_report(invoke: Invoke, server: Any) -> None:
    server.answers["status"] = [server.answer(ResponseDataStatus(status=None), UnknownJob(job_id=7))]
    result = invoke("report", "7", "--format", "junit")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "no job 7" in result.stderr


@pytest.mark.parametrize("arguments", [("report",), ("report", "7", "--format", "html")])
def test_wrong_usage_is_refused(invoke: Invoke, arguments: tuple[str, ...]) -> None:
    assert invoke(*arguments).exit_code == 2
