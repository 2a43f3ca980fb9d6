"""Peers that send what is nearly right: through every door, to the real job manager.

Whatever comes, there is an answer or a clean close, soon, without a traceback, and others are served. The short share
runs with the other tests; minutes of it are `pytest -m heavy tests/test_hostile_peers.py`.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import logging
import re
import socket
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from contest_core import Listener, ListenerContext, ServerOptions, open_server
from contest_core.api import API
from contest_core.plugins import load_plugins
from contest_http.listener import HttpListener
from contest_http.settings import HttpSettings
from contest_runner.manager import LocalJobManager
from contest_runner.settings import LocalSettings
from contest_stdio.listener import StdioListener
from contest_stdio.settings import StdioSettings
from contest_websocket.listener import WebsocketListener
from contest_websocket.settings import WebsocketSettings

_spec = importlib.util.spec_from_file_location("hostile_bytes", Path(__file__).parent / "hostile_bytes.py")
assert _spec is not None
assert _spec.loader is not None
made = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(made)

SECONDS = 20.0
"""For one example."""

SHARES = [pytest.param(0, 25, id="short")] + [
    pytest.param(share, examples, id=str(share), marks=[pytest.mark.heavy, pytest.mark.timeout(1200)])
    for share, examples in ((2, 700), (3, 8000), (4, 8000))
]
"""The number of a share, and how many examples it has."""


class Complaints(logging.Handler):
    """Whatever is logged as an error: a traceback, among others."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.words: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.words.append(self.format(record))


class OnSocket(Listener):
    """JSON lines on one end of a pair of sockets."""

    Settings = StdioSettings

    def __init__(self, end: socket.socket) -> None:
        super().__init__(None)
        self._end = end

    async def serve(self, api: API, context: ListenerContext) -> None:
        number = self._end.fileno()
        await StdioListener(StdioSettings(concurrency=4)).serve_descriptors(api, context, number, number)


class Doors:
    """A server with three doors, and what is needed to knock."""

    def __init__(self, folder: Path) -> None:
        self._runner = asyncio.Runner()
        self._stack = AsyncExitStack()
        self._folder = folder
        self._number = 10**6
        self._complaints = Complaints()
        self.cursor = self.page = ""

    def __enter__(self) -> Doors:
        logging.getLogger().addHandler(self._complaints)
        self.run(self._open())
        return self

    def __exit__(self, *_: object) -> None:
        self.run(self._close())
        self._runner.close()
        logging.getLogger().removeHandler(self._complaints)

    def run(self, work: Any) -> Any:
        async def bounded() -> Any:
            async with asyncio.timeout(SECONDS):
                return await work

        found = self._runner.run(bounded())
        complaints, self._complaints.words = self._complaints.words, []
        assert complaints == []
        return found

    async def _open(self) -> None:
        ours, theirs = socket.socketpair()
        self._stack.callback(theirs.close)
        manager = LocalJobManager(LocalSettings(store="sqlite:///store.db"))
        listeners = {
            "http": HttpListener(HttpSettings(port=0)),
            "websocket": WebsocketListener(WebsocketSettings(port=0)),
            "lines": OnSocket(theirs),
        }
        options = ServerOptions(directory=self._folder, plugins=load_plugins(), server_id="lab", grace=2.0)
        self._stack.push_async_callback(asyncio.sleep, 0)
        self.server = await self._stack.enter_async_context(
            open_server(manager, listeners=listeners, options=options)
        )
        self.ports = {
            name: int(self.server.addresses[name][0].rpartition(":")[2]) for name in ("http", "websocket")
        }
        self.lines, self._to_lines = await asyncio.open_connection(sock=ours, limit=1 << 24)
        self._stack.callback(self._to_lines.close)
        for _ in range(3):
            await self.on_lines(b"", "start", {"jobDesc": made.job(made.ECHO)})
        while not (await self.on_lines(b"", "status", {"jobID": 3}))["Data"]["Status"]["EndTime"]:
            await asyncio.sleep(0.01)
        self.page = (await self.on_lines(b"", "list", {"limit": 1}))["Data"]["Cursor"]
        self.cursor = (await self.on_lines(b"", "watch", {"jobID": 1}))["Data"]["Cursor"]

    async def _close(self) -> None:
        await self._stack.aclose()

    async def on_lines(self, before: bytes, method: str, parameters: dict[str, Any]) -> Any:
        """Sends bytes that end in a newline, then asks; every line that comes is an answer or a notification."""
        self._number += 1
        asked = {
            "jsonrpc": "2.0",
            "id": self._number,
            "method": method,
            "params": {"requestor": "me", **parameters},
        }
        self._to_lines.write(before + json.dumps(asked).encode() + b"\n")
        while True:
            message = json.loads(await self.lines.readline())
            check_message(message)
            if isinstance(message, dict) and message.get("id") == self._number:
                return message["result"]

    async def knock(self, door: str, data: bytes) -> bytes:
        """Sends bytes on a connection of their own, says no more, and gives what comes until it is closed."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.ports[door], limit=1 << 24)
        try:
            writer.write(data)
            writer.write_eof()
            return await reader.read()
        except ConnectionError:
            return b""
        finally:
            writer.transport.abort()


@pytest.fixture
def doors(tmp_path: Path) -> Iterator[Doors]:
    with Doors(tmp_path) as doors:
        yield doors


def check_message(message: Any) -> None:
    for one in message if isinstance(message, list) else [message]:
        assert one["jsonrpc"] == "2.0"
        if "method" in one:
            assert one["method"] in ("event", "watchEnded")
        else:
            assert ("result" in one) != ("error" in one)
            assert one.get("error", {}).get("code") != -32603, one


@pytest.mark.parametrize(("share", "examples"), SHARES)
def test_lines_that_are_nearly_right_are_answered(doors: Doors, share: int, examples: int) -> None:
    messages = made.rpc_messages(doors.cursor, doors.page)

    def examine(data: bytes) -> None:
        doors.run(doors.on_lines(data + b"\n", "version", {}))

    made.explore(made.mangled(messages), examine, examples=examples, share=share)


@pytest.mark.parametrize(("share", "examples"), SHARES)
def test_websocket_frames_that_are_nearly_right_are_answered_or_the_connection_is_closed(
    doors: Doors, share: int, examples: int
) -> None:
    messages = made.mangled(made.rpc_messages(doors.cursor, doors.page))
    conversations = st.tuples(
        st.just(made.OPENING) | made.mangled([made.OPENING], made.OF_HTTP, most=2),
        st.lists(made.frames(messages, masked=True), max_size=6),
    )

    def examine(parts: tuple[bytes, list[bytes]]) -> None:
        answer = doors.run(doors.knock("websocket", parts[0] + b"".join(parts[1])))
        assert not answer or answer.startswith((b"HTTP/1.1 101 ", b"HTTP/1.1 4", b"HTTP/1.1 5"))
        assert not answer.startswith(b"HTTP/1.1 500")
        if answer.startswith(b"HTTP/1.1 101 "):
            for message in unframed(answer.partition(b"\r\n\r\n")[2]):
                check_message(json.loads(message))
        doors.run(doors.on_lines(b"", "version", {}))

    made.explore(conversations, examine, examples=examples, share=share)


def unframed(data: bytes) -> list[bytes]:
    """The texts in what a server has sent; what is not whole at the end does not count."""
    texts, text = [], b""
    while len(data) >= 2:
        size, start = data[1] & 0x7F, 2
        if size >= 126:
            start = 4 if size == 126 else 10
            size = int.from_bytes(data[2:start])
        if len(data) < start + size:
            break
        opcode, payload, fin = data[0] & 0x0F, data[start : start + size], data[0] & 0x80
        assert data[1] < 0x80, "servers do not mask"
        assert opcode in (0, 1, 8, 9, 10)
        if opcode < 2:
            text += payload
            if fin:
                texts.append(text)
                text = b""
        data = data[start + size :]
    return texts


STATUSES = {200, 204, 400, 401, 403, 404, 405, 408, 413, 415, 417, 429, 431, 501, 503}


def answers(data: bytes, requests: bytes) -> list[tuple[int, bytes]]:
    """Status and body of every answer in what a server has sent."""
    found = []
    while data:
        head, separator, data = data.partition(b"\r\n\r\n")
        assert separator, head
        status = int(re.match(rb"HTTP/1\.1 (\d{3}) ", head)[1])  # type: ignore[index]
        if status == 100:
            continue
        length = re.search(rb"\r\ncontent-length: (\d+)", head, re.IGNORECASE)
        size = int(length[1]) if length else 0
        if b"HEAD " in requests and not data.startswith(b"{"):
            size = 0
        assert len(data) >= size
        found.append((status, data[:size]))
        data = data[size:]
    return found


@pytest.mark.parametrize(("share", "examples"), SHARES)
def test_http_requests_that_are_nearly_right_are_answered(doors: Doors, share: int, examples: int) -> None:
    requests = [
        request
        for request in made.http_requests(doors.cursor, doors.page)
        if not request.startswith(b"POST /watch")
    ]
    bodies = made.mangled([*made.rpc_messages(doors.cursor, doors.page), made.DESCRIPTOR])
    verbs = st.sampled_from(["list", "status", "validate", "stop", "locks", "version"])
    kinds = st.sampled_from([made.FORM, made.JSON, b"multipart/form-data; boundary=cut", b"text/plain", b""])
    streams = st.lists(
        made.mangled(requests, made.OF_HTTP)
        | made.mangled(requests, made.OF_JSON)
        | st.builds(made.http_request, verbs, kinds, bodies),
        min_size=1,
        max_size=3,
    ).map(b"".join)

    def examine(data: bytes) -> None:
        for status, body in answers(doors.run(doors.knock("http", data)), data):
            assert status in STATUSES
            assert status != 500, body
        doors.run(doors.on_lines(b"", "version", {}))

    made.explore(streams, examine, examples=examples, share=share)


@pytest.mark.parametrize(("share", "examples"), SHARES)
def test_no_request_is_smuggled_in_another(doors: Doors, share: int, examples: int) -> None:
    asked: list[str] = []
    admit = doors.server.api._admission.admit

    def noted(verb: str, caller: Any) -> Any:
        asked.append(str(caller.requestor))
        return admit(verb, caller)

    doors.server.api._admission.admit = noted  # type: ignore[method-assign]

    def examine(data: bytes) -> None:
        asked.clear()
        for status, _ in answers(doors.run(doors.knock("http", data)), data):
            assert status in STATUSES
        assert "smuggler" not in asked, data

    doors.run(doors.knock("http", made.HIDDEN))
    assert asked == ["smuggler"], "by itself it is carried out"
    made.explore(made.smuggled(), examine, examples=max(examples // 3, 60), share=share)
