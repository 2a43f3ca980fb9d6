"""How a listener begins, where it listens, and how it ends; and a whole `contest serve`."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from contest_core.api import API
from contest_core.client import ClientOptions, connect_sync
from contest_core.errors import ContestError, Exposed
from contest_core.status import JobQuery
from contest_core.testing import PlayedContext
from contest_websocket.connection import Connection
from contest_websocket.listener import WebsocketListener
from contest_websocket.settings import WebsocketSettings

WAIT = 10.0
CLOSE = 8

PROGRAM = [sys.executable, "-c", "from contest_core.cli import main; main()"]


async def test_port_0_is_a_free_one_and_the_address_has_it(serve: Any) -> None:
    async with serve() as running:
        assert running.url == f"ws://127.0.0.1:{running.port}"
        assert running.port > 0


async def test_a_busy_port_is_an_error_that_helps(serve: Any) -> None:
    async with serve() as running:
        listener = WebsocketListener(WebsocketSettings(port=running.port))
        with pytest.raises(ContestError, match="choose another `port`") as caught:
            await listener.serve(API(), PlayedContext())
    assert isinstance(caught.value, OSError)
    assert caught.value.errno == errno.EADDRINUSE


async def test_a_name_listens_on_all_its_addresses_with_one_port() -> None:
    context = PlayedContext()
    task = asyncio.ensure_future(
        WebsocketListener(WebsocketSettings(host="localhost", port=0)).serve(API(), context)
    )
    async with asyncio.timeout(WAIT):
        await context.is_ready.wait()
    ports = {address.rpartition(":")[2] for address in context.addresses}
    assert len(ports) == 1
    assert set(context.checked) <= {"127.0.0.1", "::1"}
    context.stop.set()
    async with asyncio.timeout(WAIT):
        await task


async def test_beyond_loopback_nothing_is_bound_before_it_is_allowed(serve: Any) -> None:
    with pytest.raises(Exposed):
        async with serve(host="0.0.0.0"):
            raise AssertionError
    async with serve(host="0.0.0.0", token=True):
        pass


async def test_what_is_in_flight_is_answered_before_the_end_and_then_1001_is_said(serve: Any) -> None:
    async with serve() as running:
        idle, asking, between = [await running.open() for _ in range(3)]
        asking.ask("status", 1, jobID=7)
        between.put(1, b"{", fin=False)
        await running.manager.arrived.wait()
        running.stop()
        # What holds the end up is what was asked; the others are told at once.
        assert await idle.goodbye() == (1001, "the server ends")
        idle.put(CLOSE, b"\x03\xe9")
        assert await idle.rest() == b""
        assert (await between.goodbye())[0] == 1001
        # Nobody is let in any more, and what has begun is finished.
        with pytest.raises(ConnectionError):
            await running.dial()
        running.manager.release.set()
        assert (await asking.message())["id"] == 1
        assert (await asking.goodbye())[0] == 1001
        for wire in (idle, asking, between):
            wire.close()
        await running.ended()


async def test_messages_that_are_here_when_the_end_comes_are_answered(serve: Any) -> None:
    async with serve(concurrency=1) as running:
        wire = await running.open()
        wire.ask("status", 1, jobID=7)
        for number in range(2, 6):
            wire.ask("version", number)
        await running.manager.arrived.wait()
        running.stop()
        await asyncio.sleep(0.05)
        running.manager.release.set()
        assert [(await wire.message())["id"] for _ in range(5)] == [1, 2, 3, 4, 5]
        assert (await wire.goodbye())[0] == 1001
        wire.close()
        await running.ended()


async def test_half_an_opening_request_holds_up_no_end(serve: Any) -> None:
    async with serve() as running:
        wire = await running.dial()
        wire.send(b"GET / HTTP/1.1\r\n")
        await asyncio.sleep(0.02)
        running.stop()
        await running.ended()
        assert await wire.rest() == b""


@pytest.mark.asyncio(loop_factories=["uvloop"])  # the server waits a second for the last word
async def test_a_peer_that_takes_nothing_holds_up_the_end_no_longer_than_the_grace(serve: Any) -> None:
    async with serve(grace=0.2) as running:
        running.manager.size = 20_000_000
        wire = await running.open()
        wire.take_nothing()
        wire.ask("status", 1, jobID=1)
        while not running.manager.asked:
            await asyncio.sleep(0.01)
        running.wires.clear()
        leaving = asyncio.get_running_loop().time()
    assert 0.15 < asyncio.get_running_loop().time() - leaving < 5
    wire.close()


async def test_cancelled_it_ends_now_and_leaves_nothing() -> None:
    context = PlayedContext()
    task = asyncio.ensure_future(WebsocketListener(WebsocketSettings(port=0)).serve(API(), context))
    async with asyncio.timeout(WAIT):
        await context.is_ready.wait()
        port = int(context.addresses[0].rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        await reader.readuntil(b"\r\n\r\n")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(ConnectionError):
            await asyncio.open_connection("127.0.0.1", port)
        writer.transport.abort()
        await asyncio.sleep(0.01)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_fault_of_the_connection_itself_is_reported_and_the_connection_ends(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(self: Connection) -> None:
        raise RuntimeError("a secret of the inside")

    async with serve() as running:
        with monkeypatch.context() as patch:
            patch.setattr(Connection, "converse", fail)
            wire = await running.open()
            assert await wire.goodbye() == (1011, "")
        wire = await running.open()
        wire.ask("version")
        assert (await wire.message())["id"] == 1


async def test_neither_tokens_nor_messages_are_logged(serve: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with serve(token=True) as running:
        wire = await running.open(Authorization="Bearer right")
        wire.ask("start", jobDesc="a-secret-of-the-job")
        await wire.message()
    logged = " ".join(record.getMessage() for record in caplog.records)
    assert "right" not in logged
    assert "a-secret-of-the-job" not in logged
    assert "connection open" not in logged


def test_a_whole_server_serves_it_and_a_kill_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "server.yaml").write_text(
        "listeners: [{websocket: {port: 0}}]\njob_manager: {local: {store: 'sqlite:///jobs.db'}}\n"
    )
    command = [*PROGRAM, "serve", "-c", "server.yaml", "--log-level", "error"]
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path)}
    for how in (signal.SIGTERM, signal.SIGKILL):
        with subprocess.Popen(
            command, cwd=tmp_path, env=environment, text=True, stderr=subprocess.PIPE
        ) as process:
            try:
                assert process.stderr is not None
                line = process.stderr.readline()
                assert line.startswith("listening on ws://127.0.0.1:"), line
                with connect_sync(line.split()[-1], ClientOptions(patience=0)) as contest:
                    assert contest.version().result().version == 5
                    assert contest.list(JobQuery()).result().job_ids == []
                    process.send_signal(how)
                    assert process.wait(30) == (0 if how is signal.SIGTERM else -signal.SIGKILL)
                    with pytest.raises(ContestError, match="cannot reach") as caught:
                        contest.list(JobQuery())
                    assert caught.value.code == "unreachable"
            finally:
                process.kill()
