"""One target on its way through the steps of a test, and how far it had come before an interruption.

Made and walked by `contest_runner.attempt`; a step sees its context only.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from contest_core import TargetInfo
from contest_runner.variables import NO_VARIABLES, Variables

if TYPE_CHECKING:
    from contest_runner.binding import BoundStep
    from contest_runner.stopping import Stopping, StopReason
    from contest_runner.target import Target


class Flow:
    """One target on its way through the steps."""

    __slots__ = (
        "abandoned",
        "alone",
        "failed",
        "index",
        "info",
        "inside",
        "out",
        "passed",
        "started",
        "stopping",
        "target",
        "task",
        "variables",
    )

    def __init__(self, index: int, target: Target, info: TargetInfo) -> None:
        self.index = index
        self.target = target
        self.info = info
        self.variables: Variables = NO_VARIABLES
        self.stopping: Stopping | None = None
        """What its steps are told; made when one asks."""
        self.alone: StopReason | None = None
        """Why this target alone has to stop."""
        self.task: asyncio.Task[None] | None = None
        """From its beginning until it is out: of many targets, not many are on their way at once."""
        self.out = False
        """Nothing of it runs any more."""
        self.inside: BoundStep | None = None
        """The step that it is in."""
        self.started = False
        """Its task has begun: one that is cancelled before would never come out."""
        self.failed = False
        self.passed = False
        """It has come through all steps."""
        self.abandoned = False
        """It outlived a stop: what comes of it is not written down any more."""

    def cancel(self) -> None:
        """Cancels what it is at; before it has begun it looks for itself whether it shall."""
        if self.started and self.task is not None and not self.task.done():
            self.task.cancel()

    def set_variable(self, label: str, name: str, raw: bytes) -> None:
        """A step sets one of its variables."""
        of_step = {**self.variables.get(label, {}), name: raw}
        self.variables = {**self.variables, label: of_step}


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far one target had come before an interruption."""

    step: int = 0
    """The first step that it has not finished."""
    inside: bool = False
    """It was inside that step."""
    failed: bool = False
    variables: Variables = {}
