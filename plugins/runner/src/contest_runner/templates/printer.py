"""Go's fmt over the values of a template: `print`, `println`, and how an action prints its value.

`formats` calls it for `printf`. A verb that does not fit a value is no error: that is written into the text, as Go does
it. What is an error is a text of more characters than the limit; it is noticed before it is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, NoReturn

from contest_runner.templates.errors import Refused
from contest_runner.templates.quoting import from_bytes, rejoin
from contest_runner.templates.values import (
    TARGET_FIELDS,
    TARGET_TYPE,
    Byte,
    Bytes,
    ByteSlice,
    IPAddress,
    IPMask,
    is_target,
    target_text,
    type_name,
)
from contest_runner.templates.verbs import (
    Flags,
    format_bytes,
    format_complex,
    format_float,
    format_integer,
    format_string,
    pad,
)

_STRINGABLE: Final = frozenset("vsxXq")
"""Verbs under which a value with a method `String` prints what that says."""
_SIMPLE: Final = frozenset((str, int, bool, float, complex, Byte, type(None)))


def action_text(value: object, limit: int) -> str:
    """What an action prints of its value."""
    if type(value) is int or type(value) is Byte:
        return str(int(value))
    if value is None:
        return "<no value>"
    printer = Printer(limit)
    printer.argument(value, "v")
    return printer.text()


def pointed_text(value: object, limit: int) -> str:
    """A value in an error that looks behind pointers: of a target the struct, which has no method `String`."""
    if not is_target(value):
        return sprint([value], limit)
    printer = Printer(limit)
    printer.struct(value, "v", 0)
    return printer.text()


def sprint(values: Sequence[object], limit: int) -> str:
    """`print`: a space between two operands of which neither is a string."""
    printer = Printer(limit)
    before = True
    for index, value in enumerate(values):
        is_string = type(value) is str
        if index and not is_string and not before:
            printer.write(" ")
        printer.argument(value, "v")
        before = is_string
    return printer.text()


def sprintln(values: Sequence[object], limit: int) -> str:
    """`println`: spaces between all operands, and a newline."""
    printer = Printer(limit)
    for index, value in enumerate(values):
        if index:
            printer.write(" ")
        printer.argument(value, "v")
    printer.write("\n")
    return printer.text()


class Printer:
    """Collects a text, piece by piece."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._room = limit
        self._parts: list[str] = []
        self.flags = Flags()
        """What the present verb says."""
        self._complaining = False
        """A wrong verb is being written down: methods are not asked."""

    def write(self, text: str) -> None:
        """Adds a piece. Raises Refused where it has no room."""
        self._room -= len(text)
        if self._room < 0:
            self._refuse()
        self._parts.append(text)

    def _refuse(self) -> NoReturn:
        raise Refused(f"the result is longer than {self._limit} characters")

    def text(self) -> str:
        """All pieces."""
        return rejoin("".join(self._parts))

    # Values

    def argument(self, value: object, verb: str) -> None:
        """One operand under one verb."""
        if value is None:
            if verb in "Tv":
                self.write(pad(self.flags, "<nil>"))
            else:
                self.write(f"%!{verb}(<nil>)")
        elif verb == "T":
            self.write(self._string(type_name(value), "s"))
        elif verb == "p":
            self._wrong(value, verb)
        else:
            self._value(value, verb, 0)

    def _string(self, text: str, verb: str) -> str:
        return format_string(self.flags, text, verb) or ""

    def _value(self, value: object, verb: str, depth: int) -> None:
        if type(value) not in _SIMPLE and not self._complaining and self._by_method(value, verb):
            return
        match value:
            case bool():
                self._formatted(pad(self.flags, str(value).lower()) if verb in "tv" else None, value, verb)
            case None:
                self.write("<nil>" if verb == "v" else f"%!{verb}(<nil>)")
            case str():
                known = verb in _STRINGABLE
                self._formatted(self._string(value, verb) if known else None, value, verb)
            case int():
                self._formatted(self._integer(value, verb), value, verb)
            case float():
                self._formatted(format_float(self.flags, value, verb), value, verb)
            case complex():
                self._formatted(format_complex(self.flags, value, verb), value, verb)
            case ByteSlice() if verb in "sqxX":
                text = format_bytes(self.flags, value.data, verb)
                self.write(self._string(from_bytes(value.data), verb) if text is None else text)
            case ByteSlice() if 2 * len(value) - 1 > self._room:
                self._refuse()
            case ByteSlice() if verb in "vd" and self.flags.is_empty():
                self.write(f"[{' '.join(map(str, value.data))}]")
            case ByteSlice():
                self._list(value, map(Byte, value.data), verb, depth)
            case list():
                self._list(value, value, verb, depth)
            case dict():
                self._map(value, verb, depth)
            case _:
                self.write("&")
                self.struct(value, verb, depth)

    def _formatted(self, text: str | None, value: object, verb: str) -> None:
        if text is None:
            self._wrong(value, verb)
        else:
            self.write(text)

    def _integer(self, value: int, verb: str) -> str | None:
        if not (verb == "v" and self.flags.sharp_v and isinstance(value, Byte)):
            return format_integer(self.flags, value, verb)
        self.flags.sharp = True
        text = format_integer(self.flags, value, "x")
        self.flags.sharp = False
        return text

    def _by_method(self, value: object, verb: str) -> bool:
        if verb == "w":
            self._wrong(value, verb)
            return True
        if self.flags.sharp_v or verb not in _STRINGABLE:
            return False
        if isinstance(value, IPAddress | IPMask):
            self.write(self._string(str(value), verb))
        elif is_target(value):
            self.write(self._string(target_text(value), verb))
        else:
            return False
        return True

    def _wrong(self, value: object, verb: str) -> None:
        self._complaining = True
        self.write(f"%!{verb}({type_name(value)}=")
        self._value(value, "v", 0)
        self.write(")")
        self._complaining = False

    def _list(self, value: object, items: Iterable[object], verb: str, depth: int) -> None:
        go_syntax = self.flags.sharp_v
        if go_syntax:
            self.write("[]byte" if type(value) is Bytes else type_name(value))
            if isinstance(value, ByteSlice) and value.is_nil:
                self.write("(nil)")
                return
        self.write("{" if go_syntax else "[")
        for index, item in enumerate(items):
            if index:
                self.write(", " if go_syntax else " ")
            self._value(item, verb, depth + 1)
        self.write("}" if go_syntax else "]")

    def _map(self, value: dict[str, object], verb: str, depth: int) -> None:
        go_syntax = self.flags.sharp_v
        self.write(f"{type_name(value)}{{" if go_syntax else "map[")
        for index, key in enumerate(sorted(value)):
            if index:
                self.write(", " if go_syntax else " ")
            self._value(key, verb, depth + 1)
            self.write(":")
            self._value(value[key], verb, depth + 1)
        self.write("}" if go_syntax else "]")

    def struct(self, value: Any, verb: str, depth: int) -> None:
        """The fields of a target."""
        named = self.flags.sharp_v or self.flags.plus_v
        self.write(f"{TARGET_TYPE[1:] if self.flags.sharp_v else ''}{{")
        for index, (name, get) in enumerate(TARGET_FIELDS.items()):
            if index:
                self.write(", " if self.flags.sharp_v else " ")
            if named:
                self.write(f"{name}:")
            self._value(get(value), verb, depth + 1)
        self.write("}")
