"""Names the code that holds the event loop: a thread looks at the loop's heartbeat and logs what runs instead."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
import traceback
from types import TracebackType
from typing import Final, Self

BEAT: Final = 0.5
"""Seconds from one heartbeat to the next."""

PATIENCE: Final = 2.0
"""Seconds without a heartbeat before it is said."""

_log = logging.getLogger("contest.watchdog")


class Watchdog:
    """Watches the running loop while its context is entered."""

    def __init__(self, *, beat: float = BEAT, patience: float = PATIENCE) -> None:
        self._beat = beat
        self._patience = patience
        self._last = time.monotonic()
        self._thread_id = threading.get_ident()
        self._ended = threading.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._thread = threading.Thread(target=self._watch, name="contest-watchdog", daemon=True)

    def __enter__(self) -> Self:
        self._tick()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._timer is not None:
            self._timer.cancel()
        self._thread.join()

    def _tick(self) -> None:
        self._last = time.monotonic()
        self._timer = asyncio.get_running_loop().call_later(self._beat, self._tick)

    def _watch(self) -> None:
        said = 0.0
        while not self._ended.wait(self._beat):
            silent = time.monotonic() - self._last
            if silent > self._patience and self._last != said:
                said = self._last
                frame = sys._current_frames().get(self._thread_id)
                where = "".join(traceback.format_stack(frame)[-8:]) if frame is not None else "unknown\n"
                _log.warning("the event loop has been held for %.1f s by:\n%s", silent, where)
