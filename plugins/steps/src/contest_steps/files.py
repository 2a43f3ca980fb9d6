"""Reads files beside the loop, within bounds: what a job names may be large, no file at all, or on a disk that is gone.

Used by the fetcher `URI` and the target manager `CSVFileTargetManager`, which bound the time. The threads are daemons:
one that waits for a network file system holds up neither a job nor the end of the program.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable
from typing import TypeVar

from contest_core import ByteSize
from contest_runner.threads import begin

T = TypeVar("T")


class Unreadable(Exception):
    """A file cannot be read; the message says which and why."""


def read_file(path: str, limit: ByteSize) -> bytes:
    """What is in a file. Blocks. Raises `Unreadable` where it is none, or has more than `limit` bytes."""
    try:
        # Not blocking: opening a pipe would wait for whoever writes it.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise Unreadable(f"cannot read {path}: it is no ordinary file")
            data = file.read(limit + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise Unreadable(f"cannot read {path}: {reason}") from None
    if len(data) > limit:
        raise Unreadable(f"cannot read {path}: it is larger than {limit}")
    return data


def in_thread(call: Callable[[], T]) -> asyncio.Future[T]:
    """What the call gives or raises, in a thread of its own. Cancelled, it returns at once and leaves the thread."""
    return begin(call, name="reading a file")
