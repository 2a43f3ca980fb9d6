"""Cases: the feed of events in a store, in order, complete, found again by job, watched."""

from __future__ import annotations

import asyncio
import json

import pytest

from contest_core.testing import case
from contest_runner.store import REFUSED_NAME, StoreClosed
from contest_runner.store.schema import SEGMENT
from contest_runner.testing.store_place import StorePlace, append, within
from contest_runner.testing.stored import StoredJobs


class StoredFeedCases(StoredJobs):
    """Events, positions, and who waits for them."""

    @case
    async def test_an_event_comes_back_as_it_was_appended(self, place: StorePlace) -> None:
        """In every column."""
        async with place.store() as store:
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
            assert (event.attempt, event.step, event.target, event.name) == (
                3,
                "power on",
                "board-1",
                "Custom",
            )
            assert (event.time, event.payload, event.token) == (1_700, '{"a": "ä\\u0000"}', 9)

    @pytest.mark.parametrize("every", [1, 2, 700, 1_000_000])
    @case
    async def test_what_most_rows_lack_comes_back_in_the_rows_that_have_it(
        self, place: StorePlace, every: int
    ) -> None:
        """However a batch is written."""
        async with place.store() as store:
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

    @case
    async def test_what_is_not_committed_is_not_read(self, place: StorePlace) -> None:
        """The position is that of what is on disk."""
        async with place.store() as store:
            append(store, 1, 1)
            assert store.position() == 0
            assert await store.events(limit=10, until=store.position()) == []
            await store.committed()
            assert store.position() == 1

    @case
    async def test_positions_go_on_after_a_restart(self, place: StorePlace) -> None:
        """None is given out twice."""
        self._outlives_its_process()
        for _ in range(3):
            async with place.store() as store:
                append(store, 1, 1)
        async with place.store() as store:
            assert [event.position for event in await store.events(limit=9)] == [1, 2, 3]
            assert store.position() == 3

    @case
    async def test_a_jobs_events_are_found_among_thousands_of_others(self, place: StorePlace) -> None:
        """In their order."""
        async with place.store() as store:
            count = 3 * SEGMENT
            for number in range(count):
                append(store, 1 + number % 3, number)
            append(store, 99, 1)
            for number in range(2 * SEGMENT):
                append(store, 5, number)
            append(store, 99, 2)
            await store.committed()
            assert [event.sequence for event in await store.events(job_id=99, limit=10)] == [1, 2]
            assert [event.sequence for event in await store.events(job_id=2, limit=count)] == list(
                range(1, count, 3)
            )
            segments = await store.read(
                lambda connection: connection.exec_driver_sql(
                    "SELECT segment FROM event_segments WHERE job_id = 99 ORDER BY 1"
                ).all()
            )
            assert [tuple(row) for row in segments] == [(3,), (5,)]

    @case
    async def test_a_feed_is_paged_by_position(self, place: StorePlace) -> None:
        """Of all jobs, or of one."""
        async with place.store() as store:
            for number in range(10):
                append(store, 1 + number % 2, number)
            await store.committed()
            first = await store.events(after=0, limit=4)
            rest = await store.events(after=first[-1].position, limit=100, until=9)
            assert [event.sequence for event in first + rest] == list(range(9))
            of_one = await store.events(job_id=1, after=first[-1].position, limit=100)
            assert [event.sequence for event in of_one] == [4, 6, 8]

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
    @case
    async def test_an_event_that_is_not_storable_is_replaced_and_spoils_no_other(
        self, place: StorePlace, column: str, value: object
    ) -> None:
        """Under its sequence number, so that there is no hole."""
        async with place.store() as store:
            for number in range(1, 700):
                append(store, 1, number, **({column: value} if number == 400 else {}))
            place.expect_errors()
            await store.committed()
            found = await store.events(job_id=1, limit=1_000)
            assert [event.sequence for event in found] == list(range(1, 700))
            assert [event.position for event in found] == list(range(1, 700))
            assert [event.sequence for event in found if event.name == REFUSED_NAME] == [400]
            refused = found[399]
            assert json.loads(refused.payload or "")["Error"]
            assert (refused.test, refused.run_id) == ("boot", 1)

    @case
    async def test_many_refused_events_leave_all_others(self, place: StorePlace) -> None:
        """Each in its place."""
        async with place.store() as store:
            for number in range(1, 101):
                append(store, 1, number, payload="\ud800" if number % 3 == 0 else '"fine"')
            await store.committed()
            found = await store.events(job_id=1, limit=1_000)
            assert [event.name == REFUSED_NAME for event in found] == [
                number % 3 == 0 for number in range(1, 101)
            ]

    @case
    async def test_an_operation_sees_the_events_appended_before_it(self, place: StorePlace) -> None:
        """They are of one transaction."""
        async with place.store() as store:
            append(store, 1, 1)
            append(store, 1, 2)
            count = await store.write(
                lambda connection: connection.exec_driver_sql("SELECT count(*) FROM events").scalar_one()
            )
            assert count == 2

    @case
    async def test_a_cancelled_waiter_disturbs_no_other(self, place: StorePlace) -> None:
        """The commit goes on."""
        async with place.store() as store:
            append(store, 1, 1)
            first, second = asyncio.ensure_future(store.committed()), asyncio.ensure_future(store.committed())
            first.cancel()
            await second
            assert first.cancelled()
            assert len(await store.events(limit=10)) == 1

    @case
    async def test_who_has_appended_all_of_it_waits_for_no_turn_of_the_loop(self, place: StorePlace) -> None:
        """Its batch is handed over at once, while none is being written."""
        async with place.store() as store:
            gathered = store.gathering
            append(store, 1, 1)
            first = store.written()
            assert store.gathering is not gathered, "not handed over"
            gathered = store.gathering
            append(store, 1, 2)
            second = store.written()
            assert store.gathering is gathered, "one commit at a time"
            await within(asyncio.gather(first, second))
            assert [event.sequence for event in await store.events(limit=9)] == [1, 2]

    @case
    async def test_committed_covers_what_is_under_way(self, place: StorePlace) -> None:
        """Though the next batch has begun."""
        async with place.store() as store:
            append(store, 1, 1)
            earlier = store.committed()
            while store.position() == 0:
                await asyncio.sleep(0)
                late = store.committed()
            await within(asyncio.gather(earlier, late))
            await within(store.committed())

    @case
    async def test_a_watcher_wakes_for_its_own_job_only(self, place: StorePlace) -> None:
        """Or for any."""
        async with place.store() as store:
            with store.changes(1) as mine, store.changes() as all_jobs:
                start = store.position()
                waiting = asyncio.ensure_future(mine.wait(start))
                append(store, 2, 1)
                await store.committed()
                assert await within(all_jobs.wait(start)) == 1
                assert not waiting.done()
                append(store, 1, 1)
                await store.committed()
                assert await within(waiting) == 2

    @case
    async def test_a_watcher_misses_nothing_between_two_waits(self, place: StorePlace) -> None:
        """However they fall."""
        async with place.store() as store:
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
            await within(watching)
            assert seen == list(range(1, 201))

    @case
    async def test_a_wait_that_was_cancelled_can_be_done_again(self, place: StorePlace) -> None:
        """It gives the same."""
        async with place.store() as store:
            with store.changes(1) as changes:
                first = asyncio.ensure_future(changes.wait(0))
                await asyncio.sleep(0)
                first.cancel()
                append(store, 1, 1)
                assert await within(changes.wait(0)) == 1

    @case
    async def test_closing_ends_a_watch(self, place: StorePlace) -> None:
        """With `StoreClosed`."""
        store = await place.open()
        with store.changes(1) as changes:
            waiting = asyncio.ensure_future(changes.wait(0))
            await asyncio.sleep(0)
            await store.aclose()
            with pytest.raises(StoreClosed):
                await within(waiting)
