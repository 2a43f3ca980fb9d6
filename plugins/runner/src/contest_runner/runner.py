"""Runs a job from its plan to its end: runs, tests, reports, verdict. `Runner.run` is the whole of running one.

Called by the job manager, one task a job, with a lease; everything else that it needs is in the store, the plan
and the plugins. A test is `contest_runner.attempts`'s, reports are `contest_runner.reporting`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import msgspec

from contest_core import Blame, JobState, Report, Verdict
from contest_runner.acquiring import Acquiring
from contest_runner.answers import Answers
from contest_runner.attempts import Attempts
from contest_runner.binding import BoundSteps
from contest_runner.catalog import Catalog
from contest_runner.job import PROCESS_GRACE, Job, JobFailed
from contest_runner.plan import PLAN_FORMAT, Plan, StepPlan
from contest_runner.processes import Supervisor
from contest_runner.rebinding import bind_cleanup, bind_plan
from contest_runner.recovery import Recovered, recover
from contest_runner.reporting import Reporting
from contest_runner.revealed import REVEALED
from contest_runner.status_packing import pack
from contest_runner.status_tree import RunTree, StepName, TestTree
from contest_runner.stopping import StopReason
from contest_runner.store import JobEnd, Lease, LeaseLost, NewRun, ReportRow, Store, StoreError
from contest_runner.store.locker import Locker
from contest_runner.times import moment, seconds

UNREADABLE = -1
"""The format of a plan that could not be read."""


class Runner:
    """Runs jobs of one store in this process."""

    def __init__(
        self,
        *,
        store: Store,
        locker: Locker,
        catalog: Catalog,
        supervisor: Supervisor,
        stop_grace: float,
        changing: Callable[[], AbstractContextManager[None]],
    ) -> None:
        """`changing` is entered while a change of a job's state is written down; `stop_grace` is in seconds."""
        self.jobs: dict[int, Job] = {}
        """Those that run now."""
        self.store = store
        self.catalog = catalog
        self._locker = locker
        self._supervisor = supervisor
        self._stop_grace = stop_grace
        self._changing = changing
        acquiring = Acquiring(store, locker, catalog, stop_grace=stop_grace)
        self._attempts = Attempts(store, acquiring, stop_grace=stop_grace)
        self._reporting = Reporting(store, catalog, stop_grace=stop_grace)

    def admit(
        self,
        job_id: int,
        lease: Lease,
        plan: Plan,
        *,
        retry_of: int | None = None,
        bound: BoundSteps | None = None,
    ) -> Job:
        """Makes the job known here, so that it can be asked about and stopped; `run` has to follow.

        Where the plan has just been read, `bound` has its steps; else they are bound anew.
        """
        job = Job(job_id, plan, lease, store=self.store, locker=self._locker, supervisor=self._supervisor)
        job.retry_of = retry_of
        job.bound = bound
        # Twice within the time that the steps have before they are cancelled themselves.
        job.process_grace = min(PROCESS_GRACE, self._stop_grace / 4)
        job.start_time = self.store.now()
        self.jobs[job_id] = job
        return job

    async def run(self, job_id: int, lease: Lease, *, resumed: bool = False) -> None:
        """Runs the job to its end; returns when that is on disk.

        A job that was not admitted is read from the store. Raises `StoreError` where the store has failed for
        good.
        """
        job = self.jobs.get(job_id) or self.admit(job_id, lease, await self._plan(job_id))
        REVEALED.set(job.secrets)
        try:
            await self._until_its_end(job, resumed=resumed)
        except LeaseLost:
            job.log.error("another server has taken the job over: nothing more is written here")
            job.stop(StopReason.LEASE_LOST)
            self._locker.keep(job_id)
            await job.end_processes(0)
        finally:
            self.jobs.pop(job_id, None)

    async def stop(self, job: Job, why: StopReason = StopReason.STOP) -> None:
        """Tells a job to stop; returns when that is on disk. Twice is the same as once."""
        if job.state is JobState.STARTED and not job.ending:
            job.state = JobState.CANCELLING
            with self._changing():
                job.write("JobStateCancelling")
                job.said_cancelling = True
                job.stop(why)
                self._enforce(job)
                if job.hurried:
                    self._hurry(job)
                await self.store.set_state(job.lease, JobState.CANCELLING)
        await self.store.committed()

    def lock_lost(self, job_id: int, token: int, targets: Sequence[str]) -> None:
        """Another job has these targets now: the steps that they are in are cancelled."""
        job = self.jobs.get(job_id)
        if job is None:
            return
        attempt = job.attempt if job.cleanup is None else job.cleanup.attempt
        if attempt is not None and attempt.token == token:
            job.log.error("the locks of %s were lost", ", ".join(targets))
            attempt.lose(targets)

    def hurry(self) -> None:
        """Cancels, of every job that stops now or later, the steps that have not obeyed, and its cleanup.

        To give targets back it has no more than the grace of a stop.
        """
        for job in list(self.jobs.values()):
            job.hurried = True
            if job.stopping.why is not None:
                self._hurry(job)

    def _hurry(self, job: Job) -> None:
        job.urgent.set()
        self._cancel_steps(job)
        if job.cleanup is not None:
            job.cleanup.hurry()

    def kill(self) -> None:
        """Kills the processes of all jobs and waits for nothing."""
        self._supervisor.kill()

    def _enforce(self, job: Job) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(self._stop_grace / 2, self._cancel_steps, job)
        loop.call_later(self._stop_grace, self._give_up, job)

    def _cancel_steps(self, job: Job) -> None:
        if job.attempt is not None and job.id in self.jobs:
            job.attempt.cancel()

    def _give_up(self, job: Job) -> None:
        if job.attempt is not None and job.id in self.jobs:
            job.left.update(job.attempt.abandon())

    async def _plan(self, job_id: int) -> Plan:
        return read_plan(await self.store.plan(job_id))

    async def _begin(self, job: Job, *, resumed: bool) -> Recovered | None:
        recovered = None
        if resumed:
            recovered = await recover(
                job, lambda run_id: self._trees(job, run_id), lambda row: self._reporting.judges(job, row)
            )
            job.run, job.run_start = recovered.tree, recovered.run_start
            job.saves = True
        if job.state is JobState.STARTED:
            job.write("JobStateStarted")
        elif not job.said_cancelling:
            job.write("JobStateCancelling")
        return recovered

    # --- from the first run to the end

    async def _until_its_end(self, job: Job, *, resumed: bool) -> None:
        state, error = JobState.COMPLETED, ""
        try:
            recovered = await self._begin(job, resumed=resumed)
            self._check_format(job)
            if recovered is not None and job.stopping.why is not None:
                if failure := await self._give_back(job, recovered):
                    raise failure
            else:
                await self._runs(job, recovered)
        except JobFailed as failure:
            state, error = JobState.FAILED, str(failure)
            job.blame(failure.blame)
        except (LeaseLost, StoreError):
            raise
        # One job's fault, whatever it is, ends that job and no other.
        except Exception as failure:
            job.log.exception("the runner failed")
            state, error = JobState.FAILED, f"{type(failure).__name__}: {failure}"
            job.blame(Blame.SERVER)
        try:
            await self._end(job, state, error)
        except (LeaseLost, StoreError):
            raise
        # The end itself failed: the job ends without what could not be written, and the server goes on.
        except Exception as failure:
            job.log.exception("the end of the job failed")
            job.run = None
            job.reports = []
            job.last_run, job.last_reports = None, []
            job.blame(Blame.SERVER)
            await self._end(job, JobState.FAILED, f"{type(failure).__name__}: {failure}")

    async def _runs(self, job: Job, recovered: Recovered | None) -> None:
        try:
            bound = job.bound or bind_plan(job.plan, self.catalog)
        except JobFailed:
            if recovered is not None:
                await self._give_back(job, recovered)
            raise
        run_id = recovered.run_id if recovered else 1
        if job.plan.runs and run_id > job.plan.runs:
            await self._final_reports(job)  # it was interrupted between its last run and its end
            return
        while job.stopping.why is None:
            await self._one_run(job, run_id, bound, recovered)
            recovered = None
            if job.stopping.why is not None:
                return
            if job.plan.runs and run_id >= job.plan.runs:
                await self._final_reports(job)
                return
            if not self._ends_here(job):
                await self._pause_between(job)
            if self._ends_here(job):
                return
            run_id += 1

    def _ends_here(self, job: Job) -> bool:
        """Whether an endless job shall end after its run; as in ConTest it has no final reports."""
        return job.draining and not job.plan.runs

    async def _give_back(self, job: Job, recovered: Recovered) -> JobFailed | None:
        """A job that does not go on after an interruption: its targets are cleaned up and given back.

        Gives what went wrong.
        """
        failure: JobFailed | None = None
        for number, before in recovered.tests.items():
            bound, gone = bind_cleanup(job.plan.tests[number], self.catalog)
            if gone is not None:
                job.log.error("not all of the cleanup can be run: %s", gone)
            failure = failure or gone
            try:
                await self._attempts.give_back(job, recovered.run_id, number, bound, before)
            except JobFailed as error:
                job.log.error("%s", error)
                failure = failure or error
        return failure

    def _check_format(self, job: Job) -> None:
        if job.plan.format == UNREADABLE:
            raise JobFailed("the job's plan cannot be read by this program", blame=Blame.SERVER)
        if job.plan.format > PLAN_FORMAT:
            raise JobFailed(f"the plan has format {job.plan.format}, this program knows {PLAN_FORMAT}")

    def _trees(self, job: Job, run_id: int) -> list[TestTree]:
        """Empty trees for the tests of a run."""
        return [
            TestTree(job.id, run_id, test.name, self._names_of(test.steps), self._names_of(test.cleanup))
            for test in job.plan.tests
        ]

    def _names_of(self, steps: Sequence[StepPlan]) -> list[StepName]:
        return [StepName(step.label, self._display_name(step.name)) for step in steps]

    def _display_name(self, step: str) -> str:
        try:
            return self.catalog.step(step).display_name
        # The boundary to a step's code, which may be gone or broken since the job was handed in.
        except Exception:
            return step

    async def _one_run(
        self,
        job: Job,
        run_id: int,
        bound: BoundSteps,
        recovered: Recovered | None,
    ) -> None:
        if job.run is None:
            job.run_start = job.write("RunStarted", run_id=run_id, payload=b'{"RunID":%d}' % run_id)
            trees = self._trees(job, run_id)
            job.run = RunTree(job.id, run_id, trees, job.plan.skipped_tests, moment(job.run_start))
        for number, steps in enumerate(bound):
            if job.stopping.why is not None:
                break
            if recovered is not None and number in recovered.finished_tests:
                continue
            before = recovered.tests.get(number) if recovered is not None else None
            await self._attempts.run(job, run_id, number, steps, before)
        last = run_id == job.plan.runs and not job.plan.final_reporters
        await self._finish_run(job, run_id, report=job.stopping.why is None, last=last)

    async def _pause_between(self, job: Job) -> None:
        interval = seconds(job.plan.run_interval)
        if interval <= 0:
            return
        if job.plan.runs:
            await job.stopping.within(interval)
            return
        waiting = [
            asyncio.ensure_future(each) for each in (job.stopping.within(interval), job.drained.wait())
        ]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waiting:
                each.cancel()

    # --- reports

    async def _finish_run(self, job: Job, run_id: int, *, report: bool, last: bool) -> None:
        assert job.run is not None
        tree = job.run
        if report:
            for position, plan in enumerate(job.plan.run_reporters):
                await self._reporting.add(job, plan, run_id, position, tree.status)
        rows = [_report_row(report, position) for position, report in enumerate(job.reports)]
        run = NewRun(
            run_id=run_id,
            start_time=job.run_start,
            end_time=self.store.now(),
            status=lambda: pack(tree),
            saves=job.saves,
        )
        if last:
            # The end of the job, which comes next, writes it down too; until then the run is shown as it is.
            job.last_run, job.last_reports = run, rows
        else:
            await self.store.finish_run(job.lease, run, rows)
            job.run = None
            job.saves = False
        job.reports = []

    async def _final_reports(self, job: Job) -> None:
        if not job.plan.final_reporters:
            return
        status = await Answers(self.store, self.jobs).whole(job)
        for position, plan in enumerate(job.plan.final_reporters):
            await self._reporting.add(job, plan, 0, position, status)

    # --- the end

    async def _end(self, job: Job, state: JobState, error: str) -> None:
        if job.run is not None and job.last_run is None:
            await self._finish_run(job, job.run.status.run_id, report=False, last=True)
        await job.end_processes(job.process_grace)
        if job.stopping.why is not None:
            state = JobState.CANCELLED
        left = [f"{target}: {where}" for target, where in job.left.items()]
        left += [f"process {pid}: {what}" for pid, what in job.survivors.items()]
        if left and state is JobState.CANCELLED:
            state = JobState.CANCELLATION_FAILED
            error = "still there after the stop: " + "; ".join(left)
        if not left:
            # Those that no attempt gave back: of an interrupted job that does not go on.
            self._locker.release_soon(job.id, None)
        # Until the end is on disk the job is shown as it was: an ended state comes with its reports.
        job.ending = True
        job.write(state.wire_name, payload=_end_payload(state, error))
        verdict = _verdict(job, state)
        end = JobEnd(
            state=int(state),
            verdict=verdict.value,
            flaky=job.flaky,
            error=error or None,
            blame=job.fault.value if verdict is Verdict.ERROR and job.fault else None,
            end_time=self.store.now(),
        )
        rows = [_report_row(report, position) for position, report in enumerate(job.reports)]
        with self._changing():
            await self.store.finish_job(job.lease, end, [*job.last_reports, *rows], run=job.last_run)
        job.log.info(
            "job %d (%s) ended: %s, %s%s",
            job.id,
            job.plan.name,
            state.wire_name,
            verdict.value,
            f" ({error})" if error else "",
        )


def read_plan(text: str | None) -> Plan:
    """The plan in the store; one that cannot be run, whatever its format, where this program cannot read it."""
    try:
        return msgspec.json.decode(text or "{}", type=Plan)
    except msgspec.MsgspecError:
        try:
            name = msgspec.json.decode(text or "{}", type=_Named).name
        except msgspec.MsgspecError:
            name = ""
        return Plan(format=UNREADABLE, name=name, runs=1, tests=())


class _Named(msgspec.Struct):
    name: str = ""


def _report_row(report: Report, position: int) -> ReportRow:
    return ReportRow(
        run_id=report.run_id,
        position=position,
        reporter=report.reporter_name,
        time=round(report.report_time.timestamp() * 1e6),
        success=report.success,
        data=msgspec.json.encode(report.data).decode(),
    )


def _end_payload(state: JobState, error: str) -> bytes | None:
    return msgspec.json.encode({"Err": error}) if error or state is JobState.FAILED else None


def _verdict(job: Job, state: JobState) -> Verdict:
    if state in (JobState.CANCELLED, JobState.CANCELLATION_FAILED):
        return Verdict.CANCELLED
    if state is JobState.FAILED or job.fault is not None:
        return Verdict.ERROR
    failed = job.judged_no if job.judged else job.target_failed
    return Verdict.FAILED if failed else Verdict.PASSED
