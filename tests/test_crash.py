"""kill -9 at any instant, any number of times: every job ends, and no finished target-step has run twice."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

SECONDS = 30.0
"""No wait is longer."""

CONFIG = """
server: {on_terminate: drain}
listeners:
  - http: {port: 0}
job_manager:
  local: {store: "sqlite:///jobs.db", stop_grace: 4s}
"""

PLUGIN = '''
"""Steps that write down what they do, to the file that CRASH_LOG names."""

import asyncio, os, random
from msgspec import Struct
from contest_core import hookimpl
from contest_runner.step import OnInterrupt, Step

class Pause(Struct, frozen=True, kw_only=True):
    most: str = "0"

def say(word, target, context):
    info = context.info
    line = f"{word} {info.job_id} {info.run_id} {info.test} {info.step} {target.id}\\n"
    fd = os.open(os.environ["CRASH_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, line.encode())
    os.close(fd)

class Mark(Step):
    """A target that it was in when the server was killed fails."""
    Parameters = Pause
    display_name = "Mark"

    async def run(self, target, parameters, context):
        say("begin", target, context)
        await asyncio.sleep(random.random() * float(parameters.most))
        await context.set_variable("mine", target.id)
        say("end", target, context)

class Again(Mark):
    """Harmless twice."""
    display_name = "Again"
    on_interrupt = OnInterrupt.RERUN

class On(Step):
    """Goes on where it was: three parts, each of which is done once unless the save was lost."""
    Parameters = Pause
    display_name = "On"
    on_interrupt = OnInterrupt.RESUME

    async def run(self, target, parameters, context):
        done = context.saved or 0
        say(f"resume{done}", target, context)
        while done < 3:
            await asyncio.sleep(random.random() * float(parameters.most))
            done += 1
            await context.save(done)
            say(f"saved{done}", target, context)
        say("end", target, context)

class Child(Step):
    """Leaves a process of its own in the background, in a session of its own."""
    Parameters = Pause
    display_name = "Child"

    async def run(self, target, parameters, context):
        script = "setsid sleep 1000 & setsid sleep 1000 >/dev/null 2>&1 &"
        async with await context.spawn(["sh", "-c", script]) as process:
            await process.wait()
        await asyncio.sleep(random.random() * float(parameters.most))

@hookimpl
def contest_register_steps(registry):
    for name, kind in (("mark", "Mark"), ("again", "Again"), ("on", "On"), ("child", "Child")):
        registry.add(name, f"crash_plugin:{kind}")
'''

STEPS = (("mark", "one"), ("again", "two"), ("on", "three"), ("child", "four"), ("mark", "five"))


class World:
    """A folder with a configuration, a store, a plugin; and the server that runs there just now."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "steps.log"
        self.log.touch()
        (folder / "contest.yaml").write_text(CONFIG)
        self.install_plugin()
        self.process: subprocess.Popen[bytes] | None = None
        self.address = ""

    def install_plugin(self) -> None:
        site = self.folder / "site"
        info = site / "crash_plugin-1.0.dist-info"
        info.mkdir(parents=True)
        (site / "crash_plugin.py").write_text(PLUGIN)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: crash-plugin\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[contest]\ncrash = crash_plugin\n")

    def begin(self, *, ready: bool = True) -> None:
        environment = {**os.environ, "PYTHONPATH": str(self.folder / "site"), "CRASH_LOG": str(self.log)}
        said = self.folder / "stderr"
        with said.open("wb") as stderr:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    "from contest_core.cli import main; main()",
                    "serve",
                    "-c",
                    "contest.yaml",
                ],
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
            )
        if ready:
            end = time.monotonic() + SECONDS
            while not (found := re.search(r"listening on (\S+)", said.read_text())):
                assert self.process.poll() is None, said.read_text()
                assert time.monotonic() < end, said.read_text()
                time.sleep(0.01)
            self.address = found[1]

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(SECONDS)

    def ask(self, verb: str, **form: object) -> Any:
        body = urllib.parse.urlencode({"requestor": "tests", **form}).encode()
        with urllib.request.urlopen(f"{self.address}/{verb}", data=body, timeout=SECONDS) as answer:
            return json.load(answer)

    def status(self, job: int) -> Any:
        return self.ask("status", jobID=job)["Data"]["Status"]

    def entries(self) -> dict[int, Any]:
        return {entry["JobID"]: entry for entry in self.ask("list")["Data"]["Jobs"]}

    def until_all_ended(self) -> None:
        end = time.monotonic() + SECONDS
        while any(entry["Verdict"] is None for entry in self.entries().values()):
            assert time.monotonic() < end, self.entries()
            time.sleep(0.05)

    def finish(self) -> None:
        """Ends the server in good order."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(SECONDS) == 0

    def rows(self, question: str) -> list[tuple[Any, ...]]:
        with sqlite3.connect(self.folder / "jobs.db") as database:
            found = database.execute(question).fetchall()
        database.close()
        return found

    def processes(self) -> list[str]:
        """The processes of any job of this store, by the marker in their environment."""
        store = self.rows("select value from meta where key = 'store_id'")[0][0]
        found = []
        for entry in Path("/proc").iterdir():
            with suppress(OSError):
                if (
                    entry.name.isdigit()
                    and f"CONTEST_MARKER={store}:".encode() in (entry / "environ").read_bytes()
                ):
                    found.append(f"{entry.name} {(entry / 'cmdline').read_bytes()!r}")
        return found


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    if made.process is not None and made.process.poll() is None:
        made.process.kill()
        made.process.wait(SECONDS)


def descriptor(name: str, *, targets: int = 4, most: float = 0.02, runs: int = 1) -> dict[str, Any]:
    """A job that takes all kinds of steps."""
    steps = [{"name": kind, "label": label, "parameters": {"most": [str(most)]}} for kind, label in STEPS]
    tests = [
        {
            "TargetManagerName": "TargetList",
            "TargetManagerAcquireParameters": {"Targets": [{"ID": f"{name}-{n}"} for n in range(targets)]},
            "TargetManagerReleaseParameters": {},
            "TestFetcherName": "literal",
            "TestFetcherFetchParameters": {"TestName": test, "Steps": steps},
        }
        for test in ("first", "second")
    ]
    reporting = {"RunReporters": [{"Name": "noop"}], "FinalReporters": [{"Name": "noop"}]}
    return {
        "JobName": name,
        "Version": "1.0",
        "Runs": runs,
        "TestDescriptors": tests,
        "Reporting": reporting,
    }


def check_jobs(world: World, started: dict[int, str]) -> None:
    """What has to hold when all jobs have ended, whatever happened before."""
    entries = world.entries()
    assert started.keys() <= entries.keys(), "an answered start is gone"
    events = world.rows(
        "select job_id, sequence, run_id, test, step, target, name from events order by position"
    )
    for job, entry in entries.items():
        own = [row for row in events if row[0] == job]
        assert [row[1] for row in own] == list(range(1, len(own) + 1)), "the sequence is not dense"
        assert own[-1][6] == entry["State"]
        assert [row[6] for row in own].count(entry["State"]) == 1, "a job ends once"
    check_steps(world, entries, events)
    assert world.ask("locks")["Data"]["Locks"] == []
    assert world.rows("select * from locks") == []
    assert world.processes() == []


def check_steps(world: World, entries: dict[int, Any], events: list[tuple[Any, ...]]) -> None:
    begun: Counter[tuple[str, ...]] = Counter()
    ended: Counter[tuple[str, ...]] = Counter()
    saved: Counter[tuple[str, ...]] = Counter()
    for line in world.log.read_text().splitlines():
        word, *where = line.split()
        counter = begun if word == "begin" or word.startswith("resume") else ended if word == "end" else saved
        counter[(*where, word) if counter is saved else tuple(where)] += 1
    walks: dict[tuple[Any, ...], list[tuple[str, str]]] = defaultdict(list)
    for job, _, run, test, step, target, name in events:
        if name in ("TargetIn", "TargetOut", "TargetErr"):
            walks[job, run, test, target].append((name, step))
    kinds = {label: kind for kind, label in STEPS}
    labels = [label for _, label in STEPS]
    for (job, run, test, target), walk in walks.items():
        assert walk[: 2 * len(labels)] == walk, "a target-step is told of twice"
        expected = [(name, label) for label in labels for name in ("TargetIn", "TargetOut")]
        failed = walk[-1][0] == "TargetErr"
        if failed:
            assert kinds[walk[-1][1]] in ("mark", "child"), "only what may not run twice fails"
            assert walk[:-1] == expected[: len(walk) - 1]
        elif entries[job]["State"] == "JobStateCompleted":
            assert walk == expected, "a step was skipped"
        for name, label in walk:
            where = (str(job), str(run), test, label, target)
            if kinds[label] == "mark":
                assert begun[where] <= 1, "it may not run twice"
            if name == "TargetOut" and kinds[label] != "child":
                assert ended[where] >= 1, "it was said to have passed and never ran"
            if name == "TargetOut" and kinds[label] == "mark":
                assert begun[where] == ended[where] == 1
    assert max(saved.values(), default=0) <= 1, "what was saved is not done again"


def crash(world: World, seed: int, rounds: int) -> None:
    chance = random.Random(seed)
    started: dict[int, str] = {}
    finished: dict[int, Any] = {}
    for number in range(rounds):
        world.begin()
        for job, before in finished.items():
            assert world.status(job) == before, "the status of a finished job has changed"
        for job, key in started.items():
            name = key.partition("-")[2]
            assert (
                world.ask("start", jobDesc=json.dumps(descriptor(name)), startKey=key)["Data"]["JobID"] == job
            )
        for each in range(3):
            key = f"key-job{number}x{each}"
            text = json.dumps(descriptor(key.partition("-")[2]))
            job = world.ask("start", jobDesc=text, startKey=key)["Data"]["JobID"]
            assert job not in started, "a number is used again"
            started[job] = key
        time.sleep(chance.random() * 0.5)
        stopped = chance.choice([None, *started])
        if stopped is not None and number % 2:
            world.ask("stop", jobID=stopped)
        for job, entry in world.entries().items():
            if entry["Verdict"] is not None and job not in finished:
                finished[job] = world.status(job)
        time.sleep(chance.random() * 0.05)
        world.kill()
    world.begin()
    world.until_all_ended()
    check_jobs(world, started)
    world.finish()


def test_after_any_kill_every_job_ends_and_no_finished_step_has_run_twice(world: World) -> None:
    crash(world, seed=1, rounds=5)


@pytest.mark.heavy
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(2, 12))
def test_after_very_many_kills_it_still_holds(world: World, seed: int) -> None:
    crash(world, seed=seed, rounds=30)
