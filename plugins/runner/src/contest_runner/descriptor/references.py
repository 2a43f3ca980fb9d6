"""Do the names that templates read exist? Checked when a job is handed in, as far as that can be known.

Called by the reader of steps. They are fields of the target, and variables of steps: a reference to one is certain only
where it is written out in the template; what a step sets is what its class says (`outputs`). What cannot resolve is a
warning: as in ConTest the job is accepted and the target fails there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from contest_core import Finding, Severity
from contest_runner.binding import BoundStep
from contest_runner.descriptor.desk import Desk
from contest_runner.faults import FAULTS, describe
from contest_runner.templates import TARGET_FIELDS
from contest_runner.walk import pointer

_MEMBERS: Final = (*TARGET_FIELDS, "String")
"""What a template may write after the dot."""

_REFERENCE = re.compile(r"([A-Za-z][A-Za-z0-9_]*)\.([A-Za-z][A-Za-z0-9_]*)", re.ASCII)


def check_references(
    desk: Desk,
    steps: Sequence[tuple[str, BoundStep | None]],
    path: str,
    before: dict[str, BoundStep | None],
) -> None:
    """Tells of fields that no target has, and of variables that no step before set; `path` is where the steps stand.

    The steps are given with their labels, and become some of those `before`; one that could not be read may set
    anything.
    """
    labels = [label for label, _ in steps]
    for number, (label, step) in enumerate(steps):
        for key, index, template in step.templates if step is not None else ():
            where = f"{desk.walk.place(f'{path}/{number}', 'parameters')}/{pointer(key)}/{index}"
            for field in template.fields:
                if field not in _MEMBERS:
                    near = desk.walk.nearest.to(field, _MEMBERS)
                    _warn(desk, "unknown_field", where, f"a target has no field {field[:64]!r}", near)
            for reference in template.references:
                if wrong := _wrong(desk, reference, label, labels, before, where):
                    _warn(desk, "unknown_variable", where, *wrong)
        before[label] = step


def _wrong(
    desk: Desk,
    reference: str,
    label: str,
    labels: Sequence[str],
    before: dict[str, BoundStep | None],
    where: str,
) -> tuple[str, str | None] | None:
    """Why the reference cannot resolve, and what may have been meant."""
    parts = _REFERENCE.fullmatch(reference)
    if parts is None:
        return f"{reference[:64]!r} is no variable: write label.name", None
    of, name = parts.groups()
    if of == label:
        return (
            f"{reference!r} is a variable of the step itself, which is not set before the step has begun",
            None,
        )
    if of not in before:
        if of in labels:
            return f"{reference!r} is set by a later step", None
        near = desk.walk.nearest.to(of, list(before))
        return f"{reference!r} is set by no step: there is no step {of!r} before", near and f"{near}.{name}"
    outputs = _outputs(desk, before[of], where)
    if outputs is None or name in outputs:
        return None
    near = desk.walk.nearest.to(name, sorted(outputs))
    sets = f"step {of!r} sets {', '.join(sorted(outputs)[:10]) or 'no variables'}"
    return f"{reference!r} is not set: {sets}", near and f"{of}.{near}"


def _warn(desk: Desk, code: str, path: str, message: str, nearest: str | None) -> None:
    hint = f", did you mean {nearest!r}?" if nearest else ""
    desk.walk.add(
        Finding(
            severity=Severity.WARNING,
            code=code,
            path=path,
            message=f"{message}{hint}",
            nearest=nearest,
        )
    )


def _outputs(desk: Desk, step: BoundStep | None, path: str) -> frozenset[str] | None:
    if step is None:
        return None
    try:
        return step.outputs
    # The boundary to a step's code: its fault refuses this descriptor and no more.
    except FAULTS as error:
        desk.walk.error("broken_plugin", path, f"step {step.plan.name} cannot be checked: {describe(error)}")
        desk.log.exception("step %s failed to say what it sets", step.plan.name)
        return None
