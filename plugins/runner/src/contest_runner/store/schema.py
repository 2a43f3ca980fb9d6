"""The tables of the store, for any database, and the versions they went through.

Read by everything in this package; knows no database. A person may query the tables with the database's own
shell: plain rows, times in microseconds since the epoch.

Events have no index but their position: one on (job, sequence) halves the rate at which a thousand jobs can
write. `event_segments` stands in for it: a row for each stretch of `SEGMENT` positions in which a job has
events, so one job's events are those stretches, filtered. Job numbers and positions are never used again:
whoever prunes leaves the row with the highest position.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    insert,
    text,
)

VERSION = 1
"""Of the schema that this program writes."""

MIGRATIONS: Sequence[Sequence[str]] = ()
"""What leads from version n to n + 1 stands at n - 1: statements, run in one transaction when a store is opened."""

SEGMENT_BITS = 10
SEGMENT = 1 << SEGMENT_BITS
"""How many feed positions share a row of `event_segments`."""

FINAL_RUN = 0
"""The `run_id` of final reports."""

metadata = MetaData()

# SQLite numbers rows by itself only in a column that is INTEGER to the letter.
_Number = BigInteger().with_variant(Integer, "sqlite")

meta = Table(
    "meta",
    metadata,
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
    sqlite_with_rowid=False,
)

jobs = Table(
    "jobs",
    metadata,
    Column("job_id", _Number, primary_key=True, autoincrement=True),
    Column("name", Text, nullable=False),
    Column("requestor", Text, nullable=False),
    Column("principal", Text),
    Column("server_id", Text, nullable=False),
    Column("start_key", Text, unique=True),
    Column("start_digest", Text),
    Column("request_time", BigInteger, nullable=False),
    Column("start_time", BigInteger),
    Column("end_time", BigInteger),
    Column("state", SmallInteger, nullable=False),
    Column("verdict", Text),
    Column("flaky", Boolean, nullable=False),
    Column("blame", Text),
    Column("plan_format", Integer, nullable=False),
    Column("retry_of", BigInteger),
    Column("first_position", BigInteger, nullable=False),
    Column("lease_owner", Text),
    Column("lease_token", BigInteger, nullable=False),
    Column("lease_until", BigInteger),
    Column("error", Text),
    sqlite_autoincrement=True,
)

_unfinished = text("end_time IS NULL")
Index("jobs_unfinished", jobs.c.job_id, sqlite_where=_unfinished, postgresql_where=_unfinished)

# Written once and read seldom; beside the rest of a job, each renewal of its lease would write them again.
job_texts = Table(
    "job_texts",
    metadata,
    Column("job_id", _Number, primary_key=True, autoincrement=False),
    Column("descriptor", Text, nullable=False),
    Column("plan", Text, nullable=False),
)

job_tags = Table(
    "job_tags",
    metadata,
    Column("job_id", BigInteger, primary_key=True),
    Column("tag", Text, primary_key=True),
    sqlite_with_rowid=False,
)
Index("job_tags_tag", job_tags.c.tag, job_tags.c.job_id)

events = Table(
    "events",
    metadata,
    Column("position", _Number, primary_key=True, autoincrement=False),
    Column("job_id", BigInteger, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("run_id", Integer),
    Column("test", Text),
    Column("phase", Text),
    Column("attempt", Integer),
    Column("step", Text),
    Column("target", Text),
    Column("name", Text, nullable=False),
    Column("time", BigInteger, nullable=False),
    Column("payload", Text),
    Column("token", BigInteger),
)

event_segments = Table(
    "event_segments",
    metadata,
    Column("job_id", BigInteger, primary_key=True),
    Column("segment", BigInteger, primary_key=True),
    sqlite_with_rowid=False,
)

runs = Table(
    "runs",
    metadata,
    Column("job_id", BigInteger, primary_key=True),
    Column("run_id", Integer, primary_key=True),
    Column("start_time", BigInteger, nullable=False),
    Column("end_time", BigInteger, nullable=False),
    Column("status", LargeBinary, nullable=False),
)

reports = Table(
    "reports",
    metadata,
    Column("job_id", BigInteger, primary_key=True),
    Column("run_id", Integer, primary_key=True),
    Column("position_in_run", Integer, primary_key=True),
    Column("reporter_name", Text, nullable=False),
    Column("time", BigInteger, nullable=False),
    Column("success", Boolean, nullable=False),
    Column("data", Text, nullable=False),
)

acquisitions = Table(
    "acquisitions",
    metadata,
    Column("job_id", BigInteger, primary_key=True),
    Column("run_id", Integer, primary_key=True),
    Column("test_index", Integer, primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("token", BigInteger, nullable=False),
    Column("targets", Text, nullable=False),
)

saved_states = Table(
    "saved_states",
    metadata,
    Column("job_id", BigInteger, primary_key=True),
    Column("run_id", Integer, primary_key=True),
    Column("test_index", Integer, primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("step", Text, primary_key=True),
    Column("target", Text, primary_key=True),
    Column("state", Text, nullable=False),
)

locks = Table(
    "locks",
    metadata,
    Column("target_id", Text, primary_key=True),
    Column("job_id", BigInteger, nullable=False),
    Column("token", BigInteger, nullable=False),
    Column("since", BigInteger, nullable=False),
    Column("until", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

intents = Table(
    "intents",
    metadata,
    Column("intent_id", _Number, primary_key=True, autoincrement=True),
    Column("job_id", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("requestor", Text, nullable=False),
    Column("time", BigInteger, nullable=False),
    Column("done", Boolean, nullable=False),
    sqlite_autoincrement=True,
)
Index("intents_job", intents.c.job_id)


def create(connection: Connection) -> None:
    """Make the tables in an empty database, and the rows of `meta` that name the store."""
    metadata.create_all(connection, checkfirst=False)
    values = {
        "store_id": secrets.token_hex(8),
        # Changes only where a restored file could give out positions a second time.
        "incarnation": secrets.token_hex(8),
        "lock_token": "0",
    }
    connection.execute(insert(meta), [{"key": key, "value": value} for key, value in values.items()])
