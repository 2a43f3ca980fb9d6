"""A real server on loopback, on both event loops, with a job manager that answers from memory."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any

import pytest
import uvloop

from contest_core.caller import Caller
from contest_core.errors import UnknownJob
from contest_core.events import EventListMsg, EventMsg, EventStartMsg, EventStatusMsg
from contest_core.job_manager import JobManager, JobManagerContext
from contest_core.lifecycle import Server
from contest_core.responses import EncodedJSON, ResponseDataList, ResponseDataStart, ResponseDataStatus
from contest_core.server import ListenerOptions, ServerOptions, open_server
from contest_core.settings import ByteSize, Duration
from contest_core.testing import OneToken
from contest_websocket.listener import WebsocketListener
from contest_websocket.settings import WebsocketSettings

WAIT = 10.0

TEXT, BINARY, CLOSE, PING, PONG, CONTINUATION = 1, 2, 8, 9, 10, 0


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Every test runs on both loops: they differ in what a transport does when it is closed."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


class Manager(JobManager):
    """Knows jobs 1 and 7. `status` of job 7 waits until it is released; answers have a size."""

    Settings = WebsocketSettings

    def __init__(self) -> None:
        super().__init__(None)
        self.asked: list[tuple[EventMsg, Caller]] = []
        self.arrived = asyncio.Event()
        self.release = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.started = asyncio.Event()
        self.size = 0
        self.waiting = 0

    def capabilities(self) -> frozenset[str]:
        return frozenset({"start", "status", "list"})

    async def serve(self, context: JobManagerContext) -> None:
        context.ready()
        await context.stopping()

    async def start(self, message: EventStartMsg, caller: Caller) -> ResponseDataStart:
        self.asked.append((message, caller))
        if message.job_descriptor == "wait":
            await self._wait()
        self.started.set()
        return ResponseDataStart(job_id=len(self.asked))

    async def status(self, message: EventStatusMsg, caller: Caller) -> ResponseDataStatus | EncodedJSON:
        self.asked.append((message, caller))
        if message.job_id not in (1, 7):
            raise UnknownJob(job_id=message.job_id)
        if message.job_id == 7:
            await self._wait()
        return EncodedJSON(b'{"Status":null,"Filler":"%b"}' % (b"x" * self.size))

    async def list(self, message: EventListMsg, caller: Caller) -> ResponseDataList:
        self.asked.append((message, caller))
        return ResponseDataList(job_ids=[])

    async def _wait(self) -> None:
        self.waiting += 1
        self.arrived.set()
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        finally:
            self.waiting -= 1


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, mask: bool = True) -> bytes:
    """A frame as a client sends it; the mask is zero, so that the payload can be read."""
    size = len(payload)
    bit = 0x80 if mask else 0
    head = bytes([opcode | (0x80 if fin else 0)])
    if size < 126:
        head += bytes([bit | size])
    elif size < 65536:
        head += bytes([bit | 126]) + struct.pack("!H", size)
    else:
        head += bytes([bit | 127]) + struct.pack("!Q", size)
    return head + (b"\0\0\0\0" if mask else b"") + payload


def request(method: str, number: int | None = 1, **params: Any) -> bytes:
    """A JSON-RPC request; without a number, a notification."""
    message: dict[str, Any] = {"jsonrpc": "2.0", "method": method, "params": {"requestor": "tests"} | params}
    if number is not None:
        message["id"] = number
    return json.dumps(message).encode()


OPENING = {
    "Host": "localhost",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    "Sec-WebSocket-Version": "13",
}


class Wire:
    """One raw connection: sends bytes as they are, reads frames."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def open(self, path: str = "/", **headers: str | None) -> tuple[int, dict[str, str], bytes]:
        """Sends the opening request; gives status, headers and body of the answer."""
        lines = {**OPENING, **{name.replace("_", "-"): value for name, value in headers.items()}}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value is not None)
        self.send(f"GET {path} HTTP/1.1\r\n{head}\r\n".encode())
        return await self.answer()

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        async with asyncio.timeout(WAIT):
            head = await self.reader.readuntil(b"\r\n\r\n")
            line, *lines = head.decode("latin-1").strip().split("\r\n")
            headers = {
                name.lower(): value.strip() for name, _, value in (one.partition(":") for one in lines)
            }
            body = await self.reader.readexactly(int(headers.get("content-length", 0)))
            return int(line.split()[1]), headers, body

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    def put(self, opcode: int, payload: bytes = b"", *, fin: bool = True, mask: bool = True) -> None:
        """Sends one frame."""
        self.send(frame(opcode, payload, fin=fin, mask=mask))

    def text(self, message: bytes) -> None:
        self.put(TEXT, message)

    def ask(self, method: str, number: int | None = 1, **params: Any) -> None:
        """Sends a JSON-RPC request; without a number, a notification."""
        self.text(request(method, number, **params))

    async def frame(self) -> tuple[int, bytes, bool]:
        """The next frame: opcode, payload, whether it is the last of its message."""
        async with asyncio.timeout(WAIT):
            first, second = await self.reader.readexactly(2)
            size = second & 0x7F
            if size == 126:
                (size,) = struct.unpack("!H", await self.reader.readexactly(2))
            elif size == 127:
                (size,) = struct.unpack("!Q", await self.reader.readexactly(8))
            return first & 0x0F, await self.reader.readexactly(size), bool(first & 0x80)

    async def message(self) -> Any:
        """The next message, as JSON; pings are passed over."""
        parts = b""
        while True:
            opcode, payload, fin = await self.frame()
            if opcode in (PING, PONG):
                continue
            assert opcode in (TEXT, CONTINUATION), (opcode, payload)
            parts += payload
            if fin:
                return json.loads(parts)

    async def goodbye(self) -> tuple[int, str]:
        """Code and reason of the close frame that ends the connection, whatever comes before; it is not answered."""
        while True:
            opcode, payload, _ = await self.frame()
            if opcode == CLOSE:
                return struct.unpack("!H", payload[:2])[0], payload[2:].decode()

    def shrink(self) -> None:
        """Makes its own buffer small, so that what it does not read is soon the server's problem."""
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)

    def take_nothing(self) -> None:
        """Reads no more."""
        self.shrink()
        self.writer.transport.pause_reading()  # type: ignore[attr-defined]

    def take(self) -> None:
        """Reads again."""
        self.writer.transport.resume_reading()  # type: ignore[attr-defined]

    async def flood(self, data: bytes, seconds: float = WAIT) -> int:
        """Sends this again and again, until the connection breaks or time is up; gives the bytes that went out."""
        sent = 0
        with suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(seconds):
                while True:
                    self.send(data)
                    await self.writer.drain()
                    sent += len(data)
        return sent

    async def rest(self) -> bytes:
        """What still comes until the server closes."""
        async with asyncio.timeout(WAIT):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b""

    def close(self) -> None:
        self.writer.transport.abort()


class Running:
    """A server with one websocket listener, and the raw connections to it."""

    frame = staticmethod(frame)
    request = staticmethod(request)

    def __init__(self, server: Server, manager: Manager) -> None:
        self.server = server
        self.manager = manager
        self.url = server.addresses["websocket"][0]
        self.port = int(self.url.rpartition(":")[2])
        self.wires: list[Wire] = []

    def stop(self) -> None:
        """Tells the listener to end."""
        self.server._sides["websocket"].stop()

    async def ended(self) -> None:
        """Returns when the listener has ended."""
        async with asyncio.timeout(WAIT):
            while self.server._sides["websocket"].active:
                await asyncio.sleep(0.005)

    async def dial(self) -> Wire:
        """A TCP connection on which nothing was said."""
        wire = Wire(*await asyncio.open_connection("127.0.0.1", self.port))
        self.wires.append(wire)
        return wire

    async def open(self, **headers: str | None) -> Wire:
        """An open websocket."""
        wire = await self.dial()
        status, _, body = await wire.open(**headers)
        assert status == 101, body
        return wire


Serve = Callable[..., AbstractAsyncContextManager[Running]]


def settings(**values: Any) -> WebsocketSettings:
    """Settings from values as they stand in a file."""
    kinds: dict[str, Callable[[str], Any]] = {"_timeout": Duration, "_interval": Duration, "max_": ByteSize}
    for name, value in values.items():
        for part, kind in kinds.items():
            if part in name and isinstance(value, str):
                values[name] = kind(value)
    return WebsocketSettings(**{"port": 0} | values)


@pytest.fixture
def serve() -> Serve:
    """`async with serve(**settings) as running`; leaves no task behind, or the test fails."""

    @asynccontextmanager
    async def serving(
        *,
        token: bool = False,
        allow_anonymous: bool = False,
        event_timeout: float = 3.0,
        grace: float = 5.0,
        **values: Any,
    ) -> AsyncIterator[Running]:
        before = asyncio.all_tasks()
        manager = Manager()
        async with open_server(
            manager,
            listeners={"websocket": WebsocketListener(settings(**values))},
            listener_options={"websocket": ListenerOptions(allow_anonymous=allow_anonymous)},
            authenticators=[OneToken()] if token else [],
            options=ServerOptions(server_id="lab-1", event_timeout=event_timeout, grace=grace),
        ) as server:
            running = Running(server, manager)
            try:
                yield running
            finally:
                manager.release.set()
                for wire in running.wires:
                    wire.close()
        assert asyncio.all_tasks() == before

    return serving
