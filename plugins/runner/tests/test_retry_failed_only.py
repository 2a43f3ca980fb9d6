"""`retry` with `failedOnly`: a new job of only those targets that did not pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import pytest
from msgspec import Struct

from contest_core import ContestError, JobQuery
from contest_runner.parts import AcquireContext, NoSettings, ReleaseContext, TargetManager
from contest_runner.target import Target
from contest_runner.testing import Json, Lab, Serving, job_of, last_statuses, one_test, simple, step

FAILS = step("cmd", "check", executable="/bin/sh", args=["-c", 'case "{{.ID}}" in bad*) exit 1;; esac'])


async def failed_only(serving: Serving, job_id: int) -> Json:
    """The status of the new job at its end."""
    data = (await serving.api.retry(serving.caller, job_id, failed_only=True)).result()
    status = await serving.ended(data.new_job_id)
    assert status["RetryOf"] == job_id
    return status


async def refusal(serving: Serving, job_id: int) -> ContestError:
    error = (await serving.api.retry(serving.caller, job_id, failed_only=True)).error
    assert error is not None
    return error


def blame(entry: Json) -> str:
    """Whose fault it is that the targets could not be had."""
    found: str = entry["Events"][0]["Data"]["Payload"]["Blame"]
    return found


async def test_only_the_targets_that_failed_are_run_again(lab: Lab) -> None:
    async with lab.server() as serving:
        first = await serving.start(simple(FAILS, targets=["good", "bad1", "fine", "bad2"]))
        await serving.ended(first)
        status = await failed_only(serving, first)
        assert list(last_statuses(status)) == ["bad1", "bad2"]
        assert status["Verdict"] == "failed"


async def test_a_retry_of_a_retry_keeps_to_its_targets(lab: Lab) -> None:
    async with lab.server() as serving:
        first = await serving.start(simple(FAILS, targets=["good", "bad"]))
        await serving.ended(first)
        second = (await serving.api.retry(serving.caller, first, failed_only=True)).result().new_job_id
        await serving.ended(second)
        again = (await serving.api.retry(serving.caller, second)).result().new_job_id
        assert list(last_statuses(await serving.ended(again))) == ["bad"]
        assert list(last_statuses(await failed_only(serving, again))) == ["bad"]


async def test_a_test_in_which_all_targets_passed_is_left_out(lab: Lab) -> None:
    tests = [
        one_test(step("echo", text="x"), name="smoke"),
        one_test(FAILS, name="load", targets=["a", "bad"]),
    ]
    off = one_test(step("echo", text="x"), name="off", Disabled=True)
    async with lab.server() as serving:
        first = await serving.start(job_of(*tests, off))
        await serving.ended(first)
        run = (await failed_only(serving, first))["RunStatus"]
        assert [test["TestName"] for test in run["TestStatuses"]] == ["load"]
        assert sorted(run["SkippedTests"]) == ["off", "smoke"]


async def test_a_target_that_failed_in_any_of_the_runs_has_failed(lab: Lab, tmp_path: Any) -> None:
    once = f'test {{{{.ID}}}} = steady || mkdir "{tmp_path}/{{{{.ID}}}}"'
    flaky = step(
        "cmd", "check", executable="/bin/sh", args=["-c", f"! {{ {once}; }} 2>/dev/null || exit 0; exit 1"]
    )
    # `mkdir` works once a target: the first run passes, the second does not.
    async with lab.server() as serving:
        first = await serving.start(simple(flaky, targets=["steady", "worn"], Runs=2))
        status = await serving.ended(first)
        failed = [
            {entry["Target"]["ID"] for entry in run["TestStatuses"][0]["TargetStatuses"] if entry["Error"]}
            for run in status["RunStatuses"]
        ]
        assert failed == [set(), {"worn"}]
        assert list(last_statuses(await failed_only(serving, first))) == ["worn"]


async def test_a_target_that_a_retry_saved_has_passed(lab: Lab, tmp_path: Any) -> None:
    second_time = step("cmd", "check", executable="/bin/sh", args=["-c", f'! mkdir "{tmp_path}/{{{{.ID}}}}"'])
    job = job_of(one_test(second_time, targets=["a", "b"], RetryParameters={"NumRetries": 1}))
    async with lab.server() as serving:
        first = await serving.start(job)
        assert (await serving.ended(first))["Flaky"]
        assert "no target of job 1 failed" in str(await refusal(serving, first))


async def test_targets_that_never_came_to_their_end_are_run_again(lab: Lab) -> None:
    slow = step("cmd", "check", executable="/bin/sh", args=["-c", 'test "{{.ID}}" = quick || exec sleep 60'])
    async with lab.server() as serving:
        first = await serving.start(simple(slow, targets=["quick", "slow"]))
        await serving.until(
            first, lambda status: last_statuses(status).get("quick", {}).get("OutTime", "0")[0] != "0"
        )
        assert await serving.stop(first) is None
        assert (await serving.ended(first))["State"] == "JobStateCancelled"
        data = (await serving.api.retry(serving.caller, first, failed_only=True)).result()
        status = await serving.until(data.new_job_id, last_statuses)
        assert list(last_statuses(status)) == ["slow"]


async def test_a_test_whose_targets_could_not_be_had_is_run_whole(lab: Lab) -> None:
    impossible = one_test(step("echo", text="x"), targets=["a", "b"])
    async with lab.server() as serving:
        holder = await serving.start(simple(step("sleep", duration="60s"), targets=["b"]))
        await serving.until(holder, last_statuses)
        first = await serving.start(job_of(impossible, TargetManagerAcquireTimeout="10ms"))
        assert (await serving.ended(first))["Verdict"] == "error"
        await serving.stop(holder)
        await serving.ended(holder)
        assert list(last_statuses(await failed_only(serving, first))) == ["a", "b"]


async def test_where_nothing_failed_there_is_nothing_to_retry(lab: Lab) -> None:
    async with lab.server() as serving:
        first = await serving.start(simple(step("echo", text="x")))
        await serving.ended(first)
        error = await refusal(serving, first)
        assert error.code == "invalid_parameters"
        assert str(error) == "no target of job 1 failed: there is nothing to retry with failedOnly"
        assert (await serving.api.list(serving.caller, JobQuery())).result().job_ids == [1]


async def test_a_pool_is_narrowed_to_the_targets_that_failed(lab: Lab, tmp_path: Any) -> None:
    pool = tmp_path / "pool.csv"
    pool.write_text("".join(f"{name},{name}.lab,,\n" for name in ("good", "bad1", "fine", "bad2", "bad3")))
    test = one_test(
        FAILS,
        TargetManagerName="CSVFileTargetManager",
        TargetManagerAcquireParameters={"FileURI": str(pool), "MinNumberDevices": 4, "MaxNumberDevices": 4},
    )
    async with lab.server() as serving:
        first = await serving.start(job_of(test))
        await serving.ended(first)
        assert list(last_statuses(await failed_only(serving, first))) == ["bad1", "bad2"]
        pool.write_text("bad1,bad1.lab,,\n")
        [entry] = last_statuses(await failed_only(serving, first)).values()
        assert "bad2" in entry["Error"]
        assert blame(entry) == "infrastructure"


class Given(Struct, frozen=True):
    """Nothing."""


class Whatever(TargetManager[Given, Given]):
    """Knows nothing of single targets."""

    Settings: ClassVar[type[Struct]] = NoSettings
    AcquireParameters: ClassVar[type[Struct]] = Given
    ReleaseParameters: ClassVar[type[Struct]] = Given

    async def acquire(self, parameters: Given, context: AcquireContext) -> Sequence[Target]:
        return [Target(id="bad"), Target(id="good")]

    async def release(self, targets: Sequence[Target], parameters: Given, context: ReleaseContext) -> None:
        pass


class Disobedient(Whatever):
    """Says that it heeds `only`, and does not."""

    narrows: ClassVar[bool] = True


@pytest.mark.parametrize("gone", [False, True])
async def test_a_target_manager_that_cannot_be_narrowed_is_named(lab: Lab, gone: bool) -> None:
    lab.add("target_managers", "whatever", Whatever)
    test = one_test(FAILS, name="burn-in", TargetManagerName="Whatever", TargetManagerAcquireParameters={})
    async with lab.server() as serving:
        first = await serving.start(job_of(test))
        await serving.ended(first)
    if gone:
        lab.forget("target_managers", "whatever")
    async with lab.server() as serving:
        error = await refusal(serving, first)
        assert error.code == "unsupported"
        assert "burn-in" in str(error)
        assert "whatever" in str(error)


async def test_a_target_manager_that_gives_others_is_at_fault_and_has_them_back(lab: Lab) -> None:
    lab.add("target_managers", "disobedient", Disobedient)
    test = one_test(FAILS, TargetManagerName="disobedient", TargetManagerAcquireParameters={})
    async with lab.server() as serving:
        first = await serving.start(job_of(test))
        await serving.ended(first)
        [entry] = last_statuses(await failed_only(serving, first)).values()
        assert "good" in entry["Error"]
        assert blame(entry) == "plugin"
        assert await serving.locks() == {}


async def test_it_goes_on_narrowed_after_a_restart(lab: Lab) -> None:
    waits = step(
        "cmd", "check", executable="/bin/sh", args=["-c", 'test "{{.ID}}" = good || { sleep 0.1; exit 1; }']
    )
    job = simple(waits, step("sleep", duration="1ms"), targets=["good", "bad"], RunInterval="1h")
    async with lab.server() as serving:
        first = await serving.start(job)
        await serving.ended(first)
        second = (await serving.api.retry(serving.caller, first, failed_only=True)).result().new_job_id
        plan = await serving.store.plan(second)
        assert '"only":["bad"]' in plan
        await serving.ended(second)
