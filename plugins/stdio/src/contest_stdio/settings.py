"""What may stand under `stdio:` in a configuration."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from contest_core import ByteSize
from contest_core.settings import InvalidSettings, out_of_bounds


class StdioSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of the listener `stdio`."""

    concurrency: Annotated[int, Meta(ge=1, le=1000)] = 1
    """How many requests are carried out at once. With 1, answers come in the order of the requests."""
    max_request: ByteSize = ByteSize("16MiB")
    """How long a line may be. A longer one gets the error `too_large` and is skipped."""
    max_answer: ByteSize = ByteSize("64MiB")
    """How long an answer may be. A longer one becomes the error `too_large`, which says how to ask for less."""
    max_batch: Annotated[int, Meta(ge=1, le=1_000_000)] = 1000
    """How many requests a batch may have."""
    requestor: str | None = None
    """Who asks, whatever the requests say; without it, they have to say it themselves."""

    def __post_init__(self) -> None:
        if problems := out_of_bounds(self, dict.fromkeys(("max_request", "max_answer"), ("1B", "1TiB"))):
            raise InvalidSettings(problems)
