"""Cases: `watch` of a job manager, its order, its cursors and its end."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any

import pytest

from contest_core.errors import ContestError
from contest_core.job_event import Cursor, JobEvent
from contest_core.job_manager import Termination
from contest_core.testing.cases import case
from contest_core.testing.managed import ManagedJobs, text
from contest_core.testing.manager_world import UNKNOWN, ManagerPlace, ManagerWorld, read
from contest_core.testing.world import within


class ManagerWatchCases(ManagedJobs):
    """Following what happens in jobs."""

    @case
    async def test_a_watch_gives_a_jobs_events_from_the_first_to_its_end(self, place: ManagerPlace) -> None:
        """Numbered from 1 without a hole; each time the same."""
        async with place.serve() as world:
            self.needs(world, "watch")
            job_id = await world.start(text(self.passes))
            events = await world.events(job_id)
            assert (await world.status(job_id)).state.ended, "the watch ended before the job"
            assert [event.sequence_id for event in events] == list(range(1, len(events) + 1))
            assert events, "nothing has happened"
            assert {event.header.job_id for event in events} == {job_id}
            assert len({event.cursor for event in events}) == len(events)
            assert [event.emit_time for event in events] == sorted(event.emit_time for event in events)
            assert await world.events(job_id) == events

    @case
    async def test_events_are_given_while_the_job_runs(self, place: ManagerPlace) -> None:
        """Those there are at once; at the job's end, the watch ends."""
        async with place.serve() as world:
            self.needs(world, "watch", "stop")
            job_id = await world.start(text(self.lasts))
            async with world.api.watch(world.caller, job_id=job_id) as watch:
                events = await read(watch, 1)
                assert not (await world.status(job_id)).state.ended
                await world.stop(job_id)
                events += await read(watch)
                assert await within(anext(watch, None), "the end, again") is None
            assert events == await world.events(job_id)

    @case
    async def test_a_cursor_goes_on_behind_its_event(self, place: ManagerPlace) -> None:
        """Whichever: nothing is missing and nothing comes twice; with the next manager too, if jobs outlive it."""
        async with place.serve() as world:
            self.needs(world, "watch")
            job_id = await world.start(text(self.passes))
            whole = await world.events(job_id)
            async with world.api.watch(world.caller, job_id=job_id) as watch:
                beginning = str(watch.cursor)
            assert await world.events(job_id, beginning) == whole, "a cursor is valid before the first event"
            for number, event in enumerate(whole, 1):
                assert await world.events(job_id, event.cursor) == whole[number:]
        if self.persistent:
            async with place.serve() as world:
                assert await world.events(job_id, whole[0].cursor) == whole[1:]

    @case
    async def test_a_wait_that_is_cancelled_loses_nothing(self, place: ManagerPlace) -> None:
        """`anext` may be cancelled and called again."""
        async with place.serve() as world:
            self.needs(world, "watch", "stop")
            job_id = await world.start(text(self.lasts))
            events: list[JobEvent] = []
            async with world.api.watch(world.caller, job_id=job_id) as watch:
                while item := await _soon(watch):
                    events.append(item)
                await world.stop(job_id)
                for _ in range(5):
                    asking = asyncio.ensure_future(anext(watch, None))
                    await asyncio.sleep(0)
                    asking.cancel()
                    await asyncio.wait([asking])
                    if not asking.cancelled() and isinstance(given := asking.result(), JobEvent):
                        events.append(given)
                events += await read(watch)
            assert events == await world.events(job_id)

    @case
    async def test_what_cannot_be_watched_is_refused_when_it_is_entered(self, place: ManagerPlace) -> None:
        """A job that there is not, a cursor that is of another."""
        async with place.serve() as world:
            self.needs(world, "watch")
            job_id = await world.start(text(self.passes))
            await world.ended(job_id)
            for number in UNKNOWN:
                assert await _entered(world, job_id=number) == "unknown_job"
            for strange in ("of another store", "", "1", "\0", "9" * 5000):
                found = await _entered(world, job_id=job_id, since=Cursor(f"x{strange}"))
                assert found == "invalid_parameters", f"{strange[:20]!r} was taken for a cursor"

    @case
    async def test_a_watch_of_all_jobs_has_them_in_one_order(self, place: ManagerPlace) -> None:
        """The same for all who watch, and each job's own within it; a cursor goes on behind its event."""
        async with place.serve() as world:
            self.needs(world, "watch")
            async with (
                world.api.watch(world.caller) as watch,
                world.api.watch(world.caller) as other,
            ):
                jobs = [await world.start(self.job(f"kit-{number}")) for number in range(3)]
                whole = {job_id: await world.events(job_id) for job_id in jobs}
                count = sum(map(len, whole.values()))
                events = await read(watch, count)
                assert await read(other, count) == events
            assert _by_job(events) == {job_id: _by_job(each)[job_id] for job_id, each in whole.items()}
            async with world.api.watch(world.caller, since=Cursor(str(events[2].cursor))) as watch:
                assert await read(watch, count - 3) == events[3:]

    @case
    async def test_a_watch_that_is_left_is_over(self, place: ManagerPlace) -> None:
        """In the midst of it; nothing of it stays, and the job goes on."""
        async with place.serve() as world:
            self.needs(world, "watch")
            before = asyncio.all_tasks()
            job_id = await world.start(text(self.passes))
            for _ in range(20):
                async with world.api.watch(world.caller, job_id=job_id) as watch:
                    await read(watch, 1)
            waiting = asyncio.ensure_future(_follow(world))
            await asyncio.sleep(0.02)
            waiting.cancel()
            await asyncio.wait([waiting])
            await world.ended(job_id)
            await asyncio.sleep(0.02)
            more = asyncio.all_tasks() - before
            assert len(more) < 10, f"it has begun {len(more)} tasks that go on"

    @case
    async def test_watches_end_when_it_does(self, place: ManagerPlace) -> None:
        """With a cursor that goes on with the next one, if jobs outlive it."""
        async with place.serve() as world:
            self.needs(world, "watch")
            job_id = await world.start(text(self.lasts))
            async with (
                world.api.watch(world.caller, job_id=job_id) as watch,
                world.api.watch(world.caller) as of_all,
            ):
                events = await read(watch, 1)
                world.server.terminate(Termination.CANCEL)
                events += await read(watch)
                await read(of_all)
                last = str(watch.cursor)
        if not self.persistent:
            return
        async with place.serve() as world:
            if not world.manager.runs_jobs:
                await world.stop(job_id)
            assert events + await world.events(job_id, last) == await world.events(job_id)


def _by_job(events: list[JobEvent]) -> dict[int, list[tuple[int, Any]]]:
    """What happened in each job; cursors are of the feed, and each has its own."""
    found: dict[int, list[tuple[int, Any]]] = defaultdict(list)
    for event in events:
        found[event.header.job_id].append((event.sequence_id, event.data.event_name))
    return found


async def _soon(watch: Any) -> JobEvent | None:
    """The next event; None where there is none for a moment, in which the wait was cancelled."""
    try:
        async with asyncio.timeout(0.1):
            found: JobEvent = await anext(watch)
            return found
    except TimeoutError:
        return None


async def _follow(world: ManagerWorld) -> None:
    async with world.api.watch(world.caller) as watch:
        async for _ in watch:
            pass


async def _entered(world: ManagerWorld, **more: Any) -> str:
    """The code with which a watch is refused."""
    with pytest.raises(ContestError) as caught:
        async with world.api.watch(world.caller, **more):
            pass
    return caught.value.code
