"""Turns the plain values of a document into structs and finds every error on the way, not only the first.

msgspec stops at its first error, so structs, lists and mappings are walked here, field by field, and msgspec
converts what is at the leaves. Called by `config`; of documents and places it knows only JSON pointers.
"""

from __future__ import annotations

import enum
import re
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import msgspec

from contest_core.document_tree import join
from contest_core.settings import InvalidSettings, Secret

FAILED: Final = object()
"""What stands for a value that could not be made; the reason is among the issues."""

_AT: Final = re.compile(r" - at (?:`key` in )?`\$([^`]*)`$")
_STEP: Final = re.compile(r"\.([^.\[\]]+)|\[([0-9]+)\]")
_KINDS: Final = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "array": "a list",
    "object": "a mapping",
    "null": "nothing",
}
_NUMBER: Final = re.compile(r"[-+]?[0-9]+(\.[0-9]+)?")
_LIKE_BOOLEANS: Final = {"true", "false", "yes", "no", "on", "off", "y", "n"}


class Issue(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong with a value."""

    pointer: str
    """The JSON pointer of the value."""
    message: str
    at_key: bool = False
    """Whether it is the key that is wrong, not what stands under it."""
    nearest: str | None = None
    """The known name that is nearest to the wrong one."""


def nearest(name: str, known: Sequence[str]) -> str | None:
    """The known name that somebody meant who wrote `name`, if one is near enough."""
    return next(iter(get_close_matches(name, known, n=1)), None)


class Hidden(msgspec.Struct, frozen=True):
    """A text from the environment: it may be a secret, so no message shows it."""

    text: Secret
    shown: str
    """What is shown in its place: how it is written in the file."""

    def conceal(self, message: str) -> str:
        """The message without the text."""
        if not self.text:
            return message
        pattern = rf"(?<!\w){re.escape(self.text.reveal())}(?!\w)"
        return re.sub(pattern, self.shown.replace("\\", r"\\"), message)


def conceal(message: str, texts: Iterable[Hidden]) -> str:
    """A message without any of the texts."""
    for hidden in texts:
        message = hidden.conceal(message)
    return message


class Converter:
    """Converts values and collects issues.

    `alternatives` has, by pointer, what a value may be taken for where it does not fit as it is (the text of
    something that looks like a number, or the reverse); `hidden` what may not be shown.
    """

    def __init__(
        self,
        *,
        dec_hook: Callable[[type, Any], Any],
        alternatives: Mapping[str, object] | None = None,
        hidden: Mapping[str, Sequence[Hidden]] | None = None,
    ) -> None:
        self.issues: list[Issue] = []
        self.incomplete: dict[str, msgspec.Struct] = {}
        """By pointer, structs of which some fields are wrong, made of the others."""
        self._dec_hook = dec_hook
        self._alternatives = alternatives or {}
        self._hidden = hidden or {}

    def convert(self, value: Any, kind: Any, pointer: str) -> Any:
        """The value as a `kind`, or `FAILED`."""
        origin, arguments = get_origin(kind), get_args(kind)
        if origin is Annotated:
            # The constraints are msgspec's to check, once what they are about is right in itself.
            inner = self.convert(value, arguments[0], pointer) if _is_walked(value, arguments[0]) else None
            return FAILED if inner is FAILED else self._leaf(value, kind, pointer)
        if not _is_walked(value, kind):
            return self._leaf(value, kind, pointer)
        if origin in (Union, types.UnionType):
            return self.convert(value, _only_walked(value, arguments), pointer)
        if isinstance(value, list):
            items = [self.convert(each, arguments[0], join(pointer, n)) for n, each in enumerate(value)]
            made = tuple(items) if origin is tuple else items
            return FAILED if FAILED in items else made
        if origin is not None:
            pairs = {key: self.convert(each, arguments[1], join(pointer, key)) for key, each in value.items()}
            return FAILED if FAILED in pairs.values() else pairs
        return self.struct(value, kind, pointer)

    def struct(
        self, value: Any, kind: type[msgspec.Struct], pointer: str, *, also_known: Sequence[str] = ()
    ) -> Any:
        """A mapping as a struct, or `FAILED`. `also_known` are further names for "did you mean"."""
        if not isinstance(value, dict):
            return self._leaf(value, kind, pointer)
        fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
        meant = self.unknown_keys(value, [*fields, *also_known], pointer, allowed=fields.keys())
        given: dict[str, Any] = {}
        for key, field in fields.items():
            if key in value:
                given[field.name] = self.convert(value[key], field.type, join(pointer, key))
            elif field.required:
                given[field.name] = FAILED
                if key not in meant:
                    self.add(pointer, f'the key "{key}" is missing')
        return self._made(value, kind, given, pointer)

    def _made(self, value: Any, kind: type[msgspec.Struct], given: Mapping[str, Any], pointer: str) -> Any:
        """The struct of its fields; where some are wrong, what is wrong with the others is found all the same."""
        keys = {field.name: field.encode_name for field in msgspec.structs.fields(kind)}
        right = {name: each for name, each in given.items() if each is not FAILED}
        complete = len(right) == len(given) and value.keys() <= set(keys.values())
        try:
            made = kind(**right)
        except InvalidSettings as error:
            for name, message in error.problems.items():
                if name in right or complete:
                    self.add_in(value, pointer, keys.get(name, name), message)
            rest = {name: each for name, each in right.items() if name not in error.problems}
            with suppress(ValueError, TypeError):
                self.incomplete[pointer] = kind(**rest)
            return FAILED
        except (ValueError, TypeError) as error:
            if complete:
                self.add(pointer, self._conceal(str(error), pointer))
            return FAILED
        if not complete:
            self.incomplete[pointer] = made
            return FAILED
        return made

    def unknown_keys(
        self, value: Mapping[str, Any], known: Sequence[str], pointer: str, *, allowed: Any
    ) -> set[str]:
        """Notes every key that is not allowed; gives the known names that were probably meant."""
        meant: set[str] = set()
        for key in value:
            if key not in allowed:
                near = nearest(key, known)
                there_are = "" if near else f"; there are: {', '.join(sorted(known)) or 'none'}"
                message = f'unknown key "{key[:64]}"{there_are}'
                self.issues.append(
                    Issue(pointer=join(pointer, key), message=message, at_key=True, nearest=near)
                )
                meant |= {near} if near else set()
        return meant

    def add(self, pointer: str, message: str) -> None:
        """Notes an issue of the value at a pointer."""
        self.issues.append(Issue(pointer=pointer, message=message))

    def add_in(self, value: Any, pointer: str, key: str, message: str) -> None:
        """Notes an issue of what stands under a key of the mapping at a pointer; of the mapping, if it is not there."""
        there = isinstance(value, dict) and key in value
        self.add(join(pointer, key) if there else pointer, self._conceal(message, pointer))

    def _leaf(self, value: Any, kind: Any, pointer: str) -> Any:
        tried: dict[str, Issue] = {}
        while True:
            try:
                return msgspec.convert(value, kind, dec_hook=self._dec_hook)
            except (msgspec.ValidationError, NotImplementedError) as error:
                message, path = _split_message(str(error))
            where = "".join((pointer, *(join("", step) for step in path)))
            issue = self._explain(message, _within(value, path), None if path else kind, where)
            if where not in self._alternatives or where in tried:
                # Where neither fits, what is wrong with the value as it is written says more.
                self.issues.append(tried.get(where, issue))
                return FAILED
            tried[where] = issue
            value = _replaced(value, path, self._alternatives[where])

    def _explain(self, message: str, value: Any, kind: Any, pointer: str) -> Issue:
        if message.startswith("Invalid enum value"):
            return self._not_a_choice(value, kind, pointer)
        found = re.fullmatch(r"Expected `([^`]*)`(?:, got `([^`]*)`)?(.*)", message, re.DOTALL)
        if found is None:
            return Issue(pointer=pointer, message=self._conceal(message, pointer))
        expected = " or ".join(_KINDS.get(name, name) for name in found[1].split(" | "))
        got = f", got {_KINDS.get(found[2], found[2])}" if found[2] else ""
        hint = _hint(found[1].split(" | "), value)
        return Issue(pointer=pointer, message=f"expected {expected}{got}{found[3]}{hint}")

    def _not_a_choice(self, value: Any, kind: Any, pointer: str) -> Issue:
        choices, later = _choices(kind)
        hidden = self._hidden.get(pointer)
        shown = hidden[0].shown if hidden else str(value)[:64]
        if value in later:
            return Issue(pointer=pointer, message=f'"{shown}" comes later: choose {" or ".join(choices)}')
        message = f'"{shown}" is none of: {", ".join(choices)}' if choices else f'"{shown}" is no choice here'
        return Issue(
            pointer=pointer, message=message, nearest=None if hidden else nearest(str(value), choices)
        )

    def _conceal(self, message: str, pointer: str) -> str:
        """A message that is not ours, without the texts from the environment at or below the pointer."""
        return conceal(message, self.hidden_within(pointer))

    def hidden_within(self, pointer: str) -> tuple[Hidden, ...]:
        """What came from the environment at or below a pointer."""
        return tuple(
            hidden
            for at, texts in self._hidden.items()
            if at == pointer or at.startswith(f"{pointer}/")
            for hidden in texts
        )


def _is_struct(kind: Any) -> bool:
    """Whether it is a struct that is written as a mapping of its fields and nothing else."""
    if not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
        return False
    return not kind.__struct_config__.array_like and kind.__struct_config__.tag is None


def _is_walked(value: Any, kind: Any) -> bool:
    """Whether the value can be taken apart here, as a `kind`."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _is_walked(value, arguments[0])
    if origin in (Union, types.UnionType):
        return _only_walked(value, arguments) is not None
    if isinstance(value, list):
        return origin in (list, Sequence) or (origin is tuple and arguments[1:] == (...,))
    if isinstance(value, dict):
        return (origin in (dict, Mapping) and arguments[0] is str) or _is_struct(kind)
    return False


def _only_walked(value: Any, kinds: Sequence[Any]) -> Any:
    """The one member of a union that the value can be taken apart as; None where there is no such one."""
    walked = [kind for kind in kinds if _is_walked(value, kind)]
    return walked[0] if len(walked) == 1 else None


def _split_message(text: str) -> tuple[str, list[str]]:
    """msgspec's message, and the path within the value that stands at its end."""
    found = _AT.search(text)
    if found is None:
        return text, []
    path: list[str] = []
    position = 0
    # "[...]" is a value of a mapping, whose key msgspec does not tell: the path ends before it.
    while step := _STEP.match(found[1], position):
        path.append(step[1] or step[2])
        position = step.end()
    return text[: found.start()], path


def _within(value: Any, path: Sequence[str]) -> Any:
    for step in path:
        if isinstance(value, list):
            value = value[int(step)] if step.isdecimal() and int(step) < len(value) else None
        else:
            value = value.get(step) if isinstance(value, dict) else None
    return value


def _replaced(value: Any, path: Sequence[str], new: object) -> Any:
    if not path:
        return new
    changed = value.copy()
    key: Any = int(path[0]) if isinstance(value, list) else path[0]
    changed[key] = _replaced(value[key], path[1:], new)
    return changed


def _choices(kind: Any) -> tuple[list[str], tuple[str, ...]]:
    """What a Literal or an enum allows, and what it will allow later (`Meta(extra={"later": …})`)."""
    choices: list[str] = []
    later: tuple[str, ...] = ()
    if get_origin(kind) is Literal:
        choices = [str(choice) for choice in get_args(kind)]
    elif isinstance(kind, type) and issubclass(kind, enum.Enum):
        choices = [str(member.value) for member in kind]
    elif get_origin(kind) in (Annotated, Union, types.UnionType):
        for part in get_args(kind):
            if isinstance(part, msgspec.Meta):
                later += tuple((part.extra or {}).get("later", ()))
            more, more_later = _choices(part)
            choices += more
            later += more_later
    return choices, later


def _hint(expected: Sequence[str], value: Any) -> str:
    if "str" in expected and isinstance(value, bool | int | float):
        return "; put quotes around it"
    if not isinstance(value, str):
        return ""
    if "bool" in expected and value.lower() in _LIKE_BOOLEANS:
        return "; only true and false (without quotes) are booleans"
    if ("int" in expected or "float" in expected) and _NUMBER.fullmatch(value):
        return "; take the quotes away"
    return ""
