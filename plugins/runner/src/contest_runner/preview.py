"""What a job would do, without doing it: the plan with what each target would be given.

Called where a descriptor is validated with `plan`. Templates are rendered for the targets that a target manager can
name before they are acquired; what depends on variables of steps is left as it is written. Secrets are masked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from logging import Logger, LoggerAdapter
from time import monotonic
from typing import Any, Final

import msgspec

from contest_core import ByteSize, Duration, Secret
from contest_core.job_plan import JobPlan, PlannedPart, PlannedStep, PlannedTarget, PlannedTest
from contest_core.settings import format_duration
from contest_runner.aside import Work
from contest_runner.binding import MISSING, BindFailed, BoundStep, BoundTest, Slot
from contest_runner.bounded import PluginFault, guarded
from contest_runner.catalog import Catalog
from contest_runner.descriptor import Reading
from contest_runner.faults import FAULTS, describe
from contest_runner.parts import AcquireFailed, decode_part
from contest_runner.plan import Plan, ReporterPlan, TestPlan
from contest_runner.target import Target
from contest_runner.templates import TemplateError
from contest_runner.variables import NO_VARIABLES

MAX_TARGETS: Final = 100
"""Targets of a test that are shown."""

MAX_RENDERED: Final = 10_000
"""Steps of targets that are rendered in all: an answer has a limit."""

MAX_BYTES: Final = 16 * 1024 * 1024
"""Of all that is rendered, as JSON; what comes behind is not."""

MAX_SECONDS: Final = 1.5
"""That rendering takes: whoever asked waits for three. One template can take most of one, a plugin's function more."""


async def preview(
    reading: Reading, catalog: Catalog, *, log: LoggerAdapter[Logger], work: Work
) -> JobPlan | None:
    """The plan of a descriptor that was read; None where it is refused."""
    plan = reading.plan
    if plan is None:
        return None
    found = [await _targets(test, catalog, log) for test in plan.tests]
    return await work.do(_job, plan, reading.bound, found, catalog, work)


class _Left:
    """How much more is rendered."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._steps = MAX_RENDERED
        self._bytes = MAX_BYTES
        self._until = monotonic() + MAX_SECONDS

    def take(self, rendered: Iterator[PlannedTarget]) -> Iterator[PlannedTarget]:
        """Those that there is room for."""
        while self._has_room() and (target := next(rendered, None)) is not None:
            self._work.check()
            self._steps -= 1
            self._bytes -= len(msgspec.json.encode(target))
            yield target

    def _has_room(self) -> bool:
        return self._steps > 0 and self._bytes > 0 and monotonic() < self._until


class _Found(msgspec.Struct, frozen=True):
    """What a target manager says before it acquires."""

    targets: Sequence[Target] | None
    error: str = ""


async def _targets(test: TestPlan, catalog: Catalog, log: LoggerAdapter[Logger]) -> _Found:
    try:
        manager = catalog.target_manager(test.target_manager)()
        parameters = decode_part(test.acquire_parameters, manager.AcquireParameters)
        targets = await guarded(lambda: manager.candidates(parameters))
        if targets is not None and not all(isinstance(target, Target) for target in targets):
            raise TypeError("it names something else than targets")
        return _Found(targets)
    except AcquireFailed as error:
        return _Found(None, str(error))
    # The boundary to a target manager's code: its fault spoils its own part of the answer.
    except FAULTS as error:
        log.exception("target manager %s failed to name its targets", test.target_manager)
        return _Found(None, str(error) if isinstance(error, PluginFault) else describe(error))


def _job(
    plan: Plan, bound: Sequence[BoundTest], found: Sequence[_Found], catalog: Catalog, work: Work
) -> JobPlan:
    left = _Left(work)
    return JobPlan(
        name=plan.name,
        tags=list(plan.tags),
        runs=plan.runs,
        run_interval=_span(plan.run_interval),
        acquire_timeout=format_duration(plan.acquire_timeout),
        release_timeout=format_duration(plan.release_timeout),
        tests=[_test(*each, catalog, left) for each in zip(plan.tests, bound, found, strict=True)],
        skipped_tests=list(plan.skipped_tests),
        run_reporters=[_reporter(reporter, catalog, final=False) for reporter in plan.run_reporters],
        final_reporters=[_reporter(reporter, catalog, final=True) for reporter in plan.final_reporters],
    )


def _test(test: TestPlan, bound: BoundTest, found: _Found, catalog: Catalog, left: _Left) -> PlannedTest:
    targets = found.targets or ()
    shown = targets[:MAX_TARGETS]
    manager = catalog.target_manager(test.target_manager)
    given = decode_part(test.acquire_parameters, manager.AcquireParameters)
    return PlannedTest(
        test_name=test.name,
        # The list of targets stands beside it.
        target_manager=PlannedPart(
            name=catalog.target_managers.get(test.target_manager).name,
            parameters={key: value for key, value in _masked(given).items() if key != "Targets"},
        ),
        targets=None if found.targets is None else [target.info() for target in shown],
        target_count=len(targets),
        targets_error=found.error,
        steps=[_step(step, shown, left) for step in bound.steps],
        cleanup_steps=[_step(step, shown, left) for step in bound.cleanup],
        cleanup_timeout=_span(test.cleanup_timeout),
        retries=test.retries,
        retry_interval=_span(test.retry_interval),
    )


def _reporter(reporter: ReporterPlan, catalog: Catalog, *, final: bool) -> PlannedPart:
    code = catalog.reporter(reporter.name)
    kind = code.FinalParameters if final else code.RunParameters
    name = catalog.reporters.get(reporter.name).name
    return PlannedPart(name=name, parameters=_masked(decode_part(reporter.parameters, kind)))


def _step(step: BoundStep, targets: Sequence[Target], left: _Left) -> PlannedStep:
    keys = {field.name: field.encode_name for field in msgspec.structs.fields(step.step.Parameters)}
    same: dict[str, Any] = {}
    for name, value in step.literals.items():
        # What a step takes as it is written has keys of its own.
        same |= _masked(value) if isinstance(value, dict) else {keys[name]: _masked(value)}
    return PlannedStep(
        label=step.label,
        name=step.plan.name,
        parameters=same,
        templates={slot.field.key: _sources(slot) for slot in step.slots},
        targets=list(left.take(_target(step, target) for target in targets)) if step.slots else [],
    )


def _sources(slot: Slot) -> list[str]:
    # What renders to a secret may have one written in it.
    return [Secret.MASK if slot.field.item is Secret else template.source for template in slot.templates]


def _target(step: BoundStep, target: Target) -> PlannedTarget:
    rendered: dict[str, Any] = {}
    waits: dict[str, None] = {}
    error = ""
    for slot in step.slots:
        read = [reference for template in slot.templates for reference in template.references]
        waits |= dict.fromkeys(read)
        if not read:
            try:
                value = slot.render(target, NO_VARIABLES)
                rendered[slot.field.key] = "" if value is MISSING else _masked(value)
            except (TemplateError, ValueError) as failed:
                error = error or f"failed to expand parameter {slot.field.key!r}: {failed}"
    if not waits and not error:
        error = _refused(step, target)
    return PlannedTarget(id=target.id, parameters=rendered, waits_for=list(waits), error=error)


def _refused(step: BoundStep, target: Target) -> str:
    """What the step itself says of the parameters."""
    try:
        step.bind(target, NO_VARIABLES)
    except BindFailed as failed:
        return str(failed)
    # The boundary to a step's own checks.
    except FAULTS as failed:
        return describe(failed)
    return ""


def _masked(value: Any) -> Any:
    """The value as JSON has it, without its secrets."""
    return msgspec.json.decode(msgspec.json.encode(value, enc_hook=_shown))


def _shown(value: Any) -> Any:
    return str(value) if isinstance(value, Secret | Duration | ByteSize) else repr(value)


def _span(nanoseconds: int) -> str:
    return format_duration(nanoseconds) if nanoseconds else ""
