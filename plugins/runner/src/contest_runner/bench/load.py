"""Load on a server: who asks as fast as it answers, and who floods. A process of its own, on raw sockets and pipes.

As a program (`python -m contest_runner.bench.load`) it reads one `Load` or `Flood` as JSON and writes what came of it.
Its bytes are prepared and it reads no more of an answer than its end, so that it is never what is measured.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from time import perf_counter, sleep
from types import FrameType
from typing import IO, Final, Literal, NoReturn

import msgspec
from msgspec import Struct

from contest_runner.bench.wire_bytes import Frames, connect, http_answer_size, open_websocket

_CHUNK: Final = 1 << 18
_AT_ONCE: Final = 1 << 14
"""Bytes of small requests that a flood writes at once."""


class Load(Struct, frozen=True, kw_only=True, tag=True):
    """Requests as fast as they are answered."""

    wire: str
    """`http`: one in flight on each connection. `websocket`, `lines`: all in flight on one."""
    request: str
    """The bytes of one, as text of latin-1."""
    at_once: int
    seconds: float
    warm_up: float
    """Seconds before it counts."""
    port: int = 0
    pid: int = 0
    """The process whose processor time is counted."""
    command: list[str] = []
    """Of lines: the server that is started, and counted."""


class Flood(Struct, frozen=True, kw_only=True, tag=True):
    """Connections that ask without end; stopped by SIGTERM."""

    port: int
    opening: str
    """What is sent on a connection before anything else."""
    request: str
    connections: int
    manners: Literal["waits", "pushes", "takes little"]
    """Waits for an answer before it asks again; asks on and on; the same, and reads next to nothing."""


class Took(Struct, frozen=True, kw_only=True):
    """What came of a load."""

    count: int
    seconds: float
    cpu: float
    """Seconds of processor time of the server."""


def processor_time(pid: int) -> float:
    """Seconds that a process has used."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class _Meter:
    """Counts from the end of the warm-up on, until time is up."""

    def __init__(self, load: Load, pid: int) -> None:
        self._pid = pid
        self._begins = perf_counter() + load.warm_up
        self._seconds = load.seconds
        self._ends = 0.0
        self._cpu = 0.0
        self._count = 0

    def more(self, answers: int) -> bool:
        """So many answers more; whether to go on."""
        now = perf_counter()
        if not self._ends:
            if now < self._begins:
                return True
            self._cpu = processor_time(self._pid)
            self._begins = perf_counter()
            self._ends = self._begins + self._seconds
            return True
        self._count += answers
        return now < self._ends

    def took(self) -> Took:
        """What was counted."""
        seconds = perf_counter() - self._begins
        return Took(count=self._count, seconds=seconds, cpu=processor_time(self._pid) - self._cpu)


def over_http(load: Load) -> Took:
    """One request in flight on each of many connections."""
    request = load.request.encode("latin-1")
    selector = selectors.DefaultSelector()
    left: dict[int, int] = {}
    size = 0
    for _ in range(load.at_once):
        connection = connect(load.port)
        size = http_answer_size(connection, request)
        selector.register(connection, selectors.EVENT_READ, connection)
        connection.sendall(request)
        left[connection.fileno()] = size
    meter = _Meter(load, load.pid)
    answers = 0
    while meter.more(answers):
        answers = 0
        for key, _ in selector.select():
            connection = key.data
            came = len(connection.recv(_CHUNK))
            if not came:
                raise ConnectionError("the server has closed a connection")
            left[key.fd] -= came
            if left[key.fd] <= 0:
                answers += 1
                left[key.fd] += size
                connection.sendall(request)
    return meter.took()


def on_one_stream(
    load: Load,
    pid: int,
    read: Callable[[], bytes],
    write: Callable[[bytes], object],
    count: Callable[[bytes], int],
) -> Took:
    """Many requests in flight on one connection."""
    request = load.request.encode("latin-1")
    write(request * load.at_once)
    meter = _Meter(load, pid)
    answers = 0
    while meter.more(answers):
        came = read()
        if not came:
            raise ConnectionError("the server has closed the connection")
        answers = count(came)
        write(request * answers)
    return meter.took()


def on_websocket(load: Load) -> Took:
    """All in flight on one websocket."""
    connection = connect(load.port)
    open_websocket(connection)
    frames = Frames()
    return on_one_stream(
        load,
        load.pid,
        lambda: connection.recv(_CHUNK),
        connection.sendall,
        lambda came: len(frames.feed(came)),
    )


def on_lines(load: Load) -> Took:
    """All in flight on the pipes of a server that is started for it."""
    process = subprocess.Popen(
        load.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
    )
    stdin, stdout = _pipes(process)
    try:
        return on_one_stream(
            load, process.pid, lambda: stdout.read(_CHUNK), stdin.write, lambda came: came.count(b"\n")
        )
    finally:
        stdin.close()
        # Until it has seen the end it may still have to write.
        while stdout.read(_CHUNK):
            continue
        process.wait(60)


def _pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes]]:
    assert process.stdin is not None
    assert process.stdout is not None
    return process.stdin, process.stdout


LOADS: Final = {"http": over_http, "websocket": on_websocket, "lines": on_lines}


# --- floods


class _Flooding:
    """The connections of a flood. What one has not sent waits; one that is closed is opened anew."""

    def __init__(self, flood: Flood) -> None:
        self._port = flood.port
        self._opening = flood.opening.encode("latin-1")
        self._waits = flood.manners == "waits"
        self._greedy = flood.manners != "takes little"
        request = flood.request.encode("latin-1")
        # Of small requests many at once: a system call each would slow nobody down but this process.
        self._request = request if self._waits else request * max(1, _AT_ONCE // len(request))
        self._selector = selectors.DefaultSelector()
        self._unsent: dict[socket.socket, memoryview] = {}
        self.answers = 0
        """Where it waits for them; else what was read at once."""

    def open(self) -> None:
        """One connection more."""
        connection = connect(self._port)
        if self._opening:
            connection.sendall(self._opening)
            connection.recv(_CHUNK)
        if not self._greedy:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.setblocking(False)
        self._unsent[connection] = memoryview(self._request)
        self._selector.register(connection, self._events(connection), connection)

    def turn(self) -> None:
        """Writes and reads where that is possible."""
        for key, events in self._selector.select(0.01):
            try:
                self._serve(key.data, events)
            except BlockingIOError:
                continue
            except OSError:
                self._reopen(key.data)
        if not self._greedy:
            sleep(0.01)
            for connection in self._unsent:
                with suppress(OSError):
                    connection.recv(256)

    def _serve(self, connection: socket.socket, events: int) -> None:
        if events & selectors.EVENT_READ:
            if not connection.recv(_CHUNK):
                raise ConnectionError
            self.answers += 1
            if self._waits:
                self._unsent[connection] = memoryview(self._request)
        if unsent := self._unsent[connection]:
            unsent = unsent[connection.send(unsent) :]
            self._unsent[connection] = unsent if unsent or self._waits else memoryview(self._request)
        if self._waits and events & selectors.EVENT_WRITE:
            self._selector.modify(connection, self._events(connection), connection)

    def _events(self, connection: socket.socket) -> int:
        events = selectors.EVENT_READ if self._greedy else 0
        return events | selectors.EVENT_WRITE if self._unsent[connection] else events

    def _reopen(self, connection: socket.socket) -> None:
        self._selector.unregister(connection)
        del self._unsent[connection]
        connection.close()
        with suppress(OSError):
            self.open()


def flood(flood: Flood) -> NoReturn:
    """Floods until it is terminated, then tells the answers a second."""
    flooding = _Flooding(flood)
    begun = perf_counter()

    def tell(number: int, frame: FrameType | None) -> None:
        sys.stdout.write(json.dumps(flooding.answers / (perf_counter() - begun)))
        sys.stdout.flush()
        os._exit(0)

    signal.signal(signal.SIGTERM, tell)
    for _ in range(flood.connections):
        flooding.open()
    sys.stdout.write("flooding\n")
    sys.stdout.flush()
    while True:
        flooding.turn()


def main() -> None:
    """Carries out what stands on stdin."""
    task = msgspec.json.decode(sys.stdin.buffer.read(), type=Load | Flood)
    if isinstance(task, Flood):
        flood(task)
    sys.stdout.write(msgspec.json.encode(LOADS[task.wire](task)).decode())


if __name__ == "__main__":
    main()
