"""The step `echo`, as in ConTest: writes a text to the log. A template that fails, fails its target alone."""

from __future__ import annotations

import logging
from typing import ClassVar

from msgspec import Struct

from contest_runner.context import StepContext
from contest_runner.step import Expanded, OnInterrupt, Step
from contest_runner.target import Target

_log = logging.getLogger("contest.step.echo")


class EchoParameters(Struct, frozen=True, kw_only=True):
    """Parameters of `echo`."""

    text: Expanded[str]
    """What to write."""


class Echo(Step[EchoParameters]):
    """Writes a text to the log."""

    Parameters: ClassVar[type[Struct]] = EchoParameters
    display_name = "Echo"
    on_interrupt = OnInterrupt.RERUN

    async def run(self, target: Target, parameters: EchoParameters, context: StepContext) -> None:
        """Writes the text."""
        if _log.isEnabledFor(logging.INFO):
            _log.info("target %s: %s", target.id, parameters.text)
