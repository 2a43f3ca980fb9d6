"""The status of a run while it goes: the wire's own structs, thawed, so that answering is only encoding.

The runner changes the tree as things happen and encodes it when somebody asks. When a run has ended the tree is
packed for the store (`contest_runner.status_packing`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from msgspec import Struct

from contest_core import (
    ZERO_TIME,
    AttemptStatus,
    JobEvent,
    Output,
    RunStatus,
    TargetInfo,
    TargetStatus,
    TestStatus,
    TestStepStatus,
)

CLEANUP: Final = "cleanup"
"""The phase of events of cleanup steps; that of the others is `test`, and no status says so."""

MAX_ATTEMPTS: Final = 100
"""Attempts of a test that a status has: the last ones."""

MAX_EARLIER: Final = 10_000
"""What those before the last one have in all: targets, events of these, and KiB of what commands wrote.

The last but one is there whatever it has.
"""


class LiveTarget(TargetStatus, frozen=False, kw_only=True, gc=False):  # type: ignore[misc]  # msgspec can thaw what mypy cannot
    """One target in one step, as it goes. Nothing in it leads back to it, so the collector need not look."""

    # Declared again, so that a type checker knows them as thawed.
    out_time: datetime
    error: str
    events: list[JobEvent] | None
    blame: str | None = None
    output: Output | None = None


class LiveStep(TestStepStatus, frozen=False, kw_only=True):  # type: ignore[misc]  # msgspec can thaw what mypy cannot
    """One step of a test, as it goes."""

    __test__ = False

    events: list[JobEvent] | None
    target_statuses: list[TargetStatus] | None


class LiveTest(TestStatus, frozen=False, kw_only=True):  # type: ignore[misc]  # msgspec can thaw what mypy cannot
    """One test, as it goes."""

    __test__ = False

    target_statuses: list[TargetStatus] | None
    attempts: list[AttemptStatus] | None = None


class LiveAttempt(AttemptStatus, frozen=False, kw_only=True):  # type: ignore[misc]  # msgspec can thaw what mypy cannot
    """One attempt of a test, as it goes."""

    start_time: datetime
    end_time: datetime
    target_statuses: list[TargetStatus] | None


class LiveRun(RunStatus, frozen=False, kw_only=True):  # type: ignore[misc]  # msgspec can thaw what mypy cannot
    """One run, as it goes."""


class StepName(Struct, frozen=True):
    """How a step is shown."""

    label: str
    display: str


class StepsTree:
    """Steps that targets walk through: those of a test, or those of its cleanup, in one attempt."""

    def __init__(self, job_id: int, run_id: int, name: str, steps: Sequence[StepName]) -> None:
        """`name` is the test's."""
        self.name = name
        self.steps = [
            LiveStep(
                job_id=job_id,
                run_id=run_id,
                test_name=name,
                test_step_name=step.display,
                test_step_label=step.label,
                events=None,
                target_statuses=None,
            )
            for step in steps
        ]
        self.targets: Sequence[TargetInfo] = ()
        """Those that the attempt works on."""
        self.last: list[TargetStatus] = []
        """By target, its status in the last step that it entered."""
        self._job_id = job_id
        self._run_id = run_id

    def take(self, targets: Sequence[TargetInfo]) -> None:
        """An attempt works on these targets; none of them is in any step."""
        self.targets = targets
        self.last = [self.status_of(info, ZERO_TIME) for info in targets]
        for step in self.steps:
            step.events = step.target_statuses = None

    def enter(self, step: int, target: int, info: TargetInfo, time: datetime) -> LiveTarget:
        """A target enters a step."""
        place = self.steps[step]
        status = LiveTarget(
            job_id=place.job_id,
            run_id=place.run_id,
            test_name=self.name,
            test_step_name=place.test_step_name,
            test_step_label=place.test_step_label,
            target=info,
            in_time=time,
            out_time=ZERO_TIME,
            error="",
            events=None,
        )
        if place.target_statuses is None:
            place.target_statuses = [status]
        else:
            place.target_statuses.append(status)
        self.last[target] = status
        return status

    def status_of(self, info: TargetInfo | None, time: datetime, step: LiveStep | None = None) -> LiveTarget:
        """The status of a target in a step, or where it has entered none."""
        return LiveTarget(
            job_id=self._job_id,
            run_id=self._run_id,
            test_name=self.name,
            test_step_name="" if step is None else step.test_step_name,
            test_step_label="" if step is None else step.test_step_label,
            target=info,
            in_time=time,
            out_time=ZERO_TIME,
            error="",
            events=None,
        )


class TestTree(StepsTree):
    """One test in one run: its last attempt, and what became of the targets in some of those before."""

    __test__ = False

    def __init__(
        self, job_id: int, run_id: int, name: str, steps: Sequence[StepName], cleanup: Sequence[StepName] = ()
    ) -> None:
        super().__init__(job_id, run_id, name, steps)
        self.cleanup = StepsTree(job_id, run_id, name, cleanup)
        self.attempt = LiveAttempt(attempt=0, start_time=ZERO_TIME, end_time=ZERO_TIME, target_statuses=None)
        """The last one that has begun."""
        self.earlier: list[LiveAttempt] = []
        """Those before it, as far as a status has them; what happened in all others is in the events."""
        self._sizes: list[int] = []
        """How much of `MAX_EARLIER` each of those takes."""
        self.status = LiveTest(
            job_id=job_id,
            run_id=run_id,
            test_name=name,
            test_step_statuses=list(self.steps),
            target_statuses=None,
            cleanup_step_statuses=list(self.cleanup.steps) or None,
        )

    def acquired(self, targets: Sequence[TargetInfo], attempt: int, time: datetime) -> None:
        """An attempt begins to work on these targets."""
        self._begin(attempt, time)
        self.take(targets)
        self.cleanup.take(targets)
        self._show()

    def acquire_failed(self, event: JobEvent, error: str, attempt: int, blame: str | None) -> None:
        """The targets could not be had, and that was the attempt: ConTest's entry without a target."""
        if attempt != self.attempt.attempt:
            self._begin(attempt, event.emit_time)
            self.take(())
            self.cleanup.take(())
        elif not self.last:
            self.attempt.start_time = event.emit_time
        entry = self.status_of(None, event.emit_time)
        entry.out_time = event.emit_time
        entry.error = error
        entry.blame = blame
        entry.events = [event]
        self.last = [*self.last, entry]
        self.attempt.end_time = event.emit_time
        self._show()

    def released(self, time: datetime) -> None:
        """The attempt is over: its targets were given back."""
        self.attempt.end_time = time

    def restore(self, attempt: LiveAttempt, earlier: Sequence[LiveAttempt]) -> None:
        """The attempts are these; what became of the targets in the last one is here already."""
        self.attempt, self.earlier = attempt, list(earlier)
        self._sizes = [_size(each) for each in earlier]
        self._show()

    def _begin(self, attempt: int, time: datetime) -> None:
        # After an interruption the first one that begins here need not be the first of all.
        if attempt != self.attempt.attempt and self.attempt.start_time != ZERO_TIME:
            self._keep(self.attempt)
        self.attempt = LiveAttempt(attempt=attempt, start_time=time, end_time=ZERO_TIME, target_statuses=None)

    def _keep(self, attempt: LiveAttempt) -> None:
        self.earlier.append(attempt)
        self._sizes.append(_size(attempt))
        while len(self.earlier) >= MAX_ATTEMPTS or (self.earlier[1:] and sum(self._sizes) > MAX_EARLIER):
            del self.earlier[0], self._sizes[0]

    def _show(self) -> None:
        self.status.target_statuses = self.attempt.target_statuses = self.last or None
        if self.earlier:
            self.status.attempts = [*self.earlier, self.attempt]


def _size(attempt: LiveAttempt) -> int:
    return sum(
        1
        + len(status.events or ())
        + (0 if status.output is None else (len(status.output.stdout) + len(status.output.stderr)) // 1024)
        for status in attempt.target_statuses or ()
    )


class RunTree:
    """The status of one run."""

    def __init__(
        self, job_id: int, run_id: int, tests: Sequence[TestTree], skipped: Sequence[str], start: datetime
    ):
        self.tests = list(tests)
        self.status = LiveRun(
            job_id=job_id,
            run_id=run_id,
            start_time=start,
            test_statuses=[test.status for test in tests],
            skipped_tests=list(skipped),
        )
