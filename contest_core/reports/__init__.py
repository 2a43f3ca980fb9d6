"""Reports of a job in the formats that other tools read: JUnit XML, TAP, Markdown.

Called by `contest report` and by reporters (`contest_steps.junit`, `contest_steps.tap`). A report is made of what a
status says and of nothing else, so it can be made of a job of any server. `results` reads the status, each of the other
modules writes one format; `writing` puts a report into a file. Nothing here is imported by `contest_core` itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

from contest_core.reports.results import Results


class Format(StrEnum):
    """A format of reports."""

    JUNIT = "junit"
    """JUnit XML, as Jenkins, GitLab and most others read it."""
    TAP = "tap"
    """The Test Anything Protocol, version 13, which readers of version 14 read, too."""
    MARKDOWN = "markdown"
    """For people: an issue, a merge request, a chat."""


def render(results: Results, kind: Format) -> Iterator[str]:
    """The report, in pieces that only have to be put together; it ends with an end of line."""
    if kind is Format.JUNIT:
        from contest_core.reports.junit import junit

        return junit(results)
    if kind is Format.TAP:
        from contest_core.reports.tap import tap

        return tap(results)
    from contest_core.reports.markdown import markdown

    return markdown(results)
