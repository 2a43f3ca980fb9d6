"""Cleanup steps: they always run, on all targets, and decide nothing; and they end, at the latest when they have to."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from msgspec import Struct

from contest_core.job_manager import Termination
from contest_runner import cleanup
from contest_runner.step import Expanded, Step, TargetFailed
from contest_runner.testing import Json, Lab, eventually, job_of, one_test, step

FALSE = step("cmd", "false", executable="false")
ECHO = step("echo", text="x")


class Nothing(Struct, frozen=True, kw_only=True):
    """No parameters."""


class Text(Struct, frozen=True, kw_only=True):
    text: Expanded[str] = ""


def noting(seen: list[Any], *, fails: bool = False, forever: bool = False, deaf: Any = None) -> Any:
    """A cleanup step that notes whom it sees."""

    class Noting(Step[Text]):
        Parameters = Text
        display_name = "Noting"

        async def run(self, target: Any, parameters: Any, context: Any) -> None:
            seen.append((context.info.attempt, target.id, parameters.text))
            if fails:
                raise TargetFailed("not clean")
            while deaf is not None and not deaf.is_set():
                try:
                    await asyncio.sleep(0.01)
                except asyncio.CancelledError:
                    continue
            if forever:
                await context.stopping
                context.stopping.check()

    return Noting


class Remembers(Step[Nothing]):
    """Sets a variable, and then fails target `bad`."""

    Parameters = Nothing
    display_name = "Remembers"

    async def run(self, target: Any, parameters: Any, context: Any) -> None:
        await context.set_variable("name", f"it was {target.id}")
        if target.id == "bad":
            raise TargetFailed("bad")


def cleaned(*steps: Json, by: list[Json], targets: tuple[str, ...] = ("a", "bad"), **more: Any) -> Json:
    return job_of(
        one_test(
            *steps,
            targets=targets,
            CleanupFetcherName="Literal",
            CleanupFetcherFetchParameters={"Steps": by},
            **more,
        )
    )


def cleanup_of(status: Json, label: str) -> dict[str, Json]:
    """By target, its status in a cleanup step."""
    [test] = status["RunStatus"]["TestStatuses"]
    [found] = [each for each in test["CleanupStepStatuses"] if each["TestStepLabel"] == label]
    return {entry["Target"]["ID"]: entry for entry in found["TargetStatuses"] or ()}


async def test_all_targets_are_cleaned_up_with_the_variables_of_the_test_and_nothing_comes_of_it(
    lab: Lab,
) -> None:
    seen: list[Any] = []
    lab.step("remembers", Remembers)
    lab.step("noting", noting(seen))
    lab.step("dirty", noting(seen, fails=True))
    by = [
        step("noting", "one", text='{{ StringVar "remembers.name" }}'),
        step("dirty", "two", text="{{ .ID }}"),
        step("noting", "three"),
    ]
    async with lab.server() as serving:
        good = cleaned(step("remembers"), by=by, targets=("a",))
        status = await serving.run(good)
        assert (status["State"], status["Verdict"]) == ("JobStateCompleted", "passed")
        status = await serving.run(cleaned(step("remembers"), by=by))
        assert status["Verdict"] == "failed"
        rows = await serving.events(2)
    assert sorted(seen[2:]) == [
        (0, "a", "a"),
        (0, "a", "it was a"),
        (0, "bad", "bad"),
        (0, "bad", "it was bad"),
    ]
    assert not cleanup_of(status, "three")
    for label, error in (("one", ""), ("two", "not clean")):
        assert {target: entry["Error"] for target, entry in cleanup_of(status, label).items()} == {
            "a": error,
            "bad": error,
        }
    told = [(row.phase, row.name) for row in rows if row.step == "two"]
    assert sorted(told) == [("cleanup", "TargetErr")] * 2 + [("cleanup", "TargetIn")] * 2
    assert {row.test for row in rows if row.phase == "cleanup"} == {"t"}
    order = [row.name if row.phase == "test" else "cleanup" for row in rows if row.test]
    assert order.index("cleanup") > max(i for i, name in enumerate(order) if name == "TargetOut")
    assert order[-2:] == ["TargetReleased"] * 2


async def test_a_kept_status_has_the_cleanup_as_it_was(lab: Lab) -> None:
    script = step("cmd", "say", executable="echo", args=["x"], emit_stdout=True)
    async with lab.server() as serving:
        job = await serving.start(cleaned(ECHO, by=[script, step("sleep", "wait", duration="700ms")]))
        shown = await serving.until(
            job, lambda status: status["RunStatus"] and len(cleanup_of(status, "wait")) == 2
        )
        ended = await serving.ended(job)
        assert cleanup_of(shown, "say") == cleanup_of(ended, "say")
        [event, *_] = cleanup_of(ended, "say")["a"]["Events"]
        assert event["Phase"] == "cleanup"
        [part] = (await serving.status(job, target="a", events=False))["RunStatuses"]
        [entry] = part["TestStatuses"][0]["CleanupStepStatuses"][0]["TargetStatuses"]
        assert (entry["Target"]["ID"], entry["Events"]) == ("a", None)


async def test_every_attempt_is_cleaned_up_before_its_targets_are_given_back(lab: Lab) -> None:
    seen: list[Any] = []
    lab.step("noting", noting(seen))
    async with lab.server() as serving:
        job = cleaned(FALSE, by=[step("noting")], targets=("a",), RetryParameters={"NumRetries": 2})
        assert (await serving.run(job))["Verdict"] == "failed"
        names = [
            f"{row.phase} {row.name}" for row in await serving.events(1) if row.name.startswith("Target")
        ]
    assert seen == [(attempt, "a", "") for attempt in range(3)]
    assert names == 3 * [
        "test TargetAcquired",
        "test TargetIn",
        "test TargetErr",
        "cleanup TargetIn",
        "cleanup TargetOut",
        "test TargetReleased",
    ]


async def test_a_fault_in_the_cleanup_is_no_fault_of_the_job(lab: Lab) -> None:
    class Broken(Step[Nothing]):
        Parameters = Nothing
        display_name = "Broken"

        async def run(self, target: Any, parameters: Any, context: Any) -> None:
            raise RuntimeError("no")

    lab.step("broken", Broken)
    async with lab.server() as serving:
        status = await serving.run(cleaned(ECHO, by=[step("broken")]))
        assert (status["State"], status["Verdict"]) == ("JobStateCompleted", "passed")
        assert cleanup_of(status, "broken")["a"]["Blame"] == "plugin"


async def test_a_stopped_job_is_cleaned_up_before_it_is_cancelled(lab: Lab) -> None:
    seen: list[Any] = []
    lab.step("noting", noting(seen))
    async with lab.server() as serving:
        job = await serving.start(
            cleaned(step("sleep", duration="1h"), by=[step("noting"), step("sleep", "nap", duration="300ms")])
        )
        await serving.until(job, lambda status: status["RunStatus"] and "InTime" in str(status["RunStatus"]))
        await serving.stop(job)
        state = await serving.until(job, lambda status: cleanup_of(status, "nap"))
        assert state["State"] == "JobStateCancelling"
        assert await serving.locks() == {"a": job, "bad": job}
        status = await serving.ended(job)
        assert status["State"] == "JobStateCancelled"
        assert not any(entry["Error"] for entry in cleanup_of(status, "nap").values())
        assert await serving.locks() == {}
        names = await serving.names(job)
        assert names[-3:] == ["TargetReleased", "TargetReleased", "JobStateCancelled"]


async def test_a_stop_during_the_cleanup_does_not_end_it(lab: Lab) -> None:
    async with lab.server() as serving:
        job = await serving.start(cleaned(ECHO, by=[step("sleep", "nap", duration="400ms")]))
        await serving.until(job, lambda status: status["RunStatus"] and cleanup_of(status, "nap"))
        await serving.stop(job)
        status = await serving.ended(job)
        assert status["State"] == "JobStateCancelled"
        assert not any(entry["Error"] for entry in cleanup_of(status, "nap").values())


async def test_a_drain_and_the_end_of_a_server_wait_for_it(lab: Lab) -> None:
    for how, verdict in ((Termination.DRAIN, "passed"), (Termination.CANCEL, "cancelled")):
        async with lab.server(at_exit=how) as serving:
            job = await serving.start(cleaned(ECHO, by=[step("sleep", "nap", duration="300ms")]))
            await serving.until(job, lambda status: status["RunStatus"] and cleanup_of(status, "nap"))
        async with lab.server() as serving:
            assert (await serving.entry(job))["Verdict"] == verdict
            [run] = (await serving.status(job))["RunStatuses"]
            assert run["TestStatuses"][0]["CleanupStepStatuses"][0]["TargetStatuses"][0]["Error"] == ""


async def test_a_cleanup_whose_time_is_up_is_told_and_the_job_goes_on(lab: Lab) -> None:
    lab.step("forever", noting([], forever=True))
    async with lab.server() as serving:
        job = cleaned(ECHO, by=[step("forever"), step("echo", "after", text="x")], CleanupTimeout="100ms")
        status = await asyncio.wait_for(serving.run(job), 3)
        assert (status["State"], status["Verdict"]) == ("JobStateCompleted", "passed")
        assert {entry["Error"] for entry in cleanup_of(status, "forever").values()} == {
            "stopped: the time is up"
        }
        assert not cleanup_of(status, "after")


async def test_a_stopped_job_without_a_timeout_has_one(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cleanup, "LIMIT_OF_STOPPED", 100_000_000)
    lab.step("forever", noting([], forever=True))
    async with lab.server() as serving:
        job = await serving.start(cleaned(ECHO, by=[step("forever")]))
        await serving.until(job, lambda status: status["RunStatus"] and cleanup_of(status, "forever"))
        await asyncio.sleep(0.2)
        assert (await serving.status(job))["State"] == "JobStateStarted"
        await serving.stop(job)
        assert (await asyncio.wait_for(serving.ended(job), 3))["State"] == "JobStateCancelled"


async def test_what_outlives_it_is_named_and_keeps_its_lock(lab: Lab) -> None:
    gate = threading.Event()
    lab.step("deaf", noting([], deaf=gate))
    job_of_one = cleaned(ECHO, by=[step("deaf")], targets=("a",), CleanupTimeout="100ms")
    job_of_one["TestDescriptors"][0]["RetryParameters"] = {"NumRetries": 1}
    async with lab.server(stop_grace="200ms") as serving:
        one = await serving.start(job_of_one)
        status = await asyncio.wait_for(serving.ended(one), 3)
        assert (status["State"], status["Verdict"], status["Blame"]) == ("JobStateFailed", "error", "plugin")
        assert "a: step 'deaf' (deaf)" in status["StateErrMsg"]
        assert await serving.locks() == {"a": one}
        two = await serving.start(cleaned(ECHO, by=[step("deaf")], targets=("b",), CleanupTimeout="300ms"))
        await serving.until(two, lambda status: status["RunStatus"] and cleanup_of(status, "deaf"))
        await serving.stop(two)
        status = await asyncio.wait_for(serving.ended(two), 3)
        assert status["State"] == "JobStateCancellationFailed"
        assert "b: step 'deaf' (deaf)" in status["StateErrMsg"]
        gate.set()


async def test_who_is_in_a_hurry_cancels_it(lab: Lab) -> None:
    lab.step("forever", noting([], forever=True))
    async with lab.server() as serving:
        job = await serving.start(cleaned(ECHO, by=[step("forever")]))
        await serving.until(job, lambda status: status["RunStatus"] and cleanup_of(status, "forever"))
        serving.manager.hurry()
        await asyncio.sleep(0.05)
        assert (await serving.status(job))["State"] == "JobStateStarted", "it has not been stopped"
        await serving.stop(job)
        serving.manager.hurry()
        status = await asyncio.wait_for(serving.ended(job), 3)
        assert status["State"] == "JobStateCancelled"
        assert {entry["Error"] for entry in cleanup_of(status, "forever").values()} == {"stopped: stop"}


async def test_a_server_in_a_hurry_waits_for_no_cleanup(lab: Lab) -> None:
    """One that goes on is cancelled; one that begins then has what a step has to stop."""
    lab.step("forever", noting([], forever=True))
    slow = cleaned(step("forever"), by=[step("sleep", "nap", duration="1h")], targets=("b",))
    async with lab.server(stop_grace="2s") as serving:
        job = await serving.start(cleaned(ECHO, by=[step("sleep", "nap", duration="1h")]))
        await serving.until(job, lambda status: status["RunStatus"] and cleanup_of(status, "nap"))
        later = await serving.start(slow)
        await serving.until(later, lambda status: "InTime" in str(status["RunStatus"]))
        serving.server.terminate(Termination.CANCEL)
        serving.server.terminate(Termination.HURRY)
        await asyncio.wait_for(serving.server.wait(), 10)
    async with lab.server() as serving:
        for each in (job, later):
            status = await serving.status(each)
            assert status["State"] == "JobStateCancelled"
            assert "stopped" in next(iter(cleanup_of(status, "nap").values()))["Error"]


async def test_a_target_that_a_stopped_step_holds_or_whose_lock_is_lost_is_not_cleaned_up(lab: Lab) -> None:
    gate = threading.Event()
    seen: list[Any] = []
    lab.step("noting", noting(seen))

    class Deaf(Step[Nothing]):
        Parameters = Nothing
        display_name = "Deaf"

        async def run(self, target: Any, parameters: Any, context: Any) -> None:
            while target.id == "held" and not gate.is_set():
                try:
                    await asyncio.sleep(0.01)
                except asyncio.CancelledError:
                    continue
            if target.id != "free":
                await asyncio.sleep(3600)

    lab.step("deaf", Deaf)
    async with lab.server(stop_grace="300ms") as serving:
        job = await serving.start(
            cleaned(step("deaf"), by=[step("noting")], targets=("held", "free", "lost"))
        )
        running = serving.manager.running(job)
        assert running is not None
        await eventually(lambda: running.attempt and len(running.attempt.flows) == 3, "the steps")
        assert running.attempt is not None
        token = running.attempt.token
        running._locker.release_soon(job, token, ["lost"])
        serving.manager._runner.lock_lost(job, token, ["lost"])
        await serving.stop(job)
        status = await asyncio.wait_for(serving.ended(job), 5)
        gate.set()
        assert status["State"] == "JobStateCancellationFailed"
        assert [target for _, target, _ in seen] == ["free"]


@pytest.mark.parametrize("named", ["", None])
async def test_no_cleanup_steps_are_no_cleanup(lab: Lab, named: str | None) -> None:
    async with lab.server() as serving:
        job = cleaned(ECHO, by=[])
        if named is not None:
            job["TestDescriptors"][0]["CleanupFetcherName"] = named
            job["TestDescriptors"][0]["CleanupFetcherFetchParameters"] = {"Steps": [ECHO]}
        status = await serving.run(job)
        assert "CleanupStepStatuses" not in status["RunStatus"]["TestStatuses"][0]
        reading = await lab.read(job)
        codes = [(finding.code, finding.path) for finding in reading.findings]
        place = "/TestDescriptors/0/CleanupFetcherFetchParameters"
        assert codes == ([] if named is None else [("no_effect", place)])


async def test_what_is_wrong_with_cleanup_steps_is_said_at_its_place(lab: Lab) -> None:
    wrong = cleaned(
        step("echo", "same", text="x"),
        step("ecko", "bad"),
        by=[step("echo", "same", text="x"), step("echo", "1a"), {"name": "cmd", "labl": "x"}],
        RetryParameters={"NumRetries": 2**32, "RetryInterval": "0s"},
        CleanupTimeout="-5s",
    )
    reading = await lab.read(wrong)
    steps = "/TestDescriptors/0/CleanupFetcherFetchParameters/Steps"
    found = {(finding.path, finding.code) for finding in reading.findings}
    assert found >= {
        (f"{steps}/0/label", "duplicate"),
        (f"{steps}/1/label", "bad_label"),
        (f"{steps}/1/parameters", "missing_parameter"),
        (f"{steps}/2/labl", "unknown_key"),
        (f"{steps}/2", "missing"),
        ("/TestDescriptors/0/TestFetcherFetchParameters/Steps/1/name", "unknown_step"),
        ("/TestDescriptors/0/RetryParameters/NumRetries", "out_of_range"),
        ("/TestDescriptors/0/CleanupTimeout", "out_of_range"),
    }
    assert reading.plan is None
