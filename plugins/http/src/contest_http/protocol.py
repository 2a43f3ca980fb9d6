"""One connection: uvicorn's protocol on httptools, with the guards that it does not have.

Above it is the ASGI application, which gets a request only when all of it is here; below it are httptools and the
transport; beside it are `Guards`, which judges heads, and `Connections`, which calls `expire` when `deadline`
has passed. Written against uvicorn's `HttpToolsProtocol`, hence the range of versions in this distribution's
requirements.

Two things go on at once, each with a state of its own: what is read next (`Reading`), and whether an answer is
under way (`_busy`). The deadline belongs to

    nobody       while an answer is under way and the peer takes it: the API bounds that time, but of a watch
    the peer     as a reader, while it takes nothing of an answer (write_timeout)
                 as a writer, from the first byte of a request to its last (request_timeout)
                 between two requests (idle_timeout)
    the linger   after the last word was said (`LINGER`)
"""

from __future__ import annotations

import asyncio
import math
import re
from collections import deque
from collections.abc import Iterable
from enum import Enum
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from contest_core.errors import ContestError, InvalidMessage, ShuttingDown, TooManyRequests
from contest_core.responses import encode
from contest_http.connections import LINGER, Connections
from contest_http.exchange import Exchange
from contest_http.guards import ONLY_POST, ONLY_POST_HEADERS, Refused

if TYPE_CHECKING:
    from uvicorn._types import HTTPScope
    from uvicorn.config import Config

NEVER: Final = math.inf

COUNTED: Final = 64 * 1024
"""Bytes of a body that are not worth counting against the budget of all connections."""

_CHUNK_LINE: Final = 16
"""Bytes around a chunk of a body that are no sign of bad faith: its size in hex and two line ends."""

_REQUEST_LINE: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64} [^\s]+ HTTP/1\.[01]\r?\n")
"""What is a request though the parser, which has a list of methods, does not know its method."""


class Reading(Enum):
    """What this end reads next."""

    IDLE = "idle"
    """Nothing of a request has come."""
    HEAD = "head"
    """A request's line and headers."""
    BODY = "body"
    """Its body."""
    DEAF = "deaf"
    """Nothing: the last word is said or fixed, what still comes is thrown away."""


IDLE, HEAD, BODY, DEAF = Reading.IDLE, Reading.HEAD, Reading.BODY, Reading.DEAF


class StopParsing(Exception):
    """Raised in a callback of the parser: the request was refused, nothing behind it counts."""


class GuardedProtocol(HttpToolsProtocol):
    """A connection whose peer may be slow, wrong, hostile or gone."""

    cycle: Exchange  # type: ignore[assignment]

    def __init__(
        self,
        config: Config,
        server_state: Connections,
        app_state: dict[str, Any] | None = None,
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state or {}, _loop)
        self.logger = server_state.log
        self.deadline = NEVER
        self._shared = server_state
        self._reading = IDLE
        self._busy = False
        self._admitted = False
        self._closing = False
        self._waiting: deque[Exchange] = deque()
        self._last_word: bytes | None = None
        self._owes_continue = False
        self._unsent = 0
        self._half_closed = False
        self._fresh = False
        self._task: asyncio.Task[None] | None = None
        self._message_event = asyncio.Event()
        # Of the request that is being read:
        self._body: bytes | bytearray = b""
        self._size = 0
        self._held = 0
        self._keep_alive = True
        # What of its bytes is not body, over all feeds before this one; not counted in a feed that began with an older
        # request (`_behind`), where nobody knows. `_allowance` grows with each chunk.
        self._overhead = 0
        self._behind = False
        self._allowance = 0
        # Of the feed that is being parsed:
        self._feed_size = 0
        self._feed_body = 0
        self._feed_ended_one = False

    # --- the connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Lets the peer in, or tells it that there is no room."""
        super().connection_made(transport)
        shared = self._shared
        shared.opened(self)
        limit = shared.max_connections
        if shared.closing or len(shared.open) > 2 * limit:
            # The listener ends, or they come faster than they can be told that there is no room.
            transport.abort()
        elif shared.admitted < limit:
            shared.admitted += 1
            self._admitted = True
            self._renew()
        else:
            error = TooManyRequests(reason=f"there are {limit:,} connections already", retry_after=1)
            self._refuse(Refused(503, error))

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancels what nobody waits for any more."""
        super().connection_lost(exc)
        if self._admitted:
            self._shared.admitted -= 1
        self._release(self._held + sum(exchange.held for exchange in self._waiting))
        self._waiting.clear()
        if self._busy:
            self._release(self.cycle.held)
        if self._task is not None:
            self._task.cancel()
        self._shared.closed(self)

    def eof_received(self) -> bool:  # type: ignore[override]
        """The peer sends no more. It may only have half-closed: what is quick is still answered."""
        self._half_closed = True
        self._reading = DEAF
        if self._busy:
            self._last_exchange().keep_alive = False
            self._renew()
        return self._busy

    def shutdown(self) -> None:
        """No more requests: closes, once those in flight are answered."""
        self._closing = True
        if self._busy:
            self._reading = DEAF
            self._last_exchange().keep_alive = False
        elif self._reading in (HEAD, BODY):
            self._refuse(Refused(503, ShuttingDown()))
        else:
            self.transport.close()

    def expire(self, now: float) -> None:
        """The deadline has passed."""
        unsent = self.transport.get_write_buffer_size()
        if 0 < unsent < self._unsent:
            self._watch_writing()
        elif unsent or self.transport.is_closing() or self._half_closed:
            self.transport.abort()
        elif self._busy:
            self.deadline = NEVER
        elif self._reading in (HEAD, BODY):
            seconds = self._shared.request_timeout
            self._refuse(Refused(408, InvalidMessage(reason=f"it was not complete within {seconds:g} s")))
        else:
            self.deadline = now + LINGER
            self.transport.close()

    def pause_writing(self) -> None:
        """The peer does not take what is sent."""
        super().pause_writing()
        self._watch_writing()

    def resume_writing(self) -> None:
        """It does again."""
        super().resume_writing()
        self._renew()

    def _renew(self) -> None:
        """Sets the deadline for what goes on now; while the peer takes nothing, `_watch_writing` has set it."""
        if self.flow.write_paused:
            return
        if self._busy:
            self.deadline = self.loop.time() + LINGER if self._half_closed else NEVER
        elif self._reading is IDLE:
            self.deadline = self.loop.time() + self._shared.idle_timeout
        elif self._reading is DEAF:
            self.deadline = self.loop.time() + LINGER
        else:
            self.deadline = self.loop.time() + self._shared.request_timeout

    def _part_written(self, size: int) -> None:
        """The next part may come late, and be small: a peer that takes nothing would go unnoticed."""
        if self.flow.write_paused:
            return
        if self.deadline != NEVER:
            self._unsent += size
        elif self.transport.get_write_buffer_size():
            self._watch_writing()

    def _watch_writing(self) -> None:
        """The peer has so much time to take any of what is unsent now."""
        self._unsent = self.transport.get_write_buffer_size()
        self.deadline = self.loop.time() + self._shared.write_timeout

    # --- reading

    def data_received(self, data: bytes) -> None:
        """Parses what has come; the callbacks below are called from here."""
        if self._reading is DEAF:
            return
        self._feed_size = len(data)
        self._feed_body = 0
        self._feed_ended_one = False
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # The request is answered as if it did not ask for another protocol; then the connection ends.
            self._reading = DEAF
        except httptools.HttpParserCallbackError as error:
            if not isinstance(error.__context__, StopParsing):
                raise
        except httptools.HttpParserError as error:
            if isinstance(error, httptools.HttpParserInvalidMethodError) and _REQUEST_LINE.match(data):
                self._end_with(_last_word(400, self._shared.header_lines, ONLY_POST_HEADERS, ONLY_POST))
            else:
                self._refuse(Refused(400, InvalidMessage(reason=f"it is not HTTP/1.1 ({error})")))
        if self._reading is HEAD or self._reading is BODY:
            if self._fresh:
                self._fresh = False
                self._renew()
            self._overhead += self._feed_size - self._feed_body
            if self._overhead > self._allowance:
                self._refuse(self._shared.guards.too_long())

    def on_message_begin(self) -> None:
        """The parser saw the first byte of a request."""
        self.url = b""
        self.headers = []
        self._reading = HEAD
        self._body = b""
        self._size = 0
        self._behind = self._feed_ended_one
        self._overhead = -self._feed_size if self._behind else 0
        self._allowance = self._shared.max_header
        self._fresh = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """The parser has a header, or a trailer."""
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The head is here: judges it."""
        url, headers = self.url, self.headers
        fields = dict(headers)
        version = self.parser.get_http_version()
        shared = self._shared
        # Only where it is not plain from the sizes of the feeds.
        unclear = self._behind or self._overhead + self._feed_size > shared.max_header
        if unclear and self._head_size() > shared.max_header:
            self._refuse(shared.guards.too_long())
            raise StopParsing
        upgrade = self.parser.should_upgrade()
        refused = shared.guards.judge(url, headers, fields, version)
        if refused is None and upgrade and (b"content-length" in fields or b"transfer-encoding" in fields):
            refused = Refused(400, InvalidMessage(reason="it has a body and asks for another protocol"))
        if refused is not None:
            self._refuse(refused)
            raise StopParsing
        self._keep_alive = version != "1.0" and not upgrade and self.parser.should_keep_alive()
        self._reading = BODY
        self.scope = self._make_scope(url, headers, version)
        self.headers = []
        if b"expect" in fields:
            self._owes_continue = True
            if not self._busy:
                self._continue()

    def on_chunk_header(self) -> None:
        """A chunk begins."""
        self._allowance += _CHUNK_LINE

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        size = len(body)
        self._feed_body += size
        self._size += size
        if self._size > self._shared.max_request:
            self._refuse(self._shared.guards.too_large())
            raise StopParsing
        if self._size > COUNTED and not self._hold(size):
            raise StopParsing
        if not self._body:
            self._body = body
        elif isinstance(self._body, bytearray):
            self._body += body
        else:
            self._body = bytearray(self._body) + body

    def on_message_complete(self) -> None:
        """The request is whole: answers it, or has it wait for the one before."""
        # Behind the last request of a connection comes nothing that counts.
        self._reading = IDLE if self._keep_alive else DEAF
        self._feed_ended_one = True
        self._owes_continue = False
        exchange = Exchange(
            self.scope,
            self._body,
            keep_alive=self._keep_alive,
            transport=self.transport,
            flow=self.flow,
            default_headers=self._shared.header_lines,
            message_event=self._message_event,
            on_response=self.on_response_complete,
            on_part=self._part_written,
        )
        exchange.held, self._held = self._held, 0
        self._body = b""
        if not self._busy:
            self._start(exchange)
        elif len(self._waiting) < self._shared.max_pipelined:
            self.flow.pause_reading()
            self._waiting.append(exchange)
        else:
            reason = f"more than {self._shared.max_pipelined} requests wait on this connection"
            self._refuse(Refused(429, TooManyRequests(reason=reason, retry_after=1)))
            raise StopParsing

    def _hold(self, size: int) -> bool:
        """Counts a part of a large body; false, and the request is refused, where all of them are too much."""
        self._held += size
        budget = self._shared.budget
        if budget.take(size):
            return True
        self._refuse(Refused(429, budget.spent()))
        return False

    def _release(self, size: int) -> None:
        if size:
            self._shared.budget.give_back(size)

    def _head_size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _make_scope(self, url: bytes, headers: list[tuple[bytes, bytes]], version: str) -> HTTPScope:
        raw_path, _, query = url.partition(b"?")
        if not raw_path.startswith(b"/") and b"://" in raw_path:
            raw_path = b"/" + raw_path.partition(b"://")[2].partition(b"/")[2]
        path = raw_path.decode("latin-1")
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": version,
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme or "http",
            "method": self.parser.get_method().decode("ascii"),
            "root_path": "",
            "path": unquote(path) if "%" in path else path,
            "raw_path": raw_path,
            "query_string": query,
            "headers": headers,
        }

    # --- answering

    def _last_exchange(self) -> Exchange:
        return self._waiting[-1] if self._waiting else self.cycle

    def _start(self, exchange: Exchange) -> None:
        self._busy = True
        self.cycle = exchange
        self._renew()
        # Not in a task group: the connection owns it, ends it in `connection_lost` and hears of its end.
        task = self.loop.create_task(self.app(exchange.scope, exchange.receive, exchange.send))
        self._task = task
        self.tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            if isinstance(error, Exception):
                self._shared.report_error(error)
            self.transport.abort()

    def on_response_complete(self) -> None:
        """The answer is written: on to the next request."""
        self._busy = False
        self._task = None
        if self.cycle.held:
            self._release(self.cycle.held)
        if self.transport.is_closing():
            self._watch_writing()
        elif self._waiting:
            self._start(self._waiting.popleft())
        elif self._last_word is not None:
            self._say_last_word()
        elif self._closing or self._reading is DEAF:
            self._watch_writing()
            self.transport.close()
        else:
            self._renew()
            self.flow.resume_reading()
            if self._owes_continue:
                self._continue()

    def _continue(self) -> None:
        self._owes_continue = False
        self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _refuse(self, refused: Refused) -> None:
        self._end_with(refusal(refused, self._shared.header_lines))

    def _end_with(self, last_word: bytes) -> None:
        """Reads no further. The refusal is the last word, behind the answers that are due before it."""
        self._reading = DEAF
        self._body = b""
        held, self._held = self._held, 0
        self._release(held)
        self._last_word = last_word
        if not self._busy:
            self._say_last_word()

    def _say_last_word(self) -> None:
        assert self._last_word is not None
        self.deadline = self.loop.time() + LINGER
        self.transport.write(self._last_word)
        self._last_word = None
        # Half-closed and read on for a moment: closing with unread input would reset the connection, and the peer
        # might lose the very answer.
        self.transport.write_eof()
        self.flow.resume_reading()


def refusal(refused: Refused, header_lines: bytes) -> bytes:
    """The answer to a request that does not reach the application."""
    body = encode(refused.error)
    return _last_word(refused.status, header_lines, answer_headers(refused.error, body), body)


def _last_word(
    status: int, header_lines: bytes, headers: Iterable[tuple[bytes, bytes]], body: bytes
) -> bytes:
    lines = [b"%b: %b\r\n" % header for header in headers]
    return b"".join([STATUS_LINE[status], header_lines, *lines, b"connection: close\r\n\r\n", body])


def answer_headers(error: ContestError, body: bytes) -> list[tuple[bytes, bytes]]:
    """The headers of an error's answer."""
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if isinstance(error, TooManyRequests) and error.retry_after is not None:
        headers.append((b"retry-after", b"%d" % math.ceil(error.retry_after)))
    elif error.row.http == 503:
        headers.append((b"retry-after", b"1"))
    elif error.row.http == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    return headers
