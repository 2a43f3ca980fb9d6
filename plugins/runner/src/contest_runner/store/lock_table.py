"""The locks as rows: what the locker knows, on disk.

The locker calls it on the event loop; each change joins the batch being gathered. A batch writes once, for each target,
what it came to: the rows are the image of what the locker has in memory, one batch behind at most.
"""

from __future__ import annotations

from asyncio import Future
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from sqlalchemy import Connection, bindparam, delete, select, update

from contest_runner.store import schema
from contest_runner.store.database import Prepared
from contest_runner.store.rows import LockRow
from contest_runner.store.store import Store
from contest_runner.store.writing import Writing

_locks = schema.locks.c
_columns = [column.name for column in _locks if column.name != "target_id"]
_REPLACE = (
    f"ON CONFLICT (target_id) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in _columns)}"
)

_meta = schema.meta.c
_TOKEN = "lock_token"
_SET_TOKEN = Prepared(
    update(schema.meta).where(_meta.key == bindparam("at_key")).values(value=bindparam("new_value"))
)

Place = tuple[int, int, int, int]
"""A lock without its target: job, token, since when, until when."""


class LockTable:
    """See the module."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._insert = store.bulk_insert(schema.locks, _REPLACE)
        self._delete = store.bulk_delete(schema.locks, "target_id")
        self._extend = store.bulk_update(schema.locks, key=["job_id", "token"], columns=["until"])
        self._batch: object = None
        self._image: _Image = _Image()

    async def load(self) -> tuple[int, list[LockRow]]:
        """The last token given and all rows, after those of jobs that have ended were deleted."""
        return await self._store.write(_load)

    def put(self, job_id: int, token: int, until: int, since: Mapping[str, int]) -> None:
        """Write the locks of targets, each with the time since which it is held, under a new token."""
        image = self._gathered()
        image.token = max(image.token, token)
        image.targets.update({target: (job_id, token, start, until) for target, start in since.items()})

    def drop(self, targets: Iterable[str]) -> None:
        """Delete the locks of targets."""
        self._gathered().targets.update(dict.fromkeys(targets))

    def extend(self, locks: Iterable[tuple[int, int, int]]) -> None:
        """Set when locks run out: job, token, when."""
        cells = [cell for lock in sorted(locks) for cell in lock]
        self._store.submit(lambda writing: self._extend(writing.connection, cells)).add_done_callback(_seen)

    def _gathered(self) -> _Image:
        """What the batch being gathered writes; nothing is awaited between here and the change."""
        if self._batch is not self._store.gathering:
            self._image = image = _Image()
            self._store.submit(partial(self._write, image)).add_done_callback(partial(self._written, image))
            self._batch = self._store.gathering
        return self._image

    def _written(self, image: _Image, future: Future[Any]) -> None:
        _seen(future)
        if self._image is image:
            # Of a job of many targets they are large, and there may be no other for long.
            self._batch, self._image = None, _Image()

    def _write(self, image: _Image, writing: Writing) -> None:
        connection = writing.connection
        if image.token:
            _SET_TOKEN.run(connection, at_key=_TOKEN, new_value=str(image.token))
        held = sorted((target, place) for target, place in image.targets.items() if place is not None)
        self._delete(connection, sorted(target for target, place in image.targets.items() if place is None))
        self._insert(connection, [cell for target, place in held for cell in (target, *place)])


class _Image:
    """What the locks have come to in one batch."""

    def __init__(self) -> None:
        self.token = 0
        """The last one given in it; 0: none was."""
        self.targets: dict[str, Place | None] = {}


def _seen(future: Future[Any]) -> None:
    """Nobody has to look at it: what fails the write fails whoever waits for the commit, too."""
    if not future.cancelled():
        future.exception()


def _load(connection: Connection) -> tuple[int, list[LockRow]]:
    jobs = schema.jobs.c
    alive = select(jobs.job_id).where(jobs.end_time.is_(None))
    connection.execute(delete(schema.locks).where(_locks.job_id.not_in(alive)))
    token = connection.execute(select(_meta.value).where(_meta.key == _TOKEN)).scalar_one()
    columns = (_locks.target_id.label("target"), _locks.job_id, _locks.token, _locks.since, _locks.until)
    rows = connection.execute(select(*columns).order_by(_locks.target_id))
    return int(token), [LockRow(**row._mapping) for row in rows]
