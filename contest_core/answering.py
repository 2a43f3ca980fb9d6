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
    """The consumer of one channel. `report_error` takes a listener's name and its fault outside a request."""

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
        self._room = asyncio.Semaphore(in_flight)
        self._report_error = report_error

    async def run(self) -> None:
        """Returns when the channel is closed and what was taken is answered.

        Cancelled, it cancels what is still being answered, and that gets `Interrupted`.
        """
        async with asyncio.TaskGroup() as group:
            try:
                while True:
                    await self._room.acquire()
                    self._take(await self._channel.take(), group)
            except ShuttingDown:
                return

    def _take(self, event: Event, group: asyncio.TaskGroup) -> None:
        if event.type is EventType.ERROR:
            self._room.release()
            self._report_error(event.context.listener, event.err)
            return
        task = group.create_task(self._answer(event))
        # Not in the task itself: one that is cancelled before its first step runs no `finally`.
        task.add_done_callback(partial(self._answered, event))
        if _ROWS[event.type].reads:
            # Nobody waits for it any more: the caller is gone, or its time is over.
            event.response.add_done_callback(lambda _: task.cancel())

    def _answered(self, event: Event, task: asyncio.Task[None]) -> None:
        self._room.release()
        if not event.response.done():
            row = _ROWS[event.type]
            event.resolve(Interrupted(verb=row.name, reads=row.reads))

    async def _answer(self, event: Event) -> None:
        message = event.msg
        try:
            if message is None:
                raise TypeError(f"{event.type} without a message")
            data = await self._handler(event.type)(message, event.context)
            response = _response(event, data)
        except ContestError as error:
            event.resolve(error)
        # The one boundary per request between the job manager's code and the wires.
        except Exception:
            request_id = event.context.request_id
            _log.exception("request %s (%s) failed", request_id, event.type)
            event.resolve(InternalError(request_id=request_id))
        else:
            event.resolve(response)

    def _handler(self, kind: EventType) -> Callable[[Any, Any], Awaitable[Any]]:
        if kind is EventType.WATCH:
            return self._subscribe
        handler: Callable[[Any, Any], Awaitable[Any]] = getattr(self._manager, _ROWS[kind].name)
        return handler

    async def _subscribe(self, message: Any, caller: Any) -> Any:
        return self._manager.watch(message, caller)


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
