"""The threads that read, each with a connection of its own.

A question is a function of a connection; it runs in one transaction, so it sees one state of everything. Called by
`Store` on the event loop.
"""

from __future__ import annotations

from asyncio import get_running_loop
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import TypeVar

from sqlalchemy import Connection

from contest_runner.store.database import Database
from contest_runner.store.errors import StoreClosed, StoreError

T = TypeVar("T")


class Readers:
    """As many threads as the database has connections for reading."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._free: SimpleQueue[Connection] = SimpleQueue()
        for connection in database.readers:
            self._free.put(connection)
        self._pool = ThreadPoolExecutor(len(database.readers), "contest-store-reader")
        self._closed = False

    async def ask(self, question: Callable[[Connection], T]) -> T:
        """The answer. Raises StoreError where the database cannot be read."""
        if self._closed:
            raise StoreClosed
        return await get_running_loop().run_in_executor(self._pool, self._ask, question)

    def _ask(self, question: Callable[[Connection], T]) -> T:
        connection = self._free.get()
        try:
            with connection.begin():
                return question(connection)
        except self._database.errors as error:
            if self._closed:
                raise StoreClosed from error
            raise StoreError(self._database.explain(error)) from error
        finally:
            self._free.put(connection)

    async def close(self) -> None:
        """End the questions that are being answered, and the threads."""
        self._closed = True
        self._database.interrupt()
        await get_running_loop().run_in_executor(None, self._pool.shutdown)
