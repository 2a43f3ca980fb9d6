"""Retries of a test: what is repeated, when, what counts in the end, and what stays to be read."""

from __future__ import annotations

import asyncio
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

import pytest
from msgspec import Struct

from contest_core.job_manager import Termination
from contest_runner.parts import AcquireFailed, TargetManager
from contest_runner.step import Step, TargetFailed
from contest_runner.target import Target
from contest_runner.testing import Json, Lab, Serving, job_of, last_statuses, one_test, simple, step


class Nothing(Struct, frozen=True, kw_only=True):
    """No parameters."""


def failing(*plan: str | Exception, calls: list[tuple[int, str]] | None = None) -> type[Step[Any]]:
    """A step that fails, in each attempt, the targets named in one text of the plan, or raises the exception."""

    class Failing(Step[Nothing]):
        Parameters = Nothing
        display_name = "Failing"

        async def run(self, target: Any, parameters: Any, context: Any) -> None:
            attempt = context.info.attempt
            if calls is not None:
                calls.append((attempt, target.id))
            word = plan[attempt] if attempt < len(plan) else ""
            if isinstance(word, Exception):
                raise word
            if target.id in word.split():
                raise TargetFailed(f"not in attempt {attempt}")

    return Failing


def retried(
    *steps: Json, targets: tuple[str, ...] = ("a", "b"), times: int = 2, every: str = "0s", **more: Any
) -> Json:
    retry = {"NumRetries": times, "RetryInterval": every}
    return job_of(one_test(*steps, targets=targets, RetryParameters=retry), **more)


def the_test(status: Json, number: int = 0) -> Json:
    found: Json = status["RunStatus"]["TestStatuses"][number]
    return found


async def test_the_whole_test_is_repeated_until_all_targets_pass_and_the_last_attempt_counts(
    lab: Lab,
) -> None:
    calls: list[tuple[int, str]] = []
    lab.step("failing", failing("a", "b", calls=calls))
    async with lab.server() as serving:
        status = await serving.run(retried(step("failing"), step("echo", text="x"), times=5))
        assert (status["State"], status["Verdict"], status["Flaky"]) == ("JobStateCompleted", "passed", True)
        assert sorted(calls) == [(attempt, target) for attempt in range(3) for target in "ab"]
        assert {target: entry["TestStepLabel"] for target, entry in last_statuses(status).items()} == {
            "a": "echo",
            "b": "echo",
        }
        names = await serving.names(1)
        assert names.count("TargetAcquired") == names.count("TargetReleased") == 6
        assert names.count("RunStarted") == 1
        assert (await serving.entry(1))["Flaky"] is True


async def test_earlier_attempts_stay_readable_while_it_goes_and_after(lab: Lab) -> None:
    lab.step("failing", failing("a b", "a b"))
    async with lab.server() as serving:
        job = await serving.start(retried(step("failing"), step("sleep", duration="1h")))
        shown = await serving.until(
            job, lambda status: str(the_test(status)["TargetStatuses"]).count("'TestStepLabel': 'sleep'") == 2
        )
        await serving.stop(job)
        ended = await serving.ended(job)
    for status, over in ((shown, False), (ended, True)):
        test = the_test(status)
        first, second, third = test["Attempts"]
        assert [entry["Attempt"] for entry in test["Attempts"]] == [0, 1, 2]
        assert third["TargetStatuses"] == test["TargetStatuses"]
        for number, earlier in enumerate((first, second)):
            assert [entry["Error"] for entry in earlier["TargetStatuses"]] == [f"not in attempt {number}"] * 2
        assert first["EndTime"] <= second["StartTime"] <= second["EndTime"] <= third["StartTime"]
        assert third["EndTime"].startswith("0001") is not over
        assert [entry["InTime"] >= third["StartTime"] for entry in test["TargetStatuses"]] == [True] * 2
        headers = [step["TargetStatuses"] for step in test["TestStepStatuses"]]
        assert [len(entries or ()) for entries in headers] == [2, 2], "one entry a target"


async def test_a_status_of_one_target_or_without_events_has_that_of_all_attempts(lab: Lab) -> None:
    lab.step("failing", failing("a b"))
    script = step("cmd", executable="echo", args=["x"], emit_stdout=True)
    async with lab.server() as serving:
        job = retried(script, step("failing"))
        await serving.run(job)
        one = await serving.status(1, target="b")
        [test] = one["RunStatuses"][0]["TestStatuses"]
        assert [
            [entry["Target"]["ID"] for entry in attempt["TargetStatuses"]] for attempt in test["Attempts"]
        ] == [["b"]] * 2
        assert "CmdStdout" in str(await serving.status(1))
        assert "CmdStdout" not in str(await serving.status(1, events=False))
        part = await serving.status(1, test="t")
        assert part["RunStatuses"] == (await serving.status(1))["RunStatuses"]


async def test_one_attempt_is_not_told_of(lab: Lab) -> None:
    async with lab.server() as serving:
        status = await serving.run(retried(step("echo", text="x")))
        assert "Attempts" not in the_test(status)
        assert "CleanupStepStatuses" not in the_test(status)
        assert "Flaky" not in status


async def test_the_last_failure_counts_and_those_before_do_not(lab: Lab) -> None:
    lab.step("failing", failing("a", "a b", "b"))
    lab.step("crashing", failing(RuntimeError("no"), RuntimeError("no")))
    lab.step("ending", failing("a", "a", RuntimeError("no")))
    async with lab.server() as serving:
        status = await serving.run(retried(step("failing")))
        assert (status["Verdict"], status["Flaky"]) == ("failed", True)
        assert {target: bool(entry["Error"]) for target, entry in last_statuses(status).items()} == {
            "a": False,
            "b": True,
        }
        status = await serving.run(retried(step("crashing")))
        assert (status["Verdict"], status.get("Blame")) == ("passed", None)
        status = await serving.run(retried(step("ending")))
        assert (status["Verdict"], status["Blame"]) == ("error", "plugin")


async def test_a_reporter_judges_the_last_attempt_alone(lab: Lab) -> None:
    """ConTest's D10: results of an earlier attempt's later steps are shown as final."""
    lab.step("early", failing("", "a b"))
    lab.step("late", failing("b"))
    reporting = {"RunReporters": [{"Name": "TargetSuccess", "Parameters": {"SuccessExpression": ">=50%"}}]}
    async with lab.server() as serving:
        status = await serving.run(retried(step("early"), step("late"), times=1, Reporting=reporting))
        assert status["Verdict"] == "failed"
        assert "0.00% is not >= 50.00%" in status["JobReport"]["RunReports"][0][0]["Data"][0]


async def test_the_interval_counts_from_the_end_of_the_attempt_with_everything_unlocked(lab: Lab) -> None:
    lab.step("failing", failing("a", "a"))
    async with lab.server() as serving:
        job = await serving.start(retried(step("failing"), every="300ms"))
        other = await serving.start(simple(step("echo", text="x"), targets=("a", "b")))
        status = await serving.ended(job)
        attempts = the_test(status)["Attempts"]
        ends, starts = (
            [datetime.fromisoformat(entry[key]) for entry in attempts] for key in ("EndTime", "StartTime")
        )
        waits = [(start - end).total_seconds() for end, start in zip(ends, starts[1:], strict=False)]
        assert all(0.29 < wait < 2 for wait in waits)
        between = the_test(await serving.ended(other))["TargetStatuses"][0]["InTime"]
        assert datetime.fromisoformat(between) < starts[-1]


async def test_a_stop_in_the_interval_ends_the_job_at_once_and_nothing_is_tried_again(lab: Lab) -> None:
    calls: list[tuple[int, str]] = []
    lab.step("failing", failing("a", calls=calls))
    async with lab.server() as serving:
        job = await serving.start(retried(step("failing"), targets=("a",), every="1h"))
        await serving.until(job, lambda status: "Error': 'not" in str(status) and status)
        while await serving.locks():
            await asyncio.sleep(0.01)
        await serving.stop(job)
        status = await asyncio.wait_for(serving.ended(job), 3)
        assert (status["State"], status["Verdict"]) == ("JobStateCancelled", "cancelled")
        assert calls == [(0, "a")]


async def test_targets_that_cannot_be_had_are_asked_for_again(lab: Lab) -> None:
    asked: list[int] = []

    class Shy(TargetManager[Nothing, Nothing]):
        AcquireParameters = ReleaseParameters = Nothing

        async def acquire(self, parameters: Any, context: Any) -> Any:
            asked.append(1)
            if len(asked) < 3:
                raise AcquireFailed("not yet")
            return [Target(id="late")]

        async def release(self, targets: Any, parameters: Any, context: Any) -> None:
            pass

    lab.add("target_managers", "shy", Shy)
    async with lab.server() as serving:
        job = retried(step("echo", text="x"))
        job["TestDescriptors"][0] |= {"TargetManagerName": "shy", "TargetManagerAcquireParameters": {}}
        status = await serving.run(job)
        assert (status["Verdict"], status["Flaky"]) == ("passed", True)
        attempts = the_test(status)["Attempts"]
        first = [entry["TargetStatuses"][0] for entry in attempts]
        assert [entry["Error"] for entry in first] == ["not yet", "not yet", ""]
        assert [entry.get("Blame") for entry in first] == ["infrastructure", "infrastructure", None]
        asked.clear()
        job["TestDescriptors"][0]["RetryParameters"] = {"NumRetries": 1}
        status = await serving.run(job)
        assert (status["Verdict"], status["Blame"]) == ("error", "infrastructure")


async def test_nothing_crosses_from_one_attempt_to_the_next(lab: Lab) -> None:
    seen: list[Any] = []

    class Keeps(Step[Nothing]):
        Parameters: ClassVar[type[Struct]] = Nothing
        display_name = "Keeps"

        async def run(self, target: Any, parameters: Any, context: Any) -> None:
            seen.append((context.saved, dict(context.variables)))
            await context.save("state")
            await context.set_variable("v", 1)

    lab.step("keeps", Keeps)
    lab.step("failing", failing("a"))
    async with lab.server() as serving:
        assert (await serving.run(retried(step("keeps"), step("failing"), targets=("a",))))["Flaky"]
    assert seen == [(None, {})] * 2


async def test_a_run_and_a_test_have_retries_of_their_own(lab: Lab) -> None:
    lab.step("failing", failing("a"))
    retry = {"NumRetries": 1}
    tests = [
        one_test(step("failing"), name=name, targets=("a",), RetryParameters=retry) for name in ("one", "two")
    ]
    async with lab.server() as serving:
        status = await serving.run(job_of(*tests, Runs=2))
        assert [len(test["Attempts"]) for run in status["RunStatuses"] for test in run["TestStatuses"]] == [
            2
        ] * 4
        assert status["Verdict"] == "passed"


async def tries(serving: Serving, job: int, number: int) -> None:
    async def begun() -> bool:
        return sum(row.name == "TargetReleased" for row in await serving.events(job)) >= number

    async with asyncio.timeout(10):
        while not await begun():
            await asyncio.sleep(0.01)


async def test_a_drain_waits_for_retries(lab: Lab) -> None:
    lab.step("failing", failing("a", "a"))
    async with lab.server(at_exit=Termination.DRAIN) as serving:
        job = await serving.start(retried(step("failing"), targets=("a",), every="200ms"))
        await tries(serving, job, 1)
    async with lab.server() as serving:
        assert (await serving.entry(job))["Verdict"] == "passed"


@pytest.mark.parametrize("interval", ["-1h", "0s"])
async def test_an_interval_of_nothing_is_no_wait(lab: Lab, interval: str, tmp_path: Path) -> None:
    lab.step("failing", failing("a"))
    async with lab.server() as serving:
        status = await asyncio.wait_for(
            serving.run(retried(step("failing"), targets=("a",), every=interval)), 5
        )
        assert status["Verdict"] == "passed"
