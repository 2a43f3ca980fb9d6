"""One running command: waiting for it, reading it, ending it.

Made by `JobProcesses.spawn`, used by a step. It tells its `Keeper`, which is the supervisor, of its end; it
knows nothing of other processes but those of its own group.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Protocol, Self

from contest_runner.processes.groups import signal_group
from contest_runner.processes.output import Output, PipeReader

LINGER = 0.2
"""Seconds that output may stay open after the exit, held by what the command left in the background."""

KILL_PATIENCE = 5.0
"""Seconds to wait for what was sent SIGKILL; only a process stuck in the kernel takes longer."""

_POLL = 0.02
_LOST = 255
"""The exit status when somebody else has taken it, as asyncio reports it: an unknown end is no success."""


class Keeper(Protocol):
    """Who is told of a process's end."""

    def exited(self, process: Process) -> None:
        """It has exited, and its number may be used again."""

    def settled(self, process: Process, held: Sequence[PipeReader]) -> None:
        """Its output is complete, or not waited for any more: `held` are pipes that others still hold."""

    def look(self) -> int:
        """Bury orphans that have ended."""


class Process:
    """A command of a job, in a session and group of its own.

    `async with await context.spawn(argv) as process:` is the way to use it: leaving the block while the
    command runs (an exception, a cancellation, a deadline) terminates it with its group. A command that has
    exited by itself may leave others in the background: they live until the job ends. `wait` may be cancelled
    and called again; that alone ends nothing. A process that no block owns is ended with its job.
    """

    def __init__(
        self,
        popen: subprocess.Popen[bytes],
        *,
        job_id: int,
        keeper: Keeper,
        outputs: tuple[Output, Output],
        grace: float,
    ) -> None:
        self.pid = popen.pid
        self.job_id = job_id
        self.returncode: int | None = None
        """The exit status, or the negative number of the signal; None while it runs."""
        self.stdout, self.stderr = outputs
        self._popen = popen
        self._keeper = keeper
        self._grace = grace
        self._exit = asyncio.Event()
        self._settled = asyncio.Event()
        self._linger: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._readers = [
            PipeReader(self._loop, file, output, self._pipe_ended)
            for file, output in ((popen.stdout, self.stdout), (popen.stderr, self.stderr))
            if file is not None
        ]
        try:
            self._pidfd = self._watch()
        except BaseException:
            for reader in self._readers:
                reader.close()
            raise

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.terminate()

    async def wait(self) -> int:
        """Return `returncode` when the command has exited and its output has been read to the end.

        Where something in the background still holds the output, it is waited for no longer than `LINGER`.
        """
        await self._settled.wait()
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal to the whole group; nothing happens when the command has exited."""
        if self.returncode is None:
            signal_group(self.pid, number)

    async def terminate(self, *, grace: float | None = None) -> None:
        """End the command and its group: SIGTERM, SIGKILL after `grace` seconds (None: as given to spawn).

        Returns when they are gone, at the latest `KILL_PATIENCE` after the SIGKILL; what then still lives is
        found by `JobProcesses.finish`. Cancelling it sends the SIGKILL at once. Does nothing when the command
        has exited.
        """
        if self.returncode is not None:
            return
        try:
            signal_group(self.pid, signal.SIGTERM)
            if not await self._group_gone(self._grace if grace is None else grace):
                signal_group(self.pid, signal.SIGKILL)
                await self._group_gone(KILL_PATIENCE)
        except asyncio.CancelledError:
            signal_group(self.pid, signal.SIGKILL)
            raise
        if self.returncode is not None:
            await self._settled.wait()

    async def _group_gone(self, patience: float) -> bool:
        # The number of a group stays taken while it has a member, and numbers are handed out in a circle:
        # what answers here within moments of the leader's end is still this group.
        end = self._loop.time() + patience
        try:
            async with asyncio.timeout(patience):
                await self._exit.wait()
        except TimeoutError:
            return False
        while signal_group(self.pid, 0):
            self._keeper.look()  # a dead orphan counts as a member until it is buried
            if not signal_group(self.pid, 0):
                break
            if self._loop.time() >= end:
                return False
            await asyncio.sleep(_POLL)
        return True

    def _watch(self) -> int | None:
        try:
            pidfd = os.pidfd_open(self.pid)
        except (AttributeError, OSError):  # macOS, an old kernel, no descriptor left
            threading.Thread(target=self._wait_in_thread, name=f"wait for {self.pid}", daemon=True).start()
            return None
        self._loop.add_reader(pidfd, self._exited)
        return pidfd

    def _wait_in_thread(self) -> None:
        self._reap(0)
        self._loop.call_soon_threadsafe(self._exited)

    def _reap(self, options: int) -> None:
        # Not Popen.poll: it reports success when the status is lost.
        try:
            _, status = os.waitpid(self.pid, options)
        except ChildProcessError:
            self._popen.returncode = _LOST
        else:
            self._popen.returncode = os.waitstatus_to_exitcode(status)

    def _exited(self) -> None:
        if self._pidfd is not None:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._reap(os.WNOHANG)
        self.returncode = self._popen.returncode
        self._keeper.exited(self)
        self._exit.set()
        for reader in self._readers:
            reader.drain()
        if self._held():
            self._linger = self._loop.call_later(LINGER, self._settle)
        else:
            self._settle()

    def _pipe_ended(self, _reader: PipeReader) -> None:
        if self.returncode is not None and not self._held():
            self._settle()

    def _held(self) -> list[PipeReader]:
        return [reader for reader in self._readers if not reader.closed]

    def _settle(self) -> None:
        if self._settled.is_set():
            return
        if self._linger is not None:
            self._linger.cancel()
        self._settled.set()
        self._keeper.settled(self, self._held())
        self._readers.clear()  # they refer back to this, and the collector is slow
