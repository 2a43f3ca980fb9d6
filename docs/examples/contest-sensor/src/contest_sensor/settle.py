"""The step `settle`: waits, in a thread, as a library that blocks would."""

from __future__ import annotations

from typing import ClassVar

from msgspec import Struct

from contest_core import Duration
from contest_runner.context import ThreadStepContext
from contest_runner.step import OnInterrupt, ThreadStep
from contest_runner.target import Target


class SettleParameters(Struct, frozen=True, kw_only=True):
    """Parameters of `settle`."""

    duration: Duration = Duration("1s")
    """How long."""


class Settle(ThreadStep[SettleParameters]):
    """Waits for each target in a thread of its own."""

    Parameters: ClassVar[type[Struct]] = SettleParameters
    display_name = "Settle"
    on_interrupt = OnInterrupt.RERUN

    def run(self, target: Target, parameters: SettleParameters, context: ThreadStepContext) -> None:
        """A plain function: it may block, and has to look at `context.stopping` itself."""
        context.log.info("letting %s settle", target.id)
        context.stopping.wait(parameters.duration.seconds)
        context.stopping.check()
