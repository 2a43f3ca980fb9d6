"""stdin and stdout, as the streams of messages that the library takes: one JSON-RPC message a line.

The library has a transport of its own for that. This one ends when it is told to, not only when stdin does, and knows
what is not answered yet.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import anyio
import mcp_types as types
from mcp.shared.message import SessionMessage

from contest_core.standard_streams import stdout_diverted


@contextmanager
def standard_streams() -> Iterator[tuple[int, int]]:
    """Private descriptors of what stdin and stdout are; nobody else can read or write them until the end."""
    with stdout_diverted() as sink:
        source = os.dup(0)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        try:
            yield source, sink
        finally:
            os.dup2(source, 0)
            os.close(source)


class Wire:
    """The messages of one host."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._asked: set[Any] = set()
        self._answered = asyncio.Event()
        self._to_server, self.incoming = anyio.create_memory_object_stream[SessionMessage | Exception](0)
        self.outgoing, self._from_server = anyio.create_memory_object_stream[SessionMessage](0)

    @classmethod
    @asynccontextmanager
    async def open(cls, source: int, sink: int, limit: int) -> AsyncIterator[Wire]:
        """Over two descriptors, which stay open. Raises `ValueError` where they are files."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit)
        protocol = asyncio.StreamReaderProtocol(reader)
        read, _ = await loop.connect_read_pipe(lambda: protocol, os.fdopen(os.dup(source), "rb"))
        flow = asyncio.StreamReaderProtocol(asyncio.StreamReader())
        write, _ = await loop.connect_write_pipe(lambda: flow, os.fdopen(os.dup(sink), "wb"))
        try:
            yield cls(reader, asyncio.StreamWriter(write, flow, None, loop))
        finally:
            read.close()
            write.abort()

    async def read(self) -> None:
        """Hands messages over until stdin ends; what is no message is told to the library."""
        while line := await self._line():
            try:
                message = types.jsonrpc_message_adapter.validate_json(line, by_name=False)
            except ValueError as error:
                await self._to_server.send(error)
                continue
            self._note(message)
            await self._to_server.send(SessionMessage(message))

    async def write(self) -> None:
        """Writes what the library answers until it has no more to say."""
        async for message in self._from_server:
            line = message.message.model_dump_json(by_alias=True, exclude_unset=True).encode()
            self._writer.write(line + b"\n")
            try:
                await self._writer.drain()
            except ConnectionError:
                self._asked.clear()  # nobody waits any more
            if isinstance(message.message, types.JSONRPCResponse | types.JSONRPCError):
                self._forget(message.message.id)

    async def idle(self) -> None:
        """Returns when everything that was asked is answered."""
        while self._asked:
            self._answered.clear()
            await self._answered.wait()

    def end(self) -> None:
        """No more messages: the library ends."""
        self._to_server.close()

    async def _line(self) -> bytes:
        try:
            return await self._reader.readline()
        except ValueError:
            # It is over the limit. Whose answer that would be nobody knows.
            return b"too long\n"

    def _note(self, message: types.JSONRPCMessage) -> None:
        if isinstance(message, types.JSONRPCRequest):
            self._asked.add(message.id)
        elif isinstance(message, types.JSONRPCNotification) and message.method == "notifications/cancelled":
            self._forget((message.params or {}).get("requestId"))

    def _forget(self, identity: Any) -> None:
        self._asked.discard(identity)
        self._answered.set()
