"""The processes of all jobs of one server: how many run at once, what is left of a job, and ending that.

The job manager makes one, becomes the subreaper, ends what an earlier server left (`kill_survivors(None)`),
and then takes a `JobProcesses` for each job. Everything runs on the loop's thread.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Sequence
from weakref import WeakSet

from contest_runner.processes import procfs
from contest_runner.processes.account import Account, Survivor
from contest_runner.processes.groups import Groups
from contest_runner.processes.job import JobProcesses
from contest_runner.processes.marker import Marker
from contest_runner.processes.orphans import Orphans
from contest_runner.processes.output import PipeReader
from contest_runner.processes.process import KILL_PATIENCE, Process

_AT_ONCE = 256
_PR_SET_CHILD_SUBREAPER = 36

_ADOPTING: WeakSet[Supervisor] = WeakSet()
"""Those in this program for which it is the subreaper."""

_LOOK_FIRST, _LOOK_LAST = 0.05, 2.0
"""Seconds from one look at the orphans to the next: while processes end, and in the long run."""

_LOOK_SHARE = 20
"""The loop's thread spends at most one part in so many on looking."""

_FIRST_POLL, _LAST_POLL = 0.005, 0.1


class Supervisor:
    """Keeps the processes of all jobs of a server; one a store and server."""

    def __init__(
        self,
        *,
        store_id: str,
        log: logging.Logger | logging.LoggerAdapter[logging.Logger],
        at_once: int | None = None,
    ) -> None:
        """`at_once` bounds the processes that run side by side; by default what the limit on files allows.

        Raises ValueError where `store_id` has other characters than letters, digits, dots, dashes and
        underscores.
        """
        files = _open_files()
        self._log = log
        self._marker = Marker(store_id)
        self._account: Account = Orphans(self._marker, time.monotonic) if procfs.AVAILABLE else Groups()
        # Half of the files that may be open are for processes, four each.
        self._slots = asyncio.Semaphore(at_once or max(4, min(_AT_ONCE, files // 8)))
        self._adopting = False
        self._jobs: dict[int, JobProcesses] = {}
        self._left: set[int] = set()
        """Jobs of which something would not die."""
        self._unsettled: set[Process] = set()
        self._next_look: asyncio.TimerHandle | None = None
        self._look_due = 0.0
        self._look_pause = _LOOK_FIRST
        self._look_earliest = 0.0
        self._held: dict[PipeReader, int] = {}
        """Pipes of processes in the background, the oldest first, and their jobs."""
        self._held_limit = max(4, min(_AT_ONCE, files // 16))

    def become_subreaper(self) -> None:
        """Adopt the orphans of all descendants from now on; where that cannot be, say so in the log.

        Called on the main thread, it also undoes an inherited disregard of SIGCHLD, which loses every exit
        status.
        """
        if threading.current_thread() is threading.main_thread():
            if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        if sys.platform != "linux":
            self._log.info("not on Linux: a process that leaves its group outlives its job")
            return
        libc = ctypes.CDLL(None, use_errno=True)
        self._adopting = procfs.AVAILABLE and libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
        if not self._adopting:
            reason = os.strerror(ctypes.get_errno())
            self._log.warning("cannot adopt orphans (%s): the end of a job takes longer", reason)
        else:
            _ADOPTING.add(self)

    def resign(self) -> None:
        """Adopt no more orphans: nobody would bury them in a program that goes on when its job manager has ended."""
        if self in _ADOPTING:
            _ADOPTING.discard(self)
            if not _ADOPTING:
                ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)

    def job(self, job_id: int) -> JobProcesses:
        """The processes of a job; the same object until it has finished, then a fresh one."""
        if job_id not in self._jobs:
            self._jobs[job_id] = JobProcesses(
                job_id,
                keeper=self,
                slots=self._slots,
                environment=dict(os.environb),
                mark=self._marker.environment(job_id),
                spawned=job_id in self._left,
            )
        return self._jobs[job_id]

    async def reap_strays(self) -> int:
        """Bury orphans that have ended; returns how many. It happens by itself after the end of a process."""
        return self.look()

    def survivors(self, job_id: int | None = None) -> list[Survivor]:
        """What lives of a job, cheaply; or (None) of all on this store, by a look at the whole machine."""
        return self._account.survivors(job_id, adopting=self._adopting)

    async def kill_survivors(self, job_id: int | None, *, grace: float) -> list[Survivor]:
        """End what lives of a job, or of all (before anything is run again): SIGTERM, SIGKILL after `grace`.

        Returns when all are gone, or `KILL_PATIENCE` after the SIGKILL, and then what would not die.
        """
        left = await self._signal_until_gone(job_id, signal.SIGTERM, grace)
        if left:
            left = await self._signal_until_gone(job_id, signal.SIGKILL, KILL_PATIENCE)
        for survivor in left:
            self._log.error("process %d of job %d would not die", survivor.pid, survivor.job_id)
        await self._settle(job_id, {survivor.pid for survivor in left})
        self.look()
        return left

    def kill(self) -> None:
        """SIGKILL to what lives of all jobs of this server, without a wait: for a program that exits at once."""
        for survivor in self.survivors(None):
            self._account.signal(survivor, signal.SIGKILL)

    # What follows is called by the jobs and processes of this package.

    def started(self, process: Process) -> None:
        """A process runs; it has one of the slots."""
        self._unsettled.add(process)
        self._account.started(process.pid, process.job_id)

    def exited(self, process: Process) -> None:
        """A process has been waited for."""
        self._account.ended(process.pid)
        self._look_pause = _LOOK_FIRST
        self._plan_look(max(self._look_earliest, asyncio.get_running_loop().time()))

    def settled(self, process: Process, held: Sequence[PipeReader]) -> None:
        """A process has ended for good; pipes that others hold are read on, so that writing kills nobody."""
        self._unsettled.discard(process)
        self._slots.release()
        for reader in held:
            reader.discard(self._let_go)
            self._held[reader] = process.job_id
        while len(self._held) > self._held_limit:
            self._let_go(next(iter(self._held)))

    def finished(self, job_id: int, left: Sequence[Survivor]) -> None:
        """A job has ended and left what would not die."""
        self._jobs.pop(job_id, None)
        (self._left.add if left else self._left.discard)(job_id)
        for reader in [reader for reader, job in self._held.items() if job == job_id]:
            self._let_go(reader)

    def look(self) -> int:
        """See to the orphans; returns how many were buried."""
        return self._account.look()

    def _plan_look(self, when: float) -> None:
        if self._next_look is not None:
            if when >= self._look_due:
                return
            self._next_look.cancel()
        self._next_look = asyncio.get_running_loop().call_at(when, self._look_around)
        self._look_due = when

    def _look_around(self) -> None:
        # At once when a process has ended: its orphans are told apart while they live, and some live briefly.
        self._next_look = None
        begin = time.perf_counter()
        self.look()
        rest = _LOOK_SHARE * (time.perf_counter() - begin)
        now = asyncio.get_running_loop().time()
        self._look_earliest = now + max(rest, _LOOK_FIRST)
        if self._account.restless:
            self._plan_look(now + max(rest, self._look_pause))
            self._look_pause = min(2 * self._look_pause, _LOOK_LAST)

    def _let_go(self, reader: PipeReader) -> None:
        self._held.pop(reader, None)
        reader.close()

    async def _settle(self, job_id: int | None, but: set[int]) -> None:
        for process in list(self._unsettled):
            if process.pid not in but and job_id in (None, process.job_id):
                await process.wait()  # not for long: it is a zombie, or it has been one

    async def _signal_until_gone(self, job_id: int | None, number: int, patience: float) -> list[Survivor]:
        loop = asyncio.get_running_loop()
        end = loop.time() + patience
        pause = _FIRST_POLL
        told: set[tuple[int, int]] = set()
        while left := self.survivors(job_id):
            for survivor in left:
                if (survivor.pid, survivor.started) not in told:
                    told.add((survivor.pid, survivor.started))
                    self._account.signal(survivor, number)
            if loop.time() >= end:
                break
            await asyncio.sleep(min(pause, end - loop.time()))
            pause = min(2 * pause, _LAST_POLL)
        return left


def _open_files() -> int:
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if limit == resource.RLIM_INFINITY else limit
