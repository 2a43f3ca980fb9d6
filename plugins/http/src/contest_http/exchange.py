"""One request, of which all is here, and its answer: what the ASGI application is given.

Made by `GuardedProtocol`, which keeps it as its `cycle`. It stands in for uvicorn's `RequestResponseCycle` and is
narrower: the body comes at once, an answer has a length, or chunks that it comes with, and goes out in one piece where
it is small, and its headers are our own, so that nobody has to check them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from uvicorn._types import ASGIReceiveEvent, ASGISendEvent, HTTPScope
    from uvicorn.protocols.http.flow_control import FlowControl

JOINED = 64 * 1024
"""Bytes of a body up to which copying it behind its head is cheaper than a second write."""


class Exchange:
    """A request and the answer to it.

    Set from outside: `disconnected` when the peer is gone, `held` to the bytes that the body takes of the budget.
    """

    __slots__ = (
        "_body",
        "_default_headers",
        "_flow",
        "_head",
        "_on_part",
        "_on_response",
        "_transport",
        "disconnected",
        "held",
        "keep_alive",
        "message_event",
        "response_complete",
        "scope",
    )

    def __init__(
        self,
        scope: HTTPScope,
        body: bytes | bytearray,
        *,
        keep_alive: bool,
        transport: asyncio.Transport,
        flow: FlowControl,
        default_headers: bytes,
        message_event: asyncio.Event,
        on_response: Callable[[], None],
        on_part: Callable[[int], None],
    ) -> None:
        self.scope = scope
        self.keep_alive = keep_alive
        self.disconnected = False
        self.response_complete = False
        self.held = 0
        self.message_event = message_event
        self._body: bytes | bytearray | None = body
        self._transport = transport
        self._flow = flow
        self._default_headers = default_headers
        self._on_response = on_response
        self._on_part = on_part
        self._head: bytes | None = None

    async def receive(self) -> ASGIReceiveEvent:
        """The whole body at once; asked again, the end of the connection."""
        if self._body is not None:
            request: Any = {"type": "http.request", "body": self._body, "more_body": False}
            self._body = None
            return request  # type: ignore[no-any-return]
        while not self.disconnected and not self.response_complete:
            self.message_event.clear()
            await self.message_event.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: ASGISendEvent) -> None:
        """Takes the head, then the body in one or more parts; returns when there is room for the next."""
        fields: Any = message
        if fields["type"] == "http.response.start":
            self._head = self._compose(fields["status"], fields["headers"])
            return
        if self._flow.write_paused:
            await self._flow.drain()
        if self.disconnected:
            return
        body = fields["body"] if self.scope["method"] != "HEAD" else b""
        if self._head is not None:
            head, self._head = self._head, None
            if len(body) <= JOINED:
                body = head + body
            else:
                self._transport.write(head)
        self._transport.write(body)
        if not fields["more_body"]:
            self.response_complete = True
            if not self.keep_alive:
                self._transport.close()
            self._on_response()
        else:
            self._on_part(len(body))

    def _compose(self, status: int, headers: list[tuple[bytes, bytes]]) -> bytes:
        lines = [STATUS_LINE[status], self._default_headers]
        for name, value in headers:
            lines += (name, b": ", value, b"\r\n")
        lines.append(b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n")
        return b"".join(lines)
