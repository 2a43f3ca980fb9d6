"""A small whole transport, JSON lines over a unix socket, with seams where it can be broken on purpose.

The first line of a connection is `hello TOKEN`, the token may be missing.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path
from typing import Any, Self

from contest_core import (
    API,
    VERBS,
    AnswerTimeout,
    Bearer,
    Caller,
    Client,
    ClientOptions,
    ConnectionLost,
    ContestError,
    Listener,
    ListenerContext,
    TooLarge,
    Unauthenticated,
    Unreachable,
)
from contest_core.rpc import Session
from contest_core.rpc_client import Calls, Pending, watching
from contest_core.testing import TransportSuite, Wire, dial_unix

LIMIT = 512 * 1024
"""Bytes of a request."""

HALF = 0.3
"""Seconds for the rest of a request."""

_numbers = itertools.count(1)


class LineListener(Listener):
    """Serves whoever may open its socket."""

    connection_class: type[Connection]

    def __init__(self, path: Path) -> None:
        super().__init__(None)
        self.path = path
        self.connections: set[asyncio.Task[Any]] = set()
        self.server: asyncio.Server

    async def serve(self, api: API, context: ListenerContext) -> None:
        self.api, self.context = self.wrapped(api), context
        self.check(context)
        self.server = await asyncio.start_unix_server(self.accepted, self.path, limit=LIMIT)
        context.ready(str(self.path))
        try:
            await context.stopping()
            self.server.close()
            await self.finish()
        finally:
            await self.close()

    def wrapped(self, api: API) -> Any:
        return api

    def check(self, context: ListenerContext) -> None:
        context.check_exposed(str(self.path))

    async def finish(self) -> None:
        """Lets those who are in the middle of something have their answers."""
        for task in self.connections:
            task.get_loop().call_soon(task.stop)  # type: ignore[attr-defined]
        if self.connections:
            await asyncio.wait(self.connections)

    async def close(self) -> None:
        self.server.close()
        while self.connections:
            for task in self.connections:
                task.cancel()
            await asyncio.wait(self.connections)
        self.path.unlink(missing_ok=True)

    async def accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task: Any = asyncio.current_task()
        self.connections.add(task)
        connection = self.connection(reader, writer)
        task.stop = connection.stop
        try:
            await connection.run()
        except asyncio.CancelledError:
            pass  # asyncio's streams complain of it
        finally:
            if writer.get_extra_info("socket").fileno() != -1:  # what has ended by itself raises
                writer.transport.abort()
            self.connections.discard(task)

    def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Connection:
        return self.connection_class(self, reader, writer)


class Connection:
    """One peer."""

    def __init__(
        self, listener: LineListener, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.listener = listener
        self.reader, self.writer = reader, writer
        self.api: API = listener.api
        self.buffer = b""
        self.principal: Any = None
        self.refusal: ContestError | None = None
        self.reading: asyncio.Task[None] | None = None
        self.session = Session(
            self.api, caller=self.caller, send=self.send, concurrency=16, log=listener.context.log
        )

    async def run(self) -> None:
        gone = False
        self.reading = asyncio.ensure_future(self.read())
        try:
            await asyncio.wait([self.reading])
            gone = not self.reading.cancelled() and self.reading.exception() is None
            if gone:
                self.left()
            await self.session.aclose()
            if not gone:
                await self.flush()
        except ConnectionError:
            pass
        finally:
            self.reading.cancel()
            self.session.cancel()
            await self.session.aclose()

    async def flush(self) -> None:
        """Returns when the peer's system has all that was written."""
        self.writer.close()
        await self.writer.wait_closed()

    def left(self) -> None:
        """The peer has closed."""
        self.session.cancel()

    def stop(self) -> None:
        """No more requests are taken."""
        if self.reading is not None:
            self.reading.cancel()

    async def read(self) -> None:
        with suppress(ConnectionError):
            await self.hello((await self.line()).split())
            while line := await self.line():
                if len(line) > LIMIT:
                    await self.session.reject(TooLarge(what="the line", limit=LIMIT))
                elif not line.isspace():
                    await self.message(line)

    async def message(self, line: bytes) -> None:
        await self.session.received(line)

    async def line(self) -> bytes:
        """The next line; of one that is too long the beginning; nothing at the end, or if it takes too long."""
        while b"\n" not in self.buffer:
            chunk = await self.chunk()
            if not chunk:
                return b""
            self.buffer += chunk
            if len(self.buffer) > 2 * LIMIT:
                self.buffer = self.buffer[: LIMIT + 1] + chunk[-1:].replace(b"x", b"")
        line, _, self.buffer = self.buffer.partition(b"\n")
        return line + b"\n"

    async def chunk(self) -> bytes:
        try:
            async with asyncio.timeout(HALF if self.buffer else None):
                return await self.reader.read(65536)
        except TimeoutError:
            return b""

    async def hello(self, words: list[bytes]) -> None:
        tokens = [Bearer(token=word.decode()) for word in words[1:2]]
        try:
            self.principal = await self.api.authenticate(*tokens, listener="tested", peer="unix")
        except Unauthenticated as error:
            self.refusal = error

    def caller(self) -> Caller:
        if self.refusal is not None:
            raise self.refusal
        return self.api.caller(listener=self.listener.context.name, peer="unix", principal=self.principal)

    async def send(self, message: bytes) -> None:
        self.writer.write(message + b"\n")
        await self.writer.drain()


LineListener.connection_class = Connection


class LineClient(Client):
    """Any number of calls at once over one connection."""

    def __init__(self, address: str, options: ClientOptions) -> None:
        self.address, self.options = address, options
        self.calls = Calls()
        self.closed = False

    @classmethod
    async def connect(cls, address: str, options: ClientOptions) -> Self:
        client = cls(address, options)
        try:
            await client.open()
        except OSError as error:
            raise client.unreachable(str(error)) from error
        return client

    def unreachable(self, reason: str) -> ContestError:
        return Unreachable(address=self.address, reason=reason)

    def lost(self) -> ContestError:
        return ConnectionLost(address=self.address, reason="it ended")

    async def open(self) -> None:
        self.reader, self.writer = await asyncio.open_unix_connection(
            self.address, limit=self.options.max_answer
        )
        self.writer.write(f"hello {self.options.token or ''}\n".encode())
        self.receiving = asyncio.ensure_future(self.receive())

    async def receive(self) -> None:
        try:
            while line := await self.reader.readline():
                self.take(line)
        except ValueError:
            self.calls.fail(TooLarge(what="the answer", limit=self.options.max_answer))
        except ConnectionError:
            pass
        finally:
            self.end()

    def take(self, line: bytes) -> None:
        self.calls.take(line)

    def end(self) -> None:
        self.closed = True
        self.calls.fail(self.lost())

    async def call(self, verb: str, parameters: Mapping[str, object]) -> bytes:
        return (await self.ask(verb, parameters)).answer.result()

    def reads(self, verb: str) -> bool:
        """It changes nothing."""
        return verb not in VERBS or VERBS[verb].reads

    async def ask(self, verb: str, parameters: Mapping[str, object]) -> Pending:
        if self.closed:
            raise self.unreachable("it is closed")
        number, message, pending = self.calls.begin(verb, parameters)
        try:
            async with asyncio.timeout(self.options.timeout):
                self.writer.write(message + b"\n")
                await pending.answer
        except TimeoutError:
            raise AnswerTimeout(seconds=self.options.timeout, verb=verb, reads=self.reads(verb)) from None
        finally:
            self.calls.end(number)
        return pending

    def watch(self, parameters: Mapping[str, object]) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        return watching(self.calls, self.ask, parameters)

    async def aclose(self) -> None:
        self.receiving.cancel()
        await asyncio.wait([self.receiving])
        self.writer.transport.abort()


class LineSuite(TransportSuite):
    """It under the kit."""

    max_request = LIMIT
    read_timeout = HALF
    listener_class: type[LineListener] = LineListener
    client_class: type[LineClient] = LineClient

    def listener(self, directory: Path) -> Listener:
        return self.listener_class(directory / "door")

    async def connect(self, address: str, options: ClientOptions) -> Client:
        return await self.client_class.connect(address, options)

    async def dial(self, address: str) -> Wire:
        wire = await dial_unix(address)
        wire.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        await wire.send(b"hello\n")
        return wire

    def request(self, verb: str, parameters: Mapping[str, object]) -> bytes:
        message = {"jsonrpc": "2.0", "id": next(_numbers), "method": verb, "params": parameters}
        return json.dumps(message).encode() + b"\n"
