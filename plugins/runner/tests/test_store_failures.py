"""The store when its database is not well: nothing is lost, nothing is doubled, everybody is told."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import Connection

from contest_runner.store import Store, StoreClosed, StoreError, StoreFailed, StoreUnwell, sqlite
from contest_runner.store.errors import StoreGivenUp

LOG = logging.getLogger("test")


class Surroundings:
    """What the store is given, and what it told."""

    def __init__(self) -> None:
        self.health: list[str | None] = []
        self.fatal: list[StoreFailed] = []
        self.delays: list[float] = []
        self.before_retry: Callable[[], object] = lambda: None

    def later(self, delay: float, callback: Callable[[], None], /) -> None:
        self.delays.append(delay)
        self.before_retry()
        asyncio.get_running_loop().call_soon(callback)


@pytest.fixture
def around(monkeypatch: pytest.MonkeyPatch) -> Surroundings:
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.01)
    return Surroundings()


async def opened(path: Path, around: Surroundings) -> Store:
    return await Store.open(
        "sqlite:///s.db",
        directory=path,
        log=LOG,
        later=around.later,
        on_health=around.health.append,
        on_fatal=around.fatal.append,
    )


@pytest_asyncio.fixture
async def store(tmp_path: Path, around: Surroundings) -> AsyncIterator[Store]:
    made = await opened(tmp_path, around)
    yield made
    await made.aclose()


@contextmanager
def locked(path: Path) -> Iterator[sqlite3.Connection]:
    """Somebody's shell in the middle of a transaction."""
    with closing(sqlite3.connect(path / "s.db", isolation_level=None)) as shell:
        shell.execute("BEGIN IMMEDIATE")
        yield shell


def append(store: Store, sequence: int, payload: str | None = None) -> None:
    store.append(1, sequence, 1, "boot", "test", 0, "on", "board-1", "TargetIn", 17, payload, 3)


async def sequences(store: Store) -> list[int]:
    return [event.sequence for event in await store.events(limit=100_000)]


async def test_a_locked_file_is_waited_for_with_growing_delays(
    store: Store, tmp_path: Path, around: Surroundings
) -> None:
    with locked(tmp_path) as shell:

        def unlock() -> None:
            if len(around.delays) == 10:
                shell.execute("ROLLBACK")

        around.before_retry = unlock
        append(store, 1)
        write = asyncio.ensure_future(store.write(lambda connection: "written"))
        await asyncio.wait_for(store.committed(), 30)
    assert await write == "written"
    assert around.delays == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]
    assert around.health[-1] is None
    assert "locked by another program" in (around.health[0] or "")
    assert await sequences(store) == [1]


async def test_what_can_be_asked_again_is_refused_while_nothing_is_taken_and_never_happens(
    store: Store, tmp_path: Path, around: Surroundings
) -> None:
    refused: list[BaseException | int] = []
    with locked(tmp_path) as shell:

        def meanwhile() -> None:
            if len(around.delays) == 2:
                another = asyncio.ensure_future(store.add_intent(1, "stop", "late"))
                another.add_done_callback(lambda done: refused.append(done.exception() or done.result()))
            if len(around.delays) == 4:
                shell.execute("ROLLBACK")

        around.before_retry = meanwhile
        with pytest.raises(StoreUnwell, match="locked by another program"):
            await asyncio.wait_for(store.add_intent(1, "stop", "early"), 30)
        while around.health[-1] is not None:
            await asyncio.sleep(0.001)
    assert [type(each) for each in refused] == [StoreUnwell]
    await store.add_intent(1, "stop", "afterwards")
    intents = await store.read(
        lambda connection: connection.exec_driver_sql("SELECT requestor FROM intents").scalars().all()
    )
    assert intents == ["afterwards"]


async def test_a_refused_request_leaves_what_else_is_written_to_wait(
    store: Store, tmp_path: Path, around: Surroundings
) -> None:
    with locked(tmp_path) as shell:
        around.before_retry = lambda: shell.execute("ROLLBACK")
        append(store, 1)
        request = asyncio.ensure_future(store.add_intent(1, "stop", "me"))
        write = store.write_soon(lambda connection: "written")
        with pytest.raises(StoreUnwell):
            await asyncio.wait_for(request, 30)
        await asyncio.wait_for(store.committed(), 30)
    assert await write == "written"
    assert await sequences(store) == [1]


async def test_a_store_that_was_given_up_ends_whoever_waits_for_it(
    tmp_path: Path, around: Surroundings
) -> None:
    store = await opened(tmp_path, around)
    with locked(tmp_path):
        append(store, 1)
        waiting: list[asyncio.Future[Any]] = [store.committed(), store.write_soon(lambda connection: "never")]
        while not around.health:
            await asyncio.sleep(0.001)
        append(store, 2)
        waiting.append(store.committed())
        store.give_up()
        done = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 30)
        assert [type(each) for each in done] == [StoreGivenUp] * 3
        await store.aclose()


async def test_a_store_that_has_nothing_to_write_closes_well_though_it_could_not(
    tmp_path: Path, around: Surroundings
) -> None:
    store = await opened(tmp_path, around)
    with locked(tmp_path):
        with pytest.raises(StoreUnwell):
            await store.add_intent(1, "stop", "me")
        await asyncio.wait_for(store.committed(), 30)
        await asyncio.wait_for(store.aclose(), 30)


async def test_a_full_disk_loses_and_doubles_nothing(store: Store, around: Surroundings) -> None:
    writer = store._database.writer
    append(store, 1)
    await store.committed()
    pages = await store.write(lambda connection: connection.exec_driver_sql("PRAGMA page_count").scalar_one())
    await store.write(lambda connection: connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + 3}"))

    def make_room() -> None:
        if len(around.delays) == 3:
            writer.exec_driver_sql("PRAGMA max_page_count = 1000000")
            writer.rollback()

    around.before_retry = make_room
    waiters = []
    runs: list[int] = []
    for sequence in range(2, 1_000):
        append(store, sequence, '"' + "x" * 500 + '"')
        if sequence % 100 == 0:
            await asyncio.sleep(0)
            waiters.append(store.committed())
            waiters.append(store.write_soon(lambda connection: runs.append(1)))
    await asyncio.wait_for(asyncio.gather(*waiters, store.committed()), 30)
    assert "full" in (around.health[0] or "")
    assert around.health[-1] is None
    assert await sequences(store) == list(range(1, 1_000))
    positions = [event.position for event in await store.events(limit=10_000)]
    assert positions == list(range(1, 1_000))


async def test_a_commit_that_fails_is_repeated_whole(
    store: Store, around: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, failures = sqlite.SQLite.commit, [1, 1]

    def commit(self: sqlite.SQLite) -> None:
        if failures:
            failures.pop()
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
            raise error
        real(self)

    monkeypatch.setattr(sqlite.SQLite, "commit", commit)
    append(store, 1)
    await store.write(lambda connection: connection.exec_driver_sql("INSERT INTO meta VALUES ('once', 'x')"))
    assert await sequences(store) == [1]
    assert len(around.delays) == 2
    assert "disk" in (around.health[0] or "")


async def test_an_event_refused_before_the_disk_was_full_is_refused_once(
    store: Store, tmp_path: Path, around: Surroundings
) -> None:
    with locked(tmp_path) as shell:
        around.before_retry = lambda: shell.execute("ROLLBACK")
        append(store, 1, "\ud800")
        append(store, 2)
        await asyncio.wait_for(store.committed(), 30)
    assert [event.name for event in await store.events(limit=9)] == ["EventRefused", "TargetIn"]


async def handed_over(store: Store) -> None:
    batch = store.gathering
    while store.gathering is batch:
        await asyncio.sleep(0)


async def test_room_waits_while_the_database_takes_nothing(
    store: Store, tmp_path: Path, around: Surroundings
) -> None:
    with locked(tmp_path) as shell:
        unlock = asyncio.Event()
        around.before_retry = lambda: shell.execute("ROLLBACK") if unlock.is_set() else None
        append(store, 0)
        await handed_over(store)
        for sequence in range(1, 20_001):
            append(store, sequence)
        room = asyncio.ensure_future(store.room())
        done, _ = await asyncio.wait([room], timeout=0.1)
        assert not done
        other = asyncio.ensure_future(store.room())
        await asyncio.sleep(0)
        other.cancel()
        unlock.set()
        await asyncio.wait_for(room, 30)
    await asyncio.wait_for(store.committed(), 30)
    assert len(await sequences(store)) == 20_001


async def test_room_waits_for_large_payloads_too(store: Store, tmp_path: Path, around: Surroundings) -> None:
    with locked(tmp_path) as shell:
        append(store, 0)
        await handed_over(store)
        append(store, 1, '"' + "x" * (33 << 20) + '"')
        room = asyncio.ensure_future(store.room())
        await asyncio.sleep(0)
        assert not room.done()
        around.before_retry = lambda: shell.execute("ROLLBACK")
        await asyncio.wait_for(room, 30)
    await asyncio.wait_for(store.committed(), 30)


async def test_closing_gives_up_on_a_database_that_takes_nothing(
    tmp_path: Path, around: Surroundings
) -> None:
    store = await opened(tmp_path, around)
    with locked(tmp_path):
        append(store, 1)
        waiting = asyncio.ensure_future(store.committed())
        write = asyncio.ensure_future(store.write(lambda connection: None))
        with pytest.raises(StoreFailed, match="locked"):
            await asyncio.wait_for(store.aclose(), 30)
        for each in (waiting, write):
            with pytest.raises(StoreFailed):
                await each
    reopened = await opened(tmp_path, around)
    assert await sequences(reopened) == []
    await reopened.aclose()


async def test_closing_commits_what_was_appended(tmp_path: Path, around: Surroundings) -> None:
    store = await opened(tmp_path, around)
    for sequence in range(1, 5_001):
        append(store, sequence)
    await store.aclose()
    reopened = await opened(tmp_path, around)
    assert len(await sequences(reopened)) == 5_000
    await reopened.aclose()


async def test_a_closed_store_says_so(tmp_path: Path, around: Surroundings) -> None:
    store = await opened(tmp_path, around)
    await store.aclose()
    append(store, 1)
    for ask in (store.committed, lambda: store.write(lambda connection: None), lambda: store.job(1)):
        with pytest.raises(StoreClosed):
            await asyncio.wait_for(asyncio.ensure_future(ask()), 10)


def damage(file: Path) -> None:
    """Overwrite the page where events begin."""
    with closing(sqlite3.connect(file)) as shell:
        (page,) = shell.execute("SELECT rootpage FROM sqlite_master WHERE name = 'events'").fetchone()
        (size,) = shell.execute("PRAGMA page_size").fetchone()
    with file.open("r+b") as raw:
        raw.seek((page - 1) * size)
        raw.write(b"\xff" * size)


async def test_a_damaged_file_is_not_opened(tmp_path: Path, around: Surroundings) -> None:
    store = await opened(tmp_path, around)
    await store.aclose()
    damage(tmp_path / "s.db")
    with pytest.raises(StoreError, match="damaged"):
        await opened(tmp_path, around)


async def test_damage_while_serving_is_fatal(
    tmp_path: Path, around: Surroundings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = await opened(tmp_path, around)
    append(store, 1)
    await store.committed()

    def broken(self: sqlite.SQLite) -> None:
        error = sqlite3.DatabaseError("database disk image is malformed")
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise error

    with monkeypatch.context() as patched, store.changes() as changes:
        patched.setattr(sqlite.SQLite, "begin", broken)
        append(store, 2)
        watching = asyncio.ensure_future(changes.wait(1))
        write = asyncio.ensure_future(store.write(lambda connection: None))
        await asyncio.sleep(0)
        append(store, 3)
        for each in (store.committed(), write, watching):
            with pytest.raises(StoreFailed, match="damaged"):
                await asyncio.wait_for(each, 10)
    assert len(around.fatal) == 1
    assert around.delays == []
    append(store, 4)
    with pytest.raises(StoreFailed):
        await asyncio.wait_for(store.committed(), 10)
    assert await sequences(store) == [1]
    await store.aclose()
    assert "damaged" in caplog.text


async def test_an_operation_with_bad_sql_is_its_own_fault(store: Store, around: Surroundings) -> None:
    append(store, 1)
    bad = store.write(lambda connection: connection.exec_driver_sql("SELECT nonsense FROM nowhere"))
    with pytest.raises(Exception, match="nowhere"):
        await asyncio.wait_for(bad, 10)
    assert around.health == []
    assert await sequences(store) == [1]


async def test_a_caller_that_goes_away_withdraws_nothing(store: Store) -> None:
    def insert(connection: Connection) -> None:
        connection.exec_driver_sql("INSERT INTO meta VALUES ('gone', 'x')")

    write = asyncio.ensure_future(store.write(insert))
    await asyncio.sleep(0)
    write.cancel()
    await store.committed()
    keys = await store.read(
        lambda connection: [row.key for row in connection.exec_driver_sql("SELECT key FROM meta")]
    )
    assert "gone" in keys
