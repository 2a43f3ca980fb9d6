"""The reporter `junit`: writes JUnit XML, which every CI reads, to a file."""

from __future__ import annotations

from contest_core.reports import Format
from contest_steps.report_file import FileReporter


class JUnit(FileReporter):
    """Writes JUnit XML to a file."""

    display_name = "junit"
    format = Format.JUNIT
