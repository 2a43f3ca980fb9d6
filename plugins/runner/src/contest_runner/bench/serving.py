"""A whole `contest serve`, a process of its own: the time to its first answer, its memory, a job beside a flood."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, perf_counter, sleep
from typing import Any, Final

import msgspec

from contest_runner.bench.jobs import descriptor
from contest_runner.bench.load import Flood, processor_time
from contest_runner.bench.wire_bytes import form_request

CONNECTIONS: Final = 64
"""Of a flood."""

_PATIENCE: Final = 60.0
_LONGEST_JOB: Final = 600.0
_MANAGER: Final = 'job_manager: {local: {store: "sqlite:///bench.db"}}\n'


def program(*arguments: str) -> list[str]:
    """The command line of `contest`: the installed script, as people start it, where there is one."""
    script = Path(sys.executable).with_name("contest")
    start = (
        [str(script)]
        if script.exists()
        else [sys.executable, "-c", "from contest_core.cli import main; main()"]
    )
    return [*start, *arguments]


def environment() -> dict[str, str]:
    """What the programs are started with: as anybody's, their modules are compiled once."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def configured(directory: Path, *listeners: str) -> list[str]:
    """The command line of a server with these listeners, over the store of this directory."""
    file = directory / f"{'-'.join(listeners)}.yaml"
    parts = [f"{name}: {{}}" if name == "stdio" else f"{name}: {{port: 0}}" for name in listeners]
    file.write_text(f"listeners: [{', '.join(f'{{{part}}}' for part in parts)}]\n{_MANAGER}")
    return program("serve", "-c", str(file), "--log-level", "error")


@contextmanager
def served(directory: Path, *listeners: str) -> Iterator[tuple[int, dict[str, str]]]:
    """A server: its process number and its addresses by scheme. Raises `RuntimeError` where it does not begin."""
    process = subprocess.Popen(
        configured(directory, *listeners), stderr=subprocess.PIPE, text=True, env=environment()
    )
    try:
        assert process.stderr is not None
        said: list[str] = []
        addresses: dict[str, str] = {}
        while len(addresses) < len(listeners):
            if not (line := process.stderr.readline()):
                raise RuntimeError(f"contest serve ended before it listened: {''.join(said)[-1000:]}")
            said.append(line)
            if line.startswith("listening on "):
                address = line.split()[-1]
                addresses[address.partition(":")[0]] = address
        yield process.pid, addresses
    finally:
        process.terminate()
        process.communicate(timeout=_PATIENCE)


def port_of(address: str) -> int:
    """The port in an address."""
    return int(address.rpartition(":")[2])


def ask(address: str, verb: str, **form: str) -> dict[str, Any]:
    data = urllib.parse.urlencode({"requestor": "bench", **form}).encode()
    with urllib.request.urlopen(f"{address}/{verb}", data=data, timeout=_PATIENCE) as answer:
        decoded: dict[str, Any] = json.load(answer)
    return decoded


def first_answer(directory: Path) -> float:
    """Seconds from the start of the program to its first answer."""
    start = perf_counter()
    with served(directory, "http") as (_, addresses):
        ask(addresses["http"], "version")
        return perf_counter() - start


def idle_memory(directory: Path) -> int:
    """Resident bytes of a server that has answered once and does nothing."""
    with served(directory, "http") as (pid, addresses):
        ask(addresses["http"], "version")
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    raise RuntimeError("the system does not tell how much memory a process has")


def job_beside_flood(targets: int, steps: int) -> tuple[dict[str, float], float]:
    """A job on a server whose `version` is asked over many connections without a pause; and its answers a second."""
    with ExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory(prefix="contest-bench-"))
        pid, addresses = stack.enter_context(served(Path(folder), "http"))
        address = addresses["http"]
        request = form_request("version", {"requestor": "bench"}).decode()
        flood = Flood(
            port=port_of(address),
            opening="",
            request=request,
            connections=CONNECTIONS,
            manners="waits",
        )
        stop = stack.enter_context(flooded(flood))
        before = processor_time(pid)
        start = perf_counter()
        run_job(address, descriptor(targets, steps))
        seconds = perf_counter() - start
        used = processor_time(pid) - before
        rate = stop()
    return {"count": targets * steps, "seconds": seconds, "cpu": used, "peak": 0}, rate


def run_job(address: str, job: str) -> None:
    """Runs a job to its end, on a server that has no other. Raises `RuntimeError` unless it passes."""
    number = ask(address, "start", jobDesc=job)["Data"]["JobID"]
    end = monotonic() + _LONGEST_JOB
    while not (jobs := ask(address, "list", states="JobStateCompleted,JobStateFailed")["Data"].get("Jobs")):
        if monotonic() > end:
            raise RuntimeError(f"job {number} has not ended")
        sleep(0.05)
    if jobs[0]["Verdict"] != "passed":
        raise RuntimeError(f"job {number} has not passed: {jobs[0]}")


@contextmanager
def flooded(flood: Flood) -> Iterator[Callable[[], float]]:
    """Floods in a process of its own; call what is given to end it and to learn the answers a second."""
    command = [sys.executable, "-m", "contest_runner.bench.load"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def stop() -> float:
        if process.poll() is not None:
            raise RuntimeError("the flood has ended by itself")
        process.send_signal(signal.SIGTERM)
        rate: float = json.loads(process.communicate(timeout=_PATIENCE)[0])
        return rate

    try:
        assert process.stdin is not None
        assert process.stdout is not None
        with process.stdin as stdin:
            stdin.write(msgspec.json.encode(flood))
        process.stdin = None
        process.stdout.readline()  # all connections are there
        yield stop
    finally:
        process.kill()
        process.communicate()
