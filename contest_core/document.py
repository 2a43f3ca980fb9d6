"""Documents that people write: the configuration and job descriptors, YAML or JSON, with places.

Called by `config` and by the program, which turns a finding's JSON pointer into line and column. It knows
neither settings nor jobs. A text is read as JSON where its name ends in `.json` or where it begins like a
JSON object (`{"`), else as strict YAML. Any text gives a `Document` or a `DocumentError`.
"""

from __future__ import annotations

import re
from typing import Final, Literal

from contest_core.document_json import Duplicate, read_json, walk
from contest_core.document_tree import MAX_DEPTH, DocumentError, Node, Place, Text, join, split
from contest_core.document_yaml import MAX_ALIASED, read_yaml, resolve_plain

__all__ = [
    "MAX_ALIASED",
    "MAX_DEPTH",
    "Document",
    "DocumentError",
    "Place",
    "join",
    "read",
    "resolve_plain",
    "split",
]

_JSON_OBJECT: Final = re.compile(r'[ \t\r\n]*\{[ \t\r\n]*["}]')


class Document:
    """A document that was read. Pointers are JSON pointers (RFC 6901); `""` is the whole."""

    def __init__(
        self,
        text: Text,
        value: object,
        root: Node | None,
        *,
        syntax: Literal["json", "yaml"],
        duplicates: tuple[Duplicate, ...] = (),
    ) -> None:
        self.value = value
        """Dictionaries with text as keys, lists, text, numbers, booleans, None. An alias of YAML is the same
        object again: copy before changing."""
        self.syntax = syntax
        """What it was read as."""
        self._text = text
        self._root = root
        self._duplicates = duplicates

    @property
    def source(self) -> str:
        """The name of the file, as errors show it."""
        return self._text.source

    @property
    def text(self) -> str:
        """The text that was read."""
        return self._text.content

    @property
    def duplicates(self) -> list[tuple[str, Place]]:
        """Keys of JSON objects that occur again (pointer, place of the repetition); the last one holds.

        In YAML a repeated key is an error.
        """
        return [(duplicate.pointer, self._text.place(duplicate.offset)) for duplicate in self._duplicates]

    def position(self, pointer: str) -> Place:
        """Where the value is; of what is not there, the innermost container that is."""
        return self._text.place(self._find(pointer)[0].offset)

    def key_position(self, pointer: str) -> Place:
        """Where the key of a value is; of an element of a list, or of what is not there, as `position`."""
        parent, _, _ = pointer.rpartition("/")
        token = split(pointer)[-1] if pointer else ""
        node, found = self._find(parent)
        if found and pointer and token in node.keys:
            return self._text.place(node.keys[token])
        return self.position(pointer)

    def scalar_text(self, pointer: str) -> str | None:
        """How a scalar is written, without quotes: `1.0` and not 1. None for containers and what is not there."""
        node, found = self._find(pointer)
        return node.text if found else None

    def is_plain(self, pointer: str) -> bool:
        """Whether a scalar is written without quotes."""
        node, found = self._find(pointer)
        return found and node.plain

    def _find(self, pointer: str) -> tuple[Node, bool]:
        if self._root is None:
            self._root, self._duplicates = walk(self._text)
        node = self._root
        for token in split(pointer):
            inner = node.child(token)
            if inner is None:
                return node, False
            node = inner
        return node, True


def read(text: str | bytes, *, source: str) -> Document:
    """Reads a document. `source` is what errors call it: a path, `<stdin>`.

    Raises `DocumentError`, with the place, for everything that is wrong with it.
    """
    content = Text(_decode(text, source), source)
    if source.endswith(".json") or _JSON_OBJECT.match(content.content):
        value, root, duplicates = read_json(content)
        return Document(content, value, root, syntax="json", duplicates=duplicates)
    return Document(content, *read_yaml(content), syntax="yaml")


def _decode(text: str | bytes, source: str) -> str:
    if isinstance(text, bytes):
        try:
            text = text.decode()
        except UnicodeDecodeError as error:
            before = Text(error.object[: error.start].decode(), source)
            raise before.error(len(before.content), "not UTF-8") from None
    text = text.removeprefix("\ufeff")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise Text(text, source).error(error.start, "half of a surrogate pair is no text") from None
    return text
