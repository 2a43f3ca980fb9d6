"""All connections of one listener: what they share, and the one timer that watches their deadlines.

Made by the listener, handed to every protocol as uvicorn's `ServerState`. One timer for all is a store of an
attribute per request, where a timer of each request's own would cost more than the rest of the guards.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from email.utils import formatdate
from logging import Logger
from typing import TYPE_CHECKING, Final

from uvicorn.server import ServerState

from contest_core.budget import Budget

if TYPE_CHECKING:
    from contest_http.guards import Guards
    from contest_http.protocol import GuardedProtocol
    from contest_http.settings import HttpSettings

LINGER: Final = 0.5
"""Seconds in which a peer that was refused may still send, so that it comes to read why."""


class Connections(ServerState):
    """The open connections, their limits and their end."""

    def __init__(
        self,
        settings: HttpSettings,
        guards: Guards,
        *,
        log: Logger,
        report_error: Callable[[Exception], None],
    ) -> None:
        super().__init__()
        self.loop = asyncio.get_running_loop()
        self.guards = guards
        self.log = log
        self.report_error = report_error
        self.budget = Budget(int(settings.max_buffered))
        self.closing = False
        self.open: set[GuardedProtocol] = set()
        self.max_connections = settings.max_connections
        self.max_pipelined = settings.max_pipelined
        self.max_header = int(settings.max_header)
        self.max_request = int(settings.max_request)
        self.request_timeout = settings.request_timeout.seconds
        self.idle_timeout = settings.idle_timeout.seconds
        self.write_timeout = settings.write_timeout.seconds
        self.admitted = 0
        self.header_lines = b""
        self._period = min(1.0, min(self.request_timeout, self.idle_timeout, self.write_timeout) / 4)
        self._timer: asyncio.TimerHandle | None = None
        self._none_open = asyncio.Event()
        self._none_open.set()

    def opened(self, connection: GuardedProtocol) -> None:
        """Takes a connection in; the first one starts the timer."""
        self.open.add(connection)
        self._none_open.clear()
        if self._timer is None:
            self._look()

    def closed(self, connection: GuardedProtocol) -> None:
        """Forgets a connection; the last one stops the timer."""
        self.open.discard(connection)
        if not self.open:
            self._none_open.set()
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    async def finish(self) -> None:
        """Closes what is idle, lets what is in flight be answered, and returns when all are closed."""
        self.closing = True
        for connection in list(self.open):
            connection.shutdown()
        await self._wait()

    async def abort(self) -> None:
        """Ends everything now."""
        self.closing = True
        for connection in self.open:
            connection.transport.abort()
        await self._wait()

    async def _wait(self) -> None:
        await self._none_open.wait()
        if self.tasks:
            await asyncio.wait(self.tasks)

    def _look(self) -> None:
        self.header_lines = b"date: %b\r\n" % formatdate(time.time(), usegmt=True).encode()
        now = self.loop.time()
        for connection in [connection for connection in self.open if connection.deadline <= now]:
            connection.expire(now)
        self._timer = self.loop.call_later(self._period, self._look)
