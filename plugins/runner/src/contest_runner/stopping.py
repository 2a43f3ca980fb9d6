"""How a step is told to stop, and why: what `context.stopping` is."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Any

from contest_runner.step import Stopped

_log = logging.getLogger("contest.step")
_flags = threading.Lock()
"""Held while a flag is made or set, so that none is missed."""


class StopReason(StrEnum):
    """Why a step shall stop."""

    STOP = "stop"
    """Somebody stopped the job."""
    PAUSE = "pause"
    """The job goes on later."""
    LOCK_LOST = "lock lost"
    """The target belongs to somebody else now."""
    LEASE_LOST = "lease lost"
    """The job belongs to another server now."""
    PROGRAM_ENDS = "the program ends"
    TIME_UP = "the time is up"
    """Of the cleanup: the job itself may go on."""


class Stopping:
    """Await it to sleep until the step shall stop; `check` raises `Stopped` then; `why` says why.

    `why` and `check` may be used from any thread, as may `wait`.
    """

    __slots__ = ("_callbacks", "_children", "_flag", "_waiters", "why")

    def __init__(self) -> None:
        self.why: StopReason | None = None
        self._waiters: list[asyncio.Future[None]] = []
        self._callbacks: list[Callable[[], None]] = []
        self._flag: threading.Event | None = None
        """What threads wait for; made by the first that does."""
        self._children: set[Stopping] = set()

    def child(self) -> Stopping:
        """One that is told what this one is told, and may be told something by itself; until `forget`."""
        child = Stopping()
        if self.why is not None:
            child.set(self.why)
        else:
            self._children.add(child)
        return child

    def forget(self, child: Stopping) -> None:
        """The child is told nothing any more."""
        self._children.discard(child)

    def check(self) -> None:
        """Raises `Stopped` where the step shall stop."""
        if self.why is not None:
            raise Stopped(self.why.value)

    def __await__(self) -> Generator[Any, None, StopReason]:
        while self.why is None:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                yield from waiter.__await__()
            finally:
                if waiter in self._waiters:
                    self._waiters.remove(waiter)
        return self.why

    async def within(self, seconds: float) -> StopReason | None:
        """Sleeps until the step shall stop, or so many seconds; why it shall stop, if it shall."""
        try:
            async with asyncio.timeout(seconds):
                return await self
        except TimeoutError:
            return None

    @contextmanager
    def calling(self, callback: Callable[[], None]) -> Iterator[None]:
        """Calls back, on the loop, when the step shall stop while the context is entered; at once if it shall."""
        if self.why is not None:
            callback()
            yield
            return
        self._callbacks.append(callback)
        try:
            yield
        finally:
            if callback in self._callbacks:
                self._callbacks.remove(callback)

    def wait(self, seconds: float | None = None) -> bool:
        """For threads: blocks until the step shall stop, or so many seconds; whether it shall."""
        with _flags:
            flag = self._flag = self._flag or threading.Event()
            if self.why is not None:
                flag.set()
        return flag.wait(seconds)

    def set(self, why: StopReason) -> None:
        """Says it; the first reason stays."""
        if self.why is not None:
            return
        self.why = why
        with _flags:
            if self._flag is not None:
                self._flag.set()
        children, self._children = self._children, set()
        for child in children:
            child.set(why)
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            try:
                callback()
            # A step's own code: its fault is no reason not to tell the other steps.
            except Exception:
                _log.exception("a step's callback failed when it was told to stop")
