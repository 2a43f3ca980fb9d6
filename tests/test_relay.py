"""A relay in front of a server gets the same answers as the server itself, whatever the transport between them."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import re
import shlex
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import parse_qsl

import httpx2
import pytest

from contest_core import Cursor, JobManager, Listener, ServerOptions, open_server
from contest_core.client import connect
from contest_core.lifecycle import Server
from contest_http.listener import HttpListener
from contest_relay.manager import RelayJobManager
from contest_relay.settings import RelaySettings
from contest_runner.manager import LocalJobManager
from contest_runner.settings import LocalSettings
from contest_websocket.listener import WebsocketListener

_spec = importlib.util.spec_from_file_location("questions", Path(__file__).parent / "questions.py")
assert _spec is not None
assert _spec.loader is not None
asked = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(asked)

Answer: TypeAlias = dict[str, Any]

DATA = Path(__file__).parent / "data"
PATIENCE = 30
PROGRAM = [sys.executable, "-c", "from contest_core.cli import main; main()"]
STDIO = "server: {id: lab-1}\nlisteners: [stdio: {concurrency: 8}]\njob_manager: {local: {store: 'sqlite:///contest.db'}}\n"

ROUTES: dict[str, tuple[str, ...]] = {
    "directly": (),
    "by http": ("http",),
    "by websocket": ("ws",),
    "by stdio": ("stdio",),
    "by two relays": ("http", "ws"),
}
"""The transports between who asks and the server with the jobs, one a relay."""


@asynccontextmanager
async def serving(manager: JobManager, folder: Path, scheme: str = "http") -> AsyncIterator[Server]:
    """A server with one door."""
    listener: Listener = (
        HttpListener(HttpListener.Settings(port=0))
        if scheme == "http"
        else WebsocketListener(WebsocketListener.Settings(port=0))
    )
    options = ServerOptions(directory=folder, server_id="lab-1")
    async with open_server(manager, listeners={"door": listener}, options=options) as server:
        yield server


@asynccontextmanager
async def reached(route: Sequence[str], folder: Path) -> AsyncIterator[Server]:
    """The server that is asked: the one with the jobs, or the first of the relays before it."""
    async with AsyncExitStack() as stack:
        if not route or route[-1] != "stdio":
            manager: JobManager = LocalJobManager(LocalSettings(store="sqlite:///contest.db"))
            server = await stack.enter_async_context(serving(manager, folder, *route[-1:]))
        for position in reversed(range(len(route))):
            if route[position] == "stdio":
                file = folder / "contest.yaml"
                file.write_text(STDIO)
                command = [*PROGRAM, "serve", "-c", str(file), "--log-level", "error"]
                address = f"stdio:{shlex.join(command)}"
            else:
                (address,) = server.addresses["door"]
            door = route[position - 1] if position else "http"
            manager = RelayJobManager(RelaySettings(address=address))
            server = await stack.enter_async_context(serving(manager, folder, door))
        yield server


async def by_form(server: Server) -> list[Answer]:
    (address,) = server.addresses["door"]
    async with httpx2.AsyncClient(base_url=address, timeout=PATIENCE) as client:

        async def ask(verb: str, parameters: dict[str, str]) -> Answer:
            answer: Answer = (await client.post(f"/{verb}", data=parameters)).json()
            return answer

        found: list[Answer] = await asked.answers(ask)
        return found


Routes: TypeAlias = dict[str, list[Answer]]


@pytest.fixture(scope="module")
def routes(tmp_path_factory: pytest.TempPathFactory) -> Routes:
    """The answers by route."""

    async def ask(name: str, folder: Path) -> list[Answer]:
        async with reached(ROUTES[name], folder) as server:
            return await by_form(server)

    async def ask_all() -> Routes:
        async with asyncio.TaskGroup() as group:
            tasks = {
                name: group.create_task(ask(name, tmp_path_factory.mktemp(name.replace(" ", "-"))))
                for name in ROUTES
            }
        return {name: task.result() for name, task in tasks.items()}

    return asyncio.run(ask_all())


@pytest.mark.parametrize("route", [name for name in ROUTES if name != "directly"])
def test_a_relay_answers_as_the_server_behind_it(routes: Routes, route: str) -> None:
    compared = zip(asked.QUESTIONS, routes["directly"], routes[route], strict=True)
    assert not [(question, far, here) for question, far, here in compared if far != here]


@pytest.mark.parametrize("route", list(ROUTES.values()), ids=list(ROUTES))
async def test_a_watch_is_the_same_with_the_same_cursors(route: Sequence[str], tmp_path: Path) -> None:
    async with reached(route, tmp_path) as server, connect(server.addresses["door"][0]) as contest:
        async with contest.watch() as every_job:
            job_id = (await contest.start(asked.PASSES)).result().job_id
            async with asyncio.timeout(PATIENCE), contest.watch(job_id=job_id) as events:
                seen = [event async for event in events]
            first = await anext(every_job)
    assert [event.sequence_id for event in seen] == list(range(1, len(seen) + 1))
    assert (first.data, first.header) == (seen[0].data, seen[0].header)
    async with reached((), tmp_path) as server, connect(server.addresses["door"][0]) as contest:
        for since in (3, 0):
            async with contest.watch(job_id=job_id, since=Cursor(seen[since].cursor)) as events:
                assert [event async for event in events] == seen[since + 1 :]


# --- a ConTest behind it


class Recorded:
    """A ConTest as it was recorded: `answer` is what it says next; what it is asked is in `asked`."""

    def __init__(self) -> None:
        self.answer: dict[str, Any] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                size = int(re.findall(r"(?i)content-length: (\d+)", head)[0])
                form = dict(parse_qsl((await reader.readexactly(size)).decode()))
                answer = self._answer(head.split()[1], form)
                body = json.dumps(answer["json"]).encode() + b"\n"
                writer.write(
                    b"HTTP/1.1 %d X\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\n\r\n%b"
                    % (answer["status"], len(body), body)
                )
        writer.transport.abort()

    def _answer(self, path: str, form: dict[str, str]) -> dict[str, Any]:
        if path == "/version":
            return GREETINGS[path]
        if form["requestor"] == "relay":
            return GREETINGS[path]
        self.asked.append((path, form))
        return self.answer


GREETINGS: dict[str, dict[str, Any]] = {
    "/version": {
        "status": 200,
        "json": {
            "ServerID": "contest-go",
            "Type": "ResponseTypeVersion",
            "Data": {"Version": 5},
            "Error": None,
        },
    },
    "/status": {
        "status": 200,
        "json": {
            "ServerID": "contest-go",
            "Type": "ResponseTypeStatus",
            "Data": {"Status": None},
            "Error": "failed to fetch request for job ID 1: could not find job request with id 1",
        },
    },
}


@asynccontextmanager
async def before_a_contest() -> AsyncIterator[tuple[httpx2.AsyncClient, Recorded]]:
    """Who asks a relay before a ConTest, and that ConTest."""
    contest = Recorded()
    far = await asyncio.start_server(contest.serve, "127.0.0.1", 0)
    async with far:
        address = f"http://127.0.0.1:{far.sockets[0].getsockname()[1]}"
        manager = RelayJobManager(RelaySettings(address=address))
        async with serving(manager, Path()) as server:
            async with httpx2.AsyncClient(base_url=server.addresses["door"][0], timeout=PATIENCE) as client:
                yield client, contest


async def test_what_a_contest_answers_comes_through_as_it_was_recorded() -> None:
    asked_there = refused_here = 0
    async with before_a_contest() as (client, contest):
        for line in (DATA / "contest-http.jsonl").read_text("utf-8").splitlines():
            exchange = json.loads(line)
            request, wanted = exchange["request"], exchange["response"]
            if request["method"] != "POST" or request["path"].strip("/") == "version":
                continue
            contest.answer, contest.asked = wanted, []
            answer = await client.post(request["path"], data=request["form"])
            given = answer.json()
            if not contest.asked:
                # What cannot be meant is refused here, as there.
                assert answer.status_code == wanted["status"] == 400, exchange["case"]
                refused_here += 1
                continue
            assert contest.asked == [(request["path"], request["form"])], exchange["case"]
            assert given.pop("Code", None) == ("refused" if wanted["json"]["Error"] else None)
            assert (answer.status_code, given | {"ServerID": "contest-go"}) == (200, wanted["json"])
            asked_there += 1
    assert (asked_there, refused_here) == (69, 12)


async def test_of_a_contest_nothing_is_asked_that_it_would_pass_over() -> None:
    async with before_a_contest() as (client, contest):
        version = (await client.post("/version")).json()
        assert version["Data"]["Capabilities"] == ["list", "retry", "start", "status", "stop"]
        for verb, form, named in (
            ("start", {"jobDesc": "{}", "startKey": "k"}, "startKey of start"),
            ("start", {"jobDesc": "{}", "strict": "true"}, "strict of start"),
            ("status", {"jobID": "1", "run": "1"}, "run of status"),
            ("retry", {"jobID": "1", "failedOnly": "true"}, "failedOnly of retry"),
            ("list", {"name": "a"}, "name of list"),
            ("validate", {"jobDesc": "{}"}, "validate"),
            ("locks", {}, "locks"),
        ):
            answer = (await client.post(f"/{verb}", data={"requestor": "me", **form})).json()
            assert answer["Code"] == "unsupported"
            assert answer["Error"].startswith(f"{named} is not offered by")
        watch = (await client.get("/events", params={"requestor": "me"})).json()
        assert (watch["Code"], contest.asked) == ("unsupported", [])
