"""Every case of the kits for target managers, fetchers and reporters can fail: for each there is a part broken so."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import pytest
from msgspec import Struct

from contest_runner.parts import (
    AcquireFailed,
    FetchedTest,
    Fetcher,
    FetchFailed,
    Reporter,
    ReportResult,
    TargetManager,
)
from contest_runner.target import Target
from contest_runner.testing import FetcherSuite, ReporterSuite, TargetManagerSuite, part_place, step

SUITES = (TargetManagerSuite, FetcherSuite, ReporterSuite)


class Parameters(Struct, frozen=True, kw_only=True):
    """Of all parts here."""

    word: str = "good"
    path: str = ""

    def __post_init__(self) -> None:
        if self.word == "BAD":
            raise ValueError("do not shout")


class Careless(Parameters, frozen=True, kw_only=True):
    """They are never wrong."""

    def __post_init__(self) -> None:
        pass


class GoodTargets(TargetManager[Parameters, Parameters]):
    AcquireParameters = ReleaseParameters = Parameters
    narrows = True

    async def acquire(self, parameters: Any, context: Any) -> Any:
        if parameters.word == "none":
            raise AcquireFailed("there are none")
        pool = await self.candidates(parameters)
        return [target for target in pool or () if context.only is None or target.id in context.only]

    async def candidates(self, parameters: Any) -> Any:
        return [Target(id="a"), Target(id="b")]

    async def release(self, targets: Any, parameters: Any, context: Any) -> None:
        pass


class GoodFetcher(Fetcher[Parameters]):
    Parameters: ClassVar = Parameters

    async def fetch(self, parameters: Any, context: Any) -> FetchedTest:
        if parameters.word == "none":
            raise FetchFailed("there is no such test")
        return FetchedTest(name="t", steps=[step("echo", text="x")], path="")


class GoodReporter(Reporter[Parameters, Parameters]):
    RunParameters = FinalParameters = Parameters
    judges = True

    async def run_report(self, status: Any, parameters: Any, context: Any) -> ReportResult:
        if parameters.path:
            Path(parameters.path).write_text(f"run {status.run_id}")
        return ReportResult(success=parameters.word != "no", data={"run": status.run_id})

    async def final_report(self, status: Any, parameters: Any, context: Any) -> ReportResult:
        return ReportResult(success=True, data=status.name)


class HeldTargets(TargetManagerSuite):
    target_manager = GoodTargets
    acquires: ClassVar = {"word": "good"}
    targets = frozenset({"a", "b"})
    fails: ClassVar = {"word": "none"}
    refused: ClassVar = {"word": {"word": "BAD"}}


class HeldFetcher(FetcherSuite):
    fetcher = GoodFetcher
    fetches: ClassVar = {"word": "good"}
    fails: ClassVar = {"word": "none"}
    refused: ClassVar = {"word": {"word": "BAD"}}


class HeldReporter(ReporterSuite):
    reporter = GoodReporter
    final: ClassVar = {"word": "good"}
    says_no: ClassVar = {"word": "no"}
    refused: ClassVar = {"word": {"word": "BAD"}}

    @property
    def run(self) -> dict[str, Any]:
        return {"path": str(self.folder / "run.txt")}

    folder = Path()

    def place(self, directory: Path, complaints: Any) -> Any:
        self.folder = directory
        return super().place(directory, complaints)


class TestGoodTargets(HeldTargets):
    pass


class TestGoodFetcher(HeldFetcher):
    pass


class TestGoodReporter(HeldReporter):
    pass


class Broken(NamedTuple):
    """A part that breaks a promise, and a part of what the case says of it."""

    suite: type
    case: str
    part: type
    words: str


BROKEN: list[Broken] = []


def breaks(case: str, words: str) -> Callable[[type], type]:
    """The class below does."""

    def register(part: type) -> type:
        kinds = {TargetManager: HeldTargets, Fetcher: HeldFetcher, Reporter: HeldReporter}
        (suite,) = [suite for kind, suite in kinds.items() if issubclass(part, kind)]
        BROKEN.append(Broken(suite, f"test_{case}", part, words))
        return part

    return register


# --- target managers


@breaks("it_gives_targets_and_gets_them_back", "it gave x")
class GivesOthers(GoodTargets):
    async def acquire(self, parameters: Any, context: Any) -> Any:
        return [Target(id="x")]


@breaks("targets_come_back_also_where_they_failed", "")
class TakesNothingBack(GoodTargets):
    async def release(self, targets: Any, parameters: Any, context: Any) -> None:
        raise RuntimeError("no")


@breaks("targets_that_are_held_are_waited_for", "it waits")
class TakesOthersMeanwhile(GoodTargets):
    """Whoever does not wait for its pool."""

    numbers = itertools.count()

    async def acquire(self, parameters: Any, context: Any) -> Any:
        return [Target(id=f"c{next(self.numbers)}")]


@breaks("targets_that_stay_held_are_given_up_in_time", "the fault of plugin")
class FailsByItsOwnFault(GoodTargets):
    async def acquire(self, parameters: Any, context: Any) -> Any:
        try:
            await context.locker.acquire([Target(id="a")], deadline=context.deadline)
        except AcquireFailed:
            raise RuntimeError("I wanted it") from None
        return [Target(id="a")]


@breaks("what_it_would_give_is_known_before", "")
class ExpectsOthers(GoodTargets):
    async def candidates(self, parameters: Any) -> Any:
        return [Target(id="c")]

    async def acquire(self, parameters: Any, context: Any) -> Any:
        return [Target(id="a")]


@breaks("narrowed_it_gives_those_that_are_meant", "")
class NarrowsNothing(GoodTargets):
    async def acquire(self, parameters: Any, context: Any) -> Any:
        return await self.candidates(parameters)


@breaks("where_there_are_none_it_says_so", "")
class AlwaysFinds(GoodTargets):
    async def acquire(self, parameters: Any, context: Any) -> Any:
        return await self.candidates(parameters)


@breaks("wrong_parameters_are_refused_when_the_job_is_handed_in", "DID NOT RAISE")
class MindsNothing(GoodTargets):
    AcquireParameters = Careless


# --- fetchers


@breaks("what_it_fetches_is_run", "")
class FetchesOnce(GoodFetcher):
    fetched: ClassVar[set[str]] = set()

    async def fetch(self, parameters: Any, context: Any) -> FetchedTest:
        if "t" in self.fetched:
            raise FetchFailed("it is fetched")
        self.fetched.add("t")
        return await super().fetch(parameters, context)


@breaks("what_cannot_be_fetched_is_refused_when_the_job_is_handed_in", "says why")
class SaysNotWhy(GoodFetcher):
    async def fetch(self, parameters: Any, context: Any) -> FetchedTest:
        raise FetchFailed("")


@breaks("what_cannot_be_fetched_is_refused_when_the_job_is_handed_in", "complained")
class FailsToFail(GoodFetcher):
    async def fetch(self, parameters: Any, context: Any) -> FetchedTest:
        raise KeyError("t")


@breaks("wrong_parameters_are_refused_when_the_job_is_handed_in", "DID NOT RAISE")
class FetchesAnything(GoodFetcher):
    Parameters: ClassVar = Careless


# --- reporters


@breaks("it_reports_on_runs_and_on_the_job", "")
class WantsSuccess(GoodReporter):
    async def run_report(self, status: Any, parameters: Any, context: Any) -> ReportResult:
        if status.test_statuses[0].target_statuses[0].error:
            raise ValueError("a target failed")
        return await super().run_report(status, parameters, context)


@breaks("made_twice_a_report_is_as_made_once", "something else")
class Appends(GoodReporter):
    async def run_report(self, status: Any, parameters: Any, context: Any) -> ReportResult:
        with Path(parameters.path).open("a") as file:
            file.write("again")
        return ReportResult(success=True)


@breaks("its_word_counts_where_it_judges", "it does not say no")
class SaysAlwaysYes(GoodReporter):
    async def run_report(self, status: Any, parameters: Any, context: Any) -> ReportResult:
        return ReportResult(success=True)


@breaks("wrong_parameters_are_refused_when_the_job_is_handed_in", "DID NOT RAISE")
class ReportsAnything(GoodReporter):
    RunParameters = Careless


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.part.__name__)
def test_a_broken_part_fails_its_case(
    broken: Broken, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(part_place, "PATIENCE", 1.0)
    names = {HeldTargets: "target_manager", HeldFetcher: "fetcher", HeldReporter: "reporter"}
    suite: Any = type("Held", (broken.suite,), {names[broken.suite]: broken.part})()
    with pytest.raises((AssertionError, pytest.fail.Exception, Exception)) as caught:
        getattr(suite, broken.case)(tmp_path)
    assert broken.words in str(caught.value)


def test_every_case_has_a_part_that_breaks_it() -> None:
    for suite in SUITES:
        cases = {name for name in dir(suite) if name.startswith("test_")}
        assert {broken.case for broken in BROKEN if issubclass(broken.suite, suite)} == cases
