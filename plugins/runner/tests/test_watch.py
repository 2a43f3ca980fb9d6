"""Watching, beyond what `JobManagerSuite` asks: cursors of other feeds, slow readers, a watch of all from now on."""

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
