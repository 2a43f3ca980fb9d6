"""A server whose disk is full: it refuses what it cannot write down, ends within a bound, and loses nothing."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

SECONDS = 30.0
PROGRAM = [sys.executable, "-c", "from contest_core.cli import main; main()"]
CONFIG = """
server: {grace: 2s, on_terminate: ENDING}
listeners: [{http: {port: 0}}]
job_manager: {local: {store: "sqlite:///disk/jobs.db"}}
"""


def descriptor(name: str, *steps: tuple[str, dict[str, list[str]]], targets: int = 1) -> str:
    test = {
        "TargetManagerName": "TargetList",
        "TargetManagerAcquireParameters": {"Targets": [{"ID": f"{name}-{n}"} for n in range(targets)]},
        "TargetManagerReleaseParameters": {},
        "TestFetcherName": "literal",
        "TestFetcherFetchParameters": {
            "TestName": "t",
            "Steps": [
                {"name": kind, "label": f"step_{n}", "parameters": parameters}
                for n, (kind, parameters) in enumerate(steps)
            ],
        },
    }
    reporting = {"RunReporters": [{"Name": "noop"}]}
    return json.dumps(
        {"JobName": name, "Version": "1.0", "Runs": 1, "TestDescriptors": [test], "Reporting": reporting}
    )


SLEEP = ("sleep", {"duration": ["1h"]})
NAP = ("sleep", {"duration": ["500ms"]})
SAY = ("echo", {"text": ["x"]})
LARGE = [("echo", {"text": ["x" * 30_000]})] * 20


class Server:
    """`contest serve` over a store in `disk`, and what was said on its stderr."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process: subprocess.Popen[str]
        self.address = ""
        self.said = ""

    def begin(self, ending: str = "cancel") -> None:
        (self.folder / "contest.yaml").write_text(CONFIG.replace("ENDING", ending))
        # What it says goes through a pipe: a file could not grow either, once its files may not.
        self.process = subprocess.Popen(
            [*PROGRAM, "serve", "-c", "contest.yaml"],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.said = ""
        self._listening = Thread(target=self._listen, args=(self.process,))
        self._listening.start()
        self.address = self.until_said(r"listening on (\S+)")[1]

    def _listen(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        with process.stderr as stderr:
            for line in stderr:
                self.said += line

    def until_said(self, pattern: str) -> re.Match[str]:
        made: re.Match[str] = self.until(lambda: re.search(pattern, self.said))
        return made

    def until(self, condition: Callable[[], Any]) -> Any:
        limit = time.monotonic() + SECONDS
        while not (found := condition()):
            assert time.monotonic() < limit, self.said
            time.sleep(0.02)
        return found

    def ask(self, verb: str, **parameters: object) -> dict[str, Any]:
        body = urllib.parse.urlencode({"requestor": "me", **parameters}).encode()
        try:
            with urllib.request.urlopen(f"{self.address}/{verb}", data=body, timeout=SECONDS) as answer:
                return {"status": 200, **json.load(answer)}
        except urllib.error.HTTPError as error:
            with error:
                return {"status": error.code, **json.load(error)}

    def start(self, job: str) -> int:
        answer = self.ask("start", jobDesc=job)
        assert answer["status"] == 200, answer
        number: int = answer["Data"]["JobID"]
        return number

    def state(self, job: int) -> str:
        found: str = self.ask("status", jobID=job)["Data"]["Status"]["State"]
        return found

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.address}/readyz", timeout=SECONDS):
                return True
        except urllib.error.HTTPError as error:
            with error:
                return False

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.ended()

    def ended(self) -> int:
        """The exit status; all was said by then."""
        status = self.process.wait(SECONDS)
        self._listening.join(SECONDS)
        return status

    def kill(self) -> None:
        self.process.kill()
        self.ended()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "disk").mkdir()
    made = Server(tmp_path)
    yield made
    made.kill()


class Disk:
    """What the server's files may grow to: as full a disk as a test can have that is not root."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def fill(self) -> None:
        """Not even what the store has is to be written again."""
        self._limit(1)

    def make_room(self) -> None:
        self._limit(resource.RLIM_INFINITY)

    def _limit(self, size: int) -> None:
        resource.prlimit(self._server.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


@pytest.fixture
def disk(server: Server) -> Disk:
    return Disk(server)


@pytest.fixture
def small_disk(server: Server) -> Iterator[Path]:
    """A real file system of a megabyte, for who may mount one."""
    place = server.folder / "disk"
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a file system cannot be mounted here")
    yield place
    server.kill()
    subprocess.run(["umount", str(place)], check=True)


def fill(place: Path) -> Path:
    """Takes all room that is left."""
    filler = place / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                pass
    return filler


def test_on_a_full_disk_a_job_is_refused_at_once_and_taken_when_there_is_room(
    server: Server, small_disk: Path
) -> None:
    server.begin()
    filler = fill(small_disk)
    large = descriptor("large", *LARGE)
    for _ in range(2):
        began = time.monotonic()
        answer = server.ask("start", jobDesc=large)
        assert time.monotonic() - began < 2
        assert (answer["status"], answer["Code"]) == (503, "unavailable")
        assert f"the disk of {small_disk / 'jobs.db'} is full: make room" in answer["Msg"]
    filler.unlink()
    server.until(server.ready)
    # Nothing had happened: this is the store's first job.
    assert server.start(descriptor("small", SAY)) == 1
    assert server.end() == 0, server.said


def test_while_the_disk_is_full_jobs_are_neither_taken_nor_stopped_and_all_else_is_answered(
    server: Server, disk: Disk
) -> None:
    server.begin()
    ended = server.start(descriptor("ended", SAY))
    server.until(lambda: server.state(ended) == "JobStateCompleted")
    job = server.start(descriptor("long", SLEEP))
    stuck = server.start(descriptor("short", NAP, SAY))
    disk.fill()
    server.until(lambda: not server.ready())
    for verb, parameters in (
        ("start", {"jobDesc": descriptor("another", SAY)}),
        ("stop", {"jobID": job}),
        ("retry", {"jobID": ended}),
    ):
        began = time.monotonic()
        answer = server.ask(verb, **parameters)
        assert time.monotonic() - began < 2
        assert (answer["status"], answer["Code"]) == (503, "unavailable"), verb
        assert "the disk of " in answer["Msg"]
    assert server.state(job) == server.state(stuck) == "JobStateStarted"
    disk.make_room()
    server.until(server.ready)
    server.until(lambda: server.state(stuck) == "JobStateCompleted")
    assert server.state(job) == "JobStateStarted"
    assert server.ask("list")["Data"]["JobIDs"] == [ended, job, stuck]
    assert server.end() == 0, server.said


def test_the_end_on_a_full_disk_is_bounded_and_the_next_start_finds_everything(
    server: Server, disk: Disk
) -> None:
    server.begin()
    jobs = [server.start(descriptor(name, SLEEP)) for name in ("one", "two")]
    stuck = server.start(descriptor("short", NAP, SAY))
    disk.fill()
    server.until(lambda: not server.ready())
    assert server.end() == 3, server.said
    assert re.search(r"the end waits for the store: the disk of .*; it is given up after 2 s", server.said)
    last = server.said.splitlines()[-1]
    assert re.match("contest: the end did not wait any longer for the store: the disk of ", last)
    assert last.endswith("the next start takes the jobs on")
    assert "unexpected error" not in server.said
    server.begin()
    server.until(lambda: server.state(stuck) in ("JobStateCompleted", "JobStateFailed"))
    assert {server.state(job) for job in jobs} <= {"JobStateStarted", "JobStateCancelling"}
    assert server.ask("list")["Data"]["JobIDs"] == [*jobs, stuck]
    assert server.end() == 0, server.said


def test_room_that_is_made_in_time_lets_the_end_go_on_as_if_nothing_had_been(
    server: Server, disk: Disk
) -> None:
    server.begin()
    job = server.start(descriptor("long", SLEEP))
    server.start(descriptor("short", NAP, SAY))
    disk.fill()
    server.until(lambda: not server.ready())
    server.process.send_signal(signal.SIGTERM)
    server.until_said("the end waits for the store")
    disk.make_room()
    assert server.ended() == 0, server.said
    server.begin()
    assert server.state(job) == "JobStateCancelled"
    assert server.end() == 0, server.said


def test_jobs_that_shall_finish_have_all_the_time_until_the_end_is_made_harder(
    server: Server, disk: Disk
) -> None:
    server.begin("drain")
    server.start(descriptor("short", NAP, SAY))
    disk.fill()
    server.until(lambda: not server.ready())
    server.process.send_signal(signal.SIGTERM)
    server.until_said(r"the end waits for the store: the disk of .*\n")
    assert "given up" not in server.said
    assert server.end() == 3, server.said
    assert "given up after 2 s" in server.said


def test_a_server_that_has_nothing_to_write_ends_well_on_a_full_disk(
    server: Server, small_disk: Path
) -> None:
    server.begin()
    fill(small_disk)
    large = descriptor("large", *LARGE)
    assert server.ask("start", jobDesc=large)["status"] == 503
    assert server.end() == 0, server.said


def test_no_process_of_a_job_is_left_when_the_end_is_given_up(server: Server, disk: Disk) -> None:
    server.begin()
    pid = server.folder / "pid"
    script = {"executable": ["sh"], "args": ["-c", f"echo $$ > {pid}; trap '' TERM; sleep 3600 & wait; wait"]}
    server.start(descriptor("process", ("cmd", script)))
    server.until(lambda: pid.exists() and pid.read_text().strip())
    server.start(descriptor("short", NAP, SAY))
    disk.fill()
    server.until(lambda: not server.ready())
    assert server.end() == 3, server.said
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
