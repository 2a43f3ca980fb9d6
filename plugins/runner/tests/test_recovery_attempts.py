"""Taking on, after an interruption, a job that was in some attempt of a test, between two, or in a cleanup.

The interruption is a copy of the store's files: a server finds in them what it finds after `kill -9`.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from contest_runner.parts import TargetManager
from contest_runner.step import Expanded, OnInterrupt, Step, TargetFailed
from contest_runner.target import Target
from contest_runner.testing import Json, Lab, Serving, job_of, one_test, step


class Parameters(Struct, frozen=True, kw_only=True):
    fails: str = ""
    """In these attempts,"""
    waits: str = ""
    """and it waits in these, until the interruption."""
    note: Expanded[str] = ""


class World:
    """What steps note, and a server that is interrupted."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.seen: list[tuple[str, int, str]] = []
        self.interrupted = False
        self.released = asyncio.Event()
        """Nobody waits any more."""
        lab.step("noting", self._noting(OnInterrupt.RERUN))
        lab.step("once", self._noting(OnInterrupt.FAIL))
        lab.step("other", self._noting(OnInterrupt.FAIL))
        lab.add("target_managers", "lending", self._lending())

    def _noting(self, what: OnInterrupt) -> Any:
        world = self

        class Noting(Step[Parameters]):
            display_name = "Noting"
            on_interrupt = what

            async def run(self, target: Any, parameters: Any, context: Any) -> None:
                info = context.info
                world.seen.append((info.step, info.attempt, target.id))
                await context.set_variable("attempt", info.attempt)
                if str(info.attempt) in parameters.waits and not world.interrupted:
                    await world.released.wait()
                    context.stopping.check()
                if str(info.attempt) in parameters.fails:
                    raise TargetFailed(f"no: {parameters.note}")

        Noting.Parameters = Parameters
        return Noting

    def _lending(self) -> Any:
        world = self

        class Lending(TargetManager[Parameters, Parameters]):
            AcquireParameters = ReleaseParameters = Parameters

            async def acquire(self, parameters: Any, context: Any) -> Any:
                return [Target(id="a"), Target(id="b")]

            async def release(self, targets: Any, parameters: Any, context: Any) -> None:
                world.seen.extend(("release", context.job_id, target.id) for target in targets)

        return Lending

    @asynccontextmanager
    async def interruption(
        self,
        job: Json,
        when: Callable[[Json], Any],
        *,
        stop: Callable[[Json], Any] | None = None,
        gone: Sequence[tuple[str, str]] = (),
        again: Callable[[Json], Any] | None = None,
    ) -> AsyncIterator[Serving]:
        """A server that goes on with the job after an interruption; with `stop`, it was stopped before.

        Parts that are `gone`, by kind and name, it does not have. With `again` it is the second one that goes on.
        """
        async with self.lab.server() as serving:
            started = await serving.start(job)
            if stop is not None:
                await serving.until(started, lambda status: status["RunStatus"] and stop(status))
                await serving.stop(started)
            after = await self._copy(serving, started, when)
        self.lab.folder = after
        for part in gone:
            self.lab.forget(*part)
        if again is not None:
            self.released, self.interrupted = asyncio.Event(), False
            async with self.lab.server() as serving:
                self.lab.folder = await self._copy(serving, started, again)
        self.seen.clear()
        async with self.lab.server() as serving:
            yield serving

    async def _copy(self, serving: Serving, job: int, when: Callable[[Json], Any]) -> Path:
        """What a server finds that was killed just then; this one goes on, and nobody waits any more."""
        after = self.lab.folder / "after"
        after.mkdir()
        await serving.until(job, lambda status: status["RunStatus"] and when(status))
        await serving.store.committed()
        for file in self.lab.folder.glob("jobs.db*"):
            shutil.copy(file, after)
        self.interrupted = True
        self.released.set()
        return after


def in_step(label: str, attempt: int = 0) -> Callable[[Json], bool]:
    """Whether all targets are in a step, in an attempt."""

    def found(status: Json) -> bool:
        test = status["RunStatus"]["TestStatuses"][-1]
        now = len(test.get("Attempts") or [None]) - 1
        steps = [*test["TestStepStatuses"], *(test.get("CleanupStepStatuses") or ())]
        entries = [
            entry
            for each in steps
            if each["TestStepLabel"] == label
            for entry in each["TargetStatuses"] or ()
        ]
        inside = [entry for entry in entries if entry["OutTime"].startswith("0001")]
        return now == attempt and len(inside) == len(test["TargetStatuses"] or ())

    return found


def job(*steps: Json, by: list[Json] | None = None, times: int = 2, every: str = "0s") -> Json:
    cleanup = {"CleanupFetcherName": "literal", "CleanupFetcherFetchParameters": {"Steps": by or []}}
    retry = {"NumRetries": times, "RetryInterval": every}
    return job_of(one_test(*steps, targets=("a", "b"), RetryParameters=retry, **cleanup))


def the_test(status: Json) -> Json:
    found: Json = status["RunStatus"]["TestStatuses"][0]
    return found


def both(*places: tuple[str, int]) -> list[tuple[str, int, str]]:
    return sorted((label, attempt, target) for label, attempt in places for target in "ab")


async def test_a_job_goes_on_inside_the_attempt_in_which_it_was(lab: Lab) -> None:
    world = World(lab)
    descriptor = job(step("noting", "one"), step("noting", "two", fails="0", waits="1"))
    async with world.interruption(descriptor, in_step("two", 1)) as serving:
        status = await serving.ended(1)
        assert (status["Verdict"], status["Flaky"]) == ("passed", True)
        assert sorted(world.seen) == both(("two", 1))
        first, second = the_test(status)["Attempts"]
        assert [entry["Error"] for entry in first["TargetStatuses"]] == ["no: "] * 2
        assert second["TargetStatuses"] == the_test(status)["TargetStatuses"]
        names = await serving.names(1)
        assert names.count("TargetAcquired") == names.count("TargetReleased") == 4


async def test_a_job_goes_on_between_two_attempts_when_the_interval_is_over(lab: Lab) -> None:
    world = World(lab)
    descriptor = job(step("noting", "one", fails="0"), every="700ms")

    def between(status: Json) -> bool:
        errors = [entry["Error"] for entry in the_test(status)["TargetStatuses"] or ()]
        released.append(time.time())
        return errors == ["no: "] * 2 and len(released) > 3

    released: list[float] = []
    async with world.interruption(descriptor, between) as serving:
        status = await serving.ended(1)
        assert (status["Verdict"], status["Flaky"]) == ("passed", True)
        assert sorted(world.seen) == both(("one", 1))
        rows = [row for row in await serving.events(1) if row.name in ("TargetAcquired", "TargetReleased")]
        assert [row.attempt for row in rows] == [0] * 4 + [1] * 4
        assert rows[4].time - rows[3].time >= 695_000
        assert [entry["Attempt"] for entry in the_test(status)["Attempts"]] == [0, 1]


async def test_a_job_goes_on_inside_the_cleanup_and_a_test_that_had_passed_is_not_tried_again(
    lab: Lab,
) -> None:
    """ConTest's D16."""
    world = World(lab)
    note = '{{ IntVar "one.attempt" }} {{ IntVar "first.attempt" }}'
    by = [step("noting", "first"), step("noting", "second", waits="0", fails="0", note=note)]
    async with world.interruption(job(step("noting", "one"), by=by), in_step("second")) as serving:
        status = await serving.ended(1)
        assert (status["Verdict"], status.get("Flaky")) == ("passed", None)
        assert sorted(world.seen) == both(("second", 0))
        assert "Attempts" not in the_test(status)
        first, second = the_test(status)["CleanupStepStatuses"]
        assert [entry["Error"] for entry in first["TargetStatuses"]] == [""] * 2
        assert [entry["Error"] for entry in second["TargetStatuses"]] == ["no: 0 0"] * 2, (
            "variables are there"
        )
        assert (await serving.names(1)).count("TargetReleased") == 2
        assert await serving.locks() == {}


async def test_after_an_interrupted_cleanup_a_test_that_had_failed_is_tried_again(lab: Lab) -> None:
    world = World(lab)
    by = [step("noting", "first"), step("once", "second", waits="0"), step("noting", "third")]
    descriptor = job(step("noting", "one", fails="0"), step("noting", "two"), by=by)
    async with world.interruption(descriptor, in_step("second")) as serving:
        status = await serving.ended(1)
        assert (status["Verdict"], status["Flaky"]) == ("passed", True)
        expected = both(*((label, 1) for label in ("one", "two", "first", "second", "third")))
        assert sorted(world.seen) == expected, "neither `second` nor what is behind it ran again in attempt 0"
        told = [row for row in await serving.events(1) if row.phase == "cleanup" and row.name == "TargetErr"]
        assert [(row.step, row.attempt) for row in told] == [("second", 0)] * 2
        assert "interrupted" in told[0].payload


async def test_a_job_that_was_stopped_is_cleaned_up_to_the_end(lab: Lab) -> None:
    world = World(lab)
    by = [step("noting", "first", waits="0"), step("noting", "second")]
    descriptor = job(step("noting", "one", waits="0"), by=by)
    async with world.interruption(descriptor, in_step("first"), stop=in_step("one")) as serving:
        status = await serving.ended(1)
        assert (status["State"], status["Verdict"]) == ("JobStateCancelled", "cancelled")
        assert sorted(world.seen) == both(("first", 0), ("second", 0))
        assert (await serving.names(1)).count("TargetReleased") == 2
        assert await serving.locks() == {}


async def test_what_a_finished_test_came_to_is_known_again(lab: Lab) -> None:
    world = World(lab)

    class Crashing(Step[Parameters]):
        display_name = "Crashing"

        async def run(self, target: Any, parameters: Any, context: Any) -> None:
            if context.info.attempt == 0:
                raise RuntimeError("no")

    Crashing.Parameters = Parameters
    lab.step("crashing", Crashing)
    tests = [
        one_test(step("crashing"), name="saved", RetryParameters={"NumRetries": 5}),
        one_test(step("noting", "later", waits="0"), name="later"),
    ]
    async with world.interruption(job_of(*tests), in_step("later")) as serving:
        status = await serving.ended(1)
        assert (status["Verdict"], status["Flaky"], status.get("Blame")) == ("passed", True, None)
        assert len(the_test(status)["Attempts"]) == 2
        assert world.seen == [("later", 0, "t1")]


async def test_what_runs_before_the_last_one_came_to_is_known_again(lab: Lab, tmp_path: Path) -> None:
    world = World(lab)
    script = f"test -e {tmp_path}/mark || {{ touch {tmp_path}/mark; exit 1; }}"
    flaky = step("cmd", "flaky", executable="sh", args=["-c", script])
    late = f"test -e {tmp_path}/second || {{ touch {tmp_path}/second; exit 0; }}; touch {tmp_path}/wait"
    second = step("cmd", "second", executable="sh", args=["-c", late])
    descriptor = job_of(
        one_test(flaky, second, step("noting", "later"), RetryParameters={"NumRetries": 1}), Runs=2
    )
    descriptor["TestDescriptors"][0]["TestFetcherFetchParameters"]["Steps"][2] = step(
        "sleep", "later", duration="500ms"
    )
    async with world.interruption(
        descriptor, lambda status: status["RunStatus"]["RunID"] == 2 and in_step("later")(status)
    ) as serving:
        status = await serving.ended(1)
        assert (status["Verdict"], status["Flaky"]) == ("passed", True)
        assert [len(run["TestStatuses"][0].get("Attempts") or ()) for run in status["RunStatuses"]] == [2, 0]


# --- what is gone when the server comes back

RELEASED = [("release", 1, "a"), ("release", 1, "b")]
GONE = "the job's plan cannot be run here: unknown step 'other'"


def lent(*steps: Json, by: list[Json]) -> Json:
    """A job whose target manager notes what it is given back."""
    descriptor = job(*steps, by=by)
    descriptor["TestDescriptors"][0] |= {
        "TargetManagerName": "lending",
        "TargetManagerAcquireParameters": {},
    }
    return descriptor


async def everything_is_given_back(serving: Serving) -> None:
    names = await serving.names(1)
    assert names.count("TargetReleased") == 2
    assert await serving.locks() == {}


@pytest.mark.parametrize("by", [[], [step("noting", "first")]])
async def test_a_step_that_is_gone_fails_the_job_and_costs_neither_the_cleanup_nor_the_release(
    lab: Lab, by: list[Json]
) -> None:
    world = World(lab)
    descriptor = lent(step("noting", "one", waits="0"), step("other", "two"), by=by)
    async with world.interruption(descriptor, in_step("one"), gone=[("steps", "other")]) as serving:
        status = await serving.ended(1)
        assert (status["State"], status["Verdict"]) == ("JobStateFailed", "error")
        assert status["StateErrMsg"].startswith(GONE)
        assert status["Blame"] == "plugin"
        assert sorted(world.seen) == sorted(both(("first", 0))[: 2 * len(by)] + RELEASED)
        await everything_is_given_back(serving)


async def test_of_a_cleanup_the_steps_that_are_left_run_and_the_one_that_is_gone_is_told(lab: Lab) -> None:
    world = World(lab)
    by = [step("noting", "first"), step("other", "second", waits="0"), step("noting", "third")]
    descriptor = lent(step("noting", "one"), by=by)
    async with world.interruption(descriptor, in_step("second"), gone=[("steps", "other")]) as serving:
        status = await serving.ended(1)
        assert (status["State"], status["Verdict"]) == ("JobStateFailed", "error")
        assert status["StateErrMsg"].startswith(GONE)
        assert sorted(world.seen) == sorted(both(("third", 0)) + RELEASED)
        first, second, third = the_test(status)["CleanupStepStatuses"]
        for each, error in ((first, ""), (second, "unknown step 'other'"), (third, "")):
            assert [entry["Error"][: len(error) or 1] for entry in each["TargetStatuses"]] == [error] * 2
        assert {entry["Blame"] for entry in second["TargetStatuses"]} == {"plugin"}
        await everything_is_given_back(serving)


async def test_a_target_manager_that_is_gone_costs_no_cleanup_and_no_word_of_the_release(lab: Lab) -> None:
    world = World(lab)
    descriptor = lent(step("noting", "one", waits="0"), by=[step("noting", "first")])
    gone = [("target_managers", "lending")]
    async with world.interruption(descriptor, in_step("one"), gone=gone) as serving:
        status = await serving.ended(1)
        assert (status["State"], status["Verdict"]) == ("JobStateFailed", "error")
        assert "unknown target manager 'lending'" in status["StateErrMsg"]
        assert sorted(world.seen) == both(("first", 0))
        await everything_is_given_back(serving)


@pytest.mark.parametrize(
    ("gone", "told", "seen"),
    [
        (("steps", "other"), None, [*both(("first", 0)), *RELEASED]),
        (("steps", "noting"), "unknown step 'noting'", RELEASED),
        (("target_managers", "lending"), None, both(("first", 0))),
    ],
)
async def test_a_stopped_job_is_cleaned_up_and_given_back_by_what_is_left(
    lab: Lab, gone: tuple[str, str], told: str | None, seen: Any
) -> None:
    world = World(lab)
    descriptor = lent(step("other", "one", waits="0"), by=[step("noting", "first")])

    def stopped(status: Json) -> bool:
        return bool(status["State"] == "JobStateCancelling")

    async with world.interruption(descriptor, stopped, stop=in_step("one"), gone=[gone]) as serving:
        status = await serving.ended(1)
        assert (status["State"], status["Verdict"]) == ("JobStateCancelled", "cancelled")
        [*_, end] = await serving.events(1)
        assert (end.payload is None) if told is None else (told in end.payload)
        assert sorted(world.seen) == sorted(seen)
        await everything_is_given_back(serving)


async def test_after_a_second_interruption_a_cleanup_goes_on_behind_the_step_that_is_gone(lab: Lab) -> None:
    world = World(lab)
    by = [step("other", "first"), step("noting", "second", waits="0"), step("noting", "third")]
    descriptor = lent(step("noting", "one", waits="0"), by=by)
    places: dict[str, Any] = {"again": in_step("second"), "gone": [("steps", "other")]}
    async with world.interruption(descriptor, in_step("one"), **places) as serving:
        status = await serving.ended(1)
        assert status["State"] == "JobStateFailed"
        assert sorted(world.seen) == sorted(both(("second", 0), ("third", 0)) + RELEASED)
        await everything_is_given_back(serving)
