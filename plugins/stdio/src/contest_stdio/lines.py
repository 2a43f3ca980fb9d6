"""Cuts a stream of bytes into lines, in bounded memory. Used at both ends: by the listener and by the client."""

from __future__ import annotations

from typing import Final

_HEAD: Final = 256


class Overlong(bytes):
    """The beginning of a line that is over the limit; the rest of the line is skipped."""


class LineSplitter:
    """Lines end with a newline; each is given out without it.

    A line of more than `limit` bytes is given out once, as an `Overlong`, as soon as that is known.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._begun = bytearray()
        self._skipping = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that this chunk ends, in order; what follows the last of them is kept for the next."""
        lines = chunk.split(b"\n")
        tail = lines.pop()
        if lines and (self._begun or self._skipping):
            overlong = self._keep(lines[0])
            lines[:1] = self.end() or overlong
        if len(chunk) > self._limit:
            lines = [line if len(line) <= self._limit else Overlong(line[:_HEAD]) for line in lines]
        return lines + self._keep(tail) if tail else lines

    def end(self) -> list[bytes]:
        """The last line, where the stream ended without a newline."""
        line = [bytes(self._begun)] if self._begun else []
        self._begun, self._skipping = bytearray(), False
        return line

    def _keep(self, part: bytes) -> list[bytes]:
        """Adds to the line that has not ended yet; gives that line out if it turns out to be over the limit."""
        if self._skipping:
            return []
        if len(self._begun) + len(part) <= self._limit:
            self._begun += part
            return []
        head = Overlong(bytes(self._begun[:_HEAD]) + part[:_HEAD])
        self._begun, self._skipping = bytearray(), True
        return [head]
