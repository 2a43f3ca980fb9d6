"""Cases: jobs in a store, made once, owned by a lease, ended in one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from contest_core.testing import case
from contest_runner.store import (
    AcquisitionRow,
    Created,
    Held,
    Lease,
    LeaseLost,
    NewRun,
    ReportRow,
    SavedState,
    StartKeyTaken,
)
from contest_runner.testing.store_place import START, StorePlace, ended, new_job, owned
from contest_runner.testing.stored import StoredJobs


class StoredJobCases(StoredJobs):
    """Jobs, leases, runs, intents, and finding jobs."""

    @case
    async def test_a_job_comes_back_as_it_was_handed_in(self, place: StorePlace) -> None:
        """With everything that was handed in."""
        async with place.store() as store:
            created = await store.create_job(
                new_job(principal="ann@lab", tags=("nightly", "arm"), retry_of=None)
            )
            row = await store.job(created.job_id)
            assert row is not None
            assert (row.name, row.requestor, row.principal, row.server_id) == (
                "boot",
                "ann",
                "ann@lab",
                "lab-1",
            )
            assert (row.request_time, row.start_time, row.end_time, row.state) == (START, None, None, 0)
            assert set(row.tags) == {"nightly", "arm"}
            assert await store.descriptor(created.job_id) == '{"JobName": "boot"}'
            assert await store.plan(created.job_id) == '{"tests": []}'

    @case
    async def test_a_number_of_no_job_gives_nothing(self, place: StorePlace) -> None:
        """And is no error."""
        async with place.store() as store:
            assert await store.job(99) is None
            assert await store.plan(99) is None
            assert await store.runs(99) == []

    @case
    async def test_the_same_start_key_and_digest_give_the_same_job(self, place: StorePlace) -> None:
        """And make no other."""
        async with place.store() as store:
            first = await store.create_job(new_job(start_key="k", start_digest="d"))
            again = await store.create_job(new_job(start_key="k", start_digest="d"))
            assert again == Created(job_id=first.job_id, existing=True)
            assert len(await store.jobs()) == 1

    @case
    async def test_a_start_key_with_another_descriptor_names_the_job_that_has_it(
        self, place: StorePlace
    ) -> None:
        """With its descriptor, for who compares."""
        async with place.store() as store:
            first = await store.create_job(new_job(start_key="k", start_digest="d"))
            with pytest.raises(StartKeyTaken) as caught:
                await store.create_job(new_job(start_key="k", start_digest="other"))
            assert caught.value.job_id == first.job_id
            assert caught.value.descriptor == '{"JobName": "boot"}'

    @case
    async def test_two_starts_with_one_key_in_one_batch_make_one_job(self, place: StorePlace) -> None:
        """One of them is told that it existed."""
        async with place.store() as store:
            job = new_job(start_key="k", start_digest="d")
            first, second = await asyncio.gather(store.create_job(job), store.create_job(job))
            assert (first.existing, second.existing) == (False, True)
            assert first.job_id == second.job_id

    @case
    async def test_start_keys_and_job_numbers_outlive_the_process(self, place: StorePlace) -> None:
        """No number is used again, though its job is gone."""
        self._outlives_its_process()
        store = await place.open()
        first = await store.create_job(new_job(start_key="k", start_digest="d"))
        await store.write(
            lambda connection: connection.exec_driver_sql("DELETE FROM jobs WHERE start_key IS NULL")
        )
        last = await store.create_job(new_job())
        await store.write(
            lambda connection: connection.exec_driver_sql("DELETE FROM jobs WHERE start_key IS NULL")
        )
        await store.aclose()
        store = await place.open()
        again = await store.create_job(new_job(start_key="k", start_digest="d"))
        new = await store.create_job(new_job())
        await store.aclose()
        assert again == Created(job_id=first.job_id, existing=True)
        assert new.job_id == last.job_id + 1

    @case
    async def test_a_job_may_be_claimed_as_it_is_made(self, place: StorePlace) -> None:
        """By the owner who made it, once."""
        async with place.store() as store:
            created = await store.create_job(new_job(start_key="k", start_digest="d"), owner="me", seconds=30)
            assert created.lease == Lease(
                job_id=created.job_id, owner="me", token=1, until=START + 30_000_000
            )
            again = await store.create_job(new_job(start_key="k", start_digest="d"), owner="me", seconds=30)
            assert again.lease is None
            assert isinstance(await store.claim(created.job_id, "somebody", 30), Held)
            await store.set_state(created.lease, 1)
            place.clock.advance(31)
            assert isinstance(await store.claim(created.job_id, "somebody", 30), Lease)
            with pytest.raises(LeaseLost):
                await store.set_state(created.lease, 1)

    @case
    async def test_a_claimed_job_is_held_until_the_lease_runs_out(self, place: StorePlace) -> None:
        """Then another may take it, under a greater token."""
        async with place.store() as store:
            lease = await owned(store)
            assert await store.claim(lease.job_id, "other", 30) == Held(
                job_id=lease.job_id, owner="me", until=START + 30_000_000
            )
            place.clock.advance(31)
            taken = await store.claim(lease.job_id, "other", 30)
            assert isinstance(taken, Lease)
            assert taken.token > lease.token

    @case
    async def test_writes_under_a_lost_lease_write_nothing(self, place: StorePlace) -> None:
        """Each of them raises `LeaseLost`."""
        async with place.store() as store:
            lease = await owned(store)
            place.clock.advance(31)
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

    @case
    async def test_a_lost_lease_harms_no_other_write_of_its_batch(self, place: StorePlace) -> None:
        """What is written together stands or falls by itself."""
        async with place.store() as store:
            lost, good = await owned(store), await owned(store)
            place.clock.advance(31)
            await store.claim(lost.job_id, "other", 30)
            results = await asyncio.gather(
                store.set_state(good, 1),
                store.set_state(lost, 1),
                store.set_state(good, 2),
                return_exceptions=True,
            )
            assert [type(result) for result in results] == [type(None), LeaseLost, type(None)]
            row = await store.job(good.job_id)
            assert row is not None
            assert row.state == 2

    @case
    async def test_renewing_names_the_leases_that_are_gone(self, place: StorePlace) -> None:
        """The others are extended."""
        async with place.store() as store:
            kept, lost = await owned(store), await owned(store)
            place.clock.advance(31)
            await store.claim(lost.job_id, "other", 30)
            assert await store.renew([kept, lost], 60) == [lost]
            place.clock.advance(59)
            assert isinstance(await store.claim(kept.job_id, "other", 30), Held)

    @case
    async def test_an_ended_job_cannot_be_claimed_or_written(self, place: StorePlace) -> None:
        """Nobody holds it."""
        async with place.store() as store:
            lease = await owned(store)
            await store.finish_job(lease, ended(), [])
            assert await store.claim(lease.job_id, "me", 30) == Held(
                job_id=lease.job_id, owner=None, until=None
            )
            with pytest.raises(LeaseLost):
                await store.set_state(lease, 1)

    @case
    async def test_a_restart_takes_the_jobs_on_at_once(self, place: StorePlace) -> None:
        """Where there is one server, its leases are void with it."""
        self._outlives_its_process()
        self._has_one_server(place.directory)
        store = await place.open()
        lease = await owned(store)
        await store.aclose()
        store = await place.open()
        taken = await store.claim(lease.job_id, "the next process", 30)
        await store.aclose()
        assert isinstance(taken, Lease)
        assert taken.token > lease.token

    @case
    async def test_the_end_of_a_job_is_one_with_its_last_events_reports_and_intents(
        self, place: StorePlace
    ) -> None:
        """One transaction."""
        async with place.store() as store:
            lease = await owned(store)
            await store.add_intent(lease.job_id, "stop", "bob")
            report = ReportRow(
                run_id=0, position=0, reporter="TargetSuccess", time=5, success=True, data='["ok"]'
            )
            store.append(
                lease.job_id, 1, None, None, None, None, None, None, "JobStateCompleted", 5, None, None
            )
            await store.finish_job(lease, ended(verdict="failed"), [report])
            row = await store.job(lease.job_id)
            assert row is not None
            assert (row.state, row.verdict, row.end_time) == (2, "failed", START + 9)
            assert (row.lease_owner, row.lease_until) == (None, None)
            assert await store.reports(lease.job_id) == [report]
            assert [event.name for event in await store.events(job_id=lease.job_id, limit=9)] == [
                "JobStateCompleted"
            ]
            assert await store.unfinished() == []

    @case
    async def test_the_last_run_is_stored_with_the_end_of_its_job_or_neither_is(
        self, place: StorePlace
    ) -> None:
        """A status that cannot be made leaves the job as it was."""
        async with place.store() as store:
            lease = await owned(store)
            await store.save(
                lease, SavedState(run_id=1, test_index=0, attempt=0, step="s", target="t", state="1")
            )
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
                await store.finish_job(
                    lease, ended(), [], run=NewRun(run_id=2, start_time=1, end_time=2, status=b"")
                )
            assert len(await store.runs(lease.job_id)) == 1

    @case
    async def test_unfinished_jobs_come_with_plan_and_open_intents(self, place: StorePlace) -> None:
        """All that is needed to go on."""
        async with place.store() as store:
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

    @case
    async def test_a_start_time_once_set_stays(self, place: StorePlace) -> None:
        """Whatever state comes."""
        async with place.store() as store:
            lease = await owned(store)
            await store.set_state(lease, 1, start_time=START + 3)
            await store.set_state(lease, 6)
            row = await store.job(lease.job_id)
            assert row is not None
            assert (row.state, row.start_time) == (6, START + 3)

    @case
    async def test_a_runs_status_is_made_once_and_comes_back_byte_by_byte(self, place: StorePlace) -> None:
        """However often the batch is tried."""
        async with place.store() as store:
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

    @case
    async def test_a_status_that_cannot_be_made_fails_its_run_alone(self, place: StorePlace) -> None:
        """What else is in the batch is written."""
        async with place.store() as store:
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

    @case
    async def test_what_a_step_saved_is_there_until_its_run_ends(self, place: StorePlace) -> None:
        """The last of it."""
        async with place.store() as store:
            lease = await owned(store)
            for state in ("1", "2"):
                await store.save(
                    lease,
                    SavedState(run_id=1, test_index=0, attempt=0, step="flash", target="a", state=state),
                )
            assert [row.state for row in await store.saved_states(lease.job_id, 1)] == ["2"]
            await store.finish_run(lease, NewRun(run_id=1, start_time=1, end_time=2, status=b""), [])
            assert await store.saved_states(lease.job_id, 1) == []

    @case
    async def test_the_last_acquisition_of_an_attempt_is_the_one_that_is_known(
        self, place: StorePlace
    ) -> None:
        """It takes the place of the one before."""
        async with place.store() as store:
            lease = await owned(store)
            row = AcquisitionRow(run_id=1, test_index=0, attempt=0, targets='["a"]', token=7)
            await store.record_acquisition(lease, row)
            again = AcquisitionRow(run_id=1, test_index=0, attempt=0, targets='["a", "b"]', token=8)
            await store.record_acquisition(lease, again)
            assert await store.acquisitions(lease.job_id, 1) == [again]

    @case
    async def test_jobs_are_found_by_state_tags_requestor_and_page(self, place: StorePlace) -> None:
        """The newest first."""
        async with place.store() as store:
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

    @case
    async def test_an_operation_that_raises_undoes_its_own_part_and_no_more(self, place: StorePlace) -> None:
        """The others of its batch are written."""
        async with place.store() as store:

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
