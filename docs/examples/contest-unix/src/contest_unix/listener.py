"""The listener `unix`: JSON-RPC 2.0, one message a line, over a unix socket.

The server constructs it and calls `serve`. It owns the socket and one task for each connection, cuts lines, and hands
them to a `Session`, which does the rest. It knows nothing of jobs.
"""

from __future__ import annotations

import asyncio
import os
from typing import Annotated

from msgspec import Meta, Struct

from contest_core import API, ByteSize, Duration, InvalidSettings, Listener, ListenerContext
from contest_core.budget import Budget
from contest_unix.connection import Connection
from contest_unix.socket_file import listening_socket


class UnixListener(Listener):
    """Serves whoever may open its socket: the user that runs the server."""

    class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
        """What may stand under `unix:` in a configuration."""

        path: str
        """The socket's file; relative to where the program was started."""
        concurrency: Annotated[int, Meta(ge=1, le=1000)] = 16
        """Requests at once on one connection. With 1, answers come in the order of the requests."""
        max_request: ByteSize = ByteSize("4MiB")
        """Size of a request; a larger one gets the error `too_large`."""
        max_buffered: ByteSize = ByteSize("256MiB")
        """Large answers that wait to be taken, of all connections together; beyond, they are refused."""
        max_connections: Annotated[int, Meta(ge=1)] = 100
        """Connections at once; the next one is told that there are too many, and closed."""
        request_timeout: Duration = Duration("30s")
        """Time to receive one request, from its first byte to its last."""
        idle_timeout: Duration = Duration("10m")
        """How long a connection may stay open without a request or a watch."""
        write_timeout: Duration = Duration("30s")
        """Time for a peer to take an answer."""

        def __post_init__(self) -> None:
            times = ("request_timeout", "idle_timeout", "write_timeout")
            wrong = [
                name
                for name in ("max_request", *times)
                if not getattr(self, name) > type(getattr(self, name))(0)
            ]
            if wrong:
                raise InvalidSettings(dict.fromkeys(wrong, "has to be more than nothing"))

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._settings = settings
        self._path = os.path.abspath(settings.path)
        self._budget = Budget(settings.max_buffered)
        self._open: set[Connection] = set()
        self._stopping = False

    async def serve(self, api: API, context: ListenerContext) -> None:
        """Serves until the server ends. Raises `OSError` where nobody can listen at the path."""
        context.check_exposed(self._path)
        with listening_socket(self._path) as sock:
            async with asyncio.TaskGroup() as group:

                def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                    if self._stopping:
                        writer.transport.abort()
                        return
                    connection = Connection(api, context, self._settings, self._budget, reader, writer)
                    full = len(self._open) >= self._settings.max_connections
                    self._open.add(connection)
                    task = group.create_task(connection.serve(full=full))
                    task.add_done_callback(lambda _: self._open.discard(connection))

                server = await asyncio.start_unix_server(accept, sock=sock)
                try:
                    context.ready(f"unix:{self._path}")
                    await context.stopping()
                finally:
                    self._stopping = True
                    server.close()
                for connection in self._open:
                    connection.stop()
