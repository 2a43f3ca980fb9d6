"""What both readers of documents share: nodes with their offsets, places, pointers, the one error.

`document` is what others import; `document_yaml` and `document_json` build the nodes.
"""

from __future__ import annotations

from typing import Final, NamedTuple

MAX_DEPTH: Final = 200
"""Containers within containers. Those who walk a document may recurse, well within Python's own limit."""


class Place(NamedTuple):
    """Where something is in a file, as editors count: both from 1, a column is a character."""

    line: int
    column: int


class DocumentError(Exception):
    """A text that is no document: `source:line:column: message`. The message never shows a value."""

    exit_code = 2

    def __init__(self, *, source: str, place: Place, message: str) -> None:
        self.source = source
        self.line, self.column = place
        self.message = message
        super().__init__(f"{source}:{self.line}:{self.column}: {message}")


class Text:
    """The text of a document, and what turns an offset in it into a place or an error."""

    __slots__ = ("content", "source")

    def __init__(self, content: str, source: str) -> None:
        self.content = content
        self.source = source

    def place(self, offset: int) -> Place:
        """The place of the character at this offset."""
        before = self.content.rfind("\n", 0, offset)
        return Place(line=self.content.count("\n", 0, offset) + 1, column=offset - before)

    def error(self, offset: int, message: str) -> DocumentError:
        """The error of what is at this offset."""
        return DocumentError(source=self.source, place=self.place(offset), message=message)


_NO_KEYS: Final[dict[str, int]] = {}


class Node:
    """Where a value is: its offset and, for containers, the nodes within."""

    __slots__ = ("children", "keys", "offset", "plain", "text")

    def __init__(
        self,
        offset: int,
        text: str | None = None,
        *,
        plain: bool = False,
        children: dict[str, Node] | list[Node] | None = None,
    ) -> None:
        self.offset = offset
        self.text = text
        """A scalar's source text, without quotes and escapes; None for a container."""
        self.plain = plain
        """Whether a scalar is written without quotes."""
        self.children = children
        self.keys: dict[str, int] = _NO_KEYS if children is None else {}
        """The offsets of a mapping's keys."""

    def child(self, token: str) -> Node | None:
        """The node under a key or an index (written as in a pointer), if there is one."""
        if isinstance(self.children, dict):
            return self.children.get(token)
        if isinstance(self.children, list) and token.isdecimal() and len(token) < 10:
            index = int(token)
            return self.children[index] if index < len(self.children) else None
        return None


def join(pointer: str, token: str | int) -> str:
    """The JSON pointer (RFC 6901) of a key or an index under `pointer`."""
    return f"{pointer}/{str(token).replace('~', '~0').replace('/', '~1')}"


def split(pointer: str) -> list[str]:
    """The tokens of a JSON pointer; none for the whole document (`""`)."""
    return [token.replace("~1", "/").replace("~0", "~") for token in pointer.split("/")[1:]]
