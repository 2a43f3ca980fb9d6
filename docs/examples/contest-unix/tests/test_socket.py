"""What the kit cannot know of this transport: the socket's file, who its peers are, and how many there may be."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from contest_unix.client import UnixClient
from contest_unix.lines import Lines
from contest_unix.listener import UnixListener

from contest_core import (
    Authenticator,
    ClientOptions,
    Credentials,
    Duration,
    InvalidSettings,
    Principal,
    StartError,
    Unauthenticated,
    UnixPeer,
    open_server,
)
from contest_core.testing import MemoryJobManager

VERSION = b'{"jsonrpc": "2.0", "id": 1, "method": "version"}\n'


@pytest.fixture
def path() -> Iterator[str]:
    # Not `tmp_path`: the system takes about a hundred bytes for the path of a socket.
    with TemporaryDirectory() as directory:
        yield os.path.join(directory, "socket")


@asynccontextmanager
async def serving(path: str, *authenticators: Authenticator, **settings: Any) -> AsyncIterator[None]:
    listener = UnixListener(UnixListener.Settings(path=path, **settings))
    async with open_server(MemoryJobManager(), listeners={"it": listener}, authenticators=authenticators):
        yield


async def exchange(path: str, request: bytes) -> bytes:
    """All that comes back when nothing more is sent."""
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(request)
    writer.write_eof()
    async with asyncio.timeout(10):
        answer = await reader.read()
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()
    return answer


def test_the_socket_is_for_its_owner_and_gone_at_the_end(path: str) -> None:
    async def test() -> None:
        async with serving(path):
            assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        assert not os.path.exists(path)

    asyncio.run(test())


def test_what_a_killed_server_left_behind_is_replaced(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)

    async def test() -> None:
        async with serving(path):
            assert b'"result"' in await exchange(path, VERSION)

    asyncio.run(test())


def test_a_file_that_is_no_socket_stays(path: str) -> None:
    Path(path).write_text("precious")

    async def test() -> None:
        with pytest.raises(StartError, match="it is there, and no socket"):
            async with serving(path):
                pass

    asyncio.run(test())
    assert Path(path).read_text() == "precious"


def test_of_two_servers_the_second_is_refused_and_the_first_goes_on(path: str) -> None:
    async def test() -> None:
        async with serving(path):
            with pytest.raises(StartError, match="another program listens there"):
                async with serving(path):
                    pass
            assert b'"result"' in await exchange(path, VERSION)

    asyncio.run(test())


def test_who_says_that_nothing_more_comes_is_answered(path: str) -> None:
    async def test() -> None:
        async with serving(path):
            answers = (await exchange(path, VERSION + b"\n" + VERSION.strip())).splitlines()
            assert [json.loads(answer)["result"]["Data"]["Version"] for answer in answers] == [5, 5]

    asyncio.run(test())


def test_one_connection_too_many_is_told_so(path: str) -> None:
    async def test() -> None:
        async with serving(path, max_connections=1):
            client = await UnixClient.connect(f"unix:{path}", ClientOptions())
            await client.call("version", {})
            assert b'"Code":"too_many_requests"' in await exchange(path, b"")
            await client.aclose()

    asyncio.run(test())


def test_a_fault_of_this_code_ends_the_connection_where_it_happens_and_no_other(
    path: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    feed = Lines.feed

    def faulty(self: Lines, chunk: bytes) -> list[bytes]:
        return feed(self, chunk) if chunk != b"fault" else [][0]

    monkeypatch.setattr(Lines, "feed", faulty)

    async def test() -> None:
        async with serving(path):
            assert await exchange(path, b"fault") == b""
            assert b'"result"' in await exchange(path, VERSION)

    asyncio.run(test())
    assert [record.getMessage() for record in caplog.records if record.exc_info] == ["a connection failed"]


class Only(Authenticator):
    """Lets one user in."""

    def __init__(self, uid: int) -> None:
        super().__init__(None)
        self.uid = uid

    async def authenticate(self, credentials: Credentials, peer: str) -> Principal | None:
        if not isinstance(credentials, UnixPeer) or credentials.uid != self.uid:
            raise Unauthenticated(reason=f"{peer} is not known")
        return Principal(name="owner")


def test_the_kernel_says_who_asks(path: str) -> None:
    listing = b'{"jsonrpc": "2.0", "id": 1, "method": "list", "params": {"requestor": "me"}}\n'

    async def test() -> None:
        async with serving(path, Only(os.getuid())):
            assert b'"result"' in await exchange(path, listing)
        async with serving(path, Only(os.getuid() + 1)):
            assert b'"Code":"unauthenticated"' in await exchange(path, listing)

    asyncio.run(test())


def test_settings_that_cannot_be_meant_are_refused() -> None:
    with pytest.raises(InvalidSettings) as refused:
        UnixListener.Settings(path="socket", idle_timeout=Duration("0"))
    assert list(refused.value.problems) == ["idle_timeout"]


def test_lines_are_cut_wherever_the_chunks_end_and_long_ones_short() -> None:
    stream = b"one\n\ntwo\nlonger\nlong\nx"
    for size in range(1, len(stream) + 1):
        lines = Lines(4)
        chunks = [stream[start : start + size] for start in range(0, len(stream), size)]
        assert [line for chunk in chunks for line in lines.feed(chunk)] == [
            b"one",
            b"",
            b"two",
            b"longe",
            b"long",
        ]
        assert lines.begun
        assert (lines.rest(), lines.rest()) == (b"x", b"")
