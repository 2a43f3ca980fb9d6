"""Who wants to know when events were committed.

The writer tells the `Feed` after each commit; `Store.changes` gives out what waits for it. While nobody watches
it costs the writer one look at an empty dictionary.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, Future
from types import TracebackType
from typing import Self

from contest_runner.store.errors import StoreError


class Feed:
    """The subscriptions, by job; under None those to all jobs."""

    def __init__(self, loop: AbstractEventLoop, position: int) -> None:
        self.loop = loop
        self.position = position
        """The last committed feed position."""
        self.error: StoreError | None = None
        """Set when nothing more will come."""
        self._watching: dict[int | None, set[Changes]] = {}

    def subscribe(self, changes: Changes) -> None:
        """From the next commit on."""
        self._watching.setdefault(changes.job_id, set()).add(changes)

    def unsubscribe(self, changes: Changes) -> None:
        """The last of a job takes the job's place with it."""
        others = self._watching.get(changes.job_id, set())
        others.discard(changes)
        if not others:
            self._watching.pop(changes.job_id, None)

    def committed(self, position: int, jobs: frozenset[int]) -> None:
        """Events up to this position are on disk; these jobs have some."""
        self.position = position
        if self._watching and jobs:
            for job_id in [None, *(self._watching.keys() & jobs)]:
                for changes in self._watching.get(job_id, ()):
                    changes.wake(position)

    def end(self, error: StoreError) -> None:
        """Nothing more will come; whoever waits gets the error."""
        self.error = error
        for watching in self._watching.values():
            for changes in watching:
                changes.wake(self.position)


class Changes:
    """Wakes one task when a job, or any job, has new events. A context manager: leaving it ends it."""

    def __init__(self, feed: Feed, job_id: int | None) -> None:
        self.job_id = job_id
        self._feed = feed
        self._position = feed.position
        self._waiting: Future[None] | None = None

    def __enter__(self) -> Self:
        self._feed.subscribe(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._feed.unsubscribe(self)

    async def wait(self, after: int) -> int:
        """Wait until there may be events behind the feed position `after`.

        Returns the position up to which to read, which is what to pass next time, whatever was found. It
        may be cancelled and called again. Raises what ended the store.
        """
        while self._position <= after:
            if self._feed.error is not None:
                raise self._feed.error.with_traceback(None)
            self._waiting = self._feed.loop.create_future()
            await self._waiting
        return self._position

    def wake(self, position: int) -> None:
        """Called by the feed."""
        self._position = position
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)
