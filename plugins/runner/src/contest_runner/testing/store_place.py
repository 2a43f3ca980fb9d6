"""Where a case of a store happens: stores over one database, one after the other, with a clock that stands still."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from contest_core.testing import Complaints
from contest_runner.store import JobEnd, Lease, NewJob, Store
from contest_runner.store.locker import Locker

T = TypeVar("T")

LOG: Final = logging.getLogger("contest.store.kit")

SECONDS = 10.0
"""To wait for anything that has to happen."""

START: Final = 1_700_000_000_000_000
"""When a case begins, in microseconds since the epoch."""

MINUTE: Final = 60_000_000
"""In microseconds: how long the locks of a case hold."""


class Clock:
    """Stands still until a case moves it."""

    def __init__(self) -> None:
        self.now = START
        """In microseconds since the epoch."""

    def __call__(self) -> int:
        return self.now

    def advance(self, seconds: float) -> None:
        """So many seconds pass."""
        self.now += int(seconds * 1_000_000)


class StorePlace:
    """One case's directory and database."""

    def __init__(
        self,
        open_store: Callable[[Path, Clock], Awaitable[Store]],
        open_locker: Callable[..., Awaitable[Locker]],
        directory: Path,
        complaints: Complaints,
    ) -> None:
        self.clock = Clock()
        self.lost: list[tuple[int, int, list[str]]] = []
        """What the locker has told of locks that were lost: job, token, targets."""
        self._open_store = open_store
        self._open_locker = open_locker
        self.directory = directory
        self._complaints = complaints
        self._waiting: list[asyncio.Task[int]] = []

    def expect_errors(self) -> None:
        """What Contest logs as an error in this case is meant to be."""
        self._complaints.expected = True

    async def open(self) -> Store:
        """The store of this case, for who closes it; the same one when it is opened again."""
        return await self._open_store(self.directory, self.clock)

    @asynccontextmanager
    async def store(self) -> AsyncIterator[Store]:
        """The store of this case."""
        opened = await self.open()
        try:
            yield opened
        finally:
            await opened.aclose()

    async def locker(self, store: Store, duration: float = 60.0) -> Locker:
        """A locker over a store, opened, for who closes it."""
        return await self._open_locker(
            store,
            duration=duration,
            on_lost=lambda job, token, targets: self.lost.append((job, token, list(targets))),
        )

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[tuple[Store, Locker]]:
        """The store of this case, and a locker over it."""
        async with self.store() as store:
            locker = await self.locker(store)
            try:
                yield store, locker
            finally:
                for task in self._waiting:
                    task.cancel()
                await asyncio.gather(*self._waiting, return_exceptions=True)
                locker.close()

    async def waiting(
        self, locker: Locker, job_id: int, targets: Sequence[str], count: int | None = None
    ) -> asyncio.Task[int]:
        """A job that is known to wait; the task gives its token. What still waits at the end is given up."""
        began = asyncio.Event()

        async def acquire() -> int:
            got = await locker.acquire(
                job_id, targets, count=count, on_waiting=lambda waiter: began.set() if waiter else None
            )
            return got.token

        task = asyncio.create_task(acquire())
        self._waiting.append(task)
        await within(began.wait())
        return task


def new_job(**changed: Any) -> NewJob:
    """A job as it is handed in."""
    values: dict[str, Any] = {
        "name": "boot",
        "requestor": "ann",
        "server_id": "lab-1",
        "request_time": START,
        "state": 0,
        "descriptor": '{"JobName": "boot"}',
        "plan": '{"tests": []}',
        "plan_format": 1,
    }
    return NewJob(**{**values, **changed})


def ended(state: int = 2, verdict: str = "passed") -> JobEnd:
    """How a job ended."""
    return JobEnd(state=state, verdict=verdict, flaky=False, error=None, blame=None, end_time=START + 9)


async def owned(store: Store, **changed: Any) -> Lease:
    """The lease of a new job."""
    created = await store.create_job(new_job(**changed))
    lease = await store.claim(created.job_id, "me", 30)
    assert isinstance(lease, Lease)
    return lease


def append(store: Store, job_id: int, sequence: int, **changed: Any) -> None:
    """Something happens in a job."""
    values: dict[str, Any] = {
        "run_id": 1,
        "test": "boot",
        "phase": "test",
        "attempt": 0,
        "step": "power on",
        "target": "board-1",
        "name": "TargetIn",
        "time": START,
        "payload": None,
        "token": 3,
    }
    store.append(job_id, sequence, **{**values, **changed})


async def lock_rows(store: Store) -> list[tuple[str, int, int]]:
    """The locks that are on disk: target, job, token."""
    statement = "SELECT target_id, job_id, token FROM locks ORDER BY target_id"
    found = await store.read(lambda connection: connection.exec_driver_sql(statement).all())
    return [(row[0], row[1], row[2]) for row in found]


async def within(work: Awaitable[T]) -> T:
    """The result of what has to be done in time."""
    try:
        async with asyncio.timeout(SECONDS):
            return await work
    except TimeoutError as error:
        raise AssertionError(f"it did not happen within {SECONDS:g} s") from error


async def settle() -> None:
    """Lets those go on who can."""
    for _ in range(5):
        await asyncio.sleep(0)
