"""What signals do to a program that runs a server (`serve`, `run`), after the table in the documentation:

    SIGUSR1          drain: no new jobs, the running ones finish
    SIGTERM, SIGINT  what the configuration says (`on_terminate`); the second cancels, or hurries where the first has
                     cancelled; the third exits at once
    SIGHUP           noted and ignored

Facts of the platform: Python runs a handler in the main thread, between two byte codes, whatever the event loop
is doing; so the third signal works even while a step's code holds the loop. A handler must not log or take a
lock, as it may have interrupted one that does: all but the last exit is handed to the loop.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any, Self

from contest_core.job_manager import Termination

_WORDS = {
    Termination.DRAIN: "no new jobs, the running ones finish, then the program exits",
    Termination.PAUSE: "pausing the running jobs, then the program exits",
    Termination.CANCEL: "cancelling the running jobs and waiting for their steps to end",
    Termination.HURRY: "not waiting for what does not obey",
}
_ELSEWHERE = "answering what was asked, then the program exits; the jobs run elsewhere and go on"


def _nothing() -> None:
    pass


_LAST = "; once more exits at once"


class Signals:
    """Handles the signals of the process while entered, on the running loop; the handlers before are restored.

    `first` is what the first SIGTERM or SIGINT does, `say` tells a person. Until `attach`, a signal cancels the task
    that entered: there is nothing to end in good order yet, and `interrupted` is true then.
    """

    def __init__(
        self,
        *,
        first: Termination,
        say: Callable[[str], None],
        flush: Callable[[], None],
    ) -> None:
        self.interrupted = False
        """A signal came before there was anything to terminate."""
        self._first = first
        self._say = say
        self._flush = flush
        self._count = 0
        self._terminate: Callable[[Termination], None] | None = None
        self._last_moment: Callable[[], None] = _nothing
        self._runs_jobs = True
        self._before: dict[signal.Signals, Any] = {}

    def attach(
        self,
        terminate: Callable[[Termination], None],
        last_moment: Callable[[], None] | None = None,
        *,
        runs_jobs: bool = True,
    ) -> None:
        """From now on signals call `terminate`, in the loop; the third calls `last_moment` before the program exits.

        Without `runs_jobs` a person is not told that jobs are cancelled.
        """
        self._runs_jobs = runs_jobs
        self._terminate = terminate
        self._last_moment = last_moment or _nothing

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        handlers = {"SIGTERM": self._end, "SIGINT": self._end, "SIGUSR1": self._drain, "SIGHUP": self._ignore}
        for name, handler in handlers.items():
            number = getattr(signal.Signals, name, None)  # Windows has two of them
            if number is not None:
                self._before[number] = signal.signal(number, handler)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._before:
            number, handler = self._before.popitem()
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _end(self, number: int, frame: FrameType | None) -> None:
        self._count += 1
        if self._count > 2:
            # Anything may be half done; the exit must come all the same.
            with suppress(Exception):
                self._last_moment()
            self._flush()
            os._exit(128 + number)
        self._loop.call_soon_threadsafe(self._ask, number, self._count)

    def _drain(self, number: int, frame: FrameType | None) -> None:
        self._loop.call_soon_threadsafe(self._word, number, Termination.DRAIN, "")

    def _ignore(self, number: int, frame: FrameType | None) -> None:
        text = f"{signal.Signals(number).name}: ignored; the configuration is read when the program starts"
        self._loop.call_soon_threadsafe(self._say, text)

    def _ask(self, number: int, count: int) -> None:
        cancels_first = self._first is Termination.CANCEL
        if count > 1:
            self._word(number, Termination.HURRY if cancels_first else Termination.CANCEL, _LAST, again=True)
            return
        next_one = "does not wait for what does not obey" if cancels_first else "cancels them"
        once_more = f"once more {next_one}, a" if self._runs_jobs else "a"
        self._word(number, self._first, f"; {once_more} third time exits at once")

    def _word(self, number: int, how: Termination, more: str, *, again: bool = False) -> None:
        name = signal.Signals(number).name
        if self._terminate is not None:
            words = _WORDS[how] if self._runs_jobs else _ELSEWHERE
            self._say(f"{name}{' again' if again else ''}: {words}{more}")
            self._terminate(how)
        elif self._task is not None:
            self._say(f"{name}: stopping, though not everything is ready yet{_LAST if again else ''}")
            self.interrupted = True
            self._task.cancel()
