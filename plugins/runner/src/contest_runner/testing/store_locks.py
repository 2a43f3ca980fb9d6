"""Cases: the locks of targets in a store, one owner a target, turns in order, rows that outlive the process."""

from __future__ import annotations

import asyncio

import pytest

from contest_core.testing import case
from contest_runner.store import AcquireTimeout, JobEnd, LockLost, StoreClosed
from contest_runner.store.locker import Waiter
from contest_runner.testing.store_place import MINUTE, START, StorePlace, lock_rows, owned, settle, within
from contest_runner.testing.stored import StoredJobs


class StoredLockCases(StoredJobs):
    """All of a set, or n of a pool, each job in its turn."""

    @case
    async def test_locked_targets_are_on_disk_in_the_order_given(self, place: StorePlace) -> None:
        """Once each."""
        async with place.locked() as (store, locker):
            got = await locker.acquire(1, ["b", "a", "c", "a"])
            assert got.targets == ("b", "a", "c")
            assert got.until == START + MINUTE
            assert await lock_rows(store) == [("a", 1, got.token), ("b", 1, got.token), ("c", 1, got.token)]
            assert [(row.target, row.since, row.until) for row in locker.locks()] == [
                (target, START, START + MINUTE) for target in "abc"
            ]

    @case
    async def test_a_release_frees_targets_in_memory_and_on_disk(self, place: StorePlace) -> None:
        """Those that the job holds under the token, and no others."""
        async with place.locked() as (store, locker):
            got = await locker.acquire(1, ["a", "b", "c"])
            await locker.release(1, got.token, ["b", "unknown"])
            assert [row[0] for row in await lock_rows(store)] == ["a", "c"]
            await locker.release(2, got.token)
            await locker.release(1, got.token + 1)
            assert [row.target for row in locker.locks()] == ["a", "c"]
            await locker.release(1, got.token)
            assert await lock_rows(store) == []
            assert locker.locks() == []

    @case
    async def test_tokens_grow_also_over_a_restart_without_locks(self, place: StorePlace) -> None:
        """From one sequence, never begun anew."""
        self._outlives_its_process()
        tokens: list[int] = []
        for _ in range(3):
            store = await place.open()
            locker = await place.locker(store)
            for _ in range(3):
                got = await locker.acquire(1, ["a"])
                tokens.append(got.token)
                await locker.release(1, got.token)
            await store.aclose()
        assert tokens == sorted(set(tokens))
        assert tokens[0] > 0

    @case
    async def test_a_held_target_is_waited_for_and_the_wait_explained(self, place: StorePlace) -> None:
        """By whom it is held, and until when."""
        async with place.locked() as (_, locker):
            first = await locker.acquire(1, ["a", "b"])
            seen: list[Waiter | None] = []
            task = asyncio.create_task(locker.acquire(2, ["c", "b"], on_waiting=seen.append))
            await settle()
            (waiter,) = seen
            assert waiter is not None
            assert (waiter.job_id, waiter.since) == (2, START)
            (blocker,) = waiter.blockers()
            assert (blocker.target, blocker.held_by, blocker.since, blocker.until) == (
                "b",
                1,
                START,
                START + MINUTE,
            )
            assert not blocker.queued
            await locker.release(1, first.token)
            got = await within(task)
            assert got.targets == ("c", "b")
            assert seen[1:] == [None]
            assert waiter.blockers() == []

    @case
    async def test_a_job_that_waits_holds_nothing_meanwhile_but_its_turn(self, place: StorePlace) -> None:
        """A later one overtakes only where it needs nothing of what an earlier one waits for."""
        async with place.locked() as (_, locker):
            first = await locker.acquire(1, ["a"])
            second = await place.waiting(locker, 2, ["a", "b"])
            third = await place.waiting(locker, 3, ["b", "c"])
            assert [row.job_id for row in locker.locks()] == [1]
            overtaking = await within(locker.acquire(4, ["d", "e"]))
            assert overtaking.targets == ("d", "e"), "nobody before it needs these"
            assert not third.done(), "it needs b, for which an earlier job waits"
            await locker.release(1, first.token)
            token = await within(second)
            assert not third.done()
            await locker.release(2, token)
            await within(third)

    @case
    async def test_who_is_next_is_named_where_nobody_holds_the_target(self, place: StorePlace) -> None:
        """Who waits for it has a turn."""
        async with place.locked() as (_, locker):
            await locker.acquire(1, ["a"])
            await place.waiting(locker, 2, ["a", "b"])
            with pytest.raises(AcquireTimeout) as caught:
                await locker.acquire(3, ["b"], deadline=0)
            (blocker,) = caught.value.blockers
            assert (blocker.target, blocker.held_by, blocker.queued, blocker.until) == ("b", 2, True, None)
            assert "'b' is awaited by job 2" in str(caught.value)

    @case
    async def test_a_deadline_names_the_holders_and_leaves_the_turn_to_others(
        self, place: StorePlace
    ) -> None:
        """It takes nothing."""
        async with place.locked() as (store, locker):
            first = await locker.acquire(1, ["a"])
            loop = asyncio.get_running_loop()
            late = asyncio.create_task(locker.acquire(2, ["a", "b"], deadline=loop.time() + 0.02))
            await settle()
            behind = await place.waiting(locker, 3, ["b"])
            with pytest.raises(AcquireTimeout) as caught:
                await within(late)
            assert [(each.target, each.held_by) for each in caught.value.blockers] == [("a", 1)]
            token = await within(behind)
            assert await lock_rows(store) == [("a", 1, first.token), ("b", 3, token)]

    @case
    async def test_a_passed_deadline_takes_what_is_free_and_waits_for_nothing(
        self, place: StorePlace
    ) -> None:
        """It means not to wait."""
        async with place.locked() as (_, locker):
            got = await locker.acquire(1, ["a"], deadline=0)
            assert got.targets == ("a",)
            with pytest.raises(AcquireTimeout):
                await within(locker.acquire(2, ["a"], deadline=0))

    @case
    async def test_a_cancelled_wait_leaves_the_queue(self, place: StorePlace) -> None:
        """Those behind it go on."""
        async with place.locked() as (_, locker):
            first = await locker.acquire(1, ["a"])
            second = await place.waiting(locker, 2, ["a", "b"])
            third = await place.waiting(locker, 3, ["b"])
            second.cancel()
            await within(third)
            await locker.release(1, first.token)
            assert (await locker.acquire(4, ["a"])).targets == ("a",)

    @case
    async def test_an_acquire_cancelled_while_its_rows_are_written_gives_them_back(
        self, place: StorePlace
    ) -> None:
        """In memory and on disk."""
        async with place.locked() as (store, locker):
            task = asyncio.create_task(locker.acquire(1, ["a"]))
            await asyncio.sleep(0)
            assert [row.target for row in locker.locks()] == ["a"]
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await store.committed()
            assert locker.locks() == []
            assert await lock_rows(store) == []

    @case
    async def test_its_own_targets_stay_a_jobs_own(self, place: StorePlace) -> None:
        """Under a new token where more is taken."""
        async with place.locked() as (store, locker):
            first = await locker.acquire(1, ["a", "b"])
            place.clock.now += 1_000_000
            again = await locker.acquire(1, ["b"])
            assert again.token == first.token
            assert again.until == place.clock.now + MINUTE
            more = await locker.acquire(1, ["b", "c"])
            assert more.token > first.token
            assert await lock_rows(store) == [
                ("a", 1, first.token),
                ("b", 1, more.token),
                ("c", 1, more.token),
            ]
            since = {row.target: row.since for row in locker.locks()}
            assert since == {"a": START, "b": START, "c": place.clock.now}
            await locker.release(1, first.token)
            assert [row.target for row in locker.locks()] == ["b", "c"]
            await locker.release(1, None)
            assert await lock_rows(store) == []

    @case
    async def test_a_job_passes_those_who_wait_for_what_it_holds(self, place: StorePlace) -> None:
        """It has it already."""
        async with place.locked() as (_, locker):
            first = await locker.acquire(1, ["a"])
            second = await place.waiting(locker, 2, ["a"])
            assert (await within(locker.acquire(1, ["a"]))).token == first.token
            await locker.release(1, first.token)
            await within(second)

    @case
    async def test_what_a_job_gives_up_while_it_waits_for_more_it_gets_back_with_it(
        self, place: StorePlace
    ) -> None:
        """It asked first."""
        async with place.locked() as (_, locker):
            own = await locker.acquire(1, ["a"])
            other = await locker.acquire(2, ["b"])
            both = await place.waiting(locker, 1, ["a", "b"])
            third = await place.waiting(locker, 3, ["a"])
            await locker.release(1, own.token)
            await settle()
            assert not third.done(), "job 1 asked first"
            await locker.release(2, other.token)
            token = await within(both)
            assert locker.holds(1, token, "a")
            await locker.release(1, token)
            await within(third)

    @case
    async def test_a_pool_gives_as_many_as_are_asked_for(self, place: StorePlace) -> None:
        """And waits until there are."""
        async with place.locked() as (_, locker):
            got = await locker.acquire(1, ["a", "b", "c", "d"], count=2)
            assert got.targets == ("a", "b")
            rest = await locker.acquire(2, ["a", "b", "c", "d"], count=2)
            assert rest.targets == ("c", "d")
            third = await place.waiting(locker, 3, ["a", "b", "c"], count=2)
            await locker.release(1, got.token, ["b"])
            await settle()
            assert not third.done()
            await locker.release(2, rest.token, ["c"])
            token = await within(third)
            assert [row.target for row in locker.locks() if row.token == token] == ["b", "c"]

    @case
    async def test_what_a_pool_leaves_over_goes_to_the_next(self, place: StorePlace) -> None:
        """In the same moment."""
        async with place.locked() as (_, locker):
            first = await locker.acquire(1, ["a", "b", "c"])
            pool = await place.waiting(locker, 2, ["a", "b", "c"], count=1)
            next_one = await place.waiting(locker, 3, ["c"])
            await locker.release(1, first.token)
            await within(asyncio.gather(pool, next_one))
            assert [(row.target, row.job_id) for row in locker.locks()] == [("a", 2), ("c", 3)]

    @case
    async def test_a_lock_that_ran_out_goes_to_who_waits_and_its_owner_is_told(
        self, place: StorePlace
    ) -> None:
        """Behind its last moment, not at it."""
        async with place.locked() as (store, locker):
            first = await locker.acquire(1, ["a", "b"])
            second = await place.waiting(locker, 2, ["b"])
            place.clock.now += MINUTE
            locker.expire()
            await settle()
            assert not second.done(), "it is its owner's up to and with the last moment"
            place.clock.now += 1
            locker.expire()
            token = await within(second)
            assert place.lost == [(1, first.token, ["b"])]
            assert not locker.holds(1, first.token, "b")
            assert await lock_rows(store) == [("a", 1, first.token), ("b", 2, token)]
            await locker.extend(1, first.token)
            await locker.release(1, first.token)
            with pytest.raises(LockLost):
                await locker.extend(1, first.token)

    @case
    async def test_a_lock_that_ran_out_is_taken_without_waiting(self, place: StorePlace) -> None:
        """And its owner is told."""
        async with place.locked() as (_, locker):
            first = await locker.acquire(1, ["a"])
            place.clock.now += MINUTE + 1
            assert (await locker.acquire(2, ["a"], deadline=0)).token > first.token
            assert place.lost == [(1, first.token, ["a"])]

    @case
    async def test_a_lock_that_ran_out_is_still_its_owners_to_take_again(self, place: StorePlace) -> None:
        """While nobody else wants it."""
        async with place.locked() as (_, locker):
            first = await locker.acquire(1, ["a", "b"])
            place.clock.now += MINUTE
            with pytest.raises(AcquireTimeout):
                await locker.acquire(2, ["a"], deadline=0)
            place.clock.now += MINUTE
            again = await locker.acquire(1, ["b", "c"], deadline=0)
            assert [(row.target, row.token, row.since) for row in locker.locks()] == [
                ("a", first.token, START),
                ("b", again.token, START),
                ("c", again.token, place.clock.now),
            ]
            assert place.lost == []

    @case
    async def test_the_end_of_a_lock_wakes_by_a_timer(self, place: StorePlace) -> None:
        """Nobody has to look."""
        async with place.store() as store:
            locker = await place.locker(store, 0.05)
            await locker.acquire(1, ["a"])
            second = await place.waiting(locker, 2, ["a"])
            place.clock.now += 60_000
            await within(second)
            locker.close()

    @case
    async def test_renewed_locks_do_not_run_out_and_kept_ones_do(self, place: StorePlace) -> None:
        """What is kept is not renewed."""
        async with place.locked() as (store, locker):
            renewed, kept = await locker.acquire(1, ["a"]), await locker.acquire(2, ["b"])
            locker.keep(2, kept.token)
            place.clock.now += MINUTE // 2
            await locker.renew_all()
            place.clock.now += MINUTE // 2 + 1
            assert [row.until for row in locker.locks()] == [
                place.clock.now + MINUTE // 2 - 1,
                place.clock.now - 1,
            ]
            await locker.renew_all()
            assert await lock_rows(store) == [("a", 1, renewed.token)]
            with pytest.raises(AcquireTimeout):
                await locker.acquire(3, ["a"], deadline=0)
            assert (await locker.acquire(3, ["b"], deadline=0)).targets == ("b",)

    @case
    async def test_locks_of_jobs_that_go_on_outlive_a_restart_and_others_do_not(
        self, place: StorePlace
    ) -> None:
        """For their whole time again."""
        self._outlives_its_process()
        store = await place.open()
        locker = await place.locker(store, 60)
        alive, done = await owned(store, state=1), await owned(store, state=1)
        kept = await locker.acquire(alive.job_id, ["a", "b"])
        await locker.acquire(done.job_id, ["c"])
        await store.finish_job(
            done, JobEnd(state=2, verdict="passed", flaky=False, error=None, blame=None, end_time=5), []
        )
        await store.aclose()
        place.clock.now += 60 * MINUTE
        store = await place.open()
        locker = await place.locker(store, 60)
        assert [(row.target, row.token, row.until) for row in locker.locks()] == [
            ("a", kept.token, place.clock.now + MINUTE),
            ("b", kept.token, place.clock.now + MINUTE),
        ]
        assert await lock_rows(store) == [("a", alive.job_id, kept.token), ("b", alive.job_id, kept.token)]
        with pytest.raises(AcquireTimeout):
            await locker.acquire(99, ["a"], deadline=0)
        again = await locker.acquire(alive.job_id, ["a", "b"])
        assert again.token == kept.token
        await store.aclose()

    @case
    async def test_the_end_of_a_job_frees_its_locks_in_the_same_transaction(self, place: StorePlace) -> None:
        """No crash shows one without the other."""
        async with place.locked() as (store, locker):
            lease = await owned(store, state=1)
            got = await locker.acquire(lease.job_id, ["a"])
            second = await place.waiting(locker, 99, ["a"])
            end = JobEnd(state=2, verdict="passed", flaky=False, error=None, blame=None, end_time=5)
            locker.release_soon(lease.job_id, got.token)
            await store.finish_job(lease, end, [])
            token = await within(second)
            assert await lock_rows(store) == [("a", 99, token)]
            row = await store.job(lease.job_id)
            assert row is not None
            assert row.end_time == 5

    @case
    async def test_a_freed_target_is_granted_in_the_same_batch(self, place: StorePlace) -> None:
        """From one to the next."""
        async with place.locked() as (store, locker):
            first = await locker.acquire(1, ["a"])
            tasks = [await place.waiting(locker, job_id, ["a"]) for job_id in (2, 3, 4)]
            locker.release_soon(1, first.token)
            locker.release_soon(2, None)
            locker.release_soon(3, None)
            tokens = await within(asyncio.gather(*tasks))
            assert tokens == sorted(tokens)
            assert await lock_rows(store) == [("a", 4, tokens[-1])]

    @pytest.mark.parametrize(
        ("job_id", "targets", "count"),
        [(0, ["a"], None), (1, ["a", " "], None), (1, ["a"], 2), (1, ["a"], -1)],
    )
    @case
    async def test_what_cannot_be_meant_is_refused(
        self, place: StorePlace, job_id: int, targets: list[str], count: int | None
    ) -> None:
        """With `ValueError`."""
        async with place.locked() as (_, locker):
            with pytest.raises(ValueError, match=r"job 0|no ID|targets cannot"):
                await locker.acquire(job_id, targets, count=count)

    @case
    async def test_no_targets_are_no_lock(self, place: StorePlace) -> None:
        """Their token is 0."""
        async with place.locked() as (_, locker):
            for targets, count in (([], None), (["a"], 0)):
                got = await locker.acquire(1, targets, count=count)
                assert (got.token, got.targets) == (0, ())
            assert locker.locks() == []

    @case
    async def test_a_name_that_cannot_be_stored_locks_nothing(self, place: StorePlace) -> None:
        """And harms no other."""
        async with place.locked() as (store, locker):
            bad, good = await asyncio.gather(
                locker.acquire(1, ["a", "\ud800"]), locker.acquire(2, ["b"]), return_exceptions=True
            )
            assert isinstance(bad, ValueError)
            assert not isinstance(good, BaseException)
            assert [row.target for row in locker.locks()] == ["b"]
            assert await lock_rows(store) == [("b", 2, good.token)]

    @case
    async def test_a_closed_store_locks_nothing(self, place: StorePlace) -> None:
        """It says so."""
        store = await place.open()
        locker = await place.locker(store)
        await store.aclose()
        with pytest.raises(StoreClosed):
            await locker.acquire(1, ["a"])
        assert locker.locks() == []

    @case
    async def test_a_large_set_is_taken_and_freed_whole(self, place: StorePlace) -> None:
        """Five thousand targets."""
        async with place.locked() as (store, locker):
            targets = [f"board-{number}" for number in range(5_000)]
            got = await locker.acquire(1, targets)
            assert got.targets == tuple(targets)
            assert len(await lock_rows(store)) == 5_000
            await locker.release(1, got.token, targets[:3_000])
            assert len(await lock_rows(store)) == 2_000
            await locker.release(1, got.token, targets)
            assert await lock_rows(store) == []

    @case
    async def test_targets_that_move_under_a_new_token_do_so_on_disk_too(self, place: StorePlace) -> None:
        """A token is given out once, also after a restart."""
        self._outlives_its_process()
        store = await place.open()
        locker = await place.locker(store)
        job = (await owned(store, state=1)).job_id
        for targets in (["a"], ["b"]):
            await locker.acquire(job, targets)
        both = await locker.acquire(job, ["a", "b"])
        assert both.token == 3
        assert await lock_rows(store) == [("a", job, 3), ("b", job, 3)]
        locker.release_soon(job, both.token)
        await store.aclose()
        store = await place.open()
        again = await place.locker(store)
        assert (await again.acquire(99, ["a"])).token == 4, "a fencing token was given out twice"
        await store.aclose()

    @case
    async def test_a_lock_is_ensured_for_as_long_as_is_asked_and_renewing_does_not_shorten_it(
        self, place: StorePlace
    ) -> None:
        """Nor does taking more."""
        async with place.store() as store:
            locker = await place.locker(store, 10)
            long, short = await locker.acquire(1, ["a"]), await locker.acquire(2, ["b"])
            await locker.extend(1, long.token, 3600)
            await locker.renew_all()
            assert {row.target: row.until - place.clock() for row in locker.locks()} == {
                "a": 3_600_000_000,
                "b": 10_000_000,
            }
            moved = await locker.acquire(1, ["a", "c"])
            assert moved.until - place.clock() == 3_600_000_000
            assert short.token < moved.token
