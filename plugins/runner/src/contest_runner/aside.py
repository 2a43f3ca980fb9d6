"""Does long work in a thread, one piece at a time, so that the loop answers others meanwhile.

The job manager reads large descriptors here. Small ones are done in the loop, so many in a turn of it: a thread would
cost more than they do.
"""

from __future__ import annotations

import asyncio
import gc
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from threading import Lock
from typing import Final, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

LARGE: Final = 256 * 1024
"""Characters of a descriptor from which on a thread reads it: some milliseconds of the loop."""

SMALL_AT_ONCE: Final = 32
"""Small descriptors that are read in one turn of the loop: of a thousand jobs at once the first is stored meanwhile."""


class Aborted(Exception):
    """Nobody waits for the work any more."""


class Work:
    """One piece of work, here or in a thread."""

    def __init__(self, *, threaded: bool = False) -> None:
        self._threaded = threaded
        self._aborted = False

    async def do(self, call: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """What the call gives or raises. Cancelled, it returns at once; `check` ends what goes on in the thread."""
        if not self._threaded:
            return call(*arguments, **named)
        try:
            return await asyncio.to_thread(call, *arguments, **named)
        except asyncio.CancelledError:
            self._aborted = True
            raise

    def check(self) -> None:
        """For what takes long, to call now and then. Raises `Aborted`."""
        if self._aborted:
            raise Aborted


class _Collector:
    """Keeps the garbage collector, which is the process's, from looking while anybody wants it so.

    What is read has no cycles and is a million objects; walking them holds the loop for seconds, in any thread.
    """

    def __init__(self) -> None:
        self._wanted = 0
        self._was_on = False
        self._lock = Lock()

    @contextmanager
    def off(self) -> Iterator[None]:
        with self._lock:
            self._wanted += 1
            if self._wanted == 1:
                self._was_on = gc.isenabled()
                gc.disable()
        try:
            yield
        finally:
            with self._lock:
                self._wanted -= 1
                if not self._wanted and self._was_on:
                    gc.enable()


_COLLECTOR: Final = _Collector()


class _Turns:
    """Lets so many through in each turn of the loop, in the order in which they come."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._through = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def wait(self) -> None:
        if not self._through:
            asyncio.get_running_loop().call_soon(self._next)
        if self._through < self._at_once:
            self._through += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        await turn

    def _next(self) -> None:
        self._through = 0
        while self._waiting and self._through < self._at_once:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                self._through += 1
        if self._through:
            asyncio.get_running_loop().call_soon(self._next)


class Aside:
    """Where work waits its turn: two large ones at once would take as long, and twice the memory."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._turns = _Turns(SMALL_AT_ONCE)
        self._slow_turn = asyncio.Lock()

    @asynccontextmanager
    async def work(self, size: int) -> AsyncIterator[Work]:
        """Work on so many characters."""
        if size <= LARGE:
            await self._turns.wait()
            yield Work()
            return
        async with self._turn:
            with _COLLECTOR.off():
                yield Work(threaded=True)

    @asynccontextmanager
    async def slow(self) -> AsyncIterator[Work]:
        """Work that may be slow however small it is: in a thread, one at a time, and nothing else waits for it."""
        async with self._slow_turn:
            yield Work(threaded=True)
