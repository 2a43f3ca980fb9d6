"""A watch of another server: its events, gaps and cursors, over every loss, and no further ahead than is read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import msgspec
import pytest

from contest_core import (
    Cursor,
    EventStartMsg,
    Gap,
    InvalidParameters,
    Termination,
    TooManyRequests,
    Unavailable,
    UnknownJob,
)
from contest_relay import watching

JOB = '{"JobName":"j"}'
PAYLOAD = msgspec.Raw(b'{"b":1.0e2,"a":[12345678901234567890123,"\\u00fc"]}')

SCHEMES = pytest.mark.parametrize("scheme", ["http", "ws"])


class Line:
    """Between a relay and its server: it can be cut, and mended."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.up = True
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def open(self, scheme: str) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._through, "127.0.0.1", 0)
        try:
            yield f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            self.cut()
            if self._tasks:
                await asyncio.wait(self._tasks)

    def cut(self) -> None:
        self.up = False
        for writer in self._writers:
            writer.transport.abort()

    def mend(self) -> None:
        self.up = True

    async def _through(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if not self.up:
            writer.transport.abort()
            return
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.port)
        self._writers |= {writer, far_writer}
        await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))
        self._writers -= {writer, far_writer}

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.transport.abort()


@asynccontextmanager
async def behind_a_line(kit: Any, lab: Any, scheme: str) -> AsyncIterator[tuple[Any, Line]]:
    """A relay whose connection to the lab can be cut."""
    async with kit.serving(lab, scheme) as far:
        line = Line(int(kit.address_of(far).rpartition(":")[2]))
        async with line.open(scheme) as address, kit.serving(kit.relay(address)) as here:
            yield here, line


async def take(watch: Any, count: int) -> list[Any]:
    async with asyncio.timeout(10):
        return [await anext(watch) for _ in range(count)]


def names(items: list[Any]) -> list[str]:
    return ["gap" if isinstance(item, Gap) else item.data.event_name for item in items]


@SCHEMES
async def test_events_gaps_and_cursors_are_those_of_the_server(kit: Any, scheme: str) -> None:
    lab = kit.Lab()
    async with kit.relayed(lab, scheme) as (far, here):
        await far.api.start(kit.caller_of(far), JOB)
        for number in range(5):
            lab.emit(1, f"E{number}", PAYLOAD)
        lab.prune(3)
        lab.finish(1)
        for job_id, since in ((1, None), (1, "4"), (None, "0"), (None, "2")):
            found = []
            for server in (far, here):
                cursor = Cursor(since) if since else None
                async with server.api.watch(kit.caller_of(server), job_id=job_id, since=cursor) as watch:
                    items = await take(watch, 5 if since != "4" else 3)
                    found.append((msgspec.json.encode(items), str(watch.cursor)))
                    if job_id:
                        assert await anext(watch, None) is None
            assert found[0] == found[1]


@SCHEMES
async def test_a_watch_of_all_jobs_begins_where_the_server_says(kit: Any, scheme: str) -> None:
    lab = kit.Lab()
    async with kit.relayed(lab, scheme) as (far, here):
        await far.api.start(kit.caller_of(far), JOB)
        async with (
            far.api.watch(kit.caller_of(far)) as there,
            here.api.watch(kit.caller_of(here)) as watch,
        ):
            assert str(watch.cursor) == str(there.cursor)


@SCHEMES
async def test_a_refusal_is_raised_when_it_is_entered(kit: Any, scheme: str) -> None:
    async with kit.relayed(kit.Lab(), scheme) as (_, here):
        with pytest.raises(UnknownJob, match="there is no job 7"):
            async with here.api.watch(kit.caller_of(here), job_id=7):
                pass
        with pytest.raises(InvalidParameters, match="no cursor of this store"):
            async with here.api.watch(kit.caller_of(here), since=Cursor("x")):
                pass


async def test_a_watch_too_many_over_there_is_told_as_one_of_this_relay(kit: Any) -> None:
    async with kit.relayed(kit.Lab(), "ws") as (_, here), AsyncExitStack() as watches:
        for _ in range(64):
            await watches.enter_async_context(here.api.watch(kit.caller_of(here)))
        with pytest.raises(
            TooManyRequests, match=r"ws://.* gives this relay no further watch: .* 64 watches"
        ):
            async with here.api.watch(kit.caller_of(here)):
                pass


@SCHEMES
async def test_a_lost_connection_is_taken_up_again_where_it_was(kit: Any, scheme: str) -> None:
    lab = kit.Lab()
    async with behind_a_line(kit, lab, scheme) as (here, line):
        await here.api.start(kit.caller_of(here), JOB)
        async with here.api.watch(kit.caller_of(here), job_id=1) as watch:
            lab.emit(1, "before")
            assert names(await take(watch, 2)) == ["JobStateStarted", "before"]
            line.cut()
            lab.emit(1, "meanwhile")
            await kit.until(lambda: here.readiness() is not None)
            lab.emit(1, "later")
            line.mend()
            assert names(await take(watch, 2)) == ["meanwhile", "later"]
            await kit.until(lambda: here.readiness() is None)
            line.cut()
            lab.finish(1)
            line.mend()
            assert names(await take(watch, 1)) == ["JobStateCompleted"]
            assert await anext(watch, None) is None


@SCHEMES
async def test_of_all_jobs_nothing_is_missed_before_the_first_event_either(kit: Any, scheme: str) -> None:
    lab = kit.Lab()
    async with behind_a_line(kit, lab, scheme) as (here, line):
        async with here.api.watch(kit.caller_of(here)) as watch:
            line.cut()
            await kit.until(lambda: here.readiness() is not None)
            await lab.start(EventStartMsg(requestor="me", job_descriptor=JOB), kit.caller_of(here))
            line.mend()
            assert names(await take(watch, 1)) == ["JobStateStarted"]


async def test_where_nobody_says_where_it_began_it_is_not_taken_up_again(
    kit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("contest_core.rpc_client.is_from_now", lambda _: False)
    monkeypatch.setattr(watching, "BEGINNING_SECONDS", 0.05)
    async with behind_a_line(kit, kit.Lab(), "ws") as (here, line):
        async with here.api.watch(kit.caller_of(here)) as watch:
            line.cut()
            line.mend()
            with pytest.raises(Unavailable, match="lost ws://"):
                await take(watch, 1)


@SCHEMES
async def test_a_server_that_stays_away_ends_it_and_the_cursor_is_good(
    kit: Any, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "PATIENCE", 0.3)
    lab = kit.Lab()
    async with behind_a_line(kit, lab, scheme) as (here, line):
        await here.api.start(kit.caller_of(here), JOB)
        async with here.api.watch(kit.caller_of(here), job_id=1) as watch:
            (first,) = await take(watch, 1)
            line.cut()
            with pytest.raises(Unavailable):
                await take(watch, 1)
            assert str(watch.cursor) == first.cursor
        line.mend()
        lab.finish(1)
        await kit.until(lambda: here.readiness() is None)
        async with here.api.watch(kit.caller_of(here), job_id=1, since=watch.cursor) as watch:
            assert names(await take(watch, 1)) == ["JobStateCompleted"]


@SCHEMES
async def test_patience_begins_anew_with_a_connection_that_lasted_though_nothing_happened(
    kit: Any, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "PATIENCE", 1.0)
    monkeypatch.setattr(watching, "LASTED_SECONDS", 0.1)
    lab = kit.Lab()
    async with behind_a_line(kit, lab, scheme) as (here, line):
        await here.api.start(kit.caller_of(here), JOB)
        async with here.api.watch(kit.caller_of(here), job_id=1) as watch:
            await take(watch, 1)
            for _ in range(2):
                began = watch._began
                line.cut()
                await kit.until(lambda: here.readiness() is not None)
                line.mend()
                await kit.until(lambda began=began: watch._began > began)
                await asyncio.sleep(1.1)
            lab.finish(1)
            assert names(await take(watch, 1)) == ["JobStateCompleted"]


@SCHEMES
async def test_a_caller_who_goes_away_ends_it_over_there(kit: Any, scheme: str) -> None:
    lab = kit.Lab()
    async with kit.relayed(lab, scheme) as (_, here):
        async with here.api.watch(kit.caller_of(here)):
            assert lab.watching == 1
        await here.api.start(kit.caller_of(here), JOB)
        await kit.until(lambda: not lab.watching)


@SCHEMES
async def test_a_slow_reader_holds_few_events_here_and_misses_none(kit: Any, scheme: str) -> None:
    lab = kit.Lab()
    async with kit.relayed(lab, scheme) as (_, here):
        await here.api.start(kit.caller_of(here), JOB)
        async with here.api.watch(kit.caller_of(here), job_id=1) as watch:
            for number in range(5000):
                lab.emit(1, f"E{number}", "x" * 100)
            lab.finish(1)
            await kit.until(lambda: len(watch._items) == watching.READ_AHEAD)
            await asyncio.sleep(0.05)
            assert len(watch._items) == watching.READ_AHEAD
            async with asyncio.timeout(20):
                assert [item.sequence_id async for item in watch] == list(range(1, 5003))


async def test_a_reader_may_be_cancelled_and_ask_again(kit: Any) -> None:
    lab = kit.Lab()
    async with kit.relayed(lab) as (_, here):
        await here.api.start(kit.caller_of(here), JOB)
        async with here.api.watch(kit.caller_of(here), job_id=1) as watch:
            await take(watch, 1)
            for number in range(3):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.01):
                        await anext(watch)
                lab.emit(1, f"E{number}")
                assert names(await take(watch, 1)) == [f"E{number}"]


@SCHEMES
async def test_it_ends_with_the_relay_and_with_the_server_over_there(kit: Any, scheme: str) -> None:
    lab = kit.Lab()
    async with kit.serving(lab, scheme) as far:
        async with kit.serving(kit.relay(kit.address_of(far))) as here:
            await here.api.start(kit.caller_of(here), JOB)
            async with here.api.watch(kit.caller_of(here), job_id=1) as watch:
                await kit.until(lambda: watch._items)
                here.terminate(Termination.DRAIN)
                assert names([item async for item in watch]) == ["JobStateStarted"]
        async with kit.serving(kit.relay(kit.address_of(far))) as here:
            async with here.api.watch(kit.caller_of(here), job_id=1, since=watch.cursor) as again:
                far.terminate(Termination.CANCEL)
                assert names([item async for item in again]) == ["JobStateCancelled"]
