"""The job manager behind the listeners that are tested: in memory, and it does as a case says."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from contest_core.caller import Authenticator, Bearer, Caller, Credentials, Principal
from contest_core.errors import Unauthenticated
from contest_core.events import (
    EventListMsg,
    EventMsg,
    EventStartMsg,
    EventStatusMsg,
    EventWatchMsg,
)
from contest_core.job_event import Cursor, Gap, JobEvent
from contest_core.responses import (
    EncodedJSON,
    ResponseDataList,
    ResponseDataStart,
    ResponseDataStatus,
)
from contest_core.testing.memory import MemoryJobManager
from contest_core.watch import Watch

BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)


class PlayedJobManager(MemoryJobManager):
    """As `MemoryJobManager`, but a verb can be held, and made to raise; and it remembers who asked.

    Its clock goes a second further with every look, so that two of them that are asked the same answer the same.
    """

    def __init__(self) -> None:
        super().__init__(now=self._tick)
        self.asked: list[tuple[str, EventMsg, Caller]] = []
        """Verb, message and caller of every request that came here."""
        self.cancelled: Counter[str] = Counter()
        """Requests, by verb, that were cancelled while they were held."""
        self.done: Counter[str] = Counter()
        """Requests, by verb, that went through to their end."""
        self.raises: dict[str, Exception] = {}
        """What a verb raises; under `event`, a watch instead of its next event."""
        self.filler: bytes = b""
        """What a status is filled up with."""
        self.given_out = 0
        """Events that were read by watches."""
        self.watches = 0
        """Watches that go on."""
        self.held: Counter[str] = Counter()
        """Requests, by verb, that are held at the moment."""
        self._holding: dict[str, asyncio.Event] = {}
        self._changed_state = asyncio.Event()
        self._seconds = 0

    def _tick(self) -> datetime:
        self._seconds += 1
        return BEGINNING + timedelta(seconds=self._seconds)

    def hold(self, verb: str) -> None:
        """Requests of this verb wait from now on, until `release`."""
        self._holding[verb] = asyncio.Event()

    def release(self) -> None:
        """Those that wait go on, and nobody waits any more."""
        for event in self._holding.values():
            event.set()
        self._holding.clear()

    def times(self, verb: str) -> int:
        """How often the verb came here."""
        return sum(name == verb for name, _, _ in self.asked)

    def caller(self) -> Caller:
        """Who asked last."""
        return self.asked[-1][2]

    async def _note(self, verb: str, message: EventMsg, caller: Caller) -> None:
        self.asked.append((verb, message, caller))
        if (holding := self._holding.get(verb)) is not None:
            self.held[verb] += 1
            try:
                await holding.wait()
            except asyncio.CancelledError:
                self.cancelled[verb] += 1
                raise
            finally:
                self.held[verb] -= 1
        if (error := self.raises.get(verb)) is not None:
            raise error
        self.done[verb] += 1

    # --- the verbs

    async def start(self, message: EventStartMsg, caller: Caller) -> ResponseDataStart:
        """As a case says."""
        await self._note("start", message, caller)
        return await super().start(message, caller)

    async def status(self, message: EventStatusMsg, caller: Caller) -> ResponseDataStatus | EncodedJSON:
        """As a case says; with the filler, where it has one."""
        await self._note("status", message, caller)
        answer = await super().status(message, caller)
        if not self.filler:
            return answer
        data = msgspec.json.encode(answer)
        return EncodedJSON(b'%b,"Filler":"%b"}' % (data[:-1], self.filler))

    async def list(self, message: EventListMsg, caller: Caller) -> ResponseDataList:
        """As a case says."""
        await self._note("list", message, caller)
        return await super().list(message, caller)

    def watch(self, message: EventWatchMsg, caller: Caller) -> AbstractAsyncContextManager[Watch]:
        """Counted."""
        return self._counted(message, caller)

    @asynccontextmanager
    async def _counted(self, message: EventWatchMsg, caller: Caller) -> AsyncIterator[Watch]:
        await self._note("watch", message, caller)
        async with super().watch(message, caller) as watch:
            self.watches += 1
            try:
                yield _Counted(self, watch)
            finally:
                self.watches -= 1


class _Counted(Watch):
    def __init__(self, manager: PlayedJobManager, watch: Watch) -> None:
        self._manager = manager
        self._watch = watch

    @property
    def cursor(self) -> Cursor:  # type: ignore[override]
        """Of the watch itself."""
        return self._watch.cursor

    async def __anext__(self) -> JobEvent | Gap:
        item = await anext(self._watch)
        if (error := self._manager.raises.get("event")) is not None:
            raise error
        self._manager.given_out += 1
        return item


class OneToken(Authenticator):
    """Knows one bearer token, `right`, as that of `ada`; nobody else's."""

    class Settings(msgspec.Struct, frozen=True, kw_only=True):
        """It has none."""

    def __init__(self, settings: Any = None) -> None:
        super().__init__(settings)

    async def authenticate(self, credentials: Credentials, peer: str) -> Principal | None:
        """Ada, or nobody."""
        if not isinstance(credentials, Bearer):
            return None
        if credentials.token != "right":
            raise Unauthenticated(reason="nobody has this token")
        return Principal(name="ada")
