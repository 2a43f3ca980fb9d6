"""The client against real servers: ours, bare ones that say what a test wants, and what is no server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as serve_bare

from contest_core.client import ClientOptions, connect
from contest_core.errors import (
    AnswerTimeout,
    ConnectionLost,
    TooLarge,
    TooManyRequests,
    Unauthenticated,
    Unreachable,
)
from contest_core.job_event import Gap, JobEvent
from contest_core.server import open_server
from contest_core.settings import Duration
from contest_core.status import JobQuery
from contest_core.testing.memory import MemoryJobManager
from contest_websocket import link as link_module
from contest_websocket.client import WebsocketClient
from contest_websocket.listener import WebsocketListener
from contest_websocket.settings import WebsocketSettings

WAIT = 10.0


@asynccontextmanager
async def connected(address: str, **options: Any) -> AsyncIterator[WebsocketClient]:
    client = await WebsocketClient.connect(address, ClientOptions(**options))
    try:
        yield client
    finally:
        await client.aclose()


@asynccontextmanager
async def bare(
    answer: Callable[[ServerConnection, dict[str, Any]], Awaitable[None]], **options: Any
) -> AsyncIterator[str]:
    """A server of somebody else's."""

    async def handle(connection: ServerConnection) -> None:
        async for message in connection:
            await answer(connection, json.loads(message))

    async with serve_bare(handle, "127.0.0.1", 0, **options) as server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"


LIST = {"requestor": "me"}


async def test_the_typed_client_talks_to_the_listener(serve: Any) -> None:
    async with serve() as running, connect(running.url) as contest:
        assert (await contest.version()).result().version == 5
        assert (await contest.start('{"a": 1}')).result().job_id == 1
        assert (await contest.list(JobQuery())).result().job_ids == []
        (message, caller) = running.manager.asked[0]
        assert (message.job_descriptor, caller.requestor) == ('{"a": 1}', "contest")


async def test_a_result_is_handed_on_as_it_came_and_a_refusal_becomes_the_answer_that_http_has(
    serve: Any,
) -> None:
    async with serve() as running, connected(running.url) as client:
        assert await client.call("list", LIST) == (
            b'{"ServerID":"lab-1","Type":"ResponseTypeList","Data":{"JobIDs":[]},"Error":null}'
        )
        assert json.loads(await client.call("status", {"requestor": "me", "jobID": 99})) == {
            "ServerID": "lab-1",
            "Type": "ResponseTypeStatus",
            "Data": {"Status": None},
            "Error": "there is no job 99",
            "Code": "unknown_job",
        }
        assert json.loads(await client.call("list", {}))["Code"] == "invalid_parameters"


async def test_many_calls_may_be_in_flight_and_each_gets_its_own_answer(serve: Any) -> None:
    async with serve() as running, connected(running.url) as client:
        slow = asyncio.ensure_future(client.call("status", {"requestor": "me", "jobID": 7}))
        await running.manager.arrived.wait()
        answers = await asyncio.gather(
            *(client.call("status", {"requestor": "me", "jobID": 100 + n}) for n in range(50))
        )
        assert [json.loads(answer)["Error"] for answer in answers] == [
            f"there is no job {100 + n}" for n in range(50)
        ]
        assert not slow.done()
        running.manager.release.set()
        assert json.loads(await slow)["Error"] is None


async def test_a_call_that_is_cancelled_disturbs_no_other(serve: Any) -> None:
    async with serve() as running, connected(running.url) as client:
        slow = asyncio.ensure_future(client.call("status", {"requestor": "me", "jobID": 7}))
        await running.manager.arrived.wait()
        slow.cancel()
        await asyncio.wait([slow])
        assert json.loads(await client.call("list", LIST))["Error"] is None
        running.manager.release.set()


async def test_a_job_is_watched_to_its_end() -> None:
    listener = WebsocketListener(WebsocketSettings(port=0))
    async with open_server(MemoryJobManager(), listeners={"websocket": listener}) as server:
        async with connect(server.addresses["websocket"][0]) as contest:
            job = (await contest.start('{"JobName": "x", "Version": "1.0"}')).result().job_id
            found: list[JobEvent | Gap] = []
            async with asyncio.timeout(WAIT), contest.watch(job_id=job) as watch:
                found.append(await anext(watch))
                await contest.stop(job)
                found += [event async for event in watch]
    names = [event.data.event_name for event in found if isinstance(event, JobEvent)]
    assert (names[0], names[-1]) == ("JobStateStarted", "JobStateCancelled")


async def test_an_open_watch_is_no_idle_connection_and_ends_with_the_server() -> None:
    listener = WebsocketListener(WebsocketSettings(port=0, idle_timeout=Duration("50ms")))
    async with open_server(MemoryJobManager(), listeners={"websocket": listener}) as server:
        client = await WebsocketClient.connect(server.addresses["websocket"][0], ClientOptions())
        watching = client.watch({"requestor": "me"})
        events = await watching.__aenter__()
        await asyncio.sleep(0.2)
        assert client._link is not None
        assert client._link.is_open
    # The server has ended in good order: the watch was told, and there is nothing more.
    async with asyncio.timeout(WAIT):
        assert [event async for event in events] == [b'{"Gap":{"Missed":0,"Cursor":"0"}}']
        await watching.__aexit__(None, None, None)
    await client.aclose()


# --- who cannot be reached


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("ws://127.0.0.1:1", "refused"),
        ("ws://", "the address has no host"),
        ("ws://localhost:none", "cannot reach"),
        ("ws://me:secret@localhost", "carries no user"),
        ("ws://localhost:1/#x", "no fragment"),
        ("ws://no-such-host.invalid:1", "cannot reach"),
    ],
)
async def test_what_cannot_be_reached_says_why(address: str, words: str) -> None:
    with pytest.raises(Unreachable, match=words) as caught:
        await WebsocketClient.connect(address, ClientOptions(timeout=5))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnope", "answers 404 Not Found, 'nope'"),
        (
            b"HTTP/1.1 302 Found\r\nLocation: ws://127.0.0.1:1/\r\n\r\n",
            "answers 302 Found, which points to ws://",
        ),
        (b"HTTP/1.1 302 Found\r\nLocation: ws://x: 1/\r\n\r\n", "answers 302 Found"),
        (b"HTTP/1.1 302 Found\r\nLocation: /a\r\nLocation: /b\r\n\r\n", "answers 302 Found"),
        (b"SSH-2.0-x\r\n", "cannot reach"),
        (b"", "cannot reach"),
    ],
)
async def test_what_is_no_websocket_server_says_what_it_is(answer: bytes, words: str) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(Unreachable, match=words):
            await WebsocketClient.connect(f"ws://127.0.0.1:{port}", ClientOptions(timeout=5))


async def test_a_server_that_does_not_answer_cannot_be_reached() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(Unreachable, match=r"no connection within 0\.1 s"):
            await WebsocketClient.connect(f"ws://127.0.0.1:{port}", ClientOptions(timeout=0.1))
        await asyncio.sleep(0.02)


async def test_tls_is_asked_for_where_the_address_says_so(serve: Any) -> None:
    async with serve() as running:
        with pytest.raises(Unreachable, match="wss://"):
            await WebsocketClient.connect(running.url.replace("ws:", "wss:"), ClientOptions(timeout=5))


async def test_a_refusal_of_the_handshake_is_the_servers(serve: Any) -> None:
    async with serve(token=True) as running:
        for token in (None, "wrong"):
            with pytest.raises(Unauthenticated):
                await WebsocketClient.connect(running.url, ClientOptions(token=token))
        async with connected(running.url, token="right") as client:
            assert json.loads(await client.call("list", LIST))["Error"] is None
    async with serve(max_connections=1) as running, connected(running.url):
        with pytest.raises(TooManyRequests, match="1 connections already"):
            await WebsocketClient.connect(running.url, ClientOptions())


# --- connections that end


async def test_a_server_that_is_lost_in_the_middle_is_lost_and_what_is_asked_then_cannot_reach_it() -> None:
    async def answer(connection: ServerConnection, request: dict[str, Any]) -> None:
        connection.transport.abort()

    async with bare(answer) as address:
        client = await WebsocketClient.connect(address, ClientOptions())
        with pytest.raises(ConnectionLost, match="broke off"):
            await client.call("start", {"jobDesc": "x"})
    with pytest.raises(Unreachable, match="refused"):
        await client.call("version", {})
    await client.aclose()


async def test_a_server_that_says_goodbye_in_the_middle_is_lost_with_its_words() -> None:
    async def answer(connection: ServerConnection, request: dict[str, Any]) -> None:
        await connection.close(1001, "the server ends")

    async with bare(answer) as address, connected(address) as client:
        with pytest.raises(ConnectionLost, match="the server ends"):
            await client.call("list", LIST)


async def test_a_connection_that_ended_while_nothing_was_asked_is_opened_anew(serve: Any) -> None:
    async with serve(idle_timeout="30ms") as running, connected(running.url) as client:
        first = client._link
        assert first is not None
        async with asyncio.timeout(WAIT):
            while first.is_open:
                await asyncio.sleep(0.01)
        both = await asyncio.gather(client.call("list", LIST), client.call("version", {}))
        assert [json.loads(answer)["Error"] for answer in both] == [None, None]
        assert client._link is not first


async def test_a_closed_client_asks_nothing_more_and_what_was_asked_is_lost(serve: Any) -> None:
    async with serve() as running:
        client = await WebsocketClient.connect(running.url, ClientOptions())
        slow = asyncio.ensure_future(client.call("status", {"requestor": "me", "jobID": 7}))
        await running.manager.arrived.wait()
        await client.aclose()
        await client.aclose()
        with pytest.raises(ConnectionLost, match="closed here"):
            await slow
        with pytest.raises(Unreachable, match="closed"):
            await client.call("version", {})
        async with asyncio.timeout(WAIT):
            await running.manager.cancelled.wait()


async def test_a_server_that_does_not_answer_a_goodbye_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "CLOSE_SECONDS", 0.05)

    async def deaf(connection: ServerConnection, request: dict[str, Any]) -> None:
        connection.transport.pause_reading()

    async with bare(deaf, close_timeout=0.05) as address:
        client = await WebsocketClient.connect(address, ClientOptions())
        asked = asyncio.ensure_future(client.call("version", {}))
        await asyncio.sleep(0.05)
        async with asyncio.timeout(WAIT):
            await client.aclose()
        with pytest.raises(ConnectionLost):
            await asked


async def test_closing_that_is_cancelled_closes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def deaf(connection: ServerConnection, request: dict[str, Any]) -> None:
        connection.transport.pause_reading()

    before = asyncio.all_tasks()
    async with bare(deaf, close_timeout=0.05) as address:
        client = await WebsocketClient.connect(address, ClientOptions(timeout=0.05))
        with pytest.raises(AnswerTimeout):
            await client.call("version", {})
        closing = asyncio.ensure_future(client.aclose())
        await asyncio.sleep(0.05)
        closing.cancel()
        await asyncio.wait([closing], timeout=WAIT)
        assert closing.cancelled()
    assert asyncio.all_tasks() == before


# --- limits


async def test_an_answer_that_does_not_come_in_time_is_a_timeout(serve: Any) -> None:
    async with serve() as running, connected(running.url, timeout=0.1) as client:
        with pytest.raises(AnswerTimeout, match=r"no answer to status within 0\.1 s"):
            await client.call("status", {"requestor": "me", "jobID": 7})


async def test_a_request_over_the_servers_limit_is_too_large(serve: Any) -> None:
    async with serve(max_request=1000) as running, connected(running.url) as client:
        answer = json.loads(await client.call("start", {"requestor": "me", "jobDesc": "x" * 2000}))
        assert answer["Code"] == "too_large"
        assert "max_request" in answer["Msg"]
        assert json.loads(await client.call("list", LIST))["Error"] is None


async def test_an_answer_over_the_clients_limit_fails_that_call_alone(serve: Any) -> None:
    async with serve() as running, connected(running.url, max_answer=1_000_000) as client:
        running.manager.size = 1_500_000
        large, small = await asyncio.gather(
            client.call("status", {"requestor": "me", "jobID": 1}),
            client.call("list", LIST),
            return_exceptions=True,
        )
        assert isinstance(large, TooLarge)
        assert isinstance(small, bytes)
        running.manager.size = 900_000
        assert len(await client.call("status", {"requestor": "me", "jobID": 1})) > 900_000


async def test_an_answer_over_the_clients_limit_in_one_piece_ends_the_connection() -> None:
    async def answer(connection: ServerConnection, request: dict[str, Any]) -> None:
        filler = "x" * (2000 if request["method"] == "status" else 1)
        await connection.send(json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": filler}))

    async with bare(answer) as address, connected(address, max_answer=1000) as client:
        with pytest.raises(ConnectionLost, match=r"max_answer, which is 1,000 bytes"):
            await client.call("status", {"jobID": 1})
        assert await client.call("list", {}) == b'"x"'


# --- servers of others


@pytest.mark.parametrize("answer", ["[]", "hello", '{"jsonrpc":"2.0","id":1}', "", "\u20ac" * 300])
async def test_a_server_that_says_something_else_is_lost_and_its_words_are_shown(answer: str) -> None:
    async def say(connection: ServerConnection, request: dict[str, Any]) -> None:
        await connection.send(answer)

    async with bare(say) as address, connected(address, timeout=5) as client:
        with pytest.raises(ConnectionLost, match="no JSON-RPC answer"):
            await client.call("list", LIST)


async def test_errors_of_a_foreign_server_have_a_code_of_ours_and_its_notifications_are_passed_over() -> None:
    async def answer(connection: ServerConnection, request: dict[str, Any]) -> None:
        await connection.send('{"jsonrpc":"2.0","method":"hello","params":[1]}')
        error = {"code": -32601, "message": "no such thing"}
        await connection.send(json.dumps({"jsonrpc": "2.0", "id": request["id"], "error": error}).encode())

    async with bare(answer) as address, connected(address) as client:
        assert json.loads(await client.call("lists", {})) == {"Msg": "no such thing", "Code": "unknown_verb"}
