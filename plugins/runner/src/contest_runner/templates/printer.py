"""Go's fmt over the values of a template: `print`, `println`, `printf`, and how an action prints its value.

A mistake in a format is no error: it is written into the text, as Go does it. What is an error is a text of more
characters than the limit; it is noticed before it is made.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

from contest_runner.templates.errors import Refused
from contest_runner.templates.quoting import from_bytes, rejoin
from contest_runner.templates.values import (
    TARGET_FIELDS,
    TARGET_TYPE,
    Byte,
    ByteSlice,
    IPAddress,
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

_LARGEST: Final = 1_000_000
"""The largest width or precision, as in Go."""
_STRINGABLE: Final = frozenset("vsxXq")
"""Verbs under which a value with a method `String` prints what that says."""
_SIMPLE: Final = frozenset((str, int, bool, float, complex, Byte, type(None)))
_TEXT: Final = re.compile("[^%]*")
_FLAGS: Final = re.compile("[#0+ -]*")
_NUMBER: Final = re.compile("[0-9]*")


def action_text(value: object, limit: int) -> str:
    """What an action prints of its value."""
    if type(value) is int or type(value) is Byte:
        return str(int(value))
    if value is None:
        return "<no value>"
    printer = Printer(limit)
    printer.argument(value, "v")
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
            raise Refused(f"the result is longer than {self._limit} characters")
        self._parts.append(text)

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
            case ByteSlice() if verb in "vd" and self.flags.is_empty():
                self.write(f"[{' '.join(map(str, value.data))}]")
            case ByteSlice():
                self._list(value, map(Byte, value.data), verb, depth)
            case list():
                self._list(value, value, verb, depth)
            case dict():
                self._map(value, verb, depth)
            case _:
                self._struct(value, verb, depth)

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
        if isinstance(value, IPAddress):
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
            self.write(type_name(value))
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

    def _struct(self, value: Any, verb: str, depth: int) -> None:
        named = self.flags.sharp_v or self.flags.plus_v
        self.write(f"&{TARGET_TYPE[1:] if self.flags.sharp_v else ''}{{")
        for index, (name, get) in enumerate(TARGET_FIELDS.items()):
            if index:
                self.write(", " if self.flags.sharp_v else " ")
            if named:
                self.write(f"{name}:")
            self._value(get(value), verb, depth + 1)
        self.write("}")


def _number(digits: str) -> int | None:
    if not (digits.isascii() and digits.isdigit()) or len(digits.lstrip("0")) > 8:
        return None
    number = int(digits)
    return number if number // 10 <= _LARGEST else None


class Format:
    """One run of `printf` over a format."""

    def __init__(self, template: str, values: Sequence[object], limit: int) -> None:
        self._format = template
        self._values = values
        self._printer = Printer(limit)
        self._position = 0
        self._next_value = 0
        self._reordered = False
        self._index_is_good = True
        self._after_index = False

    def run(self) -> str:
        """The text."""
        write = self._printer.write
        while True:
            text = _TEXT.match(self._format, self._position)
            if text is not None:
                write(text[0])
                self._position = text.end()
            if self._position >= len(self._format):
                break
            self._position += 1
            if not self._plain_verb():
                self._verb()
        if not self._reordered and self._next_value < len(self._values):
            self._extra()
        return self._printer.text()

    def _plain_verb(self) -> bool:
        """The common case: `%s`, `%d` and `%v` of a string or a number, and nothing else said."""
        if self._next_value >= len(self._values):
            return False
        value, verb = self._values[self._next_value], self._format[self._position : self._position + 1]
        if type(value) is str and verb in ("s", "v"):
            self._printer.write(value)
        elif type(value) is int and verb in ("d", "v"):
            self._printer.write(str(value))
        else:
            return False
        self._position += 1
        self._next_value += 1
        return True

    def _verb(self) -> None:
        printer = self._printer
        flags = self._read_flags()
        self._index_is_good = True
        self._after_index = False
        self._read_index()
        self._read_width(flags)
        self._read_precision(flags)
        if not self._after_index:
            self._read_index()
        if self._position >= len(self._format):
            printer.write("%!(NOVERB)")
            return
        verb = self._format[self._position]
        self._position += 1
        if verb == "%":
            printer.write("%")
        elif not self._index_is_good:
            printer.write(f"%!{verb}(BADINDEX)")
        elif self._next_value >= len(self._values):
            printer.write(f"%!{verb}(MISSING)")
        else:
            if verb in "vw":
                flags.sharp_v, flags.sharp = flags.sharp, False
                flags.plus_v, flags.plus = flags.plus, False
            printer.argument(self._values[self._next_value], verb)
            self._next_value += 1

    def _read_flags(self) -> Flags:
        flags = self._printer.flags = Flags()
        match = _FLAGS.match(self._format, self._position)
        if match is not None and match[0]:
            self._position = match.end()
            flags.sharp, flags.zero = "#" in match[0], "0" in match[0]
            flags.plus, flags.minus, flags.space = "+" in match[0], "-" in match[0], " " in match[0]
        return flags

    def _read_index(self) -> None:
        self._after_index = False
        if not self._format.startswith("[", self._position):
            return
        self._reordered = True
        end = self._format.find("]", self._position)
        if end < 0 or len(self._format) - self._position < 3:
            self._index_is_good = False
            self._position += 1
            return
        number = _number(self._format[self._position + 1 : end])
        self._position = end + 1
        self._after_index = number is not None
        if number is not None and 0 < number <= len(self._values):
            self._next_value = number - 1
        else:
            self._index_is_good = False

    def _read_width(self, flags: Flags) -> None:
        if not self._format.startswith("*", self._position):
            flags.width = self._read_number()
            if self._after_index and flags.width is not None:
                self._index_is_good = False
            return
        self._position += 1
        flags.width = self._take_integer()
        if flags.width is None:
            self._printer.write("%!(BADWIDTH)")
        elif flags.width < 0:
            flags.width, flags.minus, flags.zero = -flags.width, True, False
        self._after_index = False

    def _read_precision(self, flags: Flags) -> None:
        if not self._format.startswith(".", self._position) or self._position + 1 >= len(self._format):
            return
        self._position += 1
        if self._after_index:
            self._index_is_good = False
        self._read_index()
        if not self._format.startswith("*", self._position):
            flags.precision = self._read_number() or 0
            return
        self._position += 1
        flags.precision = self._take_integer()
        if flags.precision is None or flags.precision < 0:
            flags.precision = None
            self._printer.write("%!(BADPREC)")
        self._after_index = False

    def _read_number(self) -> int | None:
        match = _NUMBER.match(self._format, self._position)
        if match is None or not match[0]:
            return None
        number = _number(match[0])
        # Go drops the rest of a format whose width is too large.
        self._position = len(self._format) if number is None else match.end()
        return number

    def _take_integer(self) -> int | None:
        if self._next_value >= len(self._values):
            return None
        value = self._values[self._next_value]
        self._next_value += 1
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _LARGEST:
            return value
        return None

    def _extra(self) -> None:
        self._printer.flags = Flags()
        self._printer.write("%!(EXTRA ")
        for index, value in enumerate(self._values[self._next_value :]):
            if index:
                self._printer.write(", ")
            if value is None:
                self._printer.write("<nil>")
            else:
                self._printer.write(f"{type_name(value)}=")
                self._printer.argument(value, "v")
        self._printer.write(")")


def sprintf(template: str, values: Sequence[object], limit: int) -> str:
    """`printf`."""
    return Format(template, values, limit).run()
