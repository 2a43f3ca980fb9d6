"""What is written besides events and locks: each function is one operation in the writer's transaction.

`Store` calls them in the writer's thread, possibly more than once (a batch that met a full disk is repeated from
the start), so they touch nothing but the connection. Each checks before it writes: what it raises, the caller of
the `Store` method gets. The SQL is what every database has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from msgspec import structs
from sqlalchemy import (
    ColumnElement,
    Connection,
    Table,
    bindparam,
    delete,
    exists,
    func,
    insert,
    literal_column,
    null,
    select,
    update,
)

from contest_runner.store import schema
from contest_runner.store.database import Prepared
from contest_runner.store.errors import LeaseLost, StartKeyTaken
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

_jobs = schema.jobs.c


def _binds(*names: str) -> dict[str, ColumnElement[Any]]:
    """Values for `names`; the prefix keeps them apart from the columns that a WHERE compares."""
    return {name: bindparam(f"new_{name}") for name in names}


def _insertion(table: Table, *generated: str) -> Prepared:
    names = [column.name for column in table.columns if column.name not in generated]
    statement = insert(table).values({name: bindparam(name) for name in names})
    return Prepared(statement.returning(*[table.c[name] for name in generated]) if generated else statement)


def _at(table: Table, *names: str) -> list[ColumnElement[bool]]:
    return [table.c[name] == bindparam(f"at_{name}") for name in names]


def _owned_insertion(table: Table, *unless: str) -> Prepared:
    """Inserts one row where the lease holds and no row has the same values in the columns `unless`."""
    names = [column.name for column in table.columns]
    values = {column.name: bindparam(column.name, type_=column.type) for column in table.columns}
    conditions = [_jobs.job_id == bindparam("owner_id"), _jobs.lease_token == bindparam("owner_token")]
    if unless:
        same = [table.c[name] == values[name] for name in unless]
        conditions.append(~exists().where(*same))
    return Prepared(insert(table).from_select(names, select(*values.values()).where(*conditions)))


_owned = _at(schema.jobs, "job_id", "lease_token")
_attempt = ("job_id", "run_id", "test_index", "attempt")

_FIND_START_KEY = Prepared(
    select(_jobs.job_id, _jobs.start_digest, _jobs.descriptor).where(*_at(schema.jobs, "start_key"))
)
_INSERT_JOB = _insertion(schema.jobs, "job_id")
_UNSET = ("end_time", "verdict", "blame", "error")
_INSERT_TAG = _insertion(schema.job_tags)
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
_RENEW = Prepared(update(schema.jobs).where(*_owned).values(_binds("lease_until")))
_CHECK = Prepared(select(_jobs.job_id).where(*_owned))
_SET_STATE = Prepared(
    update(schema.jobs)
    .where(*_owned)
    .values(
        state=bindparam("new_state"), start_time=func.coalesce(bindparam("new_start_time"), _jobs.start_time)
    )
)
_END_JOB = Prepared(
    update(schema.jobs)
    .where(*_owned)
    .values(
        **_binds("state", "verdict", "flaky", "error", "blame", "end_time"),
        lease_owner=null(),
        lease_until=null(),
        # Whoever still writes under the old one learns that the job has ended.
        lease_token=_jobs.lease_token + literal_column("1"),
    )
)
_INSERT_ACQUISITION = _owned_insertion(schema.acquisitions, *_attempt)
_DELETE_ACQUISITION = Prepared(delete(schema.acquisitions).where(*_at(schema.acquisitions, *_attempt)))
_RELEASE_ACQUISITION = Prepared(
    update(schema.acquisitions)
    .where(
        *_at(schema.acquisitions, *_attempt),
        exists().where(
            _jobs.job_id == schema.acquisitions.c.job_id, _jobs.lease_token == bindparam("owner_token")
        ),
    )
    .values(_binds("released"))
)
_INSERT_RUN = _owned_insertion(schema.runs)
_INSERT_REPORT = _insertion(schema.reports)
_DELETE_SAVED = Prepared(
    delete(schema.saved_states).where(*_at(schema.saved_states, *_attempt, "step", "target"))
)
_INSERT_SAVED = _insertion(schema.saved_states)
_DELETE_RUNS_SAVED = Prepared(
    delete(schema.saved_states).where(*_at(schema.saved_states, "job_id", "run_id"))
)
_DELETE_LOCKS = Prepared(delete(schema.locks).where(*_at(schema.locks, "job_id", "token")))
_INSERT_INTENT = _insertion(schema.intents, "intent_id")
_END_INTENTS = Prepared(
    update(schema.intents).where(*_at(schema.intents, "job_id", "kind")).values(_binds("done"))
)
_END_ALL_INTENTS = Prepared(
    update(schema.intents).where(*_at(schema.intents, "job_id")).values(_binds("done"))
)


def create_job(
    connection: Connection, job: NewJob, first_position: int, owner: str | None, until: int
) -> Created:
    """Insert the job, claimed where it has an owner, or find the one that its start key stands for."""
    if job.start_key is not None:
        found = _FIND_START_KEY.row(connection, at_start_key=job.start_key)
        if found is not None:
            job_id, digest, descriptor = found
            if digest != job.start_digest:
                raise StartKeyTaken(job.start_key, job_id, descriptor)
            return Created(job_id=job_id, existing=True)
    values = structs.asdict(job)
    tags = values.pop("tags")
    unset: dict[str, object] = dict.fromkeys(_UNSET)
    unset |= {"flaky": False, "first_position": first_position, "lease_owner": owner}
    unset |= (
        {"lease_token": 0, "lease_until": None} if owner is None else {"lease_token": 1, "lease_until": until}
    )
    job_id = _INSERT_JOB.number(connection, **values, **unset)
    for tag in tags:
        _INSERT_TAG.run(connection, job_id=job_id, tag=tag)
    lease = None if owner is None else Lease(job_id=job_id, owner=owner, token=1, until=until)
    return Created(job_id=job_id, existing=False, lease=lease)


def claim(connection: Connection, job_id: int, owner: str, now: int, until: int) -> Lease | Held:
    """Take the job unless somebody else has it, or it has ended."""
    found = _LEASE.row(connection, at_job_id=job_id)
    if found is None:
        return Held(job_id=job_id, owner=None, until=None)
    holder, last, held_until, end_time = found
    if end_time is not None:
        return Held(job_id=job_id, owner=None, until=None)
    if holder not in (None, owner) and held_until > now:
        return Held(job_id=job_id, owner=holder, until=held_until)
    token = last + 1
    _CLAIM.run(
        connection, at_job_id=job_id, new_lease_owner=owner, new_lease_token=token, new_lease_until=until
    )
    return Lease(job_id=job_id, owner=owner, token=token, until=until)


def renew(connection: Connection, leases: Sequence[Lease], until: int) -> list[Lease]:
    """Extend them; those that are gone."""
    lost: list[Lease] = []
    for lease in sorted(leases, key=lambda each: each.job_id):
        place = {"at_job_id": lease.job_id, "at_lease_token": lease.token}
        if not _RENEW.run(connection, **place, new_lease_until=until):
            lost.append(lease)
    return lost


def set_state(connection: Connection, lease: Lease, state: int, start_time: int | None) -> None:
    """Set the state, and the start time where one is given."""
    _owning(connection, lease, _SET_STATE, new_state=state, new_start_time=start_time)


def record_acquisition(connection: Connection, lease: Lease, row: AcquisitionRow) -> None:
    """Remember which targets an attempt has; a resumed one may have others than before."""
    values = structs.asdict(row)
    if _inserted(connection, lease, _INSERT_ACQUISITION, values):
        return
    _check(connection, lease)
    place = {"at_run_id": row.run_id, "at_test_index": row.test_index, "at_attempt": row.attempt}
    _DELETE_ACQUISITION.run(connection, at_job_id=lease.job_id, **place)
    _inserted(connection, lease, _INSERT_ACQUISITION, values)


def release_acquisition(
    connection: Connection, lease: Lease, run_id: int, test_index: int, attempt: int
) -> None:
    """Remember that the attempt gave its targets back."""
    released = _RELEASE_ACQUISITION.run(
        connection,
        at_job_id=lease.job_id,
        at_run_id=run_id,
        at_test_index=test_index,
        at_attempt=attempt,
        new_released=True,
        owner_token=lease.token,
    )
    if not released:
        _check(connection, lease)


def save(connection: Connection, lease: Lease, row: SavedState) -> None:
    """Keep what a step saved, in place of what it saved before."""
    _check(connection, lease)
    values = structs.asdict(row)
    place = {f"at_{name}": value for name, value in values.items() if name != "state"}
    _DELETE_SAVED.run(connection, at_job_id=lease.job_id, **place)
    _INSERT_SAVED.run(connection, job_id=lease.job_id, **values)


def finish_run(
    connection: Connection,
    lease: Lease,
    run: NewRun,
    status: Callable[[], bytes],
    reports: Sequence[ReportRow],
) -> None:
    """Store a run that has ended; what its steps saved is of no more use."""
    _insert_run(connection, lease, run, status)
    _insert_reports(connection, lease.job_id, reports)


def finish_job(
    connection: Connection,
    lease: Lease,
    end: JobEnd,
    reports: Sequence[ReportRow],
    run: NewRun | None,
    status: Callable[[], bytes] | None,
    release_token: int | None,
) -> None:
    """End the job: its last run where that is given, state, reports, lease, intents and locks."""
    if run is not None and status is not None:
        _insert_run(connection, lease, run, status)
    values = {f"new_{name}": value for name, value in structs.asdict(end).items()}
    _owning(connection, lease, _END_JOB, **values)
    _insert_reports(connection, lease.job_id, reports)
    _END_ALL_INTENTS.run(connection, at_job_id=lease.job_id, new_done=True)
    if release_token is not None:
        _DELETE_LOCKS.run(connection, at_job_id=lease.job_id, at_token=release_token)


def add_intent(connection: Connection, job_id: int, kind: str, requestor: str, now: int) -> int:
    """Write down what somebody wants; its number."""
    values = {"job_id": job_id, "kind": kind, "requestor": requestor, "time": now, "done": False}
    return _INSERT_INTENT.number(connection, **values)


def finish_intents(connection: Connection, job_id: int, kind: str) -> None:
    """The job obeyed."""
    _END_INTENTS.run(connection, at_job_id=job_id, at_kind=kind, new_done=True)


def void_leases(connection: Connection) -> None:
    """Nobody else can be alive: what an earlier process held is free."""
    connection.execute(
        update(schema.jobs).where(_jobs.lease_owner.is_not(None)).values(lease_owner=None, lease_until=None)
    )


def _check(connection: Connection, lease: Lease) -> None:
    found = _CHECK.row(connection, at_job_id=lease.job_id, at_lease_token=lease.token)
    if found is None:
        raise LeaseLost(lease.job_id)


def _owning(connection: Connection, lease: Lease, change: Prepared, **values: Any) -> None:
    if not change.run(connection, at_job_id=lease.job_id, at_lease_token=lease.token, **values):
        raise LeaseLost(lease.job_id)


def _inserted(connection: Connection, lease: Lease, insertion: Prepared, values: dict[str, Any]) -> bool:
    owner = {"job_id": lease.job_id, "owner_id": lease.job_id, "owner_token": lease.token}
    return bool(insertion.run(connection, **values, **owner))


def _insert_run(connection: Connection, lease: Lease, run: NewRun, status: Callable[[], bytes]) -> None:
    values = {
        "run_id": run.run_id,
        "start_time": run.start_time,
        "end_time": run.end_time,
        "status": status(),
    }
    if not _inserted(connection, lease, _INSERT_RUN, values):
        raise LeaseLost(lease.job_id)
    if run.saves:
        _DELETE_RUNS_SAVED.run(connection, at_job_id=lease.job_id, at_run_id=run.run_id)


def _insert_reports(connection: Connection, job_id: int, reports: Sequence[ReportRow]) -> None:
    for report in reports:
        _INSERT_REPORT.run(
            connection,
            job_id=job_id,
            run_id=report.run_id,
            position_in_run=report.position,
            reporter_name=report.reporter,
            time=report.time,
            success=report.success,
            data=report.data,
        )
