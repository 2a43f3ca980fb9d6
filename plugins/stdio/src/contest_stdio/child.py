"""A spawned server: a process with three pipes, of which the client sees lines.

Made by `client`, which knows the protocol; this knows only that a process has an end, and how to say what it was.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Sequence
from typing import Final, cast

from contest_stdio.lines import LineSplitter

LAST_WORDS: Final = 4096
"""How much of the end of the process's stderr is kept, in bytes."""

_STRAGGLERS_SECONDS: Final = 1.0
"""How long output may still come when the process has ended, and an end when there is no more output."""


class Child(asyncio.SubprocessProtocol):
    """One process. `on_line` gets every line of its stdout, `on_end` is called once, when no more will come."""

    def __init__(self, limit: int, on_line: Callable[[bytes], None], on_end: Callable[[], None]) -> None:
        self.ended = asyncio.Event()
        """Set when it is of no more use: it has exited, or has closed its stdout."""
        self._on_line = on_line
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._lines = LineSplitter(limit)
        self._last_words = b""
        self._open = {1, 2}
        self._exited = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._transport: asyncio.SubprocessTransport | None = None

    async def spawn(self, argv: Sequence[str]) -> None:
        """Starts the process. Raises `OSError`."""
        await self._loop.subprocess_exec(lambda: self, *argv)

    async def write(self, line: bytes) -> bool:
        """Writes to its stdin; returns when there is room for more. False where it takes nothing any more."""
        stdin = self._stdin()
        if stdin is None:
            return False
        stdin.write(line + b"\n")
        await self._room.wait()
        return True

    def fate(self) -> str:
        """What became of it, with its last words, for a person."""
        words = self._last_words.decode(errors="replace").strip()
        return f"{self._how()}; its stderr ended with:\n{words}" if words else self._how()

    async def aclose(self, patience: float) -> None:
        """Closes its stdin and waits so many seconds for its end, as long again after SIGTERM, then kills it.

        Cancelled, it kills it at once. In any case it is gone afterwards.
        """
        if self._transport is None:
            return
        try:
            if (stdin := self._stdin()) is not None:
                stdin.close()
            if not await self._exits_within(patience):
                self._transport.terminate()
                await self._exits_within(patience)
        finally:
            if self._transport.get_returncode() is None:
                self._transport.kill()
                await self._exited.wait()
            if (stdin := self._stdin()) is not None:
                stdin.abort()
            self._transport.close()
            await self.ended.wait()

    async def _exits_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._exited.wait()
        except TimeoutError:
            return False
        return True

    def _stdin(self) -> asyncio.WriteTransport | None:
        pipe = None if self._transport is None else self._transport.get_pipe_transport(0)
        return None if pipe is None or pipe.is_closing() else cast("asyncio.WriteTransport", pipe)

    def _how(self) -> str:
        status = None if self._transport is None else self._transport.get_returncode()
        if status is None:
            return "it closed its stdout" if self.ended.is_set() else "it runs"
        if status >= 0:
            return f"exit status {status}"
        try:
            return f"killed by {signal.Signals(-status).name}"
        except ValueError:
            return f"killed by signal {-status}"

    # --- called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The process runs."""
        self._transport = cast("asyncio.SubprocessTransport", transport)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """It has written something."""
        if fd == 2:
            self._last_words = (self._last_words + data)[-LAST_WORDS:]
            return
        for line in self._lines.feed(data):
            self._on_line(line)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        """It has closed one of the three pipes."""
        self._open.discard(fd)
        if fd != 2:
            self._room.set()
        if fd == 1:
            self._nearly_ended()

    def process_exited(self) -> None:
        """It is gone, but there may be output that was not read."""
        self._exited.set()
        self._nearly_ended()

    def pause_writing(self) -> None:
        """It reads its stdin too slowly."""
        self._room.clear()

    def resume_writing(self) -> None:
        """It has read enough of its stdin."""
        self._room.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """It has exited and all of its pipes are closed."""
        self._end()

    def _nearly_ended(self) -> None:
        if not self.ended.is_set():
            self._loop.call_later(_STRAGGLERS_SECONDS, self._end)

    def _end(self) -> None:
        if not self.ended.is_set():
            self.ended.set()
            self._room.set()
            self._on_end()
