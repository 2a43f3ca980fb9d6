"""The values of Go that a template can meet, as Python has them, and what can be asked of any value.

| Go | here |
|---|---|
| string, int, float64, bool, complex128 | str, int, float, bool, complex |
| uint8 | `Byte` |
| net.IP, net.IPMask, json.RawMessage, []byte | `IPAddress`, `IPMask`, `RawJSON`, `Bytes` |
| []any, map[string]any (only functions yield them) | list, dict |
| nil | None |
| *target.Target | any other object: the one that `render` was given |

The names of a target's fields are here and nowhere else: the objects themselves come from the runner.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from operator import attrgetter
from typing import Any, ClassVar, Final, Protocol, Self

from contest_runner.templates.errors import Refused
from contest_runner.templates.quoting import from_bytes, quote


class TargetData(Protocol):
    """What a template reads of a target."""

    @property
    def id(self) -> str:
        """`.ID`."""

    @property
    def fqdn(self) -> str:
        """`.FQDN`, empty where it is unset."""

    @property
    def primary_ipv4(self) -> str | None:
        """`.PrimaryIPv4`, in the form that Go prints (`192.0.2.7`, `2001:db8::1`); None where it is unset."""

    @property
    def primary_ipv6(self) -> str | None:
        """`.PrimaryIPv6`, likewise."""

    @property
    def state(self) -> bytes | None:
        """`.TargetManagerState`: JSON as it was kept, or None."""


class Byte(int):
    """A byte of a string or an address."""

    __slots__ = ()


class ByteSlice:
    """A slice of bytes, with the bytes behind it as far as they belong to the same array."""

    __slots__ = ("_data", "_spare")
    go_type: ClassVar[str]

    def __init__(self, data: bytes | None, *, spare: bytes = b"") -> None:
        self._data = data
        self._spare = spare

    @property
    def data(self) -> bytes:
        """The bytes; none of nil."""
        return self._data or b""

    @property
    def is_nil(self) -> bool:
        """Whether this is Go's nil, not merely empty."""
        return self._data is None

    @property
    def capacity(self) -> int:
        """How far a slice of it may reach."""
        return len(self) + len(self._spare)

    def part(self, low: int, high: int, most: int) -> Self:
        """The slice `[low:high:most]`; the bounds are in order, and within the capacity."""
        array = self.data + self._spare
        return type(self)(None if self.is_nil else array[low:high], spare=array[high:most])

    def __len__(self) -> int:
        return len(self.data)


class Bytes(ByteSlice):
    """Plain bytes, which some methods return."""

    __slots__ = ()
    go_type = "[]uint8"


class IPMask(ByteSlice):
    """The mask of a network: prints as hexadecimal digits."""

    __slots__ = ()
    go_type = "net.IPMask"

    def __str__(self) -> str:
        return self.data.hex() or "<nil>"


class RawJSON(ByteSlice):
    """JSON as it was kept: prints as a list of numbers, as in Go."""

    __slots__ = ()
    go_type = "json.RawMessage"


class IPAddress(ByteSlice):
    """An address: prints as text, and is sixteen bytes to whoever looks into it."""

    __slots__ = ("_text",)
    go_type = "net.IP"

    def __init__(self, data: bytes | None, *, spare: bytes = b"") -> None:
        super().__init__(data, spare=spare)
        self._text: str | None = None

    @classmethod
    def of(cls, text: str | None) -> IPAddress:
        """The address that is written so, which is taken to be one; nil for None."""
        address = cls(None)
        address._text = text or None
        return address

    @property
    def data(self) -> bytes:
        if self._data is None and self._text is not None:
            try:
                parsed = ip_address(self._text)
            except ValueError:
                raise Refused(f"invalid IP address: {self._text}") from None
            self._data = parsed.packed if parsed.version == 6 else b"\0" * 10 + b"\xff\xff" + parsed.packed
        return self._data or b""

    @property
    def is_nil(self) -> bool:
        return self._data is None and self._text is None

    def __len__(self) -> int:
        return 16 if self._text is not None else len(self.data)

    def __str__(self) -> str:
        if self._text is not None:
            return self._text
        data = self.data
        if not data:
            return "<nil>"
        if len(data) not in (4, 16):
            return f"?{data.hex()}"
        parsed = ip_address(data)
        mapped = parsed.ipv4_mapped if parsed.version == 6 else None
        return str(mapped or parsed)


STRING_FIELDS: Final = {"ID": "id", "FQDN": "fqdn"}
"""Names of a target's fields that hold strings, to the names of the attributes."""
ADDRESS_FIELDS: Final = {"PrimaryIPv4": "primary_ipv4", "PrimaryIPv6": "primary_ipv6"}
"""Likewise, of those that hold addresses."""
STATE_FIELD: Final = "TargetManagerState"
TARGET_TYPE: Final = "*target.Target"

_get_state = attrgetter("state")


def _address_getter(attribute: str) -> Callable[[Any], IPAddress]:
    get = attrgetter(attribute)
    return lambda target: IPAddress.of(get(target))


TARGET_FIELDS: Final[dict[str, Callable[[Any], object]]] = {
    **{name: attrgetter(attribute) for name, attribute in STRING_FIELDS.items()},
    **{name: _address_getter(attribute) for name, attribute in ADDRESS_FIELDS.items()},
    STATE_FIELD: lambda target: RawJSON(_get_state(target)),
}
"""What a template may write after the dot, in the order of Go's struct; `String` beside them is a method."""


def target_text(target: Any) -> str:
    """A target as `.` and `.String` print it."""
    parts = [f"ID: {quote(target.id)}"]
    if target.fqdn:
        parts.append(f"FQDN: {quote(target.fqdn)}")
    if target.primary_ipv4:
        parts.append(f'PrimaryIPv4: "{target.primary_ipv4}"')
    if target.primary_ipv6:
        parts.append(f'PrimaryIPv6: "{target.primary_ipv6}"')
    if target.state:
        parts.append(f'TMS: "{from_bytes(target.state)}"')
    return f"Target{{{', '.join(parts)}}}"


_PLAIN_TYPES: Final[dict[type, str]] = {
    str: "string",
    int: "int",
    Byte: "uint8",
    float: "float64",
    bool: "bool",
    complex: "complex128",
    IPAddress: IPAddress.go_type,
    IPMask: IPMask.go_type,
    RawJSON: RawJSON.go_type,
    Bytes: Bytes.go_type,
    list: "[]interface {}",
    dict: "map[string]interface {}",
    type(None): "nil",
}


def type_name(value: object) -> str:
    """The Go type of a value, for errors and `%T`."""
    return _PLAIN_TYPES.get(type(value), TARGET_TYPE)


def pointed_type_name(value: object) -> str:
    """The Go type of a value, of what a pointer leads to where it is one."""
    return type_name(value).removeprefix("*")


def is_target(value: object) -> bool:
    """Whether a value is the target itself."""
    return type(value) not in _PLAIN_TYPES


def field_of(value: Any, name: str) -> object:
    """A field of any value, methods aside. Raises Refused where it has none of that name."""
    if value is None:
        return None
    if isinstance(value, dict):
        return value.get(name)
    if is_target(value) and name in TARGET_FIELDS:
        return TARGET_FIELDS[name](value)
    raise Refused(f"can't evaluate field {name} in type {type_name(value)}")


_DEEPEST = 20


def from_function(value: object, depth: int = 0) -> object:
    """What a plugin's function returned, as a value of a template. Raises TypeError for what is none."""
    if type(value) in (str, int, float, bool, complex, type(None)):
        return value
    if depth > _DEEPEST:
        raise TypeError("the result is nested too deep")
    if isinstance(value, list | tuple):
        return [from_function(item, depth + 1) for item in value]
    if isinstance(value, dict) and all(type(key) is str for key in value):
        return {key: from_function(item, depth + 1) for key, item in value.items()}
    for kind in (str, int, float):
        if isinstance(value, kind):
            return kind(value)
    raise TypeError(f"the result is of type {type(value).__name__}")


def to_function(value: object) -> object:
    """A value as a plugin's function gets it where it does not say what it wants."""
    if isinstance(value, IPAddress | IPMask):
        return None if value.is_nil else str(value)
    if isinstance(value, ByteSlice):
        return None if value.is_nil else value.data
    return int(value) if isinstance(value, Byte) else value
