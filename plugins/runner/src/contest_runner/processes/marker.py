"""The mark in the environment of every process of a job, by which it is found again.

`CONTEST_MARKER=<store>:<job>:<server>`, where the server is named by its process number and the time it
started. A server that runs inside a job of another server hands that one's marks on, separated by a space.
"""

from __future__ import annotations

import os
import re

from contest_runner.processes import procfs

VARIABLE = "CONTEST_MARKER"

_STORE = re.compile(r"[A-Za-z0-9._-]+")
_MARK = re.compile(rf"({_STORE.pattern}):(\d+):(\d+)\.(\d+)")


class Marker:
    """Makes the marks of one store's jobs, and reads them."""

    def __init__(self, store_id: str) -> None:
        """Raise ValueError where the store's identity could not be told from the rest of a mark."""
        if not _STORE.fullmatch(store_id):
            raise ValueError(
                f"a store's identity is made of letters, digits, dots and dashes, not {store_id!r}"
            )
        self._store_id = store_id
        self._server = _server(os.getpid())
        marks = os.environ.get(VARIABLE, "").split()
        self._inherited = [mark for mark in marks if not mark.startswith(f"{store_id}:")]

    def environment(self, job_id: int) -> dict[bytes, bytes]:
        """What is added to the environment of a process of this job."""
        marks = [*self._inherited, f"{self._store_id}:{job_id}:{self._server}"]
        return {VARIABLE.encode(): " ".join(marks).encode()}

    def job_of(self, pid: int) -> int | None:
        """The job that a process belongs to: one of this server, or of a dead server on this store.

        What another living server on the same store has started is not ours to end.
        """
        for text in (procfs.variable(pid, VARIABLE) or "").split():
            mark = _MARK.fullmatch(text)
            if mark is None or mark[1] != self._store_id:
                continue
            server = f"{mark[3]}.{mark[4]}"
            if server == self._server or server != _server(int(mark[3])):
                return int(mark[2])
        return None


def _server(pid: int) -> str:
    found = procfs.stat(pid) if procfs.AVAILABLE else None
    return f"{pid}.{found.started if found is not None and not found.dead else 0}"
