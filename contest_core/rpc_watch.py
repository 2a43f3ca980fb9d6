"""The watches of one JSON-RPC session: `watch`, its notifications, `unwatch`.

Used by `contest_core.rpc` only. `watch` answers with the number of the subscription and the cursor where it begins;
then come notifications `event` with `{Subscription, Event | Gap}` and at the end `watchEnded` with `{Subscription,
Cursor}`, and `Error` and `Code` where a fault ended it. A peer that reads slowly holds up its own watch alone, whose
events wait in the store.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec

from contest_core.api import API
from contest_core.caller import Caller
from contest_core.errors import ContestError, InternalError, InvalidParameters, TooManyRequests
from contest_core.job_event import Gap, JobEvent
from contest_core.responses import encode
from contest_core.watch import Watch

MAX_WATCHES: Final = 64
"""How many one session may have at once, unless the transport says otherwise."""


class Subscription:
    """One watch of the peer."""

    def __init__(self, number: int) -> None:
        self.number = number
        self._begun = asyncio.Event()
        self._closing = False
        self._waiting = False
        self._task: asyncio.Task[None]
        self.opened: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """The cursor where it begins."""

    def start(self, task: asyncio.Task[None]) -> None:
        """What follows it is this task."""
        self._task = task

    def begin(self) -> None:
        """The peer knows its number: notifications may come."""
        self._begun.set()

    def close(self) -> None:
        """No more events; what is being sent is sent."""
        self._closing = True
        if self._waiting:
            self._task.cancel()

    async def each(self, watch: Watch, send: Callable[[JobEvent | Gap], Awaitable[None]]) -> None:
        """Sends what the watch gives, from `begin` until it ends or is closed."""
        while not self._closing:
            self._waiting = True
            try:
                await self._begun.wait()
                item = await anext(watch, None)
            except asyncio.CancelledError:
                if not self._closing or self._task.uncancel():
                    raise
                return
            finally:
                self._waiting = False
            if item is None:
                return
            await send(item)


class Subscriptions:
    """All watches of a session. `deliver` sends one message to the peer."""

    def __init__(
        self, api: API, deliver: Callable[[bytes], Awaitable[None]], *, limit: int, log: Any = None
    ) -> None:
        self._api = api
        self._deliver = deliver
        self._limit = limit
        self._log = log or logging.getLogger("contest.rpc")
        self._last = 0
        self._open: dict[int, Subscription] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def going_on(self) -> bool:
        """Whether there is any."""
        return bool(self._tasks)

    async def open(self, caller: Caller, parameters: Mapping[str, Any]) -> Subscription:
        """Subscribes; nothing is sent before the subscription's `begin`. Raises the refusal."""
        if len(self._open) >= self._limit:
            reason = f"this connection has {self._limit} watches, as many as it may: end one with `unwatch`"
            raise TooManyRequests(reason=reason)
        self._last += 1
        subscription = self._open[self._last] = Subscription(self._last)
        # No task group: it outlives the request that began it, and the session's end is what ends it.
        task = asyncio.get_running_loop().create_task(self._follow(subscription, caller, parameters))
        subscription.start(task)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            await subscription.opened
        except asyncio.CancelledError:
            task.cancel()
            raise
        return subscription

    def close(self, parameters: Mapping[str, Any]) -> int:
        """Ends the watch that the parameters of `unwatch` name. Raises `InvalidParameters`."""
        given = parameters.get("subscription")
        number = int(given) if isinstance(given, str) and given.isdecimal() and len(given) < 19 else given
        subscription = self._open.get(number) if isinstance(number, int) else None
        if subscription is None:
            reason = f"this connection has no subscription {str(given)[:40]!r}"
            raise InvalidParameters(reason=reason, verb="Unwatch", parameter="subscription")
        subscription.close()
        return subscription.number

    def end(self) -> None:
        """Ends all of them: each is told where it got to."""
        for subscription in list(self._open.values()):
            subscription.close()

    def cancel(self) -> None:
        """The peer is gone."""
        for task in self._tasks:
            task.cancel()

    async def ended(self) -> None:
        """Returns when no watch goes on: the job manager has ended, or all were ended. Cancelled, it cancels them."""
        try:
            if self._tasks:
                await asyncio.wait(self._tasks)
        finally:
            if self._tasks:
                self.cancel()
                await asyncio.wait(self._tasks)

    async def _follow(
        self, subscription: Subscription, caller: Caller, parameters: Mapping[str, Any]
    ) -> None:
        number = subscription.number
        watch: Watch | None = None
        error: ContestError | None = None
        try:
            async with self._api.subscribe(caller, parameters) as watch:
                subscription.opened.set_result(str(watch.cursor))
                await subscription.each(watch, lambda item: self._deliver(_event(number, item)))
        except ContestError as refused:
            error = refused
        # The one boundary per watch: whatever else is raised is a fault of the server.
        except Exception:
            self._log.exception("request %s (watch) failed", caller.request_id)
            error = InternalError(request_id=caller.request_id)
        finally:
            del self._open[number]
            if not subscription.opened.done():
                subscription.opened.cancel() if error is None else subscription.opened.set_exception(error)
                error = watch = None
        if watch is not None:
            await self._deliver(_ended(number, watch, error))


def _event(number: int, item: JobEvent | Gap) -> bytes:
    # What is encoded is an object of its own: its first brace makes room for the subscription.
    return b'{"jsonrpc":"2.0","method":"event","params":{"Subscription":%d,%b}' % (number, encode(item)[1:])


def _ended(number: int, watch: Watch, error: ContestError | None) -> bytes:
    facts: dict[str, object] = {"Subscription": number, "Cursor": str(watch.cursor)}
    if error is not None:
        facts |= {"Error": error.message, "Code": error.code}
    return msgspec.json.encode({"jsonrpc": "2.0", "method": "watchEnded", "params": facts})
