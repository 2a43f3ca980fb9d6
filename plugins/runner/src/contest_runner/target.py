"""A target: what a job tests. Target managers make them, steps get them, templates read them."""

from __future__ import annotations

from msgspec import Raw, Struct

from contest_core import TargetInfo

MAX_TARGET_ID_BYTES = 64
"""ConTest's column holds as many."""


class Target(Struct, frozen=True, kw_only=True):
    """A machine, a board, a virtual machine, a plain name."""

    id: str
    """Unique in its test; not blank."""
    fqdn: str = ""
    """Empty where there is none."""
    primary_ipv4: str | None = None
    primary_ipv6: str | None = None
    state: bytes | None = None
    """The target manager's own state, JSON; kept from acquire to release."""

    def info(self) -> TargetInfo:
        """The target as the wire shows it."""
        return TargetInfo(
            id=self.id,
            fqdn=self.fqdn,
            primary_ipv4=self.primary_ipv4,
            primary_ipv6=self.primary_ipv6,
            tms=None if self.state is None else Raw(self.state),
        )
