"""The client for addresses `unix:PATH`: one connection, requests and answers matched by number.

Called by `contest_core.client.connect`. It sends what `Calls` makes and gives it what comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from typing import Final, Self

from contest_core import (
    VERBS,
    AnswerTimeout,
    Client,
    ClientOptions,
    ConnectionLost,
    ContestError,
    TooLarge,
    Unreachable,
)
from contest_core.rpc_client import Calls, NotAnAnswer, Pending, watching
from contest_unix.lines import Lines

CHUNK: Final = 64 * 1024
"""Bytes that are read at once."""


class UnixClient(Client):
    """Asks one server over its unix socket. Many calls may be in flight."""

    def __init__(
        self,
        address: str,
        options: ClientOptions,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._address = address
        self._options = options
        self._reader = reader
        self._writer = writer
        self._calls = Calls()
        self._lost = ""
        # No task group: it outlives the call that connects, and `aclose` waits for its end.
        self._reading = asyncio.get_running_loop().create_task(self._read())

    @classmethod
    async def connect(cls, address: str, options: ClientOptions) -> Self:
        """Connects. Raises `Unreachable`."""
        path = address.partition(":")[2]
        try:
            async with asyncio.timeout(options.timeout):
                reader, writer = await asyncio.open_unix_connection(path)
        except TimeoutError as error:
            raise Unreachable(
                address=address, reason=f"no connection within {options.timeout:g} s"
            ) from error
        except (OSError, ValueError) as error:
            raise Unreachable(address=address, reason=str(error)) from error
        return cls(address, options, reader, writer)

    async def call(self, verb: str, parameters: Mapping[str, object]) -> bytes:
        """Asks a verb; gives the object that HTTP has, for any status.

        Raises `Unreachable` where the connection has ended before, `ConnectionLost` where it ends now,
        `AnswerTimeout`, and `TooLarge` where the answer is beyond the client's limit.
        """
        return (await self._ask(verb, parameters)).answer.result()

    def watch(self, parameters: Mapping[str, object]) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Subscribes on the same connection; any number of watches may go on."""
        return watching(self._calls, self._ask, parameters)

    async def aclose(self) -> None:
        """Closes the connection; what is asked is lost."""
        self._lost = "this client is closed"
        self._writer.transport.abort()
        self._reading.cancel()
        await asyncio.wait([self._reading])
        with suppress(OSError):
            await self._writer.wait_closed()

    async def _ask(self, method: str, parameters: Mapping[str, object]) -> Pending:
        if self._lost:
            raise Unreachable(address=self._address, reason=self._lost)
        number, message, pending = self._calls.begin(method, parameters)
        try:
            async with asyncio.timeout(self._options.timeout):
                self._writer.write(message + b"\n")
                with suppress(ConnectionError):  # the reader hears of it, too
                    await self._writer.drain()
                await pending.answer
        except TimeoutError:
            reads = method not in VERBS or VERBS[method].reads
            raise AnswerTimeout(seconds=self._options.timeout, verb=method, reads=reads) from None
        finally:
            self._calls.end(number)
        return pending

    async def _read(self) -> None:
        lines = Lines(self._options.max_answer)
        reason = "the server has closed the connection"
        try:
            while chunk := await self._reader.read(CHUNK):
                for line in lines.feed(chunk):
                    self._take(line)
        except OSError as error:
            reason = str(error)
        finally:
            self._lost = self._lost or reason
            self._calls.fail(ConnectionLost(address=self._address, reason=self._lost))

    def _take(self, line: bytes) -> None:
        limit = self._options.max_answer
        if len(line) > limit:
            error: ContestError = TooLarge(what="the answer", limit=limit, setting="ClientOptions.max_answer")
            self._calls.too_large(line, error)
            return
        try:
            self._calls.take(line)
        except ValueError:
            self._calls.fail(NotAnAnswer(address=self._address, message=line))
