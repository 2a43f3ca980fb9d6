"""After a crash: how far a job had come, read from what it wrote.

The events are the truth: an open `TargetIn` means "may have run", its absence "has not". From them the status of
the run that was going on is made again, and where each target goes on. They are read page by page, twice where a run
was going on: first for what the job has come to and where its last run begins, then that run alone. However many
attempts it has had, in memory are a page, and what its status keeps.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Raw, Struct

from contest_core import Blame, EventData, Header, JobEvent, Output, TargetInfo
from contest_runner.flow import Progress
from contest_runner.outcome import Outcome
from contest_runner.status_tree import CLEANUP, MAX_ATTEMPTS, LiveTarget, RunTree, StepsTree, TestTree
from contest_runner.store import AcquisitionRow, EventRow, ReportRow
from contest_runner.store.rows import Place
from contest_runner.target import Target
from contest_runner.times import moment

if TYPE_CHECKING:
    from contest_runner.job import Job

_PAGE: Final = 10_000

_FAILURES: Final = frozenset({"TargetErr", "TargetAcquireErr"})
_DECIDING: Final = _FAILURES | {"TargetAcquired", "TargetOut"}
"""Events that say what an attempt comes to; of the first one without failures there is nothing to say."""


class RecoveredTest(Struct, frozen=True, kw_only=True):
    """A test that was going on."""

    attempt: int
    """The attempt that goes on, or that comes next where there are no targets."""
    outcome: Outcome
    targets: tuple[Target, ...] = ()
    """Of that attempt; empty between two attempts."""
    progress: dict[str, Progress]
    """By target ID, how far it had come in the steps of the test,"""
    cleanup: dict[str, Progress]
    """and in those of the cleanup; without those that have entered none."""
    saved: dict[tuple[str, str], Any]
    """By step label and target ID, what steps had kept."""


class Recovered(Struct, frozen=True, kw_only=True):
    """Where a job goes on."""

    run_id: int
    run_start: int
    tree: RunTree | None
    """The run that was going on; None where the next one has not begun."""
    finished_tests: frozenset[int]
    tests: dict[int, RecoveredTest]


async def recover(
    job: Job, trees: Callable[[int], list[TestTree]], judges: Callable[[ReportRow], bool]
) -> Recovered:
    """Reads how far the job had come, and sets the job's counters.

    `trees` makes the empty tests of a run; `judges` says whether a reporter's word counts for the verdict.
    """
    outcomes = _Outcomes(job)
    run_id, run_start, position = 0, 0, 0
    async for page in _pages(job, after=0):
        for event in page:
            _recount(job, event)
            outcomes.apply(event)
            if event.name == "RunStarted" and event.test is None:
                run_id, run_start, position = event.run_id or 0, event.time, event.position
    await _recall_reports(job, judges)
    done = {run.run_id for run in await job.store.runs(job.id, last=1)}
    if run_id == 0 or run_id in done:
        outcomes.count()
        return Recovered(run_id=run_id + 1, run_start=0, tree=None, finished_tests=frozenset(), tests={})
    replay = _Replay(job, run_id, trees(run_id), outcomes)
    async for page in _pages(job, after=position):
        await replay.apply(page)
    tests = await replay.tests()
    outcomes.count(but=[job.plan.tests[number].name for number in tests])
    tree = RunTree(job.id, run_id, replay.trees, job.plan.skipped_tests, moment(run_start))
    return Recovered(
        run_id=run_id,
        run_start=run_start,
        tree=tree,
        finished_tests=frozenset(replay.finished),
        tests=tests,
    )


async def _pages(job: Job, *, after: int) -> AsyncIterator[Sequence[EventRow]]:
    """The job's events behind a position of the feed."""
    while True:
        page = await job.store.events(job_id=job.id, after=after, limit=_PAGE)
        if page:
            yield page
        if len(page) < _PAGE:
            return
        after = page[-1].position


def _recount(job: Job, event: EventRow) -> None:
    """What an earlier event means for the sequence and the state."""
    job.sequence = event.sequence
    if event.name == "JobStateCancelling":
        job.said_cancelling = True


class _Outcomes:
    """What the tests of the last run have come to; what those before it came to is counted already."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._last_steps = {test.name: test.steps[-1].label for test in job.plan.tests if test.steps}
        self._outcomes: dict[str, Outcome] = {}

    def of(self, test: str) -> Outcome:
        """Of a test in the last run."""
        found = self._outcomes.get(test)
        if found is None:
            found = self._outcomes[test] = Outcome()
        return found

    def apply(self, event: EventRow) -> None:
        """One event, in the order of their sequence."""
        if event.test is None:
            if event.name == "RunStarted":
                self.count()
        elif (
            event.phase != CLEANUP and event.name in _DECIDING and (event.attempt or event.name in _FAILURES)
        ):
            outcome = self.of(event.test)
            outcome.begin(event.attempt or 0)
            if event.name in _FAILURES:
                payload = msgspec.json.decode(event.payload or "{}")
                target = event.target if event.name == "TargetErr" else None
                outcome.fail(target, Blame(payload.get("Blame", Blame.TEST)))
            elif event.target is not None and event.step == self._last_steps.get(event.test):
                outcome.passed([event.target])

    def count(self, *, but: Sequence[str] = ()) -> None:
        """The tests of this run are over, but those."""
        for test, outcome in self._outcomes.items():
            if test not in but:
                outcome.count(self._job)
        self._outcomes = {test: outcome for test, outcome in self._outcomes.items() if test in but}


async def _recall_reports(job: Job, judges: Callable[[ReportRow], bool]) -> None:
    for report in await job.store.reports(job.id):
        if judges(report):
            job.judged = True
            job.judged_no = job.judged_no or not report.success


class _Attempt:
    """How far the targets of one attempt had come."""

    def __init__(self, number: int, targets: tuple[Target, ...]) -> None:
        self.number = number
        self.targets = targets
        self.index = {target.id: place for place, target in enumerate(targets)}
        self.progress = {target.id: Progress() for target in targets}
        self.cleanup: dict[str, Progress] = {}
        self.over = False
        """Its targets were given back, or could not be had."""

    def passed(self, steps: int) -> bool:
        """Whether all targets had passed so many steps."""
        return bool(self.targets) and all(
            each.step >= steps and not each.failed for each in self.progress.values()
        )


class _Replay:
    """Applies the events of one run to empty trees."""

    def __init__(self, job: Job, run_id: int, trees: list[TestTree], outcomes: _Outcomes) -> None:
        """`outcomes` has seen all events: it knows which attempts are too long ago to be told."""
        self.trees = trees
        self.finished: set[int] = set()
        self._job = job
        self._run_id = run_id
        self._outcomes = outcomes
        self._numbers = {tree.name: number for number, tree in enumerate(trees)}
        self._forgotten = [outcomes.of(tree.name).attempt - MAX_ATTEMPTS for tree in trees]
        """By test, the last attempt of which the status does not tell."""
        self._rows: dict[Place, AcquisitionRow] = {}
        """Of the attempts that begin in the page."""
        self._attempts: dict[int, _Attempt] = {}
        """By test, the last one that has begun."""

    async def apply(self, page: Sequence[EventRow]) -> None:
        """Events in the order of their sequence."""
        told = [(place, event) for event in page if (place := self._place(event)) is not None]
        begun = {(number, attempt.number) for number, attempt in self._attempts.items()}
        if places := {place for place, _ in told} - begun:
            between = min(places), max(places)
            rows = await self._job.store.acquisitions(self._job.id, self._run_id, between=between)
            self._rows = {(row.test_index, row.attempt): row for row in rows}
        for place, event in told:
            self._apply(place, event)
        self._rows = {}

    def _place(self, event: EventRow) -> Place | None:
        """Where an event belongs; None where the status does not tell of it."""
        number = self._numbers.get(event.test or "")
        if number is None or event.run_id != self._run_id:
            return None
        attempt = event.attempt or 0
        return None if attempt <= self._forgotten[number] else (number, attempt)

    def _apply(self, place: Place, event: EventRow) -> None:
        number = place[0]
        attempt = self._attempt(place, event)
        tree = self.trees[number]
        if event.name == "TargetAcquireErr":
            payload = msgspec.json.decode(event.payload or "{}")
            error, blame = payload.get("Error", ""), payload.get("Blame")
            tree.acquire_failed(self._shown(event, None), error, attempt.number, blame)
            attempt.over = True
        elif event.name == "TargetReleased":
            tree.released(moment(event.time))
            attempt.over = True
        elif event.target in attempt.index and event.step is not None:
            if event.phase == CLEANUP:
                self._apply_to_target(attempt, tree.cleanup, attempt.cleanup, event)
            else:
                self._apply_to_target(attempt, tree, attempt.progress, event)

    async def tests(self) -> dict[int, RecoveredTest]:
        """The tests that go on."""
        found = {}
        for number, attempt in self._attempts.items():
            test = self._job.plan.tests[number]
            outcome = self._outcomes.of(test.name)
            if not attempt.over:
                place = number, attempt.number
                saved = await self._job.store.saved_states(self._job.id, self._run_id, place=place)
                found[number] = RecoveredTest(
                    attempt=attempt.number,
                    outcome=outcome,
                    targets=attempt.targets,
                    progress=attempt.progress,
                    cleanup=attempt.cleanup,
                    saved={(row.step, row.target): msgspec.json.decode(row.state) for row in saved},
                )
            elif attempt.number >= test.retries or attempt.passed(len(test.steps)):
                self.finished.add(number)
            else:
                found[number] = RecoveredTest(
                    attempt=attempt.number + 1, outcome=outcome, progress={}, cleanup={}, saved={}
                )
        return found

    def _attempt(self, place: Place, event: EventRow) -> _Attempt:
        """The attempt of an event; where it is the first one of it, it begins."""
        number, count = place
        attempt = self._attempts.get(number)
        if attempt is not None and attempt.number == count:
            return attempt
        row = self._rows.get(place)
        targets = () if row is None else msgspec.json.decode(row.targets, type=tuple[Target, ...])
        self._attempts[number] = attempt = _Attempt(count, targets)
        if targets:
            infos = [target.info() for target in targets]
            self.trees[number].acquired(infos, attempt.number, moment(event.time))
        return attempt

    def _apply_to_target(
        self, attempt: _Attempt, tree: StepsTree, progress: dict[str, Progress], event: EventRow
    ) -> None:
        assert event.target is not None
        target = attempt.index[event.target]
        info = tree.targets[target]
        step = next(place for place, live in enumerate(tree.steps) if live.test_step_label == event.step)
        before = progress.get(event.target, Progress())
        if event.name == "TargetIn":
            tree.enter(step, target, info, moment(event.time))
            # One that has failed goes on all the same where a step of the cleanup is gone.
            changes: dict[str, Any] = {"step": step, "inside": True, "failed": False}
        else:
            status = tree.last[target]
            assert isinstance(status, LiveTarget)
            changes = self._apply_inside(status, step, event, info, before)
        progress[event.target] = msgspec.structs.replace(before, **changes)

    def _apply_inside(
        self, status: LiveTarget, step: int, event: EventRow, info: TargetInfo, before: Progress
    ) -> dict[str, Any]:
        if event.name == "TargetOut":
            status.out_time = moment(event.time)
            return {"step": step + 1, "inside": False}
        if event.name == "TargetErr":
            _fill_failure(status, event)
            return {"inside": False, "failed": True}
        status.events = [*(status.events or ()), self._shown(event, info)]
        if event.name != "VariableEmitted" or event.step is None:
            return {}
        payload = msgspec.json.decode(event.payload or "{}")
        of_step = {**before.variables.get(event.step, {}), payload["Name"]: payload["Value"].encode()}
        return {"variables": {**before.variables, event.step: of_step}}

    def _shown(self, event: EventRow, target: TargetInfo | None) -> JobEvent:
        return JobEvent(
            sequence_id=event.sequence,
            emit_time=moment(event.time),
            header=Header(
                job_id=self._job.id,
                run_id=event.run_id,
                test_name=event.test,
                test_attempt=event.attempt,
                test_step_label=event.step or "",
            ),
            data=EventData(
                target=target,
                event_name=event.name,
                payload=None if event.payload is None else Raw(event.payload.encode()),
            ),
            phase=event.phase if event.phase == CLEANUP else None,
        )


def _fill_failure(status: LiveTarget, event: EventRow) -> None:
    payload = msgspec.json.decode(event.payload or "{}")
    output = payload.get("Output")
    status.out_time = moment(event.time)
    status.error = payload.get("Error", "failed")
    status.blame = payload.get("Blame")
    status.output = None if output is None else msgspec.convert(output, Output)
