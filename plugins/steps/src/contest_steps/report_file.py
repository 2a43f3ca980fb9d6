"""What the reporters that write a file have in common: `junit` and `tap`.

They write, and judge nothing. A file that cannot be written is said in the report and in the log; the job's verdict is
what it would have been.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Any, ClassVar, Final

from msgspec import Struct

from contest_core import JobStatus, RunStatus
from contest_core.reports import Format, render
from contest_core.reports.results import Outcome, Results, of_job, of_run
from contest_core.reports.writing import write_report
from contest_core.wire_names import wire_name
from contest_runner.parts import ReportContext, Reporter, ReportResult

_PLACEHOLDER: Final = re.compile(r"\{([^{}]*)\}")
_BRACE: Final = re.compile(r"[{}]")


class RunFileParameters(Struct, frozen=True, kw_only=True, rename=wire_name):
    """Parameters of a run report that is a file."""

    file: str
    """The file to write; a relative path begins where the server was started, or `contest run`. `{job}` and `{run}`
    in it stand for their numbers; without `{run}` each run writes over the file of the one before."""

    def __post_init__(self) -> None:
        _check(self.file, ("job", "run"))


class FinalFileParameters(Struct, frozen=True, kw_only=True, rename=wire_name):
    """Parameters of a final report that is a file."""

    file: str
    """The file to write; a relative path begins where the server was started, or `contest run`. `{job}` in it stands
    for the job's number."""

    def __post_init__(self) -> None:
        _check(self.file, ("job",))


class FileReporter(Reporter[RunFileParameters, FinalFileParameters]):
    """Writes a report to a file."""

    RunParameters: ClassVar[type[Struct]] = RunFileParameters
    FinalParameters: ClassVar[type[Struct]] = FinalFileParameters
    judges = False
    format: ClassVar[Format]

    async def run_report(
        self, status: RunStatus, parameters: RunFileParameters, context: ReportContext
    ) -> ReportResult:
        """Writes what became of the targets in this run."""
        path = parameters.file.replace("{job}", str(context.job_id)).replace("{run}", str(status.run_id))
        entry = await context.entry()
        return await self._written(path, lambda: of_run(status, entry), context)

    async def final_report(
        self, status: JobStatus, parameters: FinalFileParameters, context: ReportContext
    ) -> ReportResult:
        """Writes what became of the targets in all runs."""
        path = parameters.file.replace("{job}", str(context.job_id))
        entry = await context.entry()
        return await self._written(path, lambda: of_job(context.job_id, status, entry, over=True), context)

    async def _written(self, path: str, results: Any, context: ReportContext) -> ReportResult:
        """Writes the file in a thread: of many targets that takes a while."""
        try:
            data = await asyncio.to_thread(self._write, path, results)
        except OSError as error:
            words = error.strerror or str(error)
            context.log.warning("reporter %s cannot write %s: %s", self.display_name, path, words)
            return ReportResult(success=False, data={"File": path, "Error": words})
        return ReportResult(success=True, data=data)

    def _write(self, path: str, results: Any) -> dict[str, object]:
        made: Results = results()
        return {
            "File": write_report(path, render(made, self.format)),
            "Tests": sum(len(suite.cases) for suite in made.suites),
            "Failures": made.count(Outcome.FAILED),
            "Errors": made.count(Outcome.ERROR),
            "Skipped": made.count(Outcome.SKIPPED),
            "Flaky": made.flaky,
        }


def _check(file: str, placeholders: Sequence[str]) -> None:
    """Raises `ValueError` for what can be the name of no file, and for a placeholder that nothing stands for."""
    if not file.strip() or "\0" in file:
        raise ValueError(
            "the file has no name" if not file.strip() else "the file's name has a NUL character"
        )
    if file.endswith("/"):
        raise ValueError(f"{file!r} is a folder: name the file in it")
    for found in _PLACEHOLDER.findall(file):
        if found not in placeholders:
            known = " and ".join(f"{{{each}}}" for each in placeholders)
            raise ValueError(f"nothing stands for {{{found}}} in {file!r}: there is {known}")
    if _BRACE.search(_PLACEHOLDER.sub("", file)):
        raise ValueError(f"a brace in {file!r} has no other: {{job}} is what stands for the job's number")
