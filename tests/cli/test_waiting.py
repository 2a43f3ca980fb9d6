"""`start --wait` and `retry --wait`: asking until the end, and exiting by the verdict."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import Result

from contest_core import (
    AnswerTimeout,
    ConnectionLost,
    ContestError,
    JobReport,
    JobState,
    Report,
    ResponseDataList,
    ResponseDataRetry,
    ResponseDataStart,
    ResponseDataStatus,
    TooLarge,
    UnknownJob,
    Unreachable,
    encode,
)
from contest_core.cli import asking, waiting

Invoke = Callable[..., Result]

JOB = '{"JobName": "smoke", "Version": "1.0"}'


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch, server: Any) -> None:
    monkeypatch.setattr(waiting, "LONGEST_PAUSE", 0.0)
    monkeypatch.setattr(waiting, "FIRST_PAUSE", 0.0)
    monkeypatch.setattr(waiting, "SHARE", 0)
    server.answers["start"] = [server.answer(ResponseDataStart(job_id=7))]


def seen(server: Any, *statuses: Any) -> None:
    server.answers["status"] = [server.answer(ResponseDataStatus(status=status)) for status in statuses]


@pytest.mark.parametrize(
    ("state", "verdict", "status"),
    [
        (JobState.COMPLETED, "passed", 0),
        (JobState.COMPLETED, "failed", 1),
        (JobState.FAILED, "error", 3),
        (JobState.CANCELLED, "cancelled", 4),
        (JobState.CANCELLATION_FAILED, "cancelled", 4),
        (JobState.COMPLETED, "a-newer-verdict", 3),
        (JobState.PAUSE_FAILED, None, 3),
    ],
)
def test_the_verdict_is_the_exit_status(
    invoke: Invoke, server: Any, state: JobState, verdict: str | None, status: int
) -> None:
    seen(server, server.status(JobState.STARTED), server.status(state, verdict=verdict))
    result = invoke("start", "--wait", stdin=JOB)
    assert result.exit_code == status
    assert result.stdout.startswith("job 7  smoke  ")


@pytest.mark.parametrize(
    ("state", "success", "status"),
    [
        (JobState.COMPLETED, True, 0),
        (JobState.COMPLETED, False, 1),
        (JobState.FAILED, True, 3),
        (JobState.CANCELLED, True, 4),
    ],
)
def test_contests_own_servers_give_no_verdict_so_reports_and_state_decide(
    invoke: Invoke, server: Any, state: JobState, success: bool, status: int
) -> None:
    time = server.status().start_time
    report = Report(job_id=7, run_id=1, reporter_name="R", report_time=time, success=success, data=None)
    reports = JobReport(job_id=7, run_reports=[[report]], final_reports=None)
    seen(server, server.status(state, job_report=reports))
    assert invoke("start", "--wait", stdin=JOB).exit_code == status


def test_a_change_is_a_line_on_stderr_and_the_same_state_is_not_told_twice(
    invoke: Invoke, server: Any
) -> None:
    started = server.status(JobState.STARTED)
    cancelling = server.status(JobState.CANCELLING)
    seen(server, started, started, cancelling, server.status(verdict="passed"))
    result = invoke("start", "--wait", stdin=JOB)
    assert result.stderr.splitlines() == ["job 7 smoke: started", "job 7 smoke: cancelling"]
    assert all(sent["events"] is False for sent in server.calls("status"))


def test_json_prints_the_answer_to_start_and_the_last_status(invoke: Invoke, server: Any) -> None:
    seen(server, server.status(JobState.STARTED), server.status(verdict="failed"))
    result = invoke("start", "--wait", "--json", stdin=JOB)
    first, last = map(json.loads, result.stdout.splitlines())
    assert result.exit_code == 1
    assert first["Data"]["JobID"] == 7
    assert last["Data"]["Status"]["Verdict"] == "failed"


def test_a_server_that_is_away_for_a_while_is_waited_for(invoke: Invoke, server: Any) -> None:
    seen(server, server.status(JobState.STARTED), server.status(verdict="passed"))
    away = [ConnectionLost(address="fake:", reason="gone"), *[Unreachable(address="fake:", reason="no")] * 9]
    server.answers["status"][1:1] = away
    result = invoke("start", "--wait", stdin=JOB)
    assert result.exit_code == 0
    assert "cannot reach fake:: no; waiting" in result.stderr
    assert "asking again" not in result.stderr


def test_a_server_that_stays_away_ends_the_waiting_with_a_hint(
    invoke: Invoke, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "PATIENCE", 0.1)
    server.answers["status"] = [Unreachable(address="fake:", reason="no")]
    result = invoke("start", "--wait", stdin=JOB)
    assert result.exit_code == 3
    assert "job 7 may go on; `contest status 7` shows it" in result.stderr


def test_a_refusal_ends_the_waiting(invoke: Invoke, server: Any) -> None:
    server.answers["status"] = [server.answer(ResponseDataStatus(status=None), UnknownJob(job_id=7))]
    assert invoke("start", "--wait", stdin=JOB).exit_code == 2


TOO_LARGE = encode(TooLarge(what="the answer", limit=1, hint="ask for a run"))


def by_state(server: Any, **states: list[bytes]) -> None:
    """Answers `list` by the one state that is asked for; the last answer stays."""
    nothing = server.answer(ResponseDataList(job_ids=[]))

    def choose() -> None:
        asked = str(server.calls("list")[-1].get("states", "")).removeprefix("JobState")
        answers = states.get(asked, [nothing])
        server.answers["list"] = [answers.pop(0) if len(answers) > 1 else answers[0]]

    server.then["list"] = choose


def test_a_job_whose_status_is_too_large_is_followed_by_the_list(invoke: Invoke, server: Any) -> None:
    server.answers["status"] = [TOO_LARGE]
    running = server.entry(7, state_name="JobStateStarted", verdict=None)
    nothing = server.answer(ResponseDataList(job_ids=[]))
    by_state(
        server,
        Started=[server.answer(ResponseDataList(job_ids=[7], jobs=[running])), nothing],
        Completed=[server.answer(ResponseDataList(job_ids=[7], jobs=[server.entry(7, verdict="failed")]))],
    )
    result = invoke("start", "--wait", stdin=JOB)
    assert result.exit_code == 1
    assert result.stdout.startswith("job 7  job-7  completed  failed\n  began ")
    assert "this is what the list says: the status is too large to be answered" in result.stdout
    assert "job 7  job-7  started" in result.stderr
    assert len(server.calls("status")) == 1


def test_a_list_of_numbers_says_the_state_and_leaves_the_verdict_open(invoke: Invoke, server: Any) -> None:
    server.offer()
    server.answers["status"] = [TooLarge(what="the answer", limit=64 << 20)]
    numbers = server.answer(ResponseDataList(job_ids=[6, 7, 8]))
    nothing = server.answer(ResponseDataList(job_ids=[]))
    by_state(server, Started=[numbers, nothing], Completed=[numbers])
    result = invoke("start", "--wait", stdin=JOB)
    assert result.exit_code == 3
    assert result.stdout.startswith("job 7  completed\n")
    assert "whether job 7 passed only its status says" in result.stderr


def test_a_job_that_a_list_of_numbers_has_as_failed_or_cancelled_exits_so(
    invoke: Invoke, server: Any
) -> None:
    server.offer()
    server.answers["status"] = [TOO_LARGE]
    by_state(server, Cancelled=[server.answer(ResponseDataList(job_ids=[7]))])
    result = invoke("start", "--wait", stdin=JOB)
    assert (result.exit_code, result.stderr) == (4, "")


def test_a_job_that_no_list_has_ends_the_waiting(invoke: Invoke, server: Any) -> None:
    server.answers["status"] = [TOO_LARGE]
    by_state(server)
    result = invoke("start", "--wait", stdin=JOB)
    assert result.exit_code == 2
    assert "there is no job 7" in result.stderr


def test_a_server_that_can_cut_a_status_up_is_asked_for_one_without_targets(
    invoke: Invoke, server: Any
) -> None:
    server.offer("status", "status.target", "status.events")
    outlines = [server.status(JobState.STARTED), server.status(verdict="failed")]
    server.answers["status"] = [
        TOO_LARGE,
        *(server.answer(ResponseDataStatus(status=status)) for status in outlines),
    ]
    result = invoke("start", "--wait", stdin=JOB)
    assert result.exit_code == 1
    assert [sent.get("target") for sent in server.calls("status")] == [None, " ", " "]
    assert result.stdout.startswith("job 7  smoke  completed  failed\n")
    assert "targets are not shown: the status is too large to be answered; --target ID" in result.stdout
    assert server.calls("list") == []


def test_where_a_status_without_targets_is_refused_the_list_is_asked(invoke: Invoke, server: Any) -> None:
    server.offer("status", "status.target", "status.events")
    refused = ContestError("job 7 has no target ' '", code="invalid_parameters")
    server.answers["status"] = [TOO_LARGE, server.answer(ResponseDataStatus(status=None), refused)]
    by_state(
        server,
        Completed=[server.answer(ResponseDataList(job_ids=[7], jobs=[server.entry(7, verdict="passed")]))],
    )
    assert invoke("start", "--wait", stdin=JOB).exit_code == 0


def test_a_status_that_is_not_answered_in_time_is_outlined_and_asked_for_again(
    invoke: Invoke, server: Any
) -> None:
    server.offer("status", "status.target", "status.events")
    late = encode(AnswerTimeout(verb="status", seconds=3))
    server.answers["status"] = [
        late,
        server.answer(ResponseDataStatus(status=server.status(JobState.STARTED))),
        server.answer(ResponseDataStatus(status=server.status(verdict="passed"))),
    ]
    result = invoke("start", "--wait", stdin=JOB)
    assert result.exit_code == 0
    assert [sent.get("target") for sent in server.calls("status")] == [None, " ", None]
    assert "targets are not shown" not in result.stdout


def test_pauses_grow_up_to_a_bound_and_with_the_time_that_an_answer_takes(
    invoke: Invoke, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    clock = 0.0
    took = iter([0.0] * 12 + [0.4, 0.0, 60.0])

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    def answering() -> None:
        nonlocal clock
        clock += next(took, 0.0)

    for name, value in (("FIRST_PAUSE", 0.2), ("LONGEST_PAUSE", 2.0), ("SHARE", 10)):
        monkeypatch.setattr(waiting, name, value)
    monkeypatch.setattr(waiting, "now", lambda: clock)
    monkeypatch.setattr("contest_core.cli.waiting.asyncio.sleep", sleep)
    server.then["status"] = answering
    seen(server, *[server.status(JobState.STARTED)] * 16, server.status(verdict="passed"))
    assert invoke("start", "--wait", stdin=JOB).exit_code == 0
    assert pauses[0] == 0.2
    assert pauses[1] == pytest.approx(0.26)
    assert pauses[10:] == [2.0, 2.0, 4.0, 2.0, 5.0, 2.0]


def test_a_retry_is_waited_for_as_a_start_is(invoke: Invoke, server: Any) -> None:
    server.answers["retry"] = [server.answer(ResponseDataRetry(job_id=7, new_job_id=8))]
    seen(server, server.status(verdict="cancelled"))
    assert invoke("retry", "7", "--wait").exit_code == 4
    assert server.calls("status")[0]["jobID"] == 8
