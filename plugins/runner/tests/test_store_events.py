"""The feed of events: in order, complete, found again by job, watched."""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection

from contest_runner.store import REFUSED_NAME, Store, StoreClosed, database
from contest_runner.store.schema import SEGMENT

LOG = logging.getLogger("test")


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await Store.open("sqlite:///store.db", directory=tmp_path, log=LOG, synchronous="off")
    yield opened
    await opened.aclose()


def append(store: Store, job_id: int, sequence: int, **changed: Any) -> None:
    values: dict[str, Any] = {
        "run_id": 1,
        "test": "boot",
        "phase": "test",
        "attempt": 0,
        "step": "power on",
        "target": "board-1",
        "name": "TargetIn",
        "time": 1_700_000_000_000_000,
        "payload": None,
        "token": 3,
    }
    store.append(job_id, sequence, **{**values, **changed})


async def test_an_event_comes_back_as_it_was_appended(store: Store) -> None:
    store.append(
        7, 1, 2, "boot", "cleanup", 3, "power on", "board-1", "Custom", 1_700, '{"a": "ä\\u0000"}', 9
    )
    await store.committed()
    (event,) = await store.events(job_id=7, limit=10)
    assert event.position == store.position()
    assert (event.job_id, event.sequence, event.run_id, event.test, event.phase) == (
        7,
        1,
        2,
        "boot",
        "cleanup",
    )
    assert (event.attempt, event.step, event.target, event.name) == (3, "power on", "board-1", "Custom")
    assert (event.time, event.payload, event.token) == (1_700, '{"a": "ä\\u0000"}', 9)


@pytest.mark.parametrize("every", [1, 2, 700, 1_000_000])
async def test_what_most_rows_lack_comes_back_in_the_rows_that_have_it(store: Store, every: int) -> None:
    told = [None if number % every else f'"{number}"' for number in range(1, 1_500)]
    steps = [None if number % (every + 1) else "on" for number in range(1, 1_500)]
    for number, (payload, step) in enumerate(zip(told, steps, strict=True), 1):
        append(store, 1, number, payload=payload, step=step)
    store.append_each(1, 1_500, 1, "boot", "test", 0, ["a", "b"], "TargetAcquired", 1, 5)
    await store.committed()
    events = await store.events(limit=10_000)
    assert [event.payload for event in events] == [*told, None, None]
    assert [event.step for event in events] == [*steps, None, None]
    assert [(event.sequence, event.target) for event in events[-2:]] == [(1_500, "a"), (1_501, "b")]
    assert [event.position for event in events] == list(range(1, 1_502))


async def test_what_is_not_committed_is_not_read(store: Store) -> None:
    append(store, 1, 1)
    assert store.position() == 0
    assert await store.events(limit=10, until=store.position()) == []
    await store.committed()
    assert store.position() == 1


async def test_positions_go_on_after_a_restart(tmp_path: Path) -> None:
    for _ in range(3):
        store = await Store.open("sqlite:///s.db", directory=tmp_path, log=LOG)
        append(store, 1, 1)
        await store.aclose()
    with sqlite3.connect(tmp_path / "s.db") as plain:
        assert plain.execute("SELECT position FROM events ORDER BY 1").fetchall() == [(1,), (2,), (3,)]
    plain.close()


async def test_a_jobs_events_are_found_among_thousands_of_others(store: Store) -> None:
    count = 3 * SEGMENT
    for number in range(count):
        append(store, 1 + number % 3, number)
    append(store, 99, 1)
    for number in range(2 * SEGMENT):
        append(store, 5, number)
    append(store, 99, 2)
    await store.committed()
    assert [event.sequence for event in await store.events(job_id=99, limit=10)] == [1, 2]
    assert [event.sequence for event in await store.events(job_id=2, limit=count)] == list(range(1, count, 3))
    segments = await store.read(
        lambda connection: connection.exec_driver_sql(
            "SELECT segment FROM event_segments WHERE job_id = 99 ORDER BY 1"
        ).all()
    )
    assert [tuple(row) for row in segments] == [(3,), (5,)]


async def test_reading_one_job_sorts_nothing_and_looks_only_at_its_stretches(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute = database.execute

    def explain(connection: Connection, statement: str, values: Any) -> Any:
        asked.append((statement, values))
        return execute(connection, statement, values)

    asked: list[tuple[str, Any]] = []
    with monkeypatch.context() as patched:
        patched.setattr(database, "execute", explain)
        await store.events(job_id=1, after=5, limit=10)
    ((statement, values),) = asked
    plan = await store.read(
        lambda connection: database.execute(connection, f"EXPLAIN QUERY PLAN {statement}", values).fetchall()
    )
    steps = [row[-1] for row in plan]
    assert any("SEARCH event_segments USING PRIMARY KEY" in step for step in steps)
    assert any("SEARCH events USING INTEGER PRIMARY KEY" in step for step in steps)
    assert not any("TEMP B-TREE" in step for step in steps)


async def test_a_feed_is_paged_by_position(store: Store) -> None:
    for number in range(10):
        append(store, 1 + number % 2, number)
    await store.committed()
    first = await store.events(after=0, limit=4)
    rest = await store.events(after=first[-1].position, limit=100, until=9)
    assert [event.sequence for event in first + rest] == list(range(9))
    of_one = await store.events(job_id=1, after=first[-1].position, limit=100)
    assert [event.sequence for event in of_one] == [4, 6, 8]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 700)), max_size=4), max_size=5))
def test_any_mixture_of_jobs_and_commits_is_read_back_in_order(
    tmp_path: Path, batches: list[list[tuple[int, int]]]
) -> None:
    async def check() -> None:
        store = await Store.open("sqlite://", directory=tmp_path, log=LOG)
        written: dict[int, list[int]] = {}
        for batch in batches:
            for job_id, count in batch:
                for _ in range(count):
                    numbers = written.setdefault(job_id, [])
                    numbers.append(len(numbers) + 1)
                    append(store, job_id, len(numbers))
            await store.committed()
        for job_id, numbers in written.items():
            found = await store.events(job_id=job_id, limit=1_000_000)
            assert [event.sequence for event in found] == numbers
        total = await store.events(limit=1_000_000)
        assert [event.position for event in total] == list(range(1, len(total) + 1))
        assert len(total) == sum(map(len, written.values()))
        await store.aclose()

    asyncio.run(check())


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("payload", '"\ud800"'),
        ("target", "\udfff"),
        ("attempt", 1 << 70),
        ("token", -(1 << 64)),
        ("payload", {"not": "text"}),
        ("name", None),
        ("name", "\ud800"),
    ],
)
async def test_an_event_that_is_not_storable_is_replaced_and_spoils_no_other(
    store: Store, column: str, value: object, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(1, 700):
        append(store, 1, number, **({column: value} if number == 400 else {}))
    with caplog.at_level(logging.ERROR):
        await store.committed()
    found = await store.events(job_id=1, limit=1_000)
    assert [event.sequence for event in found] == list(range(1, 700))
    assert [event.position for event in found] == list(range(1, 700))
    assert [event.sequence for event in found if event.name == REFUSED_NAME] == [400]
    refused = found[399]
    assert json.loads(refused.payload or "")["Error"]
    assert (refused.test, refused.run_id) == ("boot", 1)


async def test_many_refused_events_leave_all_others(store: Store) -> None:
    for number in range(1, 101):
        append(store, 1, number, payload="\ud800" if number % 3 == 0 else '"fine"')
    await store.committed()
    found = await store.events(job_id=1, limit=1_000)
    assert [event.name == REFUSED_NAME for event in found] == [number % 3 == 0 for number in range(1, 101)]


async def test_an_operation_sees_the_events_appended_before_it(store: Store) -> None:
    append(store, 1, 1)
    append(store, 1, 2)
    count = await store.write(
        lambda connection: connection.exec_driver_sql("SELECT count(*) FROM events").scalar_one()
    )
    assert count == 2


async def test_a_cancelled_waiter_disturbs_no_other(store: Store) -> None:
    append(store, 1, 1)
    first, second = asyncio.ensure_future(store.committed()), asyncio.ensure_future(store.committed())
    first.cancel()
    await second
    assert first.cancelled()
    assert len(await store.events(limit=10)) == 1


async def test_who_has_appended_all_of_it_waits_for_no_turn_of_the_loop(store: Store) -> None:
    gathered = store.gathering
    append(store, 1, 1)
    first = store.written()
    assert store.gathering is not gathered, "not handed over"
    gathered = store.gathering
    append(store, 1, 2)
    second = store.written()
    assert store.gathering is gathered, "one commit at a time"
    await asyncio.wait_for(asyncio.gather(first, second), 10)
    assert [event.sequence for event in await store.events(limit=9)] == [1, 2]


async def test_committed_covers_what_is_under_way(store: Store) -> None:
    append(store, 1, 1)
    earlier = store.committed()
    while store.position() == 0:
        await asyncio.sleep(0)
        late = store.committed()
    await asyncio.wait_for(asyncio.gather(earlier, late), 10)
    await asyncio.wait_for(store.committed(), 10)


async def test_a_watcher_wakes_for_its_own_job_only(store: Store) -> None:
    with store.changes(1) as mine, store.changes() as all_jobs:
        start = store.position()
        waiting = asyncio.ensure_future(mine.wait(start))
        append(store, 2, 1)
        await store.committed()
        assert await asyncio.wait_for(all_jobs.wait(start), 10) == 1
        assert not waiting.done()
        append(store, 1, 1)
        await store.committed()
        assert await asyncio.wait_for(waiting, 10) == 2


async def test_a_watcher_misses_nothing_between_two_waits(store: Store) -> None:
    seen: list[int] = []

    async def watch() -> None:
        with store.changes(1) as changes:
            after = 0
            while len(seen) < 200:
                until = await changes.wait(after)
                seen.extend(
                    event.sequence
                    for event in await store.events(job_id=1, after=after, limit=500, until=until)
                )
                after = until

    watching = asyncio.ensure_future(watch())
    for number in range(1, 201):
        append(store, 2, number)
        append(store, 1, number)
        if number % 7 == 0:
            await store.committed()
    await asyncio.wait_for(watching, 20)
    assert seen == list(range(1, 201))


async def test_a_wait_that_was_cancelled_can_be_done_again(store: Store) -> None:
    with store.changes(1) as changes:
        first = asyncio.ensure_future(changes.wait(0))
        await asyncio.sleep(0)
        first.cancel()
        append(store, 1, 1)
        assert await asyncio.wait_for(changes.wait(0), 10) == 1


async def test_closing_ends_a_watch(tmp_path: Path) -> None:
    store = await Store.open("sqlite://", directory=tmp_path, log=LOG)
    with store.changes(1) as changes:
        waiting = asyncio.ensure_future(changes.wait(0))
        await asyncio.sleep(0)
        await store.aclose()
        with pytest.raises(StoreClosed):
            await asyncio.wait_for(waiting, 10)
