"""The listener `websocket`: opens its sockets, has the library serve them, and ends in order.

Constructed and served by the server. Who may connect is the `Handshake`'s business, what a connection does the
`Connection`'s, what its messages mean the business of `contest_core.rpc`.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, cast

from msgspec import Struct
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.frames import CloseCode

from contest_core.listener import Listener, ListenerContext
from contest_core.sockets import BACKLOG, all_on_loopback, close_sockets, open_sockets, place
from contest_websocket.connection import CLOSE_SECONDS, COUNTED, Connection
from contest_websocket.connections import Connections
from contest_websocket.handshake import Handshake
from contest_websocket.quiet import Quiet
from contest_websocket.settings import WebsocketSettings

if TYPE_CHECKING:
    from contest_core.api import API


class WebsocketListener(Listener):
    """JSON-RPC 2.0, one message a websocket message, on connections that come and go."""

    Settings: ClassVar[type[Struct]] = WebsocketSettings
    settings: WebsocketSettings

    async def serve(self, api: API, context: ListenerContext) -> None:
        """Serves until told to stop; see `Listener.serve`. Raises `CannotListen` and `Exposed`."""
        settings = self.settings
        sockets = await open_sockets(settings.host, settings.port, context.check_exposed)
        connections = Connections(api, context, settings)
        handshake = Handshake(
            api, connections, settings, name=context.name, loopback=all_on_loopback(sockets)
        )
        servers: list[Server] = []
        try:
            servers.extend([await _accept(sock, connections, handshake) for sock in sockets])
            context.ready(*(f"ws://{place(sock.getsockname())}" for sock in sockets))
            await context.stopping()
            _close(servers, sockets)
            connections.stop()
            await _closed(servers)
        finally:
            _close(servers, sockets)
            await connections.abort()
            await _closed(servers)


async def _accept(sock: socket.socket, connections: Connections, handshake: Handshake) -> Server:
    settings = connections.settings
    return await serve(
        partial(_converse, connections),
        sock=sock,
        backlog=BACKLOG,
        process_request=handshake,
        server_header=None,
        compression=None,
        open_timeout=settings.open_timeout.seconds,
        # Both are the connection's own, which knows what it reads and what the peer takes.
        ping_interval=None,
        max_queue=None,
        close_timeout=CLOSE_SECONDS,
        max_size=int(settings.max_request),
        write_limit=COUNTED,
        logger=Quiet(logging.getLogger("contest.websocket"), {}),
        create_connection=cast("Any", partial(Connection, connections)),
    )


def _close(servers: Sequence[Server], sockets: Sequence[socket.socket]) -> None:
    """Lets nobody in any more."""
    for server in servers:
        server.close(close_connections=False)
        # The library does this in its next turn, when the sockets are gone.
        server.server.close()
    close_sockets(sockets)


async def _closed(servers: Sequence[Server]) -> None:
    for server in servers:
        await server.wait_closed()


async def _converse(connections: Connections, connection: ServerConnection) -> None:
    try:
        await cast("Connection", connection).converse()
    # The boundary of a connection: a fault here is none of the other peers'.
    except Exception as error:
        connections.report_error(error)
        await connection.close(CloseCode.INTERNAL_ERROR)
