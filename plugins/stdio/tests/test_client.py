"""The client against real processes: servers of ours, and commands that are none."""

from __future__ import annotations

import asyncio
import json
import shlex
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from contest_core import JobQuery
from contest_core.client import ClientOptions, connect
from contest_core.errors import (
    AnswerTimeout,
    ConnectionLost,
    ContestError,
    InvalidParameters,
    TooLarge,
    Unreachable,
    Unsupported,
)
from contest_stdio import child as child_module
from contest_stdio import client as client_module
from contest_stdio.client import StdioClient

SERVED = Path(__file__).with_name("served.py")


def address(**options: Any) -> str:
    return "stdio:" + shlex.join([sys.executable, str(SERVED), json.dumps(options)])


def script(python: str) -> str:
    return "stdio:" + shlex.join([sys.executable, "-c", python])


@asynccontextmanager
async def connected(where: str, **options: Any) -> AsyncIterator[StdioClient]:
    client = await StdioClient.connect(where, ClientOptions(**options))
    try:
        yield client
    finally:
        await client.aclose()


async def test_the_typed_client_talks_to_a_server_that_it_spawns() -> None:
    async with connect(address()) as contest:
        assert (await contest.version()).result().version == 5
        assert (await contest.start('{"sleep": 0}')).result().job_id == 1
        assert (await contest.list(JobQuery())).result().job_ids == [1]


async def test_a_result_is_handed_on_as_it_came() -> None:
    async with connected(address()) as client:
        answer = json.loads(await client.call("status", {"requestor": "me", "jobID": 3}))
        assert (answer["Type"], answer["Data"], answer["Error"]) == (
            "ResponseTypeStatus",
            {"Status": "xxx"},
            None,
        )


async def test_a_refusal_becomes_the_answer_that_http_has() -> None:
    async with connected(address()) as client:
        answer = json.loads(await client.call("locks", {"requestor": "me"}))
        assert set(answer) == {"ServerID", "Type", "Data", "Error", "Code"}
        assert (answer["Type"], answer["Code"]) == ("ResponseTypeLocks", "unsupported")


async def test_a_request_that_never_reached_the_manager_becomes_a_message_and_a_code() -> None:
    async with connected(address()) as client:
        answer = json.loads(await client.call("status", {"jobID": 3}))
        assert set(answer) == {"Msg", "Code"}
        assert answer["Code"] == "invalid_parameters"
    async with connect(address(), ClientOptions(requestor="")) as contest:
        with pytest.raises(InvalidParameters):
            await contest.status(1)


async def test_many_calls_may_be_in_flight_and_each_gets_its_own_answer() -> None:
    async with connected(address(settings={"concurrency": 50})) as client:

        async def ask(size: int) -> int:
            answer = await client.call("status", {"requestor": "me", "jobID": size})
            return len(json.loads(answer)["Data"]["Status"])

        async with asyncio.timeout(30):
            assert await asyncio.gather(*(ask(size) for size in range(200))) == list(range(200))


async def test_a_call_that_is_cancelled_disturbs_no_other() -> None:
    async with connected(address(settings={"concurrency": 2})) as client:
        slow = asyncio.create_task(client.call("start", {"requestor": "me", "jobDesc": {"sleep": 0.2}}))
        await client.call("version", {})
        slow.cancel()
        await asyncio.wait([slow])
        await asyncio.sleep(0.3)
        assert b"JobIDs" in await client.call("list", {"requestor": "me"})


async def test_a_large_request_and_a_large_answer_pass() -> None:
    async with connected(address()) as client:
        descriptor = json.dumps({"ignored": "x" * 5_000_000})
        started = await client.call("start", {"requestor": "me", "jobDesc": descriptor})
        assert json.loads(started)["Data"]["JobID"] == 1
        answer = await client.call("status", {"requestor": "me", "jobID": 20_000_000})
        assert len(answer) > 20_000_000


async def test_a_request_over_the_servers_limit_is_too_large() -> None:
    async with connect(address(settings={"max_request": "1KB"})) as contest:
        with pytest.raises(TooLarge):
            await contest.start(json.dumps({"ignored": "x" * 5000}))
        assert (await contest.version()).result().version == 5


async def test_an_answer_over_the_clients_limit_fails_that_call_alone() -> None:
    async with connected(address(settings={"concurrency": 2}), max_answer=10_000) as client:
        large = client.call("status", {"requestor": "me", "jobID": 50_000})
        small = client.call("status", {"requestor": "me", "jobID": 50})
        answers = await asyncio.gather(large, small, return_exceptions=True)
        assert isinstance(answers[0], TooLarge)
        assert isinstance(answers[1], bytes)


async def test_an_answer_that_does_not_come_in_time_is_a_timeout() -> None:
    async with connected(address(settings={"concurrency": 2}), timeout=5) as client:
        client._options = ClientOptions(timeout=0.05)
        with pytest.raises(AnswerTimeout):
            await client.call("start", {"requestor": "me", "jobDesc": {"sleep": 0.5}})


async def test_a_watch_that_the_server_does_not_offer_is_refused_when_entered() -> None:
    async with connected(address()) as client:
        with pytest.raises(Unsupported):
            async with client.watch({"requestor": "me"}):
                raise AssertionError("it was entered")


# --- processes that are no servers, or are no more


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("stdio:", "no command"),
        ("stdio:  ", "no command"),
        ("stdio:'", "No closing quotation"),
        ("stdio:no-such-command-anywhere x", "no-such-command-anywhere: No such file"),
        (
            script("import sys; sys.exit('the configuration is wrong')"),
            "exit status 1; its stderr ended with:\nthe con",
        ),
        (script("print('hello')"), "no JSON-RPC answer: 'hello'"),
        (script("import os; os.kill(os.getpid(), 9)"), "killed by SIGKILL"),
        ("stdio:cat", "no JSON-RPC answer"),
        (script("print('[' * 100000)"), "no JSON-RPC answer"),
        (script("print('{\"id\":1}')"), "no JSON-RPC answer"),
        (script("import os; os.close(1); input(); input()"), "it closed its stdout"),
    ],
)
async def test_what_is_no_server_cannot_be_reached_and_it_says_why(where: str, words: str) -> None:
    with pytest.raises(Unreachable) as caught:
        await StdioClient.connect(where, ClientOptions())
    assert words in str(caught.value)


async def test_a_command_that_never_answers_cannot_be_reached_and_is_killed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client_module, "_LITTLE_PATIENCE_SECONDS", 0.05)
    with pytest.raises(Unreachable, match=r"no answer within 0\.2 s, and it runs"):
        await StdioClient.connect("stdio:sleep 3600", ClientOptions(timeout=0.2))


async def test_a_server_that_dies_in_the_middle_is_lost_with_its_last_words() -> None:
    die = "import os, sys; os.write(2, b'out of luck'); os._exit(5)"
    async with connected(address()) as client:
        with pytest.raises(ConnectionLost) as caught:
            await client.call("start", {"requestor": "me", "jobDesc": {"python": die}})
        assert "exit status 5; its stderr ended with:" in str(caught.value)
        assert str(caught.value).endswith("out of luck")
        with pytest.raises(Unreachable, match="exit status 5"):
            await client.call("version", {})


async def test_a_server_that_writes_something_else_is_lost_and_the_line_is_shown() -> None:
    answer = '{"jsonrpc":"2.0","id":1,"result":{}}'
    where = script(
        f"input(); print('{answer}', flush=True); input(); print('Segmentation fault', flush=True); input()"
    )
    async with connected(where) as client:
        with pytest.raises(ConnectionLost, match="Segmentation fault"):
            await client.call("version", {})


async def test_errors_of_a_foreign_server_have_a_code_of_ours() -> None:
    answer = '{"jsonrpc":"2.0","id":%d,"error":{"code":%d,"message":"no","data":"words"}}'
    lines = [answer % (1, -32601), answer % (2, -32601), answer % (3, -1)]
    where = script(f"for line in {lines!r}: input(); print(line, flush=True)")
    async with connected(where) as client:
        assert json.loads(await client.call("x", {})) == {"Msg": "no", "Code": "unknown_verb"}
        assert json.loads(await client.call("x", {})) == {"Msg": "no", "Code": "internal"}


async def test_only_the_end_of_stderr_is_kept() -> None:
    noise = "import sys; sys.stderr.write('x' * 1000000 + ' the end'); sys.exit(3)"
    with pytest.raises(Unreachable) as caught:
        await StdioClient.connect(script(noise), ClientOptions())
    assert len(str(caught.value)) < 2 * child_module.LAST_WORDS
    assert str(caught.value).endswith("x the end")


# --- closing


async def test_closing_ends_the_server_in_good_order() -> None:
    client = await StdioClient.connect(address(), ClientOptions())
    await client.aclose()
    assert "exit status 0" in client._child.fate()
    assert "told to DRAIN" in client._child.fate()
    await client.aclose()


async def test_a_server_that_does_not_end_with_its_input_is_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "PATIENCE_SECONDS", 3.0)
    client = await StdioClient.connect(address(ticker=True), ClientOptions())
    await client.aclose()
    assert "exit status 0" in client._child.fate()
    assert "told to CANCEL" in client._child.fate()


async def test_a_server_that_does_not_end_at_all_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "PATIENCE_SECONDS", 0.1)
    client = await StdioClient.connect(address(drain=3600), ClientOptions())
    async with asyncio.timeout(10):
        await client.aclose()
    assert "killed by SIGKILL" in client._child.fate()


async def test_closing_that_is_cancelled_kills_at_once() -> None:
    client = await StdioClient.connect(address(drain=3600), ClientOptions())
    closing = asyncio.create_task(client.aclose())
    await asyncio.sleep(0.05)
    began = time.monotonic()
    closing.cancel()
    await asyncio.wait([closing])
    assert closing.cancelled()
    assert time.monotonic() - began < 5
    assert "killed by SIGKILL" in client._child.fate()


async def test_calls_that_wait_when_it_is_closed_are_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "PATIENCE_SECONDS", 0.1)
    client = await StdioClient.connect(address(), ClientOptions())
    waiting = asyncio.create_task(client.call("start", {"requestor": "me", "jobDesc": {"sleep": 3600}}))
    await asyncio.sleep(0.05)
    await client.aclose()
    with pytest.raises(ContestError):
        await waiting
