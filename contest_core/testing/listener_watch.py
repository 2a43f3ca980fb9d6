"""Cases: `watch`, its cursor, gaps, and consumers that are slow or gone."""

from __future__ import annotations

import asyncio
import json
import resource
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import pytest

from contest_core.client import Client
from contest_core.errors import ContestError, error_from_wire
from contest_core.job_manager import Termination
from contest_core.testing.cases import case
from contest_core.testing.transport import Transport
from contest_core.testing.world import (
    REQUESTOR,
    Place,
    add_job,
    ask,
    code,
    refusal,
    settled,
    until,
    within,
)

_WHO = {"requestor": REQUESTOR}

SLOW_EVENTS: Final = 6000
SLOW_BYTES: Final = 8 * 1024
"""What a consumer that does not read misses: 48 MiB."""


class WatchCases(Transport):
    """Following what happens."""

    @case
    async def test_a_watch_gives_every_event_from_the_first_to_the_end_of_the_job(self, place: Place) -> None:
        """The same objects as without a transport, cursors included."""
        async with self._watched(place) as world, place.reference() as reference:
            for manager in (world.manager, reference.manager):
                await _play(manager, 30)
            for job in (1, 2):
                expected = await _all(reference.client, jobID=job)
                assert await _all(await world.client(), jobID=job) == expected
                assert len(expected) == 32

    @case
    async def test_events_come_as_they_happen(self, place: Place) -> None:
        """Each is there before the next one happens."""
        async with self._watched(place) as world:
            await world.jobs(1)
            async with (await world.client()).watch({**_WHO, "jobID": 1}) as items:
                assert _name(await _next(items)) == "JobStateStarted"
                for number in range(5):
                    world.manager.emit(1, f"step-{number}", {"text": "ä\n"})
                    event = await _next(items)
                    assert _name(event) == f"step-{number}"
                    assert event["Event"]["Data"]["Payload"] == {"text": "ä\n"}
                world.manager.finish(1)
                assert _name(await _next(items)) == "JobStateCompleted"
                assert await within(anext(items, None), "the end of the watch") is None

    @pytest.mark.parametrize("read", [1, 5, 11])
    @case
    async def test_a_cursor_resumes_behind_its_event(self, place: Place, read: int) -> None:
        """Over another connection: nothing is missing and nothing comes twice."""
        async with self._watched(place) as world:
            await _play(world.manager, 10)
            whole = await _all(await world.client(), jobID=1)
            cursor = whole[read - 1]["Event"]["Cursor"]
            assert whole[read:] == await _all(await world.client(), jobID=1, since=cursor)

    @case
    async def test_a_watch_of_all_jobs_has_them_in_one_order(self, place: Place) -> None:
        """And ends with the server."""
        async with self._watched(place) as world, place.reference() as reference:
            for manager in (world.manager, reference.manager):
                await _play(manager, 10)
            async with (await world.client()).watch(_WHO) as items, reference.client.watch(_WHO) as others:
                for _ in range(24):
                    assert await _next(items) == await _next(others)
                world.server.terminate(Termination.CANCEL)
                assert await within(anext(items, None), "the end of the watch") is None

    @case
    async def test_a_gap_says_how_much_is_missing(self, place: Place) -> None:
        """Of one job the number, and the cursor behind it."""
        async with self._watched(place) as world, place.reference() as reference:
            for manager in (world.manager, reference.manager):
                await _play(manager, 10)
                manager.prune(7)
            got = await _all(await world.client(), jobID=1)
            assert got == await _all(reference.client, jobID=1)
            assert got[0]["Gap"]["Missed"] == 4

    @pytest.mark.parametrize(
        ("parameters", "expected"),
        [
            ({"jobID": 77}, "unknown_job"),
            ({"jobID": "x"}, "invalid_parameters"),
            ({"since": "of another store"}, "invalid_parameters"),
            ({"requestor": ""}, "invalid_parameters"),
        ],
    )
    @case
    async def test_a_watch_that_is_refused_says_why_when_it_is_entered(
        self, place: Place, parameters: Mapping[str, object], expected: str
    ) -> None:
        """It raises the refusal, and leaves nothing."""
        async with self._watched(place) as world:
            with pytest.raises(ContestError) as caught:
                async with (await world.client()).watch({**_WHO, **parameters}):
                    pass
            assert caught.value.code == expected

    @case
    async def test_requests_are_answered_beside_a_watch(self, place: Place) -> None:
        """Over the same client, in both directions."""
        async with self._watched(place) as world:
            await world.jobs(1)
            client = await world.client()
            async with client.watch({**_WHO, "jobID": 1}) as items:
                await _next(items)
                assert code(await ask(client, "list")) is None
                world.manager.emit(1, "after")
                assert _name(await _next(items)) == "after"

    @case
    async def test_watches_beside_each_other_get_their_own(self, place: Place) -> None:
        """Over one client."""
        async with self._watched(place) as world, AsyncExitStack() as stack:
            await world.jobs(3)
            client = await world.client()
            feeds = [
                await stack.enter_async_context(client.watch({**_WHO, "jobID": job})) for job in (1, 2, 3)
            ]
            for job in (3, 1, 2):
                world.manager.emit(job, f"of-{job}")
            for job, feed in enumerate(feeds, 1):
                assert [_name(await _next(feed)) for _ in range(2)] == ["JobStateStarted", f"of-{job}"]

    @case
    async def test_a_fault_that_ends_a_watch_is_not_taken_for_its_end(self, place: Place) -> None:
        """It is raised, with its code: who watches goes on from the last cursor."""
        async with self._watched(place) as world:
            await world.jobs(1)
            async with (await world.client()).watch({**_WHO, "jobID": 1}) as items:
                await _next(items)
                world.manager.raises["event"] = error_from_wire("unavailable", "the store is away")
                world.manager.emit(1, "lost")
                with pytest.raises(ContestError) as caught:
                    await _next(items)
                assert caught.value.code == "unavailable", caught.value

    @case
    async def test_a_watch_that_is_left_ends_at_the_job_manager(self, place: Place) -> None:
        """And the client goes on."""
        async with self._watched(place) as world:
            await _play(world.manager, 50, end=False)
            client = await world.client()
            for _ in range(3):
                async with client.watch({**_WHO, "jobID": 1}) as items:
                    await _next(items)
                await until(lambda: not world.manager.watches, "the watch has ended")
            assert code(await ask(client, "list")) is None

    @case
    async def test_a_watch_whose_peer_goes_ends(self, place: Place) -> None:
        """Though nothing happens in it."""
        async with self._watched(place) as world:
            await world.jobs(1)
            client = await world.client()
            watching = asyncio.ensure_future(_follow(client))
            await until(lambda: world.manager.watches and world.manager.given_out, "it is being watched")
            watching.cancel()
            await asyncio.wait([watching])
            await within(client.aclose(), "the end of the client")
            await until(lambda: not world.manager.watches, "the watch has ended")

    @case
    async def test_a_slow_consumer_costs_bounded_memory_and_is_told_what_it_misses(
        self, place: Place
    ) -> None:
        """What it does not read waits in the store, or a gap says its size: nothing is skipped without a word."""
        async with self._watched(place) as world:
            await world.jobs(1)
            async with (await world.client()).watch({**_WHO, "jobID": 1}) as items:
                await _next(items)
                payload = "x" * SLOW_BYTES
                before = _resident()
                for _ in range(SLOW_EVENTS):
                    world.manager.emit(1, "step", payload)
                world.manager.finish(1)
                await settled(lambda: world.manager.given_out)
                early, more = world.manager.given_out, _resident() - before
                await world.still_serves()
                missed, got = await _drain(items)
            assert got + missed == SLOW_EVENTS + 1, "some are missing, or came twice"
            bound = 2 / 3
            kept = early > SLOW_EVENTS * bound and more > SLOW_EVENTS * SLOW_BYTES * bound
            assert missed or not kept, f"all of it was kept in memory: {more:,} bytes more"

    @case
    async def test_where_there_is_no_watch_it_is_refused(self, place: Place) -> None:
        """By name, and not forgotten."""
        if self.watches:
            pytest.skip("`watches` is True: there is one")
        async with place.serve() as world:
            client = await world.client()
            assert await refusal(_enter(client)) == "unsupported"

    def _watched(self, place: Place) -> Any:
        if not self.watches:
            pytest.skip("`watches` is False: this transport has none")
        return place.serve()


async def _play(manager: Any, events: int, *, end: bool = True) -> None:
    """Two jobs, in which so many things happen by turns."""
    for name in ("one", "two"):
        await add_job(manager, name)
    for number in range(events):
        for job in (1, 2):
            manager.emit(job, f"step-{number}", {"number": number})
    if end:
        for job in (1, 2):
            manager.finish(job)


async def _next(items: AsyncIterator[bytes]) -> dict[str, Any]:
    item: dict[str, Any] = json.loads(await within(anext(items), "the next event"))
    item.pop("Subscription", None)
    # A client may say first where a watch of all jobs begins.
    return await _next(items) if item.get("Gap", {}).get("Missed") == 0 else item


async def _all(client: Client, **parameters: object) -> list[dict[str, Any]]:
    """What a watch gives to its end."""
    found = []
    async with client.watch({**_WHO, **parameters}) as items:
        while (item := await within(anext(items, None), "the next event, or the end")) is not None:
            decoded = json.loads(item)
            decoded.pop("Subscription", None)
            found.append(decoded)
    return found


async def _follow(client: Client) -> None:
    async with client.watch({**_WHO, "jobID": 1}) as items:
        async for _ in items:
            pass


async def _enter(client: Client) -> bytes:
    async with client.watch(_WHO):
        return b"{}"


def _resident() -> int:
    """Bytes of memory that this process has; 0 where the system does not tell."""
    try:
        pages = Path("/proc/self/statm").read_text().split()[1]
    except OSError:
        return 0
    return int(pages) * resource.getpagesize()


async def _drain(items: AsyncIterator[bytes]) -> tuple[int, int]:
    """How many events were missed and how many came, to the end; they are in order."""
    missed = got = 0
    while (item := await within(anext(items, None), "the next event, or the end")) is not None:
        decoded = json.loads(item)
        if "Gap" in decoded:
            assert decoded["Gap"]["Missed"] is not None, "a gap in one job says its size"
            missed += decoded["Gap"]["Missed"]
        else:
            got += 1
            assert decoded["Event"]["SequenceID"] == got + missed + 1, "events are in order, without a hole"
    return missed, got


def _name(item: dict[str, Any]) -> str:
    name: str = item["Event"]["Data"]["EventName"]
    return name
