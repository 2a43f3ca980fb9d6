"""Heads that are not let in, judged alone and over a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from contest_http.guards import Guards
from contest_http.settings import HttpSettings


def judge(
    *, loopback: bool = True, url: bytes = b"/version", origins: tuple[str, ...] = (), **fields: str
) -> Any:
    headers = [(name.replace("_", "-").encode(), value.encode()) for name, value in fields.items()]
    guards = Guards(HttpSettings(origins=origins), loopback=loopback)
    return guards.judge(url, headers, dict(headers), "1.1")


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:8080", "localhost.", "127.0.0.1", "127.8.8.8:1", "[::1]", "[::1]:80", "::1"],
)
def test_names_of_loopback_are_let_in(host: str) -> None:
    assert judge(host=host) is None


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8080", "localhost.evil.example", "0.0.0.0", "10.0.0.1", "[::2]:1", "", "2130706433",
     "127.0.0.1.evil.example", "localhost:1:2", "[", "[evil.example]"],
)  # fmt: skip
def test_other_names_are_refused_on_loopback_and_only_there(host: str) -> None:
    refused = judge(host=host)
    assert (refused.status, refused.error.code) == (403, "denied")
    assert "localhost" in refused.error.message
    assert judge(host=host, loopback=False) is None


def test_the_host_in_an_absolute_target_counts_too() -> None:
    assert judge(host="localhost", url=b"http://evil.example/version").status == 403
    assert judge(host="localhost", url=b"http://localhost:80/version") is None


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:8080", ""])
def test_an_origin_that_is_not_named_is_refused(origin: str) -> None:
    refused = judge(host="localhost", origin=origin, loopback=False)
    assert (refused.status, refused.error.code) == (403, "denied")
    assert "`origins:`" in refused.error.message


def test_an_origin_that_is_named_is_let_in() -> None:
    assert judge(host="localhost", origin="HTTPS://lab.example", origins=("https://Lab.example",)) is None


def test_the_guards_do_not_remember_more_names_than_a_few() -> None:
    guards = Guards(HttpSettings(), loopback=False)
    for number in range(1000):
        name = b"host-%d" % number
        assert guards.judge(b"/", [(b"host", name)], {b"host": name}, "1.1") is None
    assert len(guards._hosts) <= 64


POST = b"POST /version HTTP/1.1\r\nHost: localhost\r\n"


@pytest.mark.parametrize(
    ("sent", "status", "words"),
    [
        (b"POST /version HTTP/1.1\r\n\r\n", 400, "Host is missing"),
        (POST + b"Host: localhost\r\n\r\n", 400, "host is given twice"),
        (POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "not HTTP/1.1"),
        (POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 400, "not HTTP/1.1"),
        (POST + b"Content-Length: -1\r\n\r\n", 400, "not HTTP/1.1"),
        (POST + b"Content-Length: 1e3\r\n\r\n", 400, "not HTTP/1.1"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400, "not HTTP/1.1"),
        (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501, "'gzip, chunked' is not taken"),
        (POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 400, "not HTTP/1.1"),
        (
            POST + b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
            "given twice",
        ),
        (b"POST /version HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "no Transfer-Enc"),
        (POST + b"Content Length: 5\r\n\r\n", 400, "not HTTP/1.1"),
        (POST + b"A: b\r\n folded\r\n\r\n", 400, "not HTTP/1.1"),
        (POST + b"A: \x00\r\n\r\n", 400, "not HTTP/1.1"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "not HTTP/1.1"),
        (b"GET / HTTP/9.9\r\n\r\n", 400, "not HTTP/1.1"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "not HTTP/1.1"),
        (b"hello\r\n\r\n", 400, "not HTTP/1.1"),
        (POST + b"Content-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx", 415, "'gzip' is not taken"),
        (POST + b"Expect: the worst\r\nContent-Length: 1\r\n\r\nx", 417, "how to expect"),
        (
            POST + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 1\r\n\r\nx",
            400,
            "another protocol",
        ),
        (POST + b"A: b\r\n" * 120 + b"\r\n", 431, "more headers than the limit"),
        (POST + b"A: " + b"b" * 40_000 + b"\r\n\r\n", 431, "head of the request"),
        (b"POST /" + b"a" * 40_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 431, "head of the request"),
        (POST + b"Content-Length: 99999999999\r\n\r\n", 413, "99,999,999,999"),
    ],
)
async def test_a_bad_head_is_refused_and_the_connection_closed(
    serve: Any, sent: bytes, status: int, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve() as running:
        wire = await running.connect()
        reply = await wire.ask(sent)
        assert await wire.rest() == b""
        assert (await running.post("/version")).status == 200
    assert reply.status == status
    assert words in reply.json["Msg"]
    assert reply.headers["connection"] == "close"
    assert [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")] == []


async def test_a_body_in_chunks_is_taken_however_the_word_is_written(serve: Any) -> None:
    async with serve() as running:
        wire = await running.connect()
        reply = await wire.ask(POST + b"Transfer-Encoding: Chunked \r\n\r\n0\r\n\r\n")
    assert reply.status == 200


@pytest.mark.parametrize("piece", [b"A: " + b"b" * 2000 + b"\r\n", b"b" * 2000])
async def test_a_flood_of_header_bytes_ends_before_the_head_does(serve: Any, piece: bytes) -> None:
    async with serve(max_headers=100_000) as running:
        wire = await running.connect()
        wire.send(POST + b"X: ")
        for _ in range(40):
            wire.send(piece)
        assert (await wire.reply()).status == 431


async def test_a_flood_in_chunk_extensions_or_trailers_is_refused(serve: Any) -> None:
    for flood in (b"1;" + b"x" * 2000, b"0\r\nA: " + b"b" * 2000):
        async with serve() as running:
            wire = await running.connect()
            wire.send(POST + b"Transfer-Encoding: chunked\r\n\r\n" + flood)
            await asyncio.sleep(0)
            for _ in range(400):
                wire.send(b"x" * 2000)
            assert (await wire.reply()).status == 431


async def test_a_body_over_the_limit_is_refused_before_it_is_sent(
    serve: Any, http_request: Callable[..., bytes]
) -> None:
    async with serve(max_request=1000) as running:
        wire = await running.connect()
        wire.send(http_request("/version", content_length="1001"))
        reply = await wire.reply()
        assert (reply.status, reply.code) == (413, "too_large")
        assert "1,001" in reply.json["Msg"]
        assert (await running.post("/version", b"a" * 1000)).status == 200


async def test_a_chunked_body_over_the_limit_is_refused_in_the_middle(serve: Any) -> None:
    async with serve(max_request=1000) as running:
        wire = await running.connect()
        wire.send(POST + b"Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(11):
            wire.send(b"64\r\n" + b"a" * 100 + b"\r\n")
        assert (await wire.reply()).status == 413


async def test_a_peer_that_sends_on_still_reads_why_it_was_refused(serve: Any) -> None:
    async with serve(max_request=1000) as running:
        wire = await running.connect()
        wire.send(POST + b"Content-Length: 4000000\r\n\r\n" + b"x" * 4_000_000)
        assert (await wire.reply()).status == 413
        assert await wire.rest() == b""


async def test_a_chunked_body_in_small_pieces_is_a_request(serve: Any) -> None:
    form = b"requestor=me&jobDesc=" + b"x" * 60_000
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in form)
    async with serve() as running:
        wire = await running.connect()
        kind = b"Content-Type: application/x-www-form-urlencoded\r\n"
        head = POST.replace(b"version", b"start") + kind + b"Transfer-Encoding: chunked\r\n\r\n"
        reply = await wire.ask(head + chunks + b"0\r\n\r\n")
    assert reply.json["Data"] == {"JobID": 1}


async def test_100_continue_is_said_before_the_body_comes(serve: Any) -> None:
    async with serve() as running:
        wire = await running.connect()
        wire.send(POST + b"Content-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        assert (await wire.reply()).status == 100
        assert (await wire.ask(b"a=1")).status == 400
        wire.send(POST + b"Content-Length: 99999999\r\nExpect: 100-continue\r\n\r\n")
        assert (await wire.reply()).status == 413


async def test_without_a_host_http_1_0_is_answered_and_closed(serve: Any) -> None:
    async with serve() as running:
        wire = await running.connect()
        reply = await wire.ask(b"POST /version HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        assert (reply.status, reply.headers["connection"]) == (200, "close")
        assert await wire.rest() == b""


async def test_an_upgrade_without_a_body_is_answered_as_if_it_were_none(serve: Any) -> None:
    async with serve() as running:
        wire = await running.connect()
        wire.send(
            b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nmore"
        )
        assert (await wire.reply()).status == 200
        assert await wire.rest() == b""


async def test_a_rebound_name_and_a_foreign_page_are_refused(serve: Any) -> None:
    async with serve() as running:
        rebound = await running.post("/version", host=f"evil.example:{running.port}")
        page = await running.post("/version", origin="https://evil.example")
        health = await running.post("/healthz", method="GET", host="evil.example")
    assert [reply.status for reply in (rebound, page, health)] == [403, 403, 403]
    assert "access-control-allow-origin" not in page.headers


async def test_beyond_loopback_any_name_may_be_asked_for(serve: Any) -> None:
    async with serve(host="0.0.0.0", allow_anonymous=True) as running:
        assert (await running.post("/version", host="lab.example")).status == 200


async def test_a_page_of_an_allowed_origin_can_ask(serve: Any) -> None:
    origin = "https://lab.example"
    async with serve(origins=(origin,)) as running:
        before = await running.post("/start", method="OPTIONS", origin=origin)
        reply = await running.post("/version", origin=origin)
    assert (before.status, before.headers["access-control-allow-methods"]) == (204, "POST, GET")
    assert (reply.status, reply.headers["access-control-allow-origin"]) == (200, origin)
