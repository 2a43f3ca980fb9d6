"""What may stand under `websocket:` in a configuration."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta, Struct

from contest_core.browsers import wrong_origins
from contest_core.settings import ByteSize, Duration, InvalidSettings, SettingsCheck, out_of_bounds

Count = Annotated[int, Meta(ge=1, le=1_000_000)]

_TIMES: Final = dict.fromkeys(
    ("open_timeout", "request_timeout", "idle_timeout", "write_timeout", "ping_interval", "ping_timeout"),
    ("1ms", "24h"),
)
_SIZES: Final = dict.fromkeys(("max_request", "max_answer", "max_buffered"), ("1B", "1TiB"))


class WebsocketSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The listener `websocket`: where it listens, whom it lets in, and its limits."""

    host: str = "127.0.0.1"
    """Address or name to listen on. Beyond loopback, authentication is needed."""
    port: Annotated[int, Meta(ge=0, le=65535)] = 8081
    """TCP port; 0 asks the system for a free one."""
    origins: tuple[str, ...] = ()
    """Web pages of these origins (`https://lab.example.org`) may connect; those of all others are refused."""
    requestor: str | None = None
    """Who asks, whatever the requests say; without it, they have to say it themselves."""
    concurrency: Annotated[int, Meta(ge=1, le=1000)] = 64
    """Requests that are carried out at once on one connection. With 1, answers come in the order of the requests."""
    max_request: ByteSize = ByteSize("16MiB")
    """Size of a message that comes; a larger one ends the connection with code 1009."""
    max_answer: ByteSize = ByteSize("64MiB")
    """Size of an answer; beyond it the error says how to ask for less."""
    max_buffered: ByteSize = ByteSize("256MiB")
    """Large requests that come and large answers that go, of all connections together; beyond, they are refused."""
    max_batch: Count = 1000
    """How many requests a batch may have."""
    max_watches: Count = 64
    """Watches that may go on at once on one connection."""
    max_connections: Count = 1000
    """Connections at once; the next one gets 503."""
    open_timeout: Duration = Duration("10s")
    """Time for the opening handshake, authentication included."""
    request_timeout: Duration = Duration("30s")
    """Time to receive one message, from its first byte to its last."""
    idle_timeout: Duration = Duration("10m")
    """How long a connection may stay open without a request or a watch."""
    write_timeout: Duration = Duration("30s")
    """How long a peer may take nothing of what is sent to it."""
    ping_interval: Duration = Duration("20s")
    """A peer that has been silent for so long is sent a ping."""
    ping_timeout: Duration = Duration("20s")
    """How long it may stay silent after that."""

    def __post_init__(self) -> None:
        problems = out_of_bounds(self, {**_TIMES, **_SIZES}) | wrong_origins(self.origins)
        if problems:
            raise InvalidSettings(problems)
        if self.max_buffered < self.max_request:
            raise ValueError("max_buffered must not be less than max_request")

    def check(self, check: SettingsCheck) -> None:
        """What the listener would refuse when it binds."""
        host = self.host or "0.0.0.0"
        check.exposed("host", host)
        if self.port:
            check.alone("port", f"{host}:{self.port}")
