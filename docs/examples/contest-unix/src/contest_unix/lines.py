"""The wire: a message is a line. Used at both ends; knows no socket."""

from __future__ import annotations


class Lines:
    """Cuts a stream of bytes into lines, in bounded memory.

    A line of more than `limit` bytes is cut to `limit` + 1: who gets it sees by its length that it was too long.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._begun = bytearray()

    @property
    def begun(self) -> bool:
        """Whether a line has begun and not ended."""
        return bool(self._begun)

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that end in this chunk, without their ends. What follows the last of them is kept."""
        *ends, rest = chunk.split(b"\n")
        lines = []
        for end in ends:
            self._keep(end)
            lines.append(self.rest())
        self._keep(rest)
        return lines

    def rest(self) -> bytes:
        """What has come of a line that has not ended; empty where there is none."""
        line = bytes(self._begun)
        self._begun.clear()
        return line

    def _keep(self, part: bytes) -> None:
        self._begun += part[: self._limit + 1 - len(self._begun)]
