"""Watching jobs over a pipe and over HTTP: a real server, a real store, and what survives its end."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from contest_core import ClientOptions, ConnectionLost, ContestError, Cursor, Gap, JobEvent, UnknownJob
from contest_core import rpc_client as rpc_client_module
from contest_core.client import Client, Contest
from contest_http.client import HttpClient
from contest_stdio.client import StdioClient

SECONDS = 20

PROGRAM = (sys.executable, "-c", "from contest_core.cli import main; main()")


def job_of(*steps: tuple[str, dict[str, Any]], targets: int = 1, **more: Any) -> str:
    made = [
        {"name": name, "label": f"s{number}", "parameters": {key: [value] for key, value in given.items()}}
        for number, (name, given) in enumerate(steps)
    ]
    test = {
        "TargetManagerName": "TargetList",
        "TargetManagerAcquireParameters": {"Targets": [{"ID": f"t{n}"} for n in range(targets)]},
        "TargetManagerReleaseParameters": {},
        "TestFetcherName": "literal",
        "TestFetcherFetchParameters": {"TestName": "t", "Steps": made},
    }
    reporting = {"RunReporters": [{"Name": "noop"}]}
    job = {
        "JobName": "watched",
        "Version": "1.0",
        "Runs": 1,
        "TestDescriptors": [test],
        "Reporting": reporting,
    }
    return json.dumps({**job, **more})


class Lab:
    """Servers that one after the other have the same store, reached over a wire."""

    def __init__(self, folder: Path, wire: str) -> None:
        self.wire = wire
        self._folder = folder

    def over(self, wire: str) -> Lab:
        """The same store on another wire."""
        return Lab(self._folder, wire)

    @contextmanager
    def server(self) -> Iterator[tuple[str, Callable[[], None]]]:
        """A server's address, and what kills it; over stdio the client spawns it and has to kill it."""
        listener = {"stdio": {"concurrency": 8}} if self.wire == "stdio" else {"http": {"port": 0}}
        store = {"local": {"store": "sqlite:///jobs.db"}}
        configuration = self._folder / f"{self.wire}.yaml"
        configuration.write_text(json.dumps({"listeners": [listener], "job_manager": store}))
        command = [*PROGRAM, "serve", "-c", str(configuration), "--log-level", "error"]
        if self.wire == "stdio":
            yield f"stdio:{shlex.join(command)}", lambda: None
            return
        said = self._folder / "said"
        with said.open("wb") as stderr:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=stderr)
        try:
            limit = time.monotonic() + SECONDS
            while not (found := re.search(r"listening on (\S+)", said.read_text())):
                assert process.poll() is None, said.read_text()
                assert time.monotonic() < limit, said.read_text()
                time.sleep(0.01)
            yield found[1], process.kill
        finally:
            process.terminate()
            process.wait(SECONDS)

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[tuple[Contest, Callable[[], None]]]:
        """A client of a server, and what kills the latter."""
        options = ClientOptions(requestor="watcher", patience=0)
        with self.server() as (address, kill):
            kind: type[Client] = StdioClient if self.wire == "stdio" else HttpClient
            client = await kind.connect(address, options)
            if isinstance(client, StdioClient):
                kill = client._child._transport.kill  # type: ignore[union-attr]
            try:
                yield Contest(client, options), kill
            finally:
                await client.aclose()


@pytest.fixture(params=["stdio", "http"])
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Lab:
    return Lab(tmp_path, request.param)


async def read(contest: Contest, job: int, since: str | None = None) -> list[JobEvent]:
    """All events of a job from a cursor to its end."""
    found = []
    async with (
        asyncio.timeout(SECONDS),
        contest.watch(job_id=job, since=Cursor(since) if since else None) as watch,
    ):
        async for event in watch:
            assert isinstance(event, JobEvent)
            found.append(event)
    return found


def sequence(events: list[JobEvent]) -> list[int]:
    return [event.sequence_id for event in events]


async def test_a_job_is_watched_while_it_runs_and_again_when_it_has_ended(lab: Lab) -> None:
    async with lab.connected() as (contest, _):
        job = (
            await contest.start(job_of(("echo", {"text": "x"}), ("sleep", {"duration": "50ms"}), targets=5))
        ).result()
        live = await read(contest, job.job_id)
        assert sequence(live) == list(range(1, len(live) + 1))
        assert live[-1].data.event_name == "JobStateCompleted"
        assert await read(contest, job.job_id) == live
        middle = len(live) // 2
        assert await read(contest, job.job_id, live[middle - 1].cursor) == live[middle:]
        assert await read(contest, job.job_id, live[-1].cursor) == []


@pytest.mark.parametrize("other", ["stdio", "http"])
async def test_a_cursor_outlives_a_server_that_is_killed_and_is_good_on_any_wire(
    lab: Lab, other: str
) -> None:
    slow = job_of(*[("sleep", {"duration": "30ms"})] * 20, targets=3)
    seen: list[JobEvent] = []
    async with lab.connected() as (contest, kill):
        job = (await contest.start(slow)).result().job_id

        async def read_until_it_is_killed() -> None:
            async with asyncio.timeout(SECONDS), contest.watch(job_id=job) as watch:
                async for event in watch:
                    assert isinstance(event, JobEvent)
                    seen.append(event)
                    if len(seen) == 25:
                        kill()

        with pytest.raises(ConnectionLost):
            await read_until_it_is_killed()
    async with lab.over(other).connected() as (contest, _):
        seen += await read(contest, job, seen[-1].cursor)
    assert sequence(seen) == list(range(1, len(seen) + 1))
    assert seen[-1].data.event_name == "JobStateCompleted"


async def test_a_reader_that_is_slower_than_the_jobs_misses_nothing(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rpc_client_module, "MAX_UNREAD", 20)
    async with lab.connected() as (contest, _):
        job = (await contest.start(job_of(*[("echo", {"text": "x"})] * 10, targets=20))).result().job_id
        found = []
        async with asyncio.timeout(SECONDS), contest.watch(job_id=job) as watch:
            async for event in watch:
                assert not isinstance(event, Gap)
                found.append(event)
                if len(found) % 50 == 0:
                    await asyncio.sleep(0.02)
        assert sequence(found) == list(range(1, len(found) + 1))
        assert len(found) > 400


async def test_all_jobs_are_watched_from_now_or_from_a_cursor_and_left_when_one_likes(lab: Lab) -> None:
    say = job_of(("echo", {"text": "x"}))
    async with lab.connected() as (contest, _):
        async with asyncio.timeout(SECONDS), contest.watch() as watch:
            first = (await contest.start(say)).result().job_id
            second = (await contest.start(say)).result().job_id
            seen: list[JobEvent | Gap] = []
            async for event in watch:
                seen.append(event)
                ended = [each for each in seen if "Completed" in each.data.event_name]  # type: ignore[union-attr]
                if len(ended) == 2:
                    break
        assert {event.header.job_id for event in seen} == {first, second}  # type: ignore[union-attr]
        if isinstance(contest.client, StdioClient):
            assert contest.client._calls._feeds == {}
        async with contest.watch(since=Cursor(seen[3].cursor or "")) as watch:
            assert await anext(watch) == seen[4]


async def test_what_cannot_be_watched_is_refused(lab: Lab) -> None:
    async with lab.connected() as (contest, _):
        for given, code in (
            ({"job_id": 99}, UnknownJob.code),
            ({"since": Cursor("nonsense")}, "invalid_parameters"),
        ):
            with pytest.raises(ContestError) as refused:
                async with contest.watch(**given):
                    raise AssertionError("it was entered")
            assert refused.value.code == code


def test_the_program_shows_what_happens_and_goes_on_from_a_cursor(lab: Lab) -> None:
    with lab.server() as (address, _):
        check_the_program(address)


def check_the_program(address: str) -> None:
    def contest(*arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "CONTEST_ADDRESS": address}
        return subprocess.run(
            [*PROGRAM, *arguments], env=environment, capture_output=True, text=True, timeout=SECONDS, **more
        )

    assert contest("start", input=job_of(("echo", {"text": "x"}))).stdout == "1\n"
    shown = contest("watch", "1").stdout.splitlines()
    assert shown[0].endswith("  job 1  JobStateStarted")
    assert shown[-1].endswith("  job 1  JobStateCompleted")
    assert any(line.endswith("  job 1  run 1  t/s0  t0  TargetIn") for line in shown)
    objects = [json.loads(line)["Event"] for line in contest("watch", "1", "--json").stdout.splitlines()]
    assert len(objects) == len(shown)
    again = contest("watch", "1", "--since", objects[2]["Cursor"])
    assert again.stdout.splitlines() == shown[3:]
    for wrong, words in ((("9",), "no job 9"), (("1", "--since", "x"), "cursor")):
        refused = contest("watch", *wrong)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert words in refused.stderr
