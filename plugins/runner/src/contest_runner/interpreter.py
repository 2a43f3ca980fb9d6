"""Sets the interpreter up for a server of many jobs, as long as one runs: its collector and its threads' turns.

Entered by the job manager. Both settings are the whole process's.
"""

from __future__ import annotations

import gc
import sys
import threading
from typing import Final

_COLLECT_AT: Final = (10_000, 10, 2)
"""The collector's thresholds: measured, a job of many targets takes a third less time than with the usual ones.

Only the first makes the difference. With larger others what connections and watches leave, objects that refer to one
another after a life of seconds, was collected after millions of them."""

_TURN: Final = 0.001
"""Seconds after which a thread that waits for the interpreter gets it. The store's thread gives it up at every
statement; with the usual 5 ms it stands still beside a busy loop, and a job of many targets takes a third more time."""


class _Tuning:
    """The settings, as long as anybody wants them: the last one out restores what the first one found."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._found: tuple[tuple[int, int, int], float]

    def __enter__(self) -> None:
        with self._lock:
            self._users += 1
            if self._users == 1:
                self._found = (gc.get_threshold(), sys.getswitchinterval())
                gc.set_threshold(*_COLLECT_AT)
                sys.setswitchinterval(_TURN)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                thresholds, turn = self._found
                gc.set_threshold(*thresholds)
                sys.setswitchinterval(turn)


tuned_interpreter: Final = _Tuning()
"""Entered, lets the collector look less often (statuses are large trees without cycles), and threads change more often.

Servers that share a process enter and leave it in any order."""
