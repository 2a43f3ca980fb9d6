"""Server-sent events as they come: bytes to messages, in bounded memory.

Used by the client; knows neither HTTP nor what the messages say. Read as
https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation has it, but that of `id` only
the first is kept, where no message has it, and nothing is done about `retry`: messages carry their cursor.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from contest_core.errors import TooLarge

_LINE_END: Final = re.compile(rb"\r\n|\n|\r(?!\Z)")
"""A CR at the very end may be half of a CRLF."""


class Message(NamedTuple):
    """One event of a stream."""

    kind: bytes
    """Its `event`; empty where it has none."""
    data: bytes


class EventStream:
    """A stream of which no message has more than `limit` bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._rest = bytearray()
        self._looked = 0
        self._kind = b""
        self._data: list[bytes] = []
        self._size = 0
        self._id: bytes | None = None
        self._begun = False
        self.begins = b""
        """The `id` that came before all messages; empty without one."""

    def feed(self, part: bytes) -> list[Message]:
        """The messages that are complete now. Raises `TooLarge`."""
        found = [message for line in self._lines(part) if (message := self._line(line)) is not None]
        if len(self._rest) + self._size > self._limit:
            raise TooLarge(what="an event", limit=self._limit, setting="ClientOptions.max_answer")
        return found

    def _lines(self, part: bytes) -> list[bytes]:
        rest = self._rest
        rest += part
        lines = []
        start = 0
        for end in [found.span() for found in _LINE_END.finditer(rest, self._looked)]:
            lines.append(bytes(rest[start : end[0]]))
            start = end[1]
        del rest[:start]
        self._looked = max(0, len(rest) - 1)
        return lines

    def _line(self, line: bytes) -> Message | None:
        if not line:
            message = Message(self._kind, b"\n".join(self._data)) if self._data else None
            if self._id is not None and message is None and not self._begun:
                self.begins = self._id
            self._begun = self._begun or self._id is not None or message is not None
            self._kind, self._data, self._size, self._id = b"", [], 0, None
            return message
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
            self._size += len(value) + 1
        elif name == b"event":
            self._kind = value
        elif name == b"id":
            self._id = value
        return None
