"""The literals of Go that a template may contain: strings, rune constants and numbers.

Called by the parser with the text of one token; a ValueError says what is wrong with it.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from contest_runner.templates.quoting import from_bytes, quote

_PIECE = re.compile(
    r"""(?P<plain>[^\\]+)
    | \\(?: x(?P<byte>[0-9a-fA-F]{2}) | (?P<octal>[0-3][0-7]{2})
        | u(?P<short>[0-9a-fA-F]{4}) | U(?P<long>[0-9a-fA-F]{8}) | (?P<named>[abfnrtv\\'"]) )""",
    re.VERBOSE,
)
_NAMED = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_OCTAL = re.compile(r"0(?:_?[0-7])+")
_HEX_FLOAT = re.compile(
    r"[+-]?0[xX](?=_?[0-9a-fA-F]|\.[0-9a-fA-F])(?:_?[0-9a-fA-F])*"
    r"(?:\.(?:[0-9a-fA-F](?:_?[0-9a-fA-F])*)?)?[pP][+-]?[0-9](?:_?[0-9])*"
)
_COMPLEX = re.compile(r"(.+?(?<![eEpP]))([+-].*)i")
_LONGEST = 1000
"""Digits of a number; more would only cost time."""
_INT64 = range(-(2**63), 2**63)
_UINT64 = range(2**64)


def unquote(literal: str) -> str:
    """The value of a string literal, in double quotes or backquotes."""
    inner = literal[1:-1]
    if literal[0] == "`":
        return inner.replace("\r", "")
    if "\\" not in inner:
        return inner
    return from_bytes(b"".join(_pieces(inner, '"')))


def unquote_rune(literal: str) -> int:
    """The value of a rune constant."""
    inner = literal[1:-1]
    if len(inner) == 1 and inner != "\\":
        return ord(inner)
    match = _PIECE.match(inner)
    if match is None:
        raise ValueError("invalid syntax")
    piece = _piece(match, "'")
    if match["plain"] or match.end() != len(inner):
        raise ValueError(f"malformed character constant: {literal}")
    return piece[0] if match["byte"] or match["octal"] else ord(piece.decode())


def _pieces(inner: str, mark: str) -> list[bytes]:
    pieces: list[bytes] = []
    position = 0
    while position < len(inner):
        match = _PIECE.match(inner, position)
        if match is None:
            raise ValueError("invalid syntax")
        pieces.append(_piece(match, mark))
        position = match.end()
    return pieces


def _piece(match: re.Match[str], mark: str) -> bytes:
    if match["plain"]:
        return match[0].encode()
    if match["byte"]:
        return bytes((int(match["byte"], 16),))
    if match["octal"]:
        return bytes((int(match["octal"], 8),))
    if match["named"]:
        if match["named"] in "'\"" and match["named"] != mark:
            raise ValueError("invalid syntax")
        return _NAMED.get(match["named"], match["named"]).encode()
    code = int(match["short"] or match["long"], 16)
    if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
        raise ValueError("invalid syntax")
    return chr(code).encode()


class Numeral(NamedTuple):
    """What a number can be taken for, as with Go's untyped constants."""

    constant: int | float | complex | None
    """Its value where nothing says which type is wanted; None overflows Go's int."""
    integer: int | None
    """Its value as an int, where it has one."""
    real: float | None
    """Its value as a float64, where it has one."""


def rune(literal: str) -> Numeral:
    """The number that a rune constant is."""
    code = unquote_rune(literal)
    return Numeral(code, code, float(code))


def number(literal: str) -> Numeral:
    """The number that is written; complex where it is imaginary."""
    if len(literal) > _LONGEST:
        raise ValueError(f"illegal number syntax: {quote(literal)}")
    if literal.endswith("i"):
        imaginary = _float(literal[:-1])
        if imaginary is not None:
            return _complex(complex(0, imaginary))
    value = _integer(literal)
    signed = literal[0] in "+-"
    if value is not None and value in _INT64:
        # What begins with a sign does not look hexadecimal to Go; an E in it looks like an exponent.
        as_float = signed and ("e" in literal or "E" in literal)
        return Numeral(float(value) if as_float else value, value, float(value))
    if value is not None and value in _UINT64 and not signed:
        return Numeral(None, None, float(value))
    real = _float(literal)
    if real is None:
        raise ValueError(f"illegal number syntax: {quote(literal)}")
    if not any(char in literal for char in ".eEpP"):
        raise ValueError(f"integer overflow: {quote(literal)}")
    return Numeral(real, _whole(real), real)


def complex_number(literal: str) -> Numeral:
    """A sum of a real and an imaginary number."""
    match = _COMPLEX.fullmatch(literal) if len(literal) <= _LONGEST else None
    real = _float(match[1]) if match else None
    imaginary = _float(match[2]) if match else None
    if real is None or imaginary is None:
        raise ValueError("syntax error scanning complex number")
    return _complex(complex(real, imaginary))


def _complex(value: complex) -> Numeral:
    if value.imag:
        return Numeral(value, None, None)
    return Numeral(value, _whole(value.real), value.real)


def _whole(value: float) -> int | None:
    return int(value) if value.is_integer() and int(value) in _INT64 else None


def _integer(literal: str) -> int | None:
    digits = literal.lstrip("+-")
    try:
        if _OCTAL.fullmatch(digits):
            value = int(digits.replace("_", ""), 8)
        else:
            value = int(digits, 0)
    except ValueError:
        return None
    return -value if literal[0] == "-" else value


def _float(literal: str) -> float | None:
    try:
        if _HEX_FLOAT.fullmatch(literal):
            value = float.fromhex(literal.replace("_", ""))
        else:
            value = float(literal)
    except (ValueError, OverflowError):
        return None
    return value if abs(value) != float("inf") else None
