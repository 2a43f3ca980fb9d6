"""The protocol without sockets: however its bytes are cut, a stream of requests is the same stream."""

from __future__ import annotations

import asyncio
import logging
import re
from itertools import pairwise
from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st

from contest_http.connections import Connections
from contest_http.guards import Guards
from contest_http.listener import _configuration
from contest_http.protocol import GuardedProtocol
from contest_http.settings import HttpSettings

FORM = b"Host: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n"
REQUESTS = [
    b"POST /version HTTP/1.1\r\n" + FORM + b"Content-Length: 3\r\n\r\na=b",
    b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"POST /start HTTP/1.1\r\n" + FORM + b"X: " + b"x" * 900 + b"\r\nContent-Length: 0\r\n\r\n",
    b"POST /list HTTP/1.1\r\n" + FORM + b"Transfer-Encoding: chunked\r\n\r\n"
    b"1\r\na\r\n2;x=y\r\n=b\r\n0\r\nTrailer: z\r\n\r\n",
    b"POST /large HTTP/1.1\r\n" + FORM + b"Content-Length: 3000\r\n\r\n" + b"y" * 3000,
]


class Transport:
    """Takes all that is written; its reading can be paused, and then the test feeds nothing."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.unsent = 0
        self.paused = False
        self.closed = False

    def write(self, data: bytes) -> None:
        self.written += data

    def write_eof(self) -> None:
        self.closed = True

    def close(self) -> None:
        self.closed = True

    abort = close

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def get_extra_info(self, name: str) -> Any:
        return ("127.0.0.1", 5) if name == "peername" else None


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the path and the size of the body, a little later."""
    body = (await receive())["body"]
    await asyncio.sleep(0)
    answer = b"%b %d" % (scope["path"].encode(), len(body))
    headers = [(b"content-length", b"%d" % len(answer))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer, "more_body": False})


def connection(**limits: Any) -> tuple[Connections, GuardedProtocol, Transport]:
    chosen = HttpSettings(**limits)

    def report_error(error: Exception) -> None:
        raise error

    guards, log = Guards(chosen, loopback=True), logging.getLogger("contest.test")
    connections = Connections(chosen, guards, log=log, report_error=report_error)
    protocol = GuardedProtocol(_configuration(cast("Any", echo)), connections)
    transport = Transport()
    protocol.connection_made(cast("asyncio.Transport", transport))
    return connections, protocol, transport


async def converse(pieces: list[bytes], **limits: Any) -> Transport:
    connections, protocol, transport = connection(**limits)
    for piece in pieces:
        async with asyncio.timeout(10):
            while transport.paused:
                await asyncio.sleep(0)
        protocol.data_received(piece)
    async with asyncio.timeout(10):
        while connections.tasks:
            await asyncio.sleep(0)
    protocol.connection_lost(ConnectionResetError())
    assert not connections.open
    assert connections.budget.used == 0
    return transport


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % len(stream) for place in places} | {0, len(stream)})
    return [stream[start:end] for start, end in pairwise(ends)]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from(range(len(REQUESTS))), min_size=1, max_size=12),
    st.lists(st.integers(min_value=0, max_value=60_000), max_size=40),
)
def test_a_stream_of_requests_is_the_same_however_it_is_cut(chosen: list[int], places: list[int]) -> None:
    stream = b"".join(REQUESTS[number] for number in chosen)
    # The limit of a head holds the largest of them, and not two.
    transport = asyncio.run(converse(cut(stream, places), max_header=1100))
    answers = re.findall(rb"HTTP/1.1 (\d+) .*?\r\n\r\n(/\w+ \d+)", bytes(transport.written), re.DOTALL)
    expected = [b"/version 3", b"/healthz 0", b"/start 0", b"/list 3", b"/large 3000"]
    assert answers == [(b"200", expected[number]) for number in chosen]
    assert not transport.closed


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(REQUESTS),
    st.binary(max_size=60),
    st.integers(min_value=0, max_value=200),
    st.lists(st.integers(min_value=0, max_value=4000), max_size=6),
)
def test_any_damage_to_a_request_is_answered_or_waited_for(
    whole: bytes, damage: bytes, place: int, places: list[int]
) -> None:
    stream = whole[:place] + damage + whole[place + len(damage) :] + REQUESTS[0]
    transport = asyncio.run(converse(cut(stream, places), max_header=1100))
    for status in re.findall(rb"HTTP/1.1 (\d+) ", bytes(transport.written)):
        assert status in {b"200", b"400", b"403", b"413", b"415", b"501", b"417", b"429", b"431", b"100"}


@given(st.integers(min_value=1101, max_value=3000), st.lists(st.integers(0, 4000), max_size=6), st.booleans())
def test_a_head_over_the_limit_is_refused_however_it_is_cut(
    size: int, places: list[int], second: bool
) -> None:
    long = b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * size + b"\r\n\r\n"
    transport = asyncio.run(converse(cut((REQUESTS[0] if second else b"") + long, places), max_header=1100))
    statuses = re.findall(rb"HTTP/1.1 (\d+) ", bytes(transport.written))
    assert statuses == [b"200", b"431"] if second else [b"431"]
    assert transport.closed


async def test_reading_pauses_while_requests_wait() -> None:
    transport = await converse([REQUESTS[0] * 3] * 20, max_pipelined=3)
    assert re.findall(rb"HTTP/1.1 (\d+) ", bytes(transport.written)) == [b"200"] * 60


async def test_a_peer_that_takes_something_of_the_rest_gets_more_time() -> None:
    connections, protocol, transport = connection()
    now = connections.loop.time()
    transport.unsent = 1000
    protocol.pause_writing()
    for unsent in (999, 10):
        transport.unsent = unsent
        protocol.expire(now + 100)
        assert not transport.closed
        assert protocol.deadline > now
    protocol.expire(now + 100)
    assert transport.closed
    protocol.connection_lost(ConnectionResetError())
