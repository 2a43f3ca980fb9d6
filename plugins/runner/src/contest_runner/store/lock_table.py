"""The locks as rows: what the locker knows, on disk.

The locker calls it on the event loop and gets futures; each change joins the batch being gathered, in order. The
rows are the image of what the locker has in memory, one change behind at most.
"""

from __future__ import annotations

from asyncio import Future
from collections.abc import Sequence

from sqlalchemy import ColumnElement, Connection, bindparam, delete, select, update

from contest_runner.store import schema
from contest_runner.store.database import Prepared
from contest_runner.store.rows import LockRow
from contest_runner.store.store import Store

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
_AT_ONCE = 500
"""Targets that one statement names: databases have limits."""


def _owner(job_id: object, token: object) -> ColumnElement[bool]:
    return (_locks.job_id == job_id) & (_locks.token == token)


_of_owner = _owner(bindparam("at_job_id"), bindparam("at_token"))
_DELETE = Prepared(delete(schema.locks).where(_of_owner))
_EXTEND = Prepared(update(schema.locks).where(_of_owner).values(until=bindparam("new_until")))


class LockTable:
    """See the module."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._insert = store.bulk_insert(schema.locks, _REPLACE)

    async def load(self) -> tuple[int, list[LockRow]]:
        """The last token given and all rows, after those of jobs that have ended were deleted."""
        return await self._store.write(_load)

    def put(self, job_id: int, token: int, until: int, since: Sequence[tuple[str, int]]) -> Future[None]:
        """Write the locks of targets, each with the time since which it is held, under a new token."""

        def write(connection: Connection) -> None:
            cells = [
                cell for target, start in sorted(since) for cell in (target, job_id, token, start, until)
            ]
            _SET_TOKEN.run(connection, at_key=_TOKEN, new_value=str(token))
            self._insert(connection, cells)

        return self._store.write_soon(write)

    def drop(self, job_id: int, token: int, targets: Sequence[str] | None = None) -> Future[None]:
        """Delete the locks under a token, or some of them."""

        def write(connection: Connection) -> None:
            if targets is None:
                _DELETE.run(connection, at_job_id=job_id, at_token=token)
                return
            these = sorted(targets)
            for start in range(0, len(these), _AT_ONCE):
                named = _locks.target_id.in_(these[start : start + _AT_ONCE])
                connection.execute(delete(schema.locks).where(_owner(job_id, token), named))

        return self._store.write_soon(write)

    def extend(self, owners: Sequence[tuple[int, int]], until: int) -> Future[None]:
        """Set when the locks of these jobs and tokens run out."""

        def write(connection: Connection) -> None:
            for job_id, token in sorted(owners):
                _EXTEND.run(connection, at_job_id=job_id, at_token=token, new_until=until)

        return self._store.write_soon(write)


def _load(connection: Connection) -> tuple[int, list[LockRow]]:
    jobs = schema.jobs.c
    alive = select(jobs.job_id).where(jobs.end_time.is_(None))
    connection.execute(delete(schema.locks).where(_locks.job_id.not_in(alive)))
    token = connection.execute(select(_meta.value).where(_meta.key == _TOKEN)).scalar_one()
    columns = (_locks.target_id.label("target"), _locks.job_id, _locks.token, _locks.since, _locks.until)
    rows = connection.execute(select(*columns).order_by(_locks.target_id))
    return int(token), [LockRow(**row._mapping) for row in rows]
