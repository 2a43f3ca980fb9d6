"""Go's `printf`: reads a format and hands each value with its verb to the printer.

A mistake in a format is no error: it is written into the text, as Go does it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from contest_runner.templates.printer import Printer
from contest_runner.templates.values import type_name
from contest_runner.templates.verbs import Flags

_LARGEST: Final = 1_000_000
"""The largest width or precision that counts as one, as in Go."""
_TEXT: Final = re.compile("[^%]*")
_USUAL: Final = re.compile(r"([#0+\- ]*)([1-9][0-9]{0,5})?(\.[0-9]{0,6})?([A-Za-z])")
_FLAGS: Final = re.compile("[#0+ -]*")
_NUMBER: Final = re.compile("[0-9]*")


def _number(digits: str) -> int | None:
    if not (digits.isascii() and digits.isdigit()) or len(digits.lstrip("0")) > 8:
        return None
    number = int(digits)
    return number if number // 10 <= _LARGEST else None


def _set_signs(flags: Flags, signs: str) -> None:
    flags.sharp, flags.zero = "#" in signs, "0" in signs
    flags.plus, flags.minus, flags.space = "+" in signs, "-" in signs, " " in signs


class _Format:
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
        usual = _USUAL.match(self._format, self._position)
        if usual is None or self._next_value >= len(self._values):
            self._any_verb()
            return
        signs, width, precision, verb = usual.groups()
        flags = self._printer.flags = Flags()
        if signs:
            _set_signs(flags, signs)
        flags.width = int(width) if width else None
        flags.precision = int(precision[1:] or 0) if precision else None
        self._position = usual.end()
        self._print(flags, verb)

    def _any_verb(self) -> None:
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
            self._print(flags, verb)

    def _print(self, flags: Flags, verb: str) -> None:
        if verb in "vw":
            flags.sharp_v, flags.sharp = flags.sharp, False
            flags.plus_v, flags.plus = flags.plus, False
        self._printer.argument(self._values[self._next_value], verb)
        self._next_value += 1

    def _read_flags(self) -> Flags:
        flags = self._printer.flags = Flags()
        match = _FLAGS.match(self._format, self._position)
        if match is not None and match[0]:
            self._position = match.end()
            _set_signs(flags, match[0])
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
    return _Format(template, values, limit).run()
