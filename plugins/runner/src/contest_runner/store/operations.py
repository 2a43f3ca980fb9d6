"""What is written besides events and locks: each function is one operation in the writer's transaction.

`Store` calls them in the writer's thread, possibly more than once (a batch that met a full disk is repeated from
the start), so they touch nothing but the `Writing`. Each checks before it writes: what it raises, the caller of
the `Store` method gets. The SQL is what every database has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec import structs
from sqlalchemy import ColumnElement, Connection, Table, bindparam, delete, func, insert, select, update

from contest_runner.store import schema
from contest_runner.store.database import Prepared
from contest_runner.store.errors import StartKeyTaken
from contest_runner.store.rows import (
    AcquisitionRow,
    Created,
    Held,
    JobEnd,
    Lease,
    NewJob,
    NewRun,
    ReportRow,
    SavedState,
)
from contest_runner.store.writing import Writing

_jobs = schema.jobs.c
_JOB_NAMES = [column.name for column in schema.jobs.columns]


def _binds(*names: str) -> dict[str, ColumnElement[Any]]:
    """Values for `names`; the prefix keeps them apart from the columns that a WHERE compares."""
    return {name: bindparam(f"new_{name}") for name in names}


def _insertion(table: Table, *generated: str) -> Prepared:
    names = [column.name for column in table.columns if column.name not in generated]
    statement = insert(table).values({name: bindparam(name) for name in names})
    return Prepared(statement.returning(*[table.c[name] for name in generated]) if generated else statement)


def _at(table: Table, *names: str) -> list[ColumnElement[bool]]:
    return [table.c[name] == bindparam(f"at_{name}") for name in names]


_texts = schema.job_texts
_FIND_START_KEY = Prepared(
    select(_jobs.job_id, _jobs.start_digest, _texts.c.descriptor)
    .join_from(schema.jobs, _texts, _jobs.job_id == _texts.c.job_id)
    .where(*_at(schema.jobs, "start_key"))
)
_LEASE = Prepared(
    select(_jobs.lease_owner, _jobs.lease_token, _jobs.lease_until, _jobs.end_time).where(
        *_at(schema.jobs, "job_id")
    )
)
_CLAIM = Prepared(
    update(schema.jobs)
    .where(*_at(schema.jobs, "job_id"))
    .values(_binds("lease_owner", "lease_token", "lease_until"))
)
_SET_STATE = Prepared(
    update(schema.jobs)
    .where(*_at(schema.jobs, "job_id"))
    .values(
        state=bindparam("new_state"), start_time=func.coalesce(bindparam("new_start_time"), _jobs.start_time)
    )
)
_saved_place = ("job_id", "run_id", "test_index", "attempt", "step", "target")
_DELETE_SAVED = Prepared(delete(schema.saved_states).where(*_at(schema.saved_states, *_saved_place)))
_INSERT_SAVED = _insertion(schema.saved_states)
_DELETE_RUNS_SAVED = Prepared(
    delete(schema.saved_states).where(*_at(schema.saved_states, "job_id", "run_id"))
)
_INSERT_INTENT = _insertion(schema.intents, "intent_id")
_END_INTENTS = Prepared(
    update(schema.intents).where(*_at(schema.intents, "job_id", "kind")).values(_binds("done"))
)


def create_job(writing: Writing, job: NewJob, first_position: int, owner: str | None, until: int) -> Created:
    """Insert the job, claimed where it has an owner, or find the one that its start key stands for."""
    key = job.start_key
    if key is not None:
        found = writing.keys.get(key) or _FIND_START_KEY.row(writing.connection, at_start_key=key)
        if found is not None:
            job_id, digest, descriptor = found
            if digest != job.start_digest:
                raise StartKeyTaken(key, job_id, descriptor)
            return Created(job_id=job_id, existing=True)
    job_id = writing.number()
    lease = None if owner is None else Lease(job_id=job_id, owner=owner, token=1, until=until)
    values: dict[str, object] = {
        "job_id": job_id,
        "first_position": first_position,
        "flaky": False,
        "lease_token": 0,
    }
    if lease is not None:
        values |= {"lease_owner": lease.owner, "lease_token": lease.token, "lease_until": lease.until}
    writing.insert(schema.jobs, [_cell(job, name, values) for name in _JOB_NAMES])
    writing.insert(schema.job_texts, (job_id, job.descriptor, job.plan))
    writing.insert(schema.job_tags, [cell for tag in job.tags for cell in (job_id, tag)])
    if key is not None:
        writing.keys[key] = (job_id, job.start_digest, job.descriptor)
    return Created(job_id=job_id, existing=False, lease=lease)


def _cell(job: NewJob, name: str, values: Mapping[str, Any]) -> Any:
    value = values[name] if name in values else getattr(job, name, None)
    return "" if value is None else value


def claim(writing: Writing, job_id: int, owner: str, now: int, until: int) -> Lease | Held:
    """Take the job unless somebody else has it, or it has ended."""
    found = _LEASE.row(writing.connection, at_job_id=job_id)
    if found is None:
        return Held(job_id=job_id, owner=None, until=None)
    holder, last, held_until, end_time = found
    if end_time is not None:
        return Held(job_id=job_id, owner=None, until=None)
    if holder not in (None, owner) and held_until > now:
        return Held(job_id=job_id, owner=holder, until=held_until)
    lease = Lease(job_id=job_id, owner=owner, token=last + 1, until=until)
    _CLAIM.run(
        writing.connection,
        at_job_id=job_id,
        new_lease_owner=owner,
        new_lease_token=lease.token,
        new_lease_until=until,
    )
    writing.claimed(lease)
    return lease


def renew(writing: Writing, leases: Sequence[Lease], until: int) -> list[Lease]:
    """Extend them; those that are gone."""
    writing.renew([lease for lease in leases if writing.owned(lease)], until)
    return [lease for lease in leases if not writing.owned(lease)]


def set_state(writing: Writing, lease: Lease, state: int, start_time: int | None) -> None:
    """Set the state, and the start time where one is given."""
    writing.check(lease)
    _SET_STATE.run(writing.connection, at_job_id=lease.job_id, new_state=state, new_start_time=start_time)


def record_acquisition(writing: Writing, lease: Lease, row: AcquisitionRow) -> None:
    """Remember which targets an attempt has; a resumed one may have others than before."""
    writing.check(lease)
    place = (lease.job_id, row.run_id, row.test_index, row.attempt)
    writing.insert(schema.acquisitions, (*place, row.token, row.targets))


def save(writing: Writing, lease: Lease, row: SavedState) -> None:
    """Keep what a step saved, in place of what it saved before."""
    writing.check(lease)
    values = structs.asdict(row)
    place = {f"at_{name}": value for name, value in values.items() if name != "state"}
    _DELETE_SAVED.run(writing.connection, at_job_id=lease.job_id, **place)
    _INSERT_SAVED.run(writing.connection, job_id=lease.job_id, **values)


def finish_run(
    writing: Writing,
    lease: Lease,
    run: NewRun,
    status: Callable[[], bytes],
    reports: Sequence[ReportRow],
) -> None:
    """Store a run that has ended; what its steps saved is of no more use."""
    writing.check(lease)
    _insert_run(writing, lease.job_id, run, status)
    _insert_reports(writing, lease.job_id, reports)


def finish_job(
    writing: Writing,
    lease: Lease,
    end: JobEnd,
    reports: Sequence[ReportRow],
    run: NewRun | None,
    status: Callable[[], bytes] | None,
) -> None:
    """End the job: its last run where that is given, state, reports, lease and intents."""
    writing.check(lease)
    if run is not None and status is not None:
        _insert_run(writing, lease.job_id, run, status)
    _insert_reports(writing, lease.job_id, reports)
    writing.end(lease, end)


def add_intent(writing: Writing, job_id: int, kind: str, requestor: str, now: int) -> int:
    """Write down what somebody wants; its number."""
    values: dict[str, object] = {
        "job_id": job_id,
        "kind": kind,
        "requestor": requestor,
        "time": now,
        "done": False,
    }
    return _INSERT_INTENT.number(writing.connection, **values)


def finish_intents(writing: Writing, job_id: int, kind: str) -> None:
    """The job obeyed."""
    _END_INTENTS.run(writing.connection, at_job_id=job_id, at_kind=kind, new_done=True)


def void_leases(connection: Connection) -> None:
    """Nobody else can be alive: what an earlier process held is free."""
    connection.execute(
        update(schema.jobs).where(_jobs.lease_owner.is_not(None)).values(lease_owner=None, lease_until=None)
    )


def _insert_run(writing: Writing, job_id: int, run: NewRun, status: Callable[[], bytes]) -> None:
    writing.insert(schema.runs, (job_id, run.run_id, run.start_time, run.end_time, status()))
    if run.saves:
        _DELETE_RUNS_SAVED.run(writing.connection, at_job_id=job_id, at_run_id=run.run_id)


def _insert_reports(writing: Writing, job_id: int, reports: Sequence[ReportRow]) -> None:
    for report in reports:
        place = (job_id, report.run_id, report.position)
        writing.insert(schema.reports, (*place, report.reporter, report.time, report.success, report.data))
