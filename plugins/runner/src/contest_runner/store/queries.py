"""What is read: each function is one question, answered from one state of the database.

`Store` calls them in its readers' threads. They see what is committed and change nothing. The SQL is what every
database has.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import starmap
from typing import Any

from msgspec import structs
from sqlalchemy import ColumnElement, Connection, Row, Select, bindparam, func, literal_column, select, tuple_

from contest_runner.store import schema
from contest_runner.store.database import Prepared
from contest_runner.store.rows import (
    AcquisitionRow,
    EventRow,
    IntentRow,
    JobRow,
    Place,
    ReportRow,
    RunRow,
    SavedState,
)

_jobs = schema.jobs.c
_events = schema.events.c
_segments = schema.event_segments.c
_texts = schema.job_texts.c
_JOB = select(*[column for column in _jobs if column.name != "start_digest"])

_LAST = (1 << 63) - 1
"""A position that no event reaches."""

_of_feed = (_events.position > bindparam("after"), _events.position <= bindparam("until"))
_FEED = Prepared(select(schema.events).where(*_of_feed).order_by(_events.position).limit(bindparam("limit")))
_begins = _segments.segment * literal_column(str(schema.SEGMENT))
_FEED_OF_JOB = Prepared(
    select(schema.events)
    .join_from(schema.event_segments, schema.events, _events.job_id == bindparam("job"))
    .where(
        *_of_feed,
        _segments.job_id == bindparam("job"),
        _segments.segment >= bindparam("first"),
        _events.position.between(_begins, _begins + literal_column(str(schema.SEGMENT - 1))),
    )
    # By segment first: then both are read in their own order, and nothing is sorted.
    .order_by(_segments.segment, _events.position)
    .limit(bindparam("limit"))
)

_IN = 500
"""How many values an IN list has at most: databases have limits."""


def job(connection: Connection, job_id: int) -> JobRow | None:
    """One job."""
    found = _rows(connection, _JOB.where(_jobs.job_id == job_id))
    return found[0] if found else None


def jobs(
    connection: Connection,
    *,
    states: Collection[int],
    tags: Collection[str],
    requestors: Collection[str],
    name: str | None,
    since: int | None,
    until: int | None,
    limit: int | None,
    before: int | None,
) -> list[JobRow]:
    """Those that meet every condition that is not empty, the newest first."""
    conditions: list[ColumnElement[bool]] = []
    if states:
        conditions.append(_jobs.state.in_(set(states)))
    if requestors:
        conditions.append(_jobs.requestor.in_(set(requestors)))
    if name is not None:
        conditions.append(_named(name))
    if since is not None:
        conditions.append(_jobs.start_time >= since)
    if until is not None:
        conditions.append(_jobs.start_time < until)
    if before is not None:
        conditions.append(_jobs.job_id < before)
    if tags:
        conditions.append(_jobs.job_id.in_(_with_all(set(tags))))
    return _rows(connection, _JOB.where(*conditions).order_by(_jobs.job_id.desc()).limit(limit))


def _named(name: str) -> ColumnElement[bool]:
    if "*" not in name and "?" not in name:
        return _jobs.name == name
    plain = name.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return _jobs.name.ilike(plain.replace("*", "%").replace("?", "_"), escape="\\")


def _with_all(tags: Collection[str]) -> Select[Any]:
    """The numbers of the jobs that have all of these tags, each named once: one condition, however many they are."""
    table = schema.job_tags.c
    having = func.count() == len(tags)
    return select(table.job_id).where(table.tag.in_(tags)).group_by(table.job_id).having(having)


def unfinished(connection: Connection) -> list[JobRow]:
    """Those that have not ended, the oldest first, with their plans and intents."""
    waiting = _jobs.end_time.is_(None)
    table = schema.intents.c
    intents: dict[int, list[IntentRow]] = {}
    open_ones = select(schema.intents).where(table.done.is_(False)).order_by(table.intent_id)
    for row in connection.execute(open_ones):
        intents.setdefault(row.job_id, []).append(IntentRow(**row._mapping))
    of_these = select(_texts.job_id, _texts.plan).where(
        _texts.job_id.in_(select(_jobs.job_id).where(waiting))
    )
    plans = {row.job_id: row.plan for row in connection.execute(of_these)}
    return [
        structs.replace(row, plan=plans[row.job_id], intents=tuple(intents.get(row.job_id, ())))
        for row in _rows(connection, _JOB.where(waiting).order_by(_jobs.job_id))
    ]


def text(connection: Connection, job_id: int, name: str) -> str | None:
    """One of the texts of a job."""
    found: str | None = connection.execute(select(_texts[name]).where(_texts.job_id == job_id)).scalar()
    return found


def runs(connection: Connection, job_id: int, last: int | None) -> list[RunRow]:
    """The runs that have ended, oldest first; with `last`, so many of the newest."""
    table = schema.runs.c
    statement = select(table.run_id, table.start_time, table.end_time, table.status)
    found = connection.execute(
        statement.where(table.job_id == job_id).order_by(table.run_id.desc()).limit(last)
    )
    return [RunRow(**row._mapping) for row in found][::-1]


def reports(connection: Connection, job_id: int, run_id: int | None) -> list[ReportRow]:
    """Of one run or of all, in the order of run and reporter."""
    table = schema.reports.c
    conditions = [table.job_id == job_id] + ([] if run_id is None else [table.run_id == run_id])
    statement = select(
        table.run_id,
        table.position_in_run.label("position"),
        table.reporter_name.label("reporter"),
        table.time,
        table.success,
        table.data,
    ).order_by(table.run_id, table.position_in_run)
    return [ReportRow(**row._mapping) for row in connection.execute(statement.where(*conditions))]


def acquisitions(
    connection: Connection, job_id: int, run_id: int | None, between: tuple[Place, Place] | None
) -> list[AcquisitionRow]:
    """Of one run or of all, in the order of run, test and attempt; `between` are the first and the last of a run."""
    table = schema.acquisitions.c
    conditions = [table.job_id == job_id] + ([] if run_id is None else [table.run_id == run_id])
    if between is not None:
        place = tuple_(table.test_index, table.attempt)
        conditions += [place >= tuple_(*between[0]), place <= tuple_(*between[1])]
    statement = _of(schema.acquisitions).order_by(table.run_id, table.test_index, table.attempt)
    return [AcquisitionRow(**row._mapping) for row in connection.execute(statement.where(*conditions))]


def saved_states(connection: Connection, job_id: int, run_id: int, place: Place | None) -> list[SavedState]:
    """What the steps of a run that has not ended saved; all of them, or those of one attempt."""
    table = schema.saved_states.c
    statement = _of(schema.saved_states).where(table.job_id == job_id, table.run_id == run_id)
    if place is not None:
        statement = statement.where(table.test_index == place[0], table.attempt == place[1])
    return [SavedState(**row._mapping) for row in connection.execute(statement)]


def events(
    connection: Connection, *, job_id: int | None, after: int, limit: int, until: int | None
) -> list[EventRow]:
    """Those behind the position `after`, and up to `until`, in the order of the feed."""
    values = {"after": after, "until": _LAST if until is None else until, "limit": limit}
    if job_id is None:
        rows = _FEED.rows(connection, **values)
    else:
        rows = _FEED_OF_JOB.rows(connection, **values, job=job_id, first=after // schema.SEGMENT)
    return list(starmap(EventRow, rows))


def last_position(connection: Connection) -> int:
    """The feed position of the newest event; 0 where there is none."""
    return int(connection.execute(select(func.coalesce(func.max(_events.position), 0))).scalar_one())


def meta(connection: Connection) -> dict[str, str]:
    """The rows of `meta`."""
    rows = connection.execute(select(schema.meta.c.key, schema.meta.c.value))
    return {row.key: row.value for row in rows}


def _of(table: Any) -> Select[Any]:
    """A job's rows, without the job."""
    return select(*[column for column in table.columns if column.name != "job_id"])


def _rows(connection: Connection, statement: Select[Any]) -> list[JobRow]:
    found = connection.execute(statement).all()
    tags = _tags(connection, [row.job_id for row in found])
    return [_job(row, tags.get(row.job_id, ())) for row in found]


def _job(row: Row[Any], tags: Iterable[str]) -> JobRow:
    return JobRow(**row._mapping, tags=tuple(tags))


def _tags(connection: Connection, job_ids: Sequence[int]) -> dict[int, list[str]]:
    table = schema.job_tags.c
    tags: dict[int, list[str]] = {}
    for start in range(0, len(job_ids), _IN):
        of_these = table.job_id.in_(job_ids[start : start + _IN])
        for job_id, tag in connection.execute(select(table.job_id, table.tag).where(of_these)):
            tags.setdefault(job_id, []).append(tag)
    return tags
