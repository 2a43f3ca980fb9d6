"""Waits for the end of a job by asking for its status again and again, and shows its progress.

Used by `start --wait` and `retry --wait`: `watch` comes to the wires later. A server that is away for a while is
waited for, since a job goes on when its server is started again.
"""

from __future__ import annotations

import asyncio
from time import monotonic as now
from typing import TYPE_CHECKING, Final

from contest_core.cli.failures import FAULT
from contest_core.cli.output import coloured, out, say, span_text, state_word
from contest_core.cli.progress import Progress
from contest_core.cli.status_text import progress_text, status_lines
from contest_core.errors import ContestError, Repeat
from contest_core.status import JobEntry, JobQuery, JobState, JobStatus, Verdict

if TYPE_CHECKING:
    from contest_core.cli.asking import Asker

FIRST_PAUSE: Final = 0.2
LONGEST_PAUSE: Final = 2.0
GROWTH: Final = 1.3
"""From one pause to the next."""

SHARE: Final = 10
"""A pause is at least so many times as long as the last answer took: asking must not be a load."""

PATIENCE: Final = 60.0
"""Seconds for which a server may be away."""

_EXITS: Final = {
    Verdict.PASSED.value: 0,
    Verdict.FAILED.value: 1,
    Verdict.ERROR.value: FAULT,
    Verdict.CANCELLED.value: 4,
}
_CANCELLED: Final = (JobState.CANCELLED, JobState.CANCELLATION_FAILED)


async def wait_for_end(asker: Asker, job_id: int) -> int:
    """Waits, shows the status at the end, gives the exit status by the verdict.

    Interrupted, it says that the job goes on. Raises what the server refuses, and what a server that stays away is.
    """
    progress = Progress()
    try:
        seen = await _Waiter(asker, job_id, progress).end()
    except asyncio.CancelledError:
        progress.close()
        say(
            f"contest: job {job_id} goes on; `contest stop {job_id}` stops it, `contest status {job_id}` shows it"
        )
        raise
    finally:
        progress.close()
    if asker.as_json:
        asker.show_answer()
    elif isinstance(seen, JobStatus):
        for line in status_lines(job_id, seen):
            out(line)
    else:
        out(_entry_text(seen))
    return exit_by_verdict(seen)


def exit_by_verdict(seen: JobStatus | JobEntry) -> int:
    """The exit status by a job's verdict; where a server gives none, as ConTest's, by its state and reports."""
    if seen.verdict:
        return _EXITS.get(seen.verdict, FAULT)
    if seen.state in _CANCELLED:
        return _EXITS[Verdict.CANCELLED.value]
    if seen.state is not JobState.COMPLETED:
        return FAULT
    if isinstance(seen, JobEntry):
        return 0
    report = seen.job_report
    reports = [
        *(report.final_reports or []),
        *(each for run in report.run_reports or [] for each in run or []),
    ]
    return 0 if all(each.success for each in reports) else 1


class _Waiter:
    def __init__(self, asker: Asker, job_id: int, progress: Progress) -> None:
        self.asker = asker
        self.job_id = job_id
        self.progress = progress
        self.begun = now()
        self.too_large = False
        """The status is too large to be asked for; the list says enough."""

    async def end(self) -> JobStatus | JobEntry:
        """Returns what is known of the job once it has ended."""
        events = not await self.asker.offers("status.events")
        self.asker.ask_once()
        pause, heard = FIRST_PAUSE, now()
        while True:
            asked = now()
            try:
                seen = await self._ask(events)
                heard = now()
            except ContestError as error:
                if error.row.repeat is Repeat.NO or now() - heard > PATIENCE:
                    self.progress.close()
                    say(f"contest: job {self.job_id} may go on; `contest status {self.job_id}` shows it")
                    raise
                self.progress.show(
                    f"job {self.job_id}: {error.message}", line=f"contest: {error.message}; waiting"
                )
            else:
                if seen.state.ended or seen.state is JobState.PAUSE_FAILED:
                    return seen
                self._show(seen, now() - self.begun)
            await asyncio.sleep(max(pause, SHARE * (now() - asked)))
            pause = min(pause * GROWTH, LONGEST_PAUSE)

    async def _ask(self, events: bool) -> JobStatus | JobEntry:
        if not self.too_large:
            try:
                data = (await self.asker.contest.status(self.job_id, events=events)).result()
            except ContestError as error:
                if error.code != "too_large":
                    raise
                self.too_large = True
            else:
                if data.status is None:
                    raise ContestError(
                        f"{self.asker.address} has answered without a status", code="invalid_message"
                    )
                return data.status
        listed = (await self.asker.contest.list(JobQuery())).result()
        for entry in listed.jobs:
            if entry.job_id == self.job_id:
                return entry
        raise ContestError(
            f"job {self.job_id} is not in the list of {self.asker.address}", code="unknown_job"
        )

    def _show(self, seen: JobStatus | JobEntry, seconds: float) -> None:
        text = _entry_text(seen) if isinstance(seen, JobEntry) else progress_text(self.job_id, seen)
        self.progress.show(f"{text}, {span_text(seconds)}", line=text)


def _entry_text(entry: JobEntry) -> str:
    verdict = f"  {coloured(entry.verdict)}" if entry.verdict else ""
    return f"job {entry.job_id}  {entry.name}  {coloured(state_word(entry.state_name))}{verdict}"
