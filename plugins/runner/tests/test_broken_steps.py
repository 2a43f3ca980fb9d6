"""Every case of the steps' kit can fail: for each there is a step that is broken that way."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from types import NoneType
from typing import Any, ClassVar, NamedTuple

import pytest
from msgspec import Struct

from contest_core import Duration, Finding, Secret, Severity
from contest_core.testing import cases as running
from contest_runner.step import AllTargetsStep, Arrival, Expanded, OnInterrupt, Step, TargetFailed, ThreadStep
from contest_runner.testing import StepSuite, part_place

CASES = [name for name in dir(StepSuite) if name.startswith("test_")]


class Parameters(Struct, frozen=True, kw_only=True):
    """Parameters of `Good`."""

    text: Expanded[str] = ""
    """What it says."""
    times: Expanded[int] = 1
    """How often."""
    wait: Duration = Duration("0s")
    """How long it waits then."""
    password: Secret = Secret("")
    """What it needs and does not say."""


class Said(Struct, frozen=True, kw_only=True):
    """The payload of the event `Said`."""

    text: str


def _not_shouting(text: str) -> Iterable[Finding]:
    if text.isupper():
        yield Finding(severity=Severity.ERROR, code="shouting", path="", message="do not shout")


class Good(Step[Parameters]):
    """Keeps every promise."""

    Parameters: ClassVar[type[Struct]] = Parameters
    display_name = "Good"
    events: ClassVar = {"Said": Said}
    on_interrupt = OnInterrupt.RESUME
    checks: ClassVar = {"text": _not_shouting}

    def outputs(self, parameters: Parameters | None) -> frozenset[str] | None:
        return frozenset({"said"})

    async def run(self, target: Any, parameters: Any, context: Any) -> None:
        if context.saved is None:
            for _ in range(parameters.times):
                await self.say(parameters.text, context)
            await context.save({"said": True})
        await self.wait(parameters, context)
        if parameters.text == "bad":
            raise self.failure()
        context.log.info("the password is %s", parameters.password.reveal())

    async def say(self, text: str, context: Any) -> None:
        await context.emit("Said", Said(text=text))
        await context.set_variable("said", text)

    async def wait(self, parameters: Any, context: Any) -> None:
        if await context.stopping.within(parameters.wait.seconds):
            context.stopping.check()

    def failure(self) -> Exception:
        return TargetFailed("it was told something bad")


class GoodThread(ThreadStep[Parameters]):
    """Keeps them in a thread."""

    Parameters: ClassVar[type[Struct]] = Parameters
    display_name = "GoodThread"
    events: ClassVar = {"Said": Said}
    on_interrupt = OnInterrupt.RERUN

    def run(self, target: Any, parameters: Any, context: Any) -> None:
        context.emit("Said", {"text": parameters.text})
        context.stopping.wait(parameters.wait.seconds)
        context.stopping.check()
        if parameters.text == "bad":
            raise TargetFailed("no")


class GoodCrowd(AllTargetsStep[Parameters]):
    """Keeps them for all targets at once."""

    Parameters: ClassVar[type[Struct]] = Parameters
    display_name = "GoodCrowd"

    async def run(self, arrivals: AsyncIterator[Arrival[Parameters]]) -> None:
        crowd = [arrival async for arrival in arrivals]
        first = crowd[0]
        if await first.context.stopping.within(first.parameters.wait.seconds):
            first.context.stopping.check()
        for arrival in crowd:
            if arrival.parameters.text == "bad":
                arrival.failed(TargetFailed("no"))
            else:
                arrival.passed()


class Held(StepSuite):
    """The suite of all steps here."""

    step = Good
    passes: ClassVar = {"text": "good", "times": 2, "password": "correct horse"}
    fails: ClassVar = {"text": "bad"}
    refused: ClassVar = {"text": {"text": "BAD"}, "times": {"times": "often"}}
    lasts: ClassVar = {"wait": "10m"}


class TestGood(Held):
    pass


class TestGoodThread(Held):
    step = GoodThread
    refused: ClassVar = {"times": {"times": "often"}}


class TestGoodCrowd(TestGoodThread):
    step = GoodCrowd


class Broken(NamedTuple):
    """A step that breaks a promise, and a part of what the case says of it."""

    case: str
    step: type
    words: str
    suite: dict[str, Any]


BROKEN: list[Broken] = []


def breaks(case: str, words: str, **suite: Any) -> Callable[[type], type]:
    """The class below does; `suite` is what its suite gives differently."""

    def register(step: type) -> type:
        BROKEN.append(Broken(f"test_{case}", step, words, suite))
        return step

    return register


@breaks("what_it_declares_is_whole", "on_interrupt")
class SaysTwice(Good):
    on_interrupt = "twice"


@breaks("what_it_declares_is_whole", "argument")
class WantsArguments(Good):
    def __init__(self, speed: int) -> None:
        self.speed = speed


@breaks("what_it_declares_is_whole", "there are")
class ChecksNothing(Good):
    checks: ClassVar = {"txet": _not_shouting}


class Undescribed(Struct, frozen=True, kw_only=True):
    text: str = ""


@breaks(
    "its_parameters_are_described_for_editors",
    "docstring below",
    passes={"text": "x"},
    fails=None,
    lasts=None,
)
class SaysNothingOfItsParameters(Good):
    Parameters = Undescribed


@breaks("its_parameters_are_described_for_editors", "there are", passes={"txet": "x"})
class ExampleThatIsNone(Good):
    pass


@breaks("a_target_passes", "a target failed")
class Fails(Good):
    async def run(self, target: Any, parameters: Any, context: Any) -> None:
        raise TargetFailed("always")


@breaks("a_target_fails_and_the_error_says_why", "fault of plugin")
class FailsByItsOwnFault(Good):
    def failure(self) -> Exception:
        return ValueError("it was told something bad")


@breaks("a_target_fails_and_the_error_says_why", "nothing says why")
class FailsWithoutAWord(Good):
    def failure(self) -> Exception:
        return TargetFailed(" ")


@breaks("wrong_parameters_are_refused_when_the_job_is_handed_in", "DID NOT RAISE")
class RefusesNothing(Good):
    checks: ClassVar = {}


def _elsewhere(text: str) -> Iterator[Finding]:
    for finding in _not_shouting(text):
        yield Finding(severity=finding.severity, code="x", path="", message=" ")


@breaks("wrong_parameters_are_refused_when_the_job_is_handed_in", "says why")
class RefusesWithoutAWord(Good):
    checks: ClassVar = {"text": _elsewhere}


@breaks("templates_are_expanded_for_each_target", "a target failed")
class PreparesOnce(Good):
    """What it was given once, it takes for all targets: true of literals, which they share."""

    seen: Any = None

    async def run(self, target: Any, parameters: Any, context: Any) -> None:
        self.seen = self.seen or parameters
        assert self.seen is parameters
        await super().run(target, parameters, context)


@breaks("a_second_run_goes_like_the_first", "a target failed")
class KeepsWhatBelongsToARun(Good):
    def __init__(self) -> None:
        self.gone: set[str] = set()

    async def run(self, target: Any, parameters: Any, context: Any) -> None:
        assert target.id not in self.gone
        self.gone.add(target.id)
        await super().run(target, parameters, context)


@breaks("many_targets_side_by_side_hold_nobody_up", "event loop was held")
class Blocks(Good):
    async def wait(self, parameters: Any, context: Any) -> None:
        time.sleep(0.06)  # 25 of them


@breaks("many_targets_side_by_side_hold_nobody_up", "a target failed")
class ForgetsSome(GoodCrowd):
    async def run(self, arrivals: AsyncIterator[Arrival[Parameters]]) -> None:
        crowd = [arrival async for arrival in arrivals]
        for arrival in crowd[:20]:
            arrival.passed()


@breaks("its_events_are_those_it_declares", "no int")
class SaysSomethingElse(Good):
    events: ClassVar = {"Said": int}


@breaks("its_events_are_those_it_declares", "no NoneType")
class SaysMore(Good):
    events: ClassVar = {"Said": NoneType}


@breaks("its_variables_are_those_it_declares", "has only none")
class DeclaresNoVariables(Good):
    def outputs(self, parameters: Parameters | None) -> frozenset[str] | None:
        return frozenset()


@breaks("its_variables_are_those_it_declares", "'NoneType' object")
class ThinksOfLiteralsOnly(Good):
    def outputs(self, parameters: Any) -> frozenset[str] | None:
        return frozenset({"said", parameters.text})


@breaks("its_secrets_are_shown_nowhere", "a secret is shown")
class LogsForItself(Good):
    async def run(self, target: Any, parameters: Any, context: Any) -> None:
        logging.getLogger("elsewhere").debug("trying %s", parameters.password.reveal())


@breaks("a_stop_is_obeyed_within_the_grace", "JobStateCancellationFailed")
class DoesNotListen(Good):
    async def wait(self, parameters: Any, context: Any) -> None:
        ends = asyncio.get_running_loop().time() + min(parameters.wait.seconds, 2)
        while (left := ends - asyncio.get_running_loop().time()) > 0:
            try:
                await asyncio.sleep(left)
            except asyncio.CancelledError:
                continue


@breaks("a_stop_is_obeyed_within_the_grace", "JobStateCancellationFailed")
class DoesNotListenInAThread(GoodThread):
    def run(self, target: Any, parameters: Any, context: Any) -> None:
        time.sleep(2)


@breaks("a_stop_is_obeyed_within_the_grace", "it did not last")
class EndsEarly(Good):
    async def wait(self, parameters: Any, context: Any) -> None:
        pass


@breaks("given_up_it_leaves_nothing", "it left behind: process")
class StartsProcessesItself(Good):
    started: ClassVar[list[int]] = []

    async def wait(self, parameters: Any, context: Any) -> None:
        self.started.append(os.posix_spawnp("sleep", ["sleep", "60"], {**os.environ}))
        await super().wait(parameters, context)


@breaks("given_up_it_leaves_nothing", "it left behind: thread")
class LeavesAThread(Good):
    async def wait(self, parameters: Any, context: Any) -> None:
        threading.Thread(target=time.sleep, args=(1,), name="lost").start()
        await super().wait(parameters, context)


@breaks("given_up_it_leaves_nothing", "it left behind: file")
class LeavesAFileOpen(Good):
    kept: ClassVar[list[Any]] = []

    async def wait(self, parameters: Any, context: Any) -> None:
        self.kept.append(tempfile.TemporaryFile())
        await super().wait(parameters, context)


@breaks("given_up_it_leaves_nothing", "temporary folder: mine-")
class LeavesAFile(Good):
    async def wait(self, parameters: Any, context: Any) -> None:
        tempfile.mkdtemp(prefix="mine-")
        await super().wait(parameters, context)


@breaks("an_interruption_is_as_it_declares", "looks at")
class BeginsAnew(Good):
    async def run(self, target: Any, parameters: Any, context: Any) -> None:
        await context.save({"said": True})
        await self.wait(parameters, context)


@breaks("an_interruption_is_as_it_declares", "has saved something")
class SavesNothing(Good):
    async def run(self, target: Any, parameters: Any, context: Any) -> None:
        assert context.saved is None
        await self.wait(parameters, context)


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.step.__name__)
def test_a_broken_step_fails_its_case(
    broken: Broken, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "_AWAY", 0.3)
    monkeypatch.setattr(part_place, "PATIENCE", 1.0)
    suite: Any = type("Held", (Held,), {"step": broken.step, **broken.suite})()
    with pytest.raises((AssertionError, pytest.fail.Exception, TypeError, AttributeError)) as caught:
        getattr(suite, broken.case)(tmp_path)
    assert broken.words in str(caught.value)
    while StartsProcessesItself.started:
        # Nobody else would bury them, and another test would find them.
        os.kill(process := StartsProcessesItself.started.pop(), signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(process, 0)


def test_every_case_has_a_step_that_breaks_it() -> None:
    assert sorted({broken.case for broken in BROKEN}) == CASES
