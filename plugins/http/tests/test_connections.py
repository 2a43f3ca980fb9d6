"""Peers that are slow, many, impatient or gone."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import pytest

from contest_core.budget import Budget
from contest_core.settings import Duration
from contest_http.forms import read_parameters

WAIT = 10.0
SHORT = Duration("100ms")
HEAD = b"POST /version HTTP/1.1\r\nHost: localhost\r\n"

Request = Callable[..., bytes]


async def test_a_connection_serves_one_request_after_another(serve: Any, http_request: Request) -> None:
    async with serve() as running:
        wire = await running.connect()
        for _ in range(3):
            reply = await wire.ask(http_request("/version", "requestor=me"))
            assert reply.status == 200
            assert "connection" not in reply.headers
            assert reply.headers["date"].endswith("GMT")


async def test_a_peer_that_asks_for_the_end_gets_it(serve: Any, http_request: Request) -> None:
    async with serve() as running:
        wire = await running.connect()
        wire.send(http_request("/version", connection="close") + http_request("/list"))
        assert (await wire.reply()).headers["connection"] == "close"
        assert await wire.rest() == b""


async def test_pipelined_requests_wait_for_the_one_before(serve: Any, http_request: Request) -> None:
    async with serve() as running:
        wire = await running.connect()
        wire.send(http_request("/status", "requestor=me&jobID=7"))
        await asyncio.wait_for(running.manager.arrived.wait(), WAIT)
        second = http_request("/version", x_request_id="second")
        wire.send(second[:-5])
        running.manager.release.set()
        assert (await wire.reply()).json["Type"] == "ResponseTypeStatus"
        wire.send(second[-5:])
        assert (await wire.reply()).headers["x-request-id"] == "second"


async def test_more_pipelined_requests_than_may_wait_are_refused_in_order(
    serve: Any, http_request: Request
) -> None:
    async with serve(max_pipelined=2) as running:
        wire = await running.connect()
        wire.send(http_request("/status", "requestor=me&jobID=7") + http_request("/version") * 100)
        await asyncio.wait_for(running.manager.arrived.wait(), WAIT)
        running.manager.release.set()
        replies = [await wire.reply() for _ in range(4)]
        assert [reply.status for reply in replies] == [200, 200, 200, 429]
        assert replies[-1].headers["retry-after"] == "1"
        assert await wire.rest() == b""


async def test_rubbish_behind_a_request_does_not_spoil_its_answer(serve: Any, http_request: Request) -> None:
    async with serve() as running:
        wire = await running.connect()
        wire.send(http_request("/status", "requestor=me&jobID=7"))
        await asyncio.wait_for(running.manager.arrived.wait(), WAIT)
        wire.send(b"rubbish\r\n\r\n")
        await asyncio.sleep(0.05)
        running.manager.release.set()
        assert [(await wire.reply()).status for _ in range(2)] == [200, 400]


async def test_the_100_continue_of_a_pipelined_request_waits_for_the_answer_before(
    serve: Any, http_request: Request
) -> None:
    async with serve() as running:
        wire = await running.connect()
        wire.send(http_request("/status", "requestor=me&jobID=7"))
        await asyncio.wait_for(running.manager.arrived.wait(), WAIT)
        wire.send(HEAD + b"Content-Length: 0003\r\nExpect: 100-Continue\r\n\r\n")
        await asyncio.sleep(0.05)
        running.manager.release.set()
        assert [(await wire.reply()).status for _ in range(2)] == [200, 100]
        assert (await wire.ask(b"a=b")).status == 400


@pytest.mark.parametrize("sent", [b"POST /ver", HEAD, HEAD + b"Content-Length: 10\r\n\r\nhalf"])
async def test_half_a_request_is_answered_408_after_its_time(
    serve: Any, sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve(request_timeout=SHORT) as running:
        wire = await running.connect()
        reply = await wire.ask(sent)
        assert await wire.rest() == b""
    assert (reply.status, reply.headers["connection"]) == (408, "close")
    assert "0.1 s" in reply.json["Msg"]
    assert caplog.records == [] or all(record.levelname == "INFO" for record in caplog.records)


async def test_a_dripping_request_gets_no_more_time(serve: Any) -> None:
    async with serve(request_timeout=SHORT) as running:
        wire = await running.connect()
        wire.send(HEAD)
        reply = asyncio.ensure_future(wire.reply())
        while not reply.done():
            wire.send(b"A: b\r\n")
            await asyncio.sleep(0.02)
        assert (await reply).status == 408


async def test_an_idle_connection_is_closed_without_a_word(serve: Any, http_request: Request) -> None:
    async with serve(idle_timeout=SHORT) as running:
        silent, used = await running.connect(), await running.connect()
        assert (await used.ask(http_request("/version"))).status == 200
        assert [await silent.rest(), await used.rest()] == [b"", b""]


async def test_a_request_that_takes_long_is_no_idle_connection(serve: Any, http_request: Request) -> None:
    async with serve(idle_timeout=SHORT, request_timeout=SHORT, write_timeout=SHORT) as running:
        wire = await running.connect()
        wire.send(http_request("/status", "requestor=me&jobID=7"))
        await asyncio.sleep(0.3)
        running.manager.release.set()
        assert (await wire.reply()).status == 200


async def test_a_peer_that_vanishes_takes_its_reading_request_along(
    serve: Any, http_request: Request, caplog: pytest.LogCaptureFixture
) -> None:
    # The API's own limit is no help here.
    async with serve(write_timeout=SHORT, event_timeout=60.0) as running:
        for end in ("abort", "close"):
            running.manager.arrived.clear()
            running.manager.cancelled.clear()
            wire = await running.connect()
            wire.send(http_request("/status", "requestor=me&jobID=7"))
            await asyncio.wait_for(running.manager.arrived.wait(), WAIT)
            getattr(wire.writer.transport, end)()
            await asyncio.wait_for(running.manager.cancelled.wait(), WAIT)
    assert [record for record in caplog.records if record.levelname != "INFO"] == []


async def test_a_peer_that_vanishes_in_a_body_leaves_nothing(serve: Any) -> None:
    async with serve() as running:
        wire = await running.connect()
        wire.send(HEAD + b"Content-Length: 100\r\n\r\nhalf")
        await wire.writer.drain()
        wire.close()
        assert (await running.post("/version")).status == 200


async def until_there_is_room(running: Any, http_request: Request) -> None:
    status = 0
    async with asyncio.timeout(WAIT):
        while status != 200:
            wire = await running.connect()
            status = (await wire.ask(http_request("/version"))).status
            wire.close()
            await asyncio.sleep(0.01)


async def test_the_connection_over_the_limit_gets_503_and_the_others_go_on(
    serve: Any, http_request: Request
) -> None:
    async with serve(max_connections=3) as running:
        wires = [await running.connect() for _ in range(3)]
        for wire in wires:
            assert (await wire.ask(http_request("/version"))).status == 200
        newcomer = await running.connect()
        reply = await newcomer.reply()
        assert (reply.status, reply.code, reply.headers["retry-after"]) == (503, "too_many_requests", "1")
        assert await newcomer.rest() == b""
        for wire in wires:
            assert (await wire.ask(http_request("/version"))).status == 200
        wires[0].close()
        await until_there_is_room(running, http_request)


async def test_a_flood_of_connections_is_cut_off(serve: Any, http_request: Request) -> None:
    async with serve(max_connections=2) as running:
        wires = [await running.connect() for _ in range(12)]
        ends = [await wire.rest() for wire in wires[2:]]
        assert (await wires[0].ask(http_request("/version"))).status == 200
    assert b"" in ends
    assert any(end.startswith(b"HTTP/1.1 503 ") for end in ends)


async def narrow(running: Any) -> socket.socket:
    """A connection whose receiving side takes little."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", running.port))
    return sock


async def test_a_peer_that_takes_nothing_of_its_answer_is_cut_off(serve: Any, http_request: Request) -> None:
    async with serve(write_timeout=SHORT, max_connections=1) as running:
        running.manager.size = 20_000_000
        loop = asyncio.get_running_loop()
        sock = await narrow(running)
        await loop.sock_sendall(sock, http_request("/status", "requestor=me&jobID=1"))
        # Cut off, it makes room for another connection.
        await until_there_is_room(running, http_request)
        taken = 0
        async with asyncio.timeout(WAIT):
            try:
                while part := await loop.sock_recv(sock, 1 << 20):
                    taken += len(part)
            except ConnectionError:
                pass
        sock.close()
        assert taken < 20_000_000


async def test_a_slow_but_steady_reader_gets_everything(serve: Any, http_request: Request) -> None:
    async with serve(write_timeout=Duration("500ms")) as running:
        running.manager.size = 3_000_000
        loop = asyncio.get_running_loop()
        sock = await narrow(running)
        await loop.sock_sendall(sock, http_request("/status", "requestor=me&jobID=1", connection="close"))
        taken = 0
        async with asyncio.timeout(WAIT):
            while part := await loop.sock_recv(sock, 100_000):
                taken += len(part)
                await asyncio.sleep(0.001)
        sock.close()
        assert taken > 3_000_000


async def test_an_answer_over_the_limit_says_how_to_ask_for_less(serve: Any) -> None:
    async with serve(max_answer=300_000) as running:
        running.manager.size = 300_000
        reply = await running.post("/status", "requestor=me&jobID=1")
    assert (reply.status, reply.code) == (413, "too_large")
    assert "events=false" in reply.json["Msg"]


async def test_large_answers_that_nobody_takes_are_bounded_together(
    serve: Any, http_request: Request
) -> None:
    async with serve(max_request=1000, max_buffered=12_000_000) as running:
        running.manager.size = 10_000_000
        loop = asyncio.get_running_loop()
        sock = await narrow(running)
        await loop.sock_sendall(sock, http_request("/status", "requestor=me&jobID=1"))
        async with asyncio.timeout(WAIT):
            while (reply := await running.post("/status", "requestor=me&jobID=1")).status == 200:
                await asyncio.sleep(0.01)
        assert (reply.status, reply.code, reply.headers["retry-after"]) == (429, "too_many_requests", "5")
        assert (await running.post("/version")).status == 200
        sock.close()
        async with asyncio.timeout(WAIT):
            while (await running.post("/status", "requestor=me&jobID=1")).status != 200:
                await asyncio.sleep(0.01)


async def test_large_requests_are_bounded_together_and_given_back(
    serve: Any, http_request: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget = Budget(1_500_000)
    monkeypatch.setattr("contest_http.connections.Budget", lambda limit: budget)
    async with serve(max_request=1_000_000, max_buffered=1_500_000) as running:
        form = b"requestor=me&jobDesc=" + b"x" * 900_000
        half = await running.connect()
        half.send(http_request("/start", form)[:-10])
        await half.writer.drain()
        async with asyncio.timeout(WAIT):
            while budget.used < 800_000:
                await asyncio.sleep(0.01)
        reply = await running.post("/start", form)
        assert (reply.status, reply.code) == (429, "too_many_requests")
        assert (await running.post("/start", form[:50_000])).status == 200
        half.send(form[-10:])
        assert (await half.reply()).status == 200
        for _ in range(5):
            assert (await half.ask(http_request("/start", form))).status == 200
        half.send(http_request("/start", form)[:-10])
        await half.writer.drain()
        half.close()
        async with asyncio.timeout(WAIT):
            while (await running.post("/start", form)).status != 200:
                await asyncio.sleep(0.01)
        assert budget.used == 0


async def test_a_peer_that_asks_on_and_takes_nothing_is_cut_off(serve: Any, http_request: Request) -> None:
    async with serve(
        write_timeout=SHORT, idle_timeout=Duration("1h"), request_timeout=Duration("1h")
    ) as running:
        running.manager.size = 200_000
        loop = asyncio.get_running_loop()
        sock = await narrow(running)
        with suppress(ConnectionError):
            async with asyncio.timeout(WAIT):
                while True:
                    await loop.sock_sendall(sock, http_request("/status", "requestor=me&jobID=1") * 10)
                    await asyncio.sleep(0.01)
        sock.close()


async def test_a_peer_that_half_closes_is_answered_and_then_left(serve: Any, http_request: Request) -> None:
    async with serve() as running:
        wire = await running.connect()
        wire.send(http_request("/version") + http_request("/list", "requestor=me"))
        wire.writer.write_eof()
        assert [(await wire.reply()).json["Type"] for _ in range(2)] == [
            "ResponseTypeVersion",
            "ResponseTypeList",
        ]
        assert await wire.rest() == b""


async def test_a_large_form_is_read_beside_the_others(
    serve: Any, http_request: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, go_on = threading.Event(), threading.Event()

    def read_slowly(content_type: bytes, body: bytes) -> Mapping[str, object]:
        if len(body) > 1_000_000:
            reading.set()
            assert go_on.wait(WAIT)
        return read_parameters(content_type, body)

    monkeypatch.setattr("contest_http.app.read_parameters", read_slowly)
    async with serve() as running:
        large, small = await running.connect(), await running.connect()
        large.send(http_request("/start", b"requestor=me&jobDesc=" + b"%41" * 1_000_000))
        assert await asyncio.to_thread(reading.wait, WAIT)
        assert (await small.ask(http_request("/version"))).status == 200
        go_on.set()
        assert (await large.reply()).json["Data"] == {"JobID": 1}
        message, _ = running.manager.asked[0]
    assert message.job_descriptor == "A" * 1_000_000
