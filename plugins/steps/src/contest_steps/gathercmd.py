"""The step `gathercmd`, as in ConTest: waits for all targets that can reach it, and runs a command once for them all.

Where ConTest lets targets go on behind a command that has failed, and then fails the job, here they fail, and it goes
on. A crash of the server while targets gather loses nothing; one while the command runs fails them as interrupted.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from typing import Any, ClassVar, Final

from msgspec import Struct

from contest_core import Blame, Finding, Severity
from contest_core.wire_names import wire_name
from contest_runner.context import StepContext
from contest_runner.processes import Process, SpawnError
from contest_runner.step import AllTargetsStep, Arrival, OnInterrupt, Stopped, TargetFailed
from contest_runner.stopping import Stopping, StopReason
from contest_runner.target import Target
from contest_runner.templates import TemplateError, compile
from contest_steps.commands import check_executable, clean, failure, find_executable, wait_or_end

MAX_SAID: Final = 10_240
"""Bytes of what a failed command wrote that go into the event, as in ConTest."""

_NOBODY: Final = Target(id="")
"""Arguments are the same for all targets: a template finds none."""


class GatherCmdStart(Struct, frozen=True, kw_only=True, rename=wire_name):
    """Payload of `GatherCmdStart`."""

    path: str
    args: list[str]


class GatherCmdEnd(Struct, frozen=True, kw_only=True, rename=wire_name):
    """Payload of `GatherCmdEnd` where the command failed; else it has none."""

    exit_code: int
    """-1 where a signal ended it, 0 where it could not start."""
    err: str


def _expanded(argument: str) -> str:
    """The text of an argument. Raises `TemplateError`."""
    return compile(argument, variables=False).render(_NOBODY)


def _check_args(args: Sequence[str]) -> Iterable[Finding]:
    for number, argument in enumerate(args):
        try:
            _expanded(argument)
        except TemplateError as error:
            message = f"the template cannot be expanded, here without a target: {error}"
            yield Finding(severity=Severity.ERROR, code="bad_template", path=f"/{number}", message=message)


class GatherCmdParameters(Struct, frozen=True, kw_only=True):
    """Parameters of `gathercmd`."""

    binary: str
    """An absolute path, or a name that is looked up in the server's PATH."""
    args: list[str] = []
    """The arguments; each may be a template, in which there is no target and no variable."""


class GatherCmd(AllTargetsStep[GatherCmdParameters]):
    """Runs a command on the server, once for all targets."""

    Parameters: ClassVar[type[Struct]] = GatherCmdParameters
    display_name = "GatherCmd"
    on_interrupt = OnInterrupt.RESUME
    events: ClassVar[Mapping[str, type]] = {
        "GatherCmdStart": GatherCmdStart,
        "GatherCmdEnd": GatherCmdEnd,
    }
    checks: ClassVar[Mapping[str, Callable[[Any], Iterable[Finding]]]] = {
        "binary": check_executable,
        "args": _check_args,
    }

    async def run(self, arrivals: AsyncIterator[Arrival[GatherCmdParameters]]) -> None:
        """Gathers, runs, and lets all targets go on or fails them all."""
        crowd = _Crowd()
        async for arrival in arrivals:
            crowd.add(arrival)
        if crowd.gone:
            raise Stopped("nobody waits for the command")
        try:
            await crowd.begin()
            await _run(crowd)
        except TargetFailed as error:
            crowd.fail_all(error)
        else:
            crowd.pass_all()


async def _run(crowd: _Crowd) -> None:
    """Runs the command. Raises `TargetFailed`, and `Stopped` where nobody waits for it any more."""
    argv = _command(crowd.parameters)
    await crowd.emit("GatherCmdStart", GatherCmdStart(path=clean(argv[0]), args=list(map(clean, argv))))
    try:
        async with await crowd.spawn(argv) as process:
            returncode = await wait_or_end(process, crowd.calling)
    except SpawnError as error:
        await crowd.emit("GatherCmdEnd", GatherCmdEnd(exit_code=0, err=clean(f"unknown error: {error}")))
        raise TargetFailed(str(error)) from None
    end = None if returncode == 0 else GatherCmdEnd(exit_code=max(-1, returncode), err=_said(process))
    await crowd.emit("GatherCmdEnd", end)
    if crowd.gone:
        raise Stopped("nobody waits for the command any more")
    if returncode != 0:
        raise failure(returncode, process)


def _command(parameters: GatherCmdParameters) -> list[str]:
    path = find_executable(parameters.binary)
    if path is None:
        message = f"cannot find {parameters.binary!r} executable in PATH"
        raise TargetFailed(message, blame=Blame.INFRASTRUCTURE)
    try:
        return [path, *map(_expanded, parameters.args)]
    except TemplateError as error:
        raise TargetFailed(f"failed to expand parameter 'args': {error}") from None


def _said(process: Process) -> str:
    """What the command wrote, in ConTest's form and as much of it."""
    said = b"stdout: %b\nstderr: %b" % (process.stdout.whole or b"", process.stderr.whole or b"")
    return clean(said[:MAX_SAID].decode(errors="replace"))


class _Crowd:
    """The targets that have gathered. What happens to all of them is told of the first that is still there."""

    def __init__(self) -> None:
        self._arrivals: list[tuple[Arrival[GatherCmdParameters], Stopping]] = []

    def add(self, arrival: Arrival[GatherCmdParameters]) -> None:
        """One more."""
        self._arrivals.append((arrival, arrival.context.stopping))

    @property
    def gone(self) -> bool:
        """Nobody waits any more: the job is stopped, or every target is lost."""
        return all(stopping.why is not None for _, stopping in self._arrivals)

    @property
    def parameters(self) -> GatherCmdParameters:
        """They are the same for all."""
        return self._arrivals[0][0].parameters

    async def begin(self) -> None:
        """Notes on disk, with every target, that the command runs now. Raises `TargetFailed` where it did before."""
        if any(arrival.context.saved for arrival, _ in self._arrivals):
            message = "interrupted: the server was killed while the command ran"
            raise TargetFailed(message, blame=Blame.SERVER)
        async with asyncio.TaskGroup() as group:
            for context in self._here():
                group.create_task(context.save({"Begun": True}))

    async def emit(self, name: str, payload: object = None) -> None:
        """Emits an event, where anybody is left to emit it of."""
        for context in islice(self._here(), 1):
            await context.emit(name, payload)

    async def spawn(self, argv: Sequence[str]) -> Process:
        """Starts the command. Raises `SpawnError`, and `Stopped` where nobody is left."""
        for context in self._here():
            return await context.spawn(argv, capture=2 * MAX_SAID)
        raise Stopped("no target is left")

    @contextmanager
    def calling(self, end: Callable[[], None]) -> Iterator[None]:
        """Calls `end` when nobody waits any more."""
        waiting = len(self._arrivals)

        def tell() -> None:
            nonlocal waiting
            waiting -= 1
            if not waiting:
                end()

        with ExitStack() as stack:
            for _, stopping in self._arrivals:
                stack.enter_context(stopping.calling(tell))
            yield

    def pass_all(self) -> None:
        """Lets them go on."""
        for arrival, _ in self._arrivals:
            arrival.passed()

    def fail_all(self, error: TargetFailed) -> None:
        """Fails them; what the command wrote stands with one of them, for there may be many."""
        told = TargetFailed(error.message, blame=error.blame)
        for arrival, stopping in self._arrivals:
            if stopping.why is StopReason.LOCK_LOST:
                continue
            arrival.failed(error)
            error = told

    def _here(self) -> Iterator[StepContext]:
        """Those that have not lost their lock, which takes a target out of the step."""
        for arrival, stopping in self._arrivals:
            if stopping.why is not StopReason.LOCK_LOST:
                yield arrival.context
