"""What may stand under `relay:` in a configuration."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from contest_core.settings import ByteSize, Duration, InvalidSettings, Secret, out_of_bounds

_BOUNDS: Final = {"timeout": ("1ms", "24h"), "max_answer": ("1B", "1TiB")}


class RelaySettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The job manager `relay`: whom it asks, and its limits."""

    address: str
    """The server that is asked: `http://HOST:PORT`, `ws://HOST:PORT`, `stdio:COMMAND`."""
    token: Secret | None = None
    """A bearer token of the relay's own; it is what the other server knows it by."""
    timeout: Duration = Duration("30s")
    """How long a connection may take to come about, and one request to be answered over there."""
    max_answer: ByteSize = ByteSize("64MiB")
    """Size of one answer of the other server; beyond it the error says how to ask for less."""

    def __post_init__(self) -> None:
        problems = out_of_bounds(self, _BOUNDS)
        scheme, colon, rest = self.address.partition(":")
        if not (scheme and colon and rest):
            problems["address"] = (
                '"address" begins with a scheme, as in http://127.0.0.1:8080, and says where the server is'
            )
        if problems:
            raise InvalidSettings(problems)
