"""A server that is killed in the middle of watches and started again: on no wire is anything missing or twice.

One process serves HTTP, websocket and JSON lines from one store. It is the child of the client for JSON lines, which
starts it again; the clients of the other wires find it at the same ports.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
import socket
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from contest_core import ClientOptions, Contest, ContestError, JobEvent, JobState
from contest_core.client import connect

SECONDS = 40

JOBS = 3
KILLS = (30, 120)
"""After so many events that the watch over JSON lines has seen."""

STEPS, TARGETS = 12, 6


class Seen(NamedTuple):
    """One event as a watch and the store both have it."""

    job: int
    sequence: int
    name: str


class Lab:
    """A server of three wires, by the addresses of its clients."""

    def __init__(self, folder: Path) -> None:
        self.store = folder / "jobs.db"
        self._pids = folder / "pids"
        http, websocket = _free_ports(2)
        listeners = [
            {"http": {"port": http}},
            {"websocket": {"port": websocket}},
            {"stdio": {"concurrency": 8}},
        ]
        manager = {"local": {"store": "sqlite:///jobs.db"}}
        configuration = folder / "all.yaml"
        configuration.write_text(json.dumps({"listeners": listeners, "job_manager": manager}))
        program = [sys.executable, "-c", "from contest_core.cli import main; main()"]
        serve = shlex.join([*program, "serve", "-c", str(configuration), "--log-level", "error"])
        spawned = f"echo $$ >> {shlex.quote(str(self._pids))}; exec {serve}"
        self.addresses = (
            "stdio:" + shlex.join(["sh", "-c", spawned]),  # the first one starts the server
            f"http://127.0.0.1:{http}",
            f"ws://127.0.0.1:{websocket}",
        )

    @property
    def pids(self) -> list[int]:
        """Of all servers that there were; the last one may be running."""
        return [int(line) for line in self._pids.read_text().split()]

    def end(self, how: signal.Signals) -> None:
        """SIGKILL gives no time for a word; SIGTERM ends it in good order."""
        os.kill(self.pids[-1], how)

    def events(self) -> list[Seen]:
        """The whole feed."""
        with sqlite3.connect(self.store) as store:
            rows = store.execute("SELECT job_id, sequence, name FROM events ORDER BY position").fetchall()
        return [Seen(*row) for row in rows]

    @asynccontextmanager
    async def clients(self, told: list[str]) -> AsyncIterator[list[Contest]]:
        """One a wire. What they repeat is told."""
        async with AsyncExitStack() as stack:
            clients = []
            for address in self.addresses:
                scheme = address.partition(":")[0]

                def tell(error: ContestError, pause: float, scheme: str = scheme) -> None:
                    told.append(scheme)

                options = ClientOptions(requestor="watcher", on_repeat=tell)
                clients.append(await stack.enter_async_context(connect(address, options)))
            yield clients
            os.kill(
                self.pids[-1], signal.SIGTERM
            )  # beside other listeners the end of its input does not end it


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def job() -> str:
    steps = [
        {"name": "sleep", "label": f"s{number}", "parameters": {"duration": ["30ms"]}}
        for number in range(STEPS)
    ]
    test = {
        "TargetManagerName": "TargetList",
        "TargetManagerAcquireParameters": {
            "Targets": [{"ID": f"{{{{ .JobID }}}}-{n}"} for n in range(TARGETS)]
        },
        "TargetManagerReleaseParameters": {},
        "TestFetcherName": "literal",
        "TestFetcherFetchParameters": {"TestName": "t", "Steps": steps},
    }
    reporting = {"RunReporters": [{"Name": "noop"}]}
    made = {
        "JobName": "watched",
        "Version": "1.0",
        "Runs": 1,
        "TestDescriptors": [test],
        "Reporting": reporting,
    }
    return json.dumps(made)


async def follow(
    contest: Contest, entered: asyncio.Barrier, counted: list[Seen], jobs: int = JOBS
) -> list[Seen]:
    """What a watch of all jobs sees until so many of them have ended."""
    running = set(range(1, jobs + 1))
    async with contest.watch() as watch:
        await entered.wait()
        async for item in watch:
            assert isinstance(item, JobEvent), item
            seen = Seen(item.header.job_id, item.sequence_id, item.data.event_name)
            counted.append(seen)
            if item.header.test_name is None and JobState.from_wire(seen.name).ended:
                running.discard(seen.job)
                if not running:
                    break
    return counted


async def follow_one(contest: Contest, job_id: int) -> list[Seen]:
    """What a watch of one job sees, which ends by itself."""
    found = []
    async with contest.watch(job_id=job_id) as watch:
        async for item in watch:
            assert isinstance(item, JobEvent), item
            found.append(Seen(item.header.job_id, item.sequence_id, item.data.event_name))
    return found


@pytest.mark.timeout(2 * SECONDS)
async def test_three_watches_over_three_wires_see_all_that_happened_though_the_server_is_killed(
    tmp_path: Path,
) -> None:
    lab, told = Lab(tmp_path), list[str]()
    async with asyncio.timeout(SECONDS), lab.clients(told) as clients:
        seen: list[list[Seen]] = [[] for _ in clients]
        entered = asyncio.Barrier(len(clients) + 1)
        async with asyncio.TaskGroup() as group:
            whole = [
                group.create_task(follow(each, entered, counted))
                for each, counted in zip(clients, seen, strict=True)
            ]
            await entered.wait()
            jobs = [(await each.start(job())).result().job_id for each in clients]
            assert jobs == list(range(1, JOBS + 1))
            single = [
                group.create_task(follow_one(each, job_id))
                for each, job_id in zip(clients, jobs, strict=True)
            ]
            for count in KILLS:
                while len(seen[0]) < count:
                    await asyncio.sleep(0.005)
                lab.end(signal.SIGKILL)
                await clients[0].version()  # there is a server again, whoever had it started
    happened = lab.events()
    assert len(lab.pids) == len(KILLS) + 1
    assert {*told} == {"stdio", "http", "ws"}
    for watched in whole:
        assert watched.result() == happened[: len(watched.result())]
        assert watched.result()[-1].name == "JobStateCompleted"
    for job_id, watched in zip(jobs, single, strict=True):
        assert watched.result() == [each for each in happened if each.job == job_id]
        assert [each.sequence for each in watched.result()] == list(range(1, len(watched.result()) + 1))
        assert len(watched.result()) > 2 * STEPS * TARGETS


@pytest.mark.timeout(2 * SECONDS)
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
async def test_watches_that_have_seen_nothing_yet_miss_nothing_that_happens_while_they_are_away(
    tmp_path: Path, how: signal.Signals
) -> None:
    lab = Lab(tmp_path)
    async with asyncio.timeout(SECONDS), lab.clients([]) as clients:
        entered = asyncio.Barrier(len(clients) + 1)
        async with asyncio.TaskGroup() as group:
            whole = [group.create_task(follow(each, entered, [], jobs=1)) for each in clients]
            await entered.wait()
            lab.end(how)
            # The one that starts the server again is there before the others are.
            assert (await clients[0].start(job())).result().job_id == 1
    happened = lab.events()
    assert len(lab.pids) == 2
    for watched in whole:
        assert watched.result() == happened
