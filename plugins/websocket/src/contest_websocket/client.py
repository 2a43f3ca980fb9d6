"""The client for addresses `ws://` and `wss://`: one connection, requests and answers matched by number.

Called by `contest_core.client.Contest`. A connection that the server has ended while nothing was asked (it was idle,
the server was started again) is opened anew by the next call.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Self

import msgspec

from contest_core.client import Client, ClientOptions
from contest_core.errors import ContestError, Unreachable, error_from_wire
from contest_core.foreign import decoded
from contest_core.network import is_loopback, parts_of, system_words
from contest_core.rpc_client import watching
from contest_websocket.link import Link

if TYPE_CHECKING:
    from websockets.exceptions import InvalidStatus


class WebsocketClient(Client):
    """Asks one server over a websocket. Many calls may be in flight."""

    def __init__(self, address: str, options: ClientOptions) -> None:
        self._address = address
        self._options = options
        self._link: Link | None = None
        self._opening = asyncio.Lock()
        self._closed = False

    @classmethod
    async def connect(cls, address: str, options: ClientOptions) -> Self:
        """Opens a connection. Raises `Unreachable`, and what the server refuses it with (`Unauthenticated`)."""
        client = cls(address, options)
        await client._open()
        return client

    async def call(self, verb: str, parameters: Mapping[str, object]) -> bytes:
        """Asks a verb; gives the object that HTTP has, for any status.

        Raises `Unreachable` where the server cannot be reached any more, `ConnectionLost` where it goes now,
        `AnswerTimeout`, and `TooLarge` where the request is beyond the server's limit, or the answer beyond ours.
        """
        link = await self._open()
        return (await link.ask(verb, parameters)).answer.result()

    def watch(self, parameters: Mapping[str, object]) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Subscribes on the same connection; any number of watches may go on."""
        return self._watch(parameters)

    @asynccontextmanager
    async def _watch(self, parameters: Mapping[str, object]) -> AsyncIterator[AsyncIterator[bytes]]:
        link = await self._open()
        async with watching(link.calls, link.ask, parameters) as items:
            yield items

    async def aclose(self) -> None:
        """Says goodbye and closes; what is asked is lost."""
        self._closed = True
        if self._link is not None:
            await self._link.aclose()

    async def _open(self) -> Link:
        """The connection, opened where there is none."""
        if self._closed:
            raise Unreachable(address=self._address, reason="this client is closed")
        if self._link is not None and self._link.is_open:
            return self._link
        async with self._opening:
            if self._link is not None:
                if self._link.is_open:
                    return self._link
                await self._link.aclose()
            self._link = await _connect(self._address, self._options)
            return self._link


async def _connect(address: str, options: ClientOptions) -> Link:
    from websockets.exceptions import InvalidStatus, WebSocketException

    host = _host(address)
    try:
        # A proxy from the environment cannot reach what is on this machine.
        return await Link.open(address, options, proxy=None if is_loopback(host) else True)
    except InvalidStatus as error:
        raise _refused(address, error) from error
    except TimeoutError as error:
        raise Unreachable(address=address, reason=f"no connection within {options.timeout:g} s") from error
    except (OSError, WebSocketException, ImportError) as error:
        reason = system_words(error) or str(error) or type(error).__name__
        raise Unreachable(address=address, reason=reason) from error


class _Refusal(msgspec.Struct, rename="pascal"):
    msg: str
    code: str


def _refused(address: str, error: InvalidStatus) -> ContestError:
    response = error.response
    try:
        told = decoded(response.body, _Refusal)
    except ValueError:
        words = " ".join(bytes(response.body[:200]).decode("utf-8", "replace").split())[:80]
        status = f"{response.status_code} {response.reason_phrase}"
        places = response.headers.get_all("Location")
        what = f"which points to {places[0]}" if places else repr(words)
        reason = f"no websocket is served there: it answers {status}, {what}"
        return Unreachable(address=address, reason=reason)
    return error_from_wire(told.code, told.msg)


def _host(address: str) -> str:
    parts = parts_of(address, example="ws://HOST:PORT")
    if parts.fragment:
        raise Unreachable(address=address, reason="an address has no fragment")
    return parts.hostname or ""
