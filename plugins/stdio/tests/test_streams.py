"""Reading and writing descriptors that are not the standard ones, in this process."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contest_core import ByteSize, JobManager, JobManagerContext, Listener, ListenerContext, open_server
from contest_core.api import API
from contest_stdio import wires
from contest_stdio.listener import StdioListener
from contest_stdio.settings import StdioSettings
from contest_stdio.streams import Input, Output

Pair = tuple[int, int]


def never() -> None:
    raise AssertionError("the reader is not gone")


@pytest.fixture
def pipe() -> Iterator[Pair]:
    source, sink = os.pipe()
    yield source, sink
    for descriptor in (source, sink):
        try:
            os.close(descriptor)
        except OSError:
            continue


@pytest.fixture(params=["own", "shared"])
def wire(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whether the system can open a pipe anew; where not, it is shared with others and may block."""

    def refuse(*arguments: object) -> None:
        raise PermissionError

    if request.param == "shared":
        monkeypatch.setattr(wires, "_Anew", refuse)
    kind: str = request.param
    return kind


def drained(descriptor: int) -> Callable[[], bytes]:
    """Reads a descriptor to its end in a thread; call the result for what was read."""
    found: list[bytes] = []

    def read() -> None:
        while chunk := os.read(descriptor, 65536):
            found.append(chunk)

    thread = threading.Thread(target=read)
    thread.start()

    def result() -> bytes:
        thread.join(20)
        return b"".join(found)

    return result


async def read_all(source: Input) -> bytes:
    found = b""
    async with asyncio.timeout(20):
        while chunk := await source.read():
            found += chunk
    return found


async def test_a_pipe_is_read_to_its_end(wire: str, pipe: Pair) -> None:
    source = Input(pipe[0])
    reading = asyncio.create_task(read_all(source))
    for word in (b"one", b"two", b"three"):
        os.write(pipe[1], word)
        await asyncio.sleep(0.01)
    os.close(pipe[1])
    assert await reading == b"onetwothree"
    source.close()


async def test_a_pipe_whose_writers_have_gone_before_is_read_to_its_end(wire: str, pipe: Pair) -> None:
    os.write(pipe[1], b"last words")
    os.close(pipe[1])
    source = Input(pipe[0])
    assert await read_all(source) == b"last words"
    source.close()


async def test_reading_can_be_stopped(wire: str, pipe: Pair) -> None:
    source = Input(pipe[0])
    reading = asyncio.create_task(source.read())
    await asyncio.sleep(0.01)
    source.stop()
    async with asyncio.timeout(5):
        assert await reading == b""
        assert await source.read() == b""
    source.close()


async def test_input_that_nobody_reads_costs_no_time(wire: str, pipe: Pair) -> None:
    source = Input(pipe[0])
    reading = asyncio.create_task(source.read())
    await asyncio.sleep(0.01)
    os.write(pipe[1], b"x")
    assert await reading == b"x"
    os.write(pipe[1], b"y")
    before = time.process_time()
    await asyncio.sleep(0.2)
    assert time.process_time() - before < 0.1
    assert await source.read() == b"y"
    source.close()


async def test_much_is_written_through_a_full_pipe_in_order(wire: str, pipe: Pair) -> None:
    output = Output(pipe[1], never)
    result = drained(pipe[0])
    lines = [str(number).encode() * (1 + number % 50) for number in range(3000)] + [b"x" * 3_000_000, b"end"]
    async with asyncio.timeout(20):
        for line in lines:
            await output.send(line)
        await output.drain()
    await output.aclose()
    os.close(pipe[1])
    assert result() == b"".join(line + b"\n" for line in lines)


async def test_a_full_pipe_makes_the_sender_wait_and_nobody_else(wire: str, pipe: Pair) -> None:
    output = Output(pipe[1], never)
    sending = asyncio.create_task(output.send(b"x" * 1_000_000))
    await asyncio.sleep(0.05)
    assert not sending.done()
    result = drained(pipe[0])
    async with asyncio.timeout(20):
        await sending
        await output.drain()
    await output.aclose()
    os.close(pipe[1])
    assert len(result()) == 1_000_001


async def test_a_reader_that_goes_while_the_pipe_is_full_is_noticed(wire: str, pipe: Pair) -> None:
    lost: list[bool] = []
    output = Output(pipe[1], lambda: lost.append(True))
    sending = asyncio.create_task(output.send(b"x" * 1_000_000))
    await asyncio.sleep(0.02)
    os.close(pipe[0])
    async with asyncio.timeout(5):
        with pytest.raises(ConnectionError):
            await sending
        await output.drain()
    with pytest.raises(ConnectionError):
        await output.send(b"more")
    assert isinstance(output.lost, BrokenPipeError)
    assert lost == [True]
    await output.aclose()


async def test_a_reader_that_has_gone_before_is_noticed(wire: str, pipe: Pair) -> None:
    os.close(pipe[0])
    gone = asyncio.Event()
    output = Output(pipe[1], gone.set)
    async with asyncio.timeout(5):
        await output.send(b"hello")
        await gone.wait()
    await output.aclose()


async def test_small_lines_are_gathered_into_one_write(pipe: Pair) -> None:
    output = Output(pipe[1], never)
    for number in range(100):
        await output.send(str(number).encode())
    await output.drain()
    assert os.read(pipe[0], 65536).count(b"\n") == 100
    await output.aclose()


async def test_a_file_is_written_in_a_thread(tmp_path: Path) -> None:
    with (tmp_path / "answers").open("wb") as file:
        output = Output(file.fileno(), never)
        for number in range(1000):
            await output.send(str(number).encode())
            if number % 100 == 0:
                await asyncio.sleep(0)
        await output.send(b"x" * 1_000_000)
        await output.drain()
        await output.aclose()
    lines = (tmp_path / "answers").read_bytes().splitlines()
    assert [int(line) for line in lines[:-1]] == list(range(1000))
    assert len(lines[-1]) == 1_000_000


async def test_a_socket_whose_peer_is_gone_is_at_its_end() -> None:
    ours, theirs = socket.socketpair()
    source = Input(theirs.fileno())
    reading = asyncio.create_task(source.read())
    await asyncio.sleep(0.01)
    ours.close()
    async with asyncio.timeout(5):
        assert await reading == b""
    source.close()
    theirs.close()


class Idle(JobManager):
    """Offers nothing."""

    def capabilities(self) -> frozenset[str]:
        return frozenset()

    async def serve(self, context: JobManagerContext) -> None:
        context.ready()
        await context.stopping()


class OnFiles(Listener):
    """The listener on two descriptors of the test's."""

    def __init__(self, limit: int, source: int, sink: int) -> None:
        super().__init__(None)
        self.listener = StdioListener(StdioSettings(max_request=ByteSize(limit)))
        self.descriptors = source, sink

    async def serve(self, api: API, context: ListenerContext) -> None:
        await self.listener.serve_descriptors(api, context, *self.descriptors)


REQUESTS = st.sampled_from(
    [
        b'{"jsonrpc":"2.0","id":1,"method":"version"}',
        b'[{"jsonrpc":"2.0","id":1,"method":"version"},1]',
        b'{"jsonrpc":"2.0","method":"version"}',
        b'{"jsonrpc":"2.0","id":"\\ud83d\\ude00","method":"list","params":{"requestor":"\xc3\xa9"}}',
    ]
)


@settings(deadline=None, max_examples=60)
@given(lines=st.lists(REQUESTS | st.binary(max_size=80), max_size=6))
def test_any_input_is_answered_or_skipped(lines: list[bytes]) -> None:
    async def serve(source: int, sink: int) -> None:
        async with open_server(Idle(None), listeners={"files": OnFiles(60, source, sink)}) as server:
            async with asyncio.timeout(20):
                await server.wait()

    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as output:
        given.write(b"\n".join(lines))
        given.seek(0)
        asyncio.run(serve(given.fileno(), output.fileno()))
        output.seek(0)
        found = [json.loads(line) for line in output.read().splitlines()]
    assert len(found) <= sum(line.count(b"\n") + 1 for line in lines)
    for answer in found:
        assert all(one["jsonrpc"] == "2.0" for one in (answer if isinstance(answer, list) else [answer]))
