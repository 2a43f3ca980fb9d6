"""Figures of a whole `contest serve`, a process of its own: the time to its first answer, its memory, a flood.

As a program (`python -m contest_runner.bench.serving PORT`) it is the flood.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, perf_counter, sleep
from types import FrameType
from typing import Any, Final

from contest_runner.bench.jobs import descriptor

CONNECTIONS: Final = 64
_PATIENCE: Final = 60.0
_LONGEST_JOB: Final = 600.0
_CONFIGURATION: Final = """
listeners: [{http: {host: 127.0.0.1, port: 0}}]
job_manager: {local: {store: "sqlite:///bench.db"}}
"""


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


@contextmanager
def _served(directory: Path) -> Iterator[tuple[int, str]]:
    """A server: its process number and its address."""
    file = directory / "bench.yaml"
    file.write_text(_CONFIGURATION)
    process = subprocess.Popen(
        program("serve", "-c", str(file), "--log-level", "error"),
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    try:
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            said.append(line)
            if line.startswith("listening on "):
                break
        else:
            raise RuntimeError(f"contest serve ended before it listened: {''.join(said)[-1000:]}")
        yield process.pid, line.split()[-1]
    finally:
        process.terminate()
        process.communicate(timeout=_PATIENCE)


def _ask(address: str, verb: str, **form: str) -> dict[str, Any]:
    data = urllib.parse.urlencode({"requestor": "bench", **form}).encode()
    with urllib.request.urlopen(f"{address}/{verb}", data=data, timeout=_PATIENCE) as answer:
        decoded: dict[str, Any] = json.load(answer)
    return decoded


def first_answer(directory: Path) -> float:
    """Seconds from the start of the program to its first answer."""
    start = perf_counter()
    with _served(directory) as (_, address):
        _ask(address, "version")
        return perf_counter() - start


def idle_memory(directory: Path) -> int:
    """Resident bytes of a server that has answered once and does nothing."""
    with _served(directory) as (pid, address):
        _ask(address, "version")
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    raise RuntimeError("the system does not tell how much memory a process has")


def job_beside_flood(targets: int, steps: int) -> tuple[dict[str, float], float]:
    """A job on a server whose `version` is asked over many connections without a pause; and its answers a second."""
    with ExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory(prefix="contest-bench-"))
        pid, address = stack.enter_context(_served(Path(folder)))
        flood = stack.enter_context(_flooded(address))
        before = _processor_time(pid)
        start = perf_counter()
        _run(address, descriptor(targets, steps))
        seconds = perf_counter() - start
        used = _processor_time(pid) - before
        if flood.poll() is not None:
            raise RuntimeError("the flood has ended before the job")
        flood.send_signal(signal.SIGTERM)
        rate = json.loads(flood.communicate(timeout=_PATIENCE)[0])
    return {"count": targets * steps, "seconds": seconds, "cpu": used, "peak": 0}, rate


def _run(address: str, job: str) -> None:
    number = _ask(address, "start", jobDesc=job)["Data"]["JobID"]
    end = monotonic() + _LONGEST_JOB
    while not (jobs := _ask(address, "list", states="JobStateCompleted,JobStateFailed")["Data"].get("Jobs")):
        if monotonic() > end:
            raise RuntimeError(f"job {number} has not ended beside the flood")
        sleep(0.05)
    if jobs[0]["Verdict"] != "passed":
        raise RuntimeError(f"job {number} has not passed: {jobs[0]}")


def _processor_time(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def _flooded(address: str) -> Iterator[subprocess.Popen[str]]:
    port = address.rpartition(":")[2]
    command = [sys.executable, "-m", "contest_runner.bench.serving", port]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        process.stdout.readline()  # all connections have had an answer
        yield process
    finally:
        process.kill()
        process.communicate()


# --- the flood


def flood(port: int) -> None:
    """Asks `version` over many connections until it is terminated, then tells the answers a second."""
    body = b"requestor=bench"
    request = (
        b"POST /version HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    )
    selector = selectors.DefaultSelector()
    for _ in range(CONNECTIONS):
        connection = socket.create_connection(("127.0.0.1", port))
        connection.sendall(request)
        connection.recv(65536)
        selector.register(connection, selectors.EVENT_READ)
        connection.sendall(request)
    answers = 0
    begun = perf_counter()

    def tell(number: int, frame: FrameType | None) -> None:
        sys.stdout.write(json.dumps(answers / (perf_counter() - begun)))
        sys.stdout.flush()
        os._exit(0)

    signal.signal(signal.SIGTERM, tell)
    sys.stdout.write("flooding\n")
    sys.stdout.flush()
    while True:
        for key, _ in selector.select():
            connection = key.fileobj  # type: ignore[assignment]  # typed as any file; these are ours
            if not connection.recv(65536):
                sys.exit("the server has closed a connection")
            answers += 1
            connection.sendall(request)


if __name__ == "__main__":
    flood(int(sys.argv[1]))
