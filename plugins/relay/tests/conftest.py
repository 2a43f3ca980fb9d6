"""What the tests share: a lab whose job manager says what a test wants, servers before it, and a wire that breaks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from contest_core import (
    Authenticator,
    Bearer,
    Caller,
    Credentials,
    EncodedJSON,
    EventListMsg,
    EventLocksMsg,
    EventMsg,
    EventRetryMsg,
    EventStartMsg,
    EventStatusMsg,
    EventStopMsg,
    EventValidateMsg,
    Listener,
    Principal,
    ServerOptions,
    Unauthenticated,
    UnknownJob,
    open_server,
)
from contest_core.lifecycle import Server
from contest_core.settings import Duration, Secret
from contest_core.testing.memory import MemoryJobManager
from contest_http.listener import HttpListener
from contest_relay.far import EVERYTHING
from contest_relay.manager import RelayJobManager
from contest_relay.settings import RelaySettings
from contest_websocket.listener import WebsocketListener

WAIT = 10.0

Answer = Callable[[EventMsg], Any]


class Lab(MemoryJobManager):
    """Offers everything; what it is asked, it notes, and answers with what `answer` makes of it, if anything."""

    def __init__(self, answer: Answer | None = None, offers: frozenset[str] = EVERYTHING) -> None:
        super().__init__()
        self.answer = answer
        self.offers = offers
        self.asked: list[tuple[EventMsg, Caller]] = []
        self.waiting = 0
        self.release = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.watching = 0

    def capabilities(self) -> frozenset[str]:
        return self.offers

    async def start(self, message: EventStartMsg, caller: Caller) -> Any:
        return await self._told(message, caller, super().start)

    async def stop(self, message: EventStopMsg, caller: Caller) -> Any:
        return await self._told(message, caller, super().stop)

    async def status(self, message: EventStatusMsg, caller: Caller) -> Any:
        if message.requestor == "relay":
            raise UnknownJob(job_id=message.job_id)
        return await self._told(message, caller, super().status)

    async def retry(self, message: EventRetryMsg, caller: Caller) -> Any:
        return await self._told(message, caller, super().retry)

    async def list(self, message: EventListMsg, caller: Caller) -> Any:
        return await self._told(message, caller, super().list)

    async def validate(self, message: EventValidateMsg, caller: Caller) -> Any:
        return await self._told(message, caller, super().validate)

    async def locks(self, message: EventLocksMsg, caller: Caller) -> Any:
        return await self._told(message, caller, super().locks)

    async def _told(self, message: Any, caller: Caller, otherwise: Callable[..., Awaitable[Any]]) -> Any:
        self.asked.append((message, caller))
        if self.answer is None:
            return await otherwise(message, caller)
        answer = self.answer(message)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def wait(self) -> None:
        """What an answer may do that does not come for a while."""
        self.waiting += 1
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        finally:
            self.waiting -= 1

    @asynccontextmanager
    async def _watch(self, message: Any) -> AsyncIterator[Any]:
        async with super()._watch(message) as watch:
            self.watching += 1
            try:
                yield watch
            finally:
                self.watching -= 1


class OneToken(Authenticator):
    """Knows one token, and may know it for some verbs only."""

    Settings = RelaySettings

    def __init__(self, scopes: frozenset[str] | None = None) -> None:
        super().__init__(None)
        self.scopes = scopes

    async def authenticate(self, credentials: Credentials, peer: str) -> Principal | None:
        if not isinstance(credentials, Bearer):
            return None
        if credentials.token != "right":
            raise Unauthenticated(reason="nobody has this token")
        return Principal(name="the relay", scopes=self.scopes)


def listener(scheme: str, port: int = 0) -> Listener:
    """A door for that scheme."""
    kind: Any = HttpListener if scheme == "http" else WebsocketListener
    made: Listener = kind(kind.Settings(port=port))
    return made


def relay(address: str, **settings: Any) -> RelayJobManager:
    """The job manager, with settings as they stand in a file."""
    kinds = {"token": Secret, "timeout": Duration}
    values = {name: kinds.get(name, lambda value: value)(value) for name, value in settings.items()}
    return RelayJobManager(RelaySettings(address=address, **values))


@asynccontextmanager
async def serving(manager: Any, scheme: str | None = None, **options: Any) -> AsyncIterator[Server]:
    """A server with that door, or with none; leaves no task behind, or the test fails."""
    port = options.pop("port", 0)
    authenticators = options.pop("authenticators", ())
    doors = {} if scheme is None else {"door": listener(scheme, port)}
    given = {"server_id": "lab-1", **options}
    async with open_server(
        manager, listeners=doors, authenticators=authenticators, options=ServerOptions(**given)
    ) as server:
        yield server


def address_of(server: Server) -> str:
    (address,) = server.addresses["door"]
    return address


def caller_of(server: Server, **given: Any) -> Caller:
    return server.api.caller(listener="test", peer="here", **{"requestor": "me", **given})


async def until(reached: Callable[[], object]) -> None:
    """Returns when it is so."""
    async with asyncio.timeout(WAIT):
        while not reached():
            await asyncio.sleep(0.005)


class Bare:
    """Another server on HTTP: `answer` makes status and object of a verb and its number, or None: it breaks off."""

    def __init__(self, answer: Callable[[str, int], tuple[int, Any] | None]) -> None:
        self.answer = answer
        self.asked: list[str] = []
        self.offers = EVERYTHING
        self.held = asyncio.Event()
        """Until it is set, nobody is greeted."""
        self.held.set()
        self.gone = False
        """It breaks off whatever is said to it."""

    @asynccontextmanager
    async def open(self) -> AsyncIterator[str]:
        connections: set[asyncio.Task[None]] = set()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            connections.add(task)
            try:
                await self._serve(reader, writer)
            except (asyncio.IncompleteReadError, ConnectionError):
                pass
            finally:
                writer.transport.abort()
                connections.discard(task)

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            for task in connections:
                task.cancel()
            if connections:
                await asyncio.wait(connections)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            size = next(int(line[15:]) for line in head.split("\r\n") if line.startswith("content-length:"))
            body = await reader.readexactly(size)
            verb = head.split()[1].strip("/")
            await self.held.wait()
            if self.gone:
                return
            if verb == "version":
                answer: Any = 200, envelope("Version", {"Version": 5, "Capabilities": sorted(self.offers)})
            elif b"requestor=relay&" in body:
                answer = 200, envelope("Status", {"Status": None}, Error="no such job", Code="unknown_job")
            else:
                self.asked.append(verb)
                answer = self.answer(verb, self.asked.count(verb))
            if answer is None:
                return
            body = answer[1] if isinstance(answer[1], bytes) else json.dumps(answer[1]).encode()
            writer.write(b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n%b" % (answer[0], len(body), body))


def envelope(kind: str, data: Any, **more: Any) -> dict[str, Any]:
    """The object of HTTP."""
    return {"ServerID": "bare", "Type": f"ResponseType{kind}", "Data": data, "Error": None, **more}


class Kit:
    """What the tests need, since they cannot import it."""

    WAIT = WAIT
    Bare = Bare
    Encoded = EncodedJSON
    Lab = Lab
    OneToken = OneToken
    address_of = staticmethod(address_of)
    caller_of = staticmethod(caller_of)
    envelope = staticmethod(envelope)
    relay = staticmethod(relay)
    serving = staticmethod(serving)
    until = staticmethod(until)

    @staticmethod
    @asynccontextmanager
    async def relayed(
        lab: Any, scheme: str = "http", door: str | None = None, **settings: Any
    ) -> AsyncIterator[tuple[Server, Server]]:
        """A lab with that door, and a relay before it with that one: both servers."""
        async with (
            serving(lab, scheme) as far,
            serving(relay(address_of(far), **settings), door) as here,
        ):
            yield far, here


Serve = Callable[..., AbstractAsyncContextManager[Server]]


@pytest.fixture
async def kit() -> AsyncIterator[type[Kit]]:
    """The tools. What a test leaves running makes it fail."""
    before = asyncio.all_tasks()
    yield Kit
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    if left:
        await asyncio.wait(left, timeout=1)
    assert not [task for task in left if not task.done()]
