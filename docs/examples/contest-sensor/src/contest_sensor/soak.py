"""The step `soak`: reads a sensor of the target again and again, and fails it above a limit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

from msgspec import Struct

from contest_core import Duration, Finding, Output, Severity
from contest_runner.context import StepContext
from contest_runner.processes import describe_exit
from contest_runner.step import Expanded, OnInterrupt, Step, Stopped, TargetFailed
from contest_runner.target import Target


def _check_times(times: int) -> Iterable[Finding]:
    if times < 1:
        yield Finding(
            severity=Severity.ERROR, code="bad_times", path="", message="times has to be at least 1"
        )


class SoakParameters(Struct, frozen=True, kw_only=True):
    """Parameters of `soak`."""

    command: list[Expanded[str]]
    """What prints the temperature, and its arguments; each may be a template."""
    limit: Expanded[float] = 80.0
    """In degrees; above it the target fails."""
    times: int = 3
    """How often it is read."""
    pause: Duration = Duration("1s")
    """Between two readings."""


class SensorRead(Struct, frozen=True, kw_only=True):
    """The payload of the event `SensorRead`."""

    degrees: float


class Soak(Step[SoakParameters]):
    """Reads a sensor of each target, all of them side by side."""

    Parameters: ClassVar[type[Struct]] = SoakParameters
    display_name = "Soak"
    events: ClassVar[Mapping[str, type]] = {"SensorRead": SensorRead}
    on_interrupt = OnInterrupt.RESUME
    checks: ClassVar[Mapping[str, Callable[[Any], Iterable[Finding]]]] = {"times": _check_times}

    def outputs(self, parameters: SoakParameters | None) -> frozenset[str]:
        """The one variable that it sets."""
        return frozenset({"highest"})

    async def run(self, target: Target, parameters: SoakParameters, context: StepContext) -> None:
        """Returning passes the target."""
        readings: list[float] = list(context.saved or [])
        while len(readings) < parameters.times:
            if readings:
                await _pause(parameters.pause.seconds, context)
            readings.append(await self._read(target, parameters, context))
            await context.save(readings)
        await context.set_variable("highest", f"{max(readings):g}")

    async def _read(self, target: Target, parameters: SoakParameters, context: StepContext) -> float:
        async with await context.spawn(parameters.command) as process:
            status = await process.wait()
        said = process.stdout.text()
        if status != 0:
            output = Output(
                stdout=said,
                stdout_size=process.stdout.size,
                stderr=process.stderr.text(),
                stderr_size=process.stderr.size,
            )
            raise TargetFailed(f"the sensor cannot be read: {describe_exit(status)}", output=output)
        try:
            degrees = float(said)
        except ValueError:
            raise TargetFailed(f"the sensor says {said[:40]!r}, which is no temperature") from None
        await context.emit("SensorRead", SensorRead(degrees=degrees))
        if degrees > parameters.limit:
            raise TargetFailed(f"{target.id} has {degrees:g} degrees, the limit is {parameters.limit:g}")
        return degrees


async def _pause(seconds: float, context: StepContext) -> None:
    try:
        async with asyncio.timeout(seconds):
            why = await context.stopping
    except TimeoutError:
        return
    raise Stopped(why.value)
