"""The types that settings are made of: `Duration`, `ByteSize`, `Secret`; and how settings say what is wrong with them.

Every `Settings` struct of a plugin and every parameter struct of a step may use them. `contest_core` exports
them, so this module is cheap to import: what reads files, sources or schemas is in `config` and
`config_schema`. `dec_hook`, `enc_hook` and `schema_hook` are what msgspec is to be given with such a struct.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import total_ordering
from typing import Any, Final, Protocol, Self

_UNITS: Final = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,  # U+00B5
    "μs": 1_000,  # U+03BC, the other micro sign that Go takes
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_PART: Final = re.compile(r"([0-9]*)(?:\.([0-9]*))?([^.0-9]+)")
_LIMIT: Final = 1 << 63
_DURATION_PATTERN: Final = r"^[-+]?(0|([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h))+$"


def parse_duration(text: str) -> int:
    """The nanoseconds of a duration in Go's syntax (`1h30m`, `-1.5s`, `0`), exactly as Go reads it.

    What is finer than a nanosecond is cut off. Raises ValueError where Go's `time.ParseDuration` refuses the
    text, or where it is beyond a signed 64-bit number of nanoseconds (about 292 years).
    """
    sign, rest = (text[0], text[1:]) if text[:1] in ("+", "-") else ("", text)
    if rest == "0":
        return 0
    if not rest:
        raise ValueError("a duration is missing: write one like 1h30m, 3s or 100ms")
    total = position = 0
    while position < len(rest):
        part = _PART.match(rest, position)
        if part is None or not (part[1] or part[2]):
            raise ValueError(_what_is_wrong(rest[position:]))
        total += _nanoseconds(part[1], part[2] or "", part[3])
        position = part.end()
    if total > _LIMIT or (total == _LIMIT and sign != "-"):
        raise ValueError("a duration cannot be longer than 2562047h47m16.854775807s (292 years)")
    return -total if sign == "-" else total


def _nanoseconds(whole: str, fraction: str, unit: str) -> int:
    scale = _UNITS.get(unit)
    if scale is None:
        raise ValueError(f"a duration has no unit {unit[:16]!r}: use ns, us, ms, s, m or h")
    # Longer than any 64-bit number; cutting it here keeps int() linear and within its digit limit.
    digits = whole.lstrip("0")
    value = _LIMIT + 1 if len(digits) > 19 else int(digits or "0") * scale
    # Go does the fraction in 64-bit floats over as many digits as fit an int64: done alike, so that the last
    # nanosecond is the same.
    numerator, divisor = 0, 1.0
    for digit in fraction:
        if numerator > (_LIMIT - 1) // 10 or numerator * 10 + int(digit) > _LIMIT:
            break
        numerator, divisor = numerator * 10 + int(digit), divisor * 10
    return value + int(float(numerator) * (float(scale) / divisor))


def _what_is_wrong(rest: str) -> str:
    if re.fullmatch(r"[0-9]*\.?[0-9]*", rest) and rest != ".":
        return "a duration needs a unit: write 3s for three seconds (ns, us, ms, s, m, h)"
    return "not a duration: write one like 1h30m, 3s or 100ms"


def format_duration(nanoseconds: int) -> str:
    """Go's own form of a duration: `1h30m0s`, `1.5s`, `100ms`, `1µs`, `0s`."""
    if nanoseconds == 0:
        return "0s"
    sign, value = ("-", -nanoseconds) if nanoseconds < 0 else ("", nanoseconds)
    for unit in ("ns", "µs", "ms"):
        if value < _UNITS[unit] * 1000:
            return f"{sign}{_decimal(value, _UNITS[unit])}{unit}"
    minutes, rest = divmod(value, _UNITS["m"])
    hours, minutes = divmod(minutes, 60)
    seconds = f"{_decimal(rest, _UNITS['s'])}s"
    if hours:
        return f"{sign}{hours}h{minutes}m{seconds}"
    return f"{sign}{minutes}m{seconds}" if minutes else f"{sign}{seconds}"


def _decimal(value: int, unit: int) -> str:
    whole, rest = divmod(value, unit)
    digits = str(rest).rjust(len(str(unit)) - 1, "0").rstrip("0") if rest else ""
    return f"{whole}.{digits}" if digits else str(whole)


@total_ordering
class Duration:
    """A length of time, exact to the nanosecond, written in Go's syntax (`1h30m`, `3s`, `100ms`).

    Made from such a text or from whole nanoseconds; ValueError where it is neither or beyond 292 years. It is
    no number on purpose: `asyncio.sleep(settings.grace)` is a type error, `settings.grace.seconds` is right.
    """

    __slots__ = ("nanoseconds",)

    nanoseconds: int
    """The whole of it, signed, within 64 bits."""

    def __init__(self, value: str | int = 0) -> None:
        nanoseconds = parse_duration(value) if isinstance(value, str) else int(value)
        if not -_LIMIT <= nanoseconds < _LIMIT:
            raise ValueError("a duration cannot be longer than 2562047h47m16.854775807s (292 years)")
        object.__setattr__(self, "nanoseconds", nanoseconds)

    @classmethod
    def from_seconds(cls, seconds: float) -> Self:
        """The duration of so many seconds, to the nearest nanosecond."""
        return cls(round(seconds * _UNITS["s"]))

    @property
    def seconds(self) -> float:
        """What asyncio and the standard library want."""
        return self.nanoseconds / _UNITS["s"]

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("a Duration does not change")

    def __reduce__(self) -> tuple[type[Self], tuple[int]]:
        return type(self), (self.nanoseconds,)

    def __eq__(self, other: object) -> bool:
        return self.nanoseconds == other.nanoseconds if isinstance(other, Duration) else NotImplemented

    def __lt__(self, other: object) -> bool:
        return self.nanoseconds < other.nanoseconds if isinstance(other, Duration) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.nanoseconds)

    def __bool__(self) -> bool:
        return self.nanoseconds != 0

    def __str__(self) -> str:
        return format_duration(self.nanoseconds)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({format_duration(self.nanoseconds)!r})"


_SIZE: Final = re.compile(r"([0-9]{1,20})(?:\.([0-9]{1,9}))? ?([A-Za-z]*)", re.ASCII)
_SIZES: Final[dict[str, int]] = {"": 1, "b": 1} | {
    letter + unit: base**power
    for unit, base in (("b", 1000), ("ib", 1024))
    for power, letter in enumerate("kmgt", start=1)
}
_SIZE_PATTERN: Final = r"^[0-9]+(\.[0-9]+)? ?([KkMGT]i?)?B?$"


class ByteSize(int):
    """A number of bytes, written `16MiB` (1024s), `1KB` (1000s) or as a plain whole number.

    It is an int. Raises ValueError for a negative size, a part of a byte or an unknown unit.
    """

    def __new__(cls, value: str | int = 0) -> Self:
        size = _parse_size(value) if isinstance(value, str) else value
        if size < 0:
            raise ValueError("a size in bytes cannot be negative")
        return super().__new__(cls, size)

    def __str__(self) -> str:
        for unit, letter in ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
            if self and self % unit == 0:
                return f"{self // unit}{letter}"
        return f"{int(self)}B"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"


def _parse_size(text: str) -> int:
    match = _SIZE.fullmatch(text)
    unit = _SIZES.get(match[3].lower()) if match else None
    if match is None or unit is None:
        raise ValueError("not a size in bytes: write one like 16MiB, 64KiB, 1KB or 4096")
    fraction = match[2] or ""
    scaled, parts = int(match[1] + fraction) * unit, int("1" + "0" * len(fraction))
    size, rest = divmod(scaled, parts)
    if rest:
        raise ValueError("a size is a whole number of bytes")
    return size


class Secret:
    """A text that nothing prints: `str()`, `repr()`, formatting and encoding show stars.

    `reveal()` is the only way to the value; call it where the value is used, and keep no copy.
    """

    __slots__ = ("_value",)

    MASK: Final = "******"
    """What is shown in its place."""

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value itself."""
        return self._value

    def __eq__(self, other: object) -> bool:
        return self._value == other._value if isinstance(other, Secret) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._value)

    def __bool__(self) -> bool:
        return bool(self._value)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a Secret cannot be pickled: it would be written out in clear")

    def __str__(self) -> str:
        return self.MASK

    def __repr__(self) -> str:
        return f"Secret({self.MASK!r})"


class InvalidSettings(ValueError):
    """What is wrong with the values of a struct, by field; for `__post_init__` of `Settings` to raise.

    Each message is about that field alone, so that it is right whatever else is wrong, and is shown with the place of
    the field in the file. What concerns several fields is an ordinary `ValueError`.
    """

    def __init__(self, problems: Mapping[str, str]) -> None:
        super().__init__("; ".join(problems.values()))
        self.problems = dict(problems)
        """The message of each field."""


class SettingsCheck(Protocol):
    """What `Settings.check` is given: where a configuration's settings meet what only the core knows.

    `Settings` may have a method `check(self, check: SettingsCheck) -> None`. It is called when a configuration is
    checked, with settings that are right in themselves; not where a program makes them. It does no I/O.
    """

    def wrong(self, field: str, message: str) -> None:
        """Notes what is wrong with a field, or with `""`, the whole."""

    def exposed(self, field: str, host: str) -> None:
        """Notes it if a listener may not listen on the host that the field names, as nobody is authenticated.

        Of a name it says nothing: where that leads is found out when the listener starts.
        """

    def alone(self, field: str, place: str) -> None:
        """Notes it where another part of the configuration has the same place, such as `127.0.0.1:8080`, already."""


def out_of_bounds(settings: object, bounds: Mapping[str, tuple[str, str]]) -> dict[str, str]:
    """What is wrong with those fields (`Duration` or `ByteSize`) that are not within their bounds, as written."""
    problems: dict[str, str] = {}
    for name, (low, high) in bounds.items():
        value = getattr(settings, name)
        kind = Duration if isinstance(value, Duration) else ByteSize
        if value < kind(low):
            problems[name] = f'"{name}" has to be at least {low}'
        elif value > kind(high):
            problems[name] = f'"{name}" may be {high} at the most'
    return problems


def dec_hook(kind: type, value: object) -> Any:
    """For `msgspec.convert(..., dec_hook=)`: makes one of the three types of what a document holds.

    Raises ValueError with a message that never shows a secret's value; NotImplementedError for other types.
    """
    if issubclass(kind, Secret):
        if not isinstance(value, str):
            raise ValueError("expected text: put quotes around it")
        return kind(value)
    if issubclass(kind, Duration):
        if isinstance(value, str):
            return kind(value)
        # Zero needs no unit, neither in Go nor here, so YAML's bare 0 is as good as "0".
        if value == 0 and type(value) is int:
            return kind(0)
        raise ValueError("a duration needs a unit: write 3s for three seconds (ns, us, ms, s, m, h)")
    if issubclass(kind, ByteSize):
        if isinstance(value, str) or type(value) is int:
            return kind(value)
        raise ValueError("not a size in bytes: write one like 16MiB, 64KiB, 1KB or 4096")
    raise NotImplementedError(f"no settings can be of type {kind.__name__}")


def enc_hook(value: object) -> str:
    """For `msgspec.to_builtins(..., enc_hook=)`: the text that stands for one of the three in a document."""
    if isinstance(value, Duration | ByteSize | Secret):
        return str(value)
    raise NotImplementedError(f"no settings can be of type {type(value).__name__}")


def schema_hook(kind: type) -> dict[str, Any]:
    """For `msgspec.json.schema(..., schema_hook=)`: the JSON Schema of one of the three types."""
    if issubclass(kind, Duration):
        return {"type": "string", "pattern": _DURATION_PATTERN, "examples": ["1h30m", "3s", "100ms"]}
    if issubclass(kind, ByteSize):
        text = {"type": "string", "pattern": _SIZE_PATTERN, "examples": ["16MiB", "1KB"]}
        return {"anyOf": [{"type": "integer", "minimum": 0}, text]}
    if issubclass(kind, Secret):
        return {"type": "string", "writeOnly": True}
    raise NotImplementedError(f"no settings can be of type {kind.__name__}")
