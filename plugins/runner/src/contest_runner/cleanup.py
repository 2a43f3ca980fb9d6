"""The cleanup of one attempt: steps for all of its targets, whatever became of them, before these are given back.

Made by `contest_runner.attempts`. It is walked as the steps of a test are, but what comes of it decides nothing, and
a stop of the job does not end it: it has a stopping of its own, which is set when its time is up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from contest_core.settings import format_duration
from contest_runner.attempt import Attempt
from contest_runner.outcome import Outcome
from contest_runner.status_tree import CLEANUP
from contest_runner.stopping import Stopping, StopReason
from contest_runner.times import seconds

if TYPE_CHECKING:
    from contest_runner.binding import BoundStep
    from contest_runner.flow import Progress
    from contest_runner.job import Job
    from contest_runner.status_tree import TestTree
    from contest_runner.target import Target

LIMIT_OF_STOPPED: Final = 5 * 60 * 1_000_000_000
"""Nanoseconds that a cleanup without a timeout has once its job is stopped."""


class Cleanup:
    """One cleanup, while it goes."""

    def __init__(
        self, job: Job, of: Attempt, tree: TestTree, steps: Sequence[BoundStep], *, timeout: int, grace: float
    ) -> None:
        """Of this attempt. `timeout` is in nanoseconds, 0 is none; `grace` is what a step has to stop, in seconds."""
        self.attempt = Attempt(
            job,
            run_id=of.run_id,
            test_index=of.test_index,
            number=of.number,
            steps=steps,
            tree=tree.cleanup,
            outcome=Outcome(),
            phase=CLEANUP,
            stopping=Stopping(),
        )
        self.attempt.token = of.token
        self.attempt.saved = of.saved
        self._job = job
        self._timeout = timeout
        self._grace = grace
        self._timers: list[asyncio.TimerHandle] = []

    async def run(
        self, targets: Sequence[Target], progress: Mapping[str, Progress], *, but: Container[str]
    ) -> None:
        """Walks all targets `but` these through the steps; `progress` has variables, and how far they have come.

        Returns when they have come out, or are given up and among the job's `left`. Raises what made it impossible
        to go on.
        """
        job = self._job
        job.cleanup = self
        try:
            with ExitStack() as stack:
                if self._timeout:
                    self._limit(self._timeout)
                if job.hurried and job.stopping.why is not None:
                    self._limit(round(self._grace * 1e9))
                elif not self._timeout:
                    stack.enter_context(job.stopping.calling(lambda: self._limit(LIMIT_OF_STOPPED)))
                await self.attempt.run(targets, progress, but=but)
            await job.end_processes(job.process_grace)
        finally:
            job.cleanup = None
            for timer in self._timers:
                timer.cancel()

    def hurry(self) -> None:
        """Nobody waits for it any longer: cancels its steps, and gives up those that do not end."""
        self._stop(self._job.stopping.why or StopReason.STOP, patience=0)

    def _limit(self, limit: int) -> None:
        self._in(seconds(limit), lambda: self._out_of_time(limit))

    def _out_of_time(self, limit: int) -> None:
        name, shown = self.attempt.name, format_duration(limit)
        self._job.log.error("the cleanup of test %s is not done after %s", name, shown)
        self._stop(StopReason.TIME_UP, patience=self._grace / 2)

    def _stop(self, why: StopReason, *, patience: float) -> None:
        self.attempt.stopping.set(why)
        if patience:
            self._in(patience, self.attempt.cancel)
        else:
            self.attempt.cancel()
        self._in(patience + self._grace / 2, self._give_up)

    def _give_up(self) -> None:
        self._job.left.update(self.attempt.abandon())

    def _in(self, delay: float, call: Callable[[], None]) -> None:
        self._timers.append(asyncio.get_running_loop().call_later(delay, call))
