"""The listener's contract: how requests come in.

A listener moves bytes: it owns its sockets, tasks and limits, makes callers and calls `API.call`; it knows
nothing of jobs. The server constructs it, gives it a context and ends it. Ours are in `plugins/`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    from logging import Logger, LoggerAdapter

    from msgspec import Struct

    from contest_core.api import API


class ListenerContext(Protocol):
    """What the server is to one listener."""

    name: str
    """Its `name:` in the configuration, else its kind; unique."""
    log: LoggerAdapter[Logger]
    trusted: bool
    """Whether the configuration lets it vouch for names (`trust: true`)."""

    def check_exposed(self, where: str) -> None:
        """Called before binding or joining with an address or host: raises `Exposed` where it is beyond
        loopback, nobody is authenticated and the configuration does not allow that."""

    def ready(self, *addresses: str) -> None:
        """Requests are accepted now, at these addresses."""

    def degraded(self, reason: str) -> None:
        """It cannot accept requests for a while (a lost broker), until `ready` is called again."""

    def readiness(self) -> str | None:
        """None while the whole server works, else why it does not: what `/readyz` says."""

    async def stopping(self) -> None:
        """Returns when no more requests shall be accepted."""

    async def end_of_input(self) -> bool:
        """Says that no more requests will come here; returns when `serve` shall return. Whether the server goes on.

        For the only listener that is the end of the server in good order; beside others, at once.
        """

    def report_error(self, error: Exception) -> None:
        """A fault outside a request, ConTest's `EventTypeError`: it is logged and counted."""


class Listener(ABC):
    """One way for requests to come in. One object serves once."""

    Settings: ClassVar[type[Struct]]
    """What may stand under its key in the configuration."""

    def __init__(self, settings: Any) -> None:
        """Keeps the settings (an instance of `Settings`); does no I/O."""
        self.settings = settings

    def claim(self) -> AbstractContextManager[None]:
        """What of the process itself this listener owns (stdin, stdout), for as long as the server lives.

        The server enters it once, before the job manager is started and `serve` is called, and leaves it after
        both have ended: a job that goes on after a crash is there before any listener. Raising while it is entered
        fails the start-up and names the listener. Sockets belong in `serve`, which must do without a claim, too:
        whoever calls it may not have made one. The default owns nothing.
        """
        return nullcontext()

    @abstractmethod
    async def serve(self, api: API, context: ListenerContext) -> None:
        """Serves until `context.stopping()` returns, finishes what is in flight, and returns.

        Ending before `context.ready()` fails the start-up; a later return ends this listener alone; a later
        raise ends the server with that error. Cancelled, it ends now.
        """
