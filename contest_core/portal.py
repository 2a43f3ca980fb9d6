"""An event loop in a thread of its own, for programs that have none: what `connect_sync` stands on.

Used by `contest_core.client_sync`. Every call waits in the calling thread until its coroutine has ended there. It knows
nothing of Contest.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

T = TypeVar("T")

_Wanted = asyncio.Queue["Future[tuple[T] | None] | None"]
"""Items that were asked for, each to be resolved with one in a tuple, or with None at the end; None is "leave"."""


class Portal:
    """Entered, it has a loop; left, whatever still ran there is cancelled and the thread has ended."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._loop: asyncio.AbstractEventLoop | None = None
        # A daemon: a program that is torn down without leaving the portal ends all the same.
        self._thread = threading.Thread(target=self._run, name="contest client", daemon=True)
        self._running: Future[None] = Future()
        self._stop: asyncio.Event | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        self._running.result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self) -> None:
        with self._runner:
            self._runner.run(self._live())

    async def _live(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._running.set_result(None)
        await self._stop.wait()

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine to its end; interrupted, for example by Ctrl-C, it is cancelled."""
        assert self._loop is not None
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    @contextmanager
    def iterate(self, context: AbstractAsyncContextManager[AsyncIterator[T]]) -> Iterator[Iterator[T]]:
        """Enters a context that gives an iterator, and gives the iterator.

        One task enters, iterates and leaves, since there are contexts that no other task may leave.
        """
        assert self._loop is not None
        wanted: _Wanted[T] = asyncio.Queue()
        entered: Future[None] = Future()
        task = asyncio.run_coroutine_threadsafe(_serve(context, entered, wanted), self._loop)
        _first_of(entered, task)
        if task.done():
            task.result()
        try:
            yield self._items(wanted, task)
        finally:
            self._loop.call_soon_threadsafe(wanted.put_nowait, None)
            task.result()

    def _items(self, wanted: _Wanted[T], task: Future[None]) -> Iterator[T]:
        assert self._loop is not None
        while not task.done():
            item: Future[tuple[T] | None] = Future()
            self._loop.call_soon_threadsafe(wanted.put_nowait, item)
            _first_of(item, task)
            found = item.result() if item.done() else None
            if found is None:
                return
            yield found[0]


def _first_of(*futures: Future[Any]) -> None:
    wait(futures, return_when=FIRST_COMPLETED)


async def _serve(
    context: AbstractAsyncContextManager[AsyncIterator[T]],
    entered: Future[None],
    wanted: _Wanted[T],
) -> None:
    async with context as items, asyncio.TaskGroup() as group:
        entered.set_result(None)
        giving: asyncio.Task[None] | None = None
        while (item := await wanted.get()) is not None:
            giving = group.create_task(_give(items, item))
        if giving is not None:
            # Whoever asked was interrupted while it waited, and leaves.
            giving.cancel()


async def _give(items: AsyncIterator[T], item: Future[tuple[T] | None]) -> None:
    try:
        item.set_result((await anext(items),))
    except StopAsyncIteration:
        item.set_result(None)
    # Carried to the thread that asked for the item, where it is raised.
    except Exception as error:
        item.set_exception(error)
