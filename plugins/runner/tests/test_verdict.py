"""What a job comes to: verdicts, reports, runs without end, disabled tests."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any, ClassVar

import pytest
from msgspec import Struct

from contest_core.job_manager import Termination
from contest_runner.parts import Reporter, ReportResult
from contest_runner.testing import Lab, eventually, job_of, last_statuses, one_test, simple, step

FALSE = step("cmd", "false", executable="false")
TRUE = step("cmd", "true", executable="true")


class Nothing(Struct, frozen=True, kw_only=True):
    """No parameters."""


def judged(expression: str, final: str | None = None) -> dict[str, Any]:
    reporting: dict[str, Any] = {
        "RunReporters": [{"Name": "TargetSuccess", "Parameters": {"SuccessExpression": expression}}]
    }
    if final is not None:
        parameters = {"AverageSuccessExpression": final}
        reporting["FinalReporters"] = [{"Name": "TargetSuccess", "Parameters": parameters}]
    return reporting


def some_fail(number: int) -> Any:
    """A step that fails the targets up to a number."""
    script = f'test "${{1#t}}" -gt {number}'
    return step("cmd", "some", executable="sh", args=["-c", script, "sh", "{{ .ID }}"])


@pytest.mark.parametrize(
    ("expression", "failing", "verdict"),
    [
        (">50%", 1, "passed"),
        (">50%", 2, "failed"),
        ("=100%", 0, "passed"),
        (">=1", 3, "passed"),
        (">3", 1, "failed"),
    ],
)
async def test_a_judging_reporter_decides(lab: Lab, expression: str, failing: int, verdict: str) -> None:
    async with lab.server() as serving:
        targets = ("t1", "t2", "t3", "t4")
        job = simple(some_fail(failing), targets=targets, Reporting=judged(expression))
        status = await serving.run(job)
        assert status["State"] == "JobStateCompleted"
        assert status["Verdict"] == verdict
        [[report]] = status["JobReport"]["RunReports"]
        assert report["Success"] is (verdict == "passed")
        assert (await serving.entry(1))["Verdict"] == verdict


async def test_where_nobody_judges_a_failed_target_decides(lab: Lab) -> None:
    async with lab.server() as serving:
        assert (await serving.run(simple(FALSE)))["Verdict"] == "failed"
        assert (await serving.run(simple(TRUE)))["Verdict"] == "passed"
        both = job_of(one_test(FALSE, name="a"), one_test(TRUE, name="b"))
        assert (await serving.run(both))["Verdict"] == "failed"


async def test_a_final_report_counts_too(lab: Lab) -> None:
    async with lab.server() as serving:
        job = simple(some_fail(1), targets=("t1", "t2"), Runs=2, Reporting=judged(">=1", "=100%"))
        status = await serving.run(job)
        assert status["Verdict"] == "failed"
        [final] = status["JobReport"]["FinalReports"]
        assert final["Success"] is False
        assert "50.00% is not = 100.00%" in final["Data"][0]
        assert [[report["Success"] for report in run] for run in status["JobReport"]["RunReports"]] == [
            [True]
        ] * 2


@pytest.mark.parametrize(
    "outcome",
    [
        RuntimeError("no"),
        SystemExit(1),
        asyncio.CancelledError(),
        None,
        ReportResult(success=True, data=object()),
    ],
    ids=["raises", "exits", "cancels", "nothing", "no JSON"],
)
async def test_a_reporter_that_fails_is_an_error_and_its_report_says_no(lab: Lab, outcome: Any) -> None:
    class Bad(Reporter[Any, Any]):
        RunParameters: ClassVar[Any] = Any
        FinalParameters: ClassVar[Any] = Any
        judges = True

        async def run_report(self, status: Any, parameters: Any, context: Any) -> Any:
            if isinstance(outcome, BaseException):
                raise outcome
            return outcome

        final_report = run_report

    lab.add("reporters", "bad", Bad)
    async with lab.server() as serving:
        reporting = {"RunReporters": [{"Name": "bad"}, {"Name": "noop"}], "FinalReporters": [{"Name": "bad"}]}
        status = await asyncio.wait_for(serving.run(simple(TRUE, Reporting=reporting)), 5)
        assert status["State"] == "JobStateCompleted"
        assert (status["Verdict"], status["Blame"]) == ("error", "plugin")
        [[bad, noop]] = status["JobReport"]["RunReports"]
        assert (bad["Success"], bad["Data"]) == (False, None)
        assert noop["Success"] is True
        assert status["JobReport"]["FinalReports"][0]["Success"] is False
        assert (await serving.run(simple(TRUE)))["Verdict"] == "passed"


async def test_disabled_tests_are_named_and_not_run(lab: Lab) -> None:
    async with lab.server() as serving:
        job = job_of(one_test(FALSE, name="off", Disabled=True), one_test(TRUE, name="on"))
        status = await serving.run(job)
        assert status["Verdict"] == "passed"
        [run] = status["RunStatuses"]
        assert run["SkippedTests"] == ["off"]
        assert [test["TestName"] for test in run["TestStatuses"]] == ["on"]


async def test_an_endless_job_shows_its_last_ten_runs_and_ends_with_a_drain(lab: Lab) -> None:
    reporting = judged("=100%", "=100%")
    async with lab.server(at_exit=Termination.DRAIN) as serving:
        job = await serving.start(simple(step("echo", text="x"), Runs=0, Reporting=reporting))
        await eventually(lambda: _runs(serving, job), "fifteen runs")
        status = await serving.status(job)
        assert 10 <= len(status["RunStatuses"]) <= 11
        assert len(status["JobReport"]["RunReports"]) <= 11
        one = await serving.status(job, run=2)
        assert [run["RunID"] for run in one["RunStatuses"]] == [2]
    async with lab.server() as serving:
        status = await serving.status(job)
        assert status["State"] == "JobStateCompleted"
        assert status["Verdict"] == "passed"
        assert len(status["RunStatuses"]) == 10
        numbers = [run["RunID"] for run in status["RunStatuses"]]
        assert numbers == list(range(numbers[0], numbers[0] + 10))
        assert status["JobReport"]["FinalReports"] is None, (
            "as in ConTest: an endless job has no end to report"
        )


async def _runs(serving: Any, job: int) -> bool:
    return len(await serving.store.runs(job)) >= 15


async def test_runs_keep_their_interval(lab: Lab) -> None:
    async with lab.server() as serving:
        job = await serving.start(simple(step("echo", text="x"), Runs=3, RunInterval="100ms"))
        await serving.ended(job)
        starts = [row.time for row in await serving.events(job) if row.name == "RunStarted"]
        assert all(later - earlier >= 100_000 for earlier, later in pairwise(starts))


async def test_a_template_that_cannot_be_expanded_fails_its_target_as_the_tests_doing(lab: Lab) -> None:
    async with lab.server() as serving:
        text = '{{ if eq .ID "t1" }}{{ .Nothing }}{{ end }}'
        status = await serving.run(simple(step("echo", text=text), targets=("t1", "t2")))
        found = last_statuses(status)
        assert "failed to expand parameter 'text'" in found["t1"]["Error"]
        assert found["t1"]["Blame"] == "test"
        assert not found["t2"]["Error"]
        assert status["Verdict"] == "failed"
