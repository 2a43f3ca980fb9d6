"""The step `cmd`, as in ConTest: runs a command on the server, once a target; exit status 0 passes.

Where ConTest hangs or hides, this does not: a command that leaves something in the background is not waited for, a
stop ends the whole process group, and a failure shows the end of what the command wrote.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import NoneType
from typing import Any, ClassVar, Final

from msgspec import Struct, json

from contest_core import Blame, Finding
from contest_core.wire_names import wire_name
from contest_runner.context import StepContext
from contest_runner.processes import Output, Process, SpawnError
from contest_runner.step import Expanded, Step, TargetFailed
from contest_runner.target import Target
from contest_steps.commands import check_executable, clean, failure, find_executable, wait_or_end

CAPTURE: Final = 8 * 1024 * 1024
"""Bytes of an output that is emitted whole."""

_MAX_EVENT: Final = CAPTURE
"""Bytes of an output as JSON, which may be six times as many as it has; a status has each event four times."""


class CmdStart(Struct, frozen=True, kw_only=True, rename=wire_name):
    """Payload of `CmdStart`."""

    path: str
    args: list[str]
    dir: str


class CmdOutput(Struct, frozen=True, kw_only=True, rename=wire_name):
    """Payload of `CmdStdout` and `CmdStderr`."""

    msg: str


class CmdParameters(Struct, frozen=True, kw_only=True):
    """Parameters of `cmd`."""

    executable: str
    """An absolute path, or a name that is looked up in the server's PATH."""
    args: list[Expanded[str]] = []
    """The arguments; each may be a template."""
    dir: Expanded[str] = ""
    """Where it runs; the server's directory where empty."""
    emit_stdout: bool = False
    """Whether its whole output becomes an event."""
    emit_stderr: bool = False
    """Whether its whole error output becomes an event."""


class Cmd(Step[CmdParameters]):
    """Runs a command on the server, once a target."""

    Parameters: ClassVar[type[Struct]] = CmdParameters
    display_name = "Cmd"
    events: ClassVar[Mapping[str, type]] = {
        "CmdStart": CmdStart,
        "CmdEnd": NoneType,
        "CmdStdout": CmdOutput,
        "CmdStderr": CmdOutput,
    }
    checks: ClassVar[Mapping[str, Callable[[Any], Iterable[Finding]]]] = {"executable": check_executable}

    async def run(self, target: Target, parameters: CmdParameters, context: StepContext) -> None:
        """Runs the command and judges its exit status."""
        path = find_executable(parameters.executable)
        if path is None:
            raise TargetFailed(
                f"cannot find {parameters.executable!r} executable in PATH", blame=Blame.INFRASTRUCTURE
            )
        argv = [path, *parameters.args]
        start = CmdStart(path=clean(path), args=list(map(clean, argv)), dir=clean(parameters.dir))
        await context.emit("CmdStart", start)
        try:
            returncode, process = await self._finished(argv, parameters, context)
        except SpawnError as error:
            await self._tell_end(None, parameters, context)
            raise TargetFailed(str(error)) from None
        await self._tell_end(process, parameters, context)
        context.stopping.check()
        if returncode != 0:
            raise failure(returncode, process)

    async def _finished(
        self, argv: list[str], parameters: CmdParameters, context: StepContext
    ) -> tuple[int, Process]:
        capture = CAPTURE if parameters.emit_stdout or parameters.emit_stderr else None
        async with await context.spawn(argv, cwd=parameters.dir or None, capture=capture) as process:
            return await wait_or_end(process, context.stopping.calling), process

    async def _tell_end(
        self, process: Process | None, parameters: CmdParameters, context: StepContext
    ) -> None:
        """As in ConTest: also where it could not be started, and the output also where there is none."""
        await context.emit("CmdEnd")
        if parameters.emit_stdout:
            await context.emit("CmdStdout", CmdOutput(msg=_whole(process.stdout) if process else ""))
        if parameters.emit_stderr:
            await context.emit("CmdStderr", CmdOutput(msg=_whole(process.stderr) if process else ""))


def _whole(output: Output) -> str:
    """The output, or as much of its end as an event may have."""
    text = clean((output.whole or b"").decode(errors="replace"))
    while (size := len(json.encode(text))) > _MAX_EVENT:
        text = text[len(text) - len(text) * _MAX_EVENT // size + 1 :]
    return text
