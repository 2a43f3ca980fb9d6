"""What the job manager `local` can be configured with."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

from msgspec import Struct

from contest_core import Duration, InvalidSettings, SettingsCheck
from contest_core.settings import out_of_bounds
from contest_runner.store import StoreError
from contest_runner.store.database import find


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
        problems = out_of_bounds(self, {"stop_grace": ("1ms", "24h"), "lock_duration": ("1s", "168h")})
        try:
            kind, address = find(self.store)
            kind(address, directory=Path(), log=logging.getLogger(__name__), synchronous=self.synchronous)
        except StoreError as error:
            problems["store"] = str(error)
        if problems:
            raise InvalidSettings(problems)

    def check(self, check: SettingsCheck) -> None:
        """A store without a file, as tests have it, would be gone with the server."""
        if find(self.store)[1].database in (None, "", ":memory:"):
            check.wrong("store", "a server keeps its jobs in a file: write sqlite:///FILE, and name one")
