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
from collections.abc import Callable, Iterator, Mapping
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
from contest_runner.parts import Reporter, ReportResult, TargetManager
from contest_runner.step import OnInterrupt, Step, TargetFailed
from contest_runner.target import Target

class Pause(Struct, frozen=True, kw_only=True):
    most: str = "0"

def say(word, target, context):
    info = context.info
    line = f"{word} {info.job_id} {info.run_id} {info.test} {info.attempt} {info.step} {target.id}\\n"
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

class Flunk(Mark):
    """Fails every other target in the first attempt."""
    display_name = "Flunk"
    on_interrupt = OnInterrupt.RERUN

    async def run(self, target, parameters, context):
        await super().run(target, parameters, context)
        if context.info.attempt == 0 and target.id[-1] in "13579":
            raise TargetFailed("not yet")

class Child(Step):
    """Leaves a process of its own in the background, in a session of its own."""
    Parameters = Pause
    display_name = "Child"

    async def run(self, target, parameters, context):
        script = "setsid sleep 1000 & setsid sleep 1000 >/dev/null 2>&1 &"
        async with await context.spawn(["sh", "-c", script]) as process:
            await process.wait()
        await asyncio.sleep(random.random() * float(parameters.most))

def die_once(word):
    """kill -9 at this very point, the first time."""
    flag = os.path.join(os.path.dirname(os.environ["CRASH_LOG"]), f"died-at-{word}")
    if not os.path.exists(flag):
        open(flag, "w").close()
        os.kill(os.getpid(), 9)

class At(Struct, frozen=True, kw_only=True):
    at: str = ""

class Dying(Step):
    """Dies inside the step."""
    Parameters = At
    display_name = "Dying"

    async def run(self, target, parameters, context):
        die_once("step")

class Nap(Step):
    """Does not obey a stop for a while; dies meanwhile."""
    Parameters = At
    display_name = "Nap"

    async def run(self, target, parameters, context):
        await context.stopping
        die_once("stop")

class DyingReporter(Reporter):
    RunParameters = FinalParameters = At
    judges = False

    async def run_report(self, status, parameters, context):
        if parameters.at == "run":
            die_once("run")
        return ReportResult(success=True)

    async def final_report(self, status, parameters, context):
        if parameters.at == "final":
            die_once("final")
        return ReportResult(success=True)

class DyingManager(TargetManager):
    AcquireParameters = ReleaseParameters = At

    async def acquire(self, parameters, context):
        targets = await context.locker.acquire([Target(id="mortal")], deadline=context.deadline)
        if parameters.at == "acquire":
            die_once("acquire")
        return targets

    async def release(self, targets, parameters, context):
        if parameters.at == "release":
            die_once("release")

@hookimpl
def contest_register_target_managers(registry):
    registry.add("dying", "crash_plugin:DyingManager")

@hookimpl
def contest_register_reporters(registry):
    registry.add("dying", "crash_plugin:DyingReporter")

@hookimpl
def contest_register_steps(registry):
    registry.add("dying", "crash_plugin:Dying")
    registry.add("nap", "crash_plugin:Nap")
    for name, kind in (("mark", "Mark"), ("again", "Again"), ("on", "On"), ("child", "Child"), ("flunk", "Flunk")):
        registry.add(name, f"crash_plugin:{kind}")
'''

STEPS = (("mark", "s1"), ("again", "s2"), ("flunk", "s3"), ("on", "s4"), ("child", "s5"), ("mark", "s6"))
CLEANUP = (("again", "c1"), ("mark", "c2"))
RETRIES = 2


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
        path = os.pathsep.join(filter(None, [str(self.folder / "site"), os.environ.get("PYTHONPATH")]))
        environment = {**os.environ, "PYTHONPATH": path, "CRASH_LOG": str(self.log)}
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

    def until(self, condition: Callable[[], Any]) -> None:
        end = time.monotonic() + SECONDS
        while not condition():
            assert time.monotonic() < end, self.entries()
            time.sleep(0.02)

    def until_all_ended(self) -> None:
        self.until(lambda: all(entry["Verdict"] is not None for entry in self.entries().values()))

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
    steps, cleanup = (
        [{"name": kind, "label": label, "parameters": {"most": [str(most)]}} for kind, label in each]
        for each in (STEPS, CLEANUP)
    )
    tests = [
        {
            "TargetManagerName": "TargetList",
            "TargetManagerAcquireParameters": {"Targets": [{"ID": f"{name}-{n}"} for n in range(targets)]},
            "TargetManagerReleaseParameters": {},
            "TestFetcherName": "literal",
            "TestFetcherFetchParameters": {"TestName": test, "Steps": steps},
            "CleanupFetcherName": "literal",
            "CleanupFetcherFetchParameters": {"Steps": cleanup},
            "RetryParameters": {"NumRetries": RETRIES, "RetryInterval": "20ms"},
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


def check_jobs(world: World, started: Mapping[int, str]) -> None:
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
    assert world.ask("locks")["Data"]["Locks"] == []
    assert world.rows("select * from locks") == []
    assert world.processes() == []


def check_steps(world: World) -> None:
    """What has to hold for the steps of jobs made by `descriptor`."""
    entries = world.entries()
    events = world.rows(
        "select job_id, run_id, test, attempt, phase, step, target, name from events order by position"
    )
    begun: Counter[tuple[str, ...]] = Counter()
    ended: Counter[tuple[str, ...]] = Counter()
    saved: Counter[tuple[str, ...]] = Counter()
    for line in world.log.read_text().splitlines():
        word, *place = line.split()
        where = tuple(place)
        if word == "end":
            ended[where] += 1
        elif word.startswith("saved"):
            saved[(*where, word)] += 1
        else:
            begun[where] += 1
    walks: dict[tuple[Any, ...], list[tuple[str, str]]] = defaultdict(list)
    for job, run, test, attempt, phase, step, target, name in events:
        if name == "TargetReleased":
            for each in ("test", "cleanup"):
                walks[job, run, test, attempt, each, target].extend(())
        elif name in ("TargetIn", "TargetOut", "TargetErr"):
            walks[job, run, test, attempt, phase, target].append((name, step))
    kinds = {label: kind for kind, label in (*STEPS, *CLEANUP)}
    passed: dict[tuple[Any, ...], list[bool]] = defaultdict(list)
    for (job, run, test, attempt, phase, target), walk in walks.items():
        labels = [label for _, label in (STEPS if phase == "test" else CLEANUP)]
        if phase == "test":
            passed[job, run, test, attempt].append(walk[-1:] == [("TargetOut", labels[-1])])
        assert walk[: 2 * len(labels)] == walk, "a target-step is told of twice"
        expected = [(name, label) for label in labels for name in ("TargetIn", "TargetOut")]
        if walk and walk[-1][0] == "TargetErr":
            may = ("mark", "child", "flunk") if attempt == 0 else ("mark", "child")
            assert kinds[walk[-1][1]] in may, "only what may not run twice fails, and what fails at first"
            assert walk[:-1] == expected[: len(walk) - 1]
        elif phase == "cleanup" or entries[job]["State"] == "JobStateCompleted":
            assert walk == expected, "a step was skipped"
        for name, label in walk:
            one = (str(job), str(run), test, str(attempt), label, target)
            if kinds[label] == "mark":
                assert begun[one] <= 1, "it may not run twice"
            if name == "TargetOut" and kinds[label] != "child":
                assert ended[one] >= 1, "it was said to have passed and never ran"
            if name == "TargetOut" and kinds[label] == "mark":
                assert begun[one] == ended[one] == 1
    assert max(saved.values(), default=0) <= 1, "what was saved is not done again"
    for (job, run, test, attempt), each in passed.items():
        if entries[job]["State"] == "JobStateCompleted":
            again = (job, run, test, attempt + 1) in passed
            assert again is (not all(each) and attempt < RETRIES), "it is tried again when it has to be"


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
    check_steps(world)
    world.finish()


def test_after_any_kill_every_job_ends_and_no_finished_step_has_run_twice(world: World) -> None:
    crash(world, seed=1, rounds=4)


def mortal(at: str, kind: str = "again") -> dict[str, Any]:
    """A job in which the server dies at a certain point."""
    job = descriptor(at, runs=2)
    test = job["TestDescriptors"].pop()
    del test["CleanupFetcherName"], test["CleanupFetcherFetchParameters"], test["RetryParameters"]
    test["TargetManagerName"] = "dying"
    test["TargetManagerAcquireParameters"] = test["TargetManagerReleaseParameters"] = {"at": at}
    steps = [{"name": name, "label": name} for name in dict.fromkeys(("again", kind))]
    test["TestFetcherFetchParameters"]["Steps"] = steps
    reporter = {"Name": "dying", "Parameters": {"at": at}}
    job["TestDescriptors"] = [test]
    job["Reporting"] = {"RunReporters": [reporter], "FinalReporters": [reporter]}
    return job


def test_at_every_turning_point_a_kill_loses_and_doubles_nothing(world: World) -> None:
    world.begin()
    points = ("acquire", "step", "run", "release", "final", "stop")
    kinds = {"step": "dying", "stop": "nap"}
    for job, at in enumerate(points, start=1):
        text = json.dumps(mortal(at, kinds.get(at, "again")))
        assert world.ask("start", jobDesc=text)["Data"]["JobID"] == job
        if at == "stop":
            world.until(lambda: "nap" in str(world.rows("select step from events where name = 'TargetIn'")))
            with suppress(OSError):
                world.ask("stop", jobID=job)
        assert world.process is not None
        assert world.process.wait(SECONDS) == -signal.SIGKILL
        world.begin()
    world.until_all_ended()
    entries = world.entries()
    check_jobs(world, dict(enumerate(points, start=1)))
    states = {at: entries[job]["State"] for job, at in enumerate(points, start=1)}
    assert states == dict.fromkeys(points, "JobStateCompleted") | {"stop": "JobStateCancelled"}
    verdicts = {at: entries[job]["Verdict"] for job, at in enumerate(points, start=1)}
    assert verdicts == dict.fromkeys(points, "passed") | {"step": "error", "stop": "cancelled"}
    for job, at in enumerate(points, start=1):
        reports = world.status(job)["JobReport"]
        assert len(reports["RunReports"] or ()) == (0 if at == "stop" else 2)
        assert len(reports["FinalReports"] or ()) == (0 if at == "stop" else 1)
    interrupted = world.status(2)["RunStatuses"][0]["TestStatuses"][0]["TargetStatuses"][0]
    assert interrupted["Error"].startswith("interrupted")
    assert interrupted["Blame"] == "server"
    world.finish()


def test_a_job_whose_plugin_is_gone_fails_and_says_so(world: World) -> None:
    world.begin()
    job = world.ask("start", jobDesc=json.dumps(descriptor("orphan", most=5.0)))["Data"]["JobID"]
    world.until(lambda: world.status(job)["RunStatus"])
    world.kill()
    (world.folder / "site" / "crash_plugin.py").unlink()
    world.begin()
    world.until_all_ended()
    status = world.status(job)
    assert status["State"] == "JobStateFailed"
    assert "cannot be run here" in status["StateErrMsg"]
    assert "'mark'" in status["StateErrMsg"]
    assert world.entries()[job]["Verdict"] == "error"
    assert world.ask("locks")["Data"]["Locks"] == []
    world.finish()


@pytest.mark.heavy
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(2, 12))
def test_after_very_many_kills_it_still_holds(world: World, seed: int) -> None:
    crash(world, seed=seed, rounds=30)
