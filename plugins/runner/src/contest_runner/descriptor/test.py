"""Reads one test, in two halves: what its fetcher is to be asked, and the test itself when that was answered."""

from __future__ import annotations

from typing import Any, Final

from msgspec import Raw, Struct

from contest_runner.binding import BoundStep
from contest_runner.descriptor.desk import Desk
from contest_runner.descriptor.fetching import Fetched, Request
from contest_runner.descriptor.steps import read_steps
from contest_runner.descriptor_fields import TestFields
from contest_runner.parts import encode_part
from contest_runner.plan import TestPlan
from contest_runner.walk import BAD

MAX_TEST_NAME_BYTES: Final = 32

_FETCH_PARAMETERS: Final = "TestFetcherFetchParameters"


class ReadTest(Struct, frozen=True):
    """A test that can be run."""

    plan: TestPlan
    bound: tuple[BoundStep, ...]


class TestReader:
    """One test."""

    __test__ = False

    def __init__(self, desk: Desk, read: TestFields, path: str) -> None:
        self._desk = desk
        self._read = read
        self._path = path
        self.disabled = read.disabled
        self.request = self._request()
        """None where there is no telling what to ask."""

    def _request(self) -> Request | None:
        desk, read = self._desk, self._read
        where = desk.walk.place(self._path, "TestFetcherName")
        name = desk.known(desk.catalog.fetchers, read.test_fetcher_name, "TestFetcherName", where)
        if name is None:
            return None
        kind = desk.catalog.fetcher(name).Parameters
        read_parameters = desk.read(read.test_fetcher_fetch_parameters, kind, self._path, _FETCH_PARAMETERS)
        if read_parameters is BAD:
            return None
        return Request(name, bytes(encode_part(read_parameters)), read_parameters)

    def finish(self, fetched: Fetched) -> ReadTest | None:
        """The test; None where something is wrong with it."""
        self._not_yet()
        self._desk.later(self._read, self._path)
        name, steps = self._fetched(fetched)
        acquire, release = self._target_manager()
        if name is None or steps is None or acquire is None or release is None:
            return None
        plan = TestPlan(
            name=name,
            target_manager=self._read.target_manager_name.lower(),
            acquire_parameters=acquire,
            release_parameters=release,
            steps=tuple(step.plan for step in steps),
        )
        return ReadTest(plan, steps)

    def _not_yet(self) -> None:
        walk, retries = self._desk.walk, self._read.retry_parameters
        if retries is not None and retries.num_retries != 0:
            place = walk.place(walk.place(self._path, "RetryParameters"), "NumRetries")
            if not 0 < retries.num_retries < 2**32:
                walk.error("out_of_range", place, f"must be from 0 to {2**32 - 1}")
            walk.error("unsupported", place, "retries of a test are not supported yet")
        if self._read.cleanup_fetcher_name:
            place = walk.place(self._path, "CleanupFetcherName")
            walk.error("unsupported", place, "cleanup steps are not supported yet")

    def _fetched(self, fetched: Fetched) -> tuple[str | None, tuple[BoundStep, ...] | None]:
        if self.request is None:
            return None, None
        desk = self._desk
        where = desk.walk.place(self._path, _FETCH_PARAMETERS)
        outcome = fetched[self.request.key]
        if isinstance(outcome, str):
            desk.walk.error("fetch_failed", where, outcome)
            return None, None
        place = desk.walk.place(where, "TestName")
        if not outcome.name:
            desk.walk.error("missing", place, "the test has no name")
        desk.length(outcome.name, MAX_TEST_NAME_BYTES, "the test's name", place)
        return outcome.name, read_steps(desk, outcome, where)

    def _target_manager(self) -> tuple[Raw | None, Raw | None]:
        desk, read = self._desk, self._read
        where = desk.walk.place(self._path, "TargetManagerName")
        managers = desk.catalog.target_managers
        name = desk.known(managers, read.target_manager_name, "TargetManagerName", where)
        if name is None:
            return None, None
        manager = desk.catalog.target_manager(name)

        def parameters(given: Any, kind: type[Struct], which: str) -> Raw | None:
            return desk.parameters(given, kind, self._path, f"TargetManager{which}Parameters")

        return (
            parameters(read.target_manager_acquire_parameters, manager.AcquireParameters, "Acquire"),
            parameters(read.target_manager_release_parameters, manager.ReleaseParameters, "Release"),
        )
