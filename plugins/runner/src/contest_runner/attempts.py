"""Runs one test of a run: attempt after attempt, each with its cleanup, until one succeeds or there are no more.

Called by the runner. The steps are `contest_runner.attempt`'s, the cleanup is `contest_runner.cleanup`'s, targets come
from `contest_runner.acquiring`. Between two attempts the targets are given back and nothing is locked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from contest_core import Blame
from contest_runner.attempt import Attempt
from contest_runner.cleanup import Cleanup
from contest_runner.flow import Progress
from contest_runner.job import JobFailed
from contest_runner.outcome import Outcome
from contest_runner.store import LeaseLost, StoreError
from contest_runner.times import microseconds, seconds

if TYPE_CHECKING:
    from contest_runner.acquiring import Acquired, Acquiring
    from contest_runner.binding import BoundTest
    from contest_runner.job import Job
    from contest_runner.plan import TestPlan
    from contest_runner.recovery import RecoveredTest
    from contest_runner.status_tree import TestTree
    from contest_runner.store import Store
    from contest_runner.variables import Variables


class Attempts:
    """Runs the tests of all jobs of a store."""

    def __init__(self, store: Store, acquiring: Acquiring, *, stop_grace: float) -> None:
        """`stop_grace` is what a step has to stop, in seconds."""
        self._store = store
        self._acquiring = acquiring
        self._stop_grace = stop_grace

    async def run(
        self, job: Job, run_id: int, number: int, bound: BoundTest, before: RecoveredTest | None
    ) -> None:
        """Runs a test to its end; `before` is how far it had come before an interruption.

        Raises `JobFailed`, and what made it impossible to go on.
        """
        test = _Test(job, run_id, number, bound, Outcome() if before is None else before.outcome)
        attempt = 0
        if before is not None:
            attempt = before.attempt
            if not before.targets:
                await self._interval(test)
                before = None
        while job.stopping.why is None:
            if await self._attempt(test, attempt, before):
                return
            before = None
            attempt += 1
            if job.stopping.why is None:
                await self._interval(test)

    async def give_back(
        self, job: Job, run_id: int, number: int, bound: BoundTest, before: RecoveredTest
    ) -> None:
        """Cleans up and gives back what an interrupted test had, of a job that does not go on. Raises `JobFailed`."""
        if not before.targets:
            return
        test = _Test(job, run_id, number, bound, before.outcome)
        attempt = test.attempt(before.attempt, before)
        if not bound.cleanup:
            await self._acquiring.give_back_recovered(job, test.plan, attempt, before)
            return
        acquired = await self._acquiring.acquire(job, test.plan, attempt, before)
        if acquired is not None:
            variables = {target: progress.variables for target, progress in before.progress.items()}
            await self._give_back(test, attempt, acquired, variables, before)

    async def _attempt(self, test: _Test, number: int, before: RecoveredTest | None) -> bool:
        """Whether the test is over with this attempt."""
        test.outcome.begin(number)
        attempt = test.attempt(number, before)
        acquired = await self._acquiring.acquire(test.job, test.plan, attempt, before)
        if acquired is not None:
            return await self._work(test, attempt, acquired, before)
        return _is_over(test, attempt, succeeded=False)

    async def _work(
        self, test: _Test, attempt: Attempt, acquired: Acquired, before: RecoveredTest | None
    ) -> bool:
        job = test.job
        job.attempt = attempt
        over, ours = False, True
        try:
            await attempt.run(acquired.targets, before.progress if before else None)
            await job.end_processes(job.process_grace)
            over = _is_over(test, attempt, succeeded=_succeeded(test, attempt))
        except (LeaseLost, StoreError):
            ours = False
            raise
        except asyncio.CancelledError:
            # The program ends at once: who goes on has to find that the cleanup was not done.
            ours = not test.has_cleanup
            raise
        finally:
            job.attempt = None
            if ours:
                flows = attempt.flows if test.has_cleanup else ()
                variables = {flow.target.id: flow.variables for flow in flows if flow.variables}
                await self._give_back(test, attempt, acquired, variables, before)
        return over

    # --- the end of an attempt

    async def _give_back(
        self,
        test: _Test,
        attempt: Attempt,
        acquired: Acquired,
        variables: Mapping[str, Variables],
        before: RecoveredTest | None,
    ) -> None:
        """Cleans up and gives back, on every path but those on which somebody else will."""
        job = test.job
        left = set(job.left)
        ours = True
        try:
            await self._clean_up(test, attempt, acquired, variables, before)
        except (LeaseLost, StoreError, asyncio.CancelledError):
            ours = False
            raise
        finally:
            if ours:
                await self._acquiring.release(job, test.plan, attempt, acquired)
        stuck = [f"{target}: {where}" for target, where in job.left.items() if target not in left]
        if stuck and job.stopping.why is None:
            # Another attempt would meet it there: the job's own lock does not keep the job away.
            raise JobFailed(f"still there after the cleanup's time: {'; '.join(stuck)}", blame=Blame.PLUGIN)

    async def _clean_up(
        self,
        test: _Test,
        attempt: Attempt,
        acquired: Acquired,
        variables: Mapping[str, Variables],
        before: RecoveredTest | None,
    ) -> None:
        if not test.has_cleanup:
            return
        job = test.job
        progress = {target: Progress(variables=own) for target, own in variables.items()}
        for target, done in (before.cleanup if before else {}).items():
            own = {**variables.get(target, {}), **done.variables}
            progress[target] = msgspec.structs.replace(done, variables=own)
        cleanup = Cleanup(
            job,
            attempt,
            test.tree,
            test.bound.cleanup,
            timeout=test.plan.cleanup_timeout,
            grace=self._stop_grace,
        )
        ids = [target.id for target in acquired.targets]
        lost = {target for target in ids if not job.holds(target, attempt.token)}
        if lost:
            job.log.error("test %s: targets whose locks are lost are not cleaned up", attempt.name)
        await cleanup.run(acquired.targets, progress, but=lost | job.left.keys())

    # --- between two attempts

    async def _interval(self, test: _Test) -> None:
        """Waits from the end of the last attempt as long as the test wants; a stop ends it."""
        job = test.job
        interval = seconds(test.plan.retry_interval)
        passed = (self._store.now() - microseconds(test.tree.attempt.end_time)) / 1_000_000
        # Not longer than that, though somebody has set the clock back.
        patience = min(interval, interval - passed)
        if patience > 0:
            await job.stopping.within(patience)


class _Test:
    """One test of one run, and what its attempts share."""

    def __init__(self, job: Job, run_id: int, number: int, bound: BoundTest, outcome: Outcome) -> None:
        assert job.run is not None
        self.job = job
        self.plan: TestPlan = job.plan.tests[number]
        self.tree: TestTree = job.run.tests[number]
        self.bound = bound
        self.outcome = outcome
        self._run_id = run_id
        self._number = number

    @property
    def has_cleanup(self) -> bool:
        """Whether it has cleanup steps."""
        return bool(self.bound.cleanup)

    def attempt(self, number: int, before: RecoveredTest | None) -> Attempt:
        """Its attempt of this number; with what its steps had saved before an interruption."""
        made = Attempt(
            self.job,
            run_id=self._run_id,
            test_index=self._number,
            number=number,
            steps=self.bound.steps,
            tree=self.tree,
            outcome=self.outcome,
        )
        if before is not None:
            made.saved = before.saved
        return made


def _succeeded(test: _Test, attempt: Attempt) -> bool:
    """Whether all targets passed; asked only where it makes a difference."""
    if not test.plan.retries:
        return False
    passed = [flow.target.id for flow in attempt.flows if flow.passed]
    test.outcome.passed(passed)
    return len(passed) == len(attempt.flows)


def _is_over(test: _Test, attempt: Attempt, *, succeeded: bool) -> bool:
    """Whether the test is over; then this attempt is what counts."""
    if over := succeeded or attempt.number >= test.plan.retries:
        test.outcome.count(test.job)
    return over
