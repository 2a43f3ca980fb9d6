"""The threads that read, each with a connection of its own.

A question is a function of a connection; it runs in one transaction, so it sees one state of everything. Called by
`Store` on the event loop. A question that nobody waits for any more, or that is being answered when the store is
closed, is ended in the middle: it holds up neither the others nor the end.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, CancelledError, get_running_loop
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from threading import Lock
from typing import Final, Generic, TypeVar

from sqlalchemy import Connection

from contest_runner.store.database import Database, Fault
from contest_runner.store.errors import StoreClosed, StoreError

T = TypeVar("T")

_AGAIN: Final = 0.05
"""Seconds until a question that is to end is interrupted again: it may have been between two statements."""


class _Question(Generic[T]):
    """One question on its way. The lock is held while its connection is given or taken, and to interrupt it."""

    def __init__(self, ask: Callable[[Connection], T]) -> None:
        self.ask = ask
        self.lock = Lock()
        self.connection: Connection | None = None
        """Set while it is being answered."""
        self.over = False
        """Nobody waits for the answer."""


class Readers:
    """As many threads as the database has connections for reading."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._free: SimpleQueue[Connection] = SimpleQueue()
        for connection in database.readers:
            self._free.put(connection)
        self._pool = ThreadPoolExecutor(len(database.readers), "contest-store-reader")
        self._open: set[_Question[object]] = set()
        """Those that are not answered yet; only the event loop looks at it."""
        self._closed = False

    async def ask(self, question: Callable[[Connection], T]) -> T:
        """The answer. Cancelled, it ends what the database is doing for it.

        Raises StoreClosed, and StoreError where the database cannot be read; any other error of the database is
        a fault of the question, and raised as it is.
        """
        if self._closed:
            raise StoreClosed
        asked = _Question(question)
        loop = get_running_loop()
        answer = loop.run_in_executor(self._pool, self._answer, asked)
        self._open.add(asked)  # type: ignore[arg-type]  # a set of questions of any kind
        try:
            return await answer
        except CancelledError:
            self._end(asked, loop)
            raise
        finally:
            self._open.discard(asked)

    def _answer(self, asked: _Question[T]) -> T:
        connection = self._free.get()
        try:
            # Beginning and ending a transaction are not interrupted: that would leave the connection in the middle.
            with connection.begin():
                with asked.lock:
                    if asked.over:
                        raise StoreClosed
                    asked.connection = connection
                try:
                    return asked.ask(connection)
                finally:
                    with asked.lock:
                        asked.connection = None
        except self._database.errors as error:
            if asked.over:
                raise StoreClosed from error
            if self._database.fault(error) is Fault.REFUSED:
                raise
            raise StoreError(self._database.explain(error)) from error
        finally:
            self._free.put(connection)

    def _end(self, asked: _Question[T], loop: AbstractEventLoop) -> None:
        """Ends the question: at once where it is being answered, else before it is."""
        with asked.lock:
            asked.over = True
            if asked.connection is None:
                return
            self._database.interrupt(asked.connection)
        loop.call_later(_AGAIN, self._end, asked, loop)

    async def close(self) -> None:
        """End the questions that are being answered, and the threads."""
        self._closed = True
        loop = get_running_loop()
        for asked in self._open:
            self._end(asked, loop)
        await loop.run_in_executor(None, self._pool.shutdown)
