"""Tests that are tried again thousands of times: what is kept of that while it goes on, at its end, after a crash."""

from __future__ import annotations

import asyncio
import json
import shutil
from typing import Any

import pytest
from msgspec import Struct

from contest_runner import recovery
from contest_runner.parts import AcquireFailed, TargetManager
from contest_runner.status_tree import MAX_ATTEMPTS, MAX_EARLIER
from contest_runner.step import OnInterrupt, Step, TargetFailed
from contest_runner.store import Store
from contest_runner.testing import Json, Lab, job_of, one_test, step

TIMES = 1000
"""Attempts that fail before the last one."""


class Nothing(Struct, frozen=True, kw_only=True):
    """No parameters."""


class Fails(Step[Nothing]):
    """Fails all targets that often, and then waits for the gate."""

    Parameters = Nothing
    display_name = "Fails"
    on_interrupt = OnInterrupt.RERUN
    times: int
    gate: asyncio.Event

    async def run(self, target: Any, parameters: Any, context: Any) -> None:
        if context.info.attempt < self.times:
            raise TargetFailed(f"not in attempt {context.info.attempt}")
        await self.gate.wait()


def failing(lab: Lab, times: int) -> asyncio.Event:
    """Adds a step `fails`; gives the gate of its last attempt."""

    class Own(Fails):
        gate = asyncio.Event()

    Own.times = times
    lab.step("fails", Own)
    return Own.gate


def tried(*targets: str) -> Json:
    retry = {"NumRetries": 2**31 - 1, "RetryInterval": "0s"}
    return job_of(one_test(step("fails"), targets=targets, RetryParameters=retry))


def the_test(status: Json) -> Json:
    [found] = status["RunStatus"]["TestStatuses"] if status["RunStatus"] else [{}]
    return found  # type: ignore[no-any-return]


def in_attempt(number: int) -> Any:
    """Whether the last attempt is this one, and its targets are in a step."""

    def found(status: Json) -> bool:
        last = (the_test(status).get("Attempts") or [{"Attempt": 0}])[-1]
        entries = last.get("TargetStatuses") or ()
        return last["Attempt"] == number and all(entry["TestStepLabel"] for entry in entries)

    return found


async def test_a_status_has_the_last_attempts_and_the_events_have_all(lab: Lab) -> None:
    gate = failing(lab, TIMES)
    async with lab.server() as serving:
        job = await serving.start(tried("a", "b"))
        shown = await serving.until(job, in_attempt(TIMES))
        gate.set()
        ended = await serving.ended(job)
        assert (ended["Verdict"], ended["Flaky"]) == ("passed", True)
        for status in (shown, ended):
            attempts = the_test(status)["Attempts"]
            assert [each["Attempt"] for each in attempts] == list(range(TIMES - MAX_ATTEMPTS + 1, TIMES + 1))
            assert [entry["Error"] for entry in attempts[0]["TargetStatuses"]] == [
                f"not in attempt {TIMES - MAX_ATTEMPTS + 1}"
            ] * 2
            assert len(json.dumps(status)) < 250_000
        names = await serving.names(job)
        assert names.count("TargetErr") == 2 * TIMES


async def test_of_many_targets_fewer_attempts_are_kept_but_always_one_before_the_last(lab: Lab) -> None:
    failing(lab, 12).set()
    few = [f"t{number}" for number in range(2000)]
    async with lab.server() as serving:
        attempts = the_test(await serving.run(tried(*few)))["Attempts"]
        assert sum(len(each["TargetStatuses"]) for each in attempts[:-1]) == MAX_EARLIER
        assert [each["Attempt"] for each in attempts] == list(range(7, 13))
    failing(lab, 2).set()
    async with lab.server() as serving:
        many = [f"t{number}" for number in range(MAX_EARLIER + 1)]
        attempts = the_test(await serving.run(tried(*many)))["Attempts"]
        assert [each["Attempt"] for each in attempts] == [1, 2]


async def test_acquisitions_that_fail_thousands_of_times_are_kept_alike_with_whose_fault_it_was(
    lab: Lab,
) -> None:
    asked: list[int] = []

    class Shy(TargetManager[Nothing, Nothing]):
        AcquireParameters = ReleaseParameters = Nothing

        async def acquire(self, parameters: Any, context: Any) -> Any:
            asked.append(1)
            raise AcquireFailed("not yet")

        async def release(self, targets: Any, parameters: Any, context: Any) -> None:
            raise AssertionError

    lab.add("target_managers", "shy", Shy)
    descriptor = tried("a")
    descriptor["TestDescriptors"][0] |= {
        "TargetManagerName": "shy",
        "TargetManagerAcquireParameters": {},
        "RetryParameters": {"NumRetries": 3000},
        "TestFetcherFetchParameters": {"TestName": "t", "Steps": [step("echo", text="x")]},
    }
    async with lab.server() as serving:
        status = await serving.run(descriptor)
        assert (status["State"], status["Verdict"], status["Blame"]) == (
            "JobStateCompleted",
            "error",
            "infrastructure",
        )
        assert len(asked) == 3001
        attempts = the_test(status)["Attempts"]
        assert [each["Attempt"] for each in attempts] == list(range(2901, 3001))
        for entries in (each["TargetStatuses"] for each in attempts):
            assert [(entry["Error"], entry["Blame"]) for entry in entries] == [("not yet", "infrastructure")]


async def test_after_a_crash_they_are_read_page_by_page_to_the_same_end(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = 37
    gate = failing(lab, TIMES)
    rows: list[int] = []
    read = Store.acquisitions

    async def counting(self: Store, *args: Any, **more: Any) -> Any:
        found = await read(self, *args, **more)
        rows.append(len(found))
        return found

    monkeypatch.setattr(Store, "acquisitions", counting)
    monkeypatch.setattr(recovery, "_PAGE", page)
    after = lab.folder / "after"
    after.mkdir()
    async with lab.server() as serving:
        job = await serving.start(tried("a", "b"))
        shown = await serving.until(job, in_attempt(TIMES))
        await serving.store.committed()
        for file in lab.folder.glob("jobs.db*"):
            shutil.copy(file, after)
        gate.set()
    lab.folder = after
    gate.clear()
    async with lab.server() as serving:
        again = await serving.until(job, in_attempt(TIMES))
        assert the_test(again) == the_test(shown)
        gate.set()
        status = await serving.ended(job)
        assert (status["Verdict"], status["Flaky"]) == ("passed", True)
        assert the_test(status)["Attempts"][:-1] == the_test(shown)["Attempts"][:-1]
    assert sum(rows) <= MAX_ATTEMPTS
    assert max(rows) <= page
