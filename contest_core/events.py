"""API events: how a request travels from the API to whoever consumes them, ConTest's `pkg/api/event.go`.

The API puts an `Event` on the `EventChannel`; the server takes it, has the job manager answer and resolves
the event's future with an `EventResponse`. What happens *in* a job is not here but in `contest_core.job_event`.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, IntEnum
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
    plan: bool = False
    """Whether the plan of the job is wanted, too."""


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
            # Never set_exception: of an answer that nobody fetches, asyncio would complain in the log.
            answer = EventResponse(requestor=self.msg.requestor if self.msg else "", err=answer)
        self.response.set_result(answer)


class EventChannel:
    """A rendezvous: `put` ends when a consumer takes the event, and an event given up is never taken.

    Invariants: an offer that nobody took, withdrew or refused is in `_offers`, oldest first, and its future is
    not done; `take` pops an offer and completes its future without awaiting in between, so that no
    cancellation can lose an event or give it out twice. A taker in `_takers` has not been woken; one that was
    woken and does not take passes the wake-up on. While offers wait, nothing is taken on the spot.
    """

    def __init__(self) -> None:
        self._offers: dict[Future[_Outcome], Event] = {}
        self._takers: dict[Future[None], None] = {}
        self._on_the_spot: Callable[[Event], bool] | None = None
        self._closed: Callable[[], ContestError] | None = None

    async def put(self, event: Event) -> None:
        """Returns when a consumer has taken the event. Cancelled, the event is withdrawn.

        Raises the error with which the channel was closed.
        """
        from asyncio.events import get_running_loop  # keeps `contest --help` free of asyncio

        if not self._taken_on_the_spot(event):
            await self._offer(event, get_running_loop().create_future())

    async def put_within(self, event: Event, seconds: float) -> bool:
        """As `put`, but gives up after so many seconds: false, and nobody will ever take it."""
        if self._taken_on_the_spot(event):
            return True

        from asyncio.events import get_running_loop  # keeps `contest --help` free of asyncio

        loop = get_running_loop()
        outcome: Future[_Outcome] = loop.create_future()
        # One timer instead of a timeout scope: it is a fifth of the price, and this is every request's way.
        timer = loop.call_later(seconds, self._expire, outcome)
        try:
            return await self._offer(event, outcome)
        finally:
            timer.cancel()

    async def take(self) -> Event:
        """The oldest offer; waits for one. Raises what a closed channel was closed with."""
        from asyncio.events import get_running_loop  # keeps `contest --help` free of asyncio

        while (event := self._taken()) is None:
            if self._closed is not None:
                raise self._closed()
            taker: Future[None] = get_running_loop().create_future()
            self._takers[taker] = None
            try:
                await taker
            except BaseException:
                # Woken and cancelled at once: the wake-up belongs to the next taker.
                if self._takers.pop(taker, _WOKEN) is _WOKEN:
                    self._wake()
                raise
        return event

    def attach(self, consumer: Callable[[Event], bool] | None) -> None:
        """Sets a consumer that is asked first, within `put` and without a task in between.

        True is that it has taken the event. False leaves the event to `take`. It must not raise.
        """
        self._on_the_spot = consumer

    def close(self, error: Callable[[], ContestError]) -> None:
        """From now on nothing is taken: `put` and `take`, those that wait included, raise what `error` makes."""
        self._closed = error
        for outcome in self._offers:
            if not outcome.done():
                outcome.set_result(_Outcome.CLOSED)
        self._offers.clear()
        while self._takers:
            self._wake()

    def _taken_on_the_spot(self, event: Event) -> bool:
        consumer = self._on_the_spot
        return consumer is not None and not self._offers and self._closed is None and consumer(event)

    def _taken(self) -> Event | None:
        while self._offers:
            outcome = next(iter(self._offers))
            event = self._offers.pop(outcome)
            # Done is an offer whose `put` was cancelled or expired and has not come to remove it.
            if not outcome.done():
                outcome.set_result(_Outcome.TAKEN)
                return event
        return None

    async def _offer(self, event: Event, outcome: Future[_Outcome]) -> bool:
        if self._closed is None:
            self._offers[outcome] = event
            self._wake()
            try:
                found = await outcome
            finally:
                self._offers.pop(outcome, None)
            if found is not _Outcome.CLOSED:
                return found is _Outcome.TAKEN
        assert self._closed is not None
        raise self._closed()

    def _wake(self) -> None:
        if self._takers:
            taker = next(iter(self._takers))
            del self._takers[taker]
            # A cancelled one that has not come to remove itself passes the wake-up on when it does.
            if not taker.done():
                taker.set_result(None)

    def _expire(self, outcome: Future[_Outcome]) -> None:
        if not outcome.done():
            outcome.set_result(_Outcome.EXPIRED)


class _Outcome(Enum):
    """How an offer ended: a result and never an exception, which nobody may come to fetch."""

    TAKEN = 1
    EXPIRED = 2
    CLOSED = 3


_WOKEN = object()
