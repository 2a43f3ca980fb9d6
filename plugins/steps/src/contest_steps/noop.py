"""The reporter `noop`, as in ConTest: it says that all is good, and judges nothing."""

from __future__ import annotations

from typing import ClassVar

from msgspec import Struct

from contest_core import JobStatus, RunStatus
from contest_runner.parts import ReportContext, Reporter, ReportResult


class NoopParameters(Struct, frozen=True, kw_only=True):
    """Nothing."""


class Noop(Reporter[NoopParameters, NoopParameters]):
    """Says that all is good."""

    RunParameters: ClassVar[type[Struct]] = NoopParameters
    FinalParameters: ClassVar[type[Struct]] = NoopParameters
    judges = False
    display_name = "noop"

    async def run_report(
        self, status: RunStatus, parameters: NoopParameters, context: ReportContext
    ) -> ReportResult:
        """ConTest's words."""
        return ReportResult(success=True, data="I did nothing")

    async def final_report(
        self, status: JobStatus, parameters: NoopParameters, context: ReportContext
    ) -> ReportResult:
        """ConTest's words."""
        return ReportResult(success=True, data="I did nothing at the end, all good")
