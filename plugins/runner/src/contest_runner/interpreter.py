"""Sets the interpreter up for a server of many jobs, as long as one runs: its collector and its threads' turns.

Entered by the job manager. Both settings are the whole process's.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_COLLECT_AT: Final = (10_000, 10, 2)
"""The collector's thresholds: measured, a job of many targets takes a third less time than with the usual ones.

Only the first makes the difference. With larger others what connections and watches leave, objects that refer to one
another after a life of seconds, was collected after millions of them."""

_TURN: Final = 0.001
"""Seconds after which a thread that waits for the interpreter gets it. The store's thread gives it up at every
statement; with the usual 5 ms it stands still beside a busy loop, and a job of many targets takes a third more time."""


@contextmanager
def tuned_interpreter() -> Iterator[None]:
    """Lets the collector look less often (statuses are large trees without cycles), and threads change more often."""
    thresholds, turn = gc.get_threshold(), sys.getswitchinterval()
    gc.set_threshold(*_COLLECT_AT)
    sys.setswitchinterval(_TURN)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        sys.setswitchinterval(turn)
