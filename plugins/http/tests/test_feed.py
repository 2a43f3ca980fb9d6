"""`GET /events`: what comes on the wire, when it ends, and what a peer can do to it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from unittest.mock import Mock

import pytest

from contest_core.caller import Caller
from contest_core.errors import ContestError
from contest_core.events import EventWatchMsg
from contest_core.job_event import Cursor, EventData, Gap, Header, JobEvent
from contest_core.job_manager import Termination
from contest_core.settings import Duration
from contest_core.testing.memory import MemoryJobManager
from contest_core.watch import Watch
from contest_http import feed as feed_module
from contest_http.connections import Connections
from contest_http.protocol import GuardedProtocol

WAIT = 10.0

Next = Callable[[int], Awaitable["JobEvent | Gap | None"]]


class Scripted(MemoryJobManager):
    """Its watches give what `following` gives for 1, 2, 3…; None is their end."""

    def __init__(self, following: Next) -> None:
        super().__init__()
        self.following = following
        self.given = 0
        self.left = asyncio.Event()

    def watch(self, message: EventWatchMsg, caller: Caller) -> AbstractAsyncContextManager[Watch]:
        return self._script()

    @asynccontextmanager
    async def _script(self) -> AsyncIterator[Watch]:
        try:
            yield _Script(self)
        finally:
            self.left.set()


class _Script(Watch):
    def __init__(self, manager: Scripted) -> None:
        self.cursor = Cursor("0")
        self._manager = manager

    async def __anext__(self) -> JobEvent | Gap:
        item = await self._manager.following(self._manager.given + 1)
        if item is None:
            raise StopAsyncIteration
        self._manager.given += 1
        self.cursor = Cursor(item.cursor or "")
        return item


def event(number: int, payload: object = None) -> JobEvent:
    return JobEvent(
        sequence_id=number,
        emit_time=datetime(2026, 1, 2, tzinfo=UTC),
        header=Header(job_id=1, run_id=1, test_name="t", test_attempt=0, test_step_label="s"),
        data=EventData(target=None, event_name="Said", payload=payload),
        cursor=str(number),
    )


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


def get(query: str = "requestor=me", *, version: str = "1.1", method: str = "GET", **headers: str) -> bytes:
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"{method} /events?{query} HTTP/{version}\r\nhost: localhost\r\n{lines}\r\n".encode()


async def chunk(wire: Any) -> bytes:
    async with asyncio.timeout(WAIT):
        size = int(await wire.reader.readline(), 16)
        content: bytes = (await wire.reader.readexactly(size + 2))[:-2]
    return content


async def opened(running: Any, query: str = "requestor=me", **headers: str) -> Any:
    wire = await running.connect()
    wire.send(get(query, **headers))
    reply = await wire.reply(head_only=True)
    assert reply.status == 200
    assert reply.headers["content-type"] == "text/event-stream"
    assert reply.headers["cache-control"] == "no-store"
    assert reply.headers["transfer-encoding"] == "chunked"
    assert "content-length" not in reply.headers
    return wire


def fields(message: bytes) -> dict[str, Any]:
    assert message.endswith(b"\n\n")
    found: dict[str, Any] = dict(line.split(": ", 1) for line in message.decode().rstrip("\n").split("\n"))
    return found | {"data": json.loads(found["data"])} if "data" in found else found


async def all_of(wire: Any) -> list[dict[str, Any]]:
    found = []
    while message := await chunk(wire):
        found.append(fields(message))
    return found


async def started(running: Any) -> None:
    assert (await running.post("/start", 'requestor=me&jobDesc={"JobName":"x"}')).status == 200


async def test_a_job_is_followed_to_its_end_and_the_connection_serves_on(
    serve: Any, http_request: Callable[..., bytes]
) -> None:
    async with serve(manager=MemoryJobManager()) as running:
        await started(running)
        wire = await opened(running, "requestor=me&jobID=1&apiVersion=5&unknown=x")
        assert await chunk(wire) == b"id: 0\n\n"
        first = fields(await chunk(wire))
        assert first["id"] == "1"
        assert list(first["data"]) == ["Event"]
        assert first["data"]["Event"]["Data"]["EventName"] == "JobStateStarted"
        await running.post("/stop", "requestor=me&jobID=1")
        last, end = await all_of(wire)
        assert last["data"]["Event"]["Cursor"] == last["id"] == "2"
        assert end == {"event": "watchEnded", "data": {"Cursor": "2"}}
        assert (await wire.ask(http_request("/version"))).status == 200


async def test_a_cursor_resumes_and_the_header_wins(serve: Any) -> None:
    async with serve(manager=MemoryJobManager()) as running:
        await started(running)
        await running.post("/stop", "requestor=me&jobID=1")
        for query, headers in (("&since=1", {}), ("&since=0", {"Last_Event_ID": "1"})):
            begin, only, _ = await all_of(await opened(running, f"requestor=me&jobID=1{query}", **headers))
            assert (begin, only["id"]) == ({"id": "1"}, "2")


@pytest.mark.parametrize(
    ("query", "headers", "status", "code"),
    [
        ("", {}, 400, "invalid_parameters"),
        ("requestor=me&jobID=x", {}, 400, "invalid_parameters"),
        ("requestor=me&jobID=%zz", {}, 400, "invalid_message"),
        ("requestor=%ff", {}, 400, "invalid_message"),
        ("requestor=me&apiVersion=4", {}, 400, "incompatible_version"),
        ("requestor=me&jobID=99", {}, 200, "unknown_job"),
        ("requestor=me", {"authorization": "Bearer wrong"}, 401, "unauthenticated"),
        ("requestor=me", {"origin": "http://evil.example"}, 403, "denied"),
    ],
)
async def test_a_refusal_is_an_answer_as_a_verb_has_it(
    serve: Any, query: str, headers: dict[str, str], status: int, code: str
) -> None:
    async with serve(manager=MemoryJobManager(), token=True) as running:
        wire = await running.connect()
        reply = await wire.ask(get(query, **{"authorization": "Bearer right"} | headers))
    assert (reply.status, reply.code) == (status, code)
    assert reply.headers["content-type"] == "application/json"
    if status == 200:
        assert (reply.json["Type"], reply.json["ServerID"]) == ("ResponseTypeWatch", "lab-1")


async def test_a_job_manager_without_watches_says_so(serve: Any) -> None:
    async with serve() as running:
        reply = await (await running.connect()).ask(get())
    assert (reply.status, reply.code) == (200, "unsupported")


async def test_a_page_of_an_allowed_origin_may_follow_and_the_request_keeps_its_name(serve: Any) -> None:
    origin = "https://lab.example.org"
    async with serve(manager=MemoryJobManager(), origins=(origin,)) as running:
        wire = await running.connect()
        wire.send(get(origin=origin, x_request_id="mine"))
        headers = (await wire.reply(head_only=True)).headers
        assert headers["access-control-allow-origin"] == origin
        assert headers["x-request-id"] == "mine"


async def test_silence_is_broken_by_comments_and_nothing_is_lost_by_them(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "KEEP_ALIVE", 0.02)
    async with serve(manager=MemoryJobManager()) as running:
        wire = await opened(running)
        assert [await chunk(wire) for _ in range(4)] == [b"id: 0\n\n"] + [b": \n\n"] * 3
        await started(running)
        while (message := await chunk(wire)) == b": \n\n":
            pass
        assert fields(message)["id"] == "1"
        assert await chunk(wire) == b": \n\n"


async def test_http_1_0_reads_until_the_connection_ends(serve: Any) -> None:
    async with serve(manager=MemoryJobManager()) as running:
        await started(running)
        await running.post("/stop", "requestor=me&jobID=1")
        wire = await running.connect()
        wire.send(get("requestor=me&jobID=1", version="1.0"))
        headers = (await wire.reply(head_only=True)).headers
        assert "transfer-encoding" not in headers
        assert headers["connection"] == "close"
        text = await wire.rest()
    assert [list(fields(each + b"\n\n")) for each in text.split(b"\n\n")[:-1]] == [
        ["id"],
        ["id", "data"],
        ["id", "data"],
        ["event", "data"],
    ]


async def test_head_says_what_get_would_and_follows_nothing(
    serve: Any, http_request: Callable[..., bytes]
) -> None:
    manager = Scripted(lambda _: forever())
    async with serve(manager=manager) as running:
        wire = await running.connect()
        wire.send(get(method="HEAD"))
        assert (await wire.reply(head_only=True)).headers["content-type"] == "text/event-stream"
        assert manager.left.is_set()
        assert (await wire.ask(http_request("/version"))).status == 200
        wire.send(get("", method="HEAD"))
        assert (await wire.reply(head_only=True)).status == 400


@pytest.mark.parametrize(
    ("fault", "code"),
    [(ContestError("the store is away", code="unavailable"), "unavailable"), (ValueError("x"), "internal")],
)
async def test_a_fault_in_the_middle_is_the_end_with_its_reason(
    serve: Any, fault: Exception, code: str
) -> None:
    async def following(number: int) -> JobEvent | Gap | None:
        if number == 1:
            return event(1)
        if number == 2:
            return Gap(missed=3, cursor="5")
        raise fault

    async with serve(manager=Scripted(following)) as running:
        _, first, gap, end = await all_of(await opened(running))
    assert first["id"] == "1"
    assert gap == {"id": "5", "data": {"Gap": {"Missed": 3, "Cursor": "5"}}}
    assert end["event"] == "watchEnded"
    assert (end["data"]["Cursor"], end["data"]["Code"]) == ("5", code)
    assert end["data"]["Error"]


async def test_a_peer_that_goes_away_ends_the_watch(serve: Any) -> None:
    manager = Scripted(lambda _: forever())
    async with serve(manager=manager) as running:
        wire = await opened(running)
        await chunk(wire)
        assert not manager.left.is_set()
        wire.close()
        await asyncio.wait_for(manager.left.wait(), WAIT)


async def test_a_peer_that_takes_nothing_holds_up_its_own_watch_and_is_cut_off(serve: Any) -> None:
    async def following(number: int) -> JobEvent | Gap | None:
        return event(number, "x" * 10_000)

    manager = Scripted(following)
    async with serve(manager=manager, write_timeout=Duration("200ms")) as running:
        wire = await running.connect()
        wire.reader._transport.pause_reading()
        wire.send(get())
        await asyncio.sleep(0.1)
        given = manager.given
        assert not manager.left.is_set()
        await asyncio.sleep(0.05)
        assert manager.given == given
        assert (await running.post("/version")).status == 200
        await asyncio.wait_for(manager.left.wait(), WAIT)
        assert manager.given * 10_000 < 50_000_000


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> list[GuardedProtocol]:
    """Of the server, as they come."""
    found: list[GuardedProtocol] = []
    original = Connections.opened

    def noted(self: Connections, connection: GuardedProtocol) -> None:
        found.append(connection)
        original(self, connection)

    monkeypatch.setattr(Connections, "opened", noted)
    return found


async def test_a_peer_that_takes_nothing_of_a_little_is_cut_off_too(
    serve: Any, connections: list[GuardedProtocol]
) -> None:
    async def following(number: int) -> JobEvent | Gap | None:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        if connections[0].transport.get_write_buffer_size():
            assert not connections[0].flow.write_paused
            await forever()
        return event(number, "x" * 5_000)

    manager = Scripted(following)
    async with serve(manager=manager, write_timeout=Duration("100ms")) as running:
        wire = await running.connect()
        wire.reader._transport.pause_reading()
        wire.send(get())
        await asyncio.wait_for(manager.left.wait(), WAIT)


async def test_a_peer_that_takes_what_comes_now_and_then_is_not_cut_off(serve: Any) -> None:
    async def following(number: int) -> JobEvent | Gap | None:
        await asyncio.sleep(0.03)
        return event(number) if number <= 15 else None

    async with serve(
        manager=Scripted(following), write_timeout=Duration("50ms"), idle_timeout=Duration("50ms")
    ) as running:
        found = await all_of(await opened(running))
    assert len(found) == 17


@pytest.mark.parametrize(("taken", "cut_off"), [(0, True), (1, False)])
async def test_what_is_added_in_the_meantime_does_not_hide_that_the_peer_takes_some(
    serve: Any, connections: list[GuardedProtocol], monkeypatch: pytest.MonkeyPatch, taken: int, cut_off: bool
) -> None:
    async with serve(manager=Scripted(lambda _: forever())) as running:
        await opened(running)
        (connection,) = connections
        transport = Mock(wraps=connection.transport, is_closing=lambda: False)
        monkeypatch.setattr(connection, "transport", transport)
        for size in (100, 300):
            transport.get_write_buffer_size = Mock(return_value=size)
            connection._part_written(200)
        transport.get_write_buffer_size = Mock(return_value=300 - taken)
        connection.expire(connection.deadline)
        assert transport.abort.called == cut_off


async def test_the_end_of_the_server_is_the_end_of_the_watch_behind_the_last_event(serve: Any) -> None:
    async with serve(manager=MemoryJobManager()) as running:
        await started(running)
        wire = await opened(running, "requestor=me&since=0")
        assert [fields(await chunk(wire))["id"] for _ in range(2)] == ["0", "1"]
        running.server.terminate(Termination.CANCEL)
        last, end = await all_of(wire)
        assert last["data"]["Event"]["Data"]["EventName"] == "JobStateCancelled"
        assert end == {"event": "watchEnded", "data": {"Cursor": last["id"]}}
        assert await wire.rest() == b""


async def test_what_a_page_of_an_origin_asks_before_allows_to_resume(serve: Any) -> None:
    origin = "https://lab.example.org"
    async with serve(origins=(origin,)) as running:
        wire = await running.connect()
        reply = await wire.ask(get(method="OPTIONS", origin=origin))
    assert "last-event-id" in reply.headers["access-control-allow-headers"]
