"""The processes of one job: starting them, and ending what they leave.

Made by `Supervisor.job`; the runner calls `spawn` on behalf of steps, and `finish` when the steps have
returned.
"""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import IO, Protocol

from contest_runner.processes.account import Survivor
from contest_runner.processes.errors import SpawnError, spawn_error
from contest_runner.processes.output import Output
from contest_runner.processes.process import Keeper, Process

KEEP = 8192
"""Bytes of the end of each stream that are kept by default."""

CAPTURE_LIMIT = 16 * 1024 * 1024
"""A sensible `capture` for who wants the whole output in one event."""

_SCARCE = {errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOMEM}
"""What there is more of when other processes have ended."""

_AGAIN_AFTER = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
"""Seconds between attempts while something is scarce."""


class JobKeeper(Keeper, Protocol):
    """The supervisor, as a job sees it."""

    def started(self, process: Process) -> None:
        """A process runs; it has one of the slots."""

    def finished(self, job_id: int, left: Sequence[Survivor]) -> None:
        """A job has ended and left what would not die."""

    async def kill_survivors(self, job_id: int | None, *, grace: float) -> list[Survivor]:
        """End what lives of a job."""


class JobProcesses:
    """What a job runs."""

    def __init__(
        self,
        job_id: int,
        *,
        keeper: JobKeeper,
        slots: asyncio.Semaphore,
        environment: Mapping[bytes, bytes],
        mark: Mapping[bytes, bytes],
        spawned: bool,
    ) -> None:
        """`environment` is what a process gets that is given none of its own, `mark` what is added to any.

        `spawned` says that something of this job may live already.
        """
        self.job_id = job_id
        self._keeper = keeper
        self._slots = slots
        self._mark = mark
        self._environment = {**environment, **mark}
        self._spawned = spawned
        self._finished = False

    async def spawn(
        self,
        argv: Sequence[str],
        *,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        stdin: bytes | None = None,
        merge: bool = False,
        keep: int = KEEP,
        capture: int | None = None,
        grace: float = 5.0,
    ) -> Process:
        """Start a command in a session of its own, and return when it runs; use it in an `async with` block.

        Waits its turn while as many run as the server allows, and a few seconds more while the system has no
        room. `cwd` None or empty is the server's directory, `env` None the server's environment; the marker
        is added to either. Without `stdin` the input is empty. `merge` sends stderr where stdout goes. Of
        each stream the last `keep` bytes are kept, and with `capture` up to so many bytes of the whole.
        `grace` is the time, in seconds, between SIGTERM and SIGKILL when the block is left early. Raises
        SpawnError when the command cannot run.
        """
        if not argv:
            raise SpawnError("exec: no command")
        start = partial(self._start, argv, cwd or None, env, stdin, merge)
        outputs = Output(keep=keep, capture=capture), Output(keep=keep, capture=capture)
        await self._slots.acquire()
        try:
            popen = await self._patiently(start)
            process = _watched(popen, job_id=self.job_id, keeper=self._keeper, outputs=outputs, grace=grace)
        except (OSError, ValueError) as error:
            self._slots.release()
            raise spawn_error(argv, cwd, error) from error
        except BaseException:
            self._slots.release()
            raise
        self._spawned = True
        self._keeper.started(process)
        return process

    async def finish(self, grace: float) -> list[Survivor]:
        """End everything that the job has left, whatever session it fled to; this spawns nothing after.

        Called when the steps have returned. SIGTERM, SIGKILL after `grace` seconds, and a bounded wait;
        returns what would not die, and may then be called again.
        """
        self._finished = True
        left = await self._keeper.kill_survivors(self.job_id, grace=grace) if self._spawned else []
        self._keeper.finished(self.job_id, left)
        return left

    async def _patiently(self, start: Callable[[], subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
        for pause in _AGAIN_AFTER:
            try:
                return start()
            except OSError as error:
                if error.errno not in _SCARCE:
                    raise
            await asyncio.sleep(pause)
        return start()

    def _start(
        self,
        argv: Sequence[str],
        cwd: str | None,
        env: Mapping[str, str] | None,
        stdin: bytes | None,
        merge: bool,
    ) -> subprocess.Popen[bytes]:
        if self._finished:
            raise SpawnError(f"fork/exec {argv[0]}: job {self.job_id} has ended")
        environment: Mapping[bytes, bytes] = self._environment
        if env is not None:
            environment = {
                **{os.fsencode(key): os.fsencode(value) for key, value in env.items()},
                **self._mark,
            }
        with ExitStack() as files:
            return subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL if stdin is None else files.enter_context(_file_of(stdin)),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT if merge else subprocess.PIPE,
                bufsize=0,
                cwd=cwd,
                env=environment,
                start_new_session=True,
            )


def _watched(
    popen: subprocess.Popen[bytes],
    *,
    job_id: int,
    keeper: Keeper,
    outputs: tuple[Output, Output],
    grace: float,
) -> Process:
    try:
        return Process(popen, job_id=job_id, keeper=keeper, outputs=outputs, grace=grace)
    except BaseException:
        popen.kill()
        popen.communicate()
        raise


def _file_of(data: bytes) -> IO[bytes]:
    # In memory where that can be: what a command is given to read may be a secret.
    memory = os.memfd_create("stdin") if hasattr(os, "memfd_create") else None
    file: IO[bytes] = tempfile.TemporaryFile() if memory is None else os.fdopen(memory, "w+b")
    file.write(data)
    file.seek(0)
    return file
