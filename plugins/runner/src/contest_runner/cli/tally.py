"""Counts what a job's events say: which run and test goes on, and how many targets are where in it.

Fed by `run` with the events of a watch, so it counts what is on disk. Shown by `following` and `display`.
"""

from __future__ import annotations

from collections import Counter

from contest_core import JobEvent


class Tally:
    """Where a job is."""

    def __init__(self) -> None:
        self.state = ""
        """The wire name of the job's state."""
        self.run = 0
        self.tests_begun = 0
        """In this run."""
        self.test = ""
        """The test that began last."""
        self.targets = 0
        """Acquired by that test."""
        self.inside: Counter[str] = Counter()
        """Of that test, by step label."""
        self.passed: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.attempt = 0
        """The attempt of that test, from 0."""
        self.cleaning = False
        """Its cleanup has begun."""

    def count(self, event: JobEvent) -> None:
        """Takes an event into account."""
        name, header = event.data.event_name, event.header
        if header.test_name is not None:
            self._count_in_test(
                name, header.test_name, header.test_attempt or 0, header.test_step_label or ""
            )
            self.cleaning = event.phase == "cleanup"
        elif name == "RunStarted":
            self.run = header.run_id or 0
            self.tests_begun = 0
            self._begin("", 0)
        elif name.startswith("JobState"):
            self.state = name

    def _count_in_test(self, name: str, test: str, attempt: int, step: str) -> None:
        if test != self.test or attempt != self.attempt:
            self.tests_begun += test != self.test
            self._begin(test, attempt)
        if name == "TargetIn":
            self.inside[step] += 1
        elif name == "TargetOut":
            self.inside[step] -= 1
            self.passed[step] += 1
        elif name == "TargetErr":
            self.inside[step] -= 1
            self.failed[step] += 1
        elif name == "TargetAcquired":
            self.targets += 1

    def _begin(self, test: str, attempt: int) -> None:
        self.test, self.attempt, self.cleaning = test, attempt, False
        self.targets = 0
        self.inside, self.passed, self.failed = Counter(), Counter(), Counter()
