"""A client that is made anew after a loss, so that no transport's client has to outlive its connection.

Used by `contest_core.client.connect` and by the program. Above it is whoever asks, below it the client of whatever
scheme the address has. It asks nothing twice: whoever calls it may, where that is safe.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final, Self

from contest_core.client import Client, ClientOptions, client_class
from contest_core.errors import ConnectionLost, Unreachable

_LOSSES: Final = (ConnectionLost, Unreachable)


class _Held:
    """A client, and how many use it just now: it is closed when it is lost and the last of them has left."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.users = 0


class Reconnecting(Client):
    """Makes a client at the first request, and another at the one that follows a loss.

    One that is lost is closed when nobody uses it any more: over HTTP other requests may still be answered.
    """

    def __init__(self, kind: Callable[[], type[Client]], address: str, options: ClientOptions) -> None:
        from asyncio import Lock  # brings asyncio, which `contest --help` does without

        self._kind = kind
        self._address = address
        self._options = options
        self._held: _Held | None = None
        self._opening = Lock()
        self._closed = False

    @classmethod
    async def connect(cls, address: str, options: ClientOptions) -> Self:
        """Connects by the address's scheme. Raises `Unreachable`."""
        client = cls(lambda: client_class(address), address, options)
        await client.open()
        return client

    async def open(self) -> None:
        """Makes a client now. Raises `Unreachable`."""
        await self._open()

    async def call(self, verb: str, parameters: Mapping[str, object]) -> bytes:
        """See `Client.call`."""
        async with self._using() as client:
            return await client.call(verb, parameters)

    def watch(self, parameters: Mapping[str, object]) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """See `Client.watch`: it ends with the connection; whoever watches goes on by the cursor."""
        return self._watch(parameters)

    @asynccontextmanager
    async def _watch(self, parameters: Mapping[str, object]) -> AsyncIterator[AsyncIterator[bytes]]:
        async with self._using() as client, client.watch(parameters) as messages:
            yield messages

    async def aclose(self) -> None:
        """Closes the client; no other is made."""
        self._closed = True
        held, self._held = self._held, None
        if held is not None:
            await held.client.aclose()

    @asynccontextmanager
    async def _using(self) -> AsyncIterator[Client]:
        held = await self._open()
        held.users += 1
        try:
            yield held.client
        except _LOSSES:
            if held is self._held:
                self._held = None
            raise
        finally:
            held.users -= 1
            if not held.users and held is not self._held:
                await held.client.aclose()

    async def _open(self) -> _Held:
        async with self._opening:
            if self._closed:
                raise Unreachable(address=self._address, reason="this client is closed")
            if self._held is None:
                client = await self._kind().connect(self._address, self._options)
                self._held = _Held(client)
            return self._held
