"""The opening handshake: whether a peer may open a connection, and who it is.

Asked by the library once a connection, when the head of its request is here; what is refused gets an answer of HTTP
with `Msg` and `Code`, as the listener `http` would give. Whether the request is a websocket's at all, the library
judges afterwards.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from contest_core.browsers import denied_host, denied_origin, names_loopback
from contest_core.caller import Bearer
from contest_core.errors import ContestError, InvalidMessage, ShuttingDown, TooManyRequests
from contest_core.responses import encode

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection
    from websockets.datastructures import Headers
    from websockets.http11 import Request, Response

    from contest_core.api import API
    from contest_websocket.connection import Connection
    from contest_websocket.connections import Connections
    from contest_websocket.settings import WebsocketSettings

_SINGLE: Final = ("Host", "Origin", "Authorization")
"""Headers that two readers could take for different things when they are given twice."""


class Handshake:
    """Judges the opening requests of one listener. `loopback` says that nobody else than this machine can connect."""

    def __init__(
        self, api: API, connections: Connections, settings: WebsocketSettings, *, name: str, loopback: bool
    ) -> None:
        self._api = api
        self._connections = connections
        self._name = name
        self._loopback = loopback
        self._origins = frozenset(origin.lower() for origin in settings.origins)

    async def __call__(self, connection: ServerConnection, request: Request) -> Response | None:
        """None where the connection may be opened: it knows then who the peer is."""
        peer: Connection = connection  # type: ignore[assignment]
        try:
            if (refused := self._judge(peer, request.headers)) is not None:
                return refused
            credentials = _credentials(request.headers.get("Authorization"))
            principal = await self._api.authenticate(*credentials, listener=self._name, peer=peer.peer)
        except ContestError as error:
            return refusal(connection, error, error.row.http or 500)
        peer.principal = principal
        return None

    def _judge(self, peer: Connection, headers: Headers) -> Response | None:
        if self._connections.stopping:
            raise ShuttingDown
        if not peer.admitted:
            reason = f"there are {self._connections.limit:,} connections already"
            return refusal(peer, TooManyRequests(reason=reason, retry_after=1), 503)
        for name in _SINGLE:
            if len(headers.get_all(name)) > 1:
                raise InvalidMessage(reason=f"header {name} is given twice")
        host = headers.get("Host")
        if host is None:
            raise InvalidMessage(reason="header Host is missing")
        if self._loopback and not names_loopback(host):
            raise denied_host(host)
        origin = headers.get("Origin")
        if origin is not None and origin.lower() not in self._origins:
            raise denied_origin(origin)
        return None


def refusal(connection: ServerConnection, error: ContestError, status: int) -> Response:
    """The answer of HTTP to a request that opens no connection."""
    response = connection.respond(status, encode(error).decode())
    del response.headers["Content-Type"]
    response.headers["Content-Type"] = "application/json"
    if isinstance(error, TooManyRequests) and error.retry_after is not None:
        response.headers["Retry-After"] = str(math.ceil(error.retry_after))
    elif status == 503:
        response.headers["Retry-After"] = "1"
    elif status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def _credentials(authorization: str | None) -> tuple[Bearer, ...]:
    scheme, _, token = (authorization or "").partition(" ")
    token = token.strip()
    return (Bearer(token=token),) if scheme.lower() == "bearer" and token else ()
