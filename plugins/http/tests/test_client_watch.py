"""`HttpClient.watch` against the listener, and against what breaks or is no Contest; and the bytes that it reads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from contest_core.client import ClientOptions, Contest
from contest_core.errors import ConnectionLost, ContestError, TooLarge, Unreachable, Unsupported
from contest_core.job_event import Cursor, JobEvent
from contest_core.job_manager import Termination
from contest_core.testing.memory import MemoryJobManager
from contest_http import client as client_module
from contest_http import feed as feed_module
from contest_http.client import HttpClient
from contest_http.events import EventStream, Message

WAIT = 10.0

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n\r\n"

ENDED = b'event: watchEnded\ndata: {"Cursor":"1"}\n\n'


@asynccontextmanager
async def client(address: str, **options: Any) -> AsyncIterator[HttpClient]:
    given: Any = {"timeout": 5.0} | options
    opened = await HttpClient.connect(address, ClientOptions(**given))
    try:
        yield opened
    finally:
        await opened.aclose()


@asynccontextmanager
async def answering(answer: bytes, *, stays: bool = False) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Anybody's server: reads a request, says what it is told to say, closes unless it stays."""
    heads: list[bytes] = []
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writers.append(writer)
        writer.write(answer)
        if not stays:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", heads
    finally:
        for writer in writers:
            writer.close()
        server.close()
        await server.wait_closed()


async def read(opened: HttpClient, **parameters: object) -> list[bytes]:
    async with asyncio.timeout(WAIT), opened.watch({"requestor": "me", **parameters}) as items:
        return [item async for item in items]


async def test_a_job_is_watched_through_the_typed_client(serve: Any) -> None:
    async with serve(manager=MemoryJobManager()) as running, client(running.url) as opened:
        contest = Contest(opened, ClientOptions(requestor="me"))
        job = (await contest.start('{"JobName":"x"}')).result().job_id
        async with asyncio.timeout(WAIT), contest.watch(job_id=job) as watch:
            found = [await anext(watch)]
            await contest.stop(job)
            found += [item async for item in watch]
        assert [item.cursor for item in found] == ["1", "2"]
        async with contest.watch(job_id=job, since=Cursor("1")) as watch:
            assert [item async for item in watch] == found[1:]
        assert all(isinstance(item, JobEvent) for item in found)


@pytest.mark.parametrize("count", [0, 1])
async def test_a_watch_that_is_left_early_leaves_nothing_at_the_server(serve: Any, count: int) -> None:
    async with serve(manager=MemoryJobManager()) as running, client(running.url) as opened:
        before = asyncio.all_tasks()
        await opened.call("start", {"requestor": "me", "jobDesc": {"JobName": "x"}})
        async with asyncio.timeout(WAIT), opened.watch({"requestor": "me", "since": "0"}) as items:
            for _ in range(count):
                assert (await anext(items)).startswith(b'{"Event":{"SequenceID":1,')
        async with asyncio.timeout(WAIT):
            while asyncio.all_tasks() != before:
                await asyncio.sleep(0.01)


async def test_a_watch_ends_with_the_server(serve: Any) -> None:
    async with serve(manager=MemoryJobManager()) as running, client(running.url) as opened:
        async with asyncio.timeout(WAIT), opened.watch({"requestor": "me"}) as items:
            running.server.terminate(Termination.DRAIN)
            assert [item async for item in items] == [b'{"Gap":{"Missed":0,"Cursor":"0"}}']


async def test_silence_that_comments_break_is_no_loss(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "KEEP_ALIVE", 0.05)
    monkeypatch.setattr(client_module, "MAX_SILENCE", 0.2)
    manager = MemoryJobManager()
    async with serve(manager=manager) as running, client(running.url, timeout=0.2) as opened:
        await opened.call("start", {"requestor": "me", "jobDesc": {"JobName": "x"}})
        async with asyncio.timeout(WAIT), opened.watch({"requestor": "me", "since": "1"}) as items:
            asyncio.get_running_loop().call_later(0.5, manager.finish, 1)
            assert b"JobStateCompleted" in await anext(items)


async def test_silence_without_comments_is_a_lost_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "MAX_SILENCE", 0.1)
    async with answering(HEAD, stays=True) as (address, _), client(address, timeout=0.05) as opened:
        with pytest.raises(ConnectionLost, match="no answer in time"):
            await read(opened)


async def test_a_server_that_does_not_answer_in_time_is_lost() -> None:
    async with answering(b"", stays=True) as (address, _), client(address, timeout=0.05) as opened:
        with pytest.raises(ConnectionLost, match="no answer in time"):
            await read(opened)


@pytest.mark.parametrize(
    ("given", "code", "words"),
    [
        ({"jobID": 99}, "unknown_job", "there is no job 99"),
        ({"jobID": "x"}, "invalid_parameters", "jobID"),
        ({"requestor": ""}, "invalid_parameters", "requestor cannot be empty"),
    ],
)
async def test_a_refusal_is_raised_when_it_is_entered(
    serve: Any, given: dict[str, Any], code: str, words: str
) -> None:
    async with serve(manager=MemoryJobManager()) as running, client(running.url) as opened:
        with pytest.raises(ContestError, match=words) as refused:
            async with opened.watch({"requestor": "me", **given}):
                raise AssertionError("it was entered")
    assert refused.value.code == code


async def test_a_contest_has_no_watch() -> None:
    body = b"Only POST requests are supported"
    answer = b"HTTP/1.1 400 Bad Request\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    async with answering(answer) as (address, heads), client(address) as opened:
        with pytest.raises(Unsupported, match="watch is not offered by"):
            await read(opened, jobID=7, since=None)
    assert heads[0].startswith(b"GET /events?requestor=me&jobID=7 HTTP/1.1\r\n")
    assert b"accept: text/event-stream" in heads[0].lower()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b'HTTP/1.1 200 OK\r\nContent-Length: 26\r\n\r\n{"ServerID":"","Data":null}'[:-1] + b"}",
        b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: https://login.example/\r\n\r\n",
        b'HTTP/1.1 400 No\r\nContent-Length: 9\r\n\r\n{"Msg":5}',
        b'HTTP/1.1 400 No\r\nContent-Length: 11\r\n\r\n{"Msg":"\xff"}',
        b"HTTP/1.1 400 No\r\n\r\n" + b'{"Msg":' + b"[" * 100_000,
    ],
)
async def test_what_is_no_contest_is_told_apart(answer: bytes) -> None:
    async with answering(answer) as (address, _), client(address) as opened:
        with pytest.raises(ContestError, match=r"/events is not answered by a Contest server"):
            await read(opened)


async def test_a_server_that_is_not_there_is_unreachable(serve: Any) -> None:
    async with serve() as running:
        url = running.url
    async with client(url) as opened:
        with pytest.raises(Unreachable, match="Connection refused"):
            await read(opened)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b'data: {"Event":{}}\n\n',
        b'data: {"Event":{}}\n\nevent: watchEnded\ndata: {"Cursor":"1"}',
        b"event: watchEnded\ndata: nonsense\n\n",
        b'event: watchEnded\ndata: {"Error":"\xff"}\n\n',
        b"id: \xff\n\n",
        b"event: watchEnded\ndata: " + b"[" * 100_000 + b"\n\n",
    ],
)
async def test_a_stream_that_breaks_before_its_end_is_a_lost_connection(body: bytes) -> None:
    async with answering(HEAD + body) as (address, _), client(address) as opened:
        with pytest.raises(ConnectionLost, match=r"in the middle of a watch|is not Contest's"):
            await read(opened)
    chunked = HEAD[:-2] + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b" % (len(body) + 1, body)
    async with answering(chunked) as (address, _), client(address) as opened:
        with pytest.raises(ConnectionLost):
            await read(opened)


async def test_what_was_read_before_a_loss_is_not_lost() -> None:
    seen = []

    async def read_on(opened: HttpClient) -> None:
        async with opened.watch({}) as items:
            async for item in items:
                seen.append(item)

    async with answering(HEAD + b"data: 1\n\ndata: 2\n\n") as (address, _), client(address) as opened:
        with pytest.raises(ConnectionLost):
            await read_on(opened)
    assert seen == [b"1", b"2"]


async def test_kinds_that_are_not_known_are_passed_over() -> None:
    body = b': \n\nid: 7\n\nevent: other\ndata: x\n\nretry: 1\ndata: {"Gap":1}\n\n'
    async with answering(HEAD + body + ENDED) as (address, _), client(address) as opened:
        assert await read(opened, jobID=1) == [b'{"Gap":1}']


@pytest.mark.parametrize(
    ("body", "begins"),
    [
        (b": \n\nid: 7\n\ndata: 1\nid: 8\n\n", [b'{"Gap":{"Missed":0,"Cursor":"7"}}']),
        (b"id: 8\ndata: 1\n\nid: 9\n\n", []),
    ],
)
async def test_where_a_watch_of_all_jobs_begins_is_told_first_where_the_server_says_it(
    body: bytes, begins: list[bytes]
) -> None:
    async with answering(HEAD + body + ENDED) as (address, _), client(address) as opened:
        assert await read(opened) == [*begins, b"1"]
        assert await read(opened, jobID=1) == await read(opened, since="6") == [b"1"]


async def test_a_fault_that_ended_it_is_raised_where_it_ended() -> None:
    ended = b'event: watchEnded\ndata: {"Cursor":"1","Error":"the disk is full","Code":"unavailable"}\n\n'
    async with answering(HEAD + ended) as (address, _), client(address) as opened:
        with pytest.raises(ContestError, match="the disk is full") as raised:
            await read(opened)
    assert raised.value.code == "unavailable"


async def test_an_event_over_the_limit_is_refused() -> None:
    async with answering(HEAD + b"data: " + b"x" * 2000) as (address, _):
        async with client(address, max_answer=1000) as opened:
            with pytest.raises(TooLarge, match="an event has more"):
                await read(opened)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_messages_are_found_wherever_the_bytes_are_cut(end: bytes) -> None:
    lines = [
        b":x",
        b"id: 1",
        b"data: a",
        b"",
        b"event: e",
        b"data:b",
        b"data",
        b"data:  c",
        b"",
        b"event: f",
        b"",
    ]
    text = end.join([*lines, b"data: d", b"", b":"])
    expected = [Message(b"", b"a"), Message(b"e", b"b\n\n c"), Message(b"", b"d")]
    for size in range(1, len(text) + 1):
        stream = EventStream(1000)
        parts = [text[start : start + size] for start in range(0, len(text), size)]
        assert [message for part in parts for message in stream.feed(part)] == expected


def test_many_small_lines_of_one_message_are_bounded_too() -> None:
    stream = EventStream(1000)
    for _ in range(500):
        assert stream.feed(b"data: \n") == []
    with pytest.raises(TooLarge):
        stream.feed(b"data: x\n" * 300)
