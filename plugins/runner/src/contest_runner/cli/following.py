"""What `contest run` tells on stderr while a job goes: a live display on a terminal, else a line a change.

Used by `run`, which feeds it with the job's events. Failures are told as they come, with the end of what a command
wrote.
"""

from __future__ import annotations

import os
import sys
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec
from msgspec import Raw

from contest_core import JobEvent, Waiting
from contest_core.cli.output import coloured, is_terminal, say, state_word, visible
from contest_runner.cli.tally import Tally

if TYPE_CHECKING:
    from contest_core.cli.logs import Log, LogStream
    from contest_runner.cli.display import Display
    from contest_runner.job import Job

REFRESH: Final = 0.2
"""Seconds from one look at the job to the next."""

_LINES: Final = 5
"""Of the end of what a failed command wrote."""

_TOLD: Final = 50
"""Failures that are told as they come: a report has them all."""


class Following:
    """Tells what happens; `quiet` tells only what signals do."""

    def __init__(self, *, name: str, quiet: bool) -> None:
        self.tally = Tally()
        self._name = name
        self._quiet = quiet
        self._display: Display | None = None
        self._begun = monotonic()
        self._failures = 0
        self._held = ""
        if not quiet and is_terminal(sys.stderr) and os.environ.get("TERM") != "dumb":
            from contest_runner.cli.display import Display  # brings rich

            self._display = Display()

    @property
    def shows(self) -> bool:
        """Whether there is a display now."""
        return self._display is not None

    def take(self, log: Log) -> None:
        """Log lines stand above the display, not in it."""
        if self._display is not None:
            # Of a stream a log knows these two methods.
            log.stream = cast("LogStream", _Above(self, log.stream))

    def tell(self, text: str) -> None:
        """A line for a person, also where it is quiet."""
        if self._display is not None:
            self._display.tell(text)
        else:
            say(text)

    def look(self, job: Job | None, trouble: str | None) -> None:
        """Shows where the job is; `trouble` is why the server cannot go on just now."""
        if self._quiet or job is None:
            return
        held = _held(job.waiting)
        if self._display is not None:
            waiting = f"waiting: {trouble}" if trouble else held and f"waiting {held}"
            elapsed = monotonic() - self._begun
            self._display.show(self._name, self.tally, job.plan, waiting, elapsed)
        elif held != self._held:
            # Of trouble the log tells.
            say(f"waiting {held}" if held else "waiting no longer")
            self._held = held

    def happened(self, event: JobEvent, runs: int) -> None:
        """An event of the job, which has so many runs (0: no end)."""
        before = self.tally.attempt
        self.tally.count(event)
        if self._quiet:
            return
        name = event.data.event_name
        if self.tally.attempt > before:
            self._plain(f"attempt {self.tally.attempt + 1} of test {visible(self.tally.test)} began")
        if name == "RunStarted":
            self._plain(f"run {event.header.run_id}{f' of {runs}' if runs else ''} began")
        elif name in ("TargetErr", "TargetAcquireErr"):
            self._failed(event)
        elif name.startswith("JobState"):
            self._plain(f"job {event.header.job_id} {state_word(name)}")

    def close(self) -> None:
        """Takes the display away; what is told after that is told in plain lines."""
        if self._display is not None:
            self._display.close()
            self._display = None

    def _failed(self, event: JobEvent) -> None:
        self._failures += 1
        if self._failures > _TOLD:
            if self._failures == _TOLD + 1:
                self.tell("more failures are not told as they come")
            return
        payload = _payload(event)
        target = event.data.target
        places = [event.header.test_name, None if target is None else target.id, event.header.test_step_label]
        where = ": ".join(place for place in places if place)
        said, *_ = str(payload.get("Error") or "").splitlines() or [""]
        tail = "".join(f"\n    {visible(line, lines=True)}" for line in _tail(payload))
        word = "cleanup failed" if event.phase == "cleanup" else "failed"
        self.tell(f"{coloured(word, 'red')}: {visible(where)}: {visible(said)}{tail}")

    def _plain(self, text: str) -> None:
        """What a display shows by itself."""
        if self._display is None:
            say(text)


class _Above:
    """Takes the lines of the log, in whatever thread, and tells them while there is a display."""

    def __init__(self, following: Following, before: LogStream) -> None:
        self._following = following
        self._before = before

    def write(self, line: str) -> None:
        """A line of the log."""
        if self._following.shows:
            self._following.tell(line)
        else:
            self._before.write(line)

    def close(self, seconds: float = 1.0) -> None:
        """The end of the log."""
        self._before.close(seconds)


def _held(waiting: Waiting | None) -> str:
    if waiting is None or not waiting.targets:
        return ""
    first, *others = waiting.targets
    more = f" and {len(others)} more" if others else ""
    return f"for {visible(first.id)}, held by job {first.held_by}{more}"


def _payload(event: JobEvent) -> dict[str, Any]:
    raw = event.data.payload
    payload = msgspec.json.decode(raw) if isinstance(raw, Raw) else raw
    return payload if isinstance(payload, dict) else {}


def _tail(payload: dict[str, Any]) -> list[str]:
    output = payload.get("Output") or {}
    text = output.get("Stderr") or output.get("Stdout") or ""
    lines = text.strip().splitlines()
    # A single line stands in the error itself.
    return lines[-_LINES:] if len(lines) > 1 else []
