"""Is a port open? One try over TCP or UDP, within bounds; used by the step `waitport`, which tries again.

It knows no job. A host that is a name is resolved at each try: a machine that boots may get its address meanwhile.
"""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Final

FAMILIES: Final = {"": socket.AF_UNSPEC, "4": socket.AF_INET, "6": socket.AF_INET6}
"""By the digit at the end of a protocol's name."""

CONNECT: Final = 5.0
"""Seconds that one try to connect may take: a machine that is off answers nothing at all."""

SILENCE: Final = 4.0
"""Seconds without a refusal after which a UDP port is taken for open; a machine that is off is noticed in three."""


async def probe(protocol: str, host: str, port: int, patience: float) -> None:
    """Returns when the port is open. Raises `OSError` with the reason where it is not, after `patience` at most."""
    family = FAMILIES[protocol[3:]]
    try:
        if protocol.startswith("udp"):
            await _udp(host, port, family, patience)
        else:
            async with asyncio.timeout(min(CONNECT, patience)):
                await _tcp(host, port, family)
    except TimeoutError:
        raise OSError("no answer") from None
    except ValueError as error:  # also of a text with NULs, or that no coding of names has
        raise OSError(f"no name of a host: {error}") from None


async def _tcp(host: str, port: int, family: int) -> None:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_connection(asyncio.Protocol, host, port, family=family)
    transport.close()


async def _udp(host: str, port: int, family: int, patience: float) -> None:
    """UDP has no connections: a port is open that answers an empty datagram, or does not refuse two of them."""
    loop = asyncio.get_running_loop()
    silence = min(SILENCE, patience / 2)
    async with asyncio.timeout(patience):
        (found, kind, protocol, _, address), *_ = await loop.getaddrinfo(
            host, port, family=family, type=socket.SOCK_DGRAM
        )
    with socket.socket(found, kind, protocol) as asking:
        asking.setblocking(False)
        asking.connect(address)
        for _ in range(2):
            asking.send(b"")
            try:
                async with asyncio.timeout(silence / 2):
                    await loop.sock_recv(asking, 1)
                    return
            except TimeoutError:
                continue


def reason(error: OSError) -> str:
    """Why a port is not open, in few words."""
    if isinstance(error, socket.gaierror):
        return str(error.strerror)
    # What asyncio raises has the address in its text, which is said anyway.
    return os.strerror(error.errno) if error.errno is not None else str(error)
