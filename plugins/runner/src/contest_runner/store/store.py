"""The store of the runner: what was acknowledged is here after any crash.

The engine and the locker call it, on one event loop. It writes through one thread (`writer`), reads through a few
(`readers`), and knows neither what a state means nor what is in a plan. Databases are behind `database`.

What is appended or written joins the batch that is being gathered, and a batch is one transaction: so what a task
does without awaiting in between is on disk together or not at all.
"""

from __future__ import annotations

from asyncio import Future, get_running_loop, to_thread
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from time import time_ns
from typing import TypeVar, final

from sqlalchemy import Connection

from contest_runner.store import operations, queries
from contest_runner.store.database import Database, Log, find
from contest_runner.store.errors import StoreError, StoreFailed
from contest_runner.store.feed import Changes, Feed
from contest_runner.store.readers import Readers
from contest_runner.store.rows import (
    AcquisitionRow,
    Created,
    EventRow,
    Held,
    JobEnd,
    JobRow,
    Lease,
    NewJob,
    NewRun,
    Place,
    ReportRow,
    RunRow,
    SavedState,
)
from contest_runner.store.transaction import Transactor
from contest_runner.store.writer import Later, Writer
from contest_runner.store.writing import Writing

T = TypeVar("T")


def system_clock_us() -> int:
    """The system's time in microseconds since the epoch."""
    return time_ns() // 1000


def _ignore(_: object) -> None:
    pass


@final
class Store:
    """See the module. Made by `open`; every method but `now` and `position` belongs on the event loop."""

    def __init__(
        self,
        database: Database,
        meta: dict[str, str],
        position: int,
        *,
        log: Log,
        clock: Callable[[], int],
        on_health: Callable[[str | None], None],
        on_fatal: Callable[[StoreFailed], None],
        later: Later | None,
    ) -> None:
        loop = get_running_loop()
        self.id = meta["store_id"]
        """Random, made with the store."""
        self.incarnation = meta["incarnation"]
        """Changes only when a restored file might give out positions again."""
        self.now = clock
        """The store's time, in microseconds since the epoch."""
        self._database = database
        self.bulk_insert = database.bulk_insert
        """The fastest way to insert many rows, for use in an operation,"""
        self.bulk_update = database.bulk_update
        """to change,"""
        self.bulk_delete = database.bulk_delete
        """and to delete them."""
        self._feed = Feed(loop, position)
        self._readers = Readers(database)
        self._writer = Writer(
            Transactor(database, log), self._feed, loop, on_health=on_health, on_fatal=on_fatal, later=later
        )
        # The engine calls these for every event: no method of ours in between.
        self.append = self._writer.append
        """Add an event to the batch being gathered. The order of the arguments is that of the table's columns."""
        self.append_each = self._writer.append_each
        """Add an event that many targets have in common."""
        self.committed = self._writer.committed
        """A future: all that was appended so far is on disk. Raises StoreFailed or StoreClosed."""
        self.submit = self._writer.submit
        """Add an operation that puts off what can be done together: for what belongs to the store itself."""
        self.request = self._writer.request
        """The same, for what somebody asks for who can ask again: StoreUnwell while the database takes nothing."""
        self.written = self._writer.written
        """The same, for who has appended all that belongs together."""
        self.room = self._writer.room
        """Wait while more is gathered than memory should hold."""

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        directory: Path,
        log: Log,
        clock: Callable[[], int] = system_clock_us,
        synchronous: str = "full",
        on_health: Callable[[str | None], None] = _ignore,
        on_fatal: Callable[[StoreFailed], None] = _ignore,
        later: Later | None = None,
    ) -> Store:
        """Open the store that `url` names, or make it, and take it for this process.

        `sqlite:///contest.db` is relative to `directory`, `sqlite:////var/lib/contest.db` is not, `sqlite://` is
        private and gone at the end. `synchronous` is SQLite's: with `full`, what is committed survives a power
        failure. `on_health` gets the reason while the database does not take what is written, None when it does
        again; nothing is lost in between. `on_fatal` is told that it never will. `later` stands in for
        `loop.call_later` between two tries.

        Raises StoreLocked, StoreTooNew, StoreError.
        """
        kind, address = find(url)
        database = kind(address, directory=directory, log=log, synchronous=synchronous)
        meta, position = await to_thread(_open, database)
        return cls(
            database,
            meta,
            position,
            log=log,
            clock=clock,
            on_health=on_health,
            on_fatal=on_fatal,
            later=later,
        )

    def give_up(self) -> None:
        """Wait no longer for a database that takes nothing: after one more try, who waits gets StoreFailed."""
        self._writer.give_up()

    async def aclose(self) -> None:
        """Commit what was appended, close the files, free the store for another process.

        Raises StoreFailed where the database does not take the rest at one last try; closed it is all the same.
        """
        try:
            await self._writer.close()
        finally:
            await self._readers.close()
            await to_thread(self._database.close)

    # Writing

    async def write(self, operation: Callable[[Connection], T]) -> T:
        """Run it in the transaction of the batch being gathered; its result, when that is on disk.

        It sees every event appended and all that was written before. It runs in another thread, perhaps more
        than once, and must only use the connection. What it raises is raised here, and harms nothing else in the batch.
        """
        return await self.write_soon(operation)

    def write_soon(self, operation: Callable[[Connection], T]) -> Future[T]:
        """As `write`, but the operation has its place in the batch when this returns."""

        def run(writing: Writing) -> T:
            writing.flush()
            return operation(writing.connection)

        return self._writer.submit(run)

    @property
    def gathering(self) -> object:
        """Stands for the batch being gathered."""
        return self._writer.gathering

    async def create_job(self, job: NewJob, *, owner: str | None = None, seconds: float = 0.0) -> Created:
        """Store a job; it has its number, and is on disk, when this returns. With an owner it is claimed for him.

        The same start key with the same digest gives the job that has it. Raises StartKeyTaken; and StoreUnwell,
        and then nothing has happened, while the database takes nothing.
        """
        first = self._writer.next_position
        until = self.now() + _us(seconds)
        return await self.request(lambda writing: operations.create_job(writing, job, first, owner, until))

    async def claim(self, job_id: int, owner: str, seconds: float) -> Lease | Held:
        """Take a job for `seconds`; its owner may take it again, under a new token."""
        now = self.now()
        until = now + _us(seconds)
        return await self._writer.submit(lambda writing: operations.claim(writing, job_id, owner, now, until))

    async def renew(self, leases: Sequence[Lease], seconds: float) -> list[Lease]:
        """Extend leases to `seconds` from now; those of them that are gone. `Lease.until` stays as it was."""
        until = self.now() + _us(seconds)
        return await self._writer.submit(lambda writing: operations.renew(writing, leases, until))

    async def set_state(self, lease: Lease, state: int, *, start_time: int | None = None) -> None:
        """Set the job's state, and when it started where that is given. Raises LeaseLost."""
        await self._owned(lease, lambda writing: operations.set_state(writing, lease, state, start_time))

    async def record_acquisition(self, lease: Lease, acquisition: AcquisitionRow) -> None:
        """Remember the targets of an attempt. Raises LeaseLost."""
        await self._owned(lease, lambda writing: operations.record_acquisition(writing, lease, acquisition))

    async def save(self, lease: Lease, state: SavedState) -> None:
        """Keep what a step saved, in place of what it saved before. Raises LeaseLost."""
        await self._owned(lease, lambda writing: operations.save(writing, lease, state))

    async def finish_run(self, lease: Lease, run: NewRun, reports: Sequence[ReportRow]) -> None:
        """Store a run that has ended, and what its reporters said. Raises LeaseLost.

        A status that is a function is called once, in the writer's thread.
        """
        status = _once(run.status)
        await self._owned(lease, lambda writing: operations.finish_run(writing, lease, run, status, reports))

    async def finish_job(
        self, lease: Lease, end: JobEnd, reports: Sequence[ReportRow], *, run: NewRun | None = None
    ) -> None:
        """End a job in one transaction with what was appended before: state, reports, lease, intents.

        With a run also that, as `finish_run` does. Raises LeaseLost.
        """
        status = None if run is None else _once(run.status)
        await self._owned(
            lease, lambda writing: operations.finish_job(writing, lease, end, reports, run, status)
        )

    def _owned(self, lease: Lease, run: Callable[[Writing], T]) -> Future[T]:
        return self._writer.submit(run, lease.job_id)

    async def add_intent(self, job_id: int, kind: str, requestor: str) -> int:
        """Write down what somebody wants of a job; the number of the intent.

        Raises StoreUnwell, and then nothing has happened, while the database takes nothing.
        """
        now = self.now()
        return await self.request(
            lambda writing: operations.add_intent(writing, job_id, kind, requestor, now)
        )

    async def finish_intents(self, job_id: int, kind: str) -> None:
        """The job obeyed those of a kind."""
        await self._writer.submit(lambda writing: operations.finish_intents(writing, job_id, kind))

    # Reading: what is committed

    async def read(self, question: Callable[[Connection], T]) -> T:
        """Run it in a reader's thread, in a transaction that sees one state of everything."""
        return await self._readers.ask(question)

    async def job(self, job_id: int) -> JobRow | None:
        """One job; None where there is none of that number, also where no job could have it."""
        if not 0 < job_id < 2**63:
            return None
        return await self.read(lambda connection: queries.job(connection, job_id))

    async def jobs(
        self,
        *,
        states: Collection[int] = (),
        tags: Collection[str] = (),
        requestors: Collection[str] = (),
        name: str | None = None,
        since: int | None = None,
        until: int | None = None,
        limit: int | None = None,
        before: int | None = None,
    ) -> list[JobRow]:
        """The jobs in any of the states, with all of the tags, of any of the requestors, of the name (`*` and `?` are
        wildcards), begun from `since` on and before `until`; the newest first.

        Empty is no condition. `limit` and `before` (a job's number) page through them.
        """
        question = partial(
            queries.jobs,
            states=states,
            tags=tags,
            requestors=requestors,
            name=name,
            since=since,
            until=until,
            limit=limit,
            before=before,
        )
        return await self.read(question)

    async def unfinished(self) -> list[JobRow]:
        """The jobs that have not ended, the oldest first, with their plans and the intents not obeyed yet."""
        return await self.read(queries.unfinished)

    async def descriptor(self, job_id: int) -> str | None:
        """A job's descriptor as it was handed in."""
        return await self.read(lambda connection: queries.text(connection, job_id, "descriptor"))

    async def plan(self, job_id: int) -> str | None:
        """A job's plan."""
        return await self.read(lambda connection: queries.text(connection, job_id, "plan"))

    async def runs(self, job_id: int, last: int | None = None) -> list[RunRow]:
        """A job's runs that have ended, oldest first; with `last`, so many of the newest."""
        return await self.read(lambda connection: queries.runs(connection, job_id, last))

    async def reports(self, job_id: int, run_id: int | None = None) -> list[ReportRow]:
        """A job's reports, of all runs or of one (0: the final ones), by run and reporter."""
        return await self.read(lambda connection: queries.reports(connection, job_id, run_id))

    async def acquisitions(
        self, job_id: int, run_id: int | None = None, *, between: tuple[Place, Place] | None = None
    ) -> list[AcquisitionRow]:
        """The targets of a job's attempts, by run, test and attempt; `between` are the first and the last of a run."""
        return await self.read(lambda connection: queries.acquisitions(connection, job_id, run_id, between))

    async def saved_states(self, job_id: int, run_id: int, *, place: Place | None = None) -> list[SavedState]:
        """What steps saved in a run that has not ended; all of them, or those of one attempt."""
        return await self.read(lambda connection: queries.saved_states(connection, job_id, run_id, place))

    async def events(
        self, *, job_id: int | None = None, after: int = 0, limit: int, until: int | None = None
    ) -> list[EventRow]:
        """The first `limit` events behind the feed position `after`, of one job or of all, up to `until`."""
        return await self.read(partial(queries.events, job_id=job_id, after=after, limit=limit, until=until))

    def position(self) -> int:
        """The feed position of the last event that is on disk."""
        return self._feed.position

    def changes(self, job_id: int | None = None) -> Changes:
        """A context in which one task can wait for new events of a job, or of any."""
        return Changes(self._feed, job_id)


def _open(database: Database) -> tuple[dict[str, str], int]:
    database.open()
    try:
        database.begin()
        if database.one_server:
            operations.void_leases(database.writer)
        found = queries.meta(database.writer), queries.last_position(database.writer)
        database.commit()
        return found
    except BaseException as error:
        reason = database.explain(error) if isinstance(error, database.errors) else ""
        database.close()
        if reason:
            raise StoreError(reason) from error
        raise


def _us(seconds: float) -> int:
    return int(seconds * 1_000_000)


def _once(made: bytes | Callable[[], bytes]) -> Callable[[], bytes]:
    """What gives the bytes every time and makes them once."""
    kept: list[bytes] = []

    def give() -> bytes:
        if not kept:
            kept.append(made if isinstance(made, bytes) else made())
        return kept[0]

    return give
