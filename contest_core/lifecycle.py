"""The life of a server: runs the listeners and the job manager, and ends in order.

Made by `contest_core.server.open_server`; requests are answered by `contest_core.answering`. The end is the same
on every path, a signal, the end of input, a fault:

1. new jobs are refused, all else is still answered;
2. the job manager is told how to end, and a harder word overtakes;
3. when it has ended, nothing more is taken, what waits is refused, and `stopping()` returns in every listener;
4. what is in flight is finished within the grace;
5. the rest is cancelled, and cancelled means now: taken requests get `Interrupted`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Final, Self

from contest_core.answering import Answering
from contest_core.api import API
from contest_core.caller import Authenticator
from contest_core.contexts import ListenerSide, ManagerSide
from contest_core.errors import Exposed, ShuttingDown
from contest_core.job_manager import JobManager, Termination
from contest_core.listener import Listener
from contest_core.server import ListenerOptions, ServerOptions, StartError
from contest_core.verbs import VERBS

_log = logging.getLogger("contest.server")

LAST_WORD: Final = 1.0
"""Seconds that listeners have at the least, after the last request was answered, to send that answer."""


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
            capabilities=frozenset(),
            trusted=[name for name, given in listener_options.items() if given.trust],
        )
        self.errors_reported = 0
        """Faults outside requests that listeners have reported."""
        self._authenticators = authenticators
        self._listeners = dict(listeners)
        self._manager_side = ManagerSide(self.api.server_id, options, self._offer)
        self._sides = {
            name: ListenerSide(name, listener_options.get(name, ListenerOptions()), self)
            for name in listeners
        }
        self._answering = Answering(
            manager, self.api.events, in_flight=options.in_flight, report_error=self.count_error
        )
        self._started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._failure: Exception | None = None
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

    @property
    def ending(self) -> bool:
        """True from the first word of the end on."""
        return self._manager_side.halted.done()

    def readiness(self) -> str | None:
        """None while every part works, else the reasons why not."""
        if self.ending:
            return "shutting down"
        if not self._started.done():
            return "starting"
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
        if not self._started.done():
            raise self._failure or StartError("the server was told to end before it was ready")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._leave()
        if self._failure is not None and self._failure is not error:
            if error is None:
                raise self._failure
            _log.error("beside that, the server failed: %s", self._failure, exc_info=self._failure)

    async def _leave(self) -> None:
        self.terminate(self.options.at_exit)
        assert self._life is not None
        try:
            await asyncio.wait([self._life])
        except asyncio.CancelledError:
            self._life.cancel()
            await asyncio.wait([self._life])
            raise

    def _offer(self) -> None:
        self.api.offer(self.manager.capabilities())

    # --- its life

    async def _live(self) -> None:
        try:
            async with AsyncExitStack() as stack:
                self._claim(stack)
                await self._enter(stack)
                async with asyncio.TaskGroup() as group:
                    await self._run(group)
        # The outermost boundary: whoever opened the server is told, in `wait` and on leaving.
        except Exception as error:
            self._fail(error)
        finally:
            self._close()

    def _claim(self, stack: AsyncExitStack) -> None:
        for name, listener in self._listeners.items():
            try:
                stack.enter_context(listener.claim())
            # The boundary to a listener's code, as in `_listen`: it is named.
            except Exception as error:
                raise StartError(_words(name, error)) from error

    async def _enter(self, stack: AsyncExitStack) -> None:
        for authenticator in self._authenticators:
            try:
                async with asyncio.timeout(self.options.start_timeout):
                    await stack.enter_async_context(authenticator)
            except TimeoutError:
                raise self._too_late([f"authenticator {type(authenticator).__name__}"]) from None

    async def _run(self, group: asyncio.TaskGroup) -> None:
        answering = group.create_task(self._answering.run(), name="answering")
        manager = group.create_task(self._manage(), name="job manager")
        serving: list[asyncio.Task[None]] = []
        if await self._ready([self._manager_side], [manager]):
            serving = [
                group.create_task(self._listen(name), name=f"listener {name}") for name in self._listeners
            ]
            if await self._ready(list(self._sides.values()), serving):
                self._started.set_result(None)
        # A job manager that never was ready may be stuck, and has nothing to finish.
        await _finish([manager], None if self._manager_side.is_ready.done() else self.options.grace)
        self._close()
        for side in self._sides.values():
            side.stop()
        loop = asyncio.get_running_loop()
        end = loop.time() + self.options.grace
        await _finish([answering], self.options.grace)
        await _finish(serving, max(end - loop.time(), LAST_WORD))

    def _close(self) -> None:
        self._manager_side.end()
        self.api.refuse(*VERBS)
        self.api.events.close(ShuttingDown)

    async def _ready(
        self, sides: Sequence[ListenerSide | ManagerSide], tasks: Sequence[asyncio.Task[None]]
    ) -> bool:
        """Waits until all are ready. Tells the server to end, and says false, where that will not be."""
        late = dict(zip(tasks, sides, strict=True))
        halted = self._manager_side.halted
        try:
            async with asyncio.timeout(self.options.start_timeout):
                while late and not halted.done():
                    waiting = [halted, *late, *(side.is_ready for side in late.values())]
                    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                    late = {task: side for task, side in late.items() if not side.is_ready.done()}
                    if dead := [task.get_name() for task in late if task.done()]:
                        self._fail_first(f"{dead[0]} ended before it was ready")
                        break
        except TimeoutError:
            self._fail(self._too_late(_and_why(task, side) for task, side in late.items()))
        # Told to end or not: an input that is at its end as soon as it is open does not fail the start.
        if not late and self._failure is None:
            return True
        if self._manager_side.ended.is_set():
            self._fail_first("the job manager ended before the server was ready")
        self.terminate(Termination.CANCEL)
        return False

    def _too_late(self, names: Iterable[str]) -> StartError:
        return StartError(f"{', '.join(names)} was not ready within {self.options.start_timeout:g} s")

    def _fail_first(self, what: str) -> None:
        if self._failure is None:
            self._failure = StartError(what)

    def _fail(self, error: Exception) -> None:
        # A group of one is the task group's wrapping, of which nobody who opens a server knows.
        while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        if self._failure is None:
            self._failure = error
        else:
            _log.error("beside that, the server failed: %s", error, exc_info=error)

    async def _manage(self) -> None:
        try:
            await self.manager.serve(self._manager_side)
        # The boundary to the job manager's code: raising is "it can serve no longer", and ends the server.
        except Exception as error:
            self._fail(error)
        finally:
            self.api.refuse("start", "retry")
            self._manager_side.end()

    async def _listen(self, name: str) -> None:
        side = self._sides[name]
        try:
            await self._listeners[name].serve(self.api, side)
        # The boundary to a listener's code: raising ends the server with that error.
        except Exception as error:
            self._fail(error if side.is_ready.done() else _start_error(name, error))
            self.terminate(Termination.CANCEL)
        finally:
            side.active = False

    # --- what a listener's side asks

    def count_error(self, listener: str, error: Exception | None) -> None:
        """A listener's fault outside a request."""
        self.errors_reported += 1
        _log.error("listener %s: %s", listener, error, exc_info=error)

    def is_last(self, side: ListenerSide) -> bool:
        """Whether no other listener is still serving."""
        return not any(other.active for other in self._sides.values() if other is not side)

    async def manager_ended(self) -> None:
        """Returns when the job manager has ended."""
        await self._manager_side.ended.wait()


def _start_error(listener: str, error: Exception) -> Exception:
    if isinstance(error, Exposed):
        return error  # it names the listener, and says what to do
    start_error = StartError(_words(listener, error))
    start_error.__cause__ = error
    return start_error


def _words(listener: str, error: Exception) -> str:
    return f"listener {listener}: {str(error) or type(error).__name__}"


def _and_why(task: asyncio.Task[None], side: ListenerSide | ManagerSide) -> str:
    return task.get_name() + (f" ({side.reason})" if side.reason else "")


async def _finish(tasks: Collection[asyncio.Task[None]], seconds: float | None) -> None:
    """Waits for the tasks, so long; then cancels what is left, and waits for that."""
    if not tasks:
        return
    _, late = await asyncio.wait(tasks, timeout=seconds)
    for task in late:
        task.cancel()
    if late:
        await asyncio.wait(late)
