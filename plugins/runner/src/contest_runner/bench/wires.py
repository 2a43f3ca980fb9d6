"""The rows of the wires: requests as fast as they are answered, and an honest peer's beside a flood.

The servers, the load, the flood and the honest peer are processes of their own; `rows` has these rows among its own.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import msgspec

from contest_runner.bench.honest import FLOODS, beside
from contest_runner.bench.jobs import descriptor
from contest_runner.bench.load import Load, Took
from contest_runner.bench.row import Row, RowFailed, Sample
from contest_runner.bench.serving import configured, environment, port_of, run_job, served
from contest_runner.bench.wire_bytes import connect, form_request, frame, http_answer, rpc_request

_PATIENCE: Final = 120.0
_IN_FLIGHT: Final = 64
_SECONDS: Final = 3.0
_WARM_UP: Final = 0.5

_VERBS: Final[dict[str, dict[str, Any]]] = {
    "version": {"requestor": "bench"},
    "list": {"requestor": "bench"},
    "status": {"requestor": "bench", "jobID": 1},
}


@contextmanager
def with_small_job(*listeners: str) -> Iterator[tuple[Path, int, dict[str, str]]]:
    """A server that has carried out one small job: its directory, process number and addresses."""
    with TemporaryDirectory(prefix="contest-bench-") as folder:
        with served(Path(folder), "http", *listeners) as (pid, addresses):
            run_job(addresses["http"], descriptor(2, 2))
            yield Path(folder), pid, addresses


@contextmanager
def _bare(kind: str, *given: str) -> Iterator[tuple[int, int]]:
    """A yardstick's process number and port."""
    process = subprocess.Popen(
        _bare_command(kind, *given), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert process.stdout is not None
        yield process.pid, int(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()


def _bare_command(kind: str, *given: str) -> list[str]:
    return [sys.executable, "-m", "contest_runner.bench.bare", kind, *given]


def _loaded(scale: float, wire: str, request: bytes, at_once: int, **more: Any) -> Took:
    load = Load(
        wire=wire,
        request=request.decode("latin-1"),
        at_once=at_once,
        seconds=max(0.05, _SECONDS * scale),
        warm_up=_WARM_UP * min(1.0, scale * 5),
        **more,
    )
    command = [sys.executable, "-m", "contest_runner.bench.load"]
    done = subprocess.run(
        command,
        input=msgspec.json.encode(load),
        capture_output=True,
        timeout=_PATIENCE,
        check=False,
        env=environment(),
    )
    if done.returncode != 0:
        raise RowFailed(f"{wire}: {done.stderr.decode().strip()[-1000:]}")
    return msgspec.json.decode(done.stdout, type=Took)


def _sample(ours: Took, held: Took) -> Sample:
    return Sample(
        ours=ours.count / ours.seconds,
        yardstick=held.count / held.seconds,
        cpu=ours.cpu / max(1, ours.count) * 1e6,
        yardstick_cpu=held.cpu / max(1, held.count) * 1e6,
    )


def _told(sample: Callable[[float], Sample]) -> Callable[[float], Sample]:
    """What fails in a process or on a connection is told as the row's failure."""

    def taken(scale: float) -> Sample:
        try:
            return sample(scale)
        except (OSError, RuntimeError, ValueError, subprocess.SubprocessError) as error:
            raise RowFailed(str(error)) from None

    return taken


def _over_http(verb: str, connections: int) -> Callable[[float], Sample]:
    def sample(scale: float) -> Sample:
        request = form_request(verb, _VERBS[verb])
        with with_small_job() as (_, pid, addresses):
            port = port_of(addresses["http"])
            with connect(port) as connection:
                _, body = http_answer(connection, request)
            ours = _loaded(scale, "http", request, connections, port=port, pid=pid)
        with _bare("http", body.decode()) as (pid, port):
            held = _loaded(scale, "http", request, connections, port=port, pid=pid)
        return _sample(ours, held)

    return _told(sample)


def _on_websocket(scale: float) -> Sample:
    request = frame(rpc_request("version", _VERBS["version"]))
    with with_small_job("websocket") as (_, pid, addresses):
        ours = _loaded(scale, "websocket", request, _IN_FLIGHT, port=port_of(addresses["ws"]), pid=pid)
    with _bare("websocket") as (pid, port):
        held = _loaded(scale, "websocket", request, _IN_FLIGHT, port=port, pid=pid)
    return _sample(ours, held)


def _on_lines(verb: str) -> Callable[[float], Sample]:
    def sample(scale: float) -> Sample:
        request = rpc_request(verb, _VERBS[verb])
        with TemporaryDirectory(prefix="contest-bench-") as folder:
            with served(Path(folder), "http") as (_, addresses):
                run_job(addresses["http"], descriptor(2, 2))
            command = configured(Path(folder), "stdio")
            answer = subprocess.run(
                command, input=request + b"\n", capture_output=True, timeout=_PATIENCE, check=True
            ).stdout
            ours = _loaded(scale, "lines", request + b"\n", _IN_FLIGHT, command=command)
        command = _bare_command("lines", answer.decode())
        held = _loaded(scale, "lines", request + b"\n", _IN_FLIGHT, command=command)
        return _sample(ours, held)

    return _told(sample)


def _beside(wire: str, flood: str) -> Callable[[float], Sample]:
    def sample(scale: float) -> Sample:
        listeners = {"http": (), "websocket": ("websocket",)}[wire]
        with with_small_job(*listeners) as (_, _, addresses):
            port = port_of(addresses["http" if wire == "http" else "ws"])
            before, during, rate = beside(wire, flood, port, scale)
        return Sample(ours=during * 1000, yardstick=before * 1000, beside=rate)

    return _told(sample)


_HTTP: Final = ("contest_steps", "contest_http")
_WEBSOCKET: Final = (*_HTTP, "contest_websocket")
_LINES: Final = (*_HTTP, "contest_stdio")

WIRE_ROWS: Final = (
    *(
        Row(
            name=f"http-{verb}-{connections}",
            what=f"HTTP: `{verb}`{' of a small finished job' * (verb == 'status')}, {connections} connections",
            unit="answers/s",
            yardstick="the same bytes by bare uvicorn (httptools, uvloop)",
            needs=_HTTP,
            at_least=at_least,
            sample=_over_http(verb, connections),
        )
        for verb, at_least in (("version", 0.8), ("list", 0.5), ("status", 0.5))
        for connections in (16, 64)
    ),
    Row(
        name="websocket",
        what="JSON-RPC on one websocket: `version`, 64 in flight",
        unit="answers/s",
        yardstick="an echo by the bare library",
        needs=_WEBSOCKET,
        at_least=0.5,
        sample=_told(_on_websocket),
    ),
    *(
        Row(
            name=f"lines-{verb}",
            what=f"JSON lines: `{verb}`, 64 in flight",
            unit="answers/s",
            yardstick="an asyncio loop that reads, decodes, encodes and writes the same lines",
            needs=_LINES,
            at_least=at_least,
            sample=_on_lines(verb),
        )
        for verb, at_least in (("version", 0.4), ("list", 0.25))
    ),
    *(
        Row(
            name=f"p99-{wire}-{flood}",
            what=f"{wire}: p99 of an honest peer's requests beside a flood of {words}",
            unit="ms",
            yardstick="the same without the flood",
            needs=_HTTP if wire == "http" else _WEBSOCKET,
            beside="answers/s to the flood",
            sample=_beside(wire, flood),
        )
        for wire in ("http", "websocket")
        for flood, words in FLOODS.items()
    ),
)
