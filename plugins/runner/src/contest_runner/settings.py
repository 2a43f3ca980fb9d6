"""What the job manager `local` can be configured with."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from contest_core import Duration


class LocalSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys under `job_manager: {local: ...}`."""

    store: str = "sqlite:///contest.db"
    """Where jobs are kept: `sqlite:///FILE`, relative to the configuration file, or `sqlite:////ABSOLUTE`."""
    synchronous: Literal["full", "normal"] = "full"
    """`full`: what was answered survives a power cut. `normal`: it survives the end of the program, and is faster."""
    stop_grace: Duration = Duration("30s")
    """How long the steps of a stopped job have; half of it later they are cancelled, and what outlives it is named."""
    lock_duration: Duration = Duration("10m")
    """How long a target's lock holds unless it is renewed; it is, while its job runs."""

    def __post_init__(self) -> None:
        if self.stop_grace.nanoseconds <= 0:
            raise ValueError("stop_grace has to be positive")
        if self.lock_duration.seconds < 1:
            raise ValueError("lock_duration has to be at least 1s")
