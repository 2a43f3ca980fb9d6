"""The step `example`, as in ConTest: emits events, and fails as many targets as it is told, by chance.

The one to read before writing a step with events. It does nothing that would do harm twice, so after a crash of the
server it runs again.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from types import NoneType
from typing import Any, ClassVar

from msgspec import Struct

from contest_core import Finding, Severity
from contest_core.wire_names import wire_name
from contest_runner.context import StepContext
from contest_runner.step import OnInterrupt, Step, TargetFailed
from contest_runner.target import Target


def _check_percentage(percentage: int) -> Iterable[Finding]:
    if not 0 <= percentage <= 100:
        fails = "every target" if percentage > 0 else "no target"
        message = f"a percentage is from 0 to 100: with {percentage} {fails} fails"
        yield Finding(severity=Severity.WARNING, code="out_of_range", path="", message=message)


class ExampleParameters(Struct, frozen=True, kw_only=True, rename=wire_name):
    """Parameters of `example`."""

    fail_pct: int = 0
    """How many of a hundred targets fail, by chance."""


class Example(Step[ExampleParameters]):
    """Emits events, and fails some targets by chance."""

    Parameters: ClassVar[type[Struct]] = ExampleParameters
    display_name = "Example"
    on_interrupt = OnInterrupt.RERUN
    events: ClassVar[Mapping[str, type]] = {
        "ExampleStartedEvent": NoneType,
        "ExampleFinishedEvent": NoneType,
        "ExampleFailedEvent": NoneType,
    }
    checks: ClassVar[Mapping[str, Callable[[Any], Iterable[Finding]]]] = {"fail_pct": _check_percentage}

    async def run(self, target: Target, parameters: ExampleParameters, context: StepContext) -> None:
        """Begins, throws the dice, and says how it ended."""
        await context.emit("ExampleStartedEvent")
        if random.randrange(100) < parameters.fail_pct:
            await context.emit("ExampleFailedEvent")
            raise TargetFailed("target failed")
        await context.emit("ExampleFinishedEvent")
