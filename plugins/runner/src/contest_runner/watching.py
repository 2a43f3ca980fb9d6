"""Watches: job events from the store's feed, as they are committed, and the cursors that resume them."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from msgspec import Raw

from contest_core import (
    Cursor,
    EventData,
    Gap,
    Header,
    JobEvent,
    JobState,
    TargetInfo,
    UnknownJob,
    Watch,
)
from contest_runner.cursors import make_cursor, read_cursor
from contest_runner.refusals import refuses_for_store
from contest_runner.store import EventRow, Store, StoreError
from contest_runner.times import moment

if TYPE_CHECKING:
    from contest_runner.store import Changes

_PAGE: Final = 500
"""Events read together: what one watch holds in memory."""

_ENDS = frozenset(f"JobState{name}" for name in ("Completed", "Failed", "Cancelled", "CancellationFailed"))


_LAST_READ: Final = 1.0
"""Seconds that readers have at the end of a server to take what they have not read."""

_LOOK: Final = 0.01


class Watches:
    """The watches of a store that are read just now."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._reading: set[StoreWatch] = set()

    def make(self, job_id: int | None, since: Cursor | None) -> StoreWatch:
        """A watch; raises `InvalidParameters` for a cursor of another store or feed."""
        return StoreWatch(self._store, job_id, since, self._reading)

    async def finish(self) -> None:
        """Returns when all have read what there is; those that do not read are not waited for long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_READ):
                await asyncio.sleep(_LOOK)  # lets those come to their turn that the last commit has woken
                while not all(watch.waiting for watch in self._reading):  # noqa: ASYNC110 the end, once
                    await asyncio.sleep(_LOOK)


class StoreWatch(Watch):
    """One reader of the feed; its own context manager."""

    def __init__(
        self, store: Store, job_id: int | None, since: Cursor | None, reading: set[StoreWatch]
    ) -> None:
        self.waiting = False
        """It has given out all that there is."""
        self._store = store
        self._reading = reading
        self._job_id = job_id
        self._position = 0 if since is None else read_cursor(store, job_id, since)
        self._from_now = since is None and job_id is None
        self._events: deque[EventRow] = deque()
        self._changes: Changes | None = None
        self._ended = False
        self.cursor = make_cursor(store, job_id, self._position)

    @refuses_for_store
    async def __aenter__(self) -> Self:
        if self._job_id is not None:
            row = await self._store.job(self._job_id)
            if row is None:
                raise UnknownJob(job_id=self._job_id)
            self._position = max(self._position, row.first_position - 1)
        elif self._from_now:
            self._position = self._store.position()
        self.cursor = make_cursor(self._store, self._job_id, self._position)
        self._changes = self._store.changes(self._job_id)
        self._changes.__enter__()
        self._reading.add(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reading.discard(self)
        if self._changes is not None:
            self._changes.__exit__(kind, error, trace)

    async def __anext__(self) -> JobEvent | Gap:
        while not self._events:
            if self._ended or not await self._read():
                raise StopAsyncIteration
        row = self._events.popleft()
        self._position = row.position
        self.cursor = make_cursor(self._store, self._job_id, row.position)
        if self._job_id is not None and row.test is None and row.name in _ENDS:
            self._ended = self.waiting = True
        return as_event(row, self.cursor)

    async def _read(self) -> bool:
        assert self._changes is not None
        try:
            rows = await self._store.events(job_id=self._job_id, after=self._position, limit=_PAGE)
            if rows:
                self._events.extend(rows)
                return True
            if self._job_id is not None and await self._job_has_ended():
                self.waiting = True
                return False
            self.waiting = True
            try:
                await self._changes.wait(self._position)
            finally:
                self.waiting = False
        except StoreError:
            return False
        return True

    async def _job_has_ended(self) -> bool:
        """Whether nothing more can come: asked only when there is nothing new, after resuming behind the end."""
        assert self._job_id is not None
        row = await self._store.job(self._job_id)
        if row is None or not JobState(row.state).ended:
            return False
        return not await self._store.events(job_id=self._job_id, after=self._position, limit=1)


def as_event(row: EventRow, cursor: Cursor | None = None) -> JobEvent:
    """An event of the store as a watch gives it; of a target it knows the ID."""
    return JobEvent(
        sequence_id=row.sequence,
        emit_time=moment(row.time),
        header=Header(
            job_id=row.job_id,
            run_id=row.run_id,
            test_name=row.test,
            test_attempt=row.attempt,
            test_step_label=row.step,
        ),
        data=EventData(
            target=None if row.target is None else TargetInfo(id=row.target),
            event_name=row.name,
            payload=None if row.payload is None else Raw(row.payload.encode()),
        ),
        phase=row.phase,
        cursor=None if cursor is None else str(cursor),
    )
