"""The public door to a server: `open_server`. `contest serve`, `contest run` and the tests are all this function.

The life of a server is in `contest_core.lifecycle`, imported when one is opened.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from msgspec import Struct, field

from contest_core.api import DEFAULT_EVENT_TIMEOUT
from contest_core.caller import Authenticator
from contest_core.job_manager import JobManager, Termination
from contest_core.listener import Listener

if TYPE_CHECKING:
    from pathlib import Path

    from contest_core.lifecycle import Server
    from contest_core.plugins import Plugins


class StartError(Exception):
    """A part of the server ended, failed or was not ready in time, before the server was; it names the part.

    What a listener raised is its `__cause__`.
    """

    @property
    def exit_code(self) -> int:
        """The exit status of a program that ends with this error: the cause's own, where it has one."""
        code: int = getattr(self.__cause__, "exit_code", 3)
        return code


def _here() -> Path:
    from pathlib import Path  # keeps `contest --help` free of pathlib

    return Path()


class ListenerOptions(Struct, frozen=True, kw_only=True):
    """What the configuration says of a listener and the core itself heeds."""

    allow_anonymous: bool = False
    """It may be reachable beyond loopback though nobody is authenticated."""
    trust: bool = False
    """It may vouch for the names of its peers."""
    on_disconnect: Termination = Termination.DRAIN
    """How the server ends when this is the only listener and its input ends."""


class ServerOptions(Struct, frozen=True, kw_only=True):
    """How a server behaves."""

    server_id: str | Callable[[], str] | None = None
    """Else the host name; at most 64 bytes."""
    event_timeout: float = DEFAULT_EVENT_TIMEOUT
    """Seconds for handing a request to the job manager, and again for its answer."""
    in_flight: int = 1000
    """Requests that are open at once; the next one waits for a place."""
    grace: float = 10.0
    """Seconds for requests in flight, once the job manager has ended."""
    start_timeout: float = 30.0
    """Seconds until every listener has to be ready."""
    directory: Path = field(default_factory=_here)
    """What relative paths in settings are relative to."""
    plugins: Plugins | None = None
    """The loaded plugins, for a job manager that has parts of its own; None lets it load them."""
    at_exit: Termination = Termination.CANCEL
    """How the job manager ends when the context of `open_server` is left."""


@asynccontextmanager
async def open_server(
    manager: JobManager,
    *,
    listeners: Mapping[str, Listener] | None = None,
    listener_options: Mapping[str, ListenerOptions] | None = None,
    authenticators: Sequence[Authenticator] = (),
    options: ServerOptions | None = None,
) -> AsyncIterator[Server]:
    """A server, ready when entered and ended in good order when left; no listener is fine.

    Raises what made the start-up fail: what the job manager raised, or a `StartError` that names the listener
    (of `Exposed`, itself). When left, what ended the server (a job manager or listener that raised), if anything
    did and the block raised nothing else.
    """
    from contest_core.lifecycle import Server  # brings asyncio, which `contest --help` does without

    server = Server(
        manager,
        listeners=listeners or {},
        listener_options=listener_options or {},
        authenticators=authenticators,
        options=options or ServerOptions(),
    )
    async with server:
        yield server
