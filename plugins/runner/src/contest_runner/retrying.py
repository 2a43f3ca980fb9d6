"""`retry` with `failedOnly`: the plan of a job that has ended, narrowed to the targets that did not pass.

Called by the job manager. What counts is the last attempt of each run, as in the status. A target manager is told in
`AcquireContext.only` which targets are meant; one that does not heed that is refused by name, never ignored.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import msgspec

from contest_core import ZERO_TIME, TargetStatus, TestStatus, Unsupported
from contest_core.registry import UnknownName
from contest_runner.answers import RUNS_SHOWN
from contest_runner.catalog import Catalog
from contest_runner.plan import Plan, TestPlan
from contest_runner.refusals import InvalidQuery
from contest_runner.status_packing import unpack
from contest_runner.store import RunRow, Store


class _Left:
    """What is left to do in the tests of a job, by the test's name."""

    def __init__(self) -> None:
        self.failed: dict[str, set[str]] = {}
        """The targets that did not pass in some run."""
        self.never_had: set[str] = set()
        """Tests that did not have their targets in some run: nobody knows which they would have been."""

    def add(self, test: TestStatus) -> None:
        """A test of one run."""
        targets = test.target_statuses or []
        if not targets or any(entry.target is None for entry in targets):
            self.never_had.add(test.test_name)
        last = test.test_step_statuses[-1].test_step_label
        failed = self.failed.setdefault(test.test_name, set())
        failed |= {entry.target.id for entry in targets if entry.target and not _passed(entry, last)}

    def narrow(self, test: TestPlan) -> TestPlan | None:
        """The test with what is left of it; None where that is nothing."""
        if test.name in self.never_had or test.name not in self.failed:
            return test
        failed = self.failed[test.name]
        return msgspec.structs.replace(test, only=tuple(sorted(failed))) if failed else None


def _passed(entry: TargetStatus, last: str) -> bool:
    return not entry.error and entry.out_time != ZERO_TIME and entry.test_step_label == last


async def narrowed(job_id: int, plan: Plan, store: Store, catalog: Catalog) -> Plan:
    """The plan with only what failed in its runs; of an endless job, in the last ones, which its status shows.

    Raises `InvalidQuery` where nothing failed, and `Unsupported` for a target manager that cannot be narrowed.
    """
    left = _Left()
    rows = await store.runs(job_id, last=None if plan.runs else RUNS_SHOWN)
    for row in rows:
        for test in await asyncio.to_thread(_tests, job_id, row):
            left.add(test)
    tests = {test.name: left.narrow(test) for test in plan.tests}
    kept = tuple(test for test in tests.values() if test is not None)
    if not kept:
        raise InvalidQuery(f"no target of job {job_id} failed: there is nothing to retry with failedOnly")
    for plan_of_test in kept:
        if plan_of_test.only:
            _check(plan_of_test, catalog)
    skipped = (*plan.skipped_tests, *(name for name, test in tests.items() if test is None))
    return msgspec.structs.replace(plan, tests=kept, skipped_tests=skipped)


def _tests(job_id: int, row: RunRow) -> Iterable[TestStatus]:
    return unpack(job_id, row.run_id, row.status).status.test_statuses


def _check(test: TestPlan, catalog: Catalog) -> None:
    try:
        able = catalog.target_manager(test.target_manager).narrows
    except UnknownName:
        able = False
    if not able:
        by = (
            f"target manager {test.target_manager} of test {test.name!r}, which cannot be told single targets"
        )
        raise Unsupported(what="retry of only the targets that failed", by=by)
