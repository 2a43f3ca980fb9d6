"""How Go's fmt writes one string, number or character under the flags of a verb; called by the printer."""

from __future__ import annotations

import re
from math import frexp, isinf, isnan

from contest_runner.templates.quoting import can_backquote, character, is_printable, quote, to_bytes


class Flags:
    """What stands between `%` and the verb."""

    __slots__ = ("minus", "plus", "plus_v", "precision", "sharp", "sharp_v", "space", "width", "zero")

    def __init__(self) -> None:
        self.minus = self.plus = self.sharp = self.space = self.zero = False
        self.plus_v = self.sharp_v = False
        self.width: int | None = None
        self.precision: int | None = None

    def is_empty(self) -> bool:
        """Whether nothing was said."""
        return self.width is self.precision is None and not (
            self.minus or self.plus or self.sharp or self.space or self.zero or self.plus_v or self.sharp_v
        )


def pad(flags: Flags, text: str, *, zero: bool | None = None) -> str:
    """The text, filled up to the width."""
    if not flags.width or len(text) >= flags.width:
        return text
    if flags.minus:
        return text.ljust(flags.width)
    fill = "0" if (flags.zero if zero is None else zero) else " "
    return text.rjust(flags.width, fill)


def format_string(flags: Flags, text: str, verb: str) -> str | None:
    """A string under `%s`, `%v`, `%q`, `%x`, `%X`; None under another verb."""
    if verb in "xX":
        return _hex_string(flags, to_bytes(text), verb)
    if verb not in "svq":
        return None
    if flags.precision is not None:
        text = text[: flags.precision]
    if verb != "q" and not (verb == "v" and flags.sharp_v):
        return pad(flags, text)
    if flags.sharp and can_backquote(text):
        return pad(flags, f"`{text}`")
    return pad(flags, quote(text, ascii_only=flags.plus))


def format_bytes(flags: Flags, data: bytes, verb: str) -> str | None:
    """Bytes, not the text they are, under `%x` and `%X`; None under another verb."""
    return _hex_string(flags, data, verb) if verb in "xX" else None


def _hex_string(flags: Flags, data: bytes, verb: str) -> str:
    if flags.precision is not None:
        data = data[: flags.precision]
    separator = " " if flags.space else ""
    text = data.hex(separator) if separator else data.hex()
    if flags.sharp and data:
        text = "0x" + (text.replace(" ", " 0x") if separator else text)
    return pad(flags, text.upper() if verb == "X" else text)


_BASES = {"d": "d", "v": "d", "b": "b", "o": "o", "O": "o", "x": "x", "X": "X"}
_PREFIXES = {"b": "0b", "x": "0x", "X": "0X"}


def format_integer(flags: Flags, value: int, verb: str) -> str | None:
    """An integer; None under a verb that does not take one."""
    if verb in "cq":
        char = character(value)
        return pad(flags, quote(char, mark="'", ascii_only=flags.plus) if verb == "q" else char)
    if verb == "U":
        return _unicode(flags, value)
    return _digits(flags, value, verb) if verb in _BASES else None


def _digits(flags: Flags, value: int, verb: str) -> str:
    sign = "-" if value < 0 else "+" if flags.plus else " " if flags.space else ""
    least = 0
    if flags.precision is not None:
        least = flags.precision
        if least == 0 and value == 0:
            return " " * (flags.width or 0)
    elif flags.zero and not flags.minus and flags.width is not None:
        least = flags.width - len(sign)
    digits = format(abs(value), _BASES[verb]).rjust(least, "0")
    if flags.sharp and verb in "oO":
        digits = digits if digits[0] == "0" else f"0{digits}"
    elif flags.sharp:
        digits = _PREFIXES.get(verb, "") + digits
    if verb == "O":
        digits = f"0o{digits}"
    return pad(flags, sign + digits, zero=False)


def _unicode(flags: Flags, value: int) -> str:
    code = value & 0xFFFFFFFFFFFFFFFF
    text = f"U+{format(code, 'X').rjust(max(4, flags.precision or 0), '0')}"
    if flags.sharp and code <= 0x10FFFF and is_printable(chr(code)):
        text += f" '{chr(code)}'"
    return pad(flags, text, zero=False)


_DEFAULT_PRECISION = {"f": 6, "F": 6, "e": 6, "E": 6}
_FLOAT_VERBS = frozenset("vbgGxXfFeE")


def format_complex(flags: Flags, value: complex, verb: str) -> str | None:
    """A complex number; None under a verb that does not take one."""
    if verb not in _FLOAT_VERBS:
        return None
    real = format_float(flags, value.real, verb)
    plus, flags.plus = flags.plus, True
    imaginary = format_float(flags, value.imag, verb)
    flags.plus = plus
    return f"({real}{imaginary}i)"


def format_float(flags: Flags, value: float, verb: str) -> str | None:
    """A floating-point number; None under a verb that does not take one."""
    if verb not in _FLOAT_VERBS:
        return None
    precision = _DEFAULT_PRECISION.get(verb) if flags.precision is None else flags.precision
    verb = {"v": "g", "F": "f"}.get(verb, verb)
    text = _plain_float(value, verb, precision)
    sign = text[0] if text[0] in "+-" else "+"
    text = text.lstrip("+-")
    if flags.space and sign == "+" and not flags.plus:
        sign = " "
    if isinf(value) or isnan(value):
        bare = isnan(value) and not flags.space and not flags.plus
        shown = "" if bare or (sign == "+" and not flags.plus) else sign
        return pad(flags, shown + text, zero=False)
    if flags.sharp and verb != "b":
        text = _with_point(text, verb, precision)
    if not flags.plus and sign == "+":
        return pad(flags, text)
    if flags.zero and not flags.minus and flags.width is not None:
        return sign + text.rjust(flags.width - 1, "0")
    return pad(flags, sign + text)


def _plain_float(value: float, verb: str, precision: int | None) -> str:
    if isnan(value):
        return "NaN"
    if isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if verb in "xX":
        text = _hex_float(value, precision)
        return text.upper() if verb == "X" else text
    if verb == "b":
        mantissa, exponent = _binary(value)
        return f"{'-' if _negative(value) else ''}{mantissa}p{exponent:+d}"
    if precision is not None:
        return format(value, f".{precision}{verb}")
    return _shortest(value, "E" if verb == "G" else "e")


def _negative(value: float) -> bool:
    return str(value).startswith("-")


_REPR = re.compile(r"(\d+)(?:\.(\d+))?(?:e([+-]\d+))?")


def _shortest(value: float, letter: str) -> str:
    """The fewest digits that mean this number; with an exponent from 1e+06 on and below 1e-04."""
    match = _REPR.fullmatch(repr(abs(value)))
    if match is None:
        raise AssertionError(repr(value))
    whole, fraction = match[1], match[2] or ""
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + int(match[3] or 0) - (len(whole + fraction) - len(digits))
    digits = digits.rstrip("0") or "0"
    sign = "-" if _negative(value) else ""
    exponent = point - 1 if value else 0
    if exponent < -4 or exponent >= _EXPONENT_FROM:
        rest = f".{digits[1:]}" if len(digits) > 1 else ""
        return f"{sign}{digits[0]}{rest}{letter}{exponent:+03d}"
    if exponent < 0:
        return f"{sign}0.{'0' * (-exponent - 1)}{digits}"
    whole, fraction = digits[: exponent + 1].ljust(exponent + 1, "0"), digits[exponent + 1 :]
    return f"{sign}{whole}.{fraction}" if fraction else sign + whole


_EXPONENT_FROM = 6


def _binary(value: float) -> tuple[int, int]:
    fraction, exponent = frexp(abs(value))
    if not value or exponent - 53 < _LEAST_EXPONENT:
        return int(abs(value) / 2.0**_LEAST_EXPONENT), _LEAST_EXPONENT
    return int(fraction * 2**53), exponent - 53


_LEAST_EXPONENT = -1074


def _hex_float(value: float, precision: int | None) -> str:
    sign = "-" if _negative(value) else ""
    if not value:
        zeros = f".{'0' * precision}" if precision else ""
        return f"{sign}0x0{zeros}p+00"
    fraction, exponent = frexp(abs(value))
    mantissa, exponent = int(fraction * 2**53), exponent - 1  # 1.x, with 52 bits behind the point
    if precision is not None and precision < 13:
        cut = 52 - 4 * precision
        kept, rest = mantissa >> cut, mantissa & ((1 << cut) - 1)
        if rest > (half := 1 << (cut - 1)) or (rest == half and kept & 1):
            kept += 1
        mantissa = kept << cut
        if mantissa >> 53:
            mantissa, exponent = mantissa >> 1, exponent + 1
    digits = format(mantissa & ((1 << 52) - 1), "013x")
    digits = digits.rstrip("0") if precision is None else digits.ljust(precision, "0")[:precision]
    return f"{sign}0x{mantissa >> 52}{'.' if digits else ''}{digits}p{exponent:+03d}"


def _with_point(text: str, verb: str, precision: int | None) -> str:
    """What `#` adds: a decimal point always, and for `%g` the zeros at the end."""
    head, tail = text, ""
    letters = "pP" if verb in "xX" else "eE"
    for index, char in enumerate(text):
        if char in letters:
            head, tail = text[:index], text[index:]
            break
    missing = (6 if precision is None else precision) if verb in "gGx" else 0
    missing -= len(head.replace(".", "").lstrip("0"))
    if "." not in head:
        if head == "0":
            missing -= 1
        head += "."
    return head + "0" * max(0, missing) + tail
