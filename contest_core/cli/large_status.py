"""What can be told of a job whose status is larger than an answer may be: all of it but the single targets.

Called by `status`, and by `start --wait` in every round. It asks in parts for what a server can cut up, and where it
cannot (ConTest's own servers) finds the job's state by the list, so it works with any server.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from contest_core.cli.output import coloured, count, span_text, state_word, time_text, visible
from contest_core.cli.status_text import head_lines, report_lines, runs_of, tally, tally_text
from contest_core.errors import ContestError, Repeat, UnknownJob
from contest_core.responses import ResponseDataStatus
from contest_core.status import JobEntry, JobQuery, JobState, JobStatus, RunStatus

if TYPE_CHECKING:
    from contest_core.cli.asking import Asker

TOO_LARGE: Final = frozenset({"too_large", "timeout"})
"""Codes of the error where a status is larger than an answer may be (whoever finds that, the server or the client), or
than can be put together in the time that an answer has."""

MAX_TESTS: Final = 20
"""Tests of a run whose targets are counted: each is a question, and its answer may be large."""

_NOBODY: Final = " "
"""A target that there cannot be: no ID is blank."""

_STATES: Final = (
    JobState.STARTED,
    JobState.CANCELLING,
    JobState.PAUSED,
    JobState.PAUSE_FAILED,
    JobState.COMPLETED,
    JobState.FAILED,
    JobState.CANCELLED,
    JobState.CANCELLATION_FAILED,
)
"""As jobs go through them, so that one which goes on meanwhile is met later."""


async def outline(asker: Asker, job_id: int, *, run: int | None = None) -> JobStatus | JobEntry:
    """A status without targets; where the server has no such thing, what the list says of the job."""
    if await asker.contest.offers("status.target"):
        try:
            data = await _part(asker, job_id, run=run, target=_NOBODY)
        except ContestError as error:
            # A server that refuses a target which is nobody's still has a list.
            if error.code not in TOO_LARGE and (
                error.row.repeat is not Repeat.NO or error.code == "unknown_job"
            ):
                raise
        else:
            if data.status is not None:
                return data.status
    return await _listed(asker, job_id)


async def outline_lines(asker: Asker, job_id: int, seen: JobStatus | JobEntry) -> AsyncIterator[str]:
    """The lines of an outline, with what the targets of the last run have come to where that can be counted."""
    if isinstance(seen, JobEntry):
        for line in _entry_lines(seen):
            yield line
        return
    for line in head_lines(job_id, seen):
        yield line
    runs = runs_of(seen)
    if len(runs) > 1:
        yield f"{count(len(runs), 'run')}, the last one is shown"
    for last in runs[-1:]:
        yield f"run {last.run_id}  began {time_text(last.start_time)}"
        counted = await _counted(asker, job_id, last, ended=seen.state.ended)
        for test in last.test_statuses:
            told = counted.get(test.test_name)
            words = "too many targets to be counted" if told is None else tally_text(told)
            yield f"  test {visible(test.test_name)}: {words}"
        for line in report_lines(seen, last.run_id):
            yield line
    for line in report_lines(seen, None):
        yield line
    hint = "; --target ID shows one" if await asker.contest.offers("status.target") else ""
    yield f"targets are not shown: the status is too large to be answered{hint}"


def entry_text(entry: JobEntry) -> str:
    """What the list says of a job, on one line."""
    verdict = f"  {coloured(visible(entry.verdict))}" if entry.verdict else ""
    name = f"  {visible(entry.name)}" if entry.name else ""
    return f"job {entry.job_id}{name}  {coloured(state_word(entry.state_name))}{verdict}"


def _entry_lines(entry: JobEntry) -> Iterator[str]:
    yield entry_text(entry)
    if entry.start_time is not None:
        ended = ""
        if entry.end_time is not None:
            took = span_text((entry.end_time - entry.start_time).total_seconds())
            ended = f", ended {time_text(entry.end_time)}, took {took}"
        yield f"  began {time_text(entry.start_time)}{ended}"
    yield "this is what the list says: the status is too large to be answered"


async def _counted(asker: Asker, job_id: int, run: RunStatus, *, ended: bool) -> Mapping[str, Counter[str]]:
    """What the targets have come to, by test; without the tests where that cannot be had."""
    found: dict[str, Counter[str]] = {}
    if not (await asker.contest.offers("status.test") and await asker.contest.offers("status.run")):
        return found
    for test in run.test_statuses[:MAX_TESTS]:
        try:
            data = await _part(asker, job_id, run=run.run_id, test=test.test_name)
        # Counts are an extra: without them everything else is still worth showing.
        except ContestError:
            continue
        for part in runs_of(data.status) if data.status is not None else ():
            for each in part.test_statuses:
                found[each.test_name] = tally(each, ended=ended)
    return found


async def _part(
    asker: Asker,
    job_id: int,
    *,
    run: int | None,
    test: str | None = None,
    target: str | None = None,
) -> ResponseDataStatus:
    events = not await asker.contest.offers("status.events")
    asked = asker.contest.status(job_id, run=run, test=test, target=target, events=events)
    return (await asked).result()


async def _listed(asker: Asker, job_id: int) -> JobEntry:
    """The entry of the list; of a server that lists numbers only, the state and nothing else."""
    for state in _STATES:
        data = (await asker.contest.list(JobQuery(states=(state,)))).result()
        for entry in data.jobs:
            if entry.job_id == job_id:
                return entry
        if job_id in (data.job_ids or ()):
            return _bare(job_id, state.wire_name)
    if job_id in ((await asker.contest.list(JobQuery())).result().job_ids or ()):
        return _bare(job_id, "")
    raise UnknownJob(job_id=job_id)


def _bare(job_id: int, state_name: str) -> JobEntry:
    return JobEntry(
        job_id=job_id,
        name="",
        state_name=state_name,
        verdict=None,
        flaky=False,
        requestor="",
        principal=None,
        tags=[],
        start_time=None,
        end_time=None,
    )
