"""The writer's transaction as the operations see it: what is alike is put off, and done together.

Made by the transactor for each batch, used by `operations` and `lock_table` in the writer's thread. A thousand jobs
that begin or end at once are then few statements. What is put off is done by `flush`, which comes before the commit and
before any operation that must see it. Leases are read once, all of the batch's together, and kept up to date here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, Table

from contest_runner.store import schema
from contest_runner.store.database import Bulk, Database
from contest_runner.store.errors import LeaseLost
from contest_runner.store.rows import JobEnd, Lease

_NULLABLE_OF_JOB = tuple(column.name for column in schema.jobs.columns if column.nullable)
_ENDS = ("state", "verdict", "flaky", "error", "blame", "end_time")

# The last one of several writes for a place counts.
_REPLACE_TARGETS = (
    "ON CONFLICT (job_id, run_id, test_index, attempt) "
    "DO UPDATE SET token = excluded.token, targets = excluded.targets"
)


class Bulks:
    """The statements for many rows, made once for a database."""

    def __init__(self, database: Database) -> None:
        insert = database.bulk_insert
        self.inserts: dict[Table, Bulk] = {
            schema.jobs: insert(schema.jobs, blank=_NULLABLE_OF_JOB),
            schema.job_texts: insert(schema.job_texts),
            schema.job_tags: insert(schema.job_tags),
            schema.acquisitions: insert(schema.acquisitions, _REPLACE_TARGETS),
            schema.runs: insert(schema.runs),
            schema.reports: insert(schema.reports),
        }
        self.end_jobs = database.bulk_update(
            schema.jobs,
            key=["job_id"],
            columns=_ENDS,
            # Whoever still writes under the old lease learns that the job has ended.
            fixed={"lease_owner": "NULL", "lease_until": "NULL", "lease_token": "lease_token + 1"},
            blank=["error", "blame"],
        )
        self.end_intents = database.bulk_update(schema.intents, key=["job_id"], fixed={"done": "true"})
        self.leases = database.bulk_select(schema.jobs, "job_id", ["lease_token"])
        self.renew = database.bulk_update(schema.jobs, key=["job_id"], columns=["lease_until"])


class Writing:
    """See the module."""

    def __init__(self, database: Database, bulks: Bulks, job_ids: Collection[int]) -> None:
        """`job_ids` are those whose leases the operations will ask for."""
        self.connection: Connection = database.writer
        self.keys: dict[str, tuple[int, str | None, str]] = {}
        """The start keys of the jobs that are put off: number, digest and descriptor."""
        self._database = database
        self._bulks = bulks
        self._asked = job_ids
        self._tokens: dict[int, int] = {}
        self._rows: dict[Table, list[Any]] = {}
        self._ends: list[Any] = []
        self._ended: list[int] = []
        self._numbers: Iterator[int] | None = None

    def number(self) -> int:
        """For a new job."""
        if self._numbers is None:
            self._numbers = self._database.numbers(schema.jobs)
        return next(self._numbers)

    def owned(self, lease: Lease) -> bool:
        """Whether the lease holds."""
        job_id = lease.job_id
        if job_id not in self._tokens:
            asked = [each for each in {*self._asked, job_id} if each not in self._tokens]
            self._tokens.update(self._bulks.leases(self.connection, asked))
        return self._tokens.get(job_id) == lease.token

    def check(self, lease: Lease) -> None:
        """Raises LeaseLost."""
        if not self.owned(lease):
            raise LeaseLost(lease.job_id)

    def claimed(self, lease: Lease) -> None:
        """The job has this lease now."""
        self._tokens[lease.job_id] = lease.token

    def insert(self, table: Table, cells: Iterable[Any]) -> None:
        """Put off the insertion of rows, given by the values of all columns."""
        self._rows.setdefault(table, []).extend(cells)

    def renew(self, leases: Sequence[Lease], until: int) -> None:
        """Extend leases that hold."""
        self._bulks.renew(self.connection, [cell for lease in leases for cell in (lease.job_id, until)])

    def end(self, lease: Lease, end: JobEnd) -> None:
        """Put off the end of a job, whose lease is gone from here on."""
        self._tokens[lease.job_id] = lease.token + 1
        self._ends += (
            lease.job_id,
            end.state,
            end.verdict,
            end.flaky,
            end.error or "",
            end.blame or "",
            end.end_time,
        )
        self._ended.append(lease.job_id)

    def flush(self) -> None:
        """Do what was put off. Raises what the driver raises."""
        rows, self._rows = self._rows, {}
        for table, insert in self._bulks.inserts.items():
            if cells := rows.get(table):
                insert(self.connection, cells)
        if self._ended:
            self._bulks.end_jobs(self.connection, self._ends)
            self._bulks.end_intents(self.connection, self._ended)
            self._ends, self._ended = [], []

    def forget(self) -> None:
        """What was done since the last `flush` is undone."""
        self.keys.clear()
        self._tokens.clear()
        self._rows.clear()
        self._ends, self._ended = [], []
