"""After a crash: how far a job had come, read from what it wrote.

The events are the truth: an open `TargetIn` means "may have run", its absence "has not". From them the status of
the run that was going on is made again, and where each target goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Raw, Struct

from contest_core import Blame, EventData, Header, JobEvent, Output, TargetInfo
from contest_runner.flow import Progress
from contest_runner.status_tree import LiveTarget, RunTree, TestTree
from contest_runner.store import AcquisitionRow, EventRow, ReportRow
from contest_runner.target import Target
from contest_runner.times import moment

if TYPE_CHECKING:
    from contest_runner.job import Job

_PAGE: Final = 10_000


class RecoveredTest(Struct, frozen=True, kw_only=True):
    """A test that was going on."""

    targets: tuple[Target, ...]
    progress: dict[str, Progress]
    """By target ID."""
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
    events = await _events_of_last_run(job)
    await _recall_reports(job, judges)
    done = {run.run_id for run in await job.store.runs(job.id, last=1)}
    run_id, run_start = _last_run(events)
    if run_id == 0 or run_id in done:
        return Recovered(run_id=run_id + 1, run_start=0, tree=None, finished_tests=frozenset(), tests={})
    replay = _Replay(job, run_id, trees(run_id), await job.store.acquisitions(job.id, run_id))
    for event in events:
        if event.run_id == run_id:
            replay.apply(event)
    tree = RunTree(job.id, run_id, replay.trees, job.plan.skipped_tests, moment(run_start))
    return Recovered(
        run_id=run_id,
        run_start=run_start,
        tree=tree,
        finished_tests=frozenset(replay.finished),
        tests=await replay.tests(),
    )


async def _events_of_last_run(job: Job) -> list[EventRow]:
    """Reads all events, and keeps those from the last `RunStarted` on: of an endless job there are many."""
    found: list[EventRow] = []
    after = 0
    while True:
        page = await job.store.events(job_id=job.id, after=after, limit=_PAGE)
        for event in page:
            _recount(job, event)
            if event.name == "RunStarted" and event.test is None:
                found.clear()
            found.append(event)
        if len(page) < _PAGE:
            return found
        after = page[-1].position


def _recount(job: Job, event: EventRow) -> None:
    """What an earlier event means for the sequence, the verdict and the state."""
    job.sequence = event.sequence
    if event.name in ("TargetErr", "TargetAcquireErr"):
        job.target_failed = True
        payload = msgspec.json.decode(event.payload or "{}")
        job.blame(Blame(payload.get("Blame", Blame.TEST)))
    elif event.name == "JobStateCancelling":
        job.said_cancelling = True


async def _recall_reports(job: Job, judges: Callable[[ReportRow], bool]) -> None:
    for report in await job.store.reports(job.id):
        if judges(report):
            job.judged = True
            job.judged_no = job.judged_no or not report.success


def _last_run(events: Sequence[EventRow]) -> tuple[int, int]:
    for event in reversed(events):
        if event.name == "RunStarted":
            return event.run_id or 0, event.time
    return 0, 0


class _Replay:
    """Applies the events of one run to empty trees."""

    def __init__(
        self, job: Job, run_id: int, trees: list[TestTree], acquisitions: Sequence[AcquisitionRow]
    ) -> None:
        self.trees = trees
        self.finished: set[int] = set()
        self._job = job
        self._run_id = run_id
        self._numbers = {tree.name: number for number, tree in enumerate(trees)}
        self._targets: dict[int, tuple[Target, ...]] = {}
        self._index: dict[int, dict[str, int]] = {}
        self._progress: dict[int, dict[str, Progress]] = {}
        for row in acquisitions:
            targets = msgspec.json.decode(row.targets, type=tuple[Target, ...])
            self._targets[row.test_index] = targets
            self._index[row.test_index] = {target.id: number for number, target in enumerate(targets)}
            self._progress[row.test_index] = {target.id: Progress() for target in targets}
            trees[row.test_index].acquired([target.info() for target in targets])

    def apply(self, event: EventRow) -> None:
        """One event, in the order of their sequence."""
        number = self._numbers.get(event.test or "")
        if number is None:
            return
        tree = self.trees[number]
        if event.name == "TargetAcquireErr":
            error = msgspec.json.decode(event.payload or "{}").get("Error", "")
            tree.acquire_failed(self._shown(event, None), error)
            self.finished.add(number)
        elif event.name == "TargetReleased":
            self.finished.add(number)
        elif (
            event.target is not None
            and event.step is not None
            and event.target in self._index.get(number, {})
        ):
            self._apply_to_target(number, tree, event)

    async def tests(self) -> dict[int, RecoveredTest]:
        """The tests that go on."""
        found = {}
        kept = await self._job.store.saved_states(self._job.id, self._run_id)
        for number, targets in self._targets.items():
            if number not in self.finished:
                saved = [row for row in kept if row.test_index == number]
                found[number] = RecoveredTest(
                    targets=targets,
                    progress=self._progress[number],
                    saved={(row.step, row.target): msgspec.json.decode(row.state) for row in saved},
                )
        return found

    def _apply_to_target(self, number: int, tree: TestTree, event: EventRow) -> None:
        assert event.target is not None
        target = self._index[number][event.target]
        info = self._targets[number][target].info()
        step = next(place for place, live in enumerate(tree.steps) if live.test_step_label == event.step)
        progress = self._progress[number]
        if event.name == "TargetIn":
            tree.enter(step, target, info, moment(event.time))
            changes: dict[str, Any] = {"step": step, "inside": True}
        else:
            status = tree.last[target]
            assert isinstance(status, LiveTarget)
            changes = self._apply_inside(status, step, event, info, progress[event.target])
        progress[event.target] = msgspec.structs.replace(progress[event.target], **changes)

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
        )


def _fill_failure(status: LiveTarget, event: EventRow) -> None:
    payload = msgspec.json.decode(event.payload or "{}")
    output = payload.get("Output")
    status.out_time = moment(event.time)
    status.error = payload.get("Error", "failed")
    status.blame = payload.get("Blame")
    status.output = None if output is None else msgspec.convert(output, Output)
