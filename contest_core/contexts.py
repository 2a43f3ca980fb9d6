"""What the server is to a listener and to the job manager: the two contexts of the contracts, made real."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from contest_core.exposure import check_exposed
from contest_core.job_manager import Termination

if TYPE_CHECKING:
    from collections.abc import Callable

    from contest_core.lifecycle import Server
    from contest_core.server import ListenerOptions, ServerOptions


class _Side:
    def __init__(self, logger: str) -> None:
        self.log = logging.LoggerAdapter(logging.getLogger(logger), {})
        self.is_ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.reason: str | None = None
        """Why it cannot work just now; None while it can."""

    def degraded(self, reason: str) -> None:
        """It cannot work for a while."""
        if reason != self.reason:
            self.log.warning("degraded: %s", reason)
        self.reason = reason

    def _now_ready(self) -> None:
        if self.reason is not None:
            self.log.info("ready again")
        self.reason = None
        if not self.is_ready.done():
            self.is_ready.set_result(None)


class ListenerSide(_Side):
    """One listener's `ListenerContext`."""

    def __init__(self, name: str, options: ListenerOptions, server: Server) -> None:
        super().__init__(f"contest.listener.{name}")
        self.name = name
        self.trusted = options.trust
        self.addresses: tuple[str, ...] = ()
        self.active = True
        self._options = options
        self._server = server
        self._stopping = asyncio.Event()

    def check_exposed(self, where: str) -> None:
        """Raises `Exposed` where `where` is beyond loopback and nobody would be authenticated."""
        check_exposed(
            where,
            listener=self.name,
            allow_anonymous=self._options.allow_anonymous,
            authenticated=not self._server.exposed_anonymously,
        )

    def ready(self, *addresses: str) -> None:
        """Requests are accepted now."""
        self.addresses = addresses
        self._now_ready()

    def readiness(self) -> str | None:
        """None while the whole server works, else why not."""
        return self._server.readiness()

    async def stopping(self) -> None:
        """Returns when no more requests shall be accepted."""
        await self._stopping.wait()

    def stop(self) -> None:
        """Makes `stopping` return."""
        self._stopping.set()

    async def end_of_input(self) -> bool:
        """No more requests will come here; the end of the server, where this is the last listener."""
        self.active = False
        if self._server.is_last(self):
            self._server.terminate(self._options.on_disconnect)
            await self._server.manager_ended()
        return not self._server.ending

    def report_error(self, error: Exception) -> None:
        """A fault outside a request."""
        self._server.count_error(self.name, error)


class ManagerSide(_Side):
    """The job manager's `JobManagerContext`."""

    def __init__(self, server_id: str, options: ServerOptions, on_ready: Callable[[], None]) -> None:
        super().__init__("contest.job_manager")
        self._on_ready = on_ready
        self.server_id = server_id
        self.directory = options.directory
        self.plugins = options.plugins
        self.grace = options.grace
        self.termination: Termination | None = None
        self.halted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the server shall end: the first word is said, or the job manager has ended."""
        self.ended = asyncio.Event()
        """Set when the job manager has ended."""
        self._heard: Termination | None = None
        self._changed = asyncio.Event()

    def ready(self) -> None:
        """It can carry requests out, those for which it has capabilities now."""
        self._on_ready()
        self._now_ready()

    def terminate(self, how: Termination) -> None:
        """Says the word, or a harder one; a softer one than the last is not heard."""
        if self.termination is None or how > self.termination:
            self.termination = how
            self._halt()
            changed, self._changed = self._changed, asyncio.Event()
            changed.set()

    def end(self) -> None:
        """The job manager has ended."""
        self.ended.set()
        self._halt()

    def _halt(self) -> None:
        if not self.halted.done():
            self.halted.set_result(None)

    async def stopping(self) -> Termination:
        """Returns when it shall end, and how; once that is said, at once and with the last word."""
        return await self._word_beyond(None)

    async def harder(self) -> Termination:
        """Returns when a harder word is said than the last one that either method has returned."""
        return await self._word_beyond(self._heard)

    async def _word_beyond(self, heard: Termination | None) -> Termination:
        while self.termination is None or (heard is not None and self.termination <= heard):
            await self._changed.wait()
        self._heard = self.termination
        return self.termination
