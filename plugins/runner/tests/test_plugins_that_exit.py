"""Plugin code that calls `sys.exit`: it spoils what it was asked for, and the server goes on."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import pytest
from msgspec import Struct

from contest_core import Finding, JobQuery
from contest_runner.context import StepContext
from contest_runner.parts import (
    AcquireContext,
    FetchContext,
    FetchedTest,
    Fetcher,
    NoSettings,
    ReleaseContext,
    Reporter,
    TargetManager,
)
from contest_runner.step import Step
from contest_runner.target import Target
from contest_runner.testing import Lab, Serving, job_of, one_test, simple, step


class Nothing(Struct, frozen=True):
    pass


class Harmless(Step[Nothing]):
    Parameters: ClassVar[type[Struct]] = Nothing
    display_name: ClassVar[str] = "Harmless"

    async def run(self, target: Target, parameters: Nothing, context: StepContext) -> None:
        pass


class ExitsInCheck(Harmless):
    def check(self, parameters: Nothing) -> Iterable[Finding]:
        sys.exit("on purpose")


class ExitsWhenMade(Harmless):
    def __init__(self) -> None:
        sys.exit("on purpose")


class ExitsInOutputs(Harmless):
    def outputs(self, parameters: Nothing | None) -> frozenset[str] | None:
        sys.exit("on purpose")


def exiting() -> str:
    sys.exit("on purpose")


class ExitingFetcher(Fetcher[Nothing]):
    Settings: ClassVar[type[Struct]] = NoSettings
    Parameters: ClassVar[type[Struct]] = Nothing

    def __init__(self) -> None:
        sys.exit("on purpose")

    async def fetch(self, parameters: Nothing, context: FetchContext) -> FetchedTest:
        raise NotImplementedError


class ExitingManager(TargetManager[Nothing, Nothing]):
    Settings: ClassVar[type[Struct]] = NoSettings
    AcquireParameters: ClassVar[type[Struct]] = Nothing
    ReleaseParameters: ClassVar[type[Struct]] = Nothing

    def __init__(self) -> None:
        sys.exit("on purpose")

    async def acquire(self, parameters: Nothing, context: AcquireContext) -> Sequence[Target]:
        raise NotImplementedError

    async def release(self, targets: Sequence[Target], parameters: Nothing, context: ReleaseContext) -> None:
        raise NotImplementedError


class ExitingReporter(Reporter[Nothing, Nothing]):
    Settings: ClassVar[type[Struct]] = NoSettings
    RunParameters: ClassVar[type[Struct]] = Nothing
    FinalParameters: ClassVar[type[Struct]] = Nothing
    judges: ClassVar[bool] = True
    display_name: ClassVar[str] = "exits"

    def __init__(self) -> None:
        sys.exit("on purpose")

    async def run_report(self, *anything: Any) -> Any:
        raise NotImplementedError

    async def final_report(self, *anything: Any) -> Any:
        raise NotImplementedError


async def findings(serving: Serving, job: object) -> list[tuple[str, str]]:
    data = (await serving.api.validate(serving.caller, json.dumps(job), plan=True)).result()
    assert (await serving.api.list(serving.caller, JobQuery())).result().job_ids == []
    return [(finding.code, finding.message) for finding in data.findings or ()]


@pytest.mark.parametrize("code", [ExitsInCheck, ExitsWhenMade, ExitsInOutputs])
async def test_a_step_that_exits_where_it_is_checked_is_a_finding(lab: Lab, code: type[Harmless]) -> None:
    lab.step("exits", code)
    reads = step("echo", "reads", text='{{ StringVar "exits.x" }}')
    async with lab.server() as serving:
        ((kind, message),) = await findings(serving, simple(step("exits"), reads))
    assert (kind, message) == ("broken_plugin", "step exits cannot be checked: SystemExit: on purpose")


async def test_a_fetcher_that_exits_is_a_finding(lab: Lab) -> None:
    lab.add("fetchers", "exits", ExitingFetcher)
    test = one_test(step("echo", text="x"), TestFetcherName="exits", TestFetcherFetchParameters={})
    async with lab.server() as serving:
        ((_, message),) = await findings(serving, job_of(test))
    assert message.startswith("fetcher exits failed")
    assert "SystemExit: on purpose" in message


async def test_a_template_function_that_exits_fails_the_targets_that_call_it(lab: Lab) -> None:
    lab.add("template_functions", "exiting", exiting)
    async with lab.server() as serving:
        status = await serving.run(simple(step("echo", text="{{ exiting }}")))
    target = status["RunStatuses"][0]["TestStatuses"][0]["TargetStatuses"][0]
    assert "error calling exiting: SystemExit: on purpose" in target["Error"]


async def test_a_target_manager_that_exits_fails_the_job(lab: Lab) -> None:
    lab.add("target_managers", "exits", ExitingManager)
    test = one_test(
        step("echo", text="x"),
        TargetManagerName="exits",
        TargetManagerAcquireParameters={},
        TargetManagerReleaseParameters={},
    )
    async with lab.server() as serving:
        assert await findings(serving, job_of(test)) == []
        status = await serving.run(job_of(test))
    assert status["Verdict"] == "error"
    assert "SystemExit: on purpose" in json.dumps(status)


async def test_a_reporter_that_exits_leaves_a_report_without_success(lab: Lab) -> None:
    lab.add("reporters", "exits", ExitingReporter)
    reporting = {"RunReporters": [{"Name": "exits", "Parameters": {}}]}
    job = job_of(one_test(step("echo", text="x")), Reporting=reporting)
    async with lab.server() as serving:
        status = await serving.run(job)
    assert status["Verdict"] == "error"
