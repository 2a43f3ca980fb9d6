"""The step `sleep`, as in ConTest: waits. After an interruption it waits for what was left."""

from __future__ import annotations

import time
from typing import ClassVar

from msgspec import Struct

from contest_core import Duration
from contest_runner.context import StepContext
from contest_runner.step import OnInterrupt, Step, Stopped
from contest_runner.target import Target


class SleepParameters(Struct, frozen=True, kw_only=True):
    """Parameters of `sleep`."""

    duration: Duration
    """How long, in Go's syntax; zero or less is not at all."""


class Sleep(Step[SleepParameters]):
    """Waits for a fixed time."""

    Parameters: ClassVar[type[Struct]] = SleepParameters
    display_name = "Sleep"
    on_interrupt = OnInterrupt.RESUME

    async def run(self, target: Target, parameters: SleepParameters, context: StepContext) -> None:
        """Waits; the deadline is kept, as ConTest keeps it, in Unix milliseconds."""
        left = parameters.duration.seconds
        if left <= 0:
            return
        saved = context.saved
        if isinstance(saved, dict) and isinstance(saved.get("D"), int):
            left = saved["D"] / 1000 - time.time()
        else:
            await context.save({"D": round((time.time() + left) * 1000)})
        if why := await context.stopping.within(max(0, left)):
            raise Stopped(why.value)
