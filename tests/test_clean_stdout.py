"""`contest serve` over stdin and stdout, with a plugin that writes to descriptor 1 whenever it can."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

SECONDS = 40

LOUD = """
import atexit
import os
import threading
import time
from contest_core import hookimpl

print("printed by the import")
os.write(1, b"written by the import\\n")
os.system("echo echoed by the import")
atexit.register(lambda: (print("printed at the exit"), os.write(1, b"written at the exit\\n")))


def write_on_and_on():
    while True:
        os.write(1, b"a thread\\n")
        time.sleep(0.0002)


threading.Thread(target=write_on_and_on, daemon=True).start()


@hookimpl
def contest_register_steps(registry):
    registry.add("loud", "contest_loud_steps:Loud")


@hookimpl
def contest_register_job_managers(registry):
    registry.add("loud", "contest_loud_steps:LoudManager")
"""

STEPS = """
import os
from msgspec import Struct
from contest_runner.manager import LocalJobManager
from contest_runner.step import OnInterrupt, Step

os.write(1, b"written by the import of the steps\\n")


class Nothing(Struct, frozen=True):
    pass


class Loud(Step[Nothing]):
    Parameters = Nothing
    display_name = "Loud"
    on_interrupt = OnInterrupt.RERUN

    async def run(self, target, parameters, context):
        os.write(1, b"written by the step\\n")
        print("printed by the step")
        os.read(0, 100)
        if not os.path.exists("go on"):
            await context.stopping


class LoudManager(LocalJobManager):
    async def serve(self, context):
        os.write(1, b"written by the start-up\\n")
        await super().serve(context)
"""

CONFIG = 'listeners: [{stdio: {}}]\njob_manager: {loud: {store: "sqlite:///loud.db"}}\n'

JOB = {
    "JobName": "loud",
    "Version": "1.0",
    "Runs": 1,
    "TestDescriptors": [
        {
            "TargetManagerName": "TargetList",
            "TargetManagerAcquireParameters": {"Targets": [{"ID": "board"}]},
            "TargetManagerReleaseParameters": {},
            "TestFetcherName": "literal",
            "TestFetcherFetchParameters": {
                "TestName": "loud",
                "Steps": [{"name": "loud", "label": "loud", "parameters": {}}],
            },
        }
    ],
    "Reporting": {"RunReporters": [{"Name": "noop"}]},
}

Serve = Callable[..., subprocess.Popen[bytes]]


def request(verb: str, number: int, **parameters: Any) -> bytes:
    asked = {"jsonrpc": "2.0", "id": number, "method": verb, "params": {"requestor": "me", **parameters}}
    return json.dumps(asked).encode() + b"\n"


def write_until_nobody_reads(descriptor: int) -> None:
    while True:
        os.write(descriptor, b"\n" * 1000)


def identities(stdout: bytes) -> list[int]:
    """Of the answers, of which there is one a line and nothing else."""
    answers = [json.loads(line) for line in stdout.splitlines()]
    assert all(answer["jsonrpc"] == "2.0" and "result" in answer for answer in answers), answers
    return [answer["id"] for answer in answers]


class Said:
    """Reads what a process says on stderr, so that it never waits for a reader."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._lines: list[bytes] = []
        self._found = threading.Event()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as stderr:
            for line in stderr:
                if line.startswith(b"listening on http"):
                    self._lines.append(line)
                    self._found.set()

    def address(self) -> str:
        assert self._found.wait(SECONDS)
        return self._lines[0].split()[2].decode()

    def join(self) -> None:
        self._thread.join(SECONDS)

    @contextmanager
    def at_most(self, seconds: float, process: subprocess.Popen[bytes]) -> Iterator[None]:
        """Kills the process when the block takes longer."""
        timer = threading.Timer(seconds, process.kill)
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts the server, with the loud plugin installed."""
    site = tmp_path / "site"
    found = site / "contest_loud-1.0.dist-info"
    found.mkdir(parents=True)
    (site / "contest_loud.py").write_text(LOUD)
    (site / "contest_loud_steps.py").write_text(STEPS)
    (found / "METADATA").write_text("Metadata-Version: 2.1\nName: contest-loud\nVersion: 1.0\n")
    (found / "entry_points.txt").write_text("[contest]\nloud = contest_loud\n")
    (tmp_path / "contest.yaml").write_text(CONFIG)
    path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    # What is buffered comes out at the worst moment.
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    begun: list[subprocess.Popen[bytes]] = []

    def start(*prelude: str) -> subprocess.Popen[bytes]:
        program = [sys.executable, "-c", "from contest_core.cli import main; main()"]
        process = subprocess.Popen(
            [*prelude, *program, "serve", "-c", "contest.yaml"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=tmp_path,
            env={**kept, "PYTHONPATH": path},
        )
        begun.append(process)
        return process

    yield start
    for process in begun:
        process.kill()
        process.wait(SECONDS)
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()


def test_nothing_but_answers_reaches_stdout_from_the_first_moment_to_the_last(
    serve: Serve, tmp_path: Path
) -> None:
    (tmp_path / "go on").touch()
    given = request("start", 1, jobDesc=JOB) + request("version", 2)
    out, err = serve().communicate(given, timeout=SECONDS)
    assert identities(out) == [1, 2]
    said = set(err.decode().splitlines())
    assert said > {
        "printed by the import",
        "written by the import",
        "echoed by the import",
        "written by the import of the steps",
        "written by the start-up",
        "written by the step",
        "printed by the step",
        "a thread",
        "written at the exit",
        "printed at the exit",
    }


def test_a_job_that_goes_on_after_a_crash_is_there_before_the_listener_and_tears_nothing(
    serve: Serve, tmp_path: Path
) -> None:
    killed = serve()
    assert killed.stdin is not None
    assert killed.stdout is not None
    assert killed.stderr is not None
    killed.stdin.write(request("start", 1, jobDesc=JOB))
    killed.stdin.flush()
    assert identities(killed.stdout.readline()) == [1]
    assert any(line == b"written by the step\n" for line in killed.stderr)
    killed.kill()
    (tmp_path / "go on").touch()
    out, err = serve().communicate(request("version", 1) + request("list", 2), timeout=SECONDS)
    assert identities(out) == [1, 2]
    assert b"\nwritten by the step\n" in err


def serve_beside_http(serve: Serve, folder: Path) -> tuple[subprocess.Popen[bytes], Said]:
    text = CONFIG.replace("{stdio: {}}", "{stdio: {}}, {http: {port: 0}}")
    (folder / "contest.yaml").write_text(text)
    process = serve()
    return process, Said(process)


def test_beside_another_listener_the_end_of_input_ends_the_output_and_stdout_stays_clean(
    serve: Serve, tmp_path: Path
) -> None:
    process, said = serve_beside_http(serve, tmp_path)
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdin as stdin:
        stdin.write(request("version", 1) + request("list", 2))
    # The end of file comes while the server goes on, a thread of which writes to descriptor 1 on and on.
    with said.at_most(SECONDS, process):
        assert identities(process.stdout.read()) == [1, 2]
    address = said.address()
    for _ in range(3):
        with urllib.request.urlopen(f"{address}/readyz", timeout=SECONDS) as answer:
            assert answer.status == 200
    assert os.readlink(f"/proc/{process.pid}/fd/1") == os.readlink(f"/proc/{process.pid}/fd/2")
    process.send_signal(signal.SIGTERM)
    assert process.wait(SECONDS) == 0
    said.join()


def test_beside_another_listener_a_reader_that_is_gone_lets_who_writes_know(
    serve: Serve, tmp_path: Path
) -> None:
    process, said = serve_beside_http(serve, tmp_path)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(request("version", 1))
    process.stdin.flush()
    assert identities(process.stdout.readline()) == [1]
    process.stdout.close()
    with said.at_most(SECONDS, process), pytest.raises(BrokenPipeError):
        write_until_nobody_reads(process.stdin.fileno())
    assert process.poll() is None
    process.kill()
    said.join()


def test_a_closed_stdin_is_an_input_without_requests(serve: Serve) -> None:
    process = serve("sh", "-c", 'exec "$@" <&-', "sh")
    out, _ = process.communicate(timeout=SECONDS)
    assert (process.returncode, out) == (0, b"")


def test_a_closed_stdout_fails_the_start_and_says_so(serve: Serve) -> None:
    process = serve("sh", "-c", 'exec "$@" >&-', "sh")
    out, err = process.communicate(request("version", 1), timeout=SECONDS)
    assert (process.returncode, out) == (3, b"")
    told = "contest: listener stdio: stdout is closed, and a stdio listener has nowhere to answer"
    assert told in err.decode().splitlines()
    assert b"Traceback" not in err


def test_a_closed_stderr_loses_the_log_and_nothing_else(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "go on").touch()
    process = serve("sh", "-c", 'exec "$@" 2>&-', "sh")
    out, _ = process.communicate(request("start", 1, jobDesc=JOB) + request("version", 2), timeout=SECONDS)
    assert process.returncode == 0
    assert identities(out) == [1, 2]
