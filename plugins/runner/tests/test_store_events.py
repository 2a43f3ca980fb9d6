"""The feed of events: any mixture of jobs and commits, and that SQLite sorts nothing. The rest is in `StoreSuite`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection

from contest_runner.store import Store, database
from contest_runner.testing.store_place import append

LOG = logging.getLogger("test")


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await Store.open("sqlite:///store.db", directory=tmp_path, log=LOG, synchronous="off")
    yield opened
    await opened.aclose()


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
