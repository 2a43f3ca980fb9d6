"""What stands between a web page in somebody's browser and a server on that person's loopback.

A page can send requests anywhere, and its own name can be made to resolve to 127.0.0.1 (DNS rebinding). So whoever
listens with HTTP, also only to begin with, asks here about `Origin`, and on loopback about `Host`. Knows no library.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import Final

from contest_core.errors import Denied

_ORIGIN: Final = re.compile(r"https?://[^/\s?#@]+", re.IGNORECASE)


def wrong_origins(origins: Iterable[str]) -> dict[str, str]:
    """What is wrong with a setting `origins`, by its name: none but one that browsers send can ever match."""
    wrong = [origin for origin in origins if not _ORIGIN.fullmatch(origin)]
    if not wrong:
        return {}
    return {"origins": f"{wrong[-1][:100]!r} is not of the form https://host or https://host:port"}


def names_loopback(host: str) -> bool:
    """Whether the value of a header `Host`, with or without a port, can only mean this machine."""
    name = host.strip().lower()
    if name.startswith("["):
        name = name[1:].partition("]")[0]
    elif name.count(":") == 1:
        name = name.partition(":")[0]
    if name.rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def denied_host(host: str) -> Denied:
    """The refusal of a request that came to loopback by another name."""
    return Denied(
        principal=f"a request for host {host[:100]!r}",
        verb="come to a server on loopback: ask for localhost or 127.0.0.1",
    )


def denied_origin(origin: str) -> Denied:
    """The refusal of a web page of a foreign origin."""
    return Denied(
        principal=f"a web page of {origin[:100]!r}",
        verb="ask this server: `origins:` of the listener does not name it",
    )
