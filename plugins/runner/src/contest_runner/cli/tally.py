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
        self._attempt: int | None = None

    def count(self, event: JobEvent) -> None:
        """Takes an event into account."""
        name, header = event.data.event_name, event.header
        if header.test_name is not None:
            self._count_in_test(name, header.test_name, header.test_attempt, header.test_step_label or "")
        elif name == "RunStarted":
            self.run = header.run_id or 0
            self.tests_begun = 0
            self._begin("", None)
        elif name.startswith("JobState"):
            self.state = name

    def _count_in_test(self, name: str, test: str, attempt: int | None, step: str) -> None:
        if test != self.test or attempt != self._attempt:
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

    def _begin(self, test: str, attempt: int | None) -> None:
        self.test, self._attempt = test, attempt
        self.targets = 0
        self.inside, self.passed, self.failed = Counter(), Counter(), Counter()
