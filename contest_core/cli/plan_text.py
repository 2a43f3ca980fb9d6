"""The plan of a job as text for people: what would be done, and what each target would be given.

Used by `contest validate --plan`. It knows the wire's structs and no rule of jobs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from contest_core.cli.output import coloured, count, visible
from contest_core.job_plan import JobPlan, PlannedPart, PlannedStep, PlannedTarget, PlannedTest

MAX_LENGTH = 1000
"""Characters of a value that are shown."""

MAX_IDS = 10
"""Targets that are named on one line."""


def plan_lines(plan: JobPlan) -> Iterator[str]:
    """The plan, line by line."""
    tags = f" ({', '.join(map(visible, plan.tags))})" if plan.tags else ""
    runs = count(plan.runs, "run") if plan.runs else "runs without end"
    every = f", {plan.run_interval} between them" if plan.run_interval and plan.runs != 1 else ""
    yield f"job {visible(plan.name)}{tags}: {runs}{every}"
    for test in plan.tests:
        yield from _test_lines(test)
    if plan.skipped_tests:
        yield f"  not run: {', '.join(map(visible, plan.skipped_tests))}"
    for what, reporters in (("after each run", plan.run_reporters), ("at the end", plan.final_reporters)):
        for reporter in reporters:
            yield f"  {what}: {_part(reporter)}"


def _test_lines(test: PlannedTest) -> Iterator[str]:
    retries = f", tried again {count(test.retries, 'time')} at most" if test.retries else ""
    after = f" after {test.retry_interval}" if test.retries and test.retry_interval else ""
    yield f"  test {visible(test.test_name)}{retries}{after}"
    yield f"    targets: {_targets(test)}  ({_part(test.target_manager)})"
    for number, step in enumerate(test.steps, 1):
        yield from _step_lines(f"{number}.", step, test.target_count)
    within = f", within {test.cleanup_timeout}" if test.cleanup_timeout else ""
    if test.cleanup_steps:
        yield f"    in any case then{within}:"
    for number, step in enumerate(test.cleanup_steps, 1):
        yield from _step_lines(f"{number}.", step, test.target_count)


def _targets(test: PlannedTest) -> str:
    if test.targets_error:
        return coloured(f"none now: {visible(test.targets_error)}", "red")
    if test.targets is None:
        return "known when they are acquired"
    named = ", ".join(visible(target.id) for target in test.targets[:MAX_IDS])
    more = test.target_count - min(len(test.targets), MAX_IDS)
    return f"{named} and {more:,} more" if more else named


def _part(part: PlannedPart) -> str:
    told = ", ".join(_pairs(part.parameters))
    return f"{visible(part.name)}: {told}" if told else visible(part.name)


def _step_lines(number: str, step: PlannedStep, target_count: int) -> Iterator[str]:
    yield f"    {number} {visible(step.name)} {visible(step.label)}"
    for pair in _pairs(step.parameters):
        yield f"         {pair}"
    for key, sources in step.templates.items():
        shown = sources[0] if len(sources) == 1 else sources
        yield f"         {visible(key)}: {_value(shown)}"
    width = max((len(visible(target.id)) for target in step.targets), default=0)
    for target in step.targets:
        yield f"           {visible(target.id).ljust(width)}  {_given(target)}"
    if step.templates and len(step.targets) < target_count:
        what = "more target" if step.targets else "target"
        yield f"           {count(target_count - len(step.targets), what)} not shown"


def _given(target: PlannedTarget) -> str:
    words = list(_pairs(target.parameters))
    if target.waits_for:
        words.append(f"waits for {', '.join(map(visible, target.waits_for))}")
    if target.error:
        words.append(coloured(f"fails: {visible(target.error)}", "red"))
    return "; ".join(words)


def _pairs(parameters: Mapping[str, object]) -> Iterator[str]:
    return (f"{visible(key)}: {_value(value)}" for key, value in parameters.items())


def _value(value: object) -> str:
    if isinstance(value, str) and value and not _needs_quotes(value):
        text = value
    else:
        text = json.dumps(value, ensure_ascii=False)
    if len(text) > MAX_LENGTH:
        return f"{visible(text[:MAX_LENGTH])}... ({len(text):,} characters; all of them with --json)"
    return visible(text)


def _needs_quotes(text: str) -> bool:
    return text != text.strip() or "\n" in text or (text[0] in "\"'[{" and not text.startswith("{{"))
