"""The methods that the values of a template have in Go: those of addresses, masks, raw JSON and the target.

The closures of `expressions` look them up and call them. What would change a target (`UnmarshalText`) is not here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, TypeVar

from contest_runner.templates.errors import Refused
from contest_runner.templates.values import (
    Bytes,
    ByteSlice,
    IPAddress,
    IPMask,
    RawJSON,
    is_target,
    target_text,
)

_Slice = TypeVar("_Slice", bound=ByteSlice)
_MAPPED: Final = b"\0" * 10 + b"\xff\xff"
"""What IPv4 addresses begin with among those of sixteen bytes."""


class Method(NamedTuple):
    """A method of a type."""

    call: Callable[..., object]
    """Takes the value and the arguments. Raises Refused."""
    parameters: tuple[type[ByteSlice], ...] = ()
    """What the arguments are."""
    unfit: str = ""
    """Why no template may call it."""


def method_of(value: object, name: str) -> Method | None:
    """The method of any value that has this name, if there is one."""
    if isinstance(value, ByteSlice):
        return _OF_SLICES.get(type(value), {}).get(name)
    return _OF_TARGET.get(name) if is_target(value) else None


def converted(value: object, wanted: type[_Slice]) -> _Slice | None:
    """The value as an argument of a type, None where Go does not take it for one: bytes without a name it does."""
    if isinstance(value, wanted):
        return value
    if isinstance(value, ByteSlice) and (type(value) is Bytes or wanted is Bytes):
        return wanted(None if value.is_nil else value.data)
    return None


def _short(data: bytes) -> bytes:
    """The four bytes of an IPv4 address, none of any other."""
    if len(data) == 16 and data.startswith(_MAPPED):
        return data[12:]
    return data if len(data) == 4 else b""


def _long(data: bytes) -> bytes:
    return _MAPPED + data if len(data) == 4 else data


def _to4(address: IPAddress) -> IPAddress:
    return IPAddress(_short(address.data) or None)


def _to16(address: IPAddress) -> IPAddress:
    data = _long(address.data)
    return IPAddress(data if len(data) == 16 else None)


def _equal(address: IPAddress, other: IPAddress) -> bool:
    return _long(address.data) == _long(other.data)


def _is_unspecified(address: IPAddress) -> bool:
    return _long(address.data) in (_MAPPED + b"\0" * 4, b"\0" * 16)


def _is_loopback(address: IPAddress) -> bool:
    short = _short(address.data)
    return short[0] == 127 if short else address.data == b"\0" * 15 + b"\x01"


def _is_private(address: IPAddress) -> bool:
    short = _short(address.data)
    if short:
        first, second = short[0], short[1]
        return first == 10 or (first == 172 and second & 0xF0 == 16) or (first == 192 and second == 168)
    return len(address) == 16 and address.data[0] & 0xFE == 0xFC


def _is_multicast(address: IPAddress) -> bool:
    short = _short(address.data)
    return short[0] & 0xF0 == 0xE0 if short else len(address) == 16 and address.data[0] == 0xFF


def _is_interface_local_multicast(address: IPAddress) -> bool:
    data = address.data
    return len(data) == 16 and data[0] == 0xFF and data[1] & 0x0F == 1


def _is_link_local_multicast(address: IPAddress) -> bool:
    data, short = address.data, _short(address.data)
    if short:
        return short.startswith(b"\xe0\0\0")
    return len(data) == 16 and data[0] == 0xFF and data[1] & 0x0F == 2


def _is_link_local_unicast(address: IPAddress) -> bool:
    data, short = address.data, _short(address.data)
    if short:
        return short.startswith(b"\xa9\xfe")
    return len(data) == 16 and data[0] == 0xFE and data[1] & 0xC0 == 0x80


def _is_global_unicast(address: IPAddress) -> bool:
    others = (_is_unspecified, _is_loopback, _is_multicast, _is_link_local_unicast)
    broadcast = _short(address.data) == b"\xff" * 4
    return len(address) in (4, 16) and not broadcast and not any(is_other(address) for is_other in others)


def _default_mask(address: IPAddress) -> IPMask:
    short = _short(address.data)
    if not short:
        return IPMask(None)
    ones = 1 if short[0] < 0x80 else 2 if short[0] < 0xC0 else 3
    return IPMask(b"\xff" * ones + b"\0" * (4 - ones))


def _mask(address: IPAddress, mask: IPMask) -> IPAddress:
    data, bits = address.data, mask.data
    if len(bits) == 16 and len(data) == 4 and bits.startswith(b"\xff" * 12):
        bits = bits[12:]
    if len(bits) == 4 and len(data) == 16 and data.startswith(_MAPPED):
        data = data[12:]
    if len(data) != len(bits):
        return IPAddress(None)
    return IPAddress(bytes([byte & bit for byte, bit in zip(data, bits, strict=True)]))


def _append_text(address: IPAddress, before: Bytes) -> Bytes:
    text = _text_of(address)
    return before if not text else Bytes(before.data + text)


def _marshal_text(address: IPAddress) -> Bytes:
    text = _text_of(address)
    return Bytes(text, spare=b"\0" * ((24 if len(text) <= 24 else 48) - len(text)))


def _text_of(address: IPAddress) -> bytes:
    if len(address) not in (0, 4, 16):
        raise Refused(f"address {address.data.hex()}: invalid IP address")
    return str(address).encode() if address.data else b""


def _marshal_json(raw: RawJSON) -> Bytes:
    return Bytes(b"null" if raw.is_nil else raw.data)


_OF_SLICES: Final[Mapping[type[ByteSlice], Mapping[str, Method]]] = {
    IPAddress: {
        "AppendText": Method(_append_text, (Bytes,)),
        "DefaultMask": Method(_default_mask),
        "Equal": Method(_equal, (IPAddress,)),
        "IsGlobalUnicast": Method(_is_global_unicast),
        "IsInterfaceLocalMulticast": Method(_is_interface_local_multicast),
        "IsLinkLocalMulticast": Method(_is_link_local_multicast),
        "IsLinkLocalUnicast": Method(_is_link_local_unicast),
        "IsLoopback": Method(_is_loopback),
        "IsMulticast": Method(_is_multicast),
        "IsPrivate": Method(_is_private),
        "IsUnspecified": Method(_is_unspecified),
        "MarshalText": Method(_marshal_text),
        "Mask": Method(_mask, (IPMask,)),
        "String": Method(str),
        "To16": Method(_to16),
        "To4": Method(_to4),
    },
    IPMask: {"Size": Method(str, unfit="second return value should be error; is int"), "String": Method(str)},
    RawJSON: {"MarshalJSON": Method(_marshal_json)},
}
_OF_TARGET: Final[Mapping[str, Method]] = {"String": Method(target_text)}
