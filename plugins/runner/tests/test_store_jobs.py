"""The store's jobs: made once, owned by a lease, ended in one transaction."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from contest_runner.store import (
    AcquisitionRow,
    Created,
    Held,
    JobEnd,
    Lease,
    LeaseLost,
    NewJob,
    NewRun,
    ReportRow,
    SavedState,
    StartKeyTaken,
    Store,
)

LOG = logging.getLogger("test")
START = 1_700_000_000_000_000


class Clock:
    """Stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> int:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += int(seconds * 1_000_000)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest_asyncio.fixture(params=["sqlite:///store.db", "sqlite://"], ids=["file", "private"])
async def store(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> AsyncIterator[Store]:
    opened = await Store.open(request.param, directory=tmp_path, log=LOG, clock=clock)
    yield opened
    await opened.aclose()


def new_job(**changed: Any) -> NewJob:
    values: dict[str, Any] = {
        "name": "boot",
        "requestor": "ann",
        "server_id": "lab-1",
        "request_time": START,
        "state": 0,
        "descriptor": '{"JobName": "boot"}',
        "plan": '{"tests": []}',
        "plan_format": 1,
    }
    return NewJob(**{**values, **changed})


def ended(state: int = 2, verdict: str = "passed") -> JobEnd:
    return JobEnd(state=state, verdict=verdict, flaky=False, error=None, blame=None, end_time=START + 9)


async def owned(store: Store, **changed: Any) -> Lease:
    created = await store.create_job(new_job(**changed))
    lease = await store.claim(created.job_id, "me", 30)
    assert isinstance(lease, Lease)
    return lease


async def test_a_job_comes_back_as_it_was_handed_in(store: Store) -> None:
    created = await store.create_job(new_job(principal="ann@lab", tags=("nightly", "arm"), retry_of=None))
    row = await store.job(created.job_id)
    assert row is not None
    assert (row.name, row.requestor, row.principal, row.server_id) == ("boot", "ann", "ann@lab", "lab-1")
    assert (row.request_time, row.start_time, row.end_time, row.state) == (START, None, None, 0)
    assert set(row.tags) == {"nightly", "arm"}
    assert await store.descriptor(created.job_id) == '{"JobName": "boot"}'
    assert await store.plan(created.job_id) == '{"tests": []}'


async def test_a_number_of_no_job_gives_nothing(store: Store) -> None:
    assert await store.job(99) is None
    assert await store.plan(99) is None
    assert await store.runs(99) == []


async def test_the_same_start_key_and_digest_give_the_same_job(store: Store) -> None:
    first = await store.create_job(new_job(start_key="k", start_digest="d"))
    again = await store.create_job(new_job(start_key="k", start_digest="d"))
    assert again == Created(job_id=first.job_id, existing=True)
    assert len(await store.jobs()) == 1


async def test_a_start_key_with_another_descriptor_names_the_job_that_has_it(store: Store) -> None:
    first = await store.create_job(new_job(start_key="k", start_digest="d"))
    with pytest.raises(StartKeyTaken) as caught:
        await store.create_job(new_job(start_key="k", start_digest="other"))
    assert caught.value.job_id == first.job_id
    assert caught.value.descriptor == '{"JobName": "boot"}'


async def test_two_starts_with_one_key_in_one_batch_make_one_job(store: Store) -> None:
    job = new_job(start_key="k", start_digest="d")
    first, second = await asyncio.gather(store.create_job(job), store.create_job(job))
    assert (first.existing, second.existing) == (False, True)
    assert first.job_id == second.job_id


async def test_start_keys_and_job_numbers_outlive_the_process(tmp_path: Path) -> None:
    store = await Store.open("sqlite:///s.db", directory=tmp_path, log=LOG)
    first = await store.create_job(new_job(start_key="k", start_digest="d"))
    await store.write(
        lambda connection: connection.exec_driver_sql("DELETE FROM jobs WHERE start_key IS NULL")
    )
    last = await store.create_job(new_job())
    await store.write(
        lambda connection: connection.exec_driver_sql("DELETE FROM jobs WHERE start_key IS NULL")
    )
    await store.aclose()
    store = await Store.open("sqlite:///s.db", directory=tmp_path, log=LOG)
    again = await store.create_job(new_job(start_key="k", start_digest="d"))
    new = await store.create_job(new_job())
    await store.aclose()
    assert again == Created(job_id=first.job_id, existing=True)
    assert new.job_id == last.job_id + 1


async def test_a_job_may_be_claimed_as_it_is_made(store: Store, clock: Clock) -> None:
    created = await store.create_job(new_job(start_key="k", start_digest="d"), owner="me", seconds=30)
    assert created.lease == Lease(job_id=created.job_id, owner="me", token=1, until=START + 30_000_000)
    again = await store.create_job(new_job(start_key="k", start_digest="d"), owner="me", seconds=30)
    assert again.lease is None
    assert isinstance(await store.claim(created.job_id, "somebody", 30), Held)
    await store.set_state(created.lease, 1)
    clock.advance(31)
    assert isinstance(await store.claim(created.job_id, "somebody", 30), Lease)
    with pytest.raises(LeaseLost):
        await store.set_state(created.lease, 1)


async def test_a_claimed_job_is_held_until_the_lease_runs_out(store: Store, clock: Clock) -> None:
    lease = await owned(store)
    assert await store.claim(lease.job_id, "other", 30) == Held(
        job_id=lease.job_id, owner="me", until=START + 30_000_000
    )
    clock.advance(31)
    taken = await store.claim(lease.job_id, "other", 30)
    assert isinstance(taken, Lease)
    assert taken.token > lease.token


async def test_writes_under_a_lost_lease_write_nothing(store: Store, clock: Clock) -> None:
    lease = await owned(store)
    clock.advance(31)
    assert isinstance(await store.claim(lease.job_id, "other", 30), Lease)
    acquisition = AcquisitionRow(run_id=1, test_index=0, attempt=0, targets="[]", token=1)
    saved = SavedState(run_id=1, test_index=0, attempt=0, step="s", target="t", state="1")
    run = NewRun(run_id=1, start_time=1, end_time=2, status=b"x")
    writes: list[Callable[[], Any]] = [
        lambda: store.set_state(lease, 1),
        lambda: store.record_acquisition(lease, acquisition),
        lambda: store.save(lease, saved),
        lambda: store.finish_run(lease, run, []),
        lambda: store.finish_job(lease, ended(), []),
    ]
    for write in writes:
        with pytest.raises(LeaseLost):
            await write()
    row = await store.job(lease.job_id)
    assert row is not None
    assert (row.state, row.end_time) == (0, None)
    assert await store.runs(lease.job_id) == []
    assert await store.acquisitions(lease.job_id) == []


async def test_a_lost_lease_harms_no_other_write_of_its_batch(store: Store, clock: Clock) -> None:
    lost, good = await owned(store), await owned(store)
    clock.advance(31)
    await store.claim(lost.job_id, "other", 30)
    results = await asyncio.gather(
        store.set_state(good, 1), store.set_state(lost, 1), store.set_state(good, 2), return_exceptions=True
    )
    assert [type(result) for result in results] == [type(None), LeaseLost, type(None)]
    row = await store.job(good.job_id)
    assert row is not None
    assert row.state == 2


async def test_renewing_names_the_leases_that_are_gone(store: Store, clock: Clock) -> None:
    kept, lost = await owned(store), await owned(store)
    clock.advance(31)
    await store.claim(lost.job_id, "other", 30)
    assert await store.renew([kept, lost], 60) == [lost]
    clock.advance(59)
    assert isinstance(await store.claim(kept.job_id, "other", 30), Held)


async def test_an_ended_job_cannot_be_claimed_or_written(store: Store) -> None:
    lease = await owned(store)
    await store.finish_job(lease, ended(), [])
    assert await store.claim(lease.job_id, "me", 30) == Held(job_id=lease.job_id, owner=None, until=None)
    with pytest.raises(LeaseLost):
        await store.set_state(lease, 1)


async def test_a_restart_takes_the_jobs_on_at_once(tmp_path: Path) -> None:
    store = await Store.open("sqlite:///s.db", directory=tmp_path, log=LOG)
    lease = await owned(store)
    await store.aclose()
    store = await Store.open("sqlite:///s.db", directory=tmp_path, log=LOG)
    taken = await store.claim(lease.job_id, "the next process", 30)
    await store.aclose()
    assert isinstance(taken, Lease)
    assert taken.token > lease.token


async def test_the_end_of_a_job_is_one_with_its_last_events_reports_and_intents(store: Store) -> None:
    lease = await owned(store)
    await store.add_intent(lease.job_id, "stop", "bob")
    report = ReportRow(run_id=0, position=0, reporter="TargetSuccess", time=5, success=True, data='["ok"]')
    store.append(lease.job_id, 1, None, None, None, None, None, None, "JobStateCompleted", 5, None, None)
    await store.finish_job(lease, ended(verdict="failed"), [report])
    row = await store.job(lease.job_id)
    assert row is not None
    assert (row.state, row.verdict, row.end_time) == (2, "failed", START + 9)
    assert (row.lease_owner, row.lease_until) == (None, None)
    assert await store.reports(lease.job_id) == [report]
    assert [event.name for event in await store.events(job_id=lease.job_id, limit=9)] == ["JobStateCompleted"]
    assert await store.unfinished() == []


async def test_the_last_run_is_stored_with_the_end_of_its_job_or_neither_is(store: Store) -> None:
    lease = await owned(store)
    await store.save(lease, SavedState(run_id=1, test_index=0, attempt=0, step="s", target="t", state="1"))
    report = ReportRow(run_id=1, position=0, reporter="r", time=1, success=True, data="null")

    def broken() -> bytes:
        raise ValueError("no status")

    run = NewRun(run_id=1, start_time=1, end_time=2, status=broken)
    with pytest.raises(ValueError, match="no status"):
        await store.finish_job(lease, ended(), [report], run=run)
    job = await store.job(lease.job_id)
    assert job is not None
    assert job.end_time is None
    whole = NewRun(run_id=1, start_time=1, end_time=2, status=b"status")
    await store.finish_job(lease, ended(), [report], run=whole)
    assert [row.status for row in await store.runs(lease.job_id)] == [b"status"]
    assert await store.reports(lease.job_id) == [report]
    assert await store.saved_states(lease.job_id, 1) == []
    with pytest.raises(LeaseLost):
        await store.finish_job(lease, ended(), [], run=NewRun(run_id=2, start_time=1, end_time=2, status=b""))
    assert len(await store.runs(lease.job_id)) == 1


async def test_unfinished_jobs_come_with_plan_and_open_intents(store: Store) -> None:
    done, waiting = await owned(store), await owned(store, plan='{"tests": [1]}')
    await store.finish_job(done, ended(), [])
    first = await store.add_intent(waiting.job_id, "pause", "ann")
    await store.add_intent(waiting.job_id, "stop", "bob")
    await store.finish_intents(waiting.job_id, "stop")
    (row,) = await store.unfinished()
    assert (row.job_id, row.plan) == (waiting.job_id, '{"tests": [1]}')
    assert [(intent.intent_id, intent.kind, intent.requestor) for intent in row.intents] == [
        (first, "pause", "ann")
    ]


async def test_a_start_time_once_set_stays(store: Store) -> None:
    lease = await owned(store)
    await store.set_state(lease, 1, start_time=START + 3)
    await store.set_state(lease, 6)
    row = await store.job(lease.job_id)
    assert row is not None
    assert (row.state, row.start_time) == (6, START + 3)


async def test_a_runs_status_is_made_once_and_comes_back_byte_by_byte(store: Store) -> None:
    lease = await owned(store)
    made: list[int] = []

    def status() -> bytes:
        made.append(1)
        return b"\x00\xffpacked"

    report = ReportRow(run_id=1, position=0, reporter="noop", time=5, success=False, data="null")
    await store.finish_run(lease, NewRun(run_id=1, start_time=1, end_time=2, status=status), [report])
    await store.finish_run(lease, NewRun(run_id=2, start_time=3, end_time=4, status=b"second"), [])
    assert [(run.run_id, run.status) for run in await store.runs(lease.job_id)] == [
        (1, b"\x00\xffpacked"),
        (2, b"second"),
    ]
    assert [run.run_id for run in await store.runs(lease.job_id, last=1)] == [2]
    assert await store.reports(lease.job_id, 1) == [report]
    assert made == [1]


async def test_a_status_that_cannot_be_made_fails_its_run_alone(store: Store) -> None:
    lease, other = await owned(store), await owned(store)

    def broken() -> bytes:
        raise ValueError("no status")

    run = NewRun(run_id=1, start_time=1, end_time=2, status=broken)
    results = await asyncio.gather(
        store.finish_run(lease, run, []), store.set_state(other, 1), return_exceptions=True
    )
    assert isinstance(results[0], ValueError)
    assert results[1] is None
    assert await store.runs(lease.job_id) == []


async def test_what_a_step_saved_is_there_until_its_run_ends(store: Store) -> None:
    lease = await owned(store)
    for state in ("1", "2"):
        await store.save(
            lease, SavedState(run_id=1, test_index=0, attempt=0, step="flash", target="a", state=state)
        )
    assert [row.state for row in await store.saved_states(lease.job_id, 1)] == ["2"]
    await store.finish_run(lease, NewRun(run_id=1, start_time=1, end_time=2, status=b""), [])
    assert await store.saved_states(lease.job_id, 1) == []


async def test_the_last_acquisition_of_an_attempt_is_the_one_that_is_known(store: Store) -> None:
    lease = await owned(store)
    row = AcquisitionRow(run_id=1, test_index=0, attempt=0, targets='["a"]', token=7)
    await store.record_acquisition(lease, row)
    again = AcquisitionRow(run_id=1, test_index=0, attempt=0, targets='["a", "b"]', token=8)
    await store.record_acquisition(lease, again)
    assert await store.acquisitions(lease.job_id, 1) == [again]


async def test_jobs_are_found_by_state_tags_requestor_and_page(store: Store) -> None:
    for number in range(6):
        await owned(
            store,
            requestor="ann" if number % 2 else "bob",
            tags=("all", "third") if number % 3 == 0 else ("all",),
            state=number % 2,
        )
    numbers = {
        "all": [row.job_id for row in await store.jobs()],
        "states": [row.job_id for row in await store.jobs(states=[1])],
        "tags": [row.job_id for row in await store.jobs(tags=["all", "third"])],
        "requestors": [row.job_id for row in await store.jobs(requestors=["bob"])],
        "page": [row.job_id for row in await store.jobs(limit=2, before=5)],
        "nothing": [row.job_id for row in await store.jobs(states=[0], requestors=["ann"])],
    }
    assert numbers == {
        "all": [6, 5, 4, 3, 2, 1],
        "states": [6, 4, 2],
        "tags": [4, 1],
        "requestors": [5, 3, 1],
        "page": [4, 3],
        "nothing": [],
    }


async def test_an_operation_that_raises_undoes_its_own_part_and_no_more(store: Store) -> None:
    def half(connection: Any) -> None:
        connection.exec_driver_sql("INSERT INTO meta VALUES ('half', 'x')")
        raise KeyError("stop here")

    def whole(connection: Any) -> str:
        connection.exec_driver_sql("INSERT INTO meta VALUES ('whole', 'y')")
        return "done"

    results = await asyncio.gather(
        store.write(half), store.write(whole), store.write(half), return_exceptions=True
    )
    assert isinstance(results[0], KeyError)
    assert results[1] == "done"
    keys = await store.read(
        lambda connection: {row.key for row in connection.exec_driver_sql("SELECT key FROM meta")}
    )
    assert "whole" in keys
    assert "half" not in keys


async def test_readers_cannot_write(store: Store) -> None:
    with pytest.raises(Exception, match="cannot be written"):
        await store.read(lambda connection: connection.exec_driver_sql("DELETE FROM jobs"))
