"""A watch of another server, with its cursors: what it gives is given, and a lost connection is taken up again.

Made by `contest_relay.manager`, one a caller. A task of its own enters the client's watch, reads and leaves it, so
that a reader may be cancelled and ask again; it reads no further ahead than `READ_AHEAD`. It ends as the other one
does: with the job, or with the server over there.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

import msgspec
from msgspec import Raw, Struct, field

from contest_core import (
    Cursor,
    EventData,
    EventWatchMsg,
    Gap,
    JobEvent,
    Watch,
)
from contest_core.errors import ConnectionLost, ContestError, Repeat, Unreachable
from contest_core.foreign import decoded
from contest_relay.answered import told
from contest_relay.asked import parameters_of
from contest_relay.far import PAUSES, Far

READ_AHEAD: Final = 64
"""Events that wait for a slow reader; further ones wait over there."""

BEGINNING_SECONDS: Final = 1.0
"""How long a watch of all jobs waits to be told where it begins."""

PATIENCE: Final = 60.0
"""Seconds that a watch waits for a server that was lost."""

LASTED_SECONDS: Final = 5.0
"""A connection that was there for longer was a success, though nothing happened: the next loss is another one."""


class _Data(EventData, frozen=True, kw_only=True):
    payload: Raw
    """As it came: numbers of any length, keys in their order."""


class _Event(JobEvent, frozen=True, kw_only=True):
    data: _Data


class _Item(Struct):
    event: _Event | None = field(name="Event", default=None)
    gap: Gap | None = field(name="Gap", default=None)


class FarWatch(Watch):
    """One reader of another server's feed; its own context manager."""

    def __init__(self, far: Far, message: EventWatchMsg) -> None:
        self.cursor = message.since or Cursor("")
        self._far = far
        self._message = message
        self._since = message.since
        """Of what was read last."""
        if message.job_id is not None and message.since == Cursor(""):
            # What `cursor` says before the first event of a job: where that begins, nobody over there tells.
            self._since = None
        self._can_resume = True
        self._items: deque[JobEvent | Gap] = deque()
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._subscribed = False
        self._patient_until = 0.0
        self._began = 0.0
        """When the present subscription did; 0 where there is none."""
        self._task: asyncio.Task[None]

    async def __aenter__(self) -> Self:
        # No task group: what the reader's own block raises is to come out as it is.
        self._task = asyncio.get_running_loop().create_task(self._follow(), name="watching")
        self._task.add_done_callback(self._wake)
        try:
            while not self._subscribed and not self._task.done():
                await self._change()
            if not self._subscribed:
                self._task.result()
            if self._from_now:
                await self._begin()
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    @property
    def _from_now(self) -> bool:
        """It is of all jobs, and where it begins only a cursor says, which comes first."""
        return self._since is None and self._message.job_id is None

    async def _begin(self) -> None:
        """Waits for the cursor. Without it, which other people's clients may not give, there is no going on."""
        with suppress(TimeoutError):
            async with asyncio.timeout(BEGINNING_SECONDS):
                while self._from_now and not self._task.done():
                    await self._change()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    async def _close(self) -> None:
        self.end()
        await asyncio.wait([self._task])
        if not self._task.cancelled():
            self._task.exception()

    def end(self) -> None:
        """No more is read; what was read may still be taken."""
        self._task.cancel()

    async def __anext__(self) -> JobEvent | Gap:
        while not self._items:
            if self._task.done():
                if not self._task.cancelled():
                    self._task.result()
                raise StopAsyncIteration
            await self._change()
        item = self._items.popleft()
        self._room.set()
        if item.cursor is not None:
            self.cursor = Cursor(item.cursor)
        return item

    def _wake(self, _: object) -> None:
        self._changed.set()

    # --- the task

    async def _follow(self) -> None:
        pause = PAUSES[0]
        while True:
            try:
                await self._read()
                return
            except ContestError as error:
                if isinstance(error, ConnectionLost | Unreachable):
                    self._far.lost(error)
                if self._began and time.monotonic() - self._began > LASTED_SECONDS:
                    self._patient_until = 0.0
                if not self._may_resume(error):
                    raise told(error, verb="watch", address=self._far.address) from error
            if self._patient_until == 0:
                self._patient_until, pause = time.monotonic() + PATIENCE, PAUSES[0]
            await asyncio.sleep(pause)
            pause = min(pause * 2, PAUSES[1])

    async def _read(self) -> None:
        """One subscription to its end."""
        self._began = 0.0
        offer = await self._far.offer()
        if refused := offer.lacks("watch", self._message):
            raise refused
        message = msgspec.structs.replace(self._message, since=self._since)
        async with self._far.client.watch(parameters_of("watch", message)) as items:
            self._subscribed = True
            self._began = time.monotonic()
            self._wake(None)
            async for item in self._decoded(items):
                self._patient_until = 0.0
                await self._give(item)

    def _may_resume(self, error: ContestError) -> bool:
        lost = isinstance(error, ConnectionLost | Unreachable) or error.row.repeat is Repeat.YES
        if not lost or not self._subscribed or not self._can_resume:
            return False
        if self._from_now:
            return False
        return not self._patient_until or time.monotonic() < self._patient_until

    async def _decoded(self, messages: AsyncIterator[bytes]) -> AsyncIterator[JobEvent | Gap]:
        async for message in messages:
            try:
                item = decoded(message, _Item)
            except ValueError as wrong:
                raise ContestError(f"what {self._far.address} tells is no event: {wrong}") from None
            if (found := item.event or item.gap) is not None:
                yield found

    async def _give(self, item: JobEvent | Gap) -> None:
        self._can_resume = item.cursor is not None
        self._since = Cursor(item.cursor) if item.cursor is not None else None
        if isinstance(item, Gap) and item.missed == 0:
            # No gap, but where it begins: this server's wires say that in their own way.
            self.cursor = Cursor(item.cursor)
            return self._wake(None)
        self._items.append(item)
        self._wake(None)
        while len(self._items) >= READ_AHEAD:
            self._room.clear()
            await self._room.wait()
