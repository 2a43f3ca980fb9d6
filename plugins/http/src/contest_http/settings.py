"""What may stand under `http:` in the configuration."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta, Struct

from contest_core.browsers import wrong_origins
from contest_core.settings import ByteSize, Duration, InvalidSettings, SettingsCheck, out_of_bounds

Count = Annotated[int, Meta(ge=1, le=1_000_000)]

_TIMES: Final = dict.fromkeys(("request_timeout", "idle_timeout", "write_timeout"), ("1ms", "24h"))
_SIZES: Final = dict.fromkeys(("max_request", "max_answer", "max_buffered", "max_header"), ("1B", "1TiB"))


class HttpSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The listener `http`: where it listens, whom it lets in, and its limits."""

    host: str = "127.0.0.1"
    """Address or name to listen on. Beyond loopback, authentication is needed."""
    port: Annotated[int, Meta(ge=0, le=65535)] = 8080
    """TCP port; 0 asks the system for a free one."""
    origins: tuple[str, ...] = ()
    """Web pages of these origins (`https://lab.example.org`) may ask; those of all others are refused."""
    max_request: ByteSize = ByteSize("16MiB")
    """Size of a request's body."""
    max_answer: ByteSize = ByteSize("64MiB")
    """Size of an answer; beyond it the error says how to ask for less."""
    max_buffered: ByteSize = ByteSize("256MiB")
    """Large requests that come and large answers that go, of all connections together; beyond, 429."""
    max_header: ByteSize = ByteSize("32KiB")
    """Size of a request's line and headers."""
    max_headers: Count = 100
    """Number of a request's headers."""
    max_connections: Count = 1000
    """Connections at once; the next one gets 503."""
    max_pipelined: Count = 64
    """Requests that may wait on one connection behind the one that is being answered."""
    request_timeout: Duration = Duration("30s")
    """Time to receive one request, headers and body."""
    idle_timeout: Duration = Duration("60s")
    """How long a connection may stay open without a request."""
    write_timeout: Duration = Duration("30s")
    """How long a peer may take nothing of an answer."""

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
