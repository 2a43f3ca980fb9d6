"""The other server: whether it is there, what it offers, and one question to it.

Made by `contest_relay.manager`, which says when it begins and ends. It stands on a client of whatever scheme the
address has. Before anything is asked, and after every loss, the server is greeted: `version` says what it offers, and a
job that nobody has shows whether the address leads back here. One greeting serves all who wait for it.

    greeted     questions go over; it is looked after now and then
    away        each question greets anew, at most every `PAUSES[0]`; between them it is looked for with growing pauses
"""

from __future__ import annotations

import asyncio
import time
from random import randrange
from typing import TYPE_CHECKING, Final

from msgspec import Struct, field

from contest_core import (
    CURRENT_API_VERSION,
    VERBS,
    ClientOptions,
    ContestError,
    Unauthenticated,
    Unavailable,
    Unreachable,
)
from contest_core.client import client_class
from contest_core.foreign import decoded
from contest_core.offer import Offer
from contest_core.reconnecting import Reconnecting
from contest_relay.answered import read, told

if TYPE_CHECKING:
    from contest_core import Client, JobManagerContext
    from contest_relay.settings import RelaySettings

LOOK_SECONDS: Final = 10.0
"""How often a server is looked after of which nothing was heard."""

PAUSES: Final = (0.2, 5.0)
"""Seconds between two attempts to reach a server that is away: the first, and the longest."""

OF_CONTEST: Final = frozenset({"start", "stop", "status", "retry", "list"})
"""What a ConTest does, which lists no capabilities and passes over parameters that it does not know."""

EVERYTHING: Final = frozenset(
    {name for name in VERBS if name != "version"}
    | {each.capability for verb in VERBS.values() for each in verb.parameters if each.capability}
)
"""What may be asked here, as long as it is not known what is offered over there."""

_NOBODY: Final = "relay"


class _Version(Struct):
    version: int = field(name="Version", default=0)
    capabilities: tuple[str, ...] = field(name="Capabilities", default=())


def _client_class(address: str, context: JobManagerContext) -> type[Client]:
    try:
        return client_class(address, context.plugins)
    except Unreachable as error:
        # No restart of the other server mends this: the configuration is wrong.
        raise ContestError(f"job manager relay: {error.message}", code="invalid_parameters") from error


class Far:
    """A server that is asked in the name of others. Used within one task group, which ends what it began."""

    def __init__(self, settings: RelaySettings, context: JobManagerContext, group: asyncio.TaskGroup) -> None:
        self.address = settings.address
        self.capabilities = EVERYTHING
        """What it offers, or did when it was last there."""
        self._seconds = settings.timeout.seconds
        self._context = context
        self._group = group
        options = ClientOptions(
            requestor=_NOBODY,
            token=settings.token.reveal() if settings.token else None,
            timeout=self._seconds,
            max_answer=settings.max_answer,
        )
        kind = _client_class(self.address, context)
        self.client = Reconnecting(lambda: kind, self.address, options)
        self._offer: Offer | None = None
        self._greeting: asyncio.Task[ContestError | None] | None = None
        self._away: ContestError = Unavailable(what=self.address, reason="it has not answered yet")
        """Why it is not there."""
        self._failed = -PAUSES[0]
        """When it was last greeted in vain."""
        self._lost = asyncio.Event()
        self._telling = False
        self._sought: int | None = None
        """The job that nobody has, while it is asked for."""
        self._leads_back = False

    # --- called by the manager

    async def open(self, seconds: float) -> None:
        """Greets it, and returns when that is done or has taken so long. Raises a `ContestError` for a wrong token.

        A server that is away is no error: it may be started later than this one.
        """
        greeting = self._greet()
        await asyncio.wait([greeting], timeout=seconds)
        error = greeting.result() if greeting.done() else self._away
        if isinstance(error, Unauthenticated):
            reason = (
                f"{self.address} does not know this relay: {error.message}; `token` is what it shows there"
            )
            raise ContestError(f"job manager relay: {reason}", code=error.code) from error
        self._context.ready()
        self._telling = True
        if error is not None:
            self._context.degraded(error.message)

    async def look_after(self) -> None:
        """Keeps knowing whether it is there; cancelled, it ends."""
        pause = PAUSES[0]
        while True:
            try:
                async with asyncio.timeout(LOOK_SECONDS if self._offer is not None else pause):
                    await self._lost.wait()
            except TimeoutError:
                pause = min(pause * 2, PAUSES[1])
            self._lost.clear()
            greeting = self._greet()
            await asyncio.wait([greeting])
            if greeting.result() is None:
                pause = PAUSES[0]

    async def aclose(self) -> None:
        """Asks nothing more, and closes the connection."""
        if self._greeting is not None:
            self._greeting.cancel()
        await self.client.aclose()

    def is_sought(self, job_id: int) -> bool:
        """Whether this is the job that nobody has, so that the address leads back here."""
        found = job_id == self._sought
        self._leads_back = self._leads_back or found
        return found

    # --- called by whoever asks

    async def offer(self) -> Offer:
        """What it offers. Raises `Unavailable` where it is not there."""
        if self._offer is None and time.monotonic() - self._failed >= PAUSES[0]:
            await asyncio.wait([self._greet()])
        if self._offer is None:
            raise told(self._away, verb="version", address=self.address)
        return self._offer

    def lost(self, error: ContestError) -> None:
        """It was there and is not any more: before the next question it is greeted anew."""
        self._offer = None
        self._away = error
        self._lost.set()
        self._tell(error)

    # --- greeting

    def _greet(self) -> asyncio.Task[ContestError | None]:
        if self._greeting is None:
            self._greeting = self._group.create_task(self._greeted(), name="greeting")
            self._greeting.add_done_callback(self._was_greeted)
        return self._greeting

    def _was_greeted(self, _: object) -> None:
        self._greeting = None

    async def _greeted(self) -> ContestError | None:
        """The error, and not raised: nobody else's work ends with it."""
        error: ContestError | None = None
        try:
            async with asyncio.timeout(self._seconds):
                capabilities = await self._introduced()
        except TimeoutError:
            error = Unavailable(what=self.address, reason=f"no answer within {self._seconds:g} s")
        except ContestError as failed:
            error = failed
        if error is not None:
            self._offer, self._away, self._failed = None, error, time.monotonic()
        elif self._offer is None or capabilities != self.capabilities:
            self.capabilities = capabilities
            self._offer = Offer(capabilities, by=self.address)
        self._tell(error)
        return error

    def _tell(self, error: ContestError | None) -> None:
        if not self._telling:
            return
        if error is None:
            self._context.ready()
        else:
            self._context.degraded(error.message)

    async def _introduced(self) -> frozenset[str]:
        envelope = read(await self.client.call("version", {}), verb="version", address=self.address)
        if error := envelope.unread() or envelope.refusal():
            raise error
        try:
            version = decoded(envelope.data, _Version)
        except ValueError as wrong:
            raise ContestError(f"{self.address} is no Contest server: {wrong}") from None
        if version.version != CURRENT_API_VERSION:
            reason = f"it speaks version {version.version} of the API, and not {CURRENT_API_VERSION}"
            raise Unavailable(what=self.address, reason=reason)
        if self._offer is None:
            await self._look_for_myself()
        return EVERYTHING.intersection(version.capabilities) if version.capabilities else OF_CONTEST

    async def _look_for_myself(self) -> None:
        """Also the first question that needs credentials."""
        self._sought, self._leads_back = randrange(2**62, 2**63), False
        try:
            asked = {"requestor": _NOBODY, "jobID": self._sought}
            envelope = read(await self.client.call("status", asked), verb="status", address=self.address)
        finally:
            self._sought = None
        if self._leads_back:
            raise Unavailable(what=self.address, reason="the address leads back to this relay")
        if isinstance(error := envelope.unread(), Unauthenticated):
            raise error
