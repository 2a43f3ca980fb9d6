"""The target manager `TargetList`, as in ConTest: the targets stand in the job."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

from msgspec import UNSET, Meta, Struct, UnsetType, json

from contest_core.wire_names import wire_name
from contest_runner.parts import AcquireContext, ReleaseContext, TargetManager
from contest_runner.target import MAX_TARGET_ID_BYTES, Target
from contest_steps.addresses import canonical


class TargetEntry(Struct, frozen=True, kw_only=True, rename=wire_name):
    """One target, as a job has it."""

    id: str
    """Its identifier; not blank."""
    fqdn: str = ""
    """Its fully qualified domain name."""
    primary_ipv4: str | None = None
    """Its IPv4 address."""
    primary_ipv6: str | None = None
    """Its IPv6 address."""
    tms: Any | UnsetType = UNSET
    """State of the target manager, any JSON."""

    def __post_init__(self) -> None:
        if not self.id.strip():
            raise ValueError("invalid target with empty ID")
        if (size := len(self.id.encode())) > MAX_TARGET_ID_BYTES:
            raise ValueError(
                f"target ID {self.id[:20]!r}... is too long: {size} > {MAX_TARGET_ID_BYTES} bytes"
            )
        if "\0" in self.id:
            raise ValueError(f"target ID {self.id[:64]!r} has a NUL character, which no store keeps")
        if self.primary_ipv4 or self.primary_ipv6:
            _canonical(self.primary_ipv4)
            _canonical(self.primary_ipv6)

    def target(self) -> Target:
        """The target."""
        return Target(
            id=self.id,
            fqdn=self.fqdn,
            primary_ipv4=_canonical(self.primary_ipv4),
            primary_ipv6=_canonical(self.primary_ipv6),
            state=None if self.tms is UNSET else json.encode(self.tms),
        )


def _canonical(address: str | None) -> str | None:
    return canonical(address) if address else None


class TargetListAcquireParameters(Struct, frozen=True, kw_only=True, rename=wire_name):
    """Parameters of `TargetList`."""

    targets: Annotated[list[TargetEntry], Meta(extra_json_schema={"minItems": 1})]
    """The targets; at least one."""

    def __post_init__(self) -> None:
        if not self.targets:
            raise ValueError("there are no targets")
        seen: set[str] = set()
        for target in self.targets:
            if target.id in seen:
                raise ValueError(f"target {target.id[:64]!r} is there twice")
            seen.add(target.id)


class TargetListReleaseParameters(Struct, frozen=True, kw_only=True):
    """Nothing: there is nothing to release."""


class TargetList(TargetManager[TargetListAcquireParameters, TargetListReleaseParameters]):
    """The targets stand in the job."""

    AcquireParameters: ClassVar[type[Struct]] = TargetListAcquireParameters
    ReleaseParameters: ClassVar[type[Struct]] = TargetListReleaseParameters
    narrows: ClassVar[bool] = True

    async def acquire(
        self, parameters: TargetListAcquireParameters, context: AcquireContext
    ) -> Sequence[Target]:
        """All of them that are meant, which the runner then locks."""
        meant = parameters.targets
        if context.only is not None:
            meant = [entry for entry in meant if entry.id in context.only]
        return [entry.target() for entry in meant]

    async def candidates(self, parameters: TargetListAcquireParameters) -> Sequence[Target]:
        """All of them."""
        return [entry.target() for entry in parameters.targets]

    async def release(
        self, targets: Sequence[Target], parameters: TargetListReleaseParameters, context: ReleaseContext
    ) -> None:
        """Has nothing to do."""
