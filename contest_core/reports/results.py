"""What a report tells, whatever its format: the tests of each run, and what has become of each of their targets.

Made from a job's status, or from that of one run; the writers of the formats are called with it. It knows ConTest's
statuses as well as our own: what those lack (blame, output, attempts, a verdict) is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Final

import msgspec
from msgspec import Struct

from contest_core.status import (
    ZERO_TIME,
    Blame,
    JobEntry,
    JobState,
    JobStatus,
    Output,
    Report,
    RunStatus,
    TargetStatus,
    TestStatus,
    Verdict,
)

_CANCELLED: Final = frozenset({JobState.CANCELLING, JobState.CANCELLED, JobState.CANCELLATION_FAILED})


class Outcome(StrEnum):
    """What has become of a target in a test."""

    PASSED = "passed"
    """It left the last step, at its last attempt."""
    FAILED = "failed"
    """The test says so."""
    ERROR = "error"
    """Something else is to blame, or it never came to its end though nobody stopped the job."""
    SKIPPED = "skipped"
    """The job was cancelled, or goes on: there is nothing to say of the target yet, or ever. Also a disabled test."""


class Failed(Struct, frozen=True, kw_only=True):
    """A target's failure: that which decided, or one of an earlier attempt."""

    attempt: int
    """From 1."""
    words: str
    """The error."""
    step: str
    """The label of the step."""
    blame: str
    """One of `Blame`."""
    output: Output | None = None
    """The ends of what a command wrote."""

    @property
    def outcome(self) -> Outcome:
        """Whether it is the test's word."""
        return Outcome.FAILED if self.blame == Blame.TEST else Outcome.ERROR


_NOT_RUN: Final = "the test is not run in this job: it is disabled, or had nothing to retry"


class Case(Struct, frozen=True, kw_only=True):
    """One target in one test of a run."""

    name: str
    """The target's ID; the test's name where the test had no targets."""
    outcome: Outcome
    words: str = ""
    """Why it has not passed: the error, or what it was skipped for."""
    step: str = ""
    """The label of the step in which it failed or is."""
    failure: Failed | None = None
    """Where the target itself failed."""
    earlier: tuple[Failed, ...] = ()
    """How earlier attempts failed."""
    started: datetime | None = None
    """When it entered the first step, at its last attempt."""
    seconds: float = 0.0
    """From there until it left the last one that it entered."""

    @property
    def flaky(self) -> bool:
        """It passed, but not at its first attempt."""
        return self.outcome is Outcome.PASSED and bool(self.earlier)


class CleanupFailure(Struct, frozen=True, kw_only=True):
    """A cleanup step that failed for a target, in the last attempt; it decides nothing."""

    target: str
    """The target's ID."""
    step: str
    """The label of the cleanup step."""
    error: str
    blame: str = ""
    """One of `Blame`; empty where the step was left without an end."""
    output: Output | None = None
    """The ends of what a command wrote."""


class Suite(Struct, frozen=True, kw_only=True):
    """One test of one run."""

    name: str
    """The test's name, and the run's number where there is more than the first."""
    test: str
    run_id: int
    started: datetime | None
    seconds: float
    """From the first target's first step to the last one's end."""
    cases: tuple[Case, ...]
    facts: Mapping[str, str]
    """What is known of job and run, to be written as properties."""
    cleanup: tuple[CleanupFailure, ...] = ()
    """What failed in the cleanup; the counts know nothing of it."""

    def count(self, outcome: Outcome) -> int:
        """How many targets have that outcome."""
        return sum(case.outcome is outcome for case in self.cases)


class Results(Struct, frozen=True, kw_only=True):
    """A whole report, or that of one run."""

    job_id: int
    name: str
    """The job's name; empty where it is not known."""
    facts: Mapping[str, str]
    """What is known of the job, for a person: name of the fact and value."""
    suites: tuple[Suite, ...]
    reports: tuple[Report, ...] = ()
    """What reporters said of the runs that are shown and of the job."""

    @property
    def title(self) -> str:
        """`job 3: hello`."""
        return f"job {self.job_id}: {self.name}" if self.name else f"job {self.job_id}"

    def count(self, outcome: Outcome) -> int:
        """How many targets of all tests and runs have that outcome."""
        return sum(suite.count(outcome) for suite in self.suites)

    @property
    def flaky(self) -> int:
        """How many passed, but not at their first attempt."""
        return sum(case.flaky for suite in self.suites for case in suite.cases)


def of_run(run: RunStatus, entry: JobEntry | None = None) -> Results:
    """What is to be told of a run that is over; `entry` knows the job's name, tags and requestor."""
    facts = _facts(run.job_id, entry, None)
    suites = tuple(_suites(run, facts, reports=(), ends=_Ends(over=True), plain=run.run_id == 1))
    return Results(job_id=run.job_id, name=entry.name if entry else "", facts=facts, suites=suites)


def of_job(job_id: int, status: JobStatus, entry: JobEntry | None = None, *, over: bool = False) -> Results:
    """What is to be told of a job; `over` says that its last run is over though the job has not ended."""
    facts = _facts(job_id, entry, status)
    runs = runs_of(status)
    suites: list[Suite] = []
    said = [report for reports in status.job_report.run_reports or () for report in reports or ()]
    final = tuple(status.job_report.final_reports or ())
    for index, run in enumerate(runs):
        ends = _Ends(
            over=over or status.state.ended or index < len(runs) - 1,
            cancelled=status.state in _CANCELLED,
            why=status.state_err_msg,
        )
        own = [report for report in said if report.run_id == run.run_id]
        plain = len(runs) == 1 and run.run_id == 1
        suites.extend(_suites(run, facts, reports=[*own, *final], ends=ends, plain=plain))
    shown = {run.run_id for run in runs}
    reports = (*(report for report in said if report.run_id in shown), *final)
    return Results(job_id=job_id, name=status.name, facts=facts, suites=tuple(suites), reports=reports)


def runs_of(status: JobStatus) -> Sequence[RunStatus]:
    """The runs that a status has; a server that shows only the last one is taken at its word."""
    if status.run_statuses:
        return status.run_statuses
    return [status.run_status] if status.run_status is not None else []


def said_by(report: Report) -> str:
    """What a reporter said, on one line: `success: Test smoke passes ...`."""
    word = "success" if report.success else "failure"
    data = msgspec.json.decode(report.data) if isinstance(report.data, msgspec.Raw) else report.data
    if isinstance(data, list) and all(isinstance(each, str) for each in data):
        data = "; ".join(data)
    text = data if isinstance(data, str) else "" if data is None else msgspec.json.encode(data).decode()
    text = " ".join(text.split())
    return f"{word}: {text}" if text else word


class _Ends(Struct, frozen=True, kw_only=True):
    """What became of the job as a whole: why a target has not come to its end."""

    over: bool
    """Nothing more happens in the run."""
    cancelled: bool = False
    why: str = ""
    """The job's own error."""


def _facts(job_id: int, entry: JobEntry | None, status: JobStatus | None) -> dict[str, str]:
    facts = {"job": str(job_id)}
    name = status.name if status is not None else entry.name if entry else ""
    facts["name"] = name
    if entry is not None:
        facts["requestor"] = entry.requestor
        facts["principal"] = entry.principal or ""
        facts["tags"] = ",".join(entry.tags)
    if status is not None:
        facts["state"] = status.state.name.lower().replace("_", " ") if status.state else ""
        facts["verdict"] = status.verdict or ""
        facts["flaky"] = "true" if status.flaky else ""
        facts["blame"] = (status.blame or "") if status.verdict == Verdict.ERROR else ""
        facts["error"] = status.state_err_msg
        facts["retry of"] = "" if status.retry_of is None else str(status.retry_of)
    return {fact: value for fact, value in facts.items() if value}


def _suites(
    run: RunStatus, facts: Mapping[str, str], *, reports: Sequence[Report], ends: _Ends, plain: bool
) -> Iterator[Suite]:
    own = {**facts, "run": str(run.run_id)}
    for report in reports:
        fact = f"{'report' if report.run_id else 'final report'} {report.reporter_name}"
        # A job may have a reporter twice.
        taken = (f"{fact} {number}" for number in range(2, len(reports) + 1))
        own[fact if fact not in own else next(each for each in taken if each not in own)] = said_by(report)

    def named(test: str) -> str:
        return test if plain else f"{test} (run {run.run_id})"

    for test in run.test_statuses:
        cases = tuple(_cases(test, ends))
        starts = [case.started for case in cases if case.started is not None]
        begun = min(starts, default=None)
        seconds = 0.0
        if begun is not None:
            spans = ((case.started - begun).total_seconds() + case.seconds for case in cases if case.started)
            seconds = max(spans, default=0.0)
        started = begun or (None if run.start_time == ZERO_TIME else run.start_time)
        yield Suite(
            name=named(test.test_name),
            test=test.test_name,
            run_id=run.run_id,
            started=started,
            seconds=seconds,
            cases=cases,
            facts=own,
            cleanup=tuple(_cleanup(test, ends)),
        )
    for test_name in run.skipped_tests:
        case = Case(name=test_name, outcome=Outcome.SKIPPED, words=_NOT_RUN)
        yield Suite(
            name=named(test_name),
            test=test_name,
            run_id=run.run_id,
            started=None,
            seconds=0.0,
            cases=(case,),
            facts=own,
        )


def _cases(test: TestStatus, ends: _Ends) -> Iterator[Case]:
    if not test.target_statuses:
        yield _without_targets(test, ends)
        return
    last = test.test_step_statuses[-1].test_step_label if test.test_step_statuses else ""
    entered = _entered(test)
    earlier = _earlier(test)
    number = test.attempts[-1].attempt + 1 if test.attempts else 1
    for target in test.target_statuses:
        name = _name(target)
        # An acquisition that has failed stands there as well, without a target.
        shown = name if target.target is not None else test.test_name
        started = entered.get(name)
        ended = target.out_time if target.out_time != ZERO_TIME else started
        outcome, words = _outcome(target, last, ends)
        yield Case(
            name=shown,
            outcome=outcome,
            words=words,
            step=target.test_step_label,
            failure=_failed(target, number) if target.error else None,
            earlier=tuple(attempt[name] for attempt in earlier if name in attempt),
            started=started,
            seconds=max((ended - started).total_seconds(), 0.0) if started and ended else 0.0,
        )


def _cleanup(test: TestStatus, ends: _Ends) -> Iterator[CleanupFailure]:
    """What failed in the cleanup, step by step."""
    for step in test.cleanup_step_statuses or ():
        for entry in step.target_statuses or ():
            stuck = ends.over and entry.in_time != ZERO_TIME and entry.out_time == ZERO_TIME
            if entry.error or stuck:
                yield CleanupFailure(
                    target=_name(entry),
                    step=step.test_step_label,
                    error=entry.error or "the cleanup ended when the target was in the step",
                    blame=(entry.blame or Blame.TEST) if entry.error else "",
                    output=entry.output,
                )


def _outcome(target: TargetStatus, last: str, ends: _Ends) -> tuple[Outcome, str]:
    """What has become of a target, and why it has not passed."""
    if target.error:
        return _failed(target, 1).outcome, target.error
    begun = target.in_time != ZERO_TIME
    left = target.out_time != ZERO_TIME
    if begun and left and target.test_step_label == last:
        return Outcome.PASSED, ""
    step = target.test_step_label
    where = (f"behind step {step}" if left else f"in step {step}") if begun else "not in a step yet"
    if not ends.over:
        return Outcome.SKIPPED, f"not done yet: the target is {where}"
    if ends.cancelled:
        return Outcome.SKIPPED, f"the job was cancelled when the target was {where}"
    why = f": {ends.why}" if ends.why else ""
    return Outcome.ERROR, f"the test ended when the target was {where}{why}"


def _without_targets(test: TestStatus, ends: _Ends) -> Case:
    """What stands for a test that has no targets: left out, it would look as if all were well."""
    if not ends.over:
        outcome, words = Outcome.SKIPPED, "not done yet: the test has no targets so far"
    elif ends.cancelled:
        outcome, words = Outcome.SKIPPED, "the job was cancelled before the test had its targets"
    else:
        why = f": {ends.why}" if ends.why else ""
        outcome, words = Outcome.ERROR, f"the test never had its targets{why}"
    return Case(name=test.test_name, outcome=outcome, words=words)


def _failed(target: TargetStatus, attempt: int) -> Failed:
    return Failed(
        attempt=attempt,
        words=target.error,
        step=target.test_step_label,
        blame=target.blame or _blame(target).value,
        output=target.output,
    )


def _blame(target: TargetStatus) -> Blame:
    """Whose fault it is where the server does not say, as ConTest's do not."""
    # Without a target it is the acquisition that has failed.
    return Blame.TEST if target.target is not None else Blame.INFRASTRUCTURE


def _entered(test: TestStatus) -> Mapping[str, datetime]:
    """When the targets entered their first step."""
    found: dict[str, datetime] = {}
    for step in test.test_step_statuses:
        for entry in step.target_statuses or ():
            if entry.in_time != ZERO_TIME:
                found.setdefault(_name(entry), entry.in_time)
    for entry in test.target_statuses or ():
        if entry.in_time != ZERO_TIME:
            found.setdefault(_name(entry), entry.in_time)
    return found


def _earlier(test: TestStatus) -> Sequence[Mapping[str, Failed]]:
    """By attempt but the last, how its targets failed."""
    return [
        {
            _name(target): _failed(target, attempt.attempt + 1)
            for target in attempt.target_statuses or ()
            if target.error
        }
        for attempt in (test.attempts or ())[:-1]
    ]


def _name(target: TargetStatus) -> str:
    return target.target.id if target.target is not None else "-"
