"""JSON that comes from the other side: whatever is wrong with it is one kind of error.

Used by clients, which know what they wait for and not who sends it.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

T = TypeVar("T")


def decoded(data: bytes | bytearray | msgspec.Raw, type: type[T]) -> T:
    """Reads JSON into a type. Raises `ValueError`, also where it is not UTF-8 or is nested too deeply."""
    try:
        return msgspec.json.decode(data, type=type)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
