"""A job's status as text for people: where it is, a table of targets a test, reports, what it waits for.

Called by `status` and by `start --wait`; plugins' commands may use it, too. It knows the status structs and nothing
of where they come from.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from contest_core.cli.output import coloured, count, span_text, state_word, table, time_text, visible
from contest_core.status import (
    ZERO_TIME,
    JobState,
    JobStatus,
    Output,
    Report,
    RunStatus,
    TargetStatus,
    TestStatus,
    Waiting,
)

MAX_TARGETS: Final = 40
"""Rows of one test's table; those that failed or run come first."""

MAX_RUNS: Final = 5
"""Runs that are shown, the last ones."""

MAX_FAILURES: Final = 5
"""Targets that failed in a cleanup, or in an attempt before the last one."""

MAX_OUTPUT_LINES: Final = 10
"""Lines of what a failed command wrote."""

MAX_DATA: Final = 200
"""Characters of a report's data on one line."""

_ORDER = ("failed", "running", "cut off", "between steps", "not begun", "passed")


def status_lines(job_id: int, status: JobStatus, *, hints: bool = True) -> Iterator[str]:
    """The lines of a status; `hints` say which option of `contest status` shows what is left out."""
    yield from head_lines(job_id, status)
    runs = runs_of(status)
    if len(runs) > MAX_RUNS:
        left_out = f"runs {runs[0].run_id} to {runs[-MAX_RUNS - 1].run_id} are not shown"
        yield f"{left_out}: --run N shows one" if hints else left_out
    ended = status.state.ended
    last = len(runs) - 1
    for index, run in enumerate(runs):
        if index > last - MAX_RUNS:
            yield from _run_lines(run, ended=ended or index < last, hints=hints)
            yield from report_lines(status, run.run_id)
    yield from report_lines(status, None)


def head_lines(job_id: int, status: JobStatus) -> Iterator[str]:
    """What is to be said of the job as a whole."""
    yield f"job {job_id}  {visible(status.name)}  {outcome_text(status)}"
    yield f"  {_times(status)}"
    if status.retry_of is not None:
        yield f"  a retry of job {status.retry_of}"
    for line in status.state_err_msg.splitlines():
        yield f"  {visible(line)}"
    if status.waiting is not None:
        yield from _waiting_lines(status.waiting)


def report_lines(status: JobStatus, run_id: int | None) -> Iterator[str]:
    """The reports of a run; None is the final ones."""
    if run_id is not None:
        yield from _report_lines(_reports_of(status, run_id))
    for line in _report_lines(status.job_report.final_reports or []) if run_id is None else ():
        yield f"final {line}"


def outcome_text(status: JobStatus) -> str:
    """The state, and once there is one the verdict, with whose fault an error is and whether it is flaky."""
    words = [coloured(state_word(status.state_name))]
    if status.verdict:
        words.append(coloured(visible(status.verdict)))
    if status.flaky:
        words.append(coloured("flaky", "yellow"))
    if status.blame:
        words.append(f"(blame: {visible(status.blame)})")
    return "  ".join(words)


def runs_of(status: JobStatus) -> Sequence[RunStatus]:
    """The runs that a status has; a server that shows only the last one is taken at its word."""
    if status.run_statuses:
        return status.run_statuses
    return [status.run_status] if status.run_status is not None else []


def tally(test: TestStatus, *, ended: bool) -> Counter[str]:
    """How many targets are in which state, in the order in which they are told."""
    last = test.test_step_statuses[-1].test_step_label if test.test_step_statuses else ""
    return _tally(test.target_statuses or (), last, ended=ended)


def _tally(targets: Iterable[TargetStatus], last: str, *, ended: bool) -> Counter[str]:
    found = Counter(target_state(target, last, ended=ended) for target in targets)
    return Counter({state: found[state] for state in reversed(_ORDER) if found[state]})


def test_text(test: TestStatus, *, ended: bool) -> str:
    """What the targets have come to; and in which attempt, where that is not the first one."""
    attempt = f", attempt {test.attempts[-1].attempt + 1}" if test.attempts else ""
    return f"{tally_text(tally(test, ended=ended))}{attempt}"


def tally_text(counted: Counter[str]) -> str:
    """`12 passed, 1 failed`."""
    return ", ".join(f"{number} {coloured(state)}" for state, number in counted.items()) or "not begun"


def target_state(target: TargetStatus, last_step: str, *, ended: bool) -> str:
    """What has become of a target, by its status in the last step that it entered."""
    if target.error:
        return "failed"
    if target.in_time == ZERO_TIME:
        return "not begun"
    left = target.out_time != ZERO_TIME
    if left and target.test_step_label == last_step:
        return "passed"
    if ended:
        return "cut off"
    return "between steps" if left else "running"


def _times(status: JobStatus) -> str:
    if status.start_time == ZERO_TIME:
        return "not begun"
    began = f"began {time_text(status.start_time)}"
    if status.end_time is None or status.end_time == ZERO_TIME:
        return began
    took = span_text((status.end_time - status.start_time).total_seconds())
    return f"{began}, ended {time_text(status.end_time)}, took {took}"


def _waiting_lines(waiting: Waiting) -> Iterator[str]:
    yield f"  waiting for {visible(waiting.what)} since {time_text(waiting.since)}"
    for target in waiting.targets[:MAX_TARGETS]:
        yield (
            f"    {visible(target.id)}: held by job {target.held_by} since {time_text(target.since)}, "
            f"until {time_text(target.until)} unless renewed"
        )
    if len(waiting.targets) > MAX_TARGETS:
        yield f"    and {count(len(waiting.targets) - MAX_TARGETS, 'more target')}"


def _run_lines(run: RunStatus, *, ended: bool, hints: bool) -> Iterator[str]:
    yield f"run {run.run_id}  began {time_text(run.start_time)}"
    for test in run.test_statuses:
        yield f"  test {visible(test.test_name)}: {test_text(test, ended=ended)}"
        yield from _target_lines(test, ended=ended, hints=hints)
        yield from _cleanup_lines(test, ended=ended)
        yield from _attempt_lines(test)
    if run.skipped_tests:
        yield f"  not run: {', '.join(map(visible, run.skipped_tests))}"


def _target_lines(test: TestStatus, *, ended: bool, hints: bool) -> Iterator[str]:
    labels = [step.test_step_label for step in test.test_step_statuses]
    last = labels[-1] if labels else ""
    states = [(target_state(target, last, ended=ended), target) for target in test.target_statuses or []]
    states.sort(key=lambda pair: _ORDER.index(pair[0]))
    shown = states[:MAX_TARGETS]
    entered = _entered(test, {_name(target) for _, target in shown})
    rows = [_target_row(state, target, labels, entered) for state, target in shown]
    yield from table(("TARGET", "STATE", "STEP", "TOOK", "ERROR"), rows, indent="    ")
    if len(states) > len(shown):
        more = f"    and {count(len(states) - len(shown), 'more target')}"
        yield f"{more}: --target ID shows one, --json all" if hints else more
    for state, target in shown:
        if state == "failed" and target.output is not None:
            yield from _output_lines(_name(target), target.output)


def _cleanup_lines(test: TestStatus, *, ended: bool) -> Iterator[str]:
    """What the cleanup has come to; nothing where it has not begun."""
    last: dict[str, TargetStatus] = {}
    steps = test.cleanup_step_statuses or []
    for step in steps:
        last.update({_name(entry): entry for entry in step.target_statuses or ()})
    if not last:
        return
    label = steps[-1].test_step_label
    yield f"    cleanup: {tally_text(_tally(last.values(), label, ended=ended))}"
    yield from _failures([entry for entry in last.values() if entry.error])


def _attempt_lines(test: TestStatus) -> Iterator[str]:
    """What the attempts before the last one have come to."""
    label = test.test_step_statuses[-1].test_step_label if test.test_step_statuses else ""
    for attempt in (test.attempts or [])[:-1]:
        targets = attempt.target_statuses or []
        took = span_text((attempt.end_time - attempt.start_time).total_seconds())
        words = tally_text(_tally(targets, label, ended=True))
        yield f"    attempt {attempt.attempt + 1}: {words}, took {took}"
        yield from _failures([entry for entry in targets if entry.error])


def _failures(targets: Sequence[TargetStatus]) -> Iterator[str]:
    for entry in targets[:MAX_FAILURES]:
        place = ": ".join(filter(None, (_name(entry), entry.test_step_label)))
        first = entry.error.strip().split("\n", 1)[0]
        yield f"      {visible(place)}: {visible(first)}"
    if len(targets) > MAX_FAILURES:
        yield f"      and {count(len(targets) - MAX_FAILURES, 'more')}"


def _entered(test: TestStatus, names: set[str]) -> Mapping[str, datetime]:
    """When these targets entered their first step."""
    found: dict[str, datetime] = {}
    for step in test.test_step_statuses:
        for entry in step.target_statuses or ():
            if _name(entry) in names:
                found.setdefault(_name(entry), entry.in_time)
        if len(found) == len(names):
            break
    return found


def _target_row(
    state: str, target: TargetStatus, labels: Sequence[str], entered: Mapping[str, datetime]
) -> Sequence[str]:
    label = target.test_step_label
    place = f" ({labels.index(label) + 1}/{len(labels)})" if label in labels else ""
    blame = f" (blame: {target.blame})" if target.blame and target.error else ""
    first = target.error.strip().split("\n", 1)[0]
    took = ""
    if ZERO_TIME not in (target.in_time, target.out_time):
        took = span_text((target.out_time - entered.get(_name(target), target.in_time)).total_seconds())
    cells = (_name(target), f"{label}{place}", f"{first}{blame}")
    name, step, error = map(visible, cells)
    return name, coloured(state), step, took, error


def _name(target: TargetStatus) -> str:
    return target.target.id if target.target is not None else "-"


def _output_lines(name: str, output: Output) -> Iterator[str]:
    for stream, text, size in (
        ("stderr", output.stderr, output.stderr_size),
        ("stdout", output.stdout, output.stdout_size),
    ):
        lines = text.rstrip("\n").splitlines() if text.strip() else []
        if lines:
            cut = len(lines) > MAX_OUTPUT_LINES or size > len(text.encode("utf-8", "surrogatepass"))
            yield f"    {visible(name)}: {'the end of ' if cut else ''}{stream} ({count(size, 'byte')})"
            yield from (f"      {visible(line, lines=True)}" for line in lines[-MAX_OUTPUT_LINES:])


def _reports_of(status: JobStatus, run_id: int) -> Sequence[Report]:
    lists = status.job_report.run_reports or []
    return [report for reports in lists for report in reports or [] if report.run_id == run_id]


def _report_lines(reports: Sequence[Report]) -> Iterator[str]:
    for report in reports:
        word = coloured("success", "green") if report.success else coloured("failure", "red")
        data = _data_text(report.data)
        yield f"report {visible(report.reporter_name)}: {word}{f'  {data}' if data else ''}"


def _data_text(data: Any) -> str:
    if data is None or data == "":
        return ""
    if isinstance(data, list) and all(isinstance(each, str) for each in data):
        data = "; ".join(data)
    text = data if isinstance(data, str) else msgspec.json.encode(data).decode()
    text = visible(" ".join(text.split()))
    return text if len(text) <= MAX_DATA else f"{text[: MAX_DATA - 1]}…"


def progress_text(job_id: int, status: JobStatus) -> str:
    """Where a job is, on one line."""
    words = f"job {job_id} {visible(status.name)}: {outcome_text(status)}"
    if status.waiting is not None:
        return f"{words}, {_waiting_text(status.waiting)}"
    runs = runs_of(status)
    if status.state is not JobState.STARTED or not runs:
        return words
    begun = [test for test in runs[-1].test_statuses if test.target_statuses]
    tests = "; ".join(f"{visible(test.test_name)}: {test_text(test, ended=False)}" for test in begun[-1:])
    of = f" of {len(runs[-1].test_statuses)}" if len(runs[-1].test_statuses) > 1 else ""
    where = f"run {runs[-1].run_id}, test {len(begun)}{of}, {tests}" if begun else f"run {runs[-1].run_id}"
    return f"{words}, {where}"


def _waiting_text(waiting: Waiting) -> str:
    first = waiting.targets[0] if waiting.targets else None
    held = f" {visible(first.id)}, held by job {first.held_by}" if first else f" {visible(waiting.what)}"
    more = f" and {len(waiting.targets) - 1} more" if len(waiting.targets) > 1 else ""
    return f"waiting for{held}{more}"
