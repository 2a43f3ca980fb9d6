"""One connection: the library's, with a JSON-RPC session on it, flow control in bytes, and deadlines.

Above it is `contest_core.rpc.Session`, which gets whole messages; below it are the library and the transport; beside
it is `Connections`, which asks it once in a while to `look` at its deadlines. What the library leaves open:

- it stops reading after a number of frames, whatever their size, and answers pings whether the peer takes the answers
  or not: here reading stops where messages of more than `COUNTED` bytes wait, or more than `MAX_UNSENT` are unsent;
- its keepalive takes a peer for dead that is busy with a large answer, or whose pong we do not read: here whatever
  is heard is a sign of life, and nothing is expected while nothing is read;
- it parses whatever has come in one turn of the loop, which a flood of pings makes a second long: here a bite a turn;
- it waits without end for a peer that has been told why the connection ends, and for the rest of a message.

A message of more than `COUNTED` bytes is carried out alone, so that one connection never holds more than one. Text and
binary frames are taken alike: clients differ, and JSON says itself how it is encoded. Answers are text. Nothing is
compressed: a few bytes could else become many, and every connection would need a third of a megabyte.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.frames import CLOSE, DATA_OPCODES, CloseCode, Frame
from websockets.protocol import State

from contest_core.sockets import place

if TYPE_CHECKING:
    from websockets.asyncio.server import Server
    from websockets.protocol import Event
    from websockets.server import ServerProtocol

    from contest_core.caller import Principal
    from contest_core.rpc import Session
    from contest_websocket.connections import Connections

COUNTED: Final = 64 * 1024
"""Bytes of messages that are not worth counting against the budget of all connections."""

SLICE: Final = 256 * 1024
"""Bytes of a large answer that are sent as one fragment; the next one follows when the peer has taken most of it."""

MAX_UNSENT: Final = 2 * SLICE
"""Bytes that may wait to be sent before nothing more is read: answers to pings come on top of a fragment."""

MAX_HEAD: Final = 64 * 1024
"""Bytes of the opening request."""

_END_OF_HEAD: Final = b"\r\n\r\n"

CLOSE_SECONDS: Final = 2.0
"""How long a peer has to end the connection after it was told that it ends."""

_WAITING: Final = 16
"""Messages that may wait to be taken."""

_BITE: Final = 8 * 1024
"""Bytes that are parsed in one turn of the loop: more than a thousand pings, which would else be a second's work."""

_TURN: Final = 4
"""Messages that are taken before others have their turn."""

_FRAME: Final = 256
"""Bytes that a frame takes beside its data, about."""

_CLEAN: Final = (b"", CloseCode.NORMAL_CLOSURE.to_bytes(2), CloseCode.GOING_AWAY.to_bytes(2))
"""How the frame begins with which a peer says goodbye because it is done."""


class Connection(ServerConnection):
    """A peer, which may be slow, wrong, hostile or gone."""

    def __init__(
        self, connections: Connections, protocol: ServerProtocol, server: Server, **options: Any
    ) -> None:
        super().__init__(protocol, server, **options)
        self.principal: Principal | None = None
        """Who the peer has proven to be, once the handshake is done."""
        self.admitted = False
        """Whether there was room for it."""
        self.peer = "unknown"
        """Where it comes from."""
        self._shared = connections
        self._session: Session | None = None
        self._reader: asyncio.Task[None] | None = None
        self._stopping = False
        self._leaving = False
        self._is_lost = False
        self._is_clean = False
        # Reading: `_sizes` has those of messages that wait, `_held` is their sum with the one that is carried out, if
        # that is large; `_begun` is of whole frames of a message that is not whole, `_loose` of what is no whole frame.
        self._waiting = False
        self._deaf = False
        self._whole = False
        self._sizes: deque[int] = deque()
        self._held = 0
        self._begun = 0
        self._loose = 0
        self._charged = 0
        self._backlog = bytearray()
        self._head_end = b""
        # Sending: `_gathered` bytes wait for `_flush`, which is scheduled where `_flushing` is true.
        self._gathered = 0
        self._flushing = False
        # Deadlines, as moments of the clock that all connections share.
        self._heard = self._active = self._taken = connections.now
        self._since: float | None = None
        self._pinged: float | None = None
        self._closing: float | None = None
        self._unsent = 0

    # --- serving

    async def converse(self) -> None:
        """Serves the peer until it goes away, or the listener stops; the connection is closed then, or nearly."""
        session = self._session = self._shared.session(self.peer, self.principal, self._send)
        if self._backlog:
            self._bite()
        try:
            async with asyncio.TaskGroup() as group:
                self._reader = group.create_task(self._read(session))
            if self.state is State.OPEN:
                await session.aclose()
                await self._leave(CloseCode.GOING_AWAY, "the server ends")
            elif self._is_clean:
                await self._hand_over_rest(session)
        finally:
            session.cancel()
            await session.aclose()
            self._held = self._begun = self._loose = 0
            self._charge()

    def stop(self) -> None:
        """Takes no more messages but those that are here, and closes when they are answered."""
        self._stopping = True
        if self.request is None:
            self.transport.abort()
        elif self._reader is not None and self._waiting and not self._sizes:
            self._reader.cancel()

    async def _read(self, session: Session) -> None:
        turn = 0
        while self._sizes or not self._stopping:
            if (turn := turn + 1) % _TURN == 0:
                # The others' turn: neither taking a message that is here nor answering it has to wait for anything.
                await asyncio.sleep(0)
            message = await self._take()
            if message is None:
                return
            size = self._sizes.popleft()
            self._active = self._shared.now
            if size <= COUNTED:
                self._held -= size
                await session.received(message)
            else:
                await session.received(message)
                await session.idle()
                self._held -= size

    async def _take(self) -> bytes | None:
        """The next message; None where the connection has ended."""
        self._waiting = True
        self._govern()
        try:
            message = await self.recv()
        except ConnectionClosed:
            return None
        finally:
            self._waiting = False
        return message.encode() if isinstance(message, str) else message

    async def _hand_over_rest(self, session: Session) -> None:
        """What came before a peer's goodbye: nobody waits for answers, but it may have meant notifications."""
        async with asyncio.TaskGroup() as group:
            while self._sizes and (message := await self._take()) is not None:
                self._sizes.popleft()
                task = group.create_task(session.received(message))
                # One turn to begin, one for the task that the session gives it.
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                task.cancel()

    async def _send(self, message: bytes) -> None:
        self._active = self._shared.now
        if self.paused:
            await self.drain()
        if self.state is not State.OPEN:
            # Nobody takes the answer. It is no error yet: what came before the peer's goodbye is still carried out, and
            # the end of the connection ends the session.
            return
        if len(message) > SLICE:
            await self._send_large(message)
            return
        # Not the library's `send`, which would ask the system once a message: what is answered in one turn of the loop
        # goes out together.
        self.protocol.send_text(message)
        self._gathered += len(message)
        if self._gathered > COUNTED:
            self._flush()
        elif not self._flushing:
            self._flushing = True
            self.loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        self._gathered = 0
        if not self.transport.is_closing():
            self.send_data()

    def send_data(self) -> None:
        """Writes what the library has made, in one piece where there is no end of the stream among it."""
        if self.state is not State.OPEN:
            super().send_data()
        elif frames := self.protocol.data_to_send():
            self.transport.write(b"".join(frames))

    async def _send_large(self, message: bytes) -> None:
        try:
            await self.send(_slices(message), text=True)
        except ConnectionClosed as error:
            raise ConnectionAbortedError(str(error)) from error

    async def _leave(self, code: CloseCode, reason: str) -> None:
        """Says goodbye, and returns when the connection is closed."""
        self._leaving = True
        self._govern()
        await self.close(code, reason)

    def _part(self, code: CloseCode, reason: str) -> None:
        if not self._leaving and self.state is State.OPEN:
            self._leaving = True
            self._shared.spawn(self._leave(code, reason))

    # --- called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Lets the peer in; the handshake tells it where there is no room."""
        super().connection_made(transport)
        name = transport.get_extra_info("peername")
        self.peer = place(name) if name else "unknown"
        try:
            self.admitted = self._shared.opened(self)
        except ConnectionAbortedError:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancels what nobody waits for any more."""
        super().connection_lost(exc)
        self._shared.closed(self)
        self._lose()

    def _lose(self, *, clean: bool = False) -> None:
        """The peer waits for no answer any more."""
        if self._is_lost:
            return
        self._is_lost, self._is_clean = True, clean
        reading = self._reader is not None and not self._reader.done()
        if self._reader is not None:
            self._reader.cancel()
        # Else `converse` does that, when it has handed over what came before the goodbye.
        if self._session is not None and not (reading and clean):
            self._session.cancel()

    def data_received(self, data: bytes) -> None:
        """Takes bytes in, a bite in each turn of the loop: others have theirs in between."""
        if len(data) <= _BITE and not self._backlog and self.state is not State.CONNECTING:
            self._take_in(data)
            return
        self._backlog += data
        self._bite()
        self._govern()

    def _bite(self) -> None:
        size = _BITE
        if self.state is State.CONNECTING:
            if self.request is not None:
                # The library would answer what comes too early before it has answered the opening request.
                return
            size = self._rest_of_head()
        bite = bytes(self._backlog[:size])
        del self._backlog[:size]
        if self._backlog:
            self.loop.call_soon(self._bite)
        if not self.transport.is_closing():
            self._take_in(bite)

    def _rest_of_head(self) -> int:
        """How much of what waits may belong to the opening request, at most a bite."""
        known = len(self._head_end)
        begun = self._head_end + self._backlog[:_BITE]
        end = begun.find(_END_OF_HEAD)
        self._head_end = bytes(begun[-len(_END_OF_HEAD) + 1 :])
        return _BITE if end < 0 else end + len(_END_OF_HEAD) - known

    def _take_in(self, data: bytes) -> None:
        """`process_event` is called from here with every frame that is whole."""
        now = self._heard = self._shared.now
        self._pinged = None
        self._whole = False
        super().data_received(data)
        self._loose = 0 if self._whole else self._loose + len(data)
        if self.request is None and self._loose > MAX_HEAD and self.state is State.CONNECTING:
            # What is no request at all, the library has refused already.
            if not self.protocol.eof_sent:
                self._refuse_head()
        if not (self._begun or self._loose):
            self._since = None
        elif self._since is None:
            self._since = now
        self._govern()

    def process_event(self, event: Event) -> None:
        """Takes the opening request, or a frame."""
        self._whole = True
        if not isinstance(event, Frame) or event.opcode not in DATA_OPCODES:
            super().process_event(event)
            if isinstance(event, Frame) and event.opcode is CLOSE:
                self._lose(clean=bytes(event.data[:2]) in _CLEAN)
        elif not self._leaving:
            super().process_event(event)
            self._begun += len(event.data) + _FRAME
            if event.fin:
                self._sizes.append(self._begun)
                self._held += self._begun
                self._begun = 0
                self._since = None

    def resume_writing(self) -> None:
        """The peer takes what is sent."""
        super().resume_writing()
        self._taken = self._shared.now
        self._govern()

    def _govern(self) -> None:
        """Decides whether more is read now."""
        if self.transport.is_closing():
            return
        self._charge()
        full = len(self._sizes) >= _WAITING or self._held + self._begun > COUNTED
        # The rest of a message that is waited for is read in any case: it ends the wait.
        deaf = full and not (self._waiting and not self._sizes)
        deaf = deaf or self.transport.get_write_buffer_size() > MAX_UNSENT
        deaf = bool(self._backlog) or (deaf and not self._leaving)
        if deaf == self._deaf:
            return
        self._deaf = deaf
        if deaf:
            self.transport.pause_reading()
        else:
            self._heard = self._shared.now
            if self._since is not None:
                self._since = self._heard
            self.transport.resume_reading()

    def _charge(self) -> None:
        """Counts what is held against the budget of all connections."""
        load = self._held + self._begun + self._loose
        due = load if load > COUNTED else 0
        if due == self._charged:
            return
        change, self._charged = due - self._charged, due
        if change < 0:
            self._shared.budget.give_back(-change)
        elif not self._shared.budget.take(change):
            reason = "large requests of all peers are over max_buffered: come back later"
            self._part(CloseCode.TRY_AGAIN_LATER, reason)

    def _refuse_head(self) -> None:
        words = f"The opening request has more than {MAX_HEAD:,} bytes.\n"
        self.protocol.send_response(self.protocol.reject(431, words))
        self.send_data()

    # --- called by `Connections`

    def look(self) -> None:
        """Ends the connection where a deadline has passed; else asks a silent peer for a sign of life."""
        shared = self._shared
        if self._is_stuck():
            self.transport.abort()
        elif self.state is State.CLOSING:
            self._closing = self._closing or shared.now
            if shared.now - self._closing > CLOSE_SECONDS:
                self.transport.abort()
        elif self._session is not None and not self._leaving and not self._is_overdue(self._session):
            is_silent = shared.is_over(self._heard, shared.settings.ping_interval)
            if is_silent and self._pinged is None and not self._deaf and not self._unsent:
                self._pinged = shared.now
                shared.spawn(self._ping())

    def _is_stuck(self) -> bool:
        """Whether the peer has taken nothing for too long."""
        unsent = self.transport.get_write_buffer_size()
        if not unsent or unsent < self._unsent:
            self._taken = self._shared.now
        self._unsent = unsent
        if unsent:
            # It has something to take before it can answer a ping.
            self._pinged = None
        return self._shared.is_over(self._taken, self._shared.settings.write_timeout)

    def _is_overdue(self, session: Session) -> bool:
        """Whether the peer has kept us waiting for too long: it is told so."""
        is_over, settings = self._shared.is_over, self._shared.settings
        if not self._deaf:
            limit = settings.request_timeout
            if self._since is not None and is_over(self._since, limit):
                self._part(CloseCode.POLICY_VIOLATION, f"a message was not complete within {limit}")
            limit = settings.ping_timeout
            if self._pinged is not None and is_over(self._pinged, limit):
                self._part(CloseCode.INTERNAL_ERROR, f"no answer to a ping within {limit}")
        limit = settings.idle_timeout
        if is_over(self._active, limit) and not session.busy:
            self._part(CloseCode.GOING_AWAY, f"no request for {limit} (idle_timeout)")
        return self._leaving

    async def _ping(self) -> None:
        with suppress(ConnectionClosed):
            await self.ping()


def _slices(message: bytes) -> Iterator[memoryview]:
    # Whoever counts the fragments of a message has a limit of some thousands.
    step = max(SLICE, -(-len(message) // 1000))
    view = memoryview(message)
    for start in range(0, len(message), step):
        yield view[start : start + step]
