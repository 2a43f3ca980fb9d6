"""JSON lines under the conformance kit.

The listener has one peer, and the client spawns its server. So each connection of a case is a listener of its own on
a pair of pipes, which come over a unix socket; and the client's process hands on those that it was spawned with.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from contest_core import API, Client, ClientOptions, Listener, ListenerContext
from contest_core.settings import ByteSize
from contest_core.testing import TransportSuite, Wire
from contest_stdio.client import StdioClient
from contest_stdio.listener import StdioListener
from contest_stdio.settings import StdioSettings

BRIDGE = """
import socket, sys
there = socket.socket(socket.AF_UNIX)
there.connect(sys.argv[1])
socket.send_fds(there, [b"x"], [0, 1])
there.recv(1)
"""

_numbers = itertools.count(1)


class Many(Listener):
    """A `StdioListener` for each connection to a unix socket."""

    Settings = StdioSettings

    def __init__(self, settings: StdioSettings, path: Path) -> None:
        super().__init__(settings)
        self._path = path

    async def serve(self, api: API, context: ListenerContext) -> None:
        context.check_exposed(str(self._path))
        with socket.socket(socket.AF_UNIX) as door:
            door.bind(str(self._path))
            door.listen()
            door.setblocking(False)
            context.ready(str(self._path))
            try:
                async with asyncio.TaskGroup() as group:
                    accepting = group.create_task(self._accept(group, door, api, context))
                    await context.stopping()
                    accepting.cancel()
            finally:
                self._path.unlink()

    async def _accept(self, group: Any, door: socket.socket, api: API, context: ListenerContext) -> None:
        while True:
            there, _ = await asyncio.get_running_loop().sock_accept(door)
            there.setblocking(True)  # the descriptors come with the connection
            _, descriptors, _, _ = socket.recv_fds(there, 1, 2)
            group.create_task(self._serve_one(there, descriptors, api, context))

    async def _serve_one(
        self, there: socket.socket, descriptors: list[int], api: API, context: ListenerContext
    ) -> None:
        try:
            await StdioListener(self.settings).serve_descriptors(api, OfOne(context), *descriptors)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
            there.close()


class OfOne:
    """The context of one connection: its end is that of no listener."""

    def __init__(self, context: ListenerContext) -> None:
        self._context = context

    def ready(self, *addresses: str) -> None:
        """The others are ready, too."""

    async def end_of_input(self) -> bool:
        return True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)


class Pipes(Wire):
    """Both pipes of one connection."""

    def __init__(self, reader: asyncio.StreamReader, source: Any, writer: asyncio.StreamWriter) -> None:
        self._reader, self._source, self._writer = reader, source, writer

    @classmethod
    async def open(cls, source: int, sink: int) -> Pipes:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=65536)
        protocol = asyncio.StreamReaderProtocol(reader)
        reading, _ = await loop.connect_read_pipe(lambda: protocol, os.fdopen(source, "rb", 0))
        writing, flow = await loop.connect_write_pipe(
            asyncio.streams.FlowControlMixin, os.fdopen(sink, "wb", 0)
        )
        return cls(reader, reading, asyncio.StreamWriter(writing, flow, None, loop))

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def receive(self) -> bytes:
        return await self._reader.read(65536)

    def close(self) -> None:
        self._source.close()
        if not self._writer.transport.is_closing():
            self._writer.transport.abort()


class TestStdio(TransportSuite):
    """One request after another, as they come."""

    max_request = 1024 * 1024
    ordered = True
    tokens = False

    def listener(self, directory: Path) -> Listener:
        return Many(StdioSettings(max_request=ByteSize("1MiB")), directory / "door")

    async def connect(self, address: str, options: ClientOptions) -> Client:
        return await StdioClient.connect(f"stdio:{sys.executable} -S -E -c '{BRIDGE}' {address}", options)

    async def dial(self, address: str) -> Wire:
        (their_in, our_out), (our_in, their_out) = os.pipe(), os.pipe()
        with socket.socket(socket.AF_UNIX) as there:
            there.connect(address)
            socket.send_fds(there, [b"x"], [their_in, their_out])
        os.close(their_in)
        os.close(their_out)
        return await Pipes.open(our_in, our_out)

    def request(self, verb: str, parameters: Mapping[str, object]) -> bytes:
        message = {"jsonrpc": "2.0", "id": next(_numbers), "method": verb, "params": parameters}
        return json.dumps(message).encode() + b"\n"
