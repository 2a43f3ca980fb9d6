"""A watch that outlives its connections: subscribed again from the last cursor, so that nothing is missing or twice.

Used by `contest_core.client.Contest.watch`. A task of its own enters the client's watch, reads and leaves it, so that a
reader may be cancelled and ask again. It knows cursors and the names of job states, and no transport.

    subscribed      events go to the reader
    lost            pauses that grow, within the client's patience, then subscribed again
    ended           a watch of all jobs: the server ended it, as a loss. Of one job whose last event was seen: done.
                    Else the status is asked whether the job has ended: then what is left is read, and it is done
    refused         raised: an unknown job, a cursor of another store, and so on
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from time import monotonic as now
from typing import Final, Self

from contest_core.errors import ContestError, Repeat, error_from_wire
from contest_core.job_event import Gap, JobEvent
from contest_core.repeats import LONGEST_PAUSE, Tries
from contest_core.status import JobState

READ_AHEAD: Final = 100
"""Events that are kept for a reader; a slower one holds up the watch, as it would by itself."""

_log = logging.getLogger("contest.client")

Subscribe = Callable[[str | None], AbstractAsyncContextManager[AsyncIterator[JobEvent | Gap]]]
"""The client's watch from behind a cursor."""


@asynccontextmanager
async def following(
    subscribe: Subscribe,
    *,
    job_id: int | None,
    since: str | None,
    tries: Callable[[], Tries],
    has_ended: Callable[[], Awaitable[bool]],
) -> AsyncIterator[AsyncIterator[JobEvent | Gap]]:
    """Follows a job, or with None all; entered, it is subscribed. Raises what is final, in the iterator too.

    `has_ended` says whether the job has; it may raise what a request raises.
    """
    follower = _Follower(subscribe, job_id, since, tries, has_ended)
    # No task group: what is raised in the caller's block is to come out as it is.
    task = follower.start()
    try:
        await follower.entered()
        yield follower
    finally:
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()


class _Follower(AsyncIterator[JobEvent | Gap]):
    def __init__(
        self,
        subscribe: Subscribe,
        job_id: int | None,
        since: str | None,
        tries: Callable[[], Tries],
        has_ended: Callable[[], Awaitable[bool]],
    ) -> None:
        self._subscribe = subscribe
        self._job_id = job_id
        self._cursor = since
        self._begin = tries
        self._has_ended = has_ended
        self._items: deque[JobEvent | Gap] = deque()
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._task: asyncio.Task[None]
        self._subscribed = False
        """It has been at least once."""
        self._seen = 0
        """Of the present subscription."""
        self._lived = 0.0
        """When the present subscription showed a sign of life."""
        self._done = False
        """The job's last event was seen."""
        self._lasting = True
        """What was seen last has a cursor."""

    def start(self) -> asyncio.Task[None]:
        """Begins to follow."""
        self._task = asyncio.get_running_loop().create_task(self._follow())
        self._task.add_done_callback(lambda _: self._changed.set())
        return self._task

    async def entered(self) -> None:
        """Returns when it is subscribed, or all is read already. Raises the refusal."""
        while not self._subscribed:
            if self._task.done():
                return self._task.result()
            self._changed.clear()
            await self._changed.wait()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> JobEvent | Gap:
        while not self._items:
            if self._task.done():
                self._task.result()
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        self._room.set()
        return self._items.popleft()

    # --- the task

    async def _follow(self) -> None:
        tries, ended = self._begin(), False
        while True:
            error = await self._read()
            if self._done or (ended and error is None and not self._seen):
                return
            if self._seen or (self._lived and now() - self._lived > LONGEST_PAUSE):
                tries = self._begin()
            if error is None:
                error = await self._why()
                ended = error is None
            if not self._lasting:
                break
            if error is not None:
                await tries.wait(error)
        if error is not None:
            raise error

    async def _read(self) -> ContestError | None:
        """One subscription to its end; the error that ended it, or none."""
        again, self._seen, self._lived = self._subscribed, 0, 0.0
        try:
            async with self._subscribe(self._cursor) as items:
                self._lived = now()
                self._subscribed = True
                self._changed.set()
                if again:
                    _log.info("the watch goes on")
                    if self._cursor is None and self._job_id is None:
                        await self._give(Gap(missed=None, cursor=""))
                async for item in items:
                    await self._take(item)
        except ContestError as error:
            return error
        return None

    async def _why(self) -> ContestError | None:
        """Why a watch ended of which no last event was seen: None where the job has ended."""
        if self._job_id is not None:
            try:
                if await self._has_ended():
                    return None
            except ContestError as error:
                # A server that ends answers that it does; one that refuses goes on, and has ended the watch on purpose.
                return None if error.row.repeat is Repeat.NO else error
        return _ended_by_server()

    async def _take(self, item: JobEvent | Gap) -> None:
        self._seen += 1
        self._lasting = item.cursor is not None
        self._cursor = item.cursor
        if isinstance(item, JobEvent):
            ended = item.header.test_name is None and JobState.from_wire(item.data.event_name).ended
            self._done = ended and item.header.job_id == self._job_id
        elif item.missed == 0:
            return  # it says where a watch of all jobs begins, and no more
        await self._give(item)

    async def _give(self, item: JobEvent | Gap) -> None:
        self._items.append(item)
        self._changed.set()
        while len(self._items) >= READ_AHEAD:
            self._room.clear()
            await self._room.wait()


def _ended_by_server() -> ContestError:
    return error_from_wire("interrupted", "the server ended, and the watch with it")
