"""A real server on loopback, on both event loops, with a job manager that answers from memory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
import uvloop

from contest_core.caller import Caller
from contest_core.errors import UnknownJob
from contest_core.events import EventListMsg, EventMsg, EventStartMsg, EventStatusMsg, EventStopMsg
from contest_core.job_manager import JobManager, JobManagerContext
from contest_core.lifecycle import Server
from contest_core.responses import (
    EncodedJSON,
    ResponseDataList,
    ResponseDataLocks,
    ResponseDataRetry,
    ResponseDataStart,
    ResponseDataStatus,
    ResponseDataStop,
    ResponseDataValidate,
)
from contest_core.server import ListenerOptions, ServerOptions, open_server
from contest_core.testing import OneToken
from contest_http.listener import HttpListener
from contest_http.settings import HttpSettings

WAIT = 10.0


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Every test runs on both loops: they differ in what a transport does when it is closed."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


class Manager(JobManager):
    """Knows one job. `status` of job 7 waits until it is released, and its answer has a size."""

    Settings = HttpSettings

    def __init__(self) -> None:
        super().__init__(None)
        self.asked: list[tuple[EventMsg, Caller]] = []
        self.arrived = asyncio.Event()
        self.release = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.size = 0

    def capabilities(self) -> frozenset[str]:
        return frozenset(
            {"start", "stop", "status", "retry", "list", "validate", "locks", "watch", "start.strict"}
        )

    async def serve(self, context: JobManagerContext) -> None:
        context.ready()
        await context.stopping()

    async def start(self, message: EventStartMsg, caller: Caller) -> ResponseDataStart:
        self.asked.append((message, caller))
        if message.job_descriptor == "fault":
            raise RuntimeError("a secret of the inside")
        if message.job_descriptor == "wait":
            await self._wait()
        return ResponseDataStart(job_id=1)

    async def stop(self, message: EventStopMsg, caller: Caller) -> ResponseDataStop:
        self._known(message.job_id)
        return ResponseDataStop()

    async def status(self, message: EventStatusMsg, caller: Caller) -> ResponseDataStatus | EncodedJSON:
        self.asked.append((message, caller))
        self._known(message.job_id)
        if message.job_id == 7:
            await self._wait()
        return EncodedJSON(b'{"Status":null,"Filler":"%b"}' % (b"x" * self.size))

    async def retry(self, message: Any, caller: Caller) -> ResponseDataRetry:
        self._known(message.job_id)
        return ResponseDataRetry(job_id=message.job_id, new_job_id=2)

    async def list(self, message: EventListMsg, caller: Caller) -> ResponseDataList:
        self.asked.append((message, caller))
        return ResponseDataList(job_ids=[])

    async def validate(self, message: Any, caller: Caller) -> ResponseDataValidate:
        return ResponseDataValidate(findings=[])

    async def locks(self, message: Any, caller: Caller) -> ResponseDataLocks:
        return ResponseDataLocks(locks=[])

    async def _wait(self) -> None:
        self.arrived.set()
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    def _known(self, job_id: int) -> None:
        if job_id not in (1, 7):
            raise UnknownJob(job_id=job_id)


class Reply:
    """One HTTP answer, as it was on the wire."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        code: str = self.json["Code"]
        return code


class Wire:
    """One raw connection: sends bytes as they are, reads answers."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def reply(self, *, head_only: bool = False) -> Reply:
        async with asyncio.timeout(WAIT):
            head = await self.reader.readuntil(b"\r\n\r\n")
            line, *lines = head.decode("latin-1").strip().split("\r\n")
            headers = {
                name.lower(): value.strip() for name, _, value in (one.partition(":") for one in lines)
            }
            length = 0 if head_only else int(headers.get("content-length", 0))
            return Reply(int(line.split()[1]), headers, await self.reader.readexactly(length))

    async def rest(self) -> bytes:
        """What still comes until the server closes."""
        async with asyncio.timeout(WAIT):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b""

    async def ask(self, data: bytes) -> Reply:
        self.send(data)
        return await self.reply()

    def close(self) -> None:
        self.writer.transport.abort()


class Running:
    """A server with one HTTP listener, and the connections to it."""

    def __init__(self, server: Server, manager: Any) -> None:
        self.server = server
        self.manager = manager
        self.url = server.addresses["http"][0]
        self.port = int(self.url.rpartition(":")[2])
        self.wires: list[Wire] = []

    async def connect(self) -> Wire:
        wire = Wire(*await asyncio.open_connection("127.0.0.1", self.port))
        self.wires.append(wire)
        return wire

    async def post(self, path: str, body: bytes | str = b"", **headers: str) -> Reply:
        wire = await self.connect()
        return await wire.ask(request(path, body, **headers))


def request(path: str, body: bytes | str = b"", *, method: str = "POST", **headers: str) -> bytes:
    """A request with a form, as a decent client sends it."""
    content = body.encode() if isinstance(body, str) else body
    lines = {
        "host": "localhost",
        "content-type": "application/x-www-form-urlencoded",
        "content-length": str(len(content)),
    } | {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + content


Serve = Callable[..., AbstractAsyncContextManager[Running]]


@pytest.fixture
def http_request() -> Callable[..., bytes]:
    """Makes the bytes of a request."""
    return request


@pytest.fixture
def serve() -> Serve:
    """`async with serve(**settings) as running`; leaves no task behind, or the test fails."""

    @asynccontextmanager
    async def serving(
        *,
        manager: JobManager | None = None,
        token: bool = False,
        allow_anonymous: bool = False,
        event_timeout: float = 3.0,
        **settings: Any,
    ) -> AsyncIterator[Running]:
        before = asyncio.all_tasks()
        manager = manager or Manager()
        async with open_server(
            manager,
            listeners={"http": HttpListener(HttpSettings(**{"port": 0} | settings))},
            listener_options={"http": ListenerOptions(allow_anonymous=allow_anonymous)},
            authenticators=[OneToken()] if token else [],
            options=ServerOptions(server_id="lab-1", event_timeout=event_timeout, grace=2.0),
        ) as server:
            running = Running(server, manager)
            try:
                yield running
            finally:
                if isinstance(manager, Manager):
                    manager.release.set()
                for wire in running.wires:
                    wire.close()
        assert asyncio.all_tasks() == before

    return serving
