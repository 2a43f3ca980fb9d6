"""One connection: bytes to lines, lines to the session, answers back; and every way in which that ends.

Made by the listener. It ends when the peer has closed, has said that nothing more comes (and waits for its answers), or
takes too long; when the server ends (`stop`); and when its task is cancelled.
"""

from __future__ import annotations

import asyncio
import select
import socket
import struct
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

from contest_core import (
    API,
    Caller,
    ContestError,
    InvalidMessage,
    ListenerContext,
    TooLarge,
    TooManyRequests,
    UnixPeer,
)
from contest_core.budget import Budget
from contest_core.rpc import Session
from contest_unix.lines import Lines

if TYPE_CHECKING:
    from contest_unix.listener import UnixListener

CHUNK: Final = 64 * 1024
"""Bytes that are read at once."""


class Connection:
    """A peer, which may be slow, wrong or gone."""

    def __init__(
        self,
        api: API,
        context: ListenerContext,
        settings: UnixListener.Settings,
        budget: Budget,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._api = api
        self._context = context
        self._settings = settings
        self._budget = budget
        self._reader = reader
        self._writer = writer
        self._lines = Lines(settings.max_request)
        self._since: float | None = None
        self._reading: asyncio.Task[None] | None = None
        self._waiting = False
        self._stopped = False

    async def serve(self, *, full: bool) -> None:
        """Serves the peer to its end; `full` says that there are too many already."""
        try:
            session = Session(
                self._api,
                caller=await self._introduce(),
                send=self._send,
                concurrency=self._settings.concurrency,
                budget=self._budget,
                log=self._context.log,
            )
            try:
                await (self._turn_away(session) if full else self._converse(session))
                await session.aclose()
                await self._say_goodbye()
            finally:
                session.cancel()
                await session.aclose()
        except OSError as error:
            self._context.log.debug("a connection broke: %s", error)
        # The boundary between connections: a fault of this code ends the one where it happens, and no other.
        except Exception:
            self._context.log.exception("a connection failed")
        finally:
            self._cut()
            with suppress(OSError):
                await self._writer.wait_closed()

    def stop(self) -> None:
        """No more requests: what is in flight is answered, then the connection closes."""
        self._stopped = True
        if self._reading is not None and self._waiting:
            self._reading.cancel()

    # --- who asks

    async def _introduce(self) -> partial[Caller]:
        """What makes the caller of each request, or says why there is none."""
        sock = self._writer.get_extra_info("socket")
        size = struct.calcsize("3i")
        pid, uid, gid = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
        peer = UnixPeer(uid=uid, gid=gid, pid=pid)
        name = f"uid={uid} pid={pid}"
        try:
            principal = await self._api.authenticate(peer, listener=self._context.name, peer=name)
        except ContestError as error:
            return partial(_refuse, error)
        return partial(self._api.caller, listener=self._context.name, peer=name, principal=principal)

    # --- bytes in

    async def _converse(self, session: Session) -> None:
        async with asyncio.TaskGroup() as group:
            self._reading = group.create_task(self._read(session))
            if self._stopped:
                self._reading.cancel()
        if not self._stopped:
            # It only waits for what it has asked: a watch has no end.
            session.end_watches()

    async def _read(self, session: Session) -> None:
        while not self._stopped and not session.gone:
            try:
                chunk = await self._next()
            except TimeoutError:
                if session.busy and not self._lines.begun:
                    continue
                if self._lines.begun:
                    await session.reject(InvalidMessage(reason="the end of the line did not come in time"))
                return
            for line in self._lines.feed(chunk):
                await self._take(line, session)
            if not chunk:
                await self._ended(session)
                return

    async def _next(self) -> bytes:
        """Some bytes, none at the end. Raises `TimeoutError` where the peer has been silent for too long."""
        self._waiting = True
        try:
            async with asyncio.timeout_at(self._deadline()):
                return await self._reader.read(CHUNK)
        except ConnectionError:
            return b""
        finally:
            self._waiting = False

    def _deadline(self) -> float:
        now = asyncio.get_running_loop().time()
        if not self._lines.begun:
            return now + self._settings.idle_timeout.seconds
        if self._since is None:
            self._since = now
        return self._since + self._settings.request_timeout.seconds

    async def _take(self, line: bytes, session: Session) -> None:
        self._since = None
        if self._stopped:
            return
        limit = self._settings.max_request
        if len(line) > limit:
            await session.reject(TooLarge(what="the request", limit=limit, setting="max_request"))
        elif line and not line.isspace():
            await session.received(line)

    async def _ended(self, session: Session) -> None:
        """Nothing more comes: the peer is gone, or waits for its answers."""
        if _is_gone(self._writer):
            session.cancel()
        else:
            await self._take(self._lines.rest(), session)

    # --- bytes out

    async def _send(self, message: bytes) -> None:
        """Called by the session. Returns when there is room for more; raises `OSError` where the peer is gone."""
        # Not `writelines`, which before Python 3.12.9 and 3.13.2 leaves flow control out (CVE-2024-12254).
        self._writer.write(message + b"\n")
        try:
            async with asyncio.timeout(self._settings.write_timeout.seconds):
                await self._writer.drain()
        except TimeoutError:
            # It is an `OSError`, which ends the session; this ends the reader.
            self._cut()
            raise

    async def _turn_away(self, session: Session) -> None:
        limit = self._settings.max_connections
        reason = f"there are {limit} connections, which is max_connections"
        await session.reject(TooManyRequests(reason=reason, retry_after=1))

    def _cut(self) -> None:
        """Ends the connection now, if it has not ended by itself: asyncio's transport raises then."""
        if self._writer.get_extra_info("socket").fileno() != -1:
            self._writer.transport.abort()

    async def _say_goodbye(self) -> None:
        """Closes when everything is written."""
        self._writer.close()
        with suppress(OSError):
            async with asyncio.timeout(self._settings.write_timeout.seconds):
                await self._writer.wait_closed()


def _is_gone(writer: asyncio.StreamWriter) -> bool:
    """Whether the peer has closed. Else it has only ended its half, and waits for answers."""
    if writer.transport.is_closing():
        return True
    poll = select.poll()
    poll.register(writer.get_extra_info("socket").fileno(), 0)
    return any(event & select.POLLHUP for _, event in poll.poll(0))


def _refuse(error: ContestError) -> Caller:
    raise error
