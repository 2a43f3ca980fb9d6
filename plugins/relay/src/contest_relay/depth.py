"""How many relays have started one another: one whose address starts itself would go on for ever.

Programs that a client of `stdio:` starts inherit the environment, so there the count is kept, beside the process that
counted: any number of relays in one process are one.
"""

from __future__ import annotations

import os
from typing import Final

from contest_core.errors import ContestError

VARIABLE: Final = "CONTEST_RELAY_DEPTH"

DEEPEST: Final = 5
"""Relays that may have started one another."""


def note_depth() -> None:
    """Counts this process for those that it starts. Raises a `ContestError` where it is one too many."""
    counted, _, process = os.environ.get(VARIABLE, "").partition(" of process ")
    depth = int(counted) if counted.isdecimal() else 0
    if process == str(os.getpid()):
        return
    if depth >= DEEPEST:
        raise ContestError(
            f"{depth} relays have started one another: does the address of one lead to itself?"
        )
    os.environ[VARIABLE] = f"{depth + 1} of process {os.getpid()}"
