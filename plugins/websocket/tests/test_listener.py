"""What goes over a websocket when nobody means harm: requests, answers, batches, connections that come and go."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from websockets.asyncio.client import connect

TEXT, BINARY, CLOSE, PING, PONG, CONTINUATION = 1, 2, 8, 9, 10, 0


async def test_a_request_is_answered_with_the_object_that_http_has(serve: Any) -> None:
    async with serve() as running:
        wire = await running.open()
        wire.ask("start", 1, jobDesc="{}")
        assert await wire.message() == {
            "jsonrpc": "2.0",
            "id": 1,
            "result": {
                "ServerID": "lab-1",
                "Type": "ResponseTypeStart",
                "Data": {"JobID": 1},
                "Error": None,
            },
        }
        (_, caller) = running.manager.asked[0]
        assert (caller.requestor, caller.listener, caller.principal) == ("tests", "websocket", None)
        assert caller.peer == f"127.0.0.1:{wire.writer.get_extra_info('sockname')[1]}"


async def test_a_refusal_is_an_error_with_its_code(serve: Any) -> None:
    async with serve() as running:
        wire = await running.open()
        wire.ask("status", 2, jobID=99)
        answer = await wire.message()
        assert (answer["id"], answer["error"]["code"]) == (2, -32011)
        assert answer["error"]["data"] == {
            "Code": "unknown_job",
            "ServerID": "lab-1",
            "Type": "ResponseTypeStatus",
            "Data": {"Status": None},
        }


async def test_batches_and_notifications_are_taken(serve: Any) -> None:
    async with serve() as running:
        wire = await running.open()
        batch = [
            {"jsonrpc": "2.0", "id": "a", "method": "version"},
            {"jsonrpc": "2.0", "method": "start", "params": {"requestor": "me", "jobDesc": "{}"}},
            {"jsonrpc": "2.0", "id": "b", "method": "list", "params": {"requestor": "me"}},
            7,
        ]
        wire.text(json.dumps(batch).encode())
        answers = await wire.message()
        assert [answer["id"] for answer in answers] == ["a", "b", None]
        assert answers[2]["error"]["code"] == -32600
        await running.manager.started.wait()
        # A notification is not answered: what comes next is the answer to the next request.
        wire.ask("start", None, jobDesc="{}")
        wire.ask("version", 3)
        assert (await wire.message())["id"] == 3


@pytest.mark.parametrize(
    ("message", "code"),
    [(b"{", -32700), (b"", -32700), (b"[]", -32600), (b'{"jsonrpc":"2.0","id":1}', -32600)],
)
async def test_what_is_no_request_is_answered_and_the_connection_goes_on(
    serve: Any, message: bytes, code: int
) -> None:
    async with serve() as running:
        wire = await running.open()
        wire.text(message)
        assert (await wire.message())["error"]["code"] == code
        wire.ask("version", 2)
        assert (await wire.message())["id"] == 2


async def test_binary_frames_are_taken_and_answered_with_text(serve: Any) -> None:
    async with serve() as running:
        wire = await running.open()
        wire.put(BINARY, b'{"jsonrpc":"2.0","id":1,"method":"version"}')
        opcode, payload, fin = await wire.frame()
        assert (opcode, fin, json.loads(payload)["id"]) == (TEXT, True, 1)


async def test_a_message_may_come_in_fragments_with_pings_between_and_byte_by_byte(serve: Any) -> None:
    async with serve() as running:
        wire = await running.open()
        wire.put(TEXT, b'{"jsonrpc":"2.0",', fin=False)
        wire.put(PING, b"there?")
        wire.put(CONTINUATION, b'"id":1,"method":"ver', fin=False)
        assert await wire.frame() == (PONG, b"there?", True)
        wire.put(CONTINUATION, b'sion"}')
        assert (await wire.message())["id"] == 1
        for byte in running.frame(TEXT, b'{"jsonrpc":"2.0","id":2,"method":"version"}'):
            wire.send(bytes([byte]))
            await wire.writer.drain()
            await asyncio.sleep(0)
        assert (await wire.message())["id"] == 2


async def test_many_requests_are_in_flight_and_a_slow_one_holds_up_no_other(serve: Any) -> None:
    async with serve() as running:
        wire = await running.open()
        wire.ask("status", 0, jobID=7)
        for number in range(1, 200):
            wire.ask("version" if number % 2 else "list", number)
        assert {(await wire.message())["id"] for _ in range(199)} == set(range(1, 200))
        running.manager.release.set()
        assert (await wire.message())["id"] == 0


async def test_with_a_concurrency_of_1_answers_come_in_order(serve: Any) -> None:
    async with serve(concurrency=1) as running:
        wire = await running.open()
        wire.ask("status", 0, jobID=7)
        for number in range(1, 50):
            wire.ask("list" if number % 3 else "version", number)
        await running.manager.arrived.wait()
        running.manager.release.set()
        assert [(await wire.message())["id"] for _ in range(50)] == list(range(50))


async def test_no_more_requests_are_in_flight_than_may_be(serve: Any) -> None:
    async with serve(concurrency=3) as running:
        wire = await running.open()
        for number in range(10):
            wire.ask("status", number, jobID=7)
        while running.manager.waiting < 3:
            await asyncio.sleep(0)
        other = await running.open()
        other.ask("list", 1)
        assert (await other.message())["id"] == 1
        assert running.manager.waiting == 3
        running.manager.release.set()
        assert {(await wire.message())["id"] for _ in range(10)} == set(range(10))


async def test_a_large_request_and_a_large_answer_pass(serve: Any) -> None:
    async with serve() as running:
        running.manager.size = 5_000_000
        async with connect(running.url, compression=None, max_size=None) as client:
            await client.send(
                json.dumps(
                    {
                        "jsonrpc": "2.0",
                        "id": 1,
                        "method": "start",
                        "params": {"requestor": "me", "jobDesc": "y" * 4_000_000},
                    }
                )
            )
            assert json.loads(await client.recv())["result"]["Data"] == {"JobID": 1}
            await client.send(
                '{"jsonrpc":"2.0","id":2,"method":"status","params":{"requestor":"me","jobID":1}}'
            )
            assert len(await client.recv()) > 5_000_000
        assert len(running.manager.asked[0][0].job_descriptor) == 4_000_000


async def test_an_answer_over_the_limit_says_how_to_ask_for_less(serve: Any) -> None:
    async with serve(max_answer=10_000) as running:
        running.manager.size = 20_000
        wire = await running.open()
        wire.ask("status", 1, jobID=1)
        error = (await wire.message())["error"]
        assert error["data"]["Code"] == "too_large"
        assert "`events`" in error["message"]


async def test_a_batch_over_the_limit_is_refused(serve: Any) -> None:
    async with serve(max_batch=2) as running:
        wire = await running.open()
        wire.text(b"[1,2,3]")
        assert (await wire.message())["error"]["data"]["Code"] == "too_large"


async def test_the_requestor_may_be_a_setting(serve: Any) -> None:
    async with serve(requestor="lab") as running:
        wire = await running.open()
        wire.ask("list", 1, requestor="somebody")
        await wire.message()
        assert running.manager.asked[0][1].requestor == "lab"


async def test_connections_come_and_go(serve: Any) -> None:
    async with serve() as running:
        for _ in range(30):
            async with connect(running.url, compression=None) as client:
                await client.send('{"jsonrpc":"2.0","id":1,"method":"version"}')
                assert json.loads(await client.recv())["id"] == 1


async def test_a_goodbye_is_answered(serve: Any) -> None:
    async with serve() as running:
        wire = await running.open()
        wire.put(CLOSE, b"\x03\xe8bye")
        assert await wire.frame() == (CLOSE, b"\x03\xe8bye", True)
        assert await wire.rest() == b""


@pytest.mark.parametrize("concurrency", [1, 64])
async def test_notifications_before_a_goodbye_are_carried_out(serve: Any, concurrency: int) -> None:
    async with serve(concurrency=concurrency) as running:
        wire = await running.open()
        wire.send(
            b"".join(
                [
                    running.frame(TEXT, b'{"jsonrpc":"2.0","id":1,"method":"version"}'),
                    running.frame(TEXT, running.request("start", None, jobDesc="{}")),
                    running.frame(CLOSE, b"\x03\xe8"),
                ]
            )
        )
        async with asyncio.timeout(10):
            await running.manager.started.wait()


async def test_a_goodbye_cancels_what_only_reads_and_hands_over_what_waits_behind_it(serve: Any) -> None:
    async with serve(concurrency=1) as running:
        wire = await running.open()
        wire.ask("status", 1, jobID=7)
        await running.manager.arrived.wait()
        wire.ask("start", None, jobDesc="{}")
        wire.put(CLOSE, b"\x03\xe8")
        async with asyncio.timeout(10):
            await running.manager.cancelled.wait()
            await running.manager.started.wait()


async def test_nothing_is_compressed_and_no_subprotocol_is_needed(serve: Any) -> None:
    async with serve() as running:
        wire = await running.dial()
        status, headers, _ = await wire.open(
            Sec_WebSocket_Extensions="permessage-deflate", Sec_WebSocket_Protocol="jsonrpc"
        )
        assert status == 101
        assert not {"sec-websocket-extensions", "sec-websocket-protocol", "server"} & set(headers)


async def test_any_path_will_do(serve: Any) -> None:
    async with serve() as running:
        wire = await running.dial()
        assert (await wire.open("/rpc?x=1"))[0] == 101
