"""One connection to a server, from its opening to its end; a client whose connection has ended makes another.

Made by `client`. It sends what `contest_core.rpc_client.Calls` makes and gives it what comes; it knows no verbs but
by name. A message is read piece by piece, so that one that is too long is skipped and costs its own call only.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Literal, Self

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode
from websockets.protocol import State

from contest_core.errors import ERRORS, AnswerTimeout, ConnectionLost, TooLarge
from contest_core.rpc_client import Calls, NotAnAnswer, Pending
from contest_core.verbs import VERBS
from contest_websocket.quiet import Quiet

if TYPE_CHECKING:
    from contest_core.client import ClientOptions

CLOSE_SECONDS: Final = 2.0
"""How long the server may take to answer a goodbye."""

_HEAD: Final = 256
"""Bytes of a message that is too long that are kept, to know whose answer it was."""


class _Direct(connect):
    """Goes nowhere else than it is told to: the token is meant for this server."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        """No redirect is followed."""
        return exc


class Link:
    """A connection and the requests on it."""

    def __init__(self, address: str, options: ClientOptions, connection: ClientConnection) -> None:
        self.calls = Calls()
        self._address = address
        self._options = options
        self._connection = connection
        self._error: ConnectionLost | None = None
        # No task group: it outlives the call that opened the connection, and `aclose` waits for its end.
        self._reader = asyncio.get_running_loop().create_task(self._read())

    @classmethod
    async def open(cls, address: str, options: ClientOptions, *, proxy: Literal[True] | None) -> Self:
        """Connects. Raises what the library does."""
        connection = await _Direct(
            address,
            additional_headers={"Authorization": f"Bearer {options.token}"} if options.token else None,
            compression=None,
            proxy=proxy,
            open_timeout=options.timeout,
            close_timeout=CLOSE_SECONDS,
            # Of messages we keep count ourselves; what comes in one piece has to be refused before it is here.
            max_size=(None, options.max_answer),
            logger=Quiet(logging.getLogger("contest.websocket"), {}),
        )
        return cls(address, options, connection)

    @property
    def is_open(self) -> bool:
        """Whether something can be asked."""
        return self._connection.state is State.OPEN

    async def ask(self, method: str, parameters: Mapping[str, object]) -> Pending:
        """Sends a request and returns when its answer is there.

        Raises `ConnectionLost`, `AnswerTimeout`, `TooLarge`.
        """
        number, message, pending = self.calls.begin(method, parameters)
        try:
            async with asyncio.timeout(self._options.timeout):
                await self._send(message)
                await pending.answer
        except TimeoutError:
            row = VERBS.get(method)
            reads = row is None or row.reads
            raise AnswerTimeout(seconds=self._options.timeout, verb=method, reads=reads) from None
        finally:
            self.calls.end(number)
        return pending

    async def aclose(self) -> None:
        """Closes the connection; cancelled, at once."""
        try:
            await self._connection.close()
        finally:
            self._connection.transport.abort()
            await asyncio.wait([self._reader])

    async def _send(self, message: bytes) -> None:
        try:
            await self._connection.send(message, text=True)
        except ConnectionClosed:
            # The reader hears of it, too, and knows why.
            await asyncio.wait([self._reader])
            self.calls.fail(self._error or self._lost_error("it was not open"))

    async def _read(self) -> None:
        try:
            while True:
                await self._take()
        except ConnectionClosed as error:
            self._lost(error)

    async def _take(self) -> None:
        limit = self._options.max_answer
        parts: list[bytes] = []
        size = 0
        async for part in self._connection.recv_streaming(decode=False):
            size += len(part)
            if size <= limit or not parts:
                parts.append(part)
            else:
                parts = [parts[0][:_HEAD]]
        message = b"".join(parts)
        if size > limit:
            error = TooLarge(what="the answer", limit=limit, size=size, setting="ClientOptions.max_answer")
            self.calls.too_large(message, error)
            return
        try:
            self.calls.take(message)
        except ValueError:
            self.calls.fail(NotAnAnswer(address=self._address, message=message))

    def _lost(self, closed: ConnectionClosed) -> None:
        said, heard = closed.sent, closed.rcvd
        if heard is not None and heard.code == CloseCode.MESSAGE_TOO_BIG:
            self.calls.take(_too_large(heard.reason))
        if said is not None and said.code == CloseCode.MESSAGE_TOO_BIG:
            reason = (
                f"a message was over ClientOptions.max_answer, which is {self._options.max_answer:,} bytes"
            )
        elif said is not None and not closed.rcvd_then_sent:
            reason = "it was closed here"
        elif heard is not None:
            reason = f"the server ended the connection: {heard}"
        else:
            reason = "the connection broke off"
        self._error = self._lost_error(reason)
        self.calls.fail(self._error)

    def _lost_error(self, reason: str) -> ConnectionLost:
        return ConnectionLost(address=self._address, reason=reason)


def _too_large(reason: str) -> bytes:
    """The answer to a request that was too large, which ended the connection instead: it has no number, either."""
    row = ERRORS[TooLarge.code]
    message = f"the request is larger than the server takes (max_request): {reason}"
    error = {"code": row.rpc, "message": message, "data": {"Code": TooLarge.code}}
    return msgspec.json.encode({"jsonrpc": "2.0", "id": None, "error": error})
