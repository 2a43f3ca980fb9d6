"""Reads JSON with the places of its values.

The standard library's decoder makes the value; a walk of our own over the tokens finds places, and runs only
where somebody asks for one or where the decoder met what it takes and we do not. Of a key that occurs twice
the last one holds, as in ConTest, and the repetition is noted.
"""

from __future__ import annotations

import json
import math
import re
from typing import Final, NamedTuple

from contest_core.document_tree import MAX_DEPTH, Node, Text, join

_TOKEN: Final = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\]]|[^\s,:"{}\[\]]+', re.DOTALL)
_SURELY_FINITE: Final = len("1e99")
_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")

_EXPECTED: Final = {
    "Expecting value": "expected a value",
    "Expecting ',' delimiter": "expected ',' or the end of the list or object",
    "Expecting ':' delimiter": "expected ':' after the key",
    "Expecting property name enclosed in double quotes": "expected a key in double quotes, or '}'",
    "Unterminated string starting at": "this text has no closing quote",
    "Invalid control character at": "a line break, tab or other control character within quotes: write \\n or \\t",
    "Invalid \\escape": "expected one of the escapes that JSON has after the backslash",
    "Invalid \\uXXXX escape": "expected four hexadecimal digits after \\u",
    "Extra data": "expected the end: there is more after the document",
}


class Duplicate(NamedTuple):
    """A key that occurs again in the same object."""

    pointer: str
    offset: int
    """Of the repetition."""


class _Suspicion(ValueError):
    """The decoder met what JSON does not have or what cannot be kept; the walk says where."""


def read_json(text: Text) -> tuple[object, Node | None, tuple[Duplicate, ...]]:
    """The value, the nodes where they were needed, and the keys that occur twice. Raises `DocumentError`."""
    repeated = False

    def collect(pairs: list[tuple[str, object]]) -> dict[str, object]:
        nonlocal repeated
        found = dict(pairs)
        if len(found) == len(pairs):
            return found
        repeated = True
        # A key stands where it is last, so that also of keys in other case the later one overwrites.
        found.clear()
        for key, value in pairs:
            found.pop(key, None)
            found[key] = value
        return found

    try:
        value = json.loads(
            text.content, object_pairs_hook=collect, parse_float=_finite, parse_constant=_no_constant
        )
    except json.JSONDecodeError as error:
        raise text.error(error.pos, _explain(error, text)) from None
    except (RecursionError, ValueError):
        walk(text)
        raise text.error(0, "cannot be read as JSON") from None
    if repeated or _SURROGATE.search(text.content) or _is_deep(value):
        node, duplicates = walk(text)
        return value, node, duplicates
    return value, None, ()


def _explain(error: json.JSONDecodeError, text: Text) -> str:
    message = _EXPECTED.get(
        error.msg.removesuffix(" at") if error.msg.startswith("Invalid \\") else error.msg
    )
    if message is None:
        message = f"{error.msg[:1].lower()}{error.msg[1:]}"
    if text.source.endswith(".json"):
        return message
    return f'{message} (what begins with {{" is read as JSON)'


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise _Suspicion
    return number


def _no_constant(name: str) -> object:
    raise _Suspicion(name)


def _is_deep(value: object) -> bool:
    level: list[object] = [value]
    for _ in range(MAX_DEPTH + 1):
        containers = [each for each in level if isinstance(each, dict | list)]
        level = [
            inner for each in containers for inner in (each.values() if isinstance(each, dict) else each)
        ]
        if not containers:
            return False
    return True


def walk(text: Text) -> tuple[Node, tuple[Duplicate, ...]]:
    """The nodes of a text that the decoder has taken, and the keys that occur twice.

    Raises `DocumentError` for what the decoder takes, or stops at, and we do not take: NaN, numbers beyond all
    bounds, halves of surrogate pairs, nesting beyond the limit.
    """
    walker = _Walker(text)
    for token in _TOKEN.finditer(text.content):
        walker.take(token[0], token.start())
    return walker.root, tuple(walker.duplicates)


class _Walker:
    """Takes the tokens of a text whose grammar the decoder has checked: commas and colons say nothing new."""

    def __init__(self, text: Text) -> None:
        self.text = text
        self.root = Node(0)
        self.open: list[Node] = []
        self.keys: list[str | None] = []
        """Of each open object the key whose value is being read, None where a key comes next; of a list None."""
        self.duplicates: list[Duplicate] = []

    def take(self, token: str, offset: int) -> None:
        first = token[0]
        if first == '"':
            text = token[1:-1] if "\\" not in token else self.unescape(token, offset)
            if self.open and self.keys[-1] is None and isinstance(self.open[-1].children, dict):
                self.key(text, offset)
            else:
                self.attach(Node(offset, text))
                self.done()
        elif first in "{[":
            if len(self.open) == MAX_DEPTH:
                raise self.text.error(offset, f"nested more than {MAX_DEPTH} deep")
            node = Node(offset, children={} if first == "{" else [])
            self.attach(node)
            self.open.append(node)
            self.keys.append(None)
        elif first in "}]":
            self.open.pop()
            self.keys.pop()
            self.done()
        else:
            self.check_literal(token, offset)
            self.attach(Node(offset, token, plain=True))
            self.done()

    def key(self, key: str, offset: int) -> None:
        self.keys[-1] = key
        keys = self.open[-1].keys
        if key in keys:
            self.duplicates.append(Duplicate(self.pointer(), offset))
        keys[key] = offset

    def attach(self, node: Node) -> None:
        if not self.open:
            self.root = node
            return
        children, key = self.open[-1].children, self.keys[-1]
        if isinstance(children, dict) and key is not None:
            children[key] = node
        elif isinstance(children, list):
            children.append(node)

    def done(self) -> None:
        """A value is complete: in an object a key comes next."""
        if self.keys:
            self.keys[-1] = None

    def pointer(self) -> str:
        pointer = ""
        for node, key in zip(self.open, self.keys, strict=True):
            pointer = join(pointer, len(node.children or ()) - 1 if key is None else key)
        return pointer

    def unescape(self, token: str, offset: int) -> str:
        text: str = json.loads(token)
        try:
            text.encode()
        except UnicodeEncodeError:
            raise self.text.error(
                offset, "half of a surrogate pair (\\ud800 to \\udfff) is no text"
            ) from None
        return text

    def check_literal(self, token: str, offset: int) -> None:
        if token[0] in "NI" or token == "-Infinity":
            raise self.text.error(offset, "expected a value (JSON has no NaN and no Infinity)")
        if len(token) > _SURELY_FINITE:
            try:
                json.loads(token, parse_float=_finite)
            except ValueError:
                raise self.text.error(offset, "this number is too large") from None
