"""Strings as Go has them: sequences of bytes, quoted by Go's rules.

A Python string stands for a Go string; a byte that is no UTF-8 is one of the lone surrogates of Python's
`surrogateescape`, so that slicing inside a character loses nothing. Used by all other modules of this package.
"""

from __future__ import annotations

import re
from bisect import bisect_right

_SURROGATE = re.compile("[\ud800-\udfff]")
_STRAY = re.compile("[\ud800-\udc7f\udd00-\udfff]")
_ESCAPED_BYTE = re.compile("[\udc80-\udcff]")
_NAMED = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v"}
# What Unicode 15, which Go has, added to Unicode 14, which Python 3.11 has.
_ADDED_RANGES = (
    "CF3 ECE 10EFD-10EFF 1123F-11241 11B00-11B09 11F00-11F10 11F12-11F3A 11F3E-11F59 1342F "
    "13440-13455 1B132 1B155 1D2C0-1D2D3 1DF25-1DF2A 1E030-1E06D 1E08F 1E4D0-1E4F9 1F6DC "
    "1F774-1F776 1F77B-1F77F 1F7D9 1FA75-1FA77 1FA87-1FA88 1FAAD-1FAAF 1FABB-1FABD 1FABF "
    "1FACE-1FACF 1FADA-1FADB 1FAE8 1FAF7-1FAF8 2B739 31350-323AF"
)
_ADDED = [
    (int(first, 16), int(last or first, 16))
    for first, _, last in [text.partition("-") for text in _ADDED_RANGES.split()]
]
_NO_BACKQUOTE = re.compile("[\x00-\x08\x0a-\x1f`\x7f\ufeff\udc80-\udcff]")


def is_printable(char: str) -> bool:
    """Whether Go shows a character as it is."""
    return char.isprintable() or (char > "\x7f" and _is_added(ord(char)))


def _is_added(code: int) -> bool:
    index = bisect_right(_ADDED, (code, 0x110000)) - 1
    return index >= 0 and code <= _ADDED[index][1]


def to_bytes(text: str) -> bytes:
    """The bytes of a Go string."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a surrogate of other origin: no Go string has one
        return _STRAY.sub("\ufffd", text).encode("utf-8", "surrogateescape")


def from_bytes(data: bytes) -> str:
    """The Go string of some bytes."""
    return data.decode("utf-8", "surrogateescape")


def byte_length(text: str) -> int:
    """What Go's `len` says of a string."""
    return len(text) if text.isascii() else len(to_bytes(text))


def rejoin(text: str) -> str:
    """The same string, where bytes that came together to a character again are that character."""
    if text.isascii() or _ESCAPED_BYTE.search(text) is None:
        return text
    return from_bytes(to_bytes(text))


def printable(text: str) -> str:
    """A string that can be encoded: each byte that is no UTF-8 becomes U+FFFD, as Go's JSON writes it."""
    if text.isascii() or _SURROGATE.search(text) is None:
        return text
    return without_surrogates(rejoin(text))


def without_surrogates(text: str) -> str:
    """The text with U+FFFD for each character that is none, as Go reads JSON."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


class _Escapes(dict[int, str]):
    """A table for `str.translate` that fills itself: what each character is inside the quotes."""

    def __init__(self, mark: str, *, ascii_only: bool) -> None:
        super().__init__({ord(mark): f"\\{mark}", ord("\\"): "\\\\"})
        self._ascii_only = ascii_only

    def __missing__(self, code: int) -> str:
        escaped = _escape(chr(code), self._ascii_only)
        if len(self) < 4096:
            self[code] = escaped
        return escaped


def _escape(char: str, ascii_only: bool) -> str:
    code = ord(char)
    if is_printable(char) and (code < 0x80 or not ascii_only):
        return char
    if char in _NAMED:
        return _NAMED[char]
    if code < 0x80:
        return f"\\x{code:02x}"
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


_TABLES = {
    (mark, ascii_only): _Escapes(mark, ascii_only=ascii_only)
    for mark in ('"', "'")
    for ascii_only in (False, True)
}


def quote(text: str, *, mark: str = '"', ascii_only: bool = False) -> str:
    """A string between quotes, as `strconv.Quote` writes it."""
    if text.isascii() and text.isprintable() and mark not in text and "\\" not in text:
        return f"{mark}{text}{mark}"
    return f"{mark}{text.translate(_TABLES[mark, ascii_only])}{mark}"


def can_backquote(text: str) -> bool:
    """Whether a string may stand between backquotes."""
    return _NO_BACKQUOTE.search(text) is None


def character(code: int) -> str:
    """The character of a number, U+FFFD where there is none."""
    if 0 <= code <= 0x10FFFF and not 0xD800 <= code <= 0xDFFF:
        return chr(code)
    return "\ufffd"


def code_point(char: str) -> str:
    """A character in an error of the lexer, as Go's `%#U` has it."""
    shown = f" '{char}'" if is_printable(char) else ""
    return f"U+{ord(char):04X}{shown}"
