"""The locker: one owner a target, turns in order, and rows that outlive the process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
import pytest_asyncio

from contest_runner.store import AcquireTimeout, JobEnd, Lease, LockLost, NewJob, Store, StoreClosed
from contest_runner.store.lock_queue import LockQueue, Request
from contest_runner.store.locker import Locker, Waiter

LOG = logging.getLogger("test")
START = 1_700_000_000_000_000
MINUTE = 60_000_000


class Clock:
    """Stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def opened(path: Path, clock: Clock) -> Store:
    return await Store.open("sqlite:///s.db", directory=path, log=LOG, clock=clock, synchronous="off")


@pytest_asyncio.fixture
async def store(tmp_path: Path, clock: Clock) -> AsyncIterator[Store]:
    made = await opened(tmp_path, clock)
    yield made
    await made.aclose()


Lost = list[tuple[int, int, list[str]]]


@pytest.fixture
def lost() -> Lost:
    return []


@pytest_asyncio.fixture
async def locker(store: Store, lost: Lost) -> AsyncIterator[Locker]:
    made = Locker(
        store, duration=60, on_lost=lambda job, token, targets: lost.append((job, token, list(targets)))
    )
    await made.open()
    yield made
    made.close()


async def rows(store: Store) -> list[tuple[str, int, int]]:
    statement = "SELECT target_id, job_id, token FROM locks ORDER BY target_id"
    found = await store.read(lambda connection: connection.exec_driver_sql(statement).all())
    return [(row[0], row[1], row[2]) for row in found]


async def waiting(
    locker: Locker, job_id: int, targets: Sequence[str], count: int | None = None
) -> asyncio.Task[int]:
    """A job that is known to wait; the task gives its token."""
    began = asyncio.Event()

    async def acquire() -> int:
        got = await locker.acquire(
            job_id, targets, count=count, on_waiting=lambda waiter: began.set() if waiter else None
        )
        return got.token

    task = asyncio.create_task(acquire())
    await asyncio.wait_for(began.wait(), 10)
    return task


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def make_job(store: Store) -> Lease:
    job = NewJob(
        name="n",
        requestor="r",
        server_id="s",
        request_time=1,
        state=1,
        descriptor="{}",
        plan="{}",
        plan_format=1,
    )
    made = await store.create_job(job)
    lease = await store.claim(made.job_id, "me", 60)
    assert isinstance(lease, Lease)
    return lease


async def test_locked_targets_are_on_disk_in_the_order_given(store: Store, locker: Locker) -> None:
    got = await locker.acquire(1, ["b", "a", "c", "a"])
    assert got.targets == ("b", "a", "c")
    assert got.until == START + MINUTE
    assert await rows(store) == [("a", 1, got.token), ("b", 1, got.token), ("c", 1, got.token)]
    assert [(row.target, row.since, row.until) for row in locker.locks()] == [
        (target, START, START + MINUTE) for target in "abc"
    ]


async def test_a_release_frees_targets_in_memory_and_on_disk(store: Store, locker: Locker) -> None:
    got = await locker.acquire(1, ["a", "b", "c"])
    await locker.release(1, got.token, ["b", "unknown"])
    assert [row[0] for row in await rows(store)] == ["a", "c"]
    await locker.release(2, got.token)
    await locker.release(1, got.token + 1)
    assert [row.target for row in locker.locks()] == ["a", "c"]
    await locker.release(1, got.token)
    assert await rows(store) == []
    assert locker.locks() == []


async def test_tokens_grow_also_over_a_restart_without_locks(tmp_path: Path, clock: Clock) -> None:
    tokens: list[int] = []
    for _ in range(3):
        store = await opened(tmp_path, clock)
        locker = Locker(store)
        await locker.open()
        for _ in range(3):
            got = await locker.acquire(1, ["a"])
            tokens.append(got.token)
            await locker.release(1, got.token)
        await store.aclose()
    assert tokens == sorted(set(tokens))
    assert tokens[0] > 0


async def test_a_held_target_is_waited_for_and_the_wait_explained(locker: Locker) -> None:
    first = await locker.acquire(1, ["a", "b"])
    seen: list[Waiter | None] = []
    task = asyncio.create_task(locker.acquire(2, ["c", "b"], on_waiting=seen.append))
    await settle()
    (waiter,) = seen
    assert waiter is not None
    assert (waiter.job_id, waiter.since) == (2, START)
    (blocker,) = waiter.blockers()
    assert (blocker.target, blocker.held_by, blocker.since, blocker.until) == ("b", 1, START, START + MINUTE)
    assert not blocker.queued
    await locker.release(1, first.token)
    got = await asyncio.wait_for(task, 10)
    assert got.targets == ("c", "b")
    assert seen[1:] == [None]
    assert waiter.blockers() == []


async def test_a_job_that_waits_holds_nothing_meanwhile_but_its_turn(locker: Locker) -> None:
    first = await locker.acquire(1, ["a"])
    second = await waiting(locker, 2, ["a", "b"])
    third = await waiting(locker, 3, ["b", "c"])
    assert [row.job_id for row in locker.locks()] == [1]
    overtaking = await asyncio.wait_for(locker.acquire(4, ["d", "e"]), 10)
    assert overtaking.targets == ("d", "e"), "nobody before it needs these"
    assert not third.done(), "it needs b, for which an earlier job waits"
    await locker.release(1, first.token)
    token = await asyncio.wait_for(second, 10)
    assert not third.done()
    await locker.release(2, token)
    await asyncio.wait_for(third, 10)


async def test_who_is_next_is_named_where_nobody_holds_the_target(locker: Locker) -> None:
    await locker.acquire(1, ["a"])
    await waiting(locker, 2, ["a", "b"])
    with pytest.raises(AcquireTimeout) as caught:
        await locker.acquire(3, ["b"], deadline=0)
    (blocker,) = caught.value.blockers
    assert (blocker.target, blocker.held_by, blocker.queued, blocker.until) == ("b", 2, True, None)
    assert "'b' is awaited by job 2" in str(caught.value)


async def test_a_deadline_names_the_holders_and_leaves_the_turn_to_others(
    store: Store, locker: Locker
) -> None:
    first = await locker.acquire(1, ["a"])
    loop = asyncio.get_running_loop()
    late = asyncio.create_task(locker.acquire(2, ["a", "b"], deadline=loop.time() + 0.02))
    await settle()
    behind = await waiting(locker, 3, ["b"])
    with pytest.raises(AcquireTimeout) as caught:
        await asyncio.wait_for(late, 10)
    assert [(each.target, each.held_by) for each in caught.value.blockers] == [("a", 1)]
    token = await asyncio.wait_for(behind, 10)
    assert await rows(store) == [("a", 1, first.token), ("b", 3, token)]


async def test_a_passed_deadline_takes_what_is_free_and_waits_for_nothing(locker: Locker) -> None:
    got = await locker.acquire(1, ["a"], deadline=0)
    assert got.targets == ("a",)
    with pytest.raises(AcquireTimeout):
        await asyncio.wait_for(locker.acquire(2, ["a"], deadline=0), 10)


async def test_a_cancelled_wait_leaves_the_queue(locker: Locker) -> None:
    first = await locker.acquire(1, ["a"])
    second = await waiting(locker, 2, ["a", "b"])
    third = await waiting(locker, 3, ["b"])
    second.cancel()
    await asyncio.wait_for(third, 10)
    await locker.release(1, first.token)
    assert (await locker.acquire(4, ["a"])).targets == ("a",)


async def test_an_acquire_cancelled_while_its_rows_are_written_gives_them_back(
    store: Store, locker: Locker
) -> None:
    task = asyncio.create_task(locker.acquire(1, ["a"]))
    await asyncio.sleep(0)
    assert [row.target for row in locker.locks()] == ["a"]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await store.committed()
    assert locker.locks() == []
    assert await rows(store) == []


async def test_its_own_targets_stay_a_jobs_own(store: Store, locker: Locker, clock: Clock) -> None:
    first = await locker.acquire(1, ["a", "b"])
    clock.now += 1_000_000
    again = await locker.acquire(1, ["b"])
    assert again.token == first.token
    assert again.until == clock.now + MINUTE
    more = await locker.acquire(1, ["b", "c"])
    assert more.token > first.token
    assert await rows(store) == [("a", 1, first.token), ("b", 1, more.token), ("c", 1, more.token)]
    since = {row.target: row.since for row in locker.locks()}
    assert since == {"a": START, "b": START, "c": clock.now}
    await locker.release(1, first.token)
    assert [row.target for row in locker.locks()] == ["b", "c"]
    await locker.release(1, None)
    assert await rows(store) == []


async def test_a_job_passes_those_who_wait_for_what_it_holds(locker: Locker) -> None:
    first = await locker.acquire(1, ["a"])
    second = await waiting(locker, 2, ["a"])
    assert (await asyncio.wait_for(locker.acquire(1, ["a"]), 10)).token == first.token
    await locker.release(1, first.token)
    await asyncio.wait_for(second, 10)


async def test_what_a_job_gives_up_while_it_waits_for_more_it_gets_back_with_it(locker: Locker) -> None:
    own = await locker.acquire(1, ["a"])
    other = await locker.acquire(2, ["b"])
    both = await waiting(locker, 1, ["a", "b"])
    third = await waiting(locker, 3, ["a"])
    await locker.release(1, own.token)
    await settle()
    assert not third.done(), "job 1 asked first"
    await locker.release(2, other.token)
    token = await asyncio.wait_for(both, 10)
    assert locker.holds(1, token, "a")
    await locker.release(1, token)
    await asyncio.wait_for(third, 10)


async def test_a_pool_gives_as_many_as_are_asked_for(locker: Locker) -> None:
    got = await locker.acquire(1, ["a", "b", "c", "d"], count=2)
    assert got.targets == ("a", "b")
    rest = await locker.acquire(2, ["a", "b", "c", "d"], count=2)
    assert rest.targets == ("c", "d")
    third = await waiting(locker, 3, ["a", "b", "c"], count=2)
    await locker.release(1, got.token, ["b"])
    await settle()
    assert not third.done()
    await locker.release(2, rest.token, ["c"])
    token = await asyncio.wait_for(third, 10)
    assert [row.target for row in locker.locks() if row.token == token] == ["b", "c"]


async def test_what_a_pool_leaves_over_goes_to_the_next(locker: Locker) -> None:
    first = await locker.acquire(1, ["a", "b", "c"])
    pool = await waiting(locker, 2, ["a", "b", "c"], count=1)
    next_one = await waiting(locker, 3, ["c"])
    await locker.release(1, first.token)
    await asyncio.wait_for(asyncio.gather(pool, next_one), 10)
    assert [(row.target, row.job_id) for row in locker.locks()] == [("a", 2), ("c", 3)]


async def test_a_lock_that_ran_out_goes_to_who_waits_and_its_owner_is_told(
    store: Store, locker: Locker, clock: Clock, lost: Lost
) -> None:
    first = await locker.acquire(1, ["a", "b"])
    second = await waiting(locker, 2, ["b"])
    clock.now += MINUTE
    locker.expire()
    await settle()
    assert not second.done(), "it is its owner's up to and with the last moment"
    clock.now += 1
    locker.expire()
    token = await asyncio.wait_for(second, 10)
    assert lost == [(1, first.token, ["b"])]
    assert not locker.holds(1, first.token, "b")
    assert await rows(store) == [("a", 1, first.token), ("b", 2, token)]
    await locker.extend(1, first.token)
    await locker.release(1, first.token)
    with pytest.raises(LockLost):
        await locker.extend(1, first.token)


async def test_a_lock_that_ran_out_is_taken_without_waiting(locker: Locker, clock: Clock, lost: Lost) -> None:
    first = await locker.acquire(1, ["a"])
    clock.now += MINUTE + 1
    assert (await locker.acquire(2, ["a"], deadline=0)).token > first.token
    assert lost == [(1, first.token, ["a"])]


async def test_a_lock_that_ran_out_is_still_its_owners_to_take_again(
    locker: Locker, clock: Clock, lost: Lost
) -> None:
    first = await locker.acquire(1, ["a", "b"])
    clock.now += MINUTE
    with pytest.raises(AcquireTimeout):
        await locker.acquire(2, ["a"], deadline=0)
    clock.now += MINUTE
    again = await locker.acquire(1, ["b", "c"], deadline=0)
    assert [(row.target, row.token, row.since) for row in locker.locks()] == [
        ("a", first.token, START),
        ("b", again.token, START),
        ("c", again.token, clock.now),
    ]
    assert lost == []


async def test_the_end_of_a_lock_wakes_by_a_timer(store: Store, clock: Clock) -> None:
    locker = Locker(store, duration=0.05)
    await locker.open()
    await locker.acquire(1, ["a"])
    second = await waiting(locker, 2, ["a"])
    clock.now += 60_000
    await asyncio.wait_for(second, 10)
    locker.close()


async def test_renewed_locks_do_not_run_out_and_kept_ones_do(
    store: Store, locker: Locker, clock: Clock
) -> None:
    renewed, kept = await locker.acquire(1, ["a"]), await locker.acquire(2, ["b"])
    locker.keep(2, kept.token)
    clock.now += MINUTE // 2
    await locker.renew_all()
    clock.now += MINUTE // 2 + 1
    assert [row.until for row in locker.locks()] == [clock.now + MINUTE // 2 - 1, clock.now - 1]
    await locker.renew_all()
    assert await rows(store) == [("a", 1, renewed.token)]
    with pytest.raises(AcquireTimeout):
        await locker.acquire(3, ["a"], deadline=0)
    assert (await locker.acquire(3, ["b"], deadline=0)).targets == ("b",)


async def test_locks_of_jobs_that_go_on_outlive_a_restart_and_others_do_not(
    tmp_path: Path, clock: Clock
) -> None:
    store = await opened(tmp_path, clock)
    locker = Locker(store, duration=60)
    await locker.open()
    alive, done = await make_job(store), await make_job(store)
    kept = await locker.acquire(alive.job_id, ["a", "b"])
    await locker.acquire(done.job_id, ["c"])
    await store.finish_job(
        done, JobEnd(state=2, verdict="passed", flaky=False, error=None, blame=None, end_time=5), []
    )
    await store.aclose()
    clock.now += 60 * MINUTE
    store = await opened(tmp_path, clock)
    locker = Locker(store, duration=60)
    await locker.open()
    assert [(row.target, row.token, row.until) for row in locker.locks()] == [
        ("a", kept.token, clock.now + MINUTE),
        ("b", kept.token, clock.now + MINUTE),
    ]
    assert await rows(store) == [("a", alive.job_id, kept.token), ("b", alive.job_id, kept.token)]
    with pytest.raises(AcquireTimeout):
        await locker.acquire(99, ["a"], deadline=0)
    again = await locker.acquire(alive.job_id, ["a", "b"])
    assert again.token == kept.token
    await store.aclose()


async def test_the_end_of_a_job_frees_its_locks_in_the_same_transaction(store: Store, locker: Locker) -> None:
    lease = await make_job(store)
    got = await locker.acquire(lease.job_id, ["a"])
    second = await waiting(locker, 99, ["a"])
    end = JobEnd(state=2, verdict="passed", flaky=False, error=None, blame=None, end_time=5)
    locker.release_soon(lease.job_id, got.token)
    await store.finish_job(lease, end, [])
    token = await asyncio.wait_for(second, 10)
    assert await rows(store) == [("a", 99, token)]
    row = await store.job(lease.job_id)
    assert row is not None
    assert row.end_time == 5


async def test_a_freed_target_is_granted_in_the_same_batch(store: Store, locker: Locker) -> None:
    first = await locker.acquire(1, ["a"])
    tasks = [await waiting(locker, job_id, ["a"]) for job_id in (2, 3, 4)]
    locker.release_soon(1, first.token)
    locker.release_soon(2, None)
    locker.release_soon(3, None)
    tokens = await asyncio.wait_for(asyncio.gather(*tasks), 10)
    assert tokens == sorted(tokens)
    assert await rows(store) == [("a", 4, tokens[-1])]


@pytest.mark.parametrize(
    ("job_id", "targets", "count"), [(0, ["a"], None), (1, ["a", " "], None), (1, ["a"], 2), (1, ["a"], -1)]
)
async def test_what_cannot_be_meant_is_refused(
    locker: Locker, job_id: int, targets: list[str], count: int | None
) -> None:
    with pytest.raises(ValueError, match=r"job 0|no ID|targets cannot"):
        await locker.acquire(job_id, targets, count=count)


async def test_no_targets_are_no_lock(locker: Locker) -> None:
    for targets, count in (([], None), (["a"], 0)):
        got = await locker.acquire(1, targets, count=count)
        assert (got.token, got.targets) == (0, ())
    assert locker.locks() == []


async def test_a_name_that_cannot_be_stored_locks_nothing(store: Store, locker: Locker) -> None:
    bad, good = await asyncio.gather(
        locker.acquire(1, ["a", "\ud800"]), locker.acquire(2, ["b"]), return_exceptions=True
    )
    assert isinstance(bad, ValueError)
    assert not isinstance(good, BaseException)
    assert [row.target for row in locker.locks()] == ["b"]
    assert await rows(store) == [("b", 2, good.token)]


async def test_a_closed_store_locks_nothing(tmp_path: Path, clock: Clock) -> None:
    store = await opened(tmp_path, clock)
    locker = Locker(store)
    await locker.open()
    await store.aclose()
    with pytest.raises(StoreClosed):
        await locker.acquire(1, ["a"])
    assert locker.locks() == []


async def test_a_large_set_is_taken_and_freed_whole(store: Store, locker: Locker) -> None:
    targets = [f"board-{number}" for number in range(5_000)]
    got = await locker.acquire(1, targets)
    assert got.targets == tuple(targets)
    assert len(await rows(store)) == 5_000
    await locker.release(1, got.token, targets[:3_000])
    assert len(await rows(store)) == 2_000
    await locker.release(1, got.token, targets)
    assert await rows(store) == []


async def test_targets_that_move_under_a_new_token_do_so_on_disk_too(tmp_path: Path, clock: Clock) -> None:
    store = await opened(tmp_path, clock)
    locker = Locker(store)
    await locker.open()
    job = (await make_job(store)).job_id
    for targets in (["a"], ["b"]):
        await locker.acquire(job, targets)
    both = await locker.acquire(job, ["a", "b"])
    assert both.token == 3
    assert await rows(store) == [("a", job, 3), ("b", job, 3)]
    locker.release_soon(job, both.token)
    await store.aclose()
    store = await opened(tmp_path, clock)
    again = Locker(store)
    await again.open()
    assert (await again.acquire(99, ["a"])).token == 4, "a fencing token was given out twice"
    await store.aclose()


async def test_a_lock_is_ensured_for_as_long_as_is_asked_and_renewing_does_not_shorten_it(
    store: Store, clock: Clock
) -> None:
    locker = Locker(store, duration=10)
    await locker.open()
    long, short = await locker.acquire(1, ["a"]), await locker.acquire(2, ["b"])
    await locker.extend(1, long.token, 3600)
    await locker.renew_all()
    assert {row.target: row.until - clock() for row in locker.locks()} == {
        "a": 3_600_000_000,
        "b": 10_000_000,
    }
    moved = await locker.acquire(1, ["a", "c"])
    assert moved.until - clock() == 3_600_000_000
    assert short.token < moved.token


def test_handing_many_targets_over_takes_each_request_once() -> None:
    granted: list[int] = []
    queue = LockQueue(
        clock=lambda: 0,
        duration=10,
        on_grant=lambda request: granted.append(request.job_id),
        on_lapse=lambda grant, targets: None,
    )
    targets = tuple(f"t{number:06}" for number in range(100_000))
    first = Request(1, targets, len(targets), 0)
    queue.enter(first)
    for job_id in (2, 3):
        queue.enter(Request(job_id, targets, len(targets), 0))
    assert first.grant is not None
    # Quadratic, this took minutes.
    queue.free(first.grant)
    assert granted == [1, 2]
