"""The life of a server: runs the listeners and the job manager, answers events, and ends in order.

Made by `contest_core.server.open_server`. The end is the same on every path, a signal, the end of input, a fault:

1. new jobs are refused, all else is still answered;
2. the job manager is told how to end, and a harder word overtakes;
3. when it has ended, what is in flight is finished within the grace and nothing more is taken;
4. `stopping()` returns in every listener; they finish within the grace;
5. the rest is cancelled, and cancelled means now: taken requests get `Interrupted`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self

from contest_core.api import API
from contest_core.caller import Authenticator
from contest_core.contexts import ListenerSide, ManagerSide
from contest_core.errors import (
    ContestError,
    InternalError,
    Interrupted,
    Refusal,
    RequestError,
    ShuttingDown,
)
from contest_core.events import Event, EventResponse, EventType
from contest_core.job_manager import JobManager, Termination
from contest_core.listener import Listener
from contest_core.responses import ResponseDataRetry, ResponseDataStart
from contest_core.server import ListenerOptions, ServerOptions
from contest_core.verbs import VERBS

_log = logging.getLogger("contest.server")

_READS = frozenset(verb.event for verb in VERBS.values() if verb.reads)


class StartError(Exception):
    """A listener or the job manager ended, or was not ready in time, before the server was."""


class Server:
    """A running server. Entered when everything is ready; see `open_server`."""

    def __init__(
        self,
        manager: JobManager,
        *,
        listeners: Mapping[str, Listener],
        listener_options: Mapping[str, ListenerOptions],
        authenticators: Sequence[Authenticator],
        options: ServerOptions,
    ) -> None:
        self.manager = manager
        self.options = options
        self.api = API(
            event_timeout=options.event_timeout,
            server_id=options.server_id,
            authenticators=authenticators,
            capabilities=manager.capabilities(),
        )
        self.errors_reported = 0
        """Faults outside requests that listeners have reported."""
        self._authenticators = authenticators
        self._listeners = dict(listeners)
        self._manager_side = ManagerSide(self.api.server_id, options.directory, options.plugins)
        self._sides = {
            name: ListenerSide(name, listener_options.get(name, ListenerOptions()), self)
            for name in listeners
        }
        self._answering: set[asyncio.Task[None]] = set()
        self._started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._failure: BaseException | None = None
        self._room = asyncio.Semaphore(options.in_flight)
        self._life: asyncio.Task[None] | None = None

    # --- what the program calls

    @property
    def addresses(self) -> dict[str, tuple[str, ...]]:
        """Where each listener accepts requests."""
        return {name: side.addresses for name, side in self._sides.items()}

    @property
    def exposed_anonymously(self) -> bool:
        """True where nobody has to prove who they are."""
        return not self._authenticators

    def terminate(self, how: Termination) -> None:
        """Begins the end, or makes it harder; returns at once."""
        self.api.refuse("start", "retry")
        self._manager_side.terminate(how)

    async def wait(self) -> None:
        """Returns when the server has ended; raises what ended it, if it was a fault."""
        if self._life is not None:
            await asyncio.wait([self._life])
        if self._failure is not None:
            raise self._failure

    def readiness(self) -> str | None:
        """None while every part works, else the reasons why not."""
        if not self._started.done():
            return "starting"
        if self._manager_side.termination is not None:
            return "shutting down"
        sides = [self._manager_side, *self._sides.values()]
        return "; ".join(side.reason for side in sides if side.reason) or None

    async def __aenter__(self) -> Self:
        # The one task without a group: a group would wrap what the caller's own block raises.
        self._life = asyncio.get_running_loop().create_task(self._live(), name="contest server")
        try:
            await asyncio.wait([self._life, self._started], return_when=asyncio.FIRST_COMPLETED)
        except BaseException:
            await self._leave()
            raise
        if self._failure is not None:
            await self.wait()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._leave()
        if self._failure is not None and error is None:
            raise self._failure

    async def _leave(self) -> None:
        self.terminate(self.options.at_exit)
        assert self._life is not None
        while not self._life.done():
            try:
                await asyncio.wait([self._life])
            except asyncio.CancelledError:
                self._life.cancel()
                await asyncio.wait([self._life])
                raise

    # --- its life

    async def _live(self) -> None:
        try:
            async with AsyncExitStack() as stack:
                for authenticator in self._authenticators:
                    await stack.enter_async_context(authenticator)
                async with asyncio.TaskGroup() as group:
                    await self._run(group)
        # The outermost boundary: whoever opened the server is told, in `wait` and on leaving.
        except Exception as error:
            self._fail(error)
        finally:
            self._manager_side.ended.set()

    async def _run(self, group: asyncio.TaskGroup) -> None:
        manager = group.create_task(self._manage(), name="job manager")
        if not await self._ready([self._manager_side], [manager]):
            return
        consumer = group.create_task(self._consume(group), name="consumer")
        serving = [group.create_task(self._listen(name), name=f"listener {name}") for name in self._listeners]
        if await self._ready(self._sides.values(), serving):
            self._started.set_result(None)
        await self._manager_side.ended.wait()
        self.api.refuse(*VERBS)
        consumer.cancel()
        self.api.events.withdraw_all(ShuttingDown())
        await _finish(self._answering, self.options.grace)
        for side in self._sides.values():
            side.stop()
        await _finish(serving, self.options.grace)

    async def _ready(
        self, sides: Sequence[ListenerSide | ManagerSide] | Any, tasks: Sequence[asyncio.Task[None]]
    ) -> bool:
        """Waits until all are ready. Ends the server, and says false, where one cannot be."""
        waiting = [side.is_ready for side in sides]
        try:
            async with asyncio.timeout(self.options.start_timeout):
                for ready, task in zip(waiting, tasks, strict=True):
                    await asyncio.wait([task, ready], return_when=asyncio.FIRST_COMPLETED)
                    if not ready.done():
                        if self._failure is None:
                            self._fail(StartError(f"{task.get_name()} ended before it was ready"))
                        break
                else:
                    return True
        except TimeoutError:
            late = [task.get_name() for ready, task in zip(waiting, tasks, strict=True) if not ready.done()]
            seconds = self.options.start_timeout
            self._fail(StartError(f"{', '.join(late)} was not ready within {seconds:g} s"))
        self.terminate(Termination.CANCEL)
        return False

    def _fail(self, error: Exception) -> None:
        if self._failure is None:
            self._failure = error
        elif self._failure is not error:
            _log.error("then also: %s", error, exc_info=error)

    async def _manage(self) -> None:
        try:
            await self.manager.serve(self._manager_side)
        # The boundary to the job manager's code: raising is "it can serve no longer", and ends the server.
        except Exception as error:
            self._fail(error)
        finally:
            self.api.refuse("start", "retry")
            self._manager_side.ended.set()

    async def _listen(self, name: str) -> None:
        side = self._sides[name]
        try:
            await self._listeners[name].serve(self.api, side)
        # The boundary to a listener's code: raising ends the server with that error.
        except Exception as error:
            self._fail(error)
            self.terminate(Termination.CANCEL)
        finally:
            side.active = False

    # --- events

    async def _consume(self, group: asyncio.TaskGroup) -> None:
        while True:
            await self._room.acquire()
            event = await self.api.events.take()
            if event.type is EventType.ERROR:
                self._room.release()
                self.count_error(event.context.listener, event.err)
                continue
            task = group.create_task(self._answer(event))
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)
            if event.type in _READS:
                event.response.add_done_callback(_Withdrawal(task))

    async def _answer(self, event: Event) -> None:
        assert event.msg is not None
        handler = self._handler(event.type)
        try:
            data = await handler(event.msg, event.context)
            event.resolve(_answered(event, data))
        except ContestError as error:
            event.resolve(_refused(event, error))
        except asyncio.CancelledError:
            event.resolve(Interrupted())
            raise
        # The one boundary per request between the job manager's code and the wires.
        except Exception:
            request_id = event.context.request_id
            _log.exception("request %s (%s) failed", request_id, event.type)
            event.resolve(InternalError(request_id=request_id))
        finally:
            self._room.release()

    def _handler(self, kind: EventType) -> Callable[[Any, Any], Awaitable[Any]]:
        if kind is EventType.WATCH:
            return self._subscribe
        handler: Callable[[Any, Any], Awaitable[Any]] = getattr(self.manager, kind.name.lower())
        return handler

    async def _subscribe(self, message: Any, caller: Any) -> Any:
        return self.manager.watch(message, caller)

    def count_error(self, listener: str, error: Exception | None) -> None:
        """A listener's fault outside a request."""
        self.errors_reported += 1
        _log.error("listener %s: %s", listener, error, exc_info=error)

    # --- what a listener's side asks

    def is_last(self, side: ListenerSide) -> bool:
        """Whether no other listener is still serving."""
        return not any(other.active for other in self._sides.values() if other is not side)

    async def manager_ended(self) -> None:
        """Returns when the job manager has ended."""
        await self._manager_side.ended.wait()


class _Withdrawal:
    """Cancels the answering of a request that only reads when its caller has gone away."""

    __slots__ = ("task",)

    def __init__(self, task: asyncio.Task[None]) -> None:
        self.task = task

    def __call__(self, response: asyncio.Future[EventResponse]) -> None:
        if response.cancelled():
            self.task.cancel()


async def _finish(tasks: Sequence[asyncio.Task[None]] | set[asyncio.Task[None]], grace: float) -> None:
    if not tasks:
        return
    _, late = await asyncio.wait(list(tasks), timeout=grace)
    for task in late:
        task.cancel()
    if late:
        await asyncio.wait(late)


def _answered(event: Event, data: Any) -> EventResponse:
    assert event.msg is not None
    started = isinstance(data, ResponseDataStart | ResponseDataRetry)
    return EventResponse(
        requestor=event.msg.requestor,
        job_id=data.job_id if started else None,
        new_job_id=data.new_job_id if isinstance(data, ResponseDataRetry) else None,
        data=data,
    )


def _refused(event: Event, error: ContestError) -> EventResponse | ContestError:
    """A refusal is an answer; anything else did not come from the job manager's judgement."""
    assert event.msg is not None
    if isinstance(error, Refusal | RequestError):
        return EventResponse(requestor=event.msg.requestor, err=error)
    return error
