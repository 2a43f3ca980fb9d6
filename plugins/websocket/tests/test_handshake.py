"""Who may open a connection, and what the others are told."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

TEXT, PING, PONG = 1, 9, 10

pytestmark = pytest.mark.asyncio(loop_factories=["uvloop"])


@pytest.mark.parametrize(
    ("headers", "status", "words"),
    [
        (
            {"Origin": "https://evil.example"},
            403,
            "a web page of 'https://evil.example' may not ask this server",
        ),
        ({"Origin": "null"}, 403, "a web page of 'null'"),
        ({"Host": "evil.example"}, 403, "ask for localhost or 127.0.0.1"),
        ({"Host": "evil.example:8081"}, 403, "ask for localhost or 127.0.0.1"),
        ({"Host": None}, 400, "header Host is missing"),
        ({"Origin": "https://lab.example\r\nOrigin: https://evil.example"}, 400, "Origin is given twice"),
        ({"Host": "localhost\r\nHost: evil.example"}, 400, "Host is given twice"),
    ],
)
async def test_a_peer_that_may_not_connect_is_told_so(
    serve: Any, headers: dict[str, str | None], status: int, words: str
) -> None:
    async with serve(origins=("https://lab.example",)) as running:
        wire = await running.dial()
        answered, fields, body = await wire.open(**headers)
        assert (answered, fields["content-type"]) == (status, "application/json")
        assert words in json.loads(body)["Msg"]
        assert json.loads(body)["Code"] in ("denied", "invalid_message")
        assert await wire.rest() == b""


@pytest.mark.parametrize("origin", ["https://lab.example", "HTTPS://Lab.Example"])
async def test_a_web_page_of_an_allowed_origin_may_connect(serve: Any, origin: str) -> None:
    async with serve(origins=("https://lab.example",)) as running:
        wire = await running.open(Origin=origin)
        wire.ask("version")
        assert (await wire.message())["id"] == 1


@pytest.mark.parametrize("host", ["localhost", "localhost:8081", "127.0.0.1:1", "[::1]:8081", "LOCALHOST."])
async def test_loopback_may_be_asked_for_by_its_names(serve: Any, host: str) -> None:
    async with serve() as running:
        await running.open(Host=host)


async def test_beyond_loopback_any_host_may_be_asked_for(serve: Any) -> None:
    async with serve(host="0.0.0.0", allow_anonymous=True) as running:
        await running.open(Host="lab.example")


@pytest.mark.parametrize("authorization", [None, "Basic cmlnaHQ=", "Bearer", "Bearer wrong"])
async def test_without_the_right_token_nothing_is_opened(serve: Any, authorization: str | None) -> None:
    async with serve(token=True) as running:
        wire = await running.dial()
        status, headers, body = await wire.open(Authorization=authorization)
        assert (status, headers["www-authenticate"]) == (401, "Bearer")
        assert json.loads(body)["Code"] == "unauthenticated"


async def test_a_token_says_who_asks(serve: Any) -> None:
    async with serve(token=True) as running:
        wire = await running.open(Authorization="bearer right")
        wire.ask("list")
        assert "result" in await wire.message()
        assert running.manager.asked[0][1].principal.name == "ada"


async def test_what_is_no_websocket_is_told_so(serve: Any) -> None:
    async with serve() as running:
        wire = await running.dial()
        status, headers, _ = await wire.open(Upgrade=None)
        assert (status, headers["upgrade"]) == (426, "websocket")


async def test_the_connection_over_the_limit_gets_503_and_room_is_found_again(serve: Any) -> None:
    async with serve(max_connections=2) as running:
        first, second = [await running.open() for _ in range(2)]
        third = await running.dial()
        status, headers, body = await third.open()
        assert (status, headers["retry-after"]) == (503, "1")
        assert json.loads(body)["Code"] == "too_many_requests"
        first.ask("version")
        assert (await first.message())["id"] == 1
        second.put(8, b"\x03\xe8")
        await second.rest()
        second.close()
        await third.rest()
        third.close()
        wire = await running.dial()
        while (await wire.open())[0] != 101:
            wire = await running.dial()


async def test_a_flood_of_connections_is_cut_off(serve: Any) -> None:
    async with serve(max_connections=2) as running:
        wires = [await running.dial() for _ in range(12)]
        assert [await wire.rest() for wire in wires[4:]] == [b""] * 8


def opening(**headers: str) -> bytes:
    lines = {
        "Host": "localhost",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
        "Sec-WebSocket-Version": "13",
        **headers,
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"GET / HTTP/1.1\r\n{head}\r\n".encode()


@pytest.mark.parametrize("cut", [0, 1, 3, 4, 5, 1000])
async def test_what_comes_too_early_is_answered_when_the_peer_has_been_let_in(serve: Any, cut: int) -> None:
    async with serve(token=True) as running:
        wire = await running.dial()
        frames = running.frame(PING, b"early") + running.frame(TEXT, running.request("version", 1)) * 200
        stream = opening(Authorization="Bearer right") + frames
        end = stream.index(b"\r\n\r\n") + cut
        wire.send(stream[:end])
        await asyncio.sleep(0.01)
        wire.send(stream[end:])
        assert (await wire.answer())[0] == 101
        assert await wire.frame() == (PONG, b"early", True)
        for _ in range(200):
            assert (await wire.message())["id"] == 1


async def test_of_a_peer_that_is_refused_nothing_else_is_taken(serve: Any) -> None:
    async with serve() as running:
        wire = await running.dial()
        wire.send(opening(Host="example.org") + running.frame(PING, b"early"))
        assert (await wire.answer())[0] == 403
        assert await wire.rest() == b""


async def test_however_much_follows_what_is_no_request_the_end_is_quiet(
    serve: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve() as running:
        wire = await running.dial()
        wire.send(b"no request\r\n")
        assert await wire.rest() == b""
        await wire.flood(b"x" * 20_000, 0.1)
        await (await running.dial()).open()
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
