"""What a process writes: read from its pipe as it comes, kept within bounds.

`Process` makes one `Output` a stream; `PipeReader` feeds it from the event loop. An `Output` holds the end of
the stream and, where asked, its beginning; the middle of what is too long is counted and dropped, so that a
process may write for days.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import IO

_READ = 65_536
"""Bytes read at once: what a pipe holds."""

_READS_AT_EXIT = 16
"""A pipe can be made to hold 1 MiB; more than that in it is being written by somebody who still lives."""


class Output:
    """One stream of a process: the end of it, its size, and all of it where that was asked for and fits."""

    __slots__ = ("_captured", "_end", "_end_limit", "_head", "_head_limit", "_keep", "size")

    def __init__(self, *, keep: int, capture: int | None) -> None:
        """Keep the last `keep` bytes, and up to `capture` bytes of the whole (None: not the whole)."""
        self._keep = keep
        self._captured = capture is not None
        self._head_limit = (capture or 0) // 2
        self._end_limit = max(keep, (capture or 0) - self._head_limit)
        self._head = bytearray()
        self._end = bytearray()
        self.size = 0
        """Bytes written in all."""

    def feed(self, data: bytes) -> None:
        """Take what was read next."""
        self.size += len(data)
        room = self._head_limit - len(self._head)
        if room > 0:
            self._head += data[:room]
            data = data[room:]
        self._end += data[-self._end_limit :] if self._end_limit else b""
        if len(self._end) > self._end_limit + max(
            _READ, self._end_limit // 4
        ):  # trimmed rarely: each costs a copy
            del self._end[: -self._end_limit or None]

    @property
    def tail(self) -> bytes:
        """The last `keep` bytes."""
        if not self._keep:
            return b""
        if len(self._end) >= self._keep:
            return bytes(self._end[-self._keep :])
        missing = self._keep - len(self._end)  # nothing was dropped, or the end would be full
        return bytes(self._head[-missing:] + self._end)

    @property
    def whole(self) -> bytes | None:
        """All of it, if `capture` was given; of what is longer, both ends with a note between them."""
        if not self._captured:
            return None
        end = self._end[-self._end_limit :] if self._end_limit else b""
        left_out = self.size - len(self._head) - len(end)
        note = b"\n[... %d bytes left out ...]\n" % left_out if left_out else b""
        return b"".join((self._head, note, end))

    def text(self) -> str:
        """The tail for people and events; undecodable bytes and NULs, which no store takes, are replaced."""
        tail = self.tail
        if len(tail) < self.size:  # cut, perhaps within a character of up to four bytes
            cut = next((n for n, byte in enumerate(tail[:4]) if byte & 0xC0 != 0x80), 0)
            tail = tail[cut:]
        return tail.decode(errors="replace").replace("\0", "\N{REPLACEMENT CHARACTER}")


class PipeReader:
    """Reads one pipe of a process from the loop until its end, and closes it."""

    __slots__ = ("_file", "_loop", "_on_end", "_output")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        file: IO[bytes],
        output: Output,
        on_end: Callable[[PipeReader], None],
    ) -> None:
        """`on_end` is called once, when every process that held the other end has closed it."""
        os.set_blocking(file.fileno(), False)
        self._loop = loop
        self._file = file
        self._output: Output | None = output
        self._on_end = on_end
        loop.add_reader(file.fileno(), self._read)

    @property
    def closed(self) -> bool:
        """Whether nothing more can come."""
        return self._file.closed

    def drain(self) -> None:
        """Read what is in the pipe now."""
        for _ in range(_READS_AT_EXIT):
            if self._file.closed or not self._read():
                return

    def discard(self, on_end: Callable[[PipeReader], None]) -> None:
        """Keep nothing of what comes from now on, but read on, so that whoever writes is not killed by it."""
        self._output = None
        self._on_end = on_end

    def close(self) -> None:
        """Read no more; may be called again."""
        if not self._file.closed:
            self._loop.remove_reader(self._file.fileno())
            self._file.close()

    def _read(self) -> bool:
        try:
            data = os.read(self._file.fileno(), _READ)
        except BlockingIOError:
            return False
        if not data:
            self.close()
            self._on_end(self)
        elif self._output is not None:
            self._output.feed(data)
        return bool(data)
