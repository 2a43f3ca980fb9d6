"""Types made ready before threads decode them: msgspec learns what a struct is at its first use, and not safely.

While one thread does that (it is Python code, which others may interrupt), another one that decodes the same struct
meets what is half done, and the process dies. So types that are known are decoded by decoders made when their module is
imported; those of plugins go through `ready`, wherever a thread may decode them, too.
"""

from __future__ import annotations

from functools import lru_cache
from threading import Lock
from typing import TypeVar

import msgspec

T = TypeVar("T")

_BUILDING = Lock()


@lru_cache(maxsize=1024)
def ready(kind: T) -> T:
    """The type, of which msgspec knows all by now."""
    with _BUILDING:
        msgspec.json.Decoder(kind)
    return kind
