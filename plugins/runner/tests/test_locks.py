"""Targets that are held: who waits says for whom, gets them at once, and no path leaves a lock behind."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec import Struct

from contest_runner.parts import AcquireFailed, TargetManager
from contest_runner.target import Target
from contest_runner.testing import Lab, Serving, eventually, job_of, last_statuses, one_test, simple, step


class Nothing(Struct, frozen=True, kw_only=True):
    """No parameters."""


class Manager(TargetManager[Nothing, Nothing]):
    """Gives what a test says."""

    AcquireParameters = Nothing
    ReleaseParameters = Nothing

    async def acquire(self, parameters: Any, context: Any) -> Any:
        return await context.locker.acquire([Target(id="a")], deadline=context.deadline)

    async def release(self, targets: Any, parameters: Any, context: Any) -> None:
        return


def managed(*steps: Any, **more: Any) -> dict[str, Any]:
    test = one_test(*(steps or [step("echo", text="x")]))
    test |= {"TargetManagerName": "made", "TargetManagerAcquireParameters": {}}
    return job_of(test, **more)


def _asleep(status: Any) -> bool:
    found = last_statuses(status) if status["RunStatus"] else {}
    return bool(found) and all(entry["TestStepLabel"] == "sleep" for entry in found.values())


async def holding(serving: Serving, *targets: str) -> int:
    job = await serving.start(simple(step("sleep", duration="1h"), targets=targets))
    await eventually(
        lambda: {row.target for row in serving.manager._locker.locks()} >= set(targets), "the lock"
    )
    return job


async def test_who_waits_says_for_whom_and_goes_on_at_once_when_it_is_free(lab: Lab) -> None:
    async with lab.server() as serving:
        holder = await holding(serving, "a")
        waiter = await serving.start(simple(step("echo", text="x"), targets=("b", "a")))
        status = await serving.until(waiter, lambda status: status.get("Waiting"))
        assert status["State"] == "JobStateStarted"
        [target] = status["Waiting"]["Targets"]
        assert (target["ID"], target["HeldBy"]) == ("a", holder)
        assert target["Since"]
        assert target["Until"]
        await serving.stop(holder)
        status = await asyncio.wait_for(serving.ended(waiter), 2)
        assert status["Verdict"] == "passed"
        assert "Waiting" not in status
        assert await serving.locks() == {}


async def test_who_waits_too_long_fails_that_test_and_says_who_holds_the_target(lab: Lab) -> None:
    async with lab.server() as serving:
        holder = await holding(serving, "a")
        status = await serving.run(
            simple(step("echo", text="x"), targets=("a",), TargetManagerAcquireTimeout="200ms")
        )
        assert status["State"] == "JobStateCompleted"
        assert status["Verdict"] == "error"
        assert status["Blame"] == "infrastructure"
        entry = last_statuses(status)[None]
        assert f"'a' is held by job {holder}" in entry["Error"]
        assert entry["Events"][0]["Data"]["EventName"] == "TargetAcquireErr"
        assert await serving.locks() == {"a": holder}


@pytest.mark.parametrize("timeout", ["0s", "-1s"])
async def test_no_time_to_acquire_fails_the_job(lab: Lab, timeout: str) -> None:
    async with lab.server() as serving:
        status = await serving.run(simple(step("echo", text="x"), TargetManagerAcquireTimeout=timeout))
        assert status["State"] == "JobStateFailed"
        assert status["StateErrMsg"] == f"target manager acquire timed out after {timeout}"
        assert await serving.locks() == {}


FAULTS: dict[str, tuple[object, str, str]] = {
    "AcquireFailed": (AcquireFailed("none \0 there"), "none", "infrastructure"),
    "ValueError": (ValueError("oops"), "ValueError: oops", "plugin"),
    "TimeoutError": (TimeoutError(), "TimeoutError", "plugin"),
    "SystemExit": (SystemExit(2), "SystemExit: 2", "plugin"),
    "CancelledError": (asyncio.CancelledError(), "CancelledError", "plugin"),
    "None": (None, "it gave a NoneType", "plugin"),
    "junk": ([1, 2], "it gave a list", "plugin"),
    "no targets": ([], "there are no targets", "infrastructure"),
    "blank": ([Target(id=" ")], "a target has no ID", "infrastructure"),
    "twice": ([Target(id="x"), Target(id="x")], "target 'x' is there twice", "infrastructure"),
    "long": ([Target(id="x" * 65)], "too long", "infrastructure"),
    "NUL": ([Target(id="x\0")], "NUL", "infrastructure"),
    "surrogate": ([Target(id="\ud800")], "UnicodeEncodeError", "plugin"),
}


@pytest.mark.parametrize("name", FAULTS)
async def test_what_a_target_manager_does_wrong_fails_that_test_and_no_more(lab: Lab, name: str) -> None:
    outcome, said, blame = FAULTS[name]

    class Made(Manager):
        async def acquire(self, parameters: Any, context: Any) -> Any:
            await super().acquire(parameters, context)
            if isinstance(outcome, BaseException):
                raise outcome
            return outcome

    lab.add("target_managers", "made", Made)
    async with lab.server() as serving:
        job = managed()
        job["TestDescriptors"].append(one_test(step("echo", text="x"), name="other"))
        status = await asyncio.wait_for(serving.run(job), 5)
        assert status["State"] == "JobStateCompleted"
        assert said in last_statuses(status)[None]["Error"]
        assert not last_statuses(status, 1)["t1"]["Error"]
        assert (status["Verdict"], status["Blame"]) == ("error", blame)
        assert await serving.locks() == {}


async def test_locks_under_several_tokens_and_those_not_given_back_are_all_freed(lab: Lab) -> None:
    class Made(Manager):
        async def acquire(self, parameters: Any, context: Any) -> Any:
            one = await context.locker.acquire(
                [Target(id="a"), Target(id="spare")], deadline=context.deadline
            )
            two = await context.locker.acquire([Target(id="b")], deadline=context.deadline)
            return [one[0], *two, Target(id="c")]

    lab.add("target_managers", "made", Made)
    async with lab.server() as serving:
        job = await serving.start(managed(step("sleep", duration="1h")))
        await serving.until(job, _asleep)
        running = serving.manager._runner.jobs[job]
        assert await serving.locks() == dict.fromkeys("abc", job)
        tokens = [row.token for row in serving.manager._locker.locks()]
        assert running.attempt is not None
        assert set(tokens) == {running.attempt.token}
        await serving.stop(job)
        await serving.ended(job)
        assert await serving.locks() == {}


async def test_a_release_that_fails_or_hangs_fails_the_job_and_frees_its_locks(lab: Lab) -> None:
    class Fails(Manager):
        async def release(self, targets: Any, parameters: Any, context: Any) -> None:
            raise RuntimeError("stuck")

    class Hangs(Manager):
        async def release(self, targets: Any, parameters: Any, context: Any) -> None:
            await asyncio.sleep(1000)

    for number, (kind, said) in enumerate(
        (
            (Fails, "failed to release targets: RuntimeError: stuck"),
            (Hangs, "timed out after 100ms"),
        ),
        start=1,
    ):
        lab.add("target_managers", "made", kind)
        async with lab.server() as serving:
            status = await serving.run(managed(TargetManagerReleaseTimeout="100ms"))
            assert status["State"] == "JobStateFailed"
            assert said in status["StateErrMsg"]
            assert await serving.locks() == {}
            assert "TargetReleased" in await serving.names(number)


async def test_a_release_that_hangs_has_the_grace_of_a_stop_once_somebody_is_in_a_hurry(lab: Lab) -> None:
    began = asyncio.Event()

    class Hangs(Manager):
        async def release(self, targets: Any, parameters: Any, context: Any) -> None:
            began.set()
            await asyncio.sleep(1000)

    lab.add("target_managers", "made", Hangs)
    async with lab.server(stop_grace="300ms") as serving:
        job = await serving.start(managed())
        await asyncio.wait_for(began.wait(), 5)
        serving.manager.hurry()
        await serving.stop(job)
        serving.manager.hurry()
        status = await asyncio.wait_for(serving.ended(job), 3)
        assert status["State"] == "JobStateCancelled"
        assert await serving.locks() == {}
        assert "TargetReleased" in await serving.names(job)


async def test_a_stop_alone_does_not_shorten_a_release_and_a_hurry_leaves_it_the_grace(lab: Lab) -> None:
    released: list[str] = []
    began = asyncio.Event()

    class Slow(Manager):
        async def release(self, targets: Any, parameters: Any, context: Any) -> None:
            began.set()
            await asyncio.sleep(0.5)
            released.extend(target.id for target in targets)

    lab.add("target_managers", "made", Slow)
    for grace, hurried in (("100ms", False), ("5s", True)):
        async with lab.server(stop_grace=grace) as serving:
            job = await serving.start(managed())
            await asyncio.wait_for(began.wait(), 5)
            began.clear()
            await serving.stop(job)
            if hurried:
                serving.manager.hurry()
            assert (await serving.ended(job))["State"] == "JobStateCancelled"
    assert len(released) == 2


async def test_an_acquisition_that_hangs_fails_the_job(lab: Lab) -> None:
    class Hangs(Manager):
        async def acquire(self, parameters: Any, context: Any) -> Any:
            await super().acquire(parameters, context)
            await asyncio.sleep(1000)

    lab.add("target_managers", "made", Hangs)
    async with lab.server() as serving:
        status = await asyncio.wait_for(serving.run(managed(TargetManagerAcquireTimeout="100ms")), 5)
        assert status["State"] == "JobStateFailed"
        assert status["StateErrMsg"] == "target manager acquire timed out after 100ms"
        assert await serving.locks() == {}


async def test_a_later_job_overtakes_only_where_nobody_waits(lab: Lab) -> None:
    async with lab.server() as serving:
        holder = await holding(serving, "a")
        first = await serving.start(simple(step("echo", text="x"), targets=("a", "b")))
        await serving.until(first, lambda status: status.get("Waiting"))
        second = await serving.start(simple(step("echo", text="x"), targets=("b",)))
        free = await serving.run(simple(step("echo", text="x"), targets=("c",)))
        assert free["Verdict"] == "passed"
        waiting = await serving.status(second)
        assert waiting["Waiting"]["Targets"][0]["HeldBy"] == first
        await serving.stop(holder)
        assert (await serving.ended(first))["Verdict"] == (await serving.ended(second))["Verdict"] == "passed"


async def test_a_locks_token_grows_and_can_be_ensured(lab: Lab) -> None:
    from contest_runner.step import Step

    tokens: list[int] = []

    class Looks(Step[Nothing]):
        Parameters = Nothing
        display_name = "Looks"

        async def run(self, target: Any, parameters: Any, context: Any) -> None:
            tokens.append(context.lock.token)
            await context.lock.ensure(5)

    lab.step("looks", Looks)
    async with lab.server() as serving:
        for _ in range(2):
            assert (await serving.run(simple(step("looks"))))["Verdict"] == "passed"
        assert 0 < tokens[0] < tokens[1]
