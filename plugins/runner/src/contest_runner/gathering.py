"""Runs an `AllTargetsStep`: collects the targets that reach it and ends the collection when no more can."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

from contest_runner.faults import raised_as_error
from contest_runner.step import Arrival, TargetFailed

if TYPE_CHECKING:
    from typing import Self

    from contest_runner.attempt import Attempt
    from contest_runner.binding import BoundStep
    from contest_runner.context import StepContext
    from contest_runner.flow import Flow
    from contest_runner.target import Target


class _Arrived(Arrival[Any]):
    def __init__(
        self, target: Target, parameters: Any, context: StepContext, done: asyncio.Future[None]
    ) -> None:
        self.target = target
        self.parameters = parameters
        self.context = context
        self.done = done

    def passed(self) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def failed(self, error: TargetFailed | Exception) -> None:
        if self.done.done():
            return
        self.done.set_exception(_fit(error))


class Gathering:
    """One `AllTargetsStep` in one attempt; the iterator of its arrivals.

    `_expected` counts the targets that have neither arrived nor dropped out before.
    """

    def __init__(self, attempt: Attempt, step: BoundStep, targets: int) -> None:
        self._attempt = attempt
        self._step = step
        self._expected = targets
        self._seen: set[int] = set()
        self._arrivals: deque[_Arrived] = deque()
        self._all: list[_Arrived] = []
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._outcome: Exception | None = None
        """Set when the step's own code has returned: what that means for targets it has not decided about."""
        self._over = asyncio.Event()
        """The step's own code has returned, or is not waited for any more."""

    async def arrive(self, flow: Flow, parameters: Any, context: StepContext) -> None:
        """A target reaches the step; returns or raises when the step has decided about it."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        arrived = _Arrived(flow.target, parameters, context, done)
        self._count(flow)
        self._arrivals.append(arrived)
        self._all.append(arrived)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())
        self._changed.set()
        if self._outcome is not None:
            arrived.failed(self._outcome)
        try:
            await done
        except asyncio.CancelledError:
            if flow.alone is None:
                self._task.cancel()
            raise

    def gone(self, flow: Flow, position: int) -> None:
        """A target has come out of the test; it will not arrive any more."""
        self._count(flow)
        self._changed.set()

    async def ended(self) -> None:
        """Returns when the step's own code has returned, or has been given up."""
        if self._task is not None:
            await self._over.wait()

    def abandon(self) -> list[str]:
        """Gives up waiting for the step's own code; the targets that it may still be at."""
        if self._task is None or self._over.is_set():
            return []
        self._task.cancel()
        self._over.set()
        return [arrived.target.id for arrived in self._all]

    @property
    def step(self) -> BoundStep:
        """The step that gathers."""
        return self._step

    @property
    def task(self) -> asyncio.Task[None] | None:
        """In which the step's own code runs."""
        return self._task

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Arrival[Any]:
        while not self._arrivals:
            if self._expected <= 0:
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        return self._arrivals.popleft()

    def _count(self, flow: Flow) -> None:
        if flow.index not in self._seen:
            self._seen.add(flow.index)
            self._expected -= 1

    async def _run(self) -> None:
        outcome: Exception = RuntimeError("the step returned without a word about this target")
        try:
            await self._step.step.run(self)
        # The boundary to a step's code: what it raises fails the targets that it has not decided about.
        except BaseException as error:
            outcome = _fit(error)
        self._outcome = outcome
        self._over.set()
        for arrived in self._all:
            arrived.failed(outcome)


def _fit(error: object) -> Exception:
    """What a future takes, whatever the step said."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    if isinstance(error, BaseException):
        return raised_as_error(error)
    return TypeError(f"failed() was given {error!r}, which is no exception")
