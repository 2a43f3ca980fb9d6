"""API events: how a request travels from the API to whoever consumes them, ConTest's `pkg/api/event.go`.

The API puts an `Event` on the `EventChannel`; the server takes it, has the job manager answer and resolves
the event's future with an `EventResponse`. What happens *in* a job is not here but in `contest_core.job_event`.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from contest_core.caller import Caller
from contest_core.errors import ContestError
from contest_core.job_event import Cursor
from contest_core.responses import EncodedJSON, ResponseData
from contest_core.status import JobQuery

if TYPE_CHECKING:
    from asyncio import Future


class EventType(IntEnum):
    """What an event asks for. The first six have ConTest's numbers."""

    START = 0
    STATUS = 1
    STOP = 2
    RETRY = 3
    ERROR = 4
    """A listener's fault outside a request: it carries an error and no message."""
    LIST = 5
    VALIDATE = 6
    LOCKS = 7
    WATCH = 8

    def __str__(self) -> str:
        return f"EventType{self.name.capitalize()}"


class EventMsg(Struct, frozen=True, kw_only=True):
    """The arguments of a request."""

    requestor: str
    """Who asks, as the client declares it."""


class EventStartMsg(EventMsg, frozen=True, kw_only=True):
    """Start a job."""

    job_descriptor: str
    """One JSON object."""
    start_key: str | None = None
    strict: bool = False
    test_id: str = ""
    """ConTest's field; nobody sets it, as there."""
    num_runs: int = 0
    """ConTest's field; nobody sets it, as there."""


class EventStatusMsg(EventMsg, frozen=True, kw_only=True):
    """The status of a job, or of a part of it."""

    job_id: int
    run: int | None = None
    test: str | None = None
    target: str | None = None
    events: bool = True
    """Whether the events of steps are wanted."""


class EventStopMsg(EventMsg, frozen=True, kw_only=True):
    """Stop a job."""

    job_id: int


class EventRetryMsg(EventMsg, frozen=True, kw_only=True):
    """Run an ended job again, as a new one."""

    job_id: int
    failed_only: bool = False


class EventListMsg(EventMsg, frozen=True, kw_only=True):
    """Find jobs."""

    query: JobQuery


class EventValidateMsg(EventMsg, frozen=True, kw_only=True):
    """Check a descriptor and run nothing."""

    job_descriptor: str


class EventLocksMsg(EventMsg, frozen=True, kw_only=True):
    """Which targets are locked."""


class EventWatchMsg(EventMsg, frozen=True, kw_only=True):
    """Follow the events of one job, or of all."""

    job_id: int | None = None
    since: Cursor | None = None


class EventResponse(Struct, frozen=True, kw_only=True):
    """What the consumer answers to an event, with ConTest's fields."""

    requestor: str
    job_id: int | None = None
    err: ContestError | None = None
    new_job_id: int | None = None
    data: ResponseData | EncodedJSON | Any = None
    """What the job manager returned; of a watch, the watch."""


EventListResponse = EventResponse
"""ConTest has a second struct for lists; here one serves all."""


class Event(Struct, frozen=True, kw_only=True, eq=False):
    """One request on its way to the consumer."""

    context: Caller
    type: EventType
    server_id: str
    msg: EventMsg | None = None
    """None only in an event of type `ERROR`."""
    err: Exception | None = None
    """Set only in an event of type `ERROR`."""
    response: Future[EventResponse]
    """The answer goes here, at most once. Cancelled when the caller went away."""

    def resolve(self, answer: EventResponse | ContestError) -> None:
        """Gives the answer, unless there is one already or nobody waits any more."""
        if self.response.done():
            return
        if isinstance(answer, ContestError):
            self.response.set_exception(answer)
        else:
            self.response.set_result(answer)


class _Offer:
    __slots__ = ("event", "taken")

    def __init__(self, event: Event, taken: Future[None]) -> None:
        self.event = event
        self.taken = taken


class EventChannel:
    """A rendezvous: `put` ends when a consumer takes the event, and an event given up is never taken.

    Invariant: an offer is in the queue exactly while its `taken` is not done; `take` pops and completes it
    without awaiting in between, so that no cancellation can lose an event.
    """

    def __init__(self) -> None:
        self._offers: OrderedDict[_Offer, None] = OrderedDict()
        self._takers: deque[Future[None]] = deque()

    async def put(self, event: Event) -> None:
        """Returns when a consumer has taken the event. Cancelled, the event is withdrawn."""
        from asyncio import get_running_loop  # keeps `contest --help` free of asyncio

        offer = _Offer(event, get_running_loop().create_future())
        await self._offer(offer)

    async def put_within(self, event: Event, seconds: float) -> bool:
        """As `put`, but gives up after so many seconds: false, and nobody will ever take it."""
        from asyncio import get_running_loop  # keeps `contest --help` free of asyncio

        loop = get_running_loop()
        offer = _Offer(event, loop.create_future())
        # One timer instead of a timeout scope: it is a fifth of the price, and this is every request's way.
        timer = loop.call_later(seconds, self._expire, offer)
        try:
            await self._offer(offer)
        except TimeoutError:
            return False
        finally:
            timer.cancel()
        return True

    async def take(self) -> Event:
        """The oldest offer; waits for one."""
        from asyncio import get_running_loop  # keeps `contest --help` free of asyncio

        while True:
            while self._offers:
                offer, _ = self._offers.popitem(last=False)
                if not offer.taken.done():
                    offer.taken.set_result(None)
                    return offer.event
            taker: Future[None] = get_running_loop().create_future()
            self._takers.append(taker)
            try:
                await taker
            except BaseException:
                # Woken and cancelled at once: the wake-up belongs to the next taker.
                if taker.done() and not taker.cancelled():
                    self._wake()
                raise

    def withdraw_all(self, error: ContestError) -> None:
        """Refuses every event that nobody has taken: `put` raises the error."""
        while self._offers:
            offer, _ = self._offers.popitem(last=False)
            if not offer.taken.done():
                offer.taken.set_exception(error)

    async def _offer(self, offer: _Offer) -> None:
        self._offers[offer] = None
        self._wake()
        try:
            await offer.taken
        except BaseException:
            self._offers.pop(offer, None)
            raise

    def _wake(self) -> None:
        while self._takers:
            taker = self._takers.popleft()
            if not taker.done():
                taker.set_result(None)
                return

    def _expire(self, offer: _Offer) -> None:
        if not offer.taken.done():
            offer.taken.set_exception(TimeoutError())
