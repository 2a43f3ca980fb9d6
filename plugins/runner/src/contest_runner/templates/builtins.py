"""The functions that Go's text/template itself has; the compiler calls them, plugins cannot replace them.

`and` and `or` are here for their arity only: the compiler evaluates their arguments one by one.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final
from urllib.parse import quote_plus

from contest_runner.templates import printer
from contest_runner.templates.errors import Refused
from contest_runner.templates.formats import sprintf
from contest_runner.templates.functions import Function, Parameter
from contest_runner.templates.quoting import byte_length, from_bytes, is_printable, to_bytes
from contest_runner.templates.values import Byte, ByteSlice, is_target, pointed_type_name, type_name

_BASIC: Final[dict[type, str]] = {
    str: "string",
    int: "integer",
    Byte: "integer",
    float: "float",
    bool: "bool",
    complex: "complex",
}


def _length(value: object) -> int:
    if isinstance(value, str):
        return byte_length(value)
    if isinstance(value, ByteSlice | list | dict):
        return len(value)
    raise Refused(f"len of type {pointed_type_name(value)}")


def _position(index: object, most: int) -> int:
    if index is None:
        raise Refused("cannot index slice/array with nil")
    if not isinstance(index, int) or isinstance(index, bool):
        raise Refused(f"cannot index slice/array with type {type_name(index)}")
    if not 0 <= index <= most:
        raise Refused(f"index out of range: {int(index)}")
    return index


def _index(value: object, *indexes: object) -> object:
    for index in indexes:
        value = _item(value, index)
    if value is None and not indexes:
        raise Refused("index of untyped nil")
    return value


def _item(value: object, index: object) -> object:
    if value is None:
        raise Refused("index of untyped nil")
    if isinstance(value, dict):
        if not isinstance(index, str):
            raise Refused(f"value has type {type_name(index)}; should be string")
        return value.get(index)
    if isinstance(value, str | ByteSlice):
        data = to_bytes(value) if isinstance(value, str) else value.data
        return Byte(data[_inside(index, len(data))])
    if isinstance(value, list):
        return value[_inside(index, len(value))]
    raise Refused(f"can't index item of type {pointed_type_name(value)}")


def _inside(index: object, length: int) -> int:
    position = _position(index, length)
    if position == length:
        raise Refused(f"index out of range: {position}")
    return position


def _slice(value: object, *indexes: object) -> object:
    if value is None:
        raise Refused("slice of untyped nil")
    if len(indexes) > 3:
        raise Refused(f"too many slice indexes: {len(indexes)}")
    if not isinstance(value, str | ByteSlice | list):
        raise Refused(f"can't slice item of type {pointed_type_name(value)}")
    if len(indexes) == 3 and isinstance(value, str):
        raise Refused("cannot 3-index slice a string")
    items = to_bytes(value) if isinstance(value, str) else value
    capacity = items.capacity if isinstance(items, ByteSlice) else len(items)
    bounds = [_position(index, capacity) for index in indexes]
    low, high, most = [*bounds, *(0, len(items), capacity)[len(bounds) :]]
    for first, second in ((low, high), (high, most)):
        if first > second:
            raise Refused(f"invalid slice index: {first} > {second}")
    if isinstance(items, ByteSlice):
        return items.part(low, high, most)
    part = items[low:high]
    return from_bytes(part) if isinstance(part, bytes) else part


def _call(value: object, *arguments: object, written: str | None = None) -> object:
    if value is None:
        raise Refused("call of nil")
    if written is None:
        written = value if isinstance(value, str) else f"<{type_name(value)} Value>"
    raise Refused(f"non-function {written} of type {type_name(value)}")


def _not(value: object) -> bool:
    return not value


def _is_nil(value: object) -> bool:
    return value is None or (isinstance(value, ByteSlice) and value.is_nil)


def _equal(value: object, *others: object) -> bool:
    if not others:
        raise Refused("missing argument for comparison")
    if len(others) == 1:
        return _equals(value, others[0])
    return any(_equals(value, other) for other in others)


def _equals(left: object, right: object) -> bool:
    if type(left) is str and type(right) is str:
        return left == right
    if left is None or right is None:
        return _is_nil(left) and _is_nil(right)
    kind, other = _BASIC.get(type(left)), _BASIC.get(type(right))
    if kind != other:
        raise _incompatible(left, right)
    if kind is not None:
        return left == right
    if is_target(left) != is_target(right) or isinstance(left, dict) != isinstance(right, dict):
        raise Refused(f"non-comparable types {type_name(left)} and {type_name(right)}")
    if _is_nil(left) or _is_nil(right):
        return _is_nil(left) and _is_nil(right)
    if not is_target(right):
        raise Refused(f"non-comparable type {type_name(right)}")
    return left is right


def _incompatible(left: object, right: object) -> Refused:
    return Refused(f"incompatible types for comparison: {type_name(left)} and {type_name(right)}")


def _not_equal(left: object, right: object) -> bool:
    return not _equals(left, right)


def _ordering(compare: Callable[[Any, Any], bool]) -> Callable[[object, object], bool]:
    def ordered(left: object, right: object) -> bool:
        kind, other = _BASIC.get(type(left)), _BASIC.get(type(right))
        if kind is None or other is None:
            raise Refused("invalid type for comparison")
        if kind != other:
            raise _incompatible(left, right)
        if kind in ("bool", "complex"):
            raise Refused("invalid type for comparison")
        if isinstance(left, str) and isinstance(right, str) and not (left.isascii() and right.isascii()):
            return compare(to_bytes(left), to_bytes(right))
        return compare(left, right)

    return ordered


_HTML: Final = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&#34;", "'": "&#39;", "\0": "\ufffd"}
)


class _Script(dict[int, str]):
    """What a character is in a string of JavaScript; fills itself."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        as_it_is = is_printable(char) or code == 0x7F or 0xDC80 <= code <= 0xDCFF
        escaped = char if as_it_is else f"\\u{code:04X}"
        if len(self) < 4096:
            self[code] = escaped
        return escaped


_JS: Final = _Script({ord("\\"): "\\\\", ord("'"): "\\'", ord('"'): '\\"'})
_JS.update({ord(char): f"\\u{ord(char):04X}" for char in "<>&="})


def _text_of(values: tuple[object, ...], limit: int) -> str:
    if len(values) == 1 and isinstance(values[0], str):
        return values[0]
    return printer.sprint(["<no value>" if value is None else value for value in values], limit)


def _url_query(text: str) -> str:
    return quote_plus(to_bytes(text))


@lru_cache(maxsize=8)
def built_ins(limit: int) -> Mapping[str, Function]:
    """The functions by name, making no text of more characters than the limit."""

    def escaping(escape: Callable[[str], str]) -> Function:
        def escaped(*values: object) -> str:
            text = escape(_text_of(values, limit))
            if len(text) > limit:
                raise Refused(f"the result is longer than {limit} characters")
            return text

        return _function(escaped, 0, rest=True)

    def formatted(template: str, *values: object) -> str:
        return sprintf(template, values, limit)

    return {
        "and": _function(_not, 1, rest=True),
        "call": _function(_call, 1, rest=True),
        "eq": _function(_equal, 1, rest=True),
        "ge": _function(_ordering(operator.ge), 2),
        "gt": _function(_ordering(operator.gt), 2),
        "html": escaping(lambda text: text.translate(_HTML)),
        "index": _function(_index, 1, rest=True),
        "js": escaping(lambda text: text.translate(_JS)),
        "le": _function(_ordering(operator.le), 2),
        "len": _function(_length, 1),
        "lt": _function(_ordering(operator.lt), 2),
        "ne": _function(_not_equal, 2),
        "not": _function(_not, 1),
        "or": _function(_not, 1, rest=True),
        "print": _function(lambda *values: printer.sprint(values, limit), 0, rest=True),
        "printf": _function(formatted, 1, rest=True, first=Parameter.STRING),
        "println": _function(lambda *values: printer.sprintln(values, limit), 0, rest=True),
        "slice": _function(_slice, 1, rest=True),
        "urlquery": escaping(_url_query),
    }


def _function(
    call: Callable[..., object], fixed: int, *, rest: bool = False, first: Parameter = Parameter.ANY
) -> Function:
    return Function(
        call=call,
        parameters=(first, Parameter.ANY, Parameter.ANY)[:fixed],
        least=fixed,
        rest=Parameter.ANY if rest else None,
        built_in=True,
    )
