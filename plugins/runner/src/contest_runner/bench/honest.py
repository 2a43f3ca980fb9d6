"""How long an honest peer waits for its answers, before and while others flood.

Called by `wires`. The peer asks `list`, one request after the other on one connection, with a pause in between as a
program has that shows what goes on.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from contextlib import closing
from time import perf_counter
from typing import Final, Literal

from contest_runner.bench.load import Flood
from contest_runner.bench.serving import CONNECTIONS, flooded
from contest_runner.bench.wire_bytes import (
    OPENING,
    Frames,
    connect,
    form_request,
    frame,
    http_answer,
    open_websocket,
    rpc_request,
)

FLOODS: Final = {
    "garbage": "what is no request",
    "version": "`version`",
    "large": "requests of 1 MiB",
    "slow": "requests whose answers are hardly taken",
}
"""What a flood consists of, by its name."""

_MANNERS: Final[dict[str, Literal["waits", "takes little"]]] = {"version": "waits", "slow": "takes little"}

_SECONDS: Final = 4.0
"""How long it asks, before and during."""

_LEAST: Final = 10
"""Requests, however slowly they are answered."""

_PAUSE: Final = 0.001
"""Seconds between an answer and the next request."""

_LARGE: Final = 1 << 20
_LARGE_CONNECTIONS: Final = 4
_ME: Final = {"requestor": "bench"}


def beside(wire: str, flood: str, port: int, scale: float) -> tuple[float, float, float]:
    """The p99 in seconds before and during a flood, and how often a second the flood is answered."""
    seconds = _SECONDS * scale
    with closing(connect(port)) as connection:
        ask = _asking(wire, connection)
        _p99(ask, seconds / 4)
        before = _p99(ask, seconds)
        with flooded(_flood(wire, flood, port)) as stop:
            during = _p99(ask, seconds)
            return before, during, stop()


def _asking(wire: str, connection: socket.socket) -> Callable[[], None]:
    if wire == "http":
        request = form_request("list", _ME)
        return lambda: _check(b'"JobIDs"' in http_answer(connection, request)[1])
    open_websocket(connection)
    request = frame(rpc_request("list", _ME))
    frames = Frames()

    def ask() -> None:
        connection.sendall(request)
        while not (found := frames.feed(_received(connection))):
            continue
        _check(b'"JobIDs"' in found[0])

    return ask


def _received(connection: socket.socket) -> bytes:
    data = connection.recv(1 << 16)
    _check(bool(data))
    return data


def _check(is_answer: bool) -> None:
    if not is_answer:
        raise RuntimeError("the honest peer was not answered")


def _p99(ask: Callable[[], None], seconds: float) -> float:
    times: list[float] = []
    end = perf_counter() + seconds
    while perf_counter() < end or len(times) < _LEAST:
        begun = perf_counter()
        ask()
        times.append(perf_counter() - begun)
        time.sleep(_PAUSE)
    return sorted(times)[len(times) * 99 // 100]


def _flood(wire: str, kind: str, port: int) -> Flood:
    text = "x" * _LARGE if kind == "large" else "{}"
    if kind == "garbage":
        request = os.urandom(1000) if wire == "http" else frame(b'{"jsonrpc":"2.0","id":1,"method":[' * 20)
    elif wire == "http":
        verb = "validate" if kind == "large" else "version"
        request = form_request(verb, _ME | ({"jobDesc": text} if kind == "large" else {}))
    else:
        verb = "validate" if kind == "large" else "version"
        request = frame(rpc_request(verb, _ME | ({"jobDesc": text} if kind == "large" else {})))
    return Flood(
        port=port,
        opening=OPENING.decode() if wire == "websocket" else "",
        request=request.decode("latin-1"),
        connections=_LARGE_CONNECTIONS if kind == "large" else CONNECTIONS,
        manners=_MANNERS.get(kind, "pushes"),
    )
