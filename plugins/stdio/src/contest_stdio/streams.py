"""Reads and writes a wire without blocking the event loop, whatever it is.

Used by the listener, which does not know the difference: what the loop can wait for it waits for; files and the
null device are read and written in a thread, chunk by chunk.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections import deque
from collections.abc import Callable
from typing import Final, TypeVar

from contest_stdio.wires import CHUNK, open_wire

_HIGH_WATER: Final = 256 * 1024
"""Bytes that may wait to be written before whoever sends has to."""

_TURNS: Final = 8
"""Turns of the loop in which lines are gathered at most, while each brings another."""

T = TypeVar("T")


class Input:
    """The bytes that come out of a descriptor. To be read by one task, and closed."""

    def __init__(self, descriptor: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._wire = open_wire(descriptor, os.O_RDONLY)
        # An older kernel does not wake a poll for the end of a pipe that was opened anew after its writers had
        # gone; a read tells. So it is read until it would block once, and waited for only then.
        self._reads_first = True
        self._watched = False
        self._waiter: asyncio.Future[bytes] | None = None
        self._stopped = False

    async def read(self) -> bytes:
        """The next bytes; none at the end, and after `stop`. Raises `OSError`."""
        if self._stopped:
            return b""
        if not self._wire.waited_for:
            return await _finish(self._loop.run_in_executor(None, self._wire.read))
        if self._reads_first:
            # Other tasks' turn: a writer that is faster than we are must not keep the loop.
            await asyncio.sleep(0)
            try:
                return self._wire.read()
            except BlockingIOError:
                self._reads_first = False
        return await self._wait()

    def stop(self) -> None:
        """From now on there is nothing to read: a `read` that waits returns."""
        self._stopped = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(b"")

    def close(self) -> None:
        """Lets go of what it opened."""
        self._unwatch()
        self._wire.close()

    async def _wait(self) -> bytes:
        self._waiter = self._loop.create_future()
        if not self._watched:
            self._watched = True
            self._loop.add_reader(self._wire.descriptor, self._ready)
        try:
            return await self._waiter
        finally:
            self._waiter = None

    def _ready(self) -> None:
        if self._waiter is None or self._waiter.done():
            # Nobody reads just now, and the loop must not spin on what stays ready.
            self._unwatch()
            return
        try:
            self._waiter.set_result(self._wire.read())
        except BlockingIOError:
            return
        except OSError as error:
            self._waiter.set_exception(error)

    def _unwatch(self) -> None:
        if self._watched:
            self._watched = False
            self._loop.remove_reader(self._wire.descriptor)


class Output:
    """Lines that go into a descriptor, in order. To be closed.

    Lines that follow each other closely are gathered into one write. `on_lost` is called once, when the reader has
    gone away or writing fails.

    Invariants: `_size` is of everything in `_gathered` and `_queue`; while it is not 0, `_flushing` is true, and
    `_gather` is scheduled, the loop waits for room to call `_flush`, or a thread writes.
    """

    def __init__(self, descriptor: int, on_lost: Callable[[], None]) -> None:
        self.lost: OSError | None = None
        """Why nothing can be written any more."""
        self._loop = asyncio.get_running_loop()
        self._on_lost = on_lost
        self._wire = open_wire(descriptor, os.O_WRONLY)
        self._gathered: list[bytes] = []
        self._queue: deque[memoryview] = deque()
        self._size = 0
        self._flushing = False
        self._waits_for_room = False
        self._writing: asyncio.Future[int] | None = None
        self._changed = asyncio.Event()
        if self._wire.tells_of_readers:
            gone = BrokenPipeError(errno.EPIPE, "the reader is gone")
            self._loop.add_reader(self._wire.descriptor, self._lose, gone)

    async def send(self, line: bytes) -> None:
        """Sends a line, without its newline; returns when there is room for more. Raises `ConnectionError`."""
        self._check()
        if len(line) >= CHUNK:
            self._seal()
            self._queue.append(memoryview(line))
        else:
            self._gathered.append(line)
        self._gathered.append(b"\n")
        self._size += len(line) + 1
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._gather, _TURNS, 0)
        if self._size > _HIGH_WATER:
            await self._until(_HIGH_WATER)
            self._check()

    async def drain(self) -> None:
        """Returns when everything is written, or nothing can be."""
        await self._until(0)

    async def aclose(self) -> None:
        """Lets go of what it opened; what is not written by now never is."""
        self._end(ConnectionError("closed"))
        if self._writing is not None:
            await _finish(self._writing)
        self._wire.close()

    def _check(self) -> None:
        if self.lost is not None:
            raise ConnectionError("nobody takes the answers any more") from self.lost

    async def _until(self, size: int) -> None:
        while self._size > size and self.lost is None:
            self._changed.clear()
            await self._changed.wait()

    def _seal(self) -> None:
        if self._gathered:
            self._queue.append(memoryview(b"".join(self._gathered)))
            self._gathered.clear()

    def _gather(self, turns: int, size: int) -> None:
        """Waits for what the next turn brings, where the last one has brought something."""
        if turns and size < self._size < CHUNK:
            self._loop.call_soon(self._gather, turns - 1, self._size)
        else:
            self._flush()

    def _flush(self) -> None:
        self._seal()
        if self._queue and not self._wire.waited_for:
            self._write_in_thread()
            return
        try:
            while self._queue:
                self._wrote(self._wire.write(self._queue[0]))
        except BlockingIOError:
            self._wait_for_room()
            return
        except OSError as error:
            self._lose(error)
        self._flushing = False
        self._wait_no_more()

    def _wrote(self, size: int) -> None:
        view = self._queue[0]
        if size == len(view):
            self._queue.popleft()
            self._seal()
        else:
            self._queue[0] = view[size:]
        self._size -= size
        self._changed.set()

    def _write_in_thread(self) -> None:
        self._writing = self._loop.run_in_executor(None, self._wire.write, self._queue[0])
        self._writing.add_done_callback(self._written)

    def _written(self, writing: asyncio.Future[int]) -> None:
        self._writing = None
        error = writing.exception()
        if isinstance(error, OSError):
            self._lose(error)
        elif self.lost is None:
            self._wrote(writing.result())
            self._flush()

    def _wait_for_room(self) -> None:
        if not self._waits_for_room:
            self._waits_for_room = True
            self._loop.add_writer(self._wire.descriptor, self._flush)

    def _wait_no_more(self) -> None:
        if self._waits_for_room:
            self._waits_for_room = False
            self._loop.remove_writer(self._wire.descriptor)

    def _lose(self, error: OSError) -> None:
        if self.lost is None:
            self._end(error)
            self._on_lost()

    def _end(self, error: OSError) -> None:
        self._wait_no_more()
        if self._wire.tells_of_readers:
            self._loop.remove_reader(self._wire.descriptor)
        self._gathered.clear()
        self._queue.clear()
        self._size = 0
        self.lost = self.lost or error
        self._changed.set()


async def _finish(thread: asyncio.Future[T]) -> T:
    """Waits for a thread, also when cancelled: it works on a descriptor that is about to be closed."""
    try:
        return await asyncio.shield(thread)
    except asyncio.CancelledError:
        await asyncio.wait([thread])
        raise
