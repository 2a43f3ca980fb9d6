"""What the store says of its health: passed on to the server, and waited for at the end, but not for ever.

Made by the job manager. A job that ends writes that down; on a full disk it waits, and with it the end of the
server. So once the jobs are cancelled a store that is not well has a time to get well, after which it is given up:
what is on disk is what the next start takes the jobs on from.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from logging import Logger, LoggerAdapter

from contest_core import JobManagerContext


class Health:
    """Whether the store takes what is written."""

    def __init__(self, context: JobManagerContext) -> None:
        self.reason: str | None = None
        """Why it does not; None while it does."""
        self._context = context
        self._log: LoggerAdapter[Logger] = context.log
        self._serving = False
        self._changed = asyncio.Event()

    def serve(self) -> None:
        """The job manager can carry requests out now, if the store is well."""
        self._serving = True
        self.tell(self.reason)

    def tell(self, reason: str | None) -> None:
        """The store's `on_health`."""
        self.reason = reason
        if reason is not None:
            self._context.degraded(reason)
        elif self._serving:
            self._context.ready()
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def bound_the_end(self, give_up: Callable[[], None], hard: asyncio.Event) -> None:
        """Runs from the first word of the end on: says what is waited for and, once `hard` is set, gives it up.

        The time that there is for getting well is the server's `grace`, anew whenever the store has been well.
        """
        grace = self._context.grace
        while True:
            reason = await self._sickness()
            if not hard.is_set():
                self._log.warning("the end waits for the store: %s", reason)
                await hard.wait()
            if self.reason is None:
                continue
            self._log.warning("the end waits for the store: %s; it is given up after %g s", reason, grace)
            try:
                async with asyncio.timeout(grace):
                    await self._recovery()
            except TimeoutError:
                give_up()
                return
            self._log.info("the end goes on")

    async def _sickness(self) -> str:
        while self.reason is None:
            await self._changed.wait()
        return self.reason

    async def _recovery(self) -> None:
        while self.reason is not None:
            await self._changed.wait()
