"""How a listener begins, where it listens, and how it ends."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import Any

import pytest

from contest_core.api import API
from contest_core.errors import ContestError, Exposed
from contest_core.testing import PlayedContext
from contest_http.listener import HttpListener
from contest_http.settings import HttpSettings

WAIT = 10.0

Request = Callable[..., bytes]


async def test_port_0_is_a_free_one_and_the_address_has_it(serve: Any) -> None:
    async with serve() as running:
        assert running.url == f"http://127.0.0.1:{running.port}"
        assert running.port > 0


async def test_a_busy_port_is_an_error_that_helps(serve: Any) -> None:
    async with serve() as running:
        listener = HttpListener(HttpSettings(port=running.port))
        with pytest.raises(ContestError) as caught:
            await listener.serve(API(), PlayedContext())
    assert isinstance(caught.value, OSError)
    assert caught.value.errno == errno.EADDRINUSE
    assert str(caught.value) == (
        f"cannot listen on 127.0.0.1:{running.port}: the address is in use by another program;"
        " end that one, or choose another `port` (0 finds a free one)"
    )


@pytest.mark.parametrize(
    ("host", "words"), [("192.0.2.1", "no such address"), ("no-such-host.invalid", "cannot be resolved")]
)
async def test_a_host_that_is_not_here_is_an_error_that_helps(host: str, words: str) -> None:
    with pytest.raises(ContestError, match=words):
        await HttpListener(HttpSettings(host=host, port=0)).serve(API(), PlayedContext())


async def test_a_name_listens_on_all_its_addresses_with_one_port() -> None:
    context = PlayedContext()
    serving = asyncio.ensure_future(
        HttpListener(HttpSettings(host="localhost", port=0)).serve(API(), context)
    )
    await asyncio.wait_for(context.is_ready.wait(), WAIT)
    assert len({address.rpartition(":")[2] for address in context.addresses}) == 1
    assert set(context.checked) <= {"127.0.0.1", "::1"}
    context.stop.set()
    await asyncio.wait_for(serving, WAIT)


async def test_beyond_loopback_nothing_is_bound_before_it_is_allowed(serve: Any) -> None:
    with pytest.raises(Exposed, match=r"0\.0\.0\.0"):
        async with serve(host="0.0.0.0"):
            pass


async def test_what_is_in_flight_is_answered_before_the_end(serve: Any, http_request: Request) -> None:
    async with serve() as running:
        busy, idle, half = [await running.connect() for _ in range(3)]
        assert (await idle.ask(http_request("/version"))).status == 200
        half.send(http_request("/version", "requestor=me")[:-3])
        busy.send(http_request("/status", "requestor=me&jobID=7") + http_request("/version"))
        await asyncio.wait_for(running.manager.arrived.wait(), WAIT)
        side = running.server._sides["http"]
        side.stop()
        assert await idle.rest() == b""
        assert (await half.reply()).code == "shutting_down"
        with pytest.raises(ConnectionError):
            await running.connect()
        assert side.active
        running.manager.release.set()
        assert [(await busy.reply()).status for _ in range(2)] == [200, 200]
        assert await busy.rest() == b""
        async with asyncio.timeout(WAIT):
            while side.active:
                await asyncio.sleep(0.01)


async def test_the_last_answer_of_an_ending_listener_says_close(serve: Any, http_request: Request) -> None:
    async with serve() as running:
        wire = await running.connect()
        wire.send(http_request("/status", "requestor=me&jobID=7"))
        await asyncio.wait_for(running.manager.arrived.wait(), WAIT)
        running.server._sides["http"].stop()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        running.manager.release.set()
        assert (await wire.reply()).headers["connection"] == "close"


async def test_cancelled_it_ends_now_and_leaves_nothing(http_request: Request) -> None:
    before = asyncio.all_tasks()
    context = PlayedContext()
    api = API()
    serving = asyncio.ensure_future(HttpListener(HttpSettings(port=0)).serve(api, context))
    await asyncio.wait_for(context.is_ready.wait(), WAIT)
    port = int(context.addresses[0].rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    # Nobody takes the event: the request would wait for the API's own timeout.
    writer.write(http_request("/list", "requestor=me"))
    await asyncio.sleep(0.05)
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(serving, 1)
    assert asyncio.all_tasks() == before
    with pytest.raises(ConnectionError):
        await asyncio.open_connection("127.0.0.1", port)
    async with asyncio.timeout(WAIT):
        try:
            assert await reader.read() == b""
        except ConnectionError:
            pass
    writer.close()
    assert context.errors == []
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", port))


async def test_a_fault_of_the_application_itself_is_reported_and_the_connection_ends(
    serve: Any, http_request: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serve() as running:
        monkeypatch.setattr("contest_http.app.Application._look", lambda *arguments: 1 // 0)
        wire = await running.connect()
        wire.send(http_request("/healthz", method="GET"))
        assert await wire.rest() == b""
        assert running.server.errors_reported == 1
        assert (await running.post("/version")).status == 200
