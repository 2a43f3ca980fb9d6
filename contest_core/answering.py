"""Takes events off the channel and has the job manager answer them, one task each.

Run by the server's life (`contest_core.lifecycle`) while the server lives. It calls the job manager's verbs; here
is the one exception boundary between its code and the wires.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from contest_core.errors import ContestError, InternalError, Interrupted, ShuttingDown
from contest_core.events import Event, EventChannel, EventResponse, EventType
from contest_core.job_manager import JobManager
from contest_core.responses import EncodedJSON, ResponseData, ResponseDataRetry, ResponseDataStart
from contest_core.verbs import VERBS

_log = logging.getLogger("contest.server")

_ROWS = {verb.event: verb for verb in VERBS.values() if verb.event is not None}


class Answering:
    """The consumer of one channel. `report_error` takes a listener's name and its fault outside a request.

    Never more than `in_flight` requests are open. Most are taken within the `put` of whoever asks; the loop of
    `run` takes those that had to wait for room, and keeps one place for that.
    """

    def __init__(
        self,
        manager: JobManager,
        channel: EventChannel,
        *,
        in_flight: int,
        report_error: Callable[[str, Exception | None], None],
    ) -> None:
        self._manager = manager
        self._channel = channel
        self._free = in_flight
        self._freed = asyncio.Event()
        self._open: dict[asyncio.Future[EventResponse], tuple[Event, asyncio.Task[None]]] = {}
        self._report_error = report_error

    async def run(self) -> None:
        """Returns when the channel is closed and what was taken is answered.

        Cancelled, it cancels what is still being answered, and that gets `Interrupted`.
        """
        try:
            async with asyncio.TaskGroup() as group:
                take = partial(self._take, group)
                self._channel.attach(partial(self._take_on_the_spot, take))
                await self._take_what_waits(take)
        finally:
            # A task that is cancelled before its first step runs nothing, not even its `finally`.
            for event, _ in self._open.values():
                _interrupt(event)

    async def _take_what_waits(self, take: Callable[[Event], None]) -> None:
        try:
            while True:
                while not self._free:
                    self._freed.clear()
                    await self._freed.wait()
                self._free -= 1
                take(await self._channel.take())
        except ShuttingDown:
            return
        finally:
            self._channel.attach(None)

    def _take_on_the_spot(self, take: Callable[[Event], None], event: Event) -> bool:
        if not self._free:
            return False
        self._free -= 1
        take(event)
        return True

    def _take(self, group: asyncio.TaskGroup, event: Event) -> None:
        """Takes an event for which a place was found."""
        if event.type is EventType.ERROR:
            self._release()
            self._report_error(event.context.listener, event.err)
        elif (answer := self._at_hand(event)) is not None:
            self._release()
            event.resolve(answer)
        else:
            self._open[event.response] = event, group.create_task(self._answer(event))

    def _release(self) -> None:
        self._free += 1
        self._freed.set()

    async def _answer(self, event: Event) -> None:
        response = event.response
        try:
            if not _ROWS[event.type].reads:
                event.resolve(await self._ask_manager(event))
            elif not response.done():
                # It is cancelled when nobody waits any more: the caller is gone, or its time is over.
                withdrawn = partial(_cancel, self._open[response][1])
                response.add_done_callback(withdrawn)
                answer = await self._ask_manager(event)
                response.remove_done_callback(withdrawn)
                event.resolve(answer)
        finally:
            del self._open[response]
            self._release()
            _interrupt(event)

    def _at_hand(self, event: Event) -> EventResponse | ContestError | None:
        if event.msg is None or not _ROWS[event.type].reads:
            return None
        try:
            data = self._manager.at_hand(event.msg, event.context)
            return None if data is None else _response(event, data)
        # The same boundary as below.
        except Exception as error:
            return _failed(event, error)

    async def _ask_manager(self, event: Event) -> EventResponse | ContestError:
        try:
            if event.msg is None:
                raise TypeError(f"{event.type} without a message")
            return _response(event, await self._handler(event.type)(event.msg, event.context))
        # The one boundary per request between the job manager's code and the wires.
        except Exception as error:
            return _failed(event, error)

    def _handler(self, kind: EventType) -> Callable[[Any, Any], Awaitable[Any]]:
        if kind is EventType.WATCH:
            return self._subscribe
        handler: Callable[[Any, Any], Awaitable[Any]] = getattr(self._manager, _ROWS[kind].name)
        return handler

    async def _subscribe(self, message: Any, caller: Any) -> Any:
        return self._manager.watch(message, caller)


def _failed(event: Event, error: Exception) -> ContestError:
    """What is told of what a job manager raised: a refusal of its own, or that there was a fault, which is logged."""
    if isinstance(error, ContestError):
        return error
    request_id = event.context.request_id
    _log.error("request %s (%s) failed", request_id, event.type, exc_info=error)
    return InternalError(request_id=request_id)


def _response(event: Event, data: Any) -> EventResponse:
    assert event.msg is not None
    if not isinstance(data, ResponseData | EncodedJSON) and event.type is not EventType.WATCH:
        raise TypeError(f"the job manager answered {event.type} with a {type(data).__name__}")
    started = isinstance(data, ResponseDataStart | ResponseDataRetry)
    return EventResponse(
        requestor=event.msg.requestor,
        job_id=data.job_id if started else None,
        new_job_id=data.new_job_id if isinstance(data, ResponseDataRetry) else None,
        data=data,
    )


def _interrupt(event: Event) -> None:
    """The answer of what ended without one."""
    if not event.response.done():
        row = _ROWS[event.type]
        event.resolve(Interrupted(verb=row.name, reads=row.reads))


def _cancel(task: asyncio.Task[None], _response: asyncio.Future[EventResponse]) -> None:
    task.cancel()
