"""What the attempts of one test in one run come to: the last one counts, and a target saved by a retry is told.

Filled by the attempt that goes on, and after a crash by `contest_runner.recovery` from the events, to the same end.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from contest_core import Blame

if TYPE_CHECKING:
    from contest_runner.job import Job


class Outcome:
    """The facts of the attempt that began last, and which targets had failed before it."""

    def __init__(self) -> None:
        self.attempt = 0
        self.failed: set[str] = set()
        """Targets, by ID, that failed in this attempt."""
        self.acquire_failed = False
        """The targets could not be had."""
        self.saved = False
        """A target that had failed before has passed in this attempt."""
        self._fault: Blame | None = None
        self._failed_before: set[str] = set()
        self._all_failed_before = False

    def begin(self, attempt: int) -> None:
        """An attempt begins, if it is another one than that which goes on."""
        if attempt == self.attempt:
            return
        self.attempt = attempt
        self._failed_before |= self.failed
        self._all_failed_before = self._all_failed_before or self.acquire_failed
        self.failed = set()
        self.acquire_failed = self.saved = False
        self._fault = None

    def fail(self, target: str | None, blame: Blame) -> None:
        """A target failed; None: they could not be had."""
        if target is None:
            self.acquire_failed = True
        else:
            self.failed.add(target)
        # The first one that is not the test's stays.
        if blame is not Blame.TEST and self._fault is None:
            self._fault = blame

    def passed(self, targets: Iterable[str]) -> None:
        """These targets passed all steps."""
        if self._all_failed_before or self._failed_before:
            self.saved = self.saved or any(
                self._all_failed_before or target in self._failed_before for target in targets
            )

    def count(self, job: Job) -> None:
        """This attempt was the last one: what it came to is what the test came to."""
        job.target_failed = job.target_failed or bool(self.failed) or self.acquire_failed
        job.flaky = job.flaky or self.saved
        if self._fault is not None:
            job.blame(self._fault)
