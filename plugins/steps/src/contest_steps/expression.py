"""Success expressions, `>=80%`: an operator and a number, of targets or of a hundred; ConTest's grammar.

What ConTest accepts by accident (junk at both ends, `==100%`) is accepted too: its descriptors run unchanged.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final

from msgspec import Struct

_OPERATORS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "<": operator.lt,
    ">": operator.gt,
    "=": operator.eq,
}
"""In the order in which they are tried."""

_HEXADECIMAL: Final = re.compile(
    r"""[+-]?0x
        (?: (_?[0-9a-f])+ (\.([0-9a-f](_?[0-9a-f])*)?)? | \.[0-9a-f](_?[0-9a-f])* )
        p[+-]?[0-9](_?[0-9])*""",
    re.IGNORECASE | re.VERBOSE,
)
"""Numbers that Go knows and `float` does not; their exponent may not be left out."""


class Expression(Struct, frozen=True, kw_only=True):
    """A parsed expression."""

    operator: str
    number: float
    percentage: bool

    def judge(self, successes: float, total: float) -> tuple[bool, str]:
        """Whether so many successes satisfy it, and ConTest's words for that."""
        left = successes / total * 100 if self.percentage else successes
        holds = _OPERATORS[self.operator](left, self.number)
        sign = "%" if self.percentage else ""
        word = self.operator if holds else f"is not {self.operator}"
        return holds, f"{_go(left)}{sign} {word} {_go(self.number)}{sign}"


@lru_cache(maxsize=256)
def parse(text: str) -> Expression:
    """The expression of a text. Raises `ValueError` with an example."""
    found = next((symbol for symbol in _OPERATORS if text.startswith(symbol)), None)
    if found is not None:
        body = text.strip(found)
        number = body.rstrip("%")
        try:
            value = _float(number)
        except ValueError:
            pass
        else:
            return Expression(operator=found, number=value, percentage=number != body)
    raise ValueError(f"{text[:60]!r} is no success expression: write one like >=80%, >5 or =100%")


def _go(number: float) -> str:
    """A number with two decimals, as Go's `%.2f` writes it."""
    if math.isfinite(number):
        return f"{number:.2f}"
    return "NaN" if math.isnan(number) else f"{number:+.0f}".replace("inf", "Inf")


def _float(text: str) -> float:
    """A number as Go's `ParseFloat` reads it, without the forms that only Python knows."""
    if not text or not text.isascii() or text != text.strip():
        raise ValueError(text)
    value = _hexadecimal(text.replace("_", "")) if _HEXADECIMAL.fullmatch(text) else float(text)
    if math.isinf(value) and text.lstrip("+-").lower() not in ("inf", "infinity"):
        raise ValueError(text)
    return value


def _hexadecimal(text: str) -> float:
    try:
        return float.fromhex(text)
    except OverflowError:
        raise ValueError(text) from None
