"""What a parsed JSON value does not tell any more: its text, the order of its keys, characters that are none.

The descriptor's reader asks for these where they matter, which is seldom; msgspec does all the rest.
"""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
from msgspec import Raw

_LONE = re.compile("[\ud800-\udfff]")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]", re.ASCII)


class RawTexts:
    """The texts of the values in a document; each object and list is taken apart once, and only when asked."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._members: dict[str, Any] = {}

    def at(self, pointer: str) -> str:
        """The text of the value at a JSON pointer, as it is written."""
        return bytes(self._raw(pointer)).decode()

    def _raw(self, pointer: str) -> Raw:
        if not pointer:
            return Raw(self._text.encode("utf-8", "surrogatepass"))
        parent, _, token = pointer.rpartition("/")
        members = self._members.get(parent)
        if members is None:
            raw = self._raw(parent)
            kind: Any = list[Raw] if bytes(raw).lstrip()[:1] == b"[" else dict[str, Raw]
            members = self._members[parent] = msgspec.json.decode(raw, type=kind)
        key = token.replace("~1", "/").replace("~0", "~")
        found: Raw = members[int(key) if isinstance(members, list) else key]
        return found


def in_order(text: str) -> Any:
    """The value with each key where it last stands, so that the last of several spellings of one comes last."""
    return json.loads(text, object_pairs_hook=_last_stands)


def well_formed(text: str) -> str:
    """The text with lone surrogates, written out or escaped, replaced as Go replaces them (U+FFFD)."""
    if _SURROGATE.search(text):
        try:
            msgspec.json.decode(text)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            text = _rewritten(text)
    return text if text.isascii() else _replaced(text)


def _rewritten(text: str) -> str:
    try:
        return _replaced(json.dumps(json.loads(text), ensure_ascii=False))
    except (ValueError, RecursionError):
        return text


def _replaced(text: str) -> str:
    # First what is a pair becomes one character; the codec's own replacing takes a microsecond each.
    paired = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    return _LONE.sub("\ufffd", paired)


def _last_stands(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        found.pop(key, None)
        found[key] = value
    return found
