"""The step `variables`, as in ConTest: its parameters become variables that later steps of the target can read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from msgspec import Struct

from contest_core import Finding, Severity
from contest_runner.step import OnInterrupt, Rest, Step

if TYPE_CHECKING:
    from contest_runner.context import StepContext
    from contest_runner.target import Target

_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]*", re.ASCII)
_NUL = re.compile(rb"(?<!\\)(\\\\)*\\u0000")


class VariablesParameters(Struct, frozen=True, kw_only=True):
    """Parameters of `variables`."""

    variables: Rest
    """Every parameter is a variable and has one value, any JSON."""


class VariablesStep(Step[VariablesParameters]):
    """Sets variables."""

    Parameters = VariablesParameters
    display_name = "variables"
    on_interrupt = OnInterrupt.RERUN

    def check(self, parameters: VariablesParameters) -> Iterator[Finding]:
        """Names have to be identifiers, and have one value each."""
        for name, values in parameters.variables.items():
            path = "/" + name.replace("~", "~0").replace("/", "~1")
            if not _IDENTIFIER.fullmatch(name):
                reason = f"{name[:64]!r} is no variable name: a letter, then letters, digits and underscores"
                yield Finding(severity=Severity.ERROR, code="bad_parameter", path=path, message=reason)
            if len(values) != 1:
                reason = f"variable {name[:64]!r} has to have one value, has {len(values)}"
                yield Finding(severity=Severity.ERROR, code="bad_parameter", path=path, message=reason)
            if any(_NUL.search(bytes(value)) for value in values):
                reason = f"variable {name[:64]!r} has a NUL character, which no store keeps"
                yield Finding(severity=Severity.ERROR, code="bad_parameter", path=path, message=reason)

    def outputs(self, parameters: VariablesParameters | None) -> frozenset[str] | None:
        """The names of all parameters."""
        return None if parameters is None else frozenset(parameters.variables)

    async def run(self, target: Target, parameters: VariablesParameters, context: StepContext) -> None:
        """Sets them, in the order in which they are written."""
        for name, (value,) in parameters.variables.items():
            await context.set_variable(name, value)
