"""Reads files beside the loop, within bounds: what a job names may be large, no file at all, or on a disk that is gone.

Used by the fetcher `URI` and the target manager `CSVFileTargetManager`, which bound the time. The threads are daemons:
one that waits for a network file system holds up neither a job nor the end of the program.
"""

from __future__ import annotations

import asyncio
import os
import stat
import threading
from collections.abc import Callable
from typing import TypeVar

from contest_core import ByteSize

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


async def in_thread(call: Callable[[], T]) -> T:
    """What the call gives or raises, in a thread of its own. Cancelled, it returns at once and leaves the thread."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def tell(result: T | None, error: Exception | None) -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]

    def work() -> None:
        result, raised = None, None
        try:
            result = call()
        # Whatever it is, it is raised again where it is awaited.
        except Exception as error:
            raised = error
        try:
            loop.call_soon_threadsafe(tell, result, raised)
        except RuntimeError:
            return  # the program has ended without us

    threading.Thread(target=work, name="reading a file", daemon=True).start()
    return await done
