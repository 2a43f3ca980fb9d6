"""Opens listening sockets: every address of a host, on one port, with an error that says what to do.

Used by listeners on TCP before they serve, so that no library binds by itself. It knows no protocol.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
from collections.abc import Callable, Iterable
from typing import Any, Final

from contest_core.errors import ContestError

BACKLOG: Final = 2048
"""Connections that may wait to be accepted."""

UNSENT: Final = 128 * 1024
"""Bytes that the system takes from us before the peer does, on Linux and macOS: else it takes megabytes, which a slow
reader may need a minute for, and looks like one that takes nothing."""

Place = tuple[socket.AddressFamily, tuple[Any, ...]]

_NOT_HERE: Final = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


class CannotListen(ContestError, OSError):
    """An address cannot be listened on; the message says why and what to do."""

    code = "unavailable"

    def __init__(self, *, where: str, error: OSError) -> None:
        super().__init__(f"cannot listen on {where}: {_explain(error)}")
        self.errno = error.errno


def _explain(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "the address is in use by another program; end that one, or choose another `port` (0 finds a free one)"
    if error.errno in (errno.EACCES, errno.EPERM):
        return "the system does not allow it; ports below 1024 are for root: choose a higher `port`"
    if error.errno == errno.EADDRNOTAVAIL:
        return "this machine has no such address; choose another `host`"
    if isinstance(error, socket.gaierror):
        return f"the `host` cannot be resolved ({error.strerror})"
    return error.strerror or str(error)


async def open_sockets(host: str, port: int, check: Callable[[str], None]) -> list[socket.socket]:
    """Listening sockets on all addresses of `host`, with one port for all.

    `check` is asked for each address before anything is bound. Raises `CannotListen`, and what `check` raises.
    """
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as error:
        raise CannotListen(where=host, error=error) from error
    places: list[Place] = list(dict.fromkeys((family, tuple(address)) for family, _, _, _, address in found))
    for _, address in places:
        check(str(address[0]))
    return _open_all(places, port)


def _open_all(places: list[Place], port: int) -> list[socket.socket]:
    opened: list[socket.socket] = []
    missing: CannotListen | None = None
    try:
        for family, address in places:
            # The system chose a port for the first address: the others get the same.
            wanted = opened[0].getsockname()[1] if opened and not port else port
            try:
                opened.append(_open(family, (address[0], wanted, *address[2:])))
            except CannotListen as error:
                # A name may have an IPv6 address on a machine without IPv6; one address is enough.
                if error.errno not in _NOT_HERE:
                    raise
                missing = error
    except BaseException:
        close_sockets(opened)
        raise
    if missing is not None and not opened:
        raise missing
    return opened


def _open(family: socket.AddressFamily, address: tuple[Any, ...]) -> socket.socket:
    sock: socket.socket | None = None
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family is socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT)
        sock.bind(address)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        if sock is not None:
            sock.close()
        raise CannotListen(where=place(address), error=error) from error
    return sock


def close_sockets(sockets: Iterable[socket.socket]) -> None:
    """Closes them; those that are closed already do not mind."""
    for sock in sockets:
        sock.close()


def all_on_loopback(sockets: Iterable[socket.socket]) -> bool:
    """Whether nobody else than this machine can connect."""
    addresses = [str(sock.getsockname()[0]) for sock in sockets]
    return all(ipaddress.ip_address(address.partition("%")[0]).is_loopback for address in addresses)


def place(address: tuple[Any, ...]) -> str:
    """`host:port` of a socket's address, as it stands in a URL."""
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
