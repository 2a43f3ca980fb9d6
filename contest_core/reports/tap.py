"""TAP, the Test Anything Protocol: a test point for each target of each test of a run.

Version 13 (https://testanything.org/tap-version-13-specification.html), flat and with a YAML block where there is more
to say: readers of version 14 take that as well. In a description `#` and `\\` are escaped as version 14 has it; where a
reader without escapes could still take it for a directive, `#` becomes a full-width one, so that no name of a target
makes a failure a skipped test. What failed in a cleanup stands in comments behind the points of its test.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from contest_core.reports.cleanup import cleanup_lines
from contest_core.reports.results import Case, Outcome, Results, Suite
from contest_core.reports.text import lines_of, one_line

_DIRECTIVE: Final = re.compile(r"#(?=\s*(?:skip|todo))", re.IGNORECASE)
_SPECIAL: Final = re.compile(r"[#\\]")


def tap(results: Results) -> Iterator[str]:
    """The lines, in pieces."""
    yield "TAP version 13\n"
    total = sum(len(suite.cases) for suite in results.suites)
    yield f"1..{total}\n" if total else "1..0 # SKIP the job has no tests to tell of\n"
    yield f"# {one_line(results.title)}\n"
    for fact, value in results.facts.items():
        yield f"# {one_line(fact)}: {one_line(value)}\n"
    number = 0
    for suite in results.suites:
        for case in suite.cases:
            number += 1
            yield from _point(number, suite, case)
        yield from (f"# {line}\n" for line in cleanup_lines(suite))


def _point(number: int, suite: Suite, case: Case) -> Iterator[str]:
    passed = case.outcome in (Outcome.PASSED, Outcome.SKIPPED)
    words = f"{suite.name}: {case.name}" + (" (flaky)" if case.flaky else "")
    skipped = f" # SKIP {one_line(case.words)}" if case.outcome is Outcome.SKIPPED else ""
    yield f"{'ok' if passed else 'not ok'} {number} - {_description(words)}{skipped}\n"
    if not passed or case.earlier:
        yield "  ---\n"
        for line in _more(suite, case):
            yield f"  {line}\n"
        yield "  ...\n"


def _description(words: str) -> str:
    line = _DIRECTIVE.sub("\N{FULLWIDTH NUMBER SIGN}", one_line(words))
    return _SPECIAL.sub(r"\\\g<0>", line)


def _more(suite: Suite, case: Case) -> Iterator[str]:
    if case.outcome is not Outcome.PASSED:
        yield f"message: {_quoted(case.words)}"
        yield f"severity: {'fail' if case.outcome is Outcome.FAILED else 'error'}"
    yield f"test: {_quoted(suite.test)}"
    yield f"run: {suite.run_id}"
    yield f"target: {_quoted(case.name)}"
    if case.step:
        yield f"step: {_quoted(case.step)}"
    yield f"duration_ms: {case.seconds * 1000:.0f}"
    if case.flaky:
        yield "flaky: true"
    if case.failure is not None:
        yield f"blame: {_quoted(case.failure.blame)}"
        if case.failure.output is not None:
            yield from _stream("stdout", lines_of(case.failure.output.stdout))
            yield from _stream("stderr", lines_of(case.failure.output.stderr))
    yield from _stream("earlier attempts", [f"{each.step}: {each.words}" for each in case.earlier])


def _stream(name: str, lines: Sequence[str]) -> Iterator[str]:
    if lines:
        yield f"{name}:"
        yield from (f"  - {_quoted(line)}" for line in lines)


def _quoted(text: str) -> str:
    """A double-quoted scalar of YAML, on one line."""
    quoted = "".join(each if each.isprintable() and each not in '"\\' else _escape(each) for each in text)
    return f'"{quoted}"'


def _escape(each: str) -> str:
    if each in '"\\':
        return f"\\{each}"
    code = ord(each)
    if 0xD800 <= code < 0xE000:
        return "\N{REPLACEMENT CHARACTER}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
