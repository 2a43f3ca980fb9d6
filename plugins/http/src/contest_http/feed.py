"""The answer to `GET /events`: a watch as server-sent events.

Made by the application, one a request; it is given a watch, and sends it on. Who asks, what is refused and what a fault
is, the application knows. The form is the one of https://html.spec.whatwg.org/multipage/server-sent-events.html:

    id: CURSOR                          where it begins, which is no message yet
    id: CURSOR, data: {"Event": …}      or `{"Gap": …}`, each a message
    :                                   a comment, where nothing else came for `KEEP_ALIVE`
    event: watchEnded, data: {…}        the end, with `Cursor`, and `Error` and `Code` where a fault is the reason

A peer that reads slowly holds up its own watch alone, whose events wait in the store: `send` returns when there is
room.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import msgspec

from contest_core.job_event import Gap, JobEvent
from contest_core.responses import encode

if TYPE_CHECKING:
    from uvicorn._types import ASGISendCallable, HTTPScope

    from contest_core.errors import ContestError
    from contest_core.watch import Watch

KEEP_ALIVE: Final = 15.0
"""Seconds of silence after which a comment is sent."""

Headers = list[tuple[bytes, bytes]]


class Feed:
    """One stream of server-sent events; in chunks, or to HTTP/1.0 until the connection ends."""

    def __init__(self, scope: HTTPScope, send: ASGISendCallable, headers: Headers) -> None:
        self._send = send
        self._headers = headers
        self._head_only = scope["method"] == "HEAD"
        self._chunked = scope["http_version"] != "1.0"
        self._watch: Watch | None = None

    @property
    def begun(self) -> bool:
        """Whether the head has gone out, so that only `end` can tell of an error."""
        return self._watch is not None

    async def follow(self, watch: Watch) -> None:
        """Sends what the watch gives until it ends; to HEAD, that it would. `end` has to follow."""
        self._watch = watch
        headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store"), *self._headers]
        if self._chunked:
            headers.append((b"transfer-encoding", b"chunked"))
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        if self._head_only:
            return
        await self._write(b"id: %b\n\n" % str(watch.cursor).encode())
        while (item := await self._next(watch)) is not None:
            await self._write(_message(item, str(watch.cursor)))

    async def end(self, error: ContestError | None) -> None:
        """Says where the watch got to and, where it was a fault, why it ended."""
        assert self._watch is not None
        last = b""
        if not self._head_only:
            facts = {"Cursor": str(self._watch.cursor)}
            if error is not None:
                facts |= {"Error": error.message, "Code": error.code}
            last = self._framed(b"event: watchEnded\ndata: %b\n\n" % msgspec.json.encode(facts))
        if self._chunked:
            last += b"0\r\n\r\n"
        await self._send({"type": "http.response.body", "body": last, "more_body": False})

    async def _next(self, watch: Watch) -> JobEvent | Gap | None:
        while True:
            try:
                async with asyncio.timeout(KEEP_ALIVE) as silence:
                    return await anext(watch, None)
            except TimeoutError:
                if not silence.expired():
                    raise
            await self._write(b": \n\n")

    async def _write(self, text: bytes) -> None:
        await self._send({"type": "http.response.body", "body": self._framed(text), "more_body": True})

    def _framed(self, text: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(text), text) if self._chunked else text


def _message(item: JobEvent | Gap, cursor: str) -> bytes:
    return b"id: %b\ndata: %b\n\n" % (cursor.encode(), encode(item))
