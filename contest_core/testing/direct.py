"""A listener and a client in the same program, with nothing between them but the bytes of the answers.

Used by tests that want all of a request's way but the transport. What a transport of their own has to do is here at
its shortest: credentials to a principal, a caller, `API.call`, `encode`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Self

import msgspec
from msgspec import Struct

from contest_core.api import API
from contest_core.caller import Credentials
from contest_core.client import Client, ClientOptions
from contest_core.errors import ContestError, Unreachable
from contest_core.listener import Listener, ListenerContext
from contest_core.responses import encode


class DirectListener(Listener):
    """Takes requests from the same program: `client()` makes a client of it."""

    class Settings(Struct, frozen=True, kw_only=True):
        """It has none."""

    def __init__(self, settings: Any = None) -> None:
        super().__init__(settings)
        self.context: ListenerContext | None = None
        self._api: API | None = None
        self._open = 0
        self._closed = asyncio.Event()

    async def serve(self, api: API, context: ListenerContext) -> None:
        """Until the server stops it, and the requests that are open are answered."""
        self._api, self.context = api, context
        context.ready(f"direct:{context.name}")
        try:
            await context.stopping()
            self._api = None
            while self._open:
                self._closed.clear()
                await self._closed.wait()
        finally:
            self._api = None

    def client(self, options: ClientOptions | None = None, *credentials: Credentials) -> DirectClient:
        """A client that speaks to this listener."""
        return DirectClient(self, options or ClientOptions(), credentials)

    async def ask(
        self, verb: str, parameters: Mapping[str, object], credentials: tuple[Credentials, ...] = ()
    ) -> bytes:
        """One request, from its parameters to the bytes of its answer."""
        api, context = self._api, self.context
        if api is None or context is None:
            raise Unreachable(address="direct:", reason="the listener does not serve")
        self._open += 1
        try:
            principal = await api.authenticate(*credentials, listener=context.name, peer="direct")
            caller = api.caller(listener=context.name, peer="direct", principal=principal)
            return encode(await api.call(caller, verb, parameters))
        except ContestError as error:
            return encode(error)
        finally:
            self._open -= 1
            self._closed.set()

    @asynccontextmanager
    async def follow(
        self, parameters: Mapping[str, object], credentials: tuple[Credentials, ...] = ()
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """One watch: the bytes of its events."""
        api, context = self._api, self.context
        if api is None or context is None:
            raise Unreachable(address="direct:", reason="the listener does not serve")
        principal = await api.authenticate(*credentials, listener=context.name, peer="direct")
        caller = api.caller(listener=context.name, peer="direct", principal=principal)
        async with api.subscribe(caller, parameters) as watch:
            yield (encode(item) async for item in watch)


class DirectClient(Client):
    """A client without a transport, made by `DirectListener.client`."""

    def __init__(
        self, listener: DirectListener, options: ClientOptions, credentials: tuple[Credentials, ...] = ()
    ) -> None:
        self._listener = listener
        self._options = options
        self._credentials = credentials

    @classmethod
    async def connect(cls, address: str, options: ClientOptions) -> Self:
        """There is no address to connect to."""
        raise Unreachable(address=address, reason="a direct client is made by `DirectListener.client`")

    async def call(self, verb: str, parameters: Mapping[str, object]) -> bytes:
        """As over JSON: what comes back was encoded, what goes there could be."""
        wire = msgspec.json.decode(msgspec.json.encode(parameters))
        return await self._listener.ask(verb, wire, self._credentials)

    def watch(self, parameters: Mapping[str, object]) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """As `call`. Raises the refusal when entered."""
        wire = msgspec.json.decode(msgspec.json.encode(parameters))
        return self._listener.follow(wire, self._credentials)

    async def aclose(self) -> None:
        """It holds nothing."""
