"""One target's failure is its own, and nothing that a step does ends its job, another job or the server."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from types import NoneType
from typing import Any, ClassVar

import pytest
from msgspec import Struct

from contest_core import Output
from contest_runner.step import AllTargetsStep, Step, Stopped, TargetFailed, ThreadStep
from contest_runner.testing import Lab, last_statuses, simple, step


class Nothing(Struct, frozen=True, kw_only=True):
    """No parameters."""


Work = Callable[..., Any]


def made(work: Work, **more: Any) -> type[Step[Any]]:
    """A step that does this work: `work(target, context)`, awaited where it can be."""

    async def run(self: Any, target: Any, parameters: Any, context: Any) -> None:
        found = work(target, context)
        if asyncio.iscoroutine(found):
            await found

    members = {"Parameters": Nothing, "display_name": "Made", "run": run, **more}
    return type("Made", (Step,), members)


def raising(error: BaseException) -> Work:
    def work(target: Any, context: Any) -> None:
        if target.id == "bad":
            raise error

    return work


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class Nasty(Exception):
    def __str__(self) -> str:
        return "nul \0 surrogate \ud800 " + "x" * 200_000


def recursion(target: Any, context: Any) -> None:
    if target.id == "bad":

        def deeper() -> None:
            deeper()

        deeper()


async def cancels_itself(target: Any, context: Any) -> None:
    if target.id == "bad":
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)


def unknown_blame(target: Any, context: Any) -> None:
    nobody: Any = "nobody"
    if target.id == "bad":
        raise TargetFailed("x", blame=nobody)


FAULTS: dict[str, tuple[Work, str]] = {
    "ValueError": (raising(ValueError("what")), "ValueError: what"),
    "SystemExit": (raising(SystemExit(3)), "SystemExit: 3"),
    "KeyboardInterrupt": (raising(KeyboardInterrupt()), "KeyboardInterrupt"),
    "GeneratorExit": (raising(GeneratorExit()), "GeneratorExit"),
    "StopIteration": (raising(StopIteration()), "RuntimeError: coroutine raised StopIteration"),
    "CancelledError": (raising(asyncio.CancelledError()), "CancelledError"),
    "cancels itself": (cancels_itself, "CancelledError"),
    "unprintable": (raising(Unprintable()), "Unprintable: (its text cannot be made: RuntimeError)"),
    "nasty": (
        raising(Nasty()),
        "Nasty: nul \N{REPLACEMENT CHARACTER} surrogate \N{REPLACEMENT CHARACTER} xxx",
    ),
    "recursion": (recursion, "RecursionError"),
    "group": (raising(BaseExceptionGroup("many", [SystemExit(1), ValueError()])), "BaseExceptionGroup: many"),
    "Stopped unasked": (raising(Stopped("why")), "Stopped: why"),
    "an unknown blame": (unknown_blame, "ValueError: 'nobody' is not a valid Blame"),
}


@pytest.mark.parametrize("name", FAULTS)
async def test_a_fault_of_a_step_fails_that_target_alone_with_its_traceback(lab: Lab, name: str) -> None:
    work, said = FAULTS[name]
    lab.step("made", made(work))
    async with lab.server() as serving:
        status = await serving.run(
            simple(step("made"), step("echo", text="x"), targets=("good", "bad", "too"))
        )
        assert status["State"] == "JobStateCompleted"
        found = last_statuses(status)
        assert found["good"]["TestStepLabel"] == found["too"]["TestStepLabel"] == "echo"
        assert not found["good"]["Error"]
        assert found["bad"]["TestStepLabel"] == "made"
        assert found["bad"]["Error"].startswith(said)
        assert found["bad"]["Blame"] == "plugin"
        assert (await serving.entry(1))["Verdict"] == "error"
        [row] = [row for row in await serving.events(1) if row.name == "TargetErr"]
        assert "Traceback" in json.loads(row.payload)
        assert len(row.payload) < 200_000
        assert await serving.locks() == {}
        after = await serving.run(simple(step("echo", text="x")))
        assert after["Verdict"] == "passed"


@pytest.mark.parametrize(
    "name", ["ValueError", "SystemExit", "StopIteration", "CancelledError", "unprintable"]
)
async def test_a_fault_in_a_thread_fails_that_target_alone(lab: Lab, name: str) -> None:
    work, _ = FAULTS[name]

    class InThread(ThreadStep[Nothing]):
        Parameters = Nothing
        display_name = "InThread"

        def run(self, target: Any, parameters: Any, context: Any) -> None:
            work(target, context)

    lab.step("in-thread", InThread)
    async with lab.server() as serving:
        status = await asyncio.wait_for(serving.run(simple(step("in-thread"), targets=("good", "bad"))), 5)
        found = last_statuses(status)
        assert not found["good"]["Error"]
        assert found["bad"]["Blame"] == "plugin"
        assert status["Verdict"] == "error"


@pytest.mark.parametrize("name", ["ValueError", "SystemExit", "CancelledError", "StopIteration"])
async def test_a_fault_of_a_step_for_all_targets_fails_those_it_said_nothing_about(
    lab: Lab, name: str
) -> None:
    class Gathering(AllTargetsStep[Nothing]):
        Parameters = Nothing
        display_name = "Gathering"

        async def run(self, arrivals: Any) -> None:
            seen = [arrival async for arrival in arrivals]
            next(one for one in seen if one.target.id == "good").passed()
            FAULTS[name][0](next(one for one in seen if one.target.id == "bad").target, None)

    lab.step("gathering", Gathering)
    async with lab.server() as serving:
        status = await asyncio.wait_for(serving.run(simple(step("gathering"), targets=("good", "bad"))), 5)
        found = last_statuses(status)
        assert not found["good"]["Error"]
        assert found["bad"]["Error"]
        assert found["bad"]["Blame"] == "plugin"


async def test_a_failure_of_the_test_is_blamed_on_it_and_keeps_its_output(lab: Lab) -> None:
    def work(target: Any, context: Any) -> None:
        raise TargetFailed("it is \0 red", output=Output(stderr="e\0nd" + "y" * 100_000, stderr_size=9))

    lab.step("made", made(work))
    async with lab.server() as serving:
        status = await serving.run(simple(step("made")))
        entry = last_statuses(status)["t1"]
        assert entry["Error"] == "it is \N{REPLACEMENT CHARACTER} red"
        assert entry["Blame"] == "test"
        assert entry["Output"]["StderrSize"] == 9
        assert len(entry["Output"]["Stderr"]) < 70_000
        assert status["Verdict"] == "failed"
        assert "EventRefused" not in await serving.names(1)


async def test_what_a_step_leaves_running_cannot_write_into_later_steps_or_the_ended_job(lab: Lab) -> None:
    left: list[asyncio.Task[None]] = []
    go = asyncio.Event()
    refused: list[str] = []

    async def later(context: Any) -> None:
        await go.wait()
        calls = [(context.emit, "Hello"), (context.save, 1), (context.spawn, ["true"])]
        for call, argument in calls:
            try:
                await call(argument)
            except RuntimeError as error:
                refused.append(str(error))

    async def work(target: Any, context: Any) -> None:
        left.append(asyncio.ensure_future(later(context)))

    lab.step("made", made(work, events={"Hello": NoneType}))

    async def opens(target: Any, context: Any) -> None:
        go.set()
        await left[0]

    lab.step("opens", made(opens))
    async with lab.server() as serving:
        status = await serving.run(simple(step("made"), step("opens")))
        assert status["Verdict"] == "passed"
        assert len(refused) == 3
        assert "has left step made" in refused[0]
        assert "Hello" not in await serving.names(1)


async def test_events_that_are_not_declared_or_cannot_be_stored_are_refused_where_they_are_emitted(
    lab: Lab,
) -> None:
    refused: list[str] = []

    async def work(target: Any, context: Any) -> None:
        circle: list[Any] = []
        circle.append(circle)
        for name, payload in (
            ("Unknown", None),
            ("Known", {"text": "a\0b"}),
            ("Known", object()),
            ("Known", "x" * 17_000_000),
            ("Known", "\ud800"),
            ("Known", circle),
        ):
            try:
                await context.emit(name, payload)
            except ValueError as error:
                refused.append(str(error))
        await context.emit("Known", {"text": "a\\u0000b"})
        await context.emit("Known")

    lab.step("made", made(work, events={"Known": dict}))
    async with lab.server() as serving:
        status = await serving.run(simple(step("made")))
        assert len(refused) == 6
        assert "does not declare" in refused[0]
        assert "NUL" in refused[1]
        entry = last_statuses(status)["t1"]
        assert [event["Data"]["EventName"] for event in entry["Events"]] == ["Known", "Known"]
        assert entry["Events"][0]["Data"]["Payload"] == {"text": "a\\u0000b"}
        assert entry["Events"][1]["Data"]["Payload"] is None
        assert status["Verdict"] == "passed"


async def test_a_step_for_all_targets_that_returns_early_does_not_hang_those_that_come_later(
    lab: Lab,
) -> None:
    class Hasty(AllTargetsStep[Nothing]):
        Parameters = Nothing
        display_name = "Hasty"

        async def run(self, arrivals: Any) -> None:
            async for arrival in arrivals:
                arrival.passed()
                return

    def work(target: Any, context: Any) -> Any:
        return asyncio.sleep(0 if target.id == "first" else 0.05)

    lab.step("made", made(work))
    lab.step("hasty", Hasty)
    async with lab.server() as serving:
        descriptor = simple(step("made"), step("hasty"), targets=("first", "later"))
        status = await asyncio.wait_for(serving.run(descriptor), 5)
        found = last_statuses(status)
        assert not found["first"]["Error"]
        assert "without a word" in found["later"]["Error"]


async def test_a_step_for_all_targets_sees_those_that_can_still_come_and_decides_for_each(lab: Lab) -> None:
    class Judge(AllTargetsStep[Nothing]):
        Parameters = Nothing
        display_name = "Judge"
        events: ClassVar = {"Seen": list}

        async def run(self, arrivals: Any) -> None:
            seen = [arrival async for arrival in arrivals]
            names = sorted(arrival.target.id for arrival in seen)
            for arrival in seen:
                await arrival.context.emit("Seen", names)
                if arrival.target.id == "no":
                    arrival.failed(TargetFailed("judged"))
                else:
                    arrival.passed()

    lab.step("made", made(raising(TargetFailed("early"))))
    lab.step("judge", Judge)
    async with lab.server() as serving:
        descriptor = simple(step("made"), step("judge"), targets=("yes", "bad", "no"))
        status = await serving.run(descriptor)
        found = last_statuses(status)
        assert found["yes"]["Events"][0]["Data"]["Payload"] == ["no", "yes"]
        assert found["no"]["Error"] == "judged"
        assert found["bad"]["Error"] == "early"
        assert status["Verdict"] == "failed"


async def test_losing_the_lock_fails_that_target_alone(lab: Lab) -> None:
    inside: list[str] = []

    async def work(target: Any, context: Any) -> None:
        inside.append(target.id)
        if target.id != "kept":
            await asyncio.sleep(1000)
        while len(inside) < 4:
            await asyncio.sleep(0.01)

    class InThread(ThreadStep[Nothing]):
        Parameters = Nothing
        display_name = "InThread"

        def run(self, target: Any, parameters: Any, context: Any) -> None:
            if target.id == "threaded":
                inside.append(target.id)
                context.stopping.wait(10)

    lab.step("in-thread", InThread)
    lab.step("made", made(work))
    async with lab.server() as serving:
        descriptor = simple(
            step("in-thread"), step("made"), step("echo", text="x"), targets=("lost", "kept", "threaded")
        )
        job = await serving.start(descriptor)
        async with asyncio.timeout(5):
            while len(inside) < 3:
                await asyncio.sleep(0.01)
        running = serving.manager._runner.jobs[job]
        assert running.attempt is not None
        serving.manager._runner.lock_lost(job, running.attempt.token, ["lost", "threaded"])
        inside.append("go on")
        found = last_statuses(await serving.ended(job))
        assert found["kept"]["TestStepLabel"] == "echo"
        assert not found["kept"]["Error"]
        assert found["lost"]["Error"] == found["threaded"]["Error"] == "stopped: lock lost"
        assert found["lost"]["TestStepLabel"] == "made"
        assert (await serving.entry(job))["Verdict"] == "error"


async def test_a_lock_lost_before_a_target_has_begun_fails_it_too(lab: Lab) -> None:
    ran: list[str] = []
    lab.step("made", made(lambda target, context: ran.append(target.id)))
    async with lab.server() as serving:
        job = await serving.start(simple(step("made"), targets=("a", "b")))
        running = serving.manager._runner.jobs[job]
        async with asyncio.timeout(5):
            while running.attempt is None:
                await asyncio.sleep(0)
        serving.manager._runner.lock_lost(job, running.attempt.token, ["a"])
        status = await asyncio.wait_for(serving.ended(job), 5)
        found = last_statuses(status)
        assert found["a"]["Error"] == "stopped: lock lost"
        assert not found["b"]["Error"]
        assert ran == ["b"]


async def test_a_cancellation_before_the_first_turn_hangs_nothing(lab: Lab) -> None:
    async with lab.server(stop_grace="5s") as serving:
        job = await serving.start(simple(step("echo", text="x"), targets=[f"t{n}" for n in range(50)]))
        running = serving.manager._runner.jobs[job]
        async with asyncio.timeout(5):
            while running.attempt is None or not running.attempt.flows:
                await asyncio.sleep(0)
        running.attempt.cancel()
        await asyncio.wait_for(serving.ended(job), 5)


async def test_many_threads_that_wait_for_the_stop_all_hear_of_it(lab: Lab) -> None:
    waiting = threading.Semaphore(0)

    class Waits(ThreadStep[Nothing]):
        Parameters = Nothing
        display_name = "Waits"

        def run(self, target: Any, parameters: Any, context: Any) -> None:
            waiting.release()
            context.stopping.wait(30)
            context.stopping.check()

    lab.step("waits", Waits)
    async with lab.server() as serving:
        job = await serving.start(simple(step("waits"), targets=[f"t{n}" for n in range(100)]))
        for _ in range(100):
            await asyncio.to_thread(waiting.acquire)
        await serving.stop(job)
        assert (await asyncio.wait_for(serving.ended(job), 5))["State"] == "JobStateCancelled"


async def test_a_callback_that_fails_does_not_keep_the_stop_from_others(lab: Lab) -> None:
    entered: list[str] = []

    async def work(target: Any, context: Any) -> None:
        def fail() -> None:
            raise RuntimeError("in a callback")

        entered.append(target.id)
        with context.stopping.calling(fail):
            await context.stopping

    lab.step("made", made(work))
    async with lab.server() as serving:
        job = await serving.start(simple(step("made"), targets=("a", "b")))
        async with asyncio.timeout(5):
            while len(entered) < 2:
                await asyncio.sleep(0.01)
        await serving.stop(job)
        assert (await asyncio.wait_for(serving.ended(job), 5))["State"] == "JobStateCancelled"
