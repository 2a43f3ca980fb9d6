"""Who asks: the caller of a verb, the credentials that a transport can see, and the authenticator's contract.

Listeners collect credentials and have them judged by `API.authenticate`; the API makes the `Caller` that
goes with every request and is the `context` of its event. Nothing here knows a transport.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar

from msgspec import Struct

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

MAX_REQUESTOR_BYTES = 32
"""ConTest's limit of a requestor's name."""


class Principal(Struct, frozen=True, kw_only=True):
    """Who an authenticator says it is."""

    name: str
    scopes: frozenset[str] | None = None
    """What it may do, as permissions of the verbs' table; None is everything."""
    expires: datetime | None = None
    """When the proof runs out; None is never."""


class Caller(Struct, frozen=True, kw_only=True):
    """Who asks, how and from where. Made by `API.caller` only."""

    requestor: str | None
    """Declared, at most 32 bytes, not authenticated; only `version` may go without."""
    principal: Principal | None
    """Proven; None is anonymous."""
    listener: str
    """The listener's name in the configuration."""
    peer: str
    """Where it comes from, for a person: `127.0.0.1:50312`, `unix:uid=1000`, `pid 4711`."""
    request_id: str
    """Names this request in the log."""
    timeout: float | None
    """Seconds that the client gives; the API holds it against its own."""
    traceparent: str | None
    """W3C trace context."""


class Credentials(Struct, frozen=True, kw_only=True):
    """What a transport can see of who is there; transports may add kinds of their own."""


class Bearer(Credentials, frozen=True, kw_only=True):
    """A token that the client sent."""

    token: str

    def __repr__(self) -> str:
        return "Bearer(token=...)"


class PeerCertificate(Credentials, frozen=True, kw_only=True):
    """The certificate with which the peer proved itself in TLS, in DER."""

    der: bytes


class UnixPeer(Credentials, frozen=True, kw_only=True):
    """What the kernel says of the other end of a unix socket."""

    uid: int
    gid: int
    pid: int


class Vouched(Credentials, frozen=True, kw_only=True):
    """A name that the transport itself knows, as a chat does; taken only from a trusted listener."""

    name: str


class Authenticator(ABC):
    """Judges credentials. Chosen and ordered in the configuration; entered before the listeners start."""

    Settings: ClassVar[type[Struct]]

    def __init__(self, settings: Any) -> None:
        self.settings = settings

    async def __aenter__(self) -> Self:
        """Opens what it needs; raising fails the start-up."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes what it opened."""
        return

    @abstractmethod
    async def authenticate(self, credentials: Credentials, peer: str) -> Principal | None:
        """The principal that the credentials prove; None is "not mine", and the next one is asked.

        Raises `Unauthenticated` where they are its own and wrong. The API bounds the time.
        """
