"""All connections of one listener: what they share, and the one timer that watches their deadlines.

Made by the listener; every `Connection` tells it when it is opened and closed, and is asked by it about its deadlines.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from contest_core.budget import Budget
from contest_core.caller import Caller, Principal
from contest_core.rpc import Session

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from contest_core.api import API
    from contest_core.listener import ListenerContext
    from contest_core.settings import Duration
    from contest_websocket.connection import Connection
    from contest_websocket.settings import WebsocketSettings

_LONGEST_PERIOD: Final = 1.0
"""Seconds between two looks at the deadlines, at most."""


class Connections:
    """The open connections, their limits and their end."""

    def __init__(self, api: API, context: ListenerContext, settings: WebsocketSettings) -> None:
        self.settings = settings
        self.budget = Budget(int(settings.max_buffered))
        self.stopping = False
        """The listener ends: nobody is let in any more."""
        self.limit = settings.max_connections
        self.report_error: Callable[[Exception], None] = context.report_error
        self._api = api
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._open: set[Connection] = set()
        self._admitted = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._period = min(_LONGEST_PERIOD, _shortest(settings) / 4)
        self._timer: asyncio.TimerHandle | None = None
        self.now = self._looked = self._loop.time()
        """Seconds of a clock for deadlines: it stands still while this server is too busy to hear anybody."""

    def session(
        self, peer: str, principal: Principal | None, send: Callable[[bytes], Awaitable[None]]
    ) -> Session:
        """The JSON-RPC session of one connection."""
        settings = self.settings
        caller: Callable[[], Caller] = partial(
            self._api.caller,
            listener=self._context.name,
            peer=peer,
            principal=principal,
            requestor=settings.requestor,
        )
        return Session(
            self._api,
            caller=caller,
            send=send,
            concurrency=settings.concurrency,
            max_answer=int(settings.max_answer),
            max_batch=settings.max_batch,
            max_watches=settings.max_watches,
            budget=self.budget,
            log=self._context.log,
        )

    def opened(self, connection: Connection) -> bool:
        """Takes a connection in; whether there is room for it. The first one starts the timer.

        Raises `ConnectionAbortedError` where they come faster than they can be told that there is none.
        """
        self._open.add(connection)
        if self._timer is None:
            self._looked = self._loop.time()
            self._timer = self._loop.call_later(self._period, self._look)
        if len(self._open) > 2 * self.limit:
            raise ConnectionAbortedError
        if self._admitted >= self.limit:
            return False
        self._admitted += 1
        return True

    def closed(self, connection: Connection) -> None:
        """Forgets a connection; the last one stops the timer."""
        self._open.discard(connection)
        self._admitted -= connection.admitted
        if not self._open and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs something short beside a connection's own task; `finish` waits for it."""
        # No task group: a connection's end, which is bounded, ends whatever it has begun.
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def stop(self) -> None:
        """No more requests: what is in flight is answered, then the connections close."""
        self.stopping = True
        for connection in list(self._open):
            connection.stop()

    async def abort(self) -> None:
        """Ends everything now, and returns when nothing is left of it."""
        self.stopping = True
        for connection in list(self._open):
            connection.transport.abort()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def is_over(self, since: float, limit: Duration) -> bool:
        """Whether that time has passed since a moment of `now`; it is never said too early."""
        return self.now - since > limit.seconds + self._period

    def _look(self) -> None:
        looked, self._looked = self._looked, self._loop.time()
        self.now += min(self._looked - looked, 2 * self._period)
        for connection in list(self._open):
            connection.look()
        self._timer = self._loop.call_later(self._period, self._look)


def _shortest(settings: WebsocketSettings) -> float:
    return min(
        settings.request_timeout.seconds,
        settings.idle_timeout.seconds,
        settings.write_timeout.seconds,
        settings.ping_interval.seconds,
        settings.ping_timeout.seconds,
    )
