"""Markdown, as GitHub, GitLab and most chats show it: for an issue, a merge request, a mail.

What has not passed comes first and is shown with its reason and the end of its output; of long lists the rest is
counted, since such a text is pasted somewhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from contest_core.reports.results import Case, Outcome, Results, Suite, said_by
from contest_core.reports.text import first_line, lines_of, one_line
from contest_core.status import Blame

MAX_ROWS: Final = 50
"""Targets of one test that have a row; those that have not passed come first."""

MAX_OUTPUTS: Final = 10
"""Targets of one test whose output is shown."""

MAX_LINES: Final = 20
"""Lines of one output."""

_SPECIAL: Final = re.compile(r"[\\`*_\[\]<>|~&#]")
_ORDER: Final = (Outcome.FAILED, Outcome.ERROR, Outcome.SKIPPED, Outcome.PASSED)
_MARK: Final = {Outcome.FAILED: "**failed**", Outcome.ERROR: "**error**"}


def markdown(results: Results) -> Iterator[str]:
    """The text, in pieces."""
    verdict = results.facts.get("verdict")
    yield f"# {_plain(results.title)}{f': {_plain(verdict)}' if verdict else ''}\n\n"
    facts = [(fact, value) for fact, value in results.facts.items() if fact not in ("job", "name", "verdict")]
    for fact, value in facts:
        yield f"- {_plain(fact)}: {_plain(value)}\n"
    if facts:
        yield "\n"
    for suite in results.suites:
        yield from _suite(suite)
    if results.reports:
        yield "## Reports\n\n"
        for report in results.reports:
            where = f"run {report.run_id}" if report.run_id else "final"
            yield f"- {where}, {_plain(report.reporter_name)}: {_plain(said_by(report))}\n"


def _suite(suite: Suite) -> Iterator[str]:
    yield f"## {_plain(suite.name)}: {tally(suite)}\n\n"
    cases = sorted(suite.cases, key=lambda case: (_ORDER.index(case.outcome), not case.flaky))
    yield "| target | result | step | took | why |\n|---|---|---|---:|---|\n"
    for case in cases[:MAX_ROWS]:
        yield f"| {' | '.join(_row(case))} |\n"
    yield "\n"
    if len(cases) > MAX_ROWS:
        yield f"and {len(cases) - MAX_ROWS} more\n\n"
    yield from _cleanup(suite)
    told = [case for case in cases if case.failure is not None and case.failure.output is not None]
    for case in told[:MAX_OUTPUTS]:
        yield from _outputs(case)


def _cleanup(suite: Suite) -> Iterator[str]:
    if not suite.cleanup:
        return
    yield "| cleanup of | step | why |\n|---|---|---|\n"
    for failure in suite.cleanup[:MAX_ROWS]:
        fault = f" (blame: {failure.blame})" if failure.blame not in ("", Blame.TEST) else ""
        why = f"{first_line(failure.error)}{fault}"
        yield f"| {_plain(failure.target)} | {_plain(failure.step)} | {_plain(why)} |\n"
    yield "\n"
    if len(suite.cleanup) > MAX_ROWS:
        yield f"and {len(suite.cleanup) - MAX_ROWS} more\n\n"


def tally(suite: Suite) -> str:
    """`1 failed, 2 passed (1 flaky)`."""
    words = [f"{number} {outcome}" for outcome in _ORDER if (number := suite.count(outcome))]
    flaky = sum(case.flaky for case in suite.cases)
    return ", ".join(words) + (f" ({flaky} flaky)" if flaky else "")


def _row(case: Case) -> Sequence[str]:
    mark = _MARK.get(case.outcome, str(case.outcome)) + (", flaky" if case.flaky else "")
    why = first_line(case.words)
    if case.failure is not None and case.failure.outcome is Outcome.ERROR:
        why += f" (blame: {case.failure.blame})"
    if case.flaky:
        why = f"attempt {case.earlier[0].attempt}: {first_line(case.earlier[0].words)}"
    return _plain(case.name), mark, _plain(case.step), f"{case.seconds:.2f} s", _plain(why)


def _outputs(case: Case) -> Iterator[str]:
    assert case.failure is not None
    assert case.failure.output is not None
    output = case.failure.output
    for stream, text in (("stderr", output.stderr), ("stdout", output.stdout)):
        lines = lines_of(text)
        if any(line.strip() for line in lines):
            end = "the end of " if len(lines) > MAX_LINES else ""
            shown = lines[-MAX_LINES:]
            # A fence is longer than any run of its characters inside.
            ticks = max((len(run) for line in shown for run in re.findall("`+", line)), default=0)
            fence = "`" * max(3, ticks + 1)
            yield f"{_plain(case.name)}, {end}{stream}:\n\n{fence}text\n"
            yield from (f"{line}\n" for line in shown)
            yield f"{fence}\n\n"


def _plain(text: str) -> str:
    """Text that means nothing but itself."""
    return _SPECIAL.sub(r"\\\g<0>", one_line(text))
