"""The reporter `TargetSuccess`, as in ConTest: counts the targets that passed and judges by an expression.

Its final report, which ConTest lacks, judges the average over the runs.
"""

from __future__ import annotations

from collections import defaultdict
from typing import ClassVar

from msgspec import Struct

from contest_core import JobStatus, RunStatus, TestStatus
from contest_core.wire_names import wire_name
from contest_runner.parts import ReportContext, Reporter, ReportResult
from contest_steps.expression import Expression, parse


class SuccessRunParameters(Struct, frozen=True, kw_only=True, rename=wire_name):
    """Parameters of a run report."""

    success_expression: str
    """What each test of the run has to satisfy: `>=80%` of its targets, `>5` of them."""

    def __post_init__(self) -> None:
        parse(self.success_expression)


class SuccessFinalParameters(Struct, frozen=True, kw_only=True, rename=wire_name):
    """Parameters of a final report."""

    average_success_expression: str
    """What each test has to satisfy on the average over all runs."""

    def __post_init__(self) -> None:
        parse(self.average_success_expression)


class TargetSuccess(Reporter[SuccessRunParameters, SuccessFinalParameters]):
    """Counts the targets that passed."""

    RunParameters: ClassVar[type[Struct]] = SuccessRunParameters
    FinalParameters: ClassVar[type[Struct]] = SuccessFinalParameters
    judges = True
    display_name = "TargetSuccess"

    async def run_report(
        self, status: RunStatus, parameters: SuccessRunParameters, context: ReportContext
    ) -> ReportResult:
        """Judges each test of the run; the run succeeds where all do."""
        expression = parse(parameters.success_expression)
        words = [_judge(test.test_name, expression, *_count(test)) for test in status.test_statuses]
        return ReportResult(success=all(holds for holds, _ in words), data=[text for _, text in words])

    async def final_report(
        self, status: JobStatus, parameters: SuccessFinalParameters, context: ReportContext
    ) -> ReportResult:
        """Judges the average of each test over all runs."""
        expression = parse(parameters.average_success_expression)
        runs = status.run_statuses or []
        if not runs:
            raise ValueError("there are no runs to report on")
        sums: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for run in runs:
            for test in run.test_statuses:
                sums[test.test_name].append(_count(test))
        words = []
        for name, counts in sums.items():
            number = len(counts)
            successes = sum(passed for passed, _ in counts) / number
            words.append(_judge(name, expression, successes, sum(total for _, total in counts) / number))
        return ReportResult(success=all(holds for holds, _ in words), data=[text for _, text in words])


def _count(test: TestStatus) -> tuple[int, int]:
    """Targets that passed, and all of them; one that never came to a step has not passed."""
    statuses = test.target_statuses or []
    if not statuses:
        raise ValueError(f"overall count of success and failures is zero for test {test.test_name}")
    passed = sum(not status.error and bool(status.test_step_label) for status in statuses)
    return passed, len(statuses)


def _judge(name: str, expression: Expression, successes: float, total: float) -> tuple[bool, str]:
    holds, words = expression.judge(successes, total)
    verb = "passes" if holds else "does not pass"
    return holds, f"Test {name} {verb} success criteria: {words}"
