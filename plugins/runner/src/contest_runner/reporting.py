"""Asks the reporters of a job, at the end of each run and at the job's end, and minds whose word decides the verdict.

Called by the runner. A reporter is other people's code: whatever it raises is its own fault and ends no job.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw

from contest_core import Blame, JobEntry, JobStatus, Report, RunStatus
from contest_runner.answers import entry_of
from contest_runner.bounded import JobStopped, guarded, while_running
from contest_runner.catalog import Catalog
from contest_runner.job import Job
from contest_runner.parts import ReportContext, Reporter, ReportResult, decode_part
from contest_runner.plan import ReporterPlan
from contest_runner.store import ReportRow, Store
from contest_runner.times import moment


class Reporting:
    """Asks the reporters of all jobs of a store."""

    def __init__(self, store: Store, catalog: Catalog, *, stop_grace: float) -> None:
        """`stop_grace` is what a reporter of a stopped job has, in seconds."""
        self._store = store
        self._catalog = catalog
        self._stop_grace = stop_grace

    async def add(
        self, job: Job, plan: ReporterPlan, run_id: int, position: int, status: RunStatus | JobStatus
    ) -> None:
        """Adds what a reporter says; of a job that is stopped meanwhile, nothing."""
        name = plan.name
        try:
            reporter = self._catalog.reporter(plan.name)
            name = reporter.display_name or name
            asking = self._ask(reporter, plan, job, f"{job.id}.{run_id}.{position}", status)
            result = await while_running(job, asking, stubborn=self._stop_grace)
            result = ReportResult(success=bool(result.success), data=Raw(msgspec.json.encode(result.data)))
        except JobStopped:
            return
        # The boundary to a reporter's code: ConTest stores a report without success and data.
        except Exception:
            job.log.exception("reporter %s failed", plan.name)
            job.blame(Blame.PLUGIN)
            result = ReportResult(success=False)
        else:
            if reporter.judges:
                job.judged = True
                job.judged_no = job.judged_no or not result.success
        job.reports.append(
            Report(
                job_id=job.id,
                run_id=run_id,
                reporter_name=name,
                report_time=moment(self._store.now()),
                success=result.success,
                data=result.data,
            )
        )

    async def _ask(
        self,
        kind: type[Reporter[Any, Any]],
        plan: ReporterPlan,
        job: Job,
        key: str,
        status: RunStatus | JobStatus,
    ) -> ReportResult:
        context = ReportContext(job_id=job.id, key=key, log=job.log, entry=lambda: self._entry(job.id))
        if isinstance(status, RunStatus):
            of_run = _parameters(plan, kind.RunParameters)
            return await guarded(lambda: kind().run_report(status, of_run, context))
        of_job = _parameters(plan, kind.FinalParameters)
        return await guarded(lambda: kind().final_report(status, of_job, context))

    async def _entry(self, job_id: int) -> JobEntry | None:
        """What a list says of a job, to those who ask for it."""
        row = await self._store.job(job_id)
        return None if row is None else entry_of(row)

    def judges(self, job: Job, row: ReportRow) -> bool:
        """Whether a reporter's word counts for the verdict; of one that is gone it does not."""
        reporters = job.plan.run_reporters if row.run_id else job.plan.final_reporters
        if row.position >= len(reporters):
            return False
        try:
            return self._catalog.reporter(reporters[row.position].name).judges
        # The boundary to a reporter's code, which may be gone or broken since.
        except Exception:
            job.log.exception("reporter %s cannot be loaded", row.reporter)
            return False


def _parameters(plan: ReporterPlan, kind: Any) -> Any:
    return decode_part(Raw(b"{}") if bytes(plan.parameters) == b"null" else plan.parameters, kind)
