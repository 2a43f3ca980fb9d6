"""The client against the listener, and against what is no Contest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from contest_core.client import ClientOptions, Contest, connect
from contest_core.errors import ConnectionLost, ContestError, TooLarge, Unreachable
from contest_core.status import JobQuery, JobState
from contest_http.client import HttpClient

WAIT = 10.0


@asynccontextmanager
async def client(address: str, **options: Any) -> AsyncIterator[HttpClient]:
    opened = await HttpClient.connect(address, ClientOptions(timeout=5.0, **options))
    try:
        yield opened
    finally:
        await opened.aclose()


@asynccontextmanager
async def answering(answer: bytes | Callable[[bytes], bytes]) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Anybody's server: reads a request, says what it is told to say, closes."""
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer if isinstance(answer, bytes) else answer(heads[-1]))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", heads
    finally:
        server.close()
        await server.wait_closed()


def http(status: str, body: bytes, *headers: bytes) -> bytes:
    lines = b"".join(header + b"\r\n" for header in headers)
    return b"HTTP/1.1 %b\r\nContent-Length: %d\r\n%b\r\n%b" % (status.encode(), len(body), lines, body)


async def test_every_verb_works_through_the_typed_client(serve: Any) -> None:
    async with serve() as running, client(running.url) as opened:
        contest = Contest(opened, ClientOptions(requestor="me"))
        assert (await contest.version()).result().version == 5
        assert (await contest.start("{}", strict=True)).result().job_id == 1
        assert (await contest.stop(1)).result() is not None
        assert (await contest.status(1)).result().status is None
        assert (await contest.retry(1)).result().new_job_id == 2
        assert (
            await contest.list(JobQuery(states=(JobState.COMPLETED,), tags=("a",)))
        ).result().job_ids == []
        assert (await contest.validate("{}")).result().findings == []
        assert (await contest.locks()).result().locks == []
        start, listed = running.manager.asked[0][0], running.manager.asked[2][0]
    assert (start.strict, start.requestor) == (True, "me")
    assert (listed.query.states, listed.query.tags) == ((JobState.COMPLETED,), ("a",))


async def test_an_address_is_connected_to_by_its_scheme(serve: Any) -> None:
    async with serve() as running, connect(running.url) as contest:
        assert (await contest.version()).server_id == "lab-1"


async def test_a_refusal_and_a_bad_request_are_the_servers_own_words(serve: Any) -> None:
    async with serve() as running, client(running.url) as opened:
        contest = Contest(opened, ClientOptions())
        refusal = (await contest.status(99)).error
        assert refusal is not None
        assert (refusal.code, str(refusal)) == ("unknown_job", "there is no job 99")
        with pytest.raises(ContestError) as caught:
            await Contest(opened, ClientOptions(requestor="")).status(1)
    assert (caught.value.code, str(caught.value)) == (
        "invalid_parameters",
        "Status failed: requestor cannot be empty",
    )


async def test_one_connection_serves_many_requests(serve: Any) -> None:
    async with serve(max_connections=1) as running, client(running.url) as opened:
        for _ in range(3):
            assert b"ResponseTypeVersion" in await opened.call("version", {})


async def test_the_token_is_sent(serve: Any) -> None:
    async with serve(token=True) as running:
        async with client(running.url, token="right") as opened:
            assert b'"Error":null' in await opened.call("list", {"requestor": "me"})
        async with client(running.url) as opened:
            assert b'"Code":"unauthenticated"' in await opened.call("list", {"requestor": "me"})


async def test_values_become_the_text_of_a_form(serve: Any) -> None:
    async with serve() as running, client(running.url) as opened:
        parameters = {"requestor": "me", "jobDesc": {"a": ["ü&=+%"]}, "strict": True, "startKey": None}
        await opened.call("start", parameters)
        await opened.call("list", {"requestor": "me", "tags": ["a", "b"]})
        (start, _), (listed, _) = running.manager.asked
    assert (start.job_descriptor, start.strict, start.start_key) == ('{"a":["ü&=+%"]}', True, None)
    assert listed.query.tags == ("a", "b")


async def test_the_path_of_the_address_is_kept() -> None:
    answer = http("200 OK", b'{"ServerID":"x","Type":"","Data":{},"Error":null}')
    async with answering(answer) as (address, heads), client(f"{address}/lab/a/") as opened:
        await opened.call("version", {})
    assert heads[0].startswith(b"POST /lab/a/version HTTP/1.1\r\n")


async def test_a_contests_400_in_plain_text_is_an_answer() -> None:
    body = b'{"Msg":"unknown verb: nope"}'
    async with answering(http("400 Bad Request", body, b"Content-Type: text/plain")) as (address, _):
        async with client(address) as opened:
            assert await opened.call("nope", {}) == body


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            http(
                "502 Bad Gateway",
                b"<html>the proxy\n is  sorry</html>",
                b"Content-Type: text/html; charset=x",
            ),
            r"502 Bad Gateway \(text/html\): it begins with '<html>the proxy is sorry",
        ),
        (http("302 Found", b"", b"Location: https://login.example/"), "points to https://login.example/"),
        (
            http("200 OK", b'{"ok": true}', b"Content-Type: application/json"),
            "not answered by a Contest server",
        ),
        (http("200 OK", b"[1]"), "not answered by a Contest server"),
        (http("200 OK", b'{"x":' + b"[" * 100_000), "not answered by a Contest server"),
        (http("400 Bad Request", b"Only POST requests are supported"), "not answered by a Contest server"),
    ],
)
async def test_what_is_no_contest_is_told_apart(answer: bytes, words: str) -> None:
    async with answering(answer) as (address, _), client(address) as opened:
        with pytest.raises(ContestError, match=words):
            await opened.call("version", {})


async def test_cookies_are_not_taken() -> None:
    answer = http("302 Found", b"", b"Location: https://login.example/\r\nSet-Cookie: session=\xe4; Path=/")
    async with answering(answer) as (address, heads), client(address) as opened:
        for _ in range(2):
            with pytest.raises(ContestError, match="points to https://login"):
                await opened.call("version", {})
    assert b"cookie" not in heads[1].lower()


@pytest.mark.parametrize(
    "answer",
    [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", b"HTTP/1.1 200 OK\r\n", b"rubbish\r\n\r\n"],
)
async def test_a_server_that_is_lost_in_the_middle_may_have_done_it(answer: bytes) -> None:
    async with answering(answer) as (address, _), client(address) as opened:
        with pytest.raises(ConnectionLost, match="before it answered"):
            await opened.call("version", {})


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("http:", "no host"),
        ("http://host:port", "[Pp]ort"),
        ("http://[::1", "IPv6"),
        ("http://ada:secret@host", "no user and no password"),
        ("http://host/?a=b", "no query"),
    ],
)
async def test_an_address_that_is_none_is_unreachable_with_a_reason(address: str, words: str) -> None:
    with pytest.raises(Unreachable, match=words) as caught:
        await HttpClient.connect(address, ClientOptions())
    assert "secret" not in str(caught.value)


async def test_an_answer_over_the_limit_is_refused(serve: Any) -> None:
    async with serve() as running, client(running.url, max_answer=1000) as opened:
        running.manager.size = 2000
        with pytest.raises(TooLarge, match="the answer has 2,"):
            await opened.call("status", {"requestor": "me", "jobID": 1})
        assert len(await opened.call("version", {})) < 1000
    endless = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1f4\r\n" + b"x" * 500 + b"\r\n"
    async with (
        answering(endless + endless[-507:] * 3) as (address, _),
        client(address, max_answer=1000) as opened,
    ):
        with pytest.raises(TooLarge, match="has more"):
            await opened.call("version", {})


async def test_a_proxy_of_the_environment_is_not_asked_for_loopback(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    async with serve() as running, client(running.url) as opened:
        assert b"ResponseTypeVersion" in await opened.call("version", {})
    async with client("http://lab.example:1") as opened:
        with pytest.raises(Unreachable):
            await opened.call("version", {})
