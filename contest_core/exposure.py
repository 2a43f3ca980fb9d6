"""Who could reach a listener: the one place that says where nobody may ask without saying who they are.

Asked when a configuration is checked (`config_resolve`) and again by a listener before it binds (`contexts`), which
knows the addresses that a name stands for.
"""

from __future__ import annotations

import ipaddress

from contest_core.errors import Exposed


def check_exposed(where: str, *, listener: str, allow_anonymous: bool, authenticated: bool) -> None:
    """Raises `Exposed` where that is beyond this machine, nobody is authenticated, and that is not allowed.

    `where` is a host, `host:port` or the path of a unix socket.
    """
    if not (allow_anonymous or authenticated or is_local(where)):
        raise Exposed(listener=listener, where=where)


def is_name(where: str) -> bool:
    """Whether only the system can say where that is: it is neither an address nor a path."""
    return not _is_path(where) and _address(where) is None


def _is_path(where: str) -> bool:
    return where.startswith(("/", "@", "\0", "unix:"))


def _host(where: str) -> str:
    if where.startswith("["):
        return where[1:].partition("]")[0]
    return where.partition(":")[0] if where.count(":") == 1 else where


def _address(where: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(_host(where).partition("%")[0])
    except ValueError:
        return None


def is_local(where: str) -> bool:
    """Whether it can only be reached from this machine."""
    if _is_path(where) or _host(where).lower().rstrip(".") == "localhost":
        return True
    address = _address(where)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    address = mapped or address
    return address is not None and address.is_loopback
