"""The suites that the authors of target managers, fetchers and reporters subclass, as `StepSuite` for steps.

The smallest whole test file of a reporter:

    from contest_runner.testing import ReporterSuite

    class TestMail(ReporterSuite):
        reporter = Mail
        run = {"To": "lab@example.org"}
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest

from contest_core import Blame, JobState, Verdict
from contest_core.testing import Complaints, Suite, case
from contest_runner.parts import Fetcher, Reporter, TargetManager
from contest_runner.testing.lab import Json, Serving, job_of, last_statuses, one_test, simple, step
from contest_runner.testing.part_place import NAME, PartPlace, refused_at, until

Parameters = Mapping[str, Any]
"""As in a job."""


class ReporterPlace(PartPlace):
    """Where a case of a reporter happens: each report is made twice, as after a crash."""

    def __init__(self, reporter: type[Reporter[Any, Any]], directory: Path, complaints: Complaints) -> None:
        self.made: list[tuple[Any, Any]] = []
        """What the reporter said, the first and the second time, with what there was then."""
        super().__init__("reporters", self._twice(reporter), directory, complaints)

    def _twice(self, reporter: Any) -> Any:
        async def run_report(part: Any, status: Any, parameters: Any, context: Any) -> Any:
            return await self._both(reporter.run_report, part, status, parameters, context)

        async def final_report(part: Any, status: Any, parameters: Any, context: Any) -> Any:
            return await self._both(reporter.final_report, part, status, parameters, context)

        methods = {"run_report": run_report, "final_report": final_report}
        return type(reporter.__name__, (reporter,), methods)

    async def _both(self, report: Any, *arguments: Any) -> Any:
        first = await report(*arguments), self._files()
        second = await report(*arguments), self._files()
        self.made.append((first, second))
        return second[0]

    def _files(self) -> dict[str, bytes]:
        own = self.lab.folder
        return {
            str(path): path.read_bytes()
            for path in self.directory.rglob("*")
            if path.is_file() and not path.is_relative_to(own)
        }


class ReporterSuite(Suite):
    """Holds a reporter to its contract. Files that it writes have to be below the case's directory, `tmp_path`."""

    reporter: ClassVar[type[Reporter[Any, Any]]]
    """The reporter."""

    run: ClassVar[Parameters | None] = None
    """Parameters of a run report; None: it is for the end of a job only."""

    final: ClassVar[Parameters | None] = None
    """Parameters of a final report; None: it is for runs only."""

    says_no: ClassVar[Parameters | None] = None
    """Parameters of a run report that says no to a run whose only target has passed; None: none does."""

    refused: ClassVar[Mapping[str, Parameters]] = {}
    """By the name of a parameter of a run report, those in which this one is wrong."""

    def place(self, directory: Path, complaints: Complaints) -> ReporterPlace:
        """Where a case happens."""
        return ReporterPlace(self.reporter, directory, complaints)

    @case
    async def test_it_reports_on_runs_and_on_the_job(self, place: ReporterPlace) -> None:
        """Whether targets passed or failed: what it says is kept, and is JSON."""
        async with place.serve() as serving:
            for executable in ("true", "false"):
                status = await serving.run(self._job(executable, self.run, self.final))
                assert status["State"] == JobState.COMPLETED.wire_name, status["StateErrMsg"]
                found = status["JobReport"]
                runs = [each for reports in found["RunReports"] or () for each in reports]
                assert len(runs) == (0 if self.run is None else 1), "there is one report of the run"
                assert len(found["FinalReports"] or ()) == (0 if self.final is None else 1)
                name = self.reporter.display_name or NAME
                assert {each["ReporterName"] for each in [*runs, *(found["FinalReports"] or ())]} == {name}

    @case
    async def test_made_twice_a_report_is_as_made_once(self, place: ReporterPlace) -> None:
        """After a crash it is made again, with the same `context.key`."""
        async with place.serve() as serving:
            await serving.run(self._job("true", self.run, self.final))
        assert place.made, "it has reported nothing"
        for first, second in place.made:
            assert first == second, "the second time it said, or wrote, something else"

    @case
    async def test_its_word_counts_where_it_judges(self, place: ReporterPlace) -> None:
        """And nowhere else."""
        if self.says_no is None:
            pytest.skip("the suite has no `says_no`")
        async with place.serve() as serving:
            status = await serving.run(self._job("true", self.says_no, None))
        (said,) = status["JobReport"]["RunReports"][0]
        assert not said["Success"], f"it does not say no: {said['Data']}"
        assert status["Verdict"] == (Verdict.FAILED if self.reporter.judges else Verdict.PASSED)

    @case
    async def test_wrong_parameters_are_refused_when_the_job_is_handed_in(self, place: ReporterPlace) -> None:
        """At their place."""
        if not self.refused:
            pytest.skip("the suite has no `refused`")
        async with place.serve() as serving:
            for name, parameters in self.refused.items():
                await refused_at(serving, self._job("true", parameters, None), "Parameters", name)

    def _job(self, executable: str, run: Parameters | None, final: Parameters | None) -> Json:
        reporting: Json = {"RunReporters": [] if run is None else [{"Name": NAME, "Parameters": {**run}}]}
        if final is not None:
            reporting["FinalReporters"] = [{"Name": NAME, "Parameters": {**final}}]
        return simple(step("cmd", executable=executable), Reporting=reporting)


class TargetsPlace(PartPlace):
    """Where a case of a target manager happens."""

    def __init__(
        self, manager: type[TargetManager[Any, Any]], directory: Path, complaints: Complaints
    ) -> None:
        self.acquired: list[list[str]] = []
        """The targets that it gave, each time."""
        self.released: list[list[str]] = []
        """The targets that it got back, each time."""
        super().__init__("target_managers", self._noting(manager), directory, complaints)

    def _noting(self, manager: Any) -> Any:
        async def acquire(part: Any, parameters: Any, context: Any) -> Any:
            given = await manager.acquire(part, parameters, context)
            self.acquired.append([target.id for target in given])
            return given

        async def release(part: Any, targets: Any, parameters: Any, context: Any) -> None:
            await manager.release(part, targets, parameters, context)
            self.released.append([target.id for target in targets])

        return type(manager.__name__, (manager,), {"acquire": acquire, "release": release})


class TargetManagerSuite(Suite):
    """Holds a target manager to its contract."""

    target_manager: ClassVar[type[TargetManager[Any, Any]]]
    """The target manager."""

    acquires: ClassVar[Parameters]
    """Acquire parameters with which it gives targets."""

    targets: ClassVar[Set[str]]
    """The IDs of those that it may give then. Two at least, for a manager that `narrows`."""

    releases: ClassVar[Parameters] = {}
    """Release parameters."""

    fails: ClassVar[Parameters | None] = None
    """Acquire parameters with which it finds none; None: it always does."""

    refused: ClassVar[Mapping[str, Parameters]] = {}
    """By the name of an acquire parameter, those in which this one is wrong."""

    def place(self, directory: Path, complaints: Complaints) -> TargetsPlace:
        """Where a case happens."""
        return TargetsPlace(self.target_manager, directory, complaints)

    @case
    async def test_it_gives_targets_and_gets_them_back(self, place: TargetsPlace) -> None:
        """They are among those that it may give, locked meanwhile and free afterwards."""
        async with place.serve() as serving:
            job_id = await serving.start(self._job(step("sleep", duration="10m")))
            await serving.until(job_id, last_statuses, "the targets are in the step")
            (given,) = place.acquired
            assert given, "it gave none and raised nothing"
            assert set(given) <= set(self.targets), f"it gave {', '.join(given)}"
            assert set(await serving.locks()) == set(given), (
                "the targets that it gave are those that are locked"
            )
            await serving.stop(job_id)
            await serving.ended(job_id)
            assert place.released == [given]
            assert await serving.locks() == {}

    @case
    async def test_targets_come_back_also_where_they_failed(self, place: TargetsPlace) -> None:
        """And may be had again."""
        async with place.serve() as serving:
            for _ in range(2):
                status = await serving.run(self._job(step("cmd", executable="false")))
                assert status["Verdict"] == Verdict.FAILED, status["StateErrMsg"]
                assert await serving.locks() == {}
        assert place.released == place.acquired

    @case
    async def test_targets_that_are_held_are_waited_for(self, place: TargetsPlace) -> None:
        """The status says for whom; when they are free it goes on."""
        async with place.serve() as serving:
            holder = await self._held(serving)
            job_id = await serving.start(self._job(step("echo", text="x")))
            found: list[Any] = []

            async def waits() -> bool:
                found[:] = [(await serving.status(job_id)).get("Waiting")]
                return found != [None]

            await until(waits, "it waits, and says so")
            assert {each["HeldBy"] for each in found[0]["Targets"]} == {holder}
            await serving.stop(holder)
            assert (await serving.ended(job_id))["Verdict"] == Verdict.PASSED

    @case
    async def test_targets_that_stay_held_are_given_up_in_time(self, place: TargetsPlace) -> None:
        """That is no fault of the plugin, and nothing stays locked."""
        async with place.serve() as serving:
            holder = await self._held(serving)
            job = self._job(step("echo", text="x"), TargetManagerAcquireTimeout="200ms")
            status = await serving.run(job)
            assert status["Verdict"] == Verdict.ERROR, "it had targets that somebody else holds"
            assert status["Blame"] == Blame.INFRASTRUCTURE, f"the fault of {status['Blame']}"
            assert set((await serving.locks()).values()) == {holder}

    @case
    async def test_what_it_would_give_is_known_before(self, place: TargetsPlace) -> None:
        """By `candidates`, unless it says that nobody knows."""
        parameters = msgspec.convert({**self.acquires}, self.target_manager.AcquireParameters, strict=False)
        told = await self.target_manager().candidates(parameters)
        if told is None:
            pytest.skip("it does not know its candidates")
        async with place.serve() as serving:
            await serving.run(self._job(step("echo", text="x")))
        assert set(place.acquired[0]) <= {target.id for target in told}

    @case
    async def test_narrowed_it_gives_those_that_are_meant(self, place: TargetsPlace) -> None:
        """All of them and no others: a retry of what failed."""
        if not self.target_manager.narrows:
            pytest.skip("it does not say that it `narrows`")
        async with place.serve() as serving:
            chosen = '{{ if eq .ID "%s" }}1{{ else }}0{{ end }}' % min(self.targets)  # noqa: UP031 - braces
            failing = step("cmd", executable="sh", args=["-c", f"exit {chosen}"])
            job_id = await serving.start(self._job(failing))
            await serving.ended(job_id)
            answer = await serving.api.retry(serving.caller, job_id, failed_only=True)
            await serving.ended(answer.result().new_job_id)
        assert place.acquired[1:] == [[min(self.targets)]]

    @case
    async def test_where_there_are_none_it_says_so(self, place: TargetsPlace) -> None:
        """By raising `AcquireFailed`: the job goes on to its end, and nothing is a fault of the plugin."""
        if self.fails is None:
            pytest.skip("the suite has no `fails`")
        async with place.serve() as serving:
            more = {"TargetManagerAcquireParameters": {**self.fails}}
            status = await serving.run(self._job(step("echo", text="x"), **more))
        assert status["Verdict"] == Verdict.ERROR
        assert status["Blame"] == Blame.INFRASTRUCTURE, f"the fault of {status['Blame']}"

    @case
    async def test_wrong_parameters_are_refused_when_the_job_is_handed_in(self, place: TargetsPlace) -> None:
        """At their place."""
        if not self.refused:
            pytest.skip("the suite has no `refused`")
        where = "TargetManagerAcquireParameters"
        async with place.serve() as serving:
            for name, parameters in self.refused.items():
                job = self._job(step("echo", text="x"), **{where: {**parameters}})
                await refused_at(serving, job, where, name)
        assert place.acquired == []

    async def _held(self, serving: Serving) -> int:
        """A job that holds every target that it may give."""
        job_id = await serving.start(simple(step("sleep", duration="10m"), targets=sorted(self.targets)))
        await until(serving.locks, "somebody else holds the targets")
        return job_id

    def _job(self, *steps: Json, **more: Any) -> Json:
        given = {
            "TargetManagerName": NAME,
            "TargetManagerAcquireParameters": {**self.acquires},
            "TargetManagerReleaseParameters": {**self.releases},
        }
        of_job = {key: more.pop(key) for key in ("TargetManagerAcquireTimeout",) if key in more}
        return job_of(one_test(*steps, **{**given, **more}), **of_job)


class FetcherSuite(Suite):
    """Holds a fetcher to its contract."""

    fetcher: ClassVar[type[Fetcher[Any]]]
    """The fetcher."""

    fetches: ClassVar[Parameters]
    """Parameters with which it finds a test whose steps pass with any target."""

    fails: ClassVar[Parameters | None] = None
    """Parameters with which it finds none; None: it always does."""

    refused: ClassVar[Mapping[str, Parameters]] = {}
    """By the name of a parameter, those in which this one is wrong."""

    def place(self, directory: Path, complaints: Complaints) -> PartPlace:
        """Where a case happens."""
        return PartPlace("fetchers", self.fetcher, directory, complaints)

    @case
    async def test_what_it_fetches_is_run(self, place: PartPlace) -> None:
        """And a second job gets the same."""
        async with place.serve() as serving:
            for _ in range(2):
                status = await serving.run(self._job(self.fetches))
                assert status["Verdict"] == Verdict.PASSED, status["StateErrMsg"]
                (test,) = status["RunStatus"]["TestStatuses"]
                assert test["TestName"], "the test has a name"
                assert test["TestStepStatuses"], "the test has steps"

    @case
    async def test_what_cannot_be_fetched_is_refused_when_the_job_is_handed_in(
        self, place: PartPlace
    ) -> None:
        """By raising `FetchFailed`, which says why: that is no fault of the plugin."""
        if self.fails is None:
            pytest.skip("the suite has no `fails`")
        async with place.serve() as serving:
            await refused_at(serving, self._job(self.fails), "0", "TestFetcherFetchParameters")

    @case
    async def test_wrong_parameters_are_refused_when_the_job_is_handed_in(self, place: PartPlace) -> None:
        """At their place."""
        if not self.refused:
            pytest.skip("the suite has no `refused`")
        async with place.serve() as serving:
            for name, parameters in self.refused.items():
                await refused_at(serving, self._job(parameters), "TestFetcherFetchParameters", name)

    def _job(self, parameters: Parameters) -> Json:
        given: Json = {"TestFetcherName": NAME, "TestFetcherFetchParameters": {**parameters}}
        return job_of(one_test(**given))
