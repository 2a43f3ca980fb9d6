"""Reads a job: its own fields, its reporters, its tests together; in two halves, as its tests."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec
from msgspec import UNSET

from contest_runner.binding import BoundSteps
from contest_runner.descriptor.desk import Desk
from contest_runner.descriptor.fetching import Fetched, Request
from contest_runner.descriptor.test import ReadTest, TestReader
from contest_runner.descriptor_fields import JobFields, ReporterFields
from contest_runner.plan import Plan, ReporterPlan

MAX_JOB_NAME_BYTES: Final = 64
MAX_REPORTER_NAME_BYTES: Final = 32
TAG: Final = r"[a-zA-Z0-9_-]+"

_ATOI = re.compile(r"[+-]?[0-9]{1,100}", re.ASCII)
_VERSION = (1, 0)


class JobReader:
    """One job."""

    def __init__(self, desk: Desk, read: JobFields) -> None:
        self._desk = desk
        self._read = read
        self._job_fields()
        desk.later(read, "")
        where = desk.walk.place("", "TestDescriptors")
        self._tests = [
            TestReader(desk, test, f"{where}/{number}") for number, test in enumerate(read.test_descriptors)
        ]

    def requests(self) -> Iterator[Request]:
        """What the fetchers are to be asked."""
        return (request for test in self._tests for request in test.requests())

    def finish(self, fetched: Fetched) -> tuple[Plan | None, BoundSteps]:
        """The plan and its steps, ready to run; None where the job is refused."""
        read = self._read
        tests = [(test.finish(fetched), test.disabled) for test in self._tests]
        self._together(tests)
        run_reporters = self._reporters(read.reporting.run_reporters, "RunReporters")
        final_reporters = self._reporters(read.reporting.final_reporters, "FinalReporters")
        if self._desk.walk.refused:
            return None, ()
        enabled = [test for test, disabled in tests if test and not disabled]
        plan = Plan(
            name=read.job_name,
            tags=tuple(read.tags),
            runs=read.runs,
            run_interval=read.run_interval.nanoseconds,
            tests=tuple(test.plan for test in enabled),
            skipped_tests=tuple(test.plan.name for test, disabled in tests if test and disabled),
            run_reporters=run_reporters,
            final_reporters=final_reporters,
        )
        plan = msgspec.structs.replace(plan, **self._timeouts())
        return plan, tuple(test.bound for test in enabled)

    # --- its own fields

    def _job_fields(self) -> None:
        walk, read = self._desk.walk, self._read
        if reason := _version_reason(read.version):
            walk.error("version", walk.place("", "Version"), reason)
        self._tags(read.tags)
        where = walk.place("", "JobName")
        if not read.job_name:
            walk.error("missing", where, "'JobName' is missing or empty")
        self._desk.length(read.job_name, MAX_JOB_NAME_BYTES, "the job's name", where)
        if not 0 <= read.runs < 2**32:
            walk.error("out_of_range", walk.place("", "Runs"), f"must be from 0 to {2**32 - 1}")
        if read.run_interval.nanoseconds < 0:
            walk.error("out_of_range", walk.place("", "RunInterval"), "must not be negative")
        self._patience()
        if not read.test_descriptors:
            walk.error("missing", walk.place("", "TestDescriptors"), "there has to be at least one test")
        reporting, place = read.reporting, walk.place("", "Reporting")
        if not (reporting.run_reporters or reporting.final_reporters or walk.lacks(place)):
            walk.error("missing", place, "there has to be at least one reporter")

    def _tags(self, tags: list[str]) -> None:
        walk = self._desk.walk
        where = walk.place("", "Tags")
        seen: set[str] = set()
        for number, tag in enumerate(tags):
            place = f"{where}/{number}"
            if not re.fullmatch(TAG, tag):
                walk.error("bad_tag", place, f"{tag[:64]!r} is not a valid tag: letters, digits, _ and -")
            elif tag.startswith("_"):
                walk.error("bad_tag", place, f"{tag[:64]!r} is an internal tag and is not allowed")
            elif tag in seen:
                walk.error("duplicate", place, f"duplicate tag {tag[:64]!r}")
            seen.add(tag)

    def _patience(self) -> None:
        """As in ConTest, no time to acquire fails the job."""
        timeout = self._read.target_manager_acquire_timeout
        if timeout is not None and timeout.nanoseconds <= 0:
            place = self._desk.walk.place("", "TargetManagerAcquireTimeout")
            self._desk.walk.warning(
                "out_of_range", place, "leaves no time to acquire targets: the job will fail"
            )

    def _timeouts(self) -> dict[str, int]:
        given = {
            "acquire_timeout": self._read.target_manager_acquire_timeout,
            "release_timeout": self._read.target_manager_release_timeout,
        }
        return {name: value.nanoseconds for name, value in given.items() if value is not None}

    # --- what is in it

    def _together(self, tests: list[tuple[ReadTest | None, bool]]) -> None:
        walk = self._desk.walk
        where = walk.place("", "TestDescriptors")
        if tests and all(disabled for _, disabled in tests):
            walk.error("nothing_to_run", where, "all tests are disabled")
        seen: set[str] = set()
        for number, (test, disabled) in enumerate(tests):
            if test is None or disabled:
                continue
            name = test.plan.name
            if name in seen:
                walk.error("duplicate", f"{where}/{number}", f"a second test is named {name!r}")
            seen.add(name)

    def _reporters(self, reporters: list[ReporterFields], key: str) -> tuple[ReporterPlan, ...]:
        where = self._desk.walk.place(self._desk.walk.place("", "Reporting"), key)
        plans = [
            self._reporter(reporter, f"{where}/{number}", final=key == "FinalReporters")
            for number, reporter in enumerate(reporters)
        ]
        return tuple(plan for plan in plans if plan is not None)

    def _reporter(self, reporter: ReporterFields, path: str, *, final: bool) -> ReporterPlan | None:
        desk = self._desk
        place = desk.walk.place(path, "Name")
        desk.length(reporter.name, MAX_REPORTER_NAME_BYTES, "the reporter's name", place)
        name = desk.known(desk.catalog.reporters, reporter.name, "Name", place)
        if name is None:
            return None
        code = desk.catalog.reporter(name)
        kind = code.FinalParameters if final else code.RunParameters
        given: Any = {} if reporter.parameters is UNSET else reporter.parameters
        raw = desk.parameters(given, kind, path, "Parameters")
        return None if raw is None else ReporterPlan(name=name, parameters=raw)


def _version_reason(version: str) -> str | None:
    """Why the version is refused; ConTest's rule."""
    if not version:
        return "'Version' is missing or empty: write \"1.0\""
    parts = version.split(".", 2)
    if len(parts) != 2 or not all(_ATOI.fullmatch(part) for part in parts):
        return f'{version[:64]!r} is not a version: write "1.0"'
    major, minor = map(int, parts)
    if major != _VERSION[0] or minor > _VERSION[1]:
        return f"version {version} is not compatible with this server, which reads 1.0"
    return None
