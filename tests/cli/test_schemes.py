"""A scheme that a plugin adds: for the program, and for both clients, as good as ours."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

CLIENT = '''
from contextlib import asynccontextmanager

from contest_core import Client, Unreachable, open_server
from contest_core.testing.direct import DirectListener
from contest_core.testing.memory import MemoryJobManager


class Pigeon(Client):
    """Brings its server along."""

    @classmethod
    async def connect(cls, address, options):
        if address == "pigeon:lost":
            raise Unreachable(address=address, reason="it did not come back")
        self = cls()
        listener = DirectListener()
        self.server = open_server(MemoryJobManager(), listeners={"loft": listener})
        await self.server.__aenter__()
        self.client = listener.client(options)
        return self

    async def call(self, verb, parameters):
        return await self.client.call(verb, parameters)

    def watch(self, parameters):
        return self.client.watch(parameters)

    async def aclose(self):
        await self.server.__aexit__(None, None, None)
'''

PLUGIN = """
from contest_core import hookimpl

@hookimpl
def contest_register_clients(registry):
    registry.add("pigeon", "carrier_client:Pigeon", summary="One request per pigeon.")
"""

PROGRAM = """
import asyncio

from contest_core.client import connect, connect_sync

JOB = '{"JobName": "j"}'

async def main():
    async with connect("pigeon:loft") as contest:
        job = (await contest.start(JOB)).result().job_id
        async with contest.watch(job_id=job) as watch:
            print((await anext(watch)).data.event_name)
            await contest.stop(job)
            print([event.data.event_name async for event in watch])

asyncio.run(main())
with connect_sync("PIGEON:loft") as contest:
    job = contest.start(JOB).result().job_id
    contest.stop(job)
    with contest.watch(job_id=job) as watch:
        print([event.sequence_id for event in watch])
"""

Contest = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def pigeons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Installs a distribution with a client, as pip would."""
    site = tmp_path / "site"
    info = site / "contest_carrier-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: contest-carrier\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[contest]\ncarrier = carrier_plugin\n")
    (site / "carrier_plugin.py").write_text(PLUGIN)
    (site / "carrier_client.py").write_text(CLIENT)
    monkeypatch.setenv("PYTHONPATH", str(site), prepend=":")


@pytest.mark.usefixtures("pigeons")
def test_both_clients_know_the_scheme_of_a_plugin(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=40, cwd=tmp_path
    )
    assert ran.stdout.splitlines() == ["JobStateStarted", "['JobStateCancelled']", "[1, 2]"], ran.stderr


@pytest.mark.usefixtures("pigeons")
def test_the_program_asks_completes_and_tells_of_the_scheme_of_a_plugin(contest: Contest) -> None:
    asked = contest("version", "-a", "pigeon:loft")
    assert (asked.returncode, asked.stderr) == (0, "")
    assert " at pigeon:loft\n" in asked.stdout
    lost = contest("list", "-a", "pigeon:lost")
    assert (lost.returncode, lost.stderr.splitlines()[0]) == (
        3,
        "contest: cannot reach pigeon:lost: it did not come back",
    )
    wrong = contest("list", "-a", "owl:x")
    assert wrong.returncode == 2
    assert " https:, pigeon:, stdio:, " in wrong.stderr


@pytest.mark.usefixtures("pigeons")
@pytest.mark.parametrize(("begun", "ends"), [("pi", ["pigeon:"]), ("w", ["ws:", "wss:"])])
def test_the_beginning_of_an_address_is_completed(
    contest: Contest, begun: str, ends: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    line = f"contest list -a {begun}"
    for name, value in (("_CONTEST_COMPLETE", "bash_complete"), ("COMP_WORDS", line), ("COMP_CWORD", "3")):
        monkeypatch.setenv(name, value)
    found: Any = contest().stdout.split()
    assert found == [f"plain,{end}" for end in ends]
