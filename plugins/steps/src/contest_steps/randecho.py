"""The step `randecho`, as in ConTest: each target passes or fails by the toss of a coin.

For trying out what a job, a report or a graph makes of failures. Tossing twice does no harm, so after a crash of the
server it runs again.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from types import NoneType
from typing import ClassVar

from msgspec import Struct

from contest_runner.context import StepContext
from contest_runner.step import OnInterrupt, Step, TargetFailed
from contest_runner.target import Target


class RandEchoParameters(Struct, frozen=True, kw_only=True):
    """Parameters of `randecho`."""

    text: str
    """What to write to the log; no template."""


class RandEcho(Step[RandEchoParameters]):
    """Passes or fails by the toss of a coin."""

    Parameters: ClassVar[type[Struct]] = RandEchoParameters
    display_name = "RandEcho"
    on_interrupt = OnInterrupt.RERUN
    events: ClassVar[Mapping[str, type]] = {"TargetSucceeded": NoneType, "TargetFailed": NoneType}

    async def run(self, target: Target, parameters: RandEchoParameters, context: StepContext) -> None:
        """Tosses, and says so in an event."""
        if random.random() < 0.5:
            await context.emit("TargetFailed")
            context.log.info("target %s failed: %s", target.id, parameters.text)
            raise TargetFailed("target randomly failed")
        await context.emit("TargetSucceeded")
        context.log.info("target %s succeeded: %s", target.id, parameters.text)
