"""IP addresses as Go reads and writes them; used by the target managers."""

from __future__ import annotations

import ipaddress


def canonical(address: str) -> str:
    """The address as Go writes it. Raises `ValueError` where Go reads none."""
    parsed = ipaddress.ip_address(address)
    if "%" in address:
        raise ValueError(f"{address!r} is an address with a zone, which means nothing on another machine")
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return str(mapped or parsed)


def canonical_ipv4(address: str) -> str:
    """As `canonical`, for what has to be an IPv4 address."""
    found = canonical(address)
    if ":" in found:
        raise ValueError(f"{address!r} is no IPv4 address")
    return found
