"""The blocking client: generated from the typed one, and up to date.

`python tests/core/test_client_sync.py` writes it.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from contest_core import (
    Client,
    ClientOptions,
    Contest,
    InvalidDescriptor,
    JobQuery,
    TooLarge,
    UnknownJob,
    Unreachable,
    client,
)
from contest_core.client import connect_sync
from contest_core.plugins import Plugins
from contest_core.portal import Portal

HEAD = '''"""The blocking client: the methods of `Contest`, each of which waits for its answer.

Made by `contest_core.client.connect_sync`. Generated from `contest_core/client.py` by `tests/core/test_client_sync.py`,
so that a type checker sees every method: change it there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from contest_core.client import Contest
    from contest_core.job_event import Cursor, Gap, JobEvent
    from contest_core.portal import Portal
    from contest_core.responses import (
        ListResponse,
        LocksResponse,
        RetryResponse,
        StartResponse,
        StatusResponse,
        StopResponse,
        ValidateResponse,
        VersionResponse,
    )
    from contest_core.status import JobQuery


class ContestSync:
    """`Contest`, for programs without an event loop."""

    def __init__(self, portal: Portal, contest: Contest) -> None:
        self._portal = portal
        self._contest = contest
'''

WATCH = "AbstractContextManager[Iterator[JobEvent | Gap]]"


def generated() -> str:
    source = inspect.getsource(client)
    tree = ast.parse(source)
    contest = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Contest")
    methods = [
        node for node in contest.body if isinstance(node, ast.AsyncFunctionDef) and node.name[0] != "_"
    ]
    return HEAD + "".join(_method(node, source.splitlines()) for node in methods)


def _method(node: ast.AsyncFunctionDef, source: list[str]) -> str:
    head = "\n".join(source[node.lineno - 1 : node.body[0].lineno - 1]).replace("async def", "def")
    given = [argument.arg for argument in node.args.args[1:]]
    given += [f"{argument.arg}={argument.arg}" for argument in node.args.kwonlyargs]
    waits = "call"
    if node.name == "watch":
        head, waits = head.replace(ast.unparse(node.returns or ast.Pass()), WATCH), "iterate"
    call = f"self._contest.{node.name}({', '.join(given)})"
    body = f"        return self._portal.{waits}({call})"
    if len(body) > 110:
        body = f"        return self._portal.{waits}(\n            {call}\n        )"
    words = "\n".join(source[node.body[0].lineno - 1 : node.body[0].end_lineno])
    return f"\n{head}\n{words}\n{body}\n"


def test_the_blocking_client_is_up_to_date() -> None:
    from contest_core import client_sync

    assert inspect.getsource(client_sync) == generated(), "run `python tests/core/test_client_sync.py`"


def test_it_has_every_method_of_the_typed_one_with_the_same_arguments() -> None:
    from contest_core.client_sync import ContestSync

    for name, method in vars(Contest).items():
        if inspect.isfunction(method) and not name.startswith("_"):
            ours = inspect.signature(getattr(ContestSync, name))
            assert list(ours.parameters.values()) == list(inspect.signature(method).parameters.values())


# --- in use


class Spawned(Client):
    """A server in memory that lives in the client's own loop, as one that a client spawns would."""

    listener: Any
    server: Any

    @classmethod
    async def connect(cls, address: str, options: ClientOptions) -> Spawned:
        from contest_core import open_server
        from contest_core.testing.direct import DirectListener
        from contest_core.testing.memory import MemoryJobManager

        if address.endswith("nobody"):
            raise Unreachable(address=address, reason="nobody is there")
        self = cls()
        self.listener = DirectListener()
        self.server = open_server(MemoryJobManager(), listeners={"direct": self.listener})
        await self.server.__aenter__()
        return self

    async def call(self, verb: str, parameters: Any) -> bytes:
        answer: bytes = await self.listener.client().call(verb, parameters)
        return answer

    @asynccontextmanager
    async def watch(self, parameters: Any) -> AsyncIterator[AsyncIterator[bytes]]:
        async def messages() -> AsyncIterator[bytes]:
            for number in range(int(parameters["since"]), 3):
                yield b'{"Gap":{"Missed":%d,"Cursor":"%d"}}' % (number + 1, number + 1)
            if parameters["jobID"] == 2:
                raise TooLarge(what="an event", limit=1)

        task = asyncio.current_task()
        yield messages()
        assert asyncio.current_task() is task

    async def aclose(self) -> None:
        await self.server.__aexit__(None, None, None)


@pytest.fixture
def plugins(monkeypatch: pytest.MonkeyPatch) -> Plugins:
    plugins = Plugins()
    plugins.clients.add("spawned", "contest_core.testing.direct:SpawnedHere")
    monkeypatch.setattr("contest_core.testing.direct.SpawnedHere", Spawned, raising=False)
    return plugins


def test_a_program_without_a_loop_asks_a_server(plugins: Plugins) -> None:
    with connect_sync("spawned:x", ClientOptions(requestor="me"), plugins=plugins) as contest:
        job_id = contest.start('{"JobName": "j"}').result().job_id
        assert contest.list(JobQuery()).result().job_ids == [job_id]
        assert contest.stop(job_id).error is None
        with pytest.raises(InvalidDescriptor):
            contest.start("{}").result()
        with pytest.raises(UnknownJob):
            contest.status(99).result()
    assert "contest client" not in {thread.name for thread in threading.enumerate()}


async def test_it_works_also_where_a_loop_runs_already(plugins: Plugins) -> None:
    with connect_sync("spawned:x", plugins=plugins) as contest:
        assert contest.version().result().version == 5


def test_a_server_that_cannot_be_reached_leaves_no_thread(plugins: Plugins) -> None:
    with pytest.raises(Unreachable), connect_sync("spawned:nobody", plugins=plugins):
        pytest.fail("it was entered")


def test_a_watch_is_an_iterator_and_may_be_left_early(plugins: Plugins) -> None:
    from contest_core import Cursor

    with connect_sync("spawned:x", plugins=plugins) as contest:
        contest.stop(contest.start('{"JobName": "j"}').result().job_id)
        with contest.watch(since=Cursor("0"), job_id=1) as watch:
            assert [item.missed for item in watch] == [1, 2, 3]  # type: ignore[union-attr]
            assert list(watch) == []
        with contest.watch(since=Cursor("0"), job_id=1) as watch:
            next(watch)
        with contest.watch(since=Cursor("2"), job_id=2) as watch:
            next(watch)
            with pytest.raises(TooLarge):
                next(watch)


def test_what_is_interrupted_while_it_waits_is_cancelled() -> None:
    gone: list[str] = []

    async def forever() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            gone.append("cancelled")
            raise

    with Portal() as portal:
        timer = threading.Timer(0.05, lambda: _interrupt(threading.main_thread()))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            portal.call(forever())
        timer.join()
    assert gone == ["cancelled"]


def _interrupt(thread: threading.Thread) -> None:
    import signal

    signal.pthread_kill(thread.ident or 0, signal.SIGINT)


if __name__ == "__main__":
    Path(client.__file__).with_name("client_sync.py").write_text(generated(), "utf-8")
    sys.exit(0)
