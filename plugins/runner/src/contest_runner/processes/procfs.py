"""What Linux tells of processes under /proc, as plain functions: a process that is gone is None or nothing.

Used by the marker, the orphans and the supervisor of this package. Where there is no /proc (macOS)
`AVAILABLE` is false and nobody calls the rest.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

AVAILABLE = os.path.exists("/proc/self/stat")
_LISTS_CHILDREN = os.path.exists(f"/proc/self/task/{os.getpid()}/children")
"""Without CONFIG_PROC_CHILDREN there is no list of children, and every process is asked for its parent."""

_COMMAND_LENGTH = 200


class Stat(NamedTuple):
    """The part of /proc/PID/stat that matters here."""

    pid: int
    state: str
    """One letter; `Z` is a zombie, `X` one that is just being buried."""
    parent: int
    session: int
    started: int
    """Clock ticks since the machine started: with the number it names a process for good."""

    @property
    def dead(self) -> bool:
        """Whether nothing of it runs any more."""
        return self.state in "ZX"


def stat(pid: int) -> Stat | None:
    """The state of a process, or None when there is none of this number."""
    line = _read(f"/proc/{pid}/stat")
    if not line:
        return None
    fields = line[line.rindex(b")") + 2 :].split()  # the name before it may hold spaces and parentheses
    return Stat(pid, fields[0].decode(), int(fields[1]), int(fields[3]), int(fields[19]))


def variable(pid: int, name: str) -> str | None:
    """A variable of the environment that a process was started with, if it may be read.

    None also while the process is in the middle of an exec, so that None is no proof of absence.
    """
    block = b"\0" + _read(f"/proc/{pid}/environ")
    key = f"\0{name}=".encode()
    start = block.find(key)
    if start < 0:
        return None
    start += len(key)
    end = block.find(b"\0", start)
    return block[start : end if end >= 0 else None].decode(errors="replace")


def command(pid: int) -> str:
    """The command line, cut to a length that fits a status, or the short name where there is none."""
    line = _read(f"/proc/{pid}/cmdline").rstrip(b"\0").replace(b"\0", b" ")
    text = (line or b"[" + _read(f"/proc/{pid}/comm").strip() + b"]").decode(errors="replace")
    return text if len(text) <= _COMMAND_LENGTH else text[: _COMMAND_LENGTH - 1] + "…"


def children(pid: int) -> list[int]:
    """The children of all threads of a process, zombies among them."""
    if not _LISTS_CHILDREN:
        return _children_by_asking_all(pid)
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []
    return [child for thread in threads for child in _children_of_thread(pid, int(thread))]


def children_of_main_thread(pid: int) -> list[int]:
    """The children of the first thread: to it the kernel gives the orphans that a subreaper adopts."""
    return _children_of_thread(pid, pid) if _LISTS_CHILDREN else _children_by_asking_all(pid)


def processes() -> Iterator[int]:
    """All processes, with those that were started while the caller looked at the others."""
    seen: set[int] = set()
    while new := {int(name) for name in os.listdir("/proc") if name.isdecimal()} - seen:
        yield from sorted(new)
        seen |= new


def _children_of_thread(pid: int, thread: int) -> list[int]:
    return [int(child) for child in _read(f"/proc/{pid}/task/{thread}/children").split()]


def _children_by_asking_all(pid: int) -> list[int]:
    return [one for one in processes() if (found := stat(one)) is not None and found.parent == pid]


def _read(path: str) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read()
    except OSError:  # gone, or somebody else's
        return b""
