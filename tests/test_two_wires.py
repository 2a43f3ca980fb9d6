"""The same questions, in the same order, get the same answers by a form and by JSON over HTTP, on JSON lines and
on a websocket.

Each wire has a server of its own that has just started, so numbers of jobs are the same everywhere.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any, TypeAlias

import httpx2
import pytest

from contest_core import ClientOptions, ServerOptions, open_server
from contest_http.listener import HttpListener
from contest_runner.manager import LocalJobManager
from contest_runner.settings import LocalSettings
from contest_websocket.client import WebsocketClient
from contest_websocket.listener import WebsocketListener

_spec = importlib.util.spec_from_file_location("questions", Path(__file__).parent / "questions.py")
assert _spec is not None
assert _spec.loader is not None
asked = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(asked)

Answer: TypeAlias = dict[str, Any]

PATIENCE = 30
PROGRAM = [sys.executable, "-c", "from contest_core.cli import main; main()"]


async def over_http(folder: Path, *, as_json: bool) -> list[Answer]:
    """The answers of an HTTP listener."""
    manager = LocalJobManager(LocalSettings(store="sqlite:///contest.db"))
    listener = HttpListener(HttpListener.Settings(port=0))
    options = ServerOptions(directory=folder, server_id="lab-1")
    async with open_server(manager, listeners={"http": listener}, options=options) as server:
        (address,) = server.addresses["http"]
        async with httpx2.AsyncClient(base_url=address, timeout=PATIENCE) as client:

            async def ask(verb: str, parameters: dict[str, str]) -> Answer:
                body: dict[str, Any] = {"json" if as_json else "data": parameters}
                answer: Answer = (await client.post(f"/{verb}", **body)).json()
                return answer

            return await asked.answers(ask)


async def on_websocket(folder: Path) -> list[Answer]:
    """The answers of a websocket listener, as its client gives them."""
    manager = LocalJobManager(LocalSettings(store="sqlite:///contest.db"))
    listener = WebsocketListener(WebsocketListener.Settings(port=0))
    options = ServerOptions(directory=folder, server_id="lab-1")
    async with open_server(manager, listeners={"websocket": listener}, options=options) as server:
        client = await WebsocketClient.connect(
            server.addresses["websocket"][0], ClientOptions(timeout=PATIENCE)
        )

        async def ask(verb: str, parameters: dict[str, str]) -> Answer:
            answer: Answer = json.loads(await client.call(verb, parameters))
            return answer

        try:
            return await asked.answers(ask)
        finally:
            await client.aclose()


async def on_lines(folder: Path) -> list[Answer]:
    """The answers of a server with JSON lines on its standard streams, as the objects that HTTP has."""
    file = folder / "contest.yaml"
    file.write_text(
        "server: {id: lab-1}\nlisteners: [stdio: {}]\njob_manager: {local: {store: 'sqlite:///contest.db'}}\n"
    )
    pipe = asyncio.subprocess.PIPE
    serve = [*PROGRAM, "serve", "-c", str(file), "--log-level", "error"]
    process = await asyncio.create_subprocess_exec(*serve, stdin=pipe, stdout=pipe, limit=2**24)
    assert process.stdin is not None
    assert process.stdout is not None
    writer, reader = process.stdin, process.stdout

    async def ask(verb: str, parameters: dict[str, str]) -> Answer:
        request = {"jsonrpc": "2.0", "id": 1, "method": verb, "params": parameters}
        writer.write(json.dumps(request).encode() + b"\n")
        return asked.as_over_http(json.loads(await reader.readline()))

    try:
        async with asyncio.timeout(PATIENCE):
            found = await asked.answers(ask)
            writer.close()
            assert await process.wait() == 0
            return found
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


Wires: TypeAlias = dict[str, list[Answer]]


@pytest.fixture(scope="module")
def wires(tmp_path_factory: pytest.TempPathFactory) -> Wires:
    """The answers by wire."""

    async def ask_all() -> Wires:
        names = ("form", "body", "lines", "websocket")
        form, body, lines, websocket = (tmp_path_factory.mktemp(name) for name in names)
        async with asyncio.TaskGroup() as group:
            tasks = {
                "form": group.create_task(over_http(form, as_json=False)),
                "body": group.create_task(over_http(body, as_json=True)),
                "lines": group.create_task(on_lines(lines)),
                "websocket": group.create_task(on_websocket(websocket)),
            }
        return {name: task.result() for name, task in tasks.items()}

    return asyncio.run(ask_all())


@pytest.mark.parametrize("wire", ["body", "lines", "websocket"])
def test_json_is_answered_like_a_form(wires: Wires, wire: str) -> None:
    compared = zip(asked.QUESTIONS, wires["form"], wires[wire], strict=True)
    assert not [(question, form, other) for question, form, other in compared if form != other]


def test_every_verb_is_answered_well_and_refused_in_both_ways(wires: Wires) -> None:
    said: dict[str, set[str]] = {}
    for (verb, _), answer in zip(asked.QUESTIONS, wires["lines"], strict=True):
        kind = "unread" if "Msg" in answer else "refused" if answer["Error"] else "answered"
        said.setdefault(verb, set()).add(kind)
    for verb in ("start", "stop", "status", "retry", "list"):
        assert said[verb] == {"answered", "refused", "unread"}
