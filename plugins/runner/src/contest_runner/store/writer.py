"""The loop's side of writing: gathers, hands over, tells everybody.

Tasks of the event loop append rows and operations; one thread commits them. A commit begins at once when
none is under way; while one is, the next batch gathers: no timer, so a lone job does not wait and a thousand
share each sync. Batches are committed in the order in which they were gathered, one after the other.

While the database takes nothing (a full disk), a batch is tried again and again and everything behind it waits. What
somebody asks for who can ask again does not wait: such a request is taken out of the batch, which the database has
undone, and refused.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, Future, to_thread
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from itertools import repeat
from queue import SimpleQueue
from threading import Thread
from typing import Any, Final, Protocol, TypeVar

from sqlalchemy import update

from contest_runner.store import schema
from contest_runner.store.batch import WIDTH, Batch, Operation
from contest_runner.store.errors import StoreClosed, StoreError, StoreFailed, StoreGivenUp, StoreUnwell
from contest_runner.store.feed import Feed
from contest_runner.store.transaction import Done, Fatal, Outcome, Result, Transactor, Unwell
from contest_runner.store.writing import Writing

T = TypeVar("T")

MAX_ROWS = 20_000
"""Rows gathered, beyond which `room` waits."""

MAX_PAYLOAD = 32 << 20
"""Characters of payload gathered, beyond which `room` waits."""

FIRST_DELAY = 0.05
LAST_DELAY = 5.0
"""Seconds before a batch is tried again: doubled from the first to the last."""

WAKE_AT_ONCE: Final = 256
"""How many of those who wait are told in one turn of the loop."""

_WRITTEN: Result = (True, None)


class _Request(Operation):
    """What is refused rather than kept waiting."""

    __slots__ = ()


class Later(Protocol):
    """`loop.call_later`; tests give another."""

    def __call__(self, delay: float, callback: Callable[[], None], /) -> object:
        """Call it after so many seconds."""


class Writer:
    """See the module. All methods are called on the event loop."""

    def __init__(
        self,
        transactor: Transactor,
        feed: Feed,
        loop: AbstractEventLoop,
        *,
        on_health: Callable[[str | None], None],
        on_fatal: Callable[[StoreFailed], None],
        later: Later | None = None,
    ) -> None:
        self._transactor = transactor
        self._feed = feed
        self._loop = loop
        self._on_health = on_health
        self._on_fatal = on_fatal
        self._later: Later = later or loop.call_later
        self._gathered = Batch(feed.position + 1)
        self._cells = self._gathered.cells
        self._payload = 0
        self._next = self._gathered.first
        self._scheduled = False
        self._crowded: list[Future[None]] = []
        self._future: Callable[[], Future[None]] = partial(Future, loop=loop)
        self._out: Batch | None = None
        self._delay = 0.0
        self._resting = False
        self._woken: deque[tuple[Future[Any], Result]] = deque()
        self._waking = False
        self._unwell: str | None = None
        self._probe: Batch | None = None
        self._error: StoreError | None = None
        self._closing = False
        self._work: SimpleQueue[Batch | None] = SimpleQueue()
        self._thread = Thread(target=self._serve, name="contest-store", daemon=True)
        self._thread.start()

    def append(
        self,
        job_id: int,
        sequence: int,
        run_id: int | None,
        test: str | None,
        phase: str | None,
        attempt: int | None,
        step: str | None,
        target: str | None,
        name: str,
        time: int,
        payload: str | None,
        token: int | None,
    ) -> None:
        """Add a row of events to the batch being gathered, under the next feed position."""
        position = self._next
        self._next = position + 1
        if payload is None:
            payload = ""
        else:
            self._payload += len(payload)
        self._cells += (
            position, job_id, sequence, run_id, test, phase, attempt, step or "", target, name, time, payload, token,
        )  # fmt: skip
        if not self._scheduled:
            self._schedule()

    def append_each(
        self,
        job_id: int,
        sequence: int,
        run_id: int | None,
        test: str | None,
        phase: str | None,
        attempt: int | None,
        targets: Sequence[str],
        name: str,
        time: int,
        token: int | None,
    ) -> None:
        """Add a row of each target, alike but for that; `sequence` is the first one's."""
        cells, position = self._cells, self._next
        for target in targets:
            cells += (
                position, job_id, sequence, run_id, test, phase, attempt, "", target, name, time, "", token,
            )  # fmt: skip
            position += 1
            sequence += 1
        self._next = position
        if targets and not self._scheduled:
            self._schedule()

    @property
    def next_position(self) -> int:
        """What the next event appended will get."""
        return self._next

    def committed(self) -> Future[None]:
        """Await it: all that was appended so far is on disk. Raises StoreFailed or StoreClosed."""
        future = self._future()
        if self._cells or self._gathered.operations:
            self._gathered.waiters.append(future)
        elif self._out is not None and self._out is not self._probe:
            self._out.waiters.append(future)
        elif self._error is not None:
            future.set_exception(self._error)
        else:
            future.set_result(None)
        return future

    def written(self) -> Future[None]:
        """As `committed`, for who has appended all that belongs together: a commit begins now if none is under way."""
        future = self.committed()
        if self._scheduled and self._out is None:
            self._hand_over()
        return future

    @property
    def gathering(self) -> object:
        """Stands for the batch being gathered: another when that was handed over."""
        return self._gathered

    def submit(self, run: Callable[[Writing], T], job_id: int | None = None) -> Future[T]:
        """Add an operation to the batch being gathered; the future knows when the batch is on disk.

        `job_id` is the job's whose lease it asks for.
        """
        return self._add(Operation(run, self._loop.create_future(), job_id))

    def request(self, run: Callable[[Writing], T]) -> Future[T]:
        """As `submit`, for who can ask again: while the database takes nothing it raises StoreUnwell, undone."""
        future: Future[T] = self._loop.create_future()
        if self._unwell is not None:
            future.set_exception(StoreUnwell(self._unwell))
            return future
        return self._add(_Request(run, future, None))

    def _add(self, operation: Operation) -> Future[Any]:
        self._gathered.operations.append(operation)
        if not self._scheduled:
            self._schedule()
        return operation.future

    async def room(self) -> None:
        """Wait while too much is gathered."""
        while len(self._cells) >= MAX_ROWS * WIDTH or self._payload >= MAX_PAYLOAD:
            waiter = self._future()
            self._crowded.append(waiter)
            await waiter

    def give_up(self) -> None:
        """From now on each batch has one more try: what the database does not take then fails with StoreFailed."""
        self._closing = True
        self._retry()

    async def close(self) -> None:
        """Commit what there is, and end the thread. Nothing may be appended any more.

        Raises StoreFailed where the database did not take it at one last try.
        """
        self.give_up()
        try:
            if self._error is None:
                await self.committed()
        finally:
            self._end(self._error or StoreClosed())
            self._work.put(None)
            await to_thread(self._thread.join)

    def _schedule(self) -> None:
        self._scheduled = True
        if self._out is None:
            # Not now: what other tasks append in this turn of the loop shares the commit.
            self._loop.call_soon(self._begin)

    def _begin(self) -> None:
        if self._gathered.waiters or self._gathered.operations:
            self._hand_over()
        else:
            # Nobody waits for it yet: what comes of it in the next turn may share the commit.
            self._loop.call_soon(self._hand_over)

    def _hand_over(self) -> None:
        if self._out is not None or not self._scheduled:
            return
        batch = self._gathered
        self._gathered = Batch(self._next)
        self._cells = self._gathered.cells
        self._payload = 0
        self._scheduled = False
        for waiter in self._crowded:
            if not waiter.done():
                waiter.set_result(None)
        self._crowded.clear()
        if self._error is not None:
            _fail(batch, self._error)
        else:
            self._out = batch
            self._work.put(batch)

    def _serve(self) -> None:
        """The thread."""
        while (batch := self._work.get()) is not None:
            outcome = self._transactor.execute(batch)
            self._loop.call_soon_threadsafe(self._finish, batch, outcome)
            # While it waits for the next one the thread must not hold what the last one was made of.
            del batch, outcome

    def _finish(self, batch: Batch, outcome: Outcome) -> None:
        if isinstance(outcome, Unwell):
            self._refuse_requests(batch, outcome.reason)
            if not self._closing:
                self._rest(outcome.reason)
                return
        self._out = None
        if isinstance(outcome, Done):
            self._settle(batch, outcome)
        elif batch is not self._probe or isinstance(outcome, Fatal):
            failed = (StoreFailed if isinstance(outcome, Fatal) else StoreGivenUp)(outcome.reason)
            self._end(failed)
            _fail(batch, failed)
            if isinstance(outcome, Fatal):
                self._on_fatal(failed)
        if self._scheduled:
            self._hand_over()

    def _rest(self, reason: str) -> None:
        self._on_health(reason)
        self._delay = min(self._delay * 2 or FIRST_DELAY, LAST_DELAY)
        self._resting = True
        self._later(self._delay, self._retry)

    def _refuse_requests(self, batch: Batch, reason: str) -> None:
        self._unwell = reason
        for each in (batch, self._gathered):
            refused = [operation for operation in each.operations if isinstance(operation, _Request)]
            each.operations[:] = [operation for operation in each.operations if operation not in refused]
            for operation in refused:
                if not operation.future.done():
                    operation.future.set_exception(StoreUnwell(reason))
        if not (batch.cells or batch.operations or batch.waiters):
            # Something has to tell when the database is well again.
            self._probe = batch
            nobody: Future[None] = self._loop.create_future()
            nobody.cancel()
            batch.operations.append(Operation(_write_something, nobody, None))

    def _settle(self, batch: Batch, outcome: Done) -> None:
        self._unwell = self._probe = None
        if self._delay:
            self._delay = 0.0
            self._on_health(None)
        self._feed.committed(batch.last, outcome.jobs)
        self._woken.extend(zip((each.future for each in batch.operations), outcome.results, strict=True))
        self._woken.extend(zip(batch.waiters, repeat(_WRITTEN)))
        if not self._waking:
            self._wake()

    def _wake(self) -> None:
        """Tell so many of those who wait, in order: what they do next is handed over before the others are told."""
        woken = self._woken
        for _ in range(min(len(woken), WAKE_AT_ONCE)):
            future, (succeeded, result) = woken.popleft()
            if future.done():
                continue
            if succeeded:
                future.set_result(result)
            else:
                future.set_exception(result)
        self._waking = bool(woken)
        if woken:
            self._loop.call_soon(self._wake)

    def _retry(self) -> None:
        if self._resting and self._out is not None:
            self._resting = False
            self._work.put(self._out)

    def _end(self, error: StoreError) -> None:
        self._error = error
        self._feed.end(error)


def _write_something(writing: Writing) -> None:
    """Changes nothing, but has to be written: an empty transaction would succeed on a full disk."""
    writing.connection.execute(update(schema.meta).values(value=schema.meta.c.value))


def _fail(batch: Batch, error: StoreError) -> None:
    for future in [*batch.waiters, *(operation.future for operation in batch.operations)]:
        if not future.done():
            future.set_exception(error)
