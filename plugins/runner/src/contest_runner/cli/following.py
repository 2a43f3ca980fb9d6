"""What `contest run` tells on stderr while a job goes: the failures as they come, and where the job is."""

from __future__ import annotations

import sys
from time import monotonic
from typing import Any, Final

import msgspec
from msgspec import Raw

from contest_core import JobEvent, JobStatus
from contest_core.cli.output import coloured, is_terminal, say, span_text
from contest_core.cli.progress import Progress
from contest_core.cli.status_text import progress_text

_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 2.0
_LINES: Final = 5
"""Of the end of what a failed command wrote."""


class Following:
    """Tells what happens; `quiet` tells only what signals do."""

    def __init__(self, *, quiet: bool) -> None:
        self.pause = _FIRST_PAUSE
        """Seconds until the next look at the status."""
        self.live = not quiet and is_terminal(sys.stderr)
        self._quiet = quiet
        self._progress = Progress()
        self._begun = monotonic()

    def began(self, job_id: int) -> None:
        """The job has its number."""
        self._begun = monotonic()

    def tell(self, text: str) -> None:
        """A line for a person, between the progress."""
        self._progress.tell(text)

    def show(self, job_id: int, status: JobStatus) -> None:
        """Where the job is, on a terminal."""
        elapsed = span_text(monotonic() - self._begun)
        self._progress.show(f"{progress_text(job_id, status)}, {elapsed}")
        self.pause = min(self.pause * 1.2, _LONGEST_PAUSE)

    def happened(self, event: JobEvent) -> None:
        """An event of the job."""
        if self._quiet:
            return
        name, payload = event.data.event_name, _payload(event)
        header = event.header
        if name == "RunStarted":
            self._plain(f"run {header.run_id} began")
        elif name == "TargetErr" and event.data.target is not None:
            where = f"{header.test_name}: {event.data.target.id}: {header.test_step_label}"
            self._progress.tell(f"{coloured('failed', 'red')}: {where}: {payload.get('Error', '')}")
            for line in _tail(payload):
                self._progress.tell(f"    {line}")
        elif name == "TargetAcquireErr":
            self._progress.tell(
                f"{coloured('failed', 'red')}: {header.test_name}: {payload.get('Error', '')}"
            )
        elif name.startswith("JobState"):
            self._plain(f"job {header.job_id} {name.removeprefix('JobState').lower()}")

    def close(self) -> None:
        """Takes the live line away."""
        self._progress.close()

    def _plain(self, text: str) -> None:
        """What the live line says on a terminal."""
        if not self.live:
            say(text)


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
