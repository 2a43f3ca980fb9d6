"""Orphans: processes whose parents have ended and whom this server, as the subreaper, has adopted.

Whose they are, and their burial: only the parent can take a zombie away, and the server must never take one
that somebody else in it waits for. Used by the supervisor, on the loop's thread only, and only where there is
/proc.

A child of this server that no job started is one of

1. an orphan that carries the marker: it was seen so while it lived, and is buried as soon as it ends;
2. an orphan in a session that neither it nor this server leads: no fork of this server makes such a child, so
   it is buried too, and while it lives it belongs to the job whose process led the session;
3. the child of a library in this server, in the server's session or its own: left to that library. But a
   zombie that leads a session may as well be a daemon that died before anybody looked at it, and nobody waits
   for such: it is buried when it has been one for `UNCLAIMED` seconds.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from contest_runner.processes import procfs
from contest_runner.processes.account import Survivor
from contest_runner.processes.marker import Marker

UNCLAIMED = 60.0
"""Seconds after which a zombie that nobody has asked for is taken for a daemon."""


class Orphans:
    """Keeps account of the children of this server that are not children of its own making."""

    def __init__(self, marker: Marker, clock: Callable[[], float]) -> None:
        self._marker = marker
        self._clock = clock
        self._pid = os.getpid()
        self._session = os.getsid(0)
        self._running: dict[int, int] = {}
        self._sessions: dict[int, int] = {}
        """The job of each session that may still have a member: of a running process, or of an orphan."""
        self._adopted: dict[int, int] = {}
        """The job of each orphan that the last look found alive."""
        self._signalled: dict[tuple[int, int], int] = {}
        """The job of what has been told to end, by number and start: as a zombie it tells nothing of itself."""
        self._unknown = False
        """Whether the last look found a child that may yet turn out to be a job's."""
        self._unclaimed: dict[int, float] = {}
        """Zombies that may be somebody's, and since when they are known."""

    def started(self, pid: int, job_id: int) -> None:
        """See `Account`."""
        self._running[pid] = self._sessions[pid] = job_id

    def ended(self, pid: int) -> None:
        """See `Account`."""
        del self._running[pid]

    def survivors(self, job_id: int | None, *, adopting: bool) -> list[Survivor]:
        """See `Account`: of one job, only the descendants of this server are walked through, if it adopts."""
        self.look()
        if job_id is not None and adopting:
            return list(self._descendants(job_id))
        return [one for one in self._everywhere() if job_id is None or one.job_id == job_id]

    def signal(self, survivor: Survivor, number: int) -> None:
        """See `Account`: a pidfd stays with its process, whatever becomes of the number."""
        self._signalled[survivor.pid, survivor.started] = survivor.job_id
        with suppress(ProcessLookupError, PermissionError), _pidfd(survivor.pid) as pidfd:
            found = procfs.stat(survivor.pid)
            if found is None or found.started != survivor.started:
                return
            if pidfd is None:
                os.kill(survivor.pid, number)
            else:
                signal.pidfd_send_signal(pidfd, number)

    @property
    def restless(self) -> bool:
        """See `Account`: what lives will end, and what is in the middle of an exec will show its marker."""
        return bool(self._adopted or self._unclaimed) or self._unknown

    def look(self) -> int:
        """See `Account`."""
        adopted: dict[int, int] = {}
        unclaimed: dict[int, float] = {}
        sessions = set(self._running)
        buried = 0
        self._unknown = False
        for pid in procfs.children_of_main_thread(self._pid):
            found = None if pid in self._running else procfs.stat(pid)
            if found is None:
                continue
            job_id = self._adopted.get(pid)
            if job_id is None:
                job_id = self._job_of(found)
            if found.dead and (job_id is not None or self._is_nobodys(found, unclaimed)):
                buried += _bury(pid)
            elif job_id is not None:
                adopted[pid] = job_id
                sessions.add(found.session)
            elif found.session == pid:
                self._unknown = True
        self._adopted, self._unclaimed = adopted, unclaimed
        self._sessions = {leader: job for leader, job in self._sessions.items() if leader in sessions}
        self._signalled = {key: job for key, job in self._signalled.items() if _exists(*key)}
        return buried

    def _job_of(self, found: procfs.Stat) -> int | None:
        job_id = self._marker.job_of(found.pid)
        if job_id is None:
            job_id = self._sessions.get(found.session)
        return self._signalled.get((found.pid, found.started)) if job_id is None else job_id

    def _descendants(self, job_id: int) -> Iterator[Survivor]:
        waiting = [pid for pid, job in (*self._running.items(), *self._adopted.items()) if job == job_id]
        while waiting:
            found = procfs.stat(waiting.pop())
            if found is not None and not found.dead:
                yield _survivor(found, job_id)
                waiting += procfs.children(found.pid)

    def _everywhere(self) -> Iterator[Survivor]:
        for pid in procfs.processes():
            found = procfs.stat(pid) if pid != self._pid else None
            job_id = self._job_of(found) if found is not None and not found.dead else None
            if found is not None and job_id is not None:
                yield _survivor(found, job_id)

    def _is_nobodys(self, found: procfs.Stat, unclaimed: dict[int, float]) -> bool:
        if found.session == self._session:
            return False
        if found.session != found.pid:
            return True
        since = unclaimed[found.pid] = self._unclaimed.get(found.pid, self._clock())
        return self._clock() - since >= UNCLAIMED


@contextmanager
def _pidfd(pid: int) -> Iterator[int | None]:
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:  # an old kernel, no descriptor left, or it is gone
        yield None
        return
    try:
        yield pidfd
    finally:
        os.close(pidfd)


def _survivor(found: procfs.Stat, job_id: int) -> Survivor:
    return Survivor(pid=found.pid, job_id=job_id, command=procfs.command(found.pid), started=found.started)


def _exists(pid: int, started: int) -> bool:
    found = procfs.stat(pid)
    return found is not None and found.started == started


def _bury(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:  # somebody was quicker
        return False
