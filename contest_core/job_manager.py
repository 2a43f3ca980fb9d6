"""The job manager's contract: what carries requests out.

It sees messages and callers, never events, futures or bytes: the server takes the events, calls these methods,
one task each, and answers. `local` in `plugins/runner` runs jobs here; others may hand them on.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import IntEnum
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from contest_core.errors import Unsupported

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from logging import Logger, LoggerAdapter
    from pathlib import Path

    from msgspec import Struct

    from contest_core.caller import Caller
    from contest_core.events import (
        EventListMsg,
        EventLocksMsg,
        EventMsg,
        EventRetryMsg,
        EventStartMsg,
        EventStatusMsg,
        EventStopMsg,
        EventValidateMsg,
        EventWatchMsg,
    )
    from contest_core.plugins import Plugins
    from contest_core.responses import (
        EncodedJSON,
        ResponseData,
        ResponseDataList,
        ResponseDataLocks,
        ResponseDataRetry,
        ResponseDataStart,
        ResponseDataStatus,
        ResponseDataStop,
        ResponseDataValidate,
    )
    from contest_core.watch import Watch


class Termination(IntEnum):
    """How a job manager shall end; a greater one is harder."""

    DRAIN = 1
    """No new jobs; the running ones finish."""
    PAUSE = 2
    """Running jobs stop where they are and go on after the next start."""
    CANCEL = 3
    """Running jobs are cancelled."""
    HURRY = 4
    """As `CANCEL`, and what does not obey, or still cleans up, is not waited for."""


class JobManagerContext(Protocol):
    """What the server is to its job manager."""

    log: LoggerAdapter[Logger]
    server_id: str
    directory: Path
    """Relative paths in the settings are relative to this: the folder of the configuration file."""

    plugins: Plugins | None
    """The loaded plugins, for a job manager that has parts of its own; None where it has to load them."""

    grace: float
    """Seconds for what must still be done at an end and cannot be, such as writing on a full disk."""

    def ready(self) -> None:
        """It can carry requests out; also: it can again, or others. Its `capabilities` are asked for each time."""

    def degraded(self, reason: str) -> None:
        """It cannot go on for a while (a full disk), until `ready` is called again; `/readyz` says so."""

    async def stopping(self) -> Termination:
        """Returns when it shall end, and how; `serve` returns when that is done."""

    async def harder(self) -> Termination:
        """Returns when a harder word than the last one is said."""


class JobManager(ABC):
    """Carries requests out. A verb that it does not override is refused as `unsupported`.

    An answer that is there as JSON already may be given as `EncodedJSON`: it is copied through to the wires, and
    decoded only for a program that wants a struct.
    """

    Settings: ClassVar[type[Struct]]
    """What may stand under its key in the configuration."""

    runs_jobs: ClassVar[bool] = True
    """The jobs are its own: it waits for them, or ends them, at its end. False: they go on elsewhere."""

    def __init__(self, settings: Any) -> None:
        """Keeps the settings (an instance of `Settings`); does no I/O."""
        self.settings = settings

    @abstractmethod
    def capabilities(self) -> frozenset[str]:
        """What it offers: verbs, and `verb.argument` for arguments beyond ConTest's. Declared, never guessed.

        Asked for whenever it is `ready`, so it need not be known before, and what stands behind it may change.
        """

    @abstractmethod
    async def serve(self, context: JobManagerContext) -> None:
        """Its life: calls `context.ready()`, ends as `context.stopping()` says. Raising: it can serve no longer."""

    def kill(self) -> None:  # noqa: B027 - many have nothing that would
        """The program is about to be gone, now: ends what must not outlive it, and waits for nothing.

        Called in a signal's handler, where anything may be half done.
        """

    def at_hand(self, message: EventMsg, caller: Caller) -> ResponseData | EncodedJSON | None:
        """The answer to what only reads, where it is in memory: it then needs no task, and its verb is not called.

        Asked for every such request, so it must be quick; with None, as by default, the verb is called.
        """
        return None

    async def start(self, message: EventStartMsg, caller: Caller) -> ResponseDataStart | EncodedJSON:
        """Creates a job and begins it; returns when the job cannot be lost any more."""
        raise self._unsupported("start")

    async def stop(self, message: EventStopMsg, caller: Caller) -> ResponseDataStop | EncodedJSON:
        """Accepts the cancellation of a job; returns when that cannot be lost any more."""
        raise self._unsupported("stop")

    async def status(self, message: EventStatusMsg, caller: Caller) -> ResponseDataStatus | EncodedJSON:
        """The status of a job; large ones come encoded."""
        raise self._unsupported("status")

    async def retry(self, message: EventRetryMsg, caller: Caller) -> ResponseDataRetry | EncodedJSON:
        """Runs an ended job again as a new one."""
        raise self._unsupported("retry")

    async def list(self, message: EventListMsg, caller: Caller) -> ResponseDataList | EncodedJSON:
        """The jobs that match."""
        raise self._unsupported("list")

    async def validate(self, message: EventValidateMsg, caller: Caller) -> ResponseDataValidate | EncodedJSON:
        """Everything that is to be said of a descriptor."""
        raise self._unsupported("validate")

    async def locks(self, message: EventLocksMsg, caller: Caller) -> ResponseDataLocks | EncodedJSON:
        """Which targets are locked."""
        raise self._unsupported("locks")

    def watch(self, message: EventWatchMsg, caller: Caller) -> AbstractAsyncContextManager[Watch]:
        """The events of a job, or of all; entering is being subscribed."""
        raise self._unsupported("watch")

    def _unsupported(self, verb: str) -> Unsupported:
        return Unsupported(what=verb, by=f"the job manager {type(self).__name__}")
