"""Reads the steps of a test, as its fetcher gave them, to steps that are ready to run."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from contest_core import Finding
from contest_runner.binding import BoundStep, bind_step, rest_of
from contest_runner.descriptor.desk import Desk
from contest_runner.descriptor.references import check_references
from contest_runner.descriptor_fields import MAX_STEPS_OF_JOB, MAX_VALUES_OF_JOB, StepFields, Steps
from contest_runner.faults import FAULTS, describe
from contest_runner.parts import FetchedTest
from contest_runner.plan import StepPlan
from contest_runner.raw_json import RawTexts
from contest_runner.step import BaseStep, OnInterrupt
from contest_runner.walk import BAD, Enough, pointer

MAX_LABEL_BYTES: Final = 32

_WRITTEN: Final = (dict, list, float)
"""What stands in a plan as it was written."""

_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]*", re.ASCII)


def read_steps(
    desk: Desk, fetched: FetchedTest, path: str, before: dict[str, BoundStep | None], *, cleanup: bool = False
) -> tuple[BoundStep, ...] | None:
    """The steps; None where something is wrong with one. `path` is where the fetcher's parameters stand.

    `before` are the test's steps so far, by label, and get the new ones. Of cleanup steps there may be none.
    """
    where = path
    for token in fetched.path.split("/")[1:]:
        where = desk.walk.place(where, token)
    read: list[StepFields] = desk.walk.read(fetched.steps, Steps, where)
    if read is BAD:
        return None
    if not read and not cleanup:
        desk.walk.error("missing", where, "at least one step is required per test")
    _count(desk, read, where)
    written = _texts(desk, fetched, where)
    steps = [_step(desk, step, f"{where}/{number}", number, written) for number, step in enumerate(read)]
    labels = set(before)
    for number, step in enumerate(read):
        if step.label and step.label in labels:
            place = desk.walk.place(f"{where}/{number}", "label")
            desk.walk.error("duplicate", place, f"a second step is labelled {step.label[:64]!r}")
        labels.add(step.label)
    labelled = [(fields.label, step) for fields, step in zip(read, steps, strict=True)]
    check_references(desk, labelled, where, before)
    return None if None in steps else tuple(step for step in steps if step)


def _texts(desk: Desk, fetched: FetchedTest, path: str) -> Callable[[str], str]:
    """Gives what is written at a place in the descriptor, or where the fetcher has the steps from."""
    if fetched.text is None:
        return desk.texts.at
    elsewhere = RawTexts(fetched.text)
    return lambda place: elsewhere.at(place.removeprefix(path))


def _count(desk: Desk, steps: list[StepFields], path: str) -> None:
    """Raises `Enough` where the job has far too much: each step and each value takes time to check."""
    desk.steps += len(steps)
    desk.values += sum(len(values) for step in steps for values in step.parameters.values())
    for what, has, limit in (
        ("steps", desk.steps, MAX_STEPS_OF_JOB),
        ("values of parameters", desk.values, MAX_VALUES_OF_JOB),
    ):
        if has > limit:
            message = f"up to here the job has {has:,} {what}, the limit is {limit:,} in all tests together"
            desk.walk.error("too_many", path, message)
            raise Enough


def _step(
    desk: Desk, step: StepFields, path: str, position: int, written: Callable[[str], str]
) -> BoundStep | None:
    desk.work.check()
    desk.later(step, path)
    _label(desk, step, path)
    walk = desk.walk
    on_interrupt = step.on_interrupt
    if on_interrupt is not None and on_interrupt not in OnInterrupt.__members__.values():
        on_interrupt = None
        walk.error("invalid", walk.place(path, "OnInterrupt"), f"must be one of {', '.join(OnInterrupt)}")
    name = desk.known(desk.catalog.steps, step.name, "name", walk.place(path, "name"))
    if name is None:
        return None
    place = walk.place(path, "parameters")
    code = desk.catalog.step(name)
    parameters = _as_written(written, code, step.parameters, place)
    plan = StepPlan(name=name, label=step.label, parameters=parameters, on_interrupt=on_interrupt)
    return _bound(desk, plan, code, position, path, place)


def _bound(
    desk: Desk, plan: StepPlan, code: type[BaseStep[Any]], position: int, path: str, place: str
) -> BoundStep | None:
    kept = desk.catalog.kept
    key = kept.key(plan, position)
    found: list[Finding] = []
    bound: BoundStep | None = None
    try:
        if (bound := kept.find(key)) is not None:
            return bound
        bound = bind_step(plan, code, position, desk.catalog.template, found, place, desk.walk.nearest)
    # The boundary to a step's own checks: their fault refuses this descriptor and no more.
    except FAULTS as error:
        desk.walk.error("broken_plugin", path, f"step {plan.name} cannot be checked: {describe(error)}")
        desk.log.exception("step %s failed to check its parameters", plan.name)
    for finding in found:
        desk.walk.add(finding)
    if bound is not None and not found:
        kept.keep(key, bound)
    return bound


def _as_written(
    written: Callable[[str], str], code: type[BaseStep[Any]], parameters: dict[str, list[Any]], path: str
) -> dict[str, list[Any]]:
    """The parameters with objects, lists, fractions and zeros (-0) as the JSON text that stands in the descriptor.

    That text is what a step gets of them, and their template; encoding them anew would change it. Of what a step
    takes as it is written, it is the text of every value.
    """
    rest = rest_of(code, parameters)
    return {
        key: [
            written(f"{path}/{pointer(key)}/{number}")
            if key in rest or isinstance(value, _WRITTEN) or (value == 0 and value is not False)
            else value
            for number, value in enumerate(values)
        ]
        for key, values in parameters.items()
    }


def _label(desk: Desk, step: StepFields, path: str) -> None:
    place = desk.walk.place(path, "label")
    if not step.label:
        desk.walk.error("missing", place, "the step has no label, and it is mandatory")
        return
    desk.length(step.label, MAX_LABEL_BYTES, "the step's label", place)
    if not _IDENTIFIER.fullmatch(step.label):
        message = f"{step.label[:64]!r} is no label: a letter, then letters, digits and underscores"
        desk.walk.error("bad_label", place, message)
