"""Waits for the end of a job by asking for its status again and again, and shows its progress.

Used by `start --wait` and `retry --wait`, with any server: ConTest's own have no `watch`. A server that is away for a
while is waited for, since a job goes on when its server is started again.
"""

from __future__ import annotations

import asyncio
from time import monotonic as now
from typing import TYPE_CHECKING, Final

from contest_core.cli.failures import FAULT
from contest_core.cli.large_status import TOO_LARGE, entry_text, outline, outline_lines
from contest_core.cli.output import out, say, span_text, visible
from contest_core.cli.progress import Progress
from contest_core.cli.status_text import progress_text, status_lines
from contest_core.errors import ContestError
from contest_core.status import JobEntry, JobState, JobStatus, Verdict

if TYPE_CHECKING:
    from contest_core.cli.asking import Asker

FIRST_PAUSE: Final = 0.2
LONGEST_PAUSE: Final = 2.0
GROWTH: Final = 1.3
"""From one pause to the next."""

SHARE: Final = 10
"""A pause is at least so many times as long as the last answer took: asking must not be a load."""

BOUND: Final = 5.0
"""Seconds that a pause has at most, however slow the server is: the end must not be noticed late."""

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
    waiter = _Waiter(asker, job_id, progress)
    try:
        seen = await waiter.end()
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
    elif isinstance(seen, JobStatus) and not waiter.outlined:
        for line in status_lines(job_id, seen):
            out(line)
    else:
        async for line in outline_lines(asker, job_id, seen):
            out(line)
    if isinstance(seen, JobEntry) and _unjudged(seen):
        say(f"contest: whether job {job_id} passed only its status says, which is too large to be answered")
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
        return FAULT  # to take it for passed would be a guess
    report = seen.job_report
    reports = [
        *(report.final_reports or []),
        *(each for run in report.run_reports or [] for each in run or []),
    ]
    return 0 if all(each.success for each in reports) else 1


def _unjudged(entry: JobEntry) -> bool:
    return entry.state is JobState.COMPLETED and not entry.verdict


class _Waiter:
    def __init__(self, asker: Asker, job_id: int, progress: Progress) -> None:
        self.asker = asker
        self.job_id = job_id
        self.progress = progress
        self.begun = now()
        self.outlined = False
        """What was seen last is an outline: the whole status is too large to be answered."""
        self._too_large = False
        """And it need not be asked for again."""

    async def end(self) -> JobStatus | JobEntry:
        """Returns what is known of the job once it has ended."""
        events = not await self.asker.contest.offers("status.events")
        self.asker.wait_for_server(self._away)
        pause = FIRST_PAUSE
        while True:
            asked = now()
            try:
                seen = await self._ask(events)
            except ContestError:
                self.progress.close()
                say(f"contest: job {self.job_id} may go on; `contest status {self.job_id}` shows it")
                raise
            if seen.state.ended or seen.state is JobState.PAUSE_FAILED:
                return seen
            self._show(seen, now() - self.begun)
            await asyncio.sleep(min(max(pause, SHARE * (now() - asked)), BOUND))
            pause = min(pause * GROWTH, LONGEST_PAUSE)

    async def _ask(self, events: bool) -> JobStatus | JobEntry:
        self.outlined = self._too_large
        if not self._too_large:
            try:
                data = (await self.asker.contest.status(self.job_id, events=events)).result()
            except ContestError as error:
                if error.code not in TOO_LARGE:
                    raise
                self.outlined = True
                self._too_large = error.code != "timeout"
            else:
                if data.status is None:
                    raise ContestError(
                        f"{self.asker.address} has answered without a status", code="invalid_message"
                    )
                return data.status
        return await outline(self.asker, self.job_id)

    def _away(self, error: ContestError, pause: float) -> None:
        """Shows why it takes longer. A status that was not in time is not asked for again: there are others."""
        if error.code in TOO_LARGE:
            raise error
        words = visible(error.message)
        self.progress.show(f"job {self.job_id}: {words}", line=f"contest: {words}; waiting")

    def _show(self, seen: JobStatus | JobEntry, seconds: float) -> None:
        text = entry_text(seen) if isinstance(seen, JobEntry) else progress_text(self.job_id, seen)
        self.progress.show(f"{text}, {span_text(seconds)}", line=text)
