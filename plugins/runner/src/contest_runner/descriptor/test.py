"""Reads one test, in two halves: what its fetchers are to be asked, and the test itself when that was answered."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from msgspec import UNSET, Raw, Struct

from contest_runner.binding import BoundStep, BoundTest
from contest_runner.descriptor.desk import Desk
from contest_runner.descriptor.fetching import Fetched, Request
from contest_runner.descriptor.steps import read_steps
from contest_runner.descriptor_fields import RetryFields, TestFields
from contest_runner.parts import FetchedTest, encode_part
from contest_runner.plan import TestPlan
from contest_runner.walk import BAD

MAX_TEST_NAME_BYTES: Final = 32

_MAX_RETRIES: Final = 2**32 - 1
"""ConTest's."""

_NAME, _PARAMETERS = "FetcherName", "FetcherFetchParameters"
_TEST, _CLEANUP = "Test", "Cleanup"
"""What these keys begin with."""


class ReadTest(Struct, frozen=True):
    """A test that can be run."""

    plan: TestPlan
    bound: BoundTest


class TestReader:
    """One test."""

    __test__ = False

    def __init__(self, desk: Desk, read: TestFields, path: str) -> None:
        self._desk = desk
        self._read = read
        self._path = path
        self.disabled = read.disabled
        self._before: dict[str, BoundStep | None] = {}
        # None where there is no telling what to ask.
        self._steps = self._request(_TEST, read.test_fetcher_name, read.test_fetcher_fetch_parameters)
        self._cleanup: Request | None = None
        if read.cleanup_fetcher_name:
            given = read.cleanup_fetcher_fetch_parameters
            self._cleanup = self._request(_CLEANUP, read.cleanup_fetcher_name, given)

    def requests(self) -> Iterator[Request]:
        """What the fetchers are to be asked."""
        return (request for request in (self._steps, self._cleanup) if request is not None)

    def _request(self, which: str, fetcher: str, parameters: Any) -> Request | None:
        desk = self._desk
        key = which + _NAME
        name = desk.known(desk.catalog.fetchers, fetcher, key, desk.walk.place(self._path, key))
        if name is None:
            return None
        kind = desk.catalog.fetcher(name).Parameters
        read_parameters = desk.read(parameters, kind, self._path, which + _PARAMETERS)
        if read_parameters is BAD:
            return None
        return Request(name, bytes(encode_part(read_parameters)), read_parameters)

    def finish(self, fetched: Fetched) -> ReadTest | None:
        """The test; None where something is wrong with it."""
        self._own_fields()
        self._desk.later(self._read, self._path)
        name, steps = self._fetched(fetched)
        cleanup = self._fetched_cleanup(fetched)
        acquire, release = self._target_manager()
        if name is None or steps is None or cleanup is None or acquire is None or release is None:
            return None
        read, retry = self._read, self._read.retry_parameters or RetryFields()
        plan = TestPlan(
            name=name,
            target_manager=read.target_manager_name.lower(),
            acquire_parameters=acquire,
            release_parameters=release,
            steps=tuple(step.plan for step in steps),
            retries=retry.num_retries,
            # As in ConTest, one below zero is none.
            retry_interval=max(0, retry.retry_interval.nanoseconds),
            cleanup=tuple(step.plan for step in cleanup),
            cleanup_timeout=0 if read.cleanup_timeout is None else read.cleanup_timeout.nanoseconds,
        )
        return ReadTest(plan, BoundTest(steps, cleanup))

    def _own_fields(self) -> None:
        walk, read = self._desk.walk, self._read
        if read.retry_parameters is not None and not 0 <= read.retry_parameters.num_retries <= _MAX_RETRIES:
            place = walk.place(walk.place(self._path, "RetryParameters"), "NumRetries")
            walk.error("out_of_range", place, f"must be from 0 to {_MAX_RETRIES}")
        if read.cleanup_timeout is not None and read.cleanup_timeout.nanoseconds < 0:
            walk.error("out_of_range", walk.place(self._path, "CleanupTimeout"), "must not be negative")
        if read.cleanup_fetcher_name:
            return
        for key, given in (
            (_CLEANUP + _PARAMETERS, read.cleanup_fetcher_fetch_parameters or UNSET),
            ("CleanupTimeout", read.cleanup_timeout or UNSET),
        ):
            if given is not UNSET:
                message = f"{key!r} has no effect without 'CleanupFetcherName': there are no cleanup steps"
                walk.warning("no_effect", walk.place(self._path, key), message)

    def _fetched(self, fetched: Fetched) -> tuple[str | None, tuple[BoundStep, ...] | None]:
        outcome, where = self._outcome(self._steps, _TEST, fetched)
        if outcome is None:
            return None, None
        desk = self._desk
        place = desk.walk.place(where, "TestName")
        if not outcome.name:
            desk.walk.error("missing", place, "the test has no name")
        desk.length(outcome.name, MAX_TEST_NAME_BYTES, "the test's name", place)
        return outcome.name, read_steps(desk, outcome, where, self._before)

    def _fetched_cleanup(self, fetched: Fetched) -> tuple[BoundStep, ...] | None:
        if not self._read.cleanup_fetcher_name:
            return ()
        outcome, where = self._outcome(self._cleanup, _CLEANUP, fetched)
        if outcome is None:
            return None
        return read_steps(self._desk, outcome, where, self._before, cleanup=True)

    def _outcome(
        self, request: Request | None, which: str, fetched: Fetched
    ) -> tuple[FetchedTest | None, str]:
        """What a fetcher gave, and where its parameters stand."""
        where = self._desk.walk.place(self._path, which + _PARAMETERS)
        outcome = None if request is None else fetched[request.key]
        if isinstance(outcome, str):
            self._desk.walk.error("fetch_failed", where, outcome)
            return None, where
        return outcome, where

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
