"""What the steps that run a command on the server have in common: finding it, waiting for it, telling what it wrote.

Used by `cmd` and `gathercmd`, which start it.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Final

from contest_core import Finding, Severity
from contest_core import Output as StatusOutput
from contest_runner.processes import Process, describe_exit
from contest_runner.step import TargetFailed

_SAID: Final = 400
"""Characters of the end of stderr that go into the error itself."""


def find_executable(executable: str) -> str | None:
    """The path of an executable: an absolute one as it is, another by the server's PATH."""
    return executable if os.path.isabs(executable) else shutil.which(executable)


def check_executable(executable: str) -> Iterable[Finding]:
    """What is wrong with an executable when a job is handed in."""
    if find_executable(executable) is None:
        message = f"cannot find {executable!r} executable in PATH of the server"
        yield Finding(severity=Severity.ERROR, code="no_executable", path="", message=message)


async def wait_or_end(
    process: Process, calling: Callable[[Callable[[], None]], AbstractContextManager[object]]
) -> int:
    """The exit status of a command. `calling` is told what to call when nobody wants it any more: that ends it."""
    ending: list[asyncio.Task[None]] = []

    def end() -> None:
        # A task, because what calls this cannot wait until the group is gone.
        ending.append(asyncio.get_running_loop().create_task(process.terminate()))

    try:
        with calling(end):
            return await process.wait()
    except asyncio.CancelledError:
        # Whoever cancels has waited long enough: this kills what has not obeyed.
        for task in ending:
            task.cancel()
        raise
    finally:
        if ending:
            await asyncio.wait(ending)


def clean(text: str) -> str:
    """The text without the one character that no store keeps."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


def failure(returncode: int, process: Process) -> TargetFailed:
    """The failure of a command that has ended, with the ends of what it wrote."""
    output = StatusOutput(
        stdout=clean(process.stdout.text()),
        stdout_size=process.stdout.size,
        stderr=clean(process.stderr.text()),
        stderr_size=process.stderr.size,
    )
    said = (output.stderr or output.stdout).strip()
    last = said[-_SAID:]
    if len(said) > _SAID:
        last = "..." + last
    return TargetFailed(f"{describe_exit(returncode)}{': ' + last if last else ''}", output=output)
