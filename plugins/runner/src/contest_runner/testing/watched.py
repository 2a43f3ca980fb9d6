"""A step whose suite sees what the runner gives it: the same class, whose `run` notes its targets first."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any, Protocol
from unittest.mock import patch

from contest_runner.context import StepContext
from contest_runner.step import AllTargetsStep, BaseStep, ThreadStep


class Notes:
    """What happened in a step, from any thread."""

    def __init__(self) -> None:
        self.entered: list[tuple[str, Any]] = []
        """Targets that the step was given, each with its parameters, in order."""
        self.found: list[Any] = []
        """What the step found in `context.saved` when it looked."""

    @contextmanager
    def of_saved(self) -> Iterator[None]:
        """Notes who looks at `context.saved`."""
        real = vars(StepContext)["saved"].fget

        def look(context: StepContext) -> Any:
            found = real(context)
            self.found.append(found)
            return found

        with patch.object(StepContext, "saved", property(look)):
            yield

    def parameters(self) -> dict[str, Any]:
        """By target, what the step was given last."""
        return dict(self.entered)


def watched(step: type[BaseStep[Any]], notes: Notes) -> type[BaseStep[Any]]:
    """The step as a class that notes what it is given."""
    run = _all_targets(step, notes) if issubclass(step, AllTargetsStep) else _one_target(step, notes)
    return type(step.__name__, (step,), {"run": run, "__module__": step.__module__, "__doc__": step.__doc__})


class _Runs(Protocol):
    def run(self, *arguments: Any) -> Any: ...


def _one_target(step: Any, notes: Notes) -> Any:
    def run(self: _Runs, target: Any, parameters: Any, context: Any) -> Any:
        notes.entered.append((target.id, parameters))
        return step.run(self, target, parameters, context)

    async def run_on_the_loop(self: _Runs, target: Any, parameters: Any, context: Any) -> None:
        await run(self, target, parameters, context)

    return run if issubclass(step, ThreadStep) else run_on_the_loop


def _all_targets(step: Any, notes: Notes) -> Any:
    async def run(self: _Runs, arrivals: AsyncIterator[Any]) -> None:
        await step.run(self, _Arrivals(arrivals, notes))

    return run


class _Arrivals:
    def __init__(self, arrivals: AsyncIterator[Any], notes: Notes) -> None:
        self._arrivals = arrivals
        self._notes = notes

    def __aiter__(self) -> _Arrivals:
        return self

    async def __anext__(self) -> Any:
        arrival = await anext(self._arrivals)
        self._notes.entered.append((arrival.target.id, arrival.parameters))
        return arrival
