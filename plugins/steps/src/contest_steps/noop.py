"""The reporter `noop`, as in ConTest: it says that all is good, judges nothing and ignores its parameters."""

from __future__ import annotations

from typing import Any, ClassVar

from contest_core import JobStatus, RunStatus
from contest_runner.parts import ReportContext, Reporter, ReportResult


class Noop(Reporter[Any, Any]):
    """Says that all is good."""

    RunParameters: ClassVar[Any] = Any
    FinalParameters: ClassVar[Any] = Any
    judges = False
    display_name = "noop"

    async def run_report(self, status: RunStatus, parameters: Any, context: ReportContext) -> ReportResult:
        """ConTest's words."""
        return ReportResult(success=True, data="I did nothing")

    async def final_report(self, status: JobStatus, parameters: Any, context: ReportContext) -> ReportResult:
        """ConTest's words."""
        return ReportResult(success=True, data="I did nothing at the end, all good")
