"""Writes the events of `contest run --json` to stdout without blocking the loop.

Used by `run`. A reader that is slow slows the reading of events, never the job; one that is gone is told of.
"""

from __future__ import annotations

import asyncio
import errno
import os
import select
from typing import Final

_LIMIT: Final = 1 << 20
"""Bytes that wait for the reader of stdout before the next event is waited for."""

_CHUNK: Final = 4096
"""What a pipe takes without blocking once it says that it is writable (POSIX's PIPE_BUF on Linux)."""

_LOOK: Final = 100
"""Milliseconds from one look whether the reader was given up to the next."""


class LineWriter:
    """Writes lines in a thread; entered by `run`, which is a task, and ended by `finish`."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._gathered = bytearray()
        self._changed = asyncio.Condition()
        self._busy = False
        self._given_up = False
        self._error: OSError | None = None

    @property
    def error(self) -> OSError | None:
        """Why nothing is written any more: `BrokenPipeError` where nobody reads."""
        return self._error

    async def write(self, line: bytes) -> None:
        """Takes a line, without its end; waits while too much is not yet written. After an error, drops it."""
        async with self._changed:
            while len(self._gathered) > _LIMIT and self._error is None:
                await self._changed.wait()
            if self._error is None:
                self._gathered += line
                self._gathered += b"\n"
                self._changed.notify_all()

    async def run(self) -> None:
        """Writes until it is cancelled."""
        while True:
            async with self._changed:
                while not self._gathered or self._error is not None:
                    await self._changed.wait()
                data, self._gathered = bytes(self._gathered), bytearray()
                self._busy = True
            try:
                await asyncio.to_thread(self._put, data)
            except OSError as error:
                self._error = error
            async with self._changed:
                self._busy = False
                self._changed.notify_all()

    async def look(self) -> None:
        """Notices that the reader is gone also while there is nothing to write."""
        poller = select.poll()
        poller.register(self._descriptor, 0)
        if self._error is None and any(seen & select.POLLERR for _, seen in poller.poll(0)):
            async with self._changed:
                self._error = BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
                self._changed.notify_all()

    async def failed(self) -> OSError:
        """Returns when nothing can be written any more, and why."""
        async with self._changed:
            while self._error is None:
                await self._changed.wait()
            return self._error

    async def finish(self) -> None:
        """Returns when everything is written, or cannot be."""
        async with self._changed:
            while (self._gathered or self._busy) and self._error is None:
                await self._changed.wait()

    def give_up(self) -> None:
        """Drops what nobody has taken yet; a write in progress ends within moments."""
        self._given_up = True

    def _put(self, data: bytes) -> None:
        view = memoryview(data)
        poller = select.poll()
        poller.register(self._descriptor, select.POLLOUT)
        while view and not self._given_up:
            if poller.poll(_LOOK):
                view = view[os.write(self._descriptor, view[:_CHUNK]) :]
