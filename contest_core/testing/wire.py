"""Raw connections, for the cases that say what no client would."""

from __future__ import annotations

import asyncio
import socket
from abc import ABC, abstractmethod
from contextlib import suppress


class Wire(ABC):
    """One connection to a listener, as bytes. A suite's `dial` makes it, ready for requests."""

    @abstractmethod
    async def send(self, data: bytes) -> None:
        """Sends bytes as they are; returns when there is room for more. Raises `OSError` when the peer is gone."""

    @abstractmethod
    async def receive(self) -> bytes:
        """Some of the bytes that came; `b""` when the other side has closed, in whatever way."""

    @abstractmethod
    def close(self) -> None:
        """Is gone, at once and without a word; a second time does nothing."""


async def rest(wire: Wire) -> bytes:
    """All that still comes, to the end of the connection."""
    got = bytearray()
    while more := await wire.receive():
        got += more
    return bytes(got)


class StreamWire(Wire):
    """A connection over TCP or a unix socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        """Sends bytes as they are."""
        self.writer.write(data)
        await self.writer.drain()

    async def receive(self) -> bytes:
        """Some of the bytes that came."""
        with suppress(ConnectionError):
            return await self.reader.read(65536)
        return b""

    def close(self) -> None:
        """Resets the connection."""
        self.writer.transport.abort()


BUFFER = 64 * 1024
"""Bytes that a dialled connection buffers in the system: what it does not read is soon the listener's to keep."""


async def dial_tcp(host: str, port: int) -> StreamWire:
    """A TCP connection."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, (host, port))
    except BaseException:
        sock.close()
        raise
    return StreamWire(*await asyncio.open_connection(sock=sock, limit=BUFFER))


async def dial_unix(path: str) -> StreamWire:
    """A connection to a unix socket."""
    return StreamWire(*await asyncio.open_unix_connection(path, limit=BUFFER))
