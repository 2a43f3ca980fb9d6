"""JUnit XML: a test suite for each test of a run, a test case for each of its targets.

There is no standard; this is what Maven Surefire writes and what the schema of Jenkins' xUnit plugin (junit-10.xsd)
takes, which the others read, too: counts on each suite, `flakyFailure` in a case that has passed at a later attempt and
`rerunFailure` in one that has not; what failed in the cleanup is the suite's `system-err`. Times are in seconds,
moments in UTC without a zone.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from contest_core.reports.cleanup import cleanup_lines
from contest_core.reports.results import Case, Failed, Outcome, Results, Suite
from contest_core.reports.text import first_line, xml_text

_ESCAPED = {ord("&"): "&amp;", ord("<"): "&lt;", ord(">"): "&gt;", ord("\r"): "&#13;"}
_ESCAPED_IN_ATTRIBUTES = _ESCAPED | {ord('"'): "&quot;", ord("\n"): "&#10;", ord("\t"): "&#9;"}


def junit(results: Results) -> Iterator[str]:
    """The document, in pieces."""
    yield '<?xml version="1.0" encoding="UTF-8"?>\n'
    totals = {
        "name": results.title,
        "tests": sum(len(suite.cases) for suite in results.suites),
        "failures": results.count(Outcome.FAILED),
        "errors": results.count(Outcome.ERROR),
        "time": _seconds(sum(suite.seconds for suite in results.suites)),
    }
    yield f"<testsuites{_attributes(totals)}>\n"
    for suite in results.suites:
        yield from _suite(suite, results.name)
    yield "</testsuites>\n"


def _suite(suite: Suite, job: str) -> Iterator[str]:
    attributes: dict[str, object] = {
        "name": suite.name,
        "tests": len(suite.cases),
        "failures": suite.count(Outcome.FAILED),
        "errors": suite.count(Outcome.ERROR),
        "skipped": suite.count(Outcome.SKIPPED),
        "time": _seconds(suite.seconds),
    }
    if suite.started is not None:
        attributes["timestamp"] = _moment(suite.started)
    yield f"  <testsuite{_attributes(attributes)}>\n    <properties>\n"
    for fact, value in suite.facts.items():
        yield f"      <property{_attributes({'name': fact, 'value': value})}/>\n"
    yield "    </properties>\n"
    classname = f"{job}.{suite.name}" if job else suite.name
    for case in suite.cases:
        yield from _case(case, classname)
    if suite.cleanup:
        # Not a case: a cleanup decides nothing, and who counts cases counts the targets.
        yield "    <system-err>"
        yield from (_text(f"{line}\n") for line in cleanup_lines(suite))
        yield "</system-err>\n"
    yield "  </testsuite>\n"


def _case(case: Case, classname: str) -> Iterator[str]:
    attributes = {"name": case.name, "classname": classname, "time": _seconds(case.seconds)}
    inner = "".join(_inside(case))
    if inner:
        yield f"    <testcase{_attributes(attributes)}>\n{inner}    </testcase>\n"
    else:
        yield f"    <testcase{_attributes(attributes)}/>\n"


def _inside(case: Case) -> Iterator[str]:
    if case.outcome is Outcome.SKIPPED:
        yield f"      <skipped{_attributes({'message': case.words})}/>\n"
    elif case.outcome is not Outcome.PASSED:
        yield _not_passed(case)
    for failed in case.earlier:
        yield from _attempt(failed, "flaky" if case.flaky else "rerun")
    output = case.failure.output if case.failure is not None else None
    if output is not None:
        for stream, text, size in (
            ("system-out", output.stdout, output.stdout_size),
            ("system-err", output.stderr, output.stderr_size),
        ):
            if text:
                yield f"      <{stream}>{_text(_with_size(text, size))}</{stream}>\n"


def _not_passed(case: Case) -> str:
    tag = "failure" if case.outcome is Outcome.FAILED else "error"
    blame = case.failure.blame if case.failure is not None else "unknown"
    step = f"step {case.step}: " if case.failure is not None and case.step else ""
    message = f"{step}{first_line(case.words)}"
    return (
        f"      <{tag}{_attributes({'message': message, 'type': blame})}>{_text(step + case.words)}</{tag}>\n"
    )


def _attempt(failed: Failed, how: str) -> Iterator[str]:
    """An attempt that failed before the one that counts, as Surefire writes it."""
    tag = f"{how}{'Failure' if failed.outcome is Outcome.FAILED else 'Error'}"
    step = f"step {failed.step}: " if failed.step else ""
    message = f"attempt {failed.attempt}: {step}{first_line(failed.words)}"
    yield f"      <{tag}{_attributes({'message': message, 'type': failed.blame})}>\n"
    yield f"        <stackTrace>{_text(step + failed.words)}</stackTrace>\n"
    if failed.output is not None:
        for stream, text, size in (
            ("system-out", failed.output.stdout, failed.output.stdout_size),
            ("system-err", failed.output.stderr, failed.output.stderr_size),
        ):
            if text:
                yield f"        <{stream}>{_text(_with_size(text, size))}</{stream}>\n"
    yield f"      </{tag}>\n"


def _with_size(text: str, size: int) -> str:
    """What a command wrote, and how much there was where this is only the end."""
    if size > len(text.encode("utf-8", "surrogatepass")):
        return f"[the end of {size} bytes]\n{text}"
    return text


def _attributes(values: dict[str, object] | dict[str, str]) -> str:
    return "".join(
        f' {name}="{xml_text(str(value)).translate(_ESCAPED_IN_ATTRIBUTES)}"'
        for name, value in values.items()
    )


def _text(text: str) -> str:
    return xml_text(text).translate(_ESCAPED)


def _seconds(seconds: float) -> str:
    return f"{seconds:.3f}"


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds")
