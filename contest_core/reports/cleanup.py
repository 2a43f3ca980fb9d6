"""What failed in a test's cleanup, as lines for a person: the formats that have no element for it show these.

Called by the writers of JUnit XML and TAP. What there is too much of is counted: some readers refuse a long text.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from contest_core.reports.results import CleanupFailure, Suite
from contest_core.reports.text import lines_of, one_line

MAX_TOLD: Final = 1000
"""Failures of one test that have a line."""

MAX_OUTPUTS: Final = 20
"""Failures of one test whose output is shown."""

MAX_CHARACTERS: Final = 500
"""Of a name, an error or a line of output. In all it stays below the 10 MB that libxml2 takes for one text."""

MAX_LINES: Final = 20
"""Lines of one output."""


def cleanup_lines(suite: Suite) -> Iterator[str]:
    """The lines, each without an end; none where nothing failed."""
    if not suite.cleanup:
        return
    yield f"cleanup of {_short(suite.name)}: {len(suite.cleanup)} failed, which decides nothing"
    outputs = 0
    for failure in suite.cleanup[:MAX_TOLD]:
        blame = f" (blame: {_short(failure.blame)})" if failure.blame else ""
        words = _short(failure.error)
        yield f"target {_short(failure.target)}, step {_short(failure.step)}: {words}{blame}"
        if failure.output is not None and outputs < MAX_OUTPUTS:
            outputs += 1
            yield from _output(failure)
    if len(suite.cleanup) > MAX_TOLD:
        yield f"and {len(suite.cleanup) - MAX_TOLD} more"


def _output(failure: CleanupFailure) -> Iterator[str]:
    assert failure.output is not None
    for stream, text in (("stdout", failure.output.stdout), ("stderr", failure.output.stderr)):
        for line in lines_of(text)[-MAX_LINES:]:
            yield f"  {stream}: {line[:MAX_CHARACTERS]}"


def _short(text: str) -> str:
    return one_line(text)[:MAX_CHARACTERS]
