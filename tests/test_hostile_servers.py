"""Servers that answer what is nearly right: whatever comes, a client gives an answer or a `ContestError`, soon.

As `test_hostile_peers`, the other way round, through the typed client, so that what reads the answers is tried too.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import importlib.util
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from contest_core.client import Client, ClientOptions, Contest
from contest_core.errors import ContestError, TooLarge
from contest_core.job_event import Gap, JobEvent
from contest_core.status import JobQuery
from contest_http.client import HttpClient
from contest_http.events import EventStream, Message
from contest_stdio.client import StdioClient
from contest_websocket.client import WebsocketClient

_spec = importlib.util.spec_from_file_location("hostile_bytes", Path(__file__).parent / "hostile_bytes.py")
assert _spec is not None
assert _spec.loader is not None
made = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(made)

SECONDS = 20.0
"""For one example."""

PATIENCE = 0.05
"""Seconds for an answer; most of what is no answer is noticed at once."""
CLOSE = 0x88
MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

SHARES = [pytest.param(0, 25, id="short")] + [
    pytest.param(share, examples, id=str(share), marks=[pytest.mark.heavy, pytest.mark.timeout(1200)])
    for share, examples in ((2, 400), (3, 4000), (4, 4000))
]


@asynccontextmanager
async def answering(
    speak: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[int]:
    """Somebody's server, which closes when it has said what it says; gives its port."""
    open_ones: set[asyncio.Task[None] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_ones.add(asyncio.current_task())
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                await speak(reader, writer)
                await writer.drain()
        finally:
            writer.close()
            open_ones.discard(asyncio.current_task())

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for _ in range(3):
            await asyncio.sleep(0)  # one that is just let in
        while tasks := [task for task in open_ones if task is not None]:
            await asyncio.wait(tasks)
        await server.wait_closed()


async def ask_all(kind: type[Client], address: str, patience: float = PATIENCE) -> None:
    """Asks what a program asks; nothing but a `ContestError` may come of it."""

    async def watch(contest: Contest) -> None:
        # One that is subscribed waits as long as nothing happens.
        with suppress(TimeoutError):
            async with asyncio.timeout(3 * patience), contest.watch(job_id=1) as items:
                async for item in items:
                    assert isinstance(item, JobEvent | Gap)

    options = ClientOptions(timeout=patience, patience=0)
    try:
        client = await kind.connect(address, options)
    except ContestError:
        return
    contest = Contest(client, options)
    try:
        for asked in (
            lambda: contest.status(1),
            lambda: watch(contest),
            lambda: contest.list(JobQuery()),
            lambda: contest.start("{}"),
        ):
            try:
                answer: Any = await asked()
                if answer is not None:
                    answer.result()
            except ContestError:
                continue
    finally:
        await client.aclose()


def run(work: Any) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(SECONDS):
            await work

    asyncio.run(bounded())


@pytest.mark.parametrize(("share", "examples"), SHARES)
def test_whatever_answers_over_http_the_client_says_what_is_wrong(share: int, examples: int) -> None:
    answers = made.http_answers()
    streams = made.event_streams()
    either = st.lists(
        made.mangled(answers, most=2)
        | made.mangled(answers, made.OF_HTTP, most=2)
        | made.mangled(streams, most=3)
        | made.mangled(
            streams, [*made.OF_HTTP, b"\r", b"id: \xff\n\n", b"data", b"event: watchEnded"], most=3
        ),
        min_size=4,
        max_size=4,
    )

    def examine(said: list[bytes]) -> None:
        left = list(said)

        async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(left.pop() if left else b"")

        async def ask() -> None:
            async with answering(speak) as port:
                await ask_all(HttpClient, f"http://127.0.0.1:{port}")

        run(ask())

    made.explore(either, examine, examples=examples, share=share)


@pytest.mark.parametrize(("share", "examples"), SHARES)
def test_whatever_answers_on_a_websocket_the_client_says_what_is_wrong(share: int, examples: int) -> None:
    messages = made.mangled(made.rpc_answers(), most=2)
    turns = st.lists(
        st.lists(
            made.frames(messages, masked=False)
            | st.builds(made.frame, st.just(1), messages, masked=st.just(False)),
            max_size=4,
        ),
        min_size=1,
        max_size=6,
    )
    refusals = [
        b'HTTP/1.1 401 No\r\nContent-Length: 38\r\n\r\n{"Msg":"who?","Code":"unauthenticated"}',
        b"HTTP/1.1 302 Found\r\nLocation: ws://127.0.0.1:1/\r\n\r\n",
    ]
    openings = st.just(b"") | st.just(b"") | made.mangled(refusals, [*made.OF_HTTP, *made.OF_JSON])

    def examine(said: tuple[bytes, list[list[bytes]]]) -> None:
        async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = await reader.readuntil(b"\r\n\r\n")
            if said[0]:
                writer.write(said[0])
                return
            key = re.search(rb"Sec-WebSocket-Key: (\S+)", head)
            assert key is not None
            accept = base64.b64encode(hashlib.sha1(key[1] + MAGIC).digest())
            writer.write(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
            )
            for turn in said[1]:
                heard = await reader.read(65536)
                if not heard or heard[0] == CLOSE:
                    return
                writer.write(b"".join(turn))

        async def ask() -> None:
            async with answering(speak) as port:
                await ask_all(WebsocketClient, f"ws://127.0.0.1:{port}")

        run(ask())

    made.explore(st.tuples(openings, turns), examine, examples=examples, share=share)


@pytest.mark.parametrize(("share", "examples"), SHARES)
def test_whatever_answers_on_lines_the_client_says_what_is_wrong(
    tmp_path: Path, share: int, examples: int
) -> None:
    right = made.rpc_answers()
    turns = st.lists(
        st.lists(st.sampled_from(right) | made.mangled(right, most=2), max_size=4), min_size=1, max_size=5
    )
    command = f"stdio:sh -c 'for turn in {tmp_path}/*; do read asked || exit; cat $turn; done'"

    def examine(said: list[list[bytes]]) -> None:
        for old in tmp_path.iterdir():
            old.unlink()
        (tmp_path / "0").write_bytes(right[0] + b"\n")
        for number, lines in enumerate(said, 1):
            (tmp_path / str(number)).write_bytes(b"".join(line + b"\n" for line in lines))
        run(ask_all(StdioClient, command, 0.3))

    made.explore(turns, examine, examples=max(examples // 10, 5), share=share)


def read_slowly(stream: bytes) -> tuple[list[Message], bytes]:
    """What the standard says that a stream is, of which all is here."""
    messages, kind, data, ends = [], b"", [], re.split(rb"\r\n|\r|\n", stream)
    for line in ends[:-1]:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if not line:
            if data:
                messages.append(Message(kind, b"\n".join(data)))
            kind, data = b"", []
        elif name == b"event":
            kind = value
        elif name == b"data":
            data.append(value)
    return messages, ends[-1]


@pytest.mark.parametrize(("share", "examples"), SHARES)
def test_an_event_stream_is_the_same_however_it_is_cut(share: int, examples: int) -> None:
    whole = [stream.partition(b"\r\n\r\n")[2] for stream in made.event_streams()]
    tokens = [
        b"\r",
        b"\n",
        b"\r\n",
        b"\n\n",
        b"\r\r",
        b":",
        b" ",
        b"data",
        b"event",
        b"id",
        b"\x00",
        b"\xff",
        b"\xef\xbb\xbf",
    ]
    parts = st.tuples(made.mangled(whole, tokens, most=6), st.lists(st.integers(0, 2000), max_size=12))

    def examine(given: tuple[bytes, list[int]]) -> None:
        # A CR at the very end may be half of a line's end: it is one when more has come.
        text = given[0] + b"\n\n"
        bounds = [0, *sorted(place % len(text) for place in given[1]), len(text)]
        stream = EventStream(1 << 20)
        found = [message for start, end in pairwise(bounds) for message in stream.feed(text[start:end])]
        assert found == read_slowly(text)[0]
        with suppress(TooLarge):
            small = EventStream(10)
            for start, end in pairwise(bounds):
                assert all(len(message.data) <= 10 + len(text) for message in small.feed(text[start:end]))

    made.explore(parts, examine, examples=4 * examples, share=share)
