"""Watching: from the beginning, from a cursor, across restarts, until the job or the server ends."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from contest_core import Cursor, InvalidParameters, JobEvent, UnknownJob
from contest_runner.testing import Lab, Serving, simple, step

ECHO = step("echo", text="x")


async def read(
    serving: Serving, job: int | None, since: Cursor | None = None, most: int | None = None
) -> list[Any]:
    found: list[Any] = []
    async with asyncio.timeout(10), serving.api.watch(serving.caller, job_id=job, since=since) as watch:
        async for event in watch:
            found.append(event)
            assert str(watch.cursor) == event.cursor
            if most is not None and len(found) >= most:
                break
    return found


def names(events: list[Any]) -> list[str]:
    return [event.data.event_name for event in events]


async def test_a_watch_gives_all_events_in_order_and_ends_with_the_job(lab: Lab) -> None:
    async with lab.server() as serving:
        job = await serving.start(simple(step("sleep", duration="50ms"), targets=("a", "b")))
        events = await read(serving, job)
        assert [event.sequence_id for event in events] == list(range(1, len(events) + 1))
        assert names(events) == await serving.names(job)
        assert names(events)[-1] == "JobStateCompleted"
        assert await read(serving, job) == events


async def test_a_cursor_goes_on_behind_what_was_seen_also_after_a_restart(lab: Lab) -> None:
    async with lab.server() as serving:
        job = await serving.start(simple(ECHO))
        whole = await read(serving, job)
        part = await read(serving, job, most=3)
        assert part == whole[:3]
    async with lab.server() as serving:
        rest = await read(serving, job, Cursor(part[-1].cursor))
        assert part + rest == whole
        assert await read(serving, job, Cursor(whole[-1].cursor)) == []


async def test_cursors_that_are_none_of_this_feed_are_refused(lab: Lab) -> None:
    async with lab.server() as serving:
        job = await serving.start(simple(ECHO))
        other = await serving.start(simple(ECHO))
        [event] = await read(serving, job, most=1)
        await read(serving, other)
        for text in (
            "",
            "junk",
            event.cursor.replace("1.", "1.x", 1),
            event.cursor + "9" * 5000,
            "1.a.b.1.1",
        ):
            with pytest.raises(InvalidParameters):
                await read(serving, job, Cursor(text))
        with pytest.raises(InvalidParameters):
            await read(serving, other, Cursor(event.cursor))
        with pytest.raises(InvalidParameters):
            await read(serving, None, Cursor(event.cursor))
        for unknown in (99, 2**63, 10**30, -1, 0):
            with pytest.raises((UnknownJob, InvalidParameters)):
                await read(serving, unknown)


async def test_a_watch_of_all_sees_jobs_that_come_later(lab: Lab) -> None:
    async with lab.server() as serving:
        await serving.run(simple(ECHO))
        async with serving.api.watch(serving.caller) as watch:
            second = await serving.start(simple(ECHO))
            async with asyncio.timeout(5):
                async for event in watch:
                    assert isinstance(event, JobEvent)
                    assert event.header.job_id == second
                    if event.data.event_name == "JobStateCompleted":
                        break
            cursor = watch.cursor
        third = await serving.start(simple(ECHO))
        await serving.ended(third)
        more = await read(serving, None, cursor, most=2)
        assert {event.header.job_id for event in more} == {third}


async def test_a_slow_reader_holds_nobody_up_and_misses_nothing(lab: Lab) -> None:
    async with lab.server() as serving:
        job = await serving.start(simple(ECHO, targets=[f"t{n}" for n in range(600)]))
        async with serving.api.watch(serving.caller, job_id=job) as watch:
            first = await anext(watch)
            await serving.ended(job)
            rest = [event async for event in watch]
        numbers = [event.sequence_id for event in [first, *rest] if isinstance(event, JobEvent)]
        assert numbers == list(range(1, len(rest) + 2))


async def test_a_watch_ends_with_the_server(lab: Lab) -> None:
    async with lab.server() as serving:
        job = await serving.start(simple(step("sleep", duration="1h")))
        readers = [asyncio.ensure_future(read(serving, job)), asyncio.ensure_future(read(serving, None))]
        await asyncio.sleep(0.1)
    seen, _ = await asyncio.wait_for(asyncio.gather(*readers), 5)
    assert names(seen)[-1] == "JobStateCancelled"


async def test_a_watch_that_is_cancelled_can_be_asked_again(lab: Lab) -> None:
    async with lab.server() as serving:
        job = await serving.start(simple(step("sleep", duration="300ms")))
        seen: list[Any] = []
        async with serving.api.watch(serving.caller, job_id=job) as watch:
            while True:
                try:
                    seen.append(await asyncio.wait_for(anext(watch), 0.02))
                except TimeoutError:
                    continue
                except StopAsyncIteration:
                    break
        assert names(seen) == await serving.names(job)
