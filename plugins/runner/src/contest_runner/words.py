"""Says what is wrong with a value in a descriptor's words: msgspec speaks of Python's types.

Used by the walk and by the binding of parameters for every message of msgspec that can reach a user; messages of
other origin (a `__post_init__`, Contest's own types) pass as they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any, Final, Literal, get_args, get_origin

_TYPES: Final = {
    "array": "a list",
    "bool": "true or false",
    "bytes": "a text in base64",
    "date": "a date like 2006-01-02",
    "datetime": "a time like 2006-01-02T15:04:05Z",
    "decimal": "a decimal number",
    "duration": "a duration in ISO 8601, like PT1H",
    "float": "a number",
    "int": "a whole number",
    "null": "null",
    "object": "an object",
    "str": "a text",
    "time": "a time like 15:04:05Z",
    "timedelta": "a duration in ISO 8601, like PT1H",
    "uuid": "a UUID",
}
_GIVEN: Final = _TYPES | {"bool": "a truth value", "float": "a number with a point"}
_ENCODED: Final = {
    "Invalid RFC3339 encoded datetime": "datetime",
    "Invalid RFC3339 encoded date": "date",
    "Invalid RFC3339 encoded time": "time",
    "Invalid ISO8601 duration": "duration",
    "Invalid UUID": "uuid",
    "Invalid decimal string": "decimal",
    "Invalid base64 encoded string": "bytes",
}
_COUNTED: Final = {"array": "entries", "object": "members", "str": "characters", "bytes": "bytes"}
_ORDER: Final = {"<=": "at most", ">=": "at least", "<": "less than", ">": "more than"}
_PLACE: Final = re.compile(r" - at (`key` in )?`\$([^`]*)`$")


def in_words(error: Exception, kind: Any = None) -> str:
    """What the error says, for a person who wrote JSON; `kind` is the type that was wanted, where it is known."""
    text, where = _without_place(str(error))
    for pattern, make in _RULES:
        if match := pattern.fullmatch(text):
            return make(match, kind) + where
    return text[:1].lower() + text[1:] + where


def named(value: Any) -> str:
    """What a parsed JSON value is: "a list", "a text"."""
    names = {dict: "object", list: "array", str: "str", bool: "bool", int: "int", float: "float"}
    return "null" if value is None else _GIVEN[names[type(value)]]


def wanted(kind: Any) -> str:
    """What a value of a type is, roughly."""
    origin = get_origin(kind) or kind
    if isinstance(origin, type):
        if issubclass(origin, list | tuple | Sequence) and origin is not str:
            return "a list"
        return _TYPES.get(origin.__name__, "an object")
    return "JSON"


def _without_place(text: str) -> tuple[str, str]:
    """What is wrong, and where inside the value."""
    match = _PLACE.search(text)
    if match is None:
        return text, ""
    path = match[2].replace("[...]", ".*").lstrip(".")
    if match[1]:
        return text[: match.start()], f" (a key of {path})" if path else " (a key)"
    return text[: match.start()], f" (at {path})" if path else ""


def _alternatives(types: str) -> str:
    return " or ".join(_TYPES.get(name, name) for name in types.split(" | "))


def _choices(kind: Any) -> str:
    if get_origin(kind) is Literal:
        values = list(get_args(kind))
    elif isinstance(kind, type) and issubclass(kind, Enum):
        values = [member.value for member in kind]
    else:
        return ""
    return f"must be one of {', '.join(map(str, values))}; "


def _wrong_type(match: re.Match[str], kind: Any) -> str:
    return f"must be {_alternatives(match['wanted'])}, is {_GIVEN.get(match['given'], match['given'])}"


def _wrong_choice(match: re.Match[str], kind: Any) -> str:
    choices = _choices(kind)
    return f"{choices}is {match['given'][:64]}" if choices else f"{match['given'][:64]} is none of the values"


def _wrong_length(match: re.Match[str], kind: Any) -> str:
    order = f"{_ORDER[match['order']]} " if match["order"] else ""
    has = f", has {match['has']}" if match["has"] else ""
    return f"must have {order}{match['length']} {_COUNTED.get(match['type'], 'entries')}{has}"


def _out_of_range(match: re.Match[str], kind: Any) -> str:
    return f"must be {_TYPES.get(match['type'], match['type'])}, {_ORDER[match['order']]} {match['limit']}"


_RULES: Final[tuple[tuple[re.Pattern[str], Callable[[re.Match[str], Any], str]], ...]] = tuple(
    (re.compile(pattern, re.DOTALL), make)
    for pattern, make in (
        (r"Expected `(?P<wanted>[^`]+)`, got `(?P<given>[^`]+)`", _wrong_type),
        (
            r"Expected `(?P<type>\w+)` of length (?P<order><=|>=|<|>)? ?(?P<length>\d+)(, got (?P<has>\d+))?",
            _wrong_length,
        ),
        (r"Expected `(?P<type>\w+)` (?P<order><=|>=|<|>) (?P<limit>\S+)", _out_of_range),
        (
            r"Expected `\w+` that's a multiple of (?P<of>\S+)",
            lambda match, _: f"must be a multiple of {match['of']}",
        ),
        (
            r"Expected `str` matching regex (?P<pattern>.+)",
            lambda match, _: f"must match {match['pattern']}",
        ),
        (
            r"Expected `\w+` with (?P<a>a|no) timezone component",
            lambda match, _: f"must be a time with {match['a']} time zone",
        ),
        (r"Invalid enum value (?P<given>.+)", _wrong_choice),
        (r"Invalid value (?P<given>.+)", _wrong_choice),
        (r"Object missing required field `(?P<key>[^`]+)`", lambda match, _: f"{match['key']!r} is missing"),
        (
            r"Object contains unknown field `(?P<key>[^`]+)`",
            lambda match, _: f"unknown key {match['key'][:64]!r}",
        ),
        (
            "|".join(map(re.escape, _ENCODED)),
            lambda match, _: f"must be {_TYPES[_ENCODED[match[0]]]}",
        ),
        (r"(Integer value|Number) out of range", lambda *_: "the number is too large"),
        (r"Input data was truncated", lambda *_: "it ends too early: something is not closed"),
        (r"JSON is malformed: (?P<why>.+)", lambda match, _: f"it is no JSON: {match['why']}"),
    )
)
