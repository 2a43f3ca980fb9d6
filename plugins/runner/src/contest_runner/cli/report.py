"""The report of `contest run`: what `contest status` shows, and the verdict as the last line."""

from __future__ import annotations

from collections.abc import Iterator

from contest_core import JobStatus
from contest_core.cli.output import coloured, count, visible
from contest_core.cli.status_text import runs_of, status_lines


def report_lines(job_id: int, status: JobStatus) -> Iterator[str]:
    """The lines of the report of a job that has ended."""
    yield from status_lines(job_id, status, hints=False)
    yield verdict_line(status)


def verdict_line(status: JobStatus) -> str:
    """`verdict: failed (1 of 3 targets failed)`."""
    targets: set[str] = set()
    failed: set[str] = set()
    for run in runs_of(status):
        for test in run.test_statuses:
            for entry in test.target_statuses or ():
                if entry.target is not None:
                    targets.add(entry.target.id)
                    if entry.error:
                        failed.add(entry.target.id)
    flaky = f", {coloured('flaky', 'yellow')}" if status.flaky else ""
    blame = f", blame: {visible(status.blame)}" if status.blame else ""
    how_many = f"{len(failed)} of {count(len(targets), 'target')} failed" if failed else ""
    if targets and not failed:
        how_many = count(len(targets), "target")
    words = f" ({how_many}{blame})" if how_many else f" ({blame.removeprefix(', ')})" if blame else ""
    return f"verdict: {coloured(visible(status.verdict or 'unknown'))}{flaky}{words}"
