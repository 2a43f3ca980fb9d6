"""The listener `http`: opens its sockets, puts uvicorn's protocol on them, and ends in order.

Constructed and served by the server; of uvicorn it uses the protocol and its configuration, not `uvicorn.Server`:
that one takes signals, ends the process when it cannot bind, polls, and forgets its connections when cancelled.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from functools import partial
from typing import ClassVar

from msgspec import Struct
from uvicorn.config import Config

from contest_core.api import API
from contest_core.listener import Listener, ListenerContext
from contest_core.sockets import BACKLOG, all_on_loopback, close_sockets, open_sockets, place
from contest_http.app import Application
from contest_http.connections import Connections
from contest_http.guards import Guards
from contest_http.protocol import GuardedProtocol
from contest_http.settings import HttpSettings


class HttpListener(Listener):
    """HTTP as ConTest's listener speaks it, with limits."""

    Settings: ClassVar[type[Struct]] = HttpSettings
    settings: HttpSettings

    async def serve(self, api: API, context: ListenerContext) -> None:
        """Serves until told to stop; see `Listener.serve`. Raises `CannotListen` and `Exposed`."""
        settings = self.settings
        sockets = await open_sockets(settings.host, settings.port, context.check_exposed)
        servers: list[asyncio.Server] = []
        guards = Guards(settings, loopback=all_on_loopback(sockets))
        connections = Connections(settings, guards, log=context.log.logger, report_error=context.report_error)
        app = Application(api, context, settings, connections.budget)
        protocol = partial(GuardedProtocol, _configuration(app), connections)
        try:
            servers.extend([await _accept(protocol, sock) for sock in sockets])
            context.ready(*(f"http://{place(sock.getsockname())}" for sock in sockets))
            await context.stopping()
            _close(servers, sockets)
            await connections.finish()
        finally:
            _close(servers, sockets)
            await connections.abort()
            for server in servers:
                await server.wait_closed()


async def _accept(protocol: partial[GuardedProtocol], sock: socket.socket) -> asyncio.Server:
    loop = asyncio.get_running_loop()
    return await loop.create_server(protocol, sock=sock, backlog=BACKLOG)


def _close(servers: Sequence[asyncio.Server], sockets: list[socket.socket]) -> None:
    for server in servers:
        server.close()
    close_sockets(sockets)


def _configuration(app: Application) -> Config:
    config = Config(
        app,
        http=GuardedProtocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        proxy_headers=False,
        server_header=False,
        workers=1,
    )
    config.load()
    return config
