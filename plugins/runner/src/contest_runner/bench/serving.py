"""Figures of a whole `contest serve`, a process of its own: the time to its first answer, its memory, a flood."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, perf_counter, sleep
from types import TracebackType
from typing import Any, Final, Self

from contest_runner.bench.jobs import descriptor

CONNECTIONS: Final = 64
_PATIENCE: Final = 60.0
_CONFIGURATION: Final = """
listeners: [{http: {host: 127.0.0.1, port: 0}}]
job_manager: {local: {store: "sqlite:///bench.db"}}
"""


@contextmanager
def _served(directory: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server, and its address."""
    file = directory / "bench.yaml"
    file.write_text(_CONFIGURATION)
    command = [
        str(Path(sys.executable).with_name("contest")),
        "serve",
        "-c",
        str(file),
        "--log-level",
        "error",
    ]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            said.append(line)
            if line.startswith("listening on "):
                yield process, line.split()[-1]
                break
        else:
            raise RuntimeError(f"contest serve ended before it listened: {''.join(said)[-1000:]}")
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
    with _served(directory) as (process, address):
        _ask(address, "version")
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    raise RuntimeError("the system does not tell how much memory a process has")


class Flood:
    """A server whose `version` is asked over many connections without a pause, from another process."""

    def __enter__(self) -> Self:
        self._folder = TemporaryDirectory(prefix="contest-bench-")
        self._server = _served(Path(self._folder.name))
        self._process, self._address = self._server.__enter__()
        port = self._address.rpartition(":")[2]
        self._flood = subprocess.Popen([sys.executable, "-m", "contest_runner.bench.serving", port])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._flood.terminate()
        self._flood.wait(_PATIENCE)
        self._server.__exit__(None, None, None)
        self._folder.cleanup()

    def job(self, targets: int, steps: int) -> dict[str, float]:
        """Runs a job while the flood goes on."""
        _ask(self._address, "version")
        cpu = self._cpu()
        start = monotonic()
        job = str(_ask(self._address, "start", jobDesc=descriptor(targets, steps))["Data"]["JobID"])
        while not _ask(self._address, "list", states="JobStateCompleted")["Data"]["JobIDs"]:
            if monotonic() - start > 600:
                raise RuntimeError(f"job {job} has not ended beside the flood")
            sleep(0.05)
        seconds = monotonic() - start
        return {"count": targets * steps, "seconds": seconds, "cpu": self._cpu() - cpu, "peak": 0}

    def _cpu(self) -> float:
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def flood(port: int) -> None:
    """Asks `version` over many connections until the process is ended."""
    body = b"requestor=bench"
    request = (
        b"POST /version HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    )

    def one() -> None:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            while connection.send(request) and connection.recv(65536):
                pass

    threads = [threading.Thread(target=one) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    flood(int(sys.argv[1]))
