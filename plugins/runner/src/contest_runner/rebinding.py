"""Binds the steps of a plan that was read from the store: what was there when the job was handed in may be gone.

Called by the runner for a job that goes on after an interruption. Without all of its parts a job is not run; what it
had is cleaned up by those that are left.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from contest_core import Blame
from contest_runner.binding import BindFailed, BoundStep, BoundSteps, BoundTest, bind_step
from contest_runner.faults import FAULTS, describe
from contest_runner.job import JobFailed
from contest_runner.step import OnInterrupt, Step

if TYPE_CHECKING:
    from contest_runner.catalog import Catalog
    from contest_runner.plan import Plan, StepPlan, TestPlan


class StepGone(BindFailed):
    """There is nothing to run for a step of a cleanup; the target goes on to the next one."""


def bind_plan(plan: Plan, catalog: Catalog) -> BoundSteps:
    """All steps of a plan, ready to run. Raises `JobFailed` where a part of it is gone."""
    try:
        for test in plan.tests:
            catalog.target_manager(test.target_manager)
        return tuple(
            BoundTest(_bound(test.steps, catalog), _bound(test.cleanup, catalog)) for test in plan.tests
        )
    # The boundary to the code of parts, which may be gone or broken since the job was handed in.
    except FAULTS as error:
        raise _cannot_run(_said(error)) from error


def bind_cleanup(test: TestPlan, catalog: Catalog) -> tuple[BoundTest, JobFailed | None]:
    """The cleanup of a test, and why not all of it can be run; a step that is gone fails and is passed over."""
    found: list[BoundStep] = []
    failure: JobFailed | None = None
    for position, plan in enumerate(test.cleanup):
        try:
            found.extend(_bind_one(plan, position, catalog))
        # The boundary to the code of steps, as above.
        except FAULTS as error:
            said = _said(error)
            found.append(_gone(plan, position, said))
            failure = failure or _cannot_run(said)
    return BoundTest((), tuple(found)), failure


def _bound(steps: Sequence[StepPlan], catalog: Catalog) -> tuple[BoundStep, ...]:
    return tuple(bound for position, plan in enumerate(steps) for bound in _bind_one(plan, position, catalog))


def _bind_one(plan: StepPlan, position: int, catalog: Catalog) -> Iterator[BoundStep]:
    bound = bind_step(plan, catalog.step(plan.name), position, catalog.template)
    if bound is not None:
        yield bound


def _said(error: BaseException) -> str:
    return str(error) if isinstance(error, BindFailed | LookupError) else describe(error)


def _cannot_run(why: str) -> JobFailed:
    return JobFailed(f"the job's plan cannot be run here: {why}", blame=Blame.PLUGIN)


class _Nothing(Struct, frozen=True, kw_only=True):
    """No parameters."""


class _Gone(Step[_Nothing]):
    """Stands where a step was."""

    Parameters = _Nothing
    display_name = ""

    def __init__(self, why: str = "") -> None:
        self._why = why

    async def run(self, target: Any, parameters: Any, context: Any) -> None:
        raise StepGone(self._why, blame=Blame.PLUGIN)


def _gone(plan: StepPlan, position: int, why: str) -> BoundStep:
    bound = BoundStep(plan, _Gone(why), position, {}, ())
    # Whatever the plan says of a target that was inside: it fails here, and goes on.
    bound.on_interrupt = OnInterrupt.RERUN
    return bound
