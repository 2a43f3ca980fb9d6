"""Autobahn's test suite of the websocket protocol, against our listener and against the bare library, in one run.

The suite is a program for Python 2: `CONTEST_WSTEST` says where it is (`pip install autobahntestsuite`, with 2.7). It
wants a server that echoes: ours is the listener as it is served, but for the JSON-RPC session, in whose place a session
stands that sends back what it gets, as text or binary as it came. Compression is offered by neither.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as serve_bare

from contest_websocket import listener as product
from contest_websocket.connection import Connection
from contest_websocket.connections import Connections

WSTEST = os.environ.get("CONTEST_WSTEST", "")
SECONDS = 900
LIMIT = 16 * 1024 * 1024

RANK = {
    "OK": 0,
    "INFORMATIONAL": 0,
    "NON-STRICT": 1,
    "UNCLEAN": 2,
    "WRONG CODE": 2,
    "FAILED BY CLIENT": 2,
    "FAILED": 3,
}
"""The suite's words, from good to bad."""


class EchoSession:
    """Stands where the JSON-RPC session does."""

    busy = False

    def __init__(self, send: Callable[[bytes], Awaitable[None]]) -> None:
        self._send = send

    async def received(self, message: bytes) -> None:
        await self._send(message)

    async def idle(self) -> None: ...

    async def aclose(self) -> None: ...

    def cancel(self) -> None: ...


class EchoConnections(Connections):
    def session(self, peer: str, principal: Any, send: Callable[[bytes], Awaitable[None]]) -> Any:
        return EchoSession(send)


class EchoConnection(Connection):
    """Answers are text; these have the kind of the message that is answered."""

    is_text = True

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        text, binary = self.protocol.send_text, self.protocol.send_binary

        def send(data: bytes, fin: bool = True) -> None:
            (text if self.is_text else binary)(data, fin)

        self.protocol.send_text = send

    async def recv(self, decode: bool | None = None) -> Any:
        message = await super().recv(decode)
        self.is_text = isinstance(message, str)
        return message


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


async def run_suite(folder: Path, cases: Iterable[str], **ports: int) -> dict[str, dict[str, Any]]:
    """The outcome of each case, by agent."""
    folder.mkdir()
    specification = {
        "outdir": str(folder / "reports"),
        "servers": [{"agent": name, "url": f"ws://127.0.0.1:{port}"} for name, port in ports.items()],
        "cases": list(cases),
        "exclude-cases": ["12.*", "13.*"],
        "exclude-agent-cases": {},
    }
    (folder / "spec.json").write_text(json.dumps(specification))
    with (folder / "output").open("wb") as output:
        suite = await asyncio.create_subprocess_exec(
            WSTEST, "-m", "fuzzingclient", "-s", "spec.json", cwd=folder, stdout=output, stderr=output
        )
        try:
            async with asyncio.timeout(SECONDS):
                assert await suite.wait() == 0, (folder / "output").read_text()[-2000:]
        finally:
            if suite.returncode is None:
                suite.kill()
                await suite.wait()
    reports: dict[str, dict[str, Any]] = json.loads((folder / "reports" / "index.json").read_text())
    return reports


@pytest.mark.heavy
@pytest.mark.timeout(2 * SECONDS)
@pytest.mark.skipif(not WSTEST, reason="CONTEST_WSTEST does not say where Autobahn's wstest is")
async def test_no_case_of_autobahn_is_worse_than_with_the_bare_library(
    serve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(product, "Connections", EchoConnections)
    monkeypatch.setattr(product, "Connection", EchoConnection)
    async with (
        serve(max_request=LIMIT) as running,
        serve_bare(echo, "127.0.0.1", 0, compression=None, max_size=LIMIT) as bare,
    ):
        port = bare.sockets[0].getsockname()[1]
        reports = await run_suite(tmp_path / "all", ["*"], contest=running.port, websockets=port)
        for name, report in reports.items():
            print(name, dict(Counter(case["behavior"] for case in report.values())))  # noqa: T201
        assert len(reports["contest"]) > 200
        # Whether what came before a fault is still echoed may depend on how the system cuts the stream.
        cases = worse(reports)
        for turn in range(2):
            if cases:
                again = await run_suite(
                    tmp_path / f"again {turn}", cases, contest=running.port, websockets=port
                )
                cases = worse(again)
    assert cases == {}


def worse(reports: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The cases in which ours did worse: what it did, and what the library did."""
    ours, held = reports["contest"], reports["websockets"]
    assert ours.keys() == held.keys()
    return {
        case: (ours[case][what], held[case][what])
        for case in ours
        for what in ("behavior", "behaviorClose")
        if RANK[ours[case][what]] > RANK[held[case][what]]
    }
