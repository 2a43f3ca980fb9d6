"""The listener `stdio`: JSON-RPC 2.0, one message a line, on stdin and stdout.

The server gives it an API and a context; it owns the two descriptors, from before the job manager's start to the
end of the server (`claim`), cuts lines, and hands them to a `contest_core.rpc.Session`, which does the rest. There
are three ends:

- stdin ends: what was asked is answered, the core is told (`end_of_input`: where this is the only listener the
  server ends in good order, and answers until then), and what is left is written; beside other listeners both
  descriptors are then closed, so that the reader of stdout sees the end while the server goes on;
- the reader of stdout goes away: the same, but nothing more is read or answered;
- the server ends (`stopping`): nothing more is read, what is in flight is answered.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING

from contest_core.caller import Caller, UnixPeer
from contest_core.errors import ContestError, TooLarge, Unauthenticated
from contest_core.listener import Listener
from contest_core.rpc import Session
from contest_stdio.descriptors import let_go_of_standard_streams, take_standard_streams
from contest_stdio.lines import LineSplitter, Overlong
from contest_stdio.settings import StdioSettings
from contest_stdio.streams import Input, Output

if TYPE_CHECKING:
    from contest_core.api import API
    from contest_core.listener import ListenerContext


class StdioListener(Listener):
    """Serves the process that is at the other end of stdin and stdout."""

    Settings = StdioSettings

    def __init__(self, settings: StdioSettings) -> None:
        super().__init__(settings)
        self._settings = settings
        self._claimed: tuple[int, int] | None = None

    def claim(self) -> AbstractContextManager[None]:
        """Takes stdin and stdout. Entering it raises `OSError` where stdout is closed, or both are taken already."""
        return self._claim()

    @contextmanager
    def _claim(self) -> Iterator[None]:
        with take_standard_streams() as self._claimed:
            try:
                yield
            finally:
                self._claimed = None

    async def serve(self, api: API, context: ListenerContext) -> None:
        """Serves until stdin ends, its reader goes away, or the server ends.

        Raises `OSError` where stdin cannot be read (it is a directory) or stdout cannot be written (a full disk);
        in the last case, after the server has ended in good order. Nobody has to have entered `claim`.
        """
        with nullcontext(self._claimed) if self._claimed else take_standard_streams() as (source, sink):
            if await self.serve_descriptors(api, context, source, sink):
                let_go_of_standard_streams(source)

    async def serve_descriptors(self, api: API, context: ListenerContext, source: int, sink: int) -> bool:
        """As `serve`, on a pair of descriptors that nobody else uses; they stay open. Whether the server goes on."""
        caller = await self._introduce(api, context)
        connection = _Connection(api, context, self._settings, caller, source, sink)
        try:
            return await connection.serve()
        finally:
            await connection.aclose()

    async def _introduce(self, api: API, context: ListenerContext) -> Callable[[], Caller]:
        peer = UnixPeer(uid=os.getuid(), gid=os.getgid(), pid=os.getppid())
        name = f"pid {peer.pid}"
        try:
            principal = await api.authenticate(peer, listener=context.name, peer=name)
        except Unauthenticated as error:
            return partial(_refuse, error)
        return partial(
            api.caller,
            listener=context.name,
            peer=name,
            principal=principal,
            requestor=self._settings.requestor,
        )


class _Connection:
    def __init__(
        self,
        api: API,
        context: ListenerContext,
        settings: StdioSettings,
        caller: Callable[[], Caller],
        source: int,
        sink: int,
    ) -> None:
        self._context = context
        self._limit = settings.max_request
        self._reading: asyncio.Task[None] | None = None
        self._input = Input(source)
        self._output = Output(sink, self._lost)
        self._session = Session(
            api,
            caller=caller,
            send=self._output.send,
            concurrency=settings.concurrency,
            max_answer=settings.max_answer,
            max_batch=settings.max_batch,
            log=context.log,
        )
        self._stopped = False
        self._failure: OSError | None = None

    async def serve(self) -> bool:
        goes_on = False
        self._context.ready("stdio")
        async with asyncio.TaskGroup() as group:
            self._reading = group.create_task(self._read())
            stopping = group.create_task(self._stop())
            await asyncio.wait([self._reading])
            stopping.cancel()
        # Before the core is told: what was asked before the end is not refused because of it.
        await self._session.idle()
        if not self._stopped and self._failure is None:
            if goes_on := await self._context.end_of_input():
                self._session.end_watches()
        await self._session.aclose()
        await self._output.drain()
        failure = self._failure or self._output.lost
        if failure is not None and not isinstance(failure, ConnectionError):
            raise failure
        return goes_on

    async def aclose(self) -> None:
        self._session.cancel()
        await self._session.aclose()
        self._input.close()
        await self._output.aclose()

    async def _read(self) -> None:
        splitter = LineSplitter(self._limit)
        try:
            while chunk := await self._input.read():
                await self._take(splitter.feed(chunk))
            await self._take(splitter.end())
        except OSError as error:
            error.add_note("while reading stdin")
            self._failure = error

    async def _take(self, lines: list[bytes]) -> None:
        for line in lines:
            if self._stopped:
                return
            if isinstance(line, Overlong):
                await self._session.reject(
                    TooLarge(what="the line", limit=self._limit, setting="max_request")
                )
            elif line and not line.isspace():
                await self._session.received(line)

    async def _stop(self) -> None:
        await self._context.stopping()
        self._stopped = True
        self._input.stop()

    def _lost(self) -> None:
        self._context.log.info("the reader of stdout is gone: %s", self._output.lost)
        self._session.cancel()
        if self._reading is not None:
            self._reading.cancel()


def _refuse(error: ContestError) -> Caller:
    raise error
