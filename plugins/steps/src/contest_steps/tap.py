"""The reporter `tap`: writes the Test Anything Protocol to a file."""

from __future__ import annotations

from contest_core.reports import Format
from contest_steps.report_file import FileReporter


class Tap(FileReporter):
    """Writes TAP to a file."""

    display_name = "tap"
    format = Format.TAP
