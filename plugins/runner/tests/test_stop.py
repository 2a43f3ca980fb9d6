"""A stop says Cancelled when nothing is left, CancellationFailed with what is, and never hangs."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import NoneType
from typing import Any, ClassVar

import pytest
from msgspec import Struct

from contest_core.job_manager import Termination
from contest_runner.parts import Reporter, ReportResult, TargetManager
from contest_runner.step import AllTargetsStep, Step, Stopped, ThreadStep
from contest_runner.target import Target
from contest_runner.testing import Lab, Serving, eventually, job_of, one_test, simple, step


class Nothing(Struct, frozen=True, kw_only=True):
    """No parameters."""


class Gate:
    """What a step of a test waits at; one a test."""

    def __init__(self) -> None:
        self.inside = 0
        self.open = threading.Event()


def stubborn(gate: Gate) -> type[Step[Any]]:
    class Stubborn(Step[Nothing]):
        """Does not mind being cancelled."""

        Parameters = Nothing
        display_name = "Stubborn"

        async def run(self, target: Any, parameters: Any, context: Any) -> None:
            gate.inside += 1
            while not gate.open.is_set():
                try:
                    await asyncio.sleep(0.01)
                except asyncio.CancelledError:
                    continue

    return Stubborn


def in_thread(gate: Gate, said: list[BaseException]) -> type[ThreadStep[Any]]:
    class InThread(ThreadStep[Nothing]):
        """Blocks, and speaks when it is too late."""

        Parameters = Nothing
        display_name = "InThread"
        events: ClassVar = {"Late": NoneType}

        def run(self, target: Any, parameters: Any, context: Any) -> None:
            gate.inside += 1
            gate.open.wait(20)
            try:
                context.emit("Late")
            except BaseException as error:
                said.append(error)
                raise

    return InThread


async def entered(serving: Serving, gate: Gate, number: int = 1) -> None:
    await eventually(lambda: gate.inside >= number, "the step")


async def test_a_stopped_sleep_ends_at_once_as_cancelled_with_its_lock_free(lab: Lab) -> None:
    async with lab.server() as serving:
        job = await serving.start(simple(step("sleep", duration="1h"), targets=("a", "b")))
        await serving.until(job, lambda status: status["RunStatus"] and "InTime" in str(status["RunStatus"]))
        assert await serving.stop(job) is None
        status = await asyncio.wait_for(serving.ended(job), 2)
        assert status["State"] == "JobStateCancelled"
        assert status["EndTime"] is not None
        assert (await serving.entry(job))["Verdict"] == "cancelled"
        assert await serving.locks() == {}
        names = await serving.names(job)
        assert names[-1] == "JobStateCancelled"
        assert names.count("JobStateCancelling") == 1
        assert names.count("TargetReleased") == 2
        assert await serving.stop(job) == "job_ended"
        assert await serving.stop(job + 1) == "unknown_job"


async def test_cancelling_is_shown_until_a_thread_is_back(lab: Lab) -> None:
    gate = Gate()
    lab.step("in-thread", in_thread(gate, []))
    async with lab.server() as serving:
        job = await serving.start(simple(step("in-thread")))
        await entered(serving, gate)
        await serving.stop(job)
        await asyncio.sleep(0.2)
        status = await serving.status(job)
        assert status["State"] == "JobStateCancelling"
        assert status["EndTime"] is None
        assert await serving.stop(job) is None
        gate.open.set()
        assert (await serving.ended(job))["State"] == "JobStateCancelled"
        names = await serving.names(job)
        assert names.count("JobStateCancelling") == 1


async def test_what_outlives_the_grace_is_named_keeps_its_lock_and_writes_nothing_any_more(lab: Lab) -> None:
    gate = Gate()
    said: list[BaseException] = []
    lab.step("in-thread", in_thread(gate, said))
    lab.step("stubborn", stubborn(gate))
    async with lab.server(stop_grace="400ms", lock_duration="1s") as serving:
        one = await serving.start(simple(step("in-thread", "hold"), targets=("a",)))
        two = await serving.start(simple(step("stubborn"), targets=("b",)))
        await entered(serving, gate, 2)
        await serving.stop(one)
        await serving.stop(two)
        status = await asyncio.wait_for(serving.ended(one), 5)
        assert status["State"] == "JobStateCancellationFailed"
        assert "a: step 'hold' (in-thread)" in status["StateErrMsg"]
        assert (await serving.entry(one))["Verdict"] == "cancelled"
        assert (await serving.ended(two))["State"] == "JobStateCancellationFailed"
        assert await serving.locks() == {"a": one, "b": two}
        before = await serving.names(one)
        gate.open.set()
        await eventually(lambda: said, "the late event")
        assert isinstance(said[0], Stopped)
        await asyncio.sleep(0.05)
        assert await serving.names(one) == before
        third = await serving.start(simple(step("echo", text="x"), targets=("a",)))
        waiting = await serving.until(third, lambda status: status.get("Waiting") or status["EndTime"])
        assert waiting["EndTime"] or waiting["Waiting"]["Targets"][0]["HeldBy"] == one
        assert (await serving.ended(third))["State"] == "JobStateCompleted"


async def test_the_server_ends_though_a_step_does_not(lab: Lab) -> None:
    gate = Gate()
    lab.step("in-thread", in_thread(gate, []))
    lab.step("stubborn", stubborn(gate))
    lab.step("gathering", gathering(gate))
    async with asyncio.timeout(8):
        async with lab.server(stop_grace="300ms") as serving:
            await serving.start(simple(step("in-thread"), targets=("a",)))
            await serving.start(simple(step("stubborn"), targets=("b",)))
            await serving.start(simple(step("gathering"), targets=("c", "d")))
            await entered(serving, gate, 3)
    gate.open.set()
    async with lab.server() as serving:
        states = {(await serving.entry(job))["State"] for job in (1, 2, 3)}
        assert states == {"JobStateCancellationFailed"}
        assert await serving.locks() == {}, "what they were locked for died with the server"


def gathering(gate: Gate) -> type[AllTargetsStep[Any]]:
    class Gathering(AllTargetsStep[Nothing]):
        """Takes all targets and lets none go."""

        Parameters = Nothing
        display_name = "Gathering"

        async def run(self, arrivals: Any) -> None:
            async for _ in arrivals:
                pass
            gate.inside += 1
            while not gate.open.is_set():
                try:
                    await asyncio.sleep(0.01)
                except asyncio.CancelledError:
                    continue

    return Gathering


async def test_a_command_that_ignores_the_polite_signal_is_killed_with_its_children(
    lab: Lab, tmp_path: Path
) -> None:
    script = (
        "trap '' TERM; (trap '' TERM; setsid sh -c 'trap \"\" TERM; echo $$ > far; sleep 1000; sleep 1000') & "
        "(trap '' TERM; sleep 1000; sleep 1000) & echo $$ > near; sleep 1000; sleep 1000"
    )
    descriptor = simple(step("cmd", executable="sh", args=["-c", script], dir=str(tmp_path)))
    async with lab.server(stop_grace="1s") as serving:
        job = await serving.start(descriptor)
        await eventually(lambda: (tmp_path / "near").exists() and (tmp_path / "far").exists(), "the command")
        await serving.stop(job)
        assert (await serving.status(job))["State"] == "JobStateCancelling"
        status = await serving.ended(job)
        assert status["State"] == "JobStateCancelled"
        for name in ("near", "far"):
            with pytest.raises(ProcessLookupError):
                os.kill(int((tmp_path / name).read_text()), 0)
        assert await serving.locks() == {}


async def test_a_job_that_waits_for_a_lock_can_be_stopped(lab: Lab) -> None:
    async with lab.server() as serving:
        holder = await serving.start(simple(step("sleep", duration="1h"), targets=("a",)))
        await eventually(lambda: bool(serving.manager._locker.locks()), "the lock")
        waiter = await serving.start(simple(step("echo", text="x"), targets=("a",)))
        status = await serving.until(waiter, lambda status: status.get("Waiting"))
        assert status["State"] == "JobStateStarted"
        assert status["Waiting"]["For"] == "targets"
        assert status["Waiting"]["Targets"][0]["ID"] == "a"
        assert status["Waiting"]["Targets"][0]["HeldBy"] == holder
        await serving.stop(waiter)
        assert (await serving.ended(waiter))["State"] == "JobStateCancelled"
        assert await serving.locks() == {"a": holder}


class SlowManager(TargetManager[Nothing, Nothing]):
    """Takes its time, and counts."""

    AcquireParameters = Nothing
    ReleaseParameters = Nothing
    released = 0
    inside = 0

    async def acquire(self, parameters: Any, context: Any) -> Any:
        targets = await context.locker.acquire([Target(id="slow")], deadline=context.deadline)
        type(self).inside += 1
        await asyncio.sleep(1000)
        return targets

    async def release(self, targets: Any, parameters: Any, context: Any) -> None:
        type(self).released += 1


class DeafManager(SlowManager):
    """Does not even end when it is cancelled, and locks more behind everybody's back."""

    async def acquire(self, parameters: Any, context: Any) -> Any:
        type(self).inside += 1
        for number in range(1000):
            try:
                await asyncio.sleep(0.05)
            except asyncio.CancelledError:
                continue
            await context.locker.acquire([Target(id=f"more-{number}")], deadline=context.deadline)


def managed(name: str, **more: Any) -> dict[str, Any]:
    test = one_test(step("echo", text="x"), TargetManagerName=name, TargetManagerAcquireParameters={})
    return job_of(test, **more)


async def test_a_slow_target_manager_is_stopped_and_its_locks_are_freed(lab: Lab) -> None:
    lab.add("target_managers", "slow", type("Slow", (SlowManager,), {"inside": 0}))
    async with lab.server() as serving:
        job = await serving.start(managed("slow"))
        await eventually(lambda: bool(serving.manager._locker.locks()), "the lock")
        await asyncio.sleep(0.05)
        await serving.stop(job)
        assert (await asyncio.wait_for(serving.ended(job), 3))["State"] == "JobStateCancelled"
        assert await serving.locks() == {}


async def test_a_target_manager_that_cannot_be_cancelled_is_left_behind_without_locks(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    from contest_runner import bounded

    monkeypatch.setattr(bounded, "STUBBORN", 0.2)
    monkeypatch.setattr(bounded.while_running, "__kwdefaults__", {"patience": None, "stubborn": 0.2})
    kind: Any = type("Deaf", (DeafManager,), {"inside": 0})
    lab.add("target_managers", "deaf", kind)
    async with lab.server() as serving:
        job = await serving.start(managed("deaf"))
        await eventually(lambda: kind.inside, "the manager")
        await serving.stop(job)
        assert (await asyncio.wait_for(serving.ended(job), 3))["State"] == "JobStateCancelled"
        await asyncio.sleep(0.1)
        assert await serving.locks() == {}


async def test_a_stop_between_runs_wakes_the_job(lab: Lab) -> None:
    async with lab.server() as serving:
        job = await serving.start(simple(step("echo", text="x"), Runs=2, RunInterval="1h"))
        await eventually(lambda: serving.store.runs(job), "the first run")
        await serving.stop(job)
        status = await asyncio.wait_for(serving.ended(job), 2)
        assert status["State"] == "JobStateCancelled"
        assert len(status["RunStatuses"]) == 1
        assert len(status["JobReport"]["RunReports"]) == 1


async def test_a_stop_while_a_reporter_thinks_is_obeyed(lab: Lab) -> None:
    thinking = asyncio.Event()

    class Thinker(Reporter[Any, Any]):
        RunParameters: ClassVar[Any] = Any
        FinalParameters: ClassVar[Any] = Any
        judges = True

        async def run_report(self, status: Any, parameters: Any, context: Any) -> ReportResult:
            thinking.set()
            await asyncio.sleep(1000)
            raise AssertionError

        final_report = run_report

    lab.add("reporters", "thinker", Thinker)
    reporting = {"RunReporters": [{"Name": "thinker"}]}
    async with lab.server() as serving:
        job = await serving.start(simple(step("echo", text="x"), Reporting=reporting))
        await asyncio.wait_for(thinking.wait(), 5)
        await serving.stop(job)
        status = await asyncio.wait_for(serving.ended(job), 2)
        assert status["State"] == "JobStateCancelled"
        assert status["JobReport"]["RunReports"] is None
        assert await serving.locks() == {}


async def test_a_stop_never_follows_the_end(lab: Lab) -> None:
    async with lab.server() as serving:
        for delay in range(30):
            job = await serving.start(simple(step("echo", text="x")))
            for _ in range(delay):
                await asyncio.sleep(0)
            refused = await serving.stop(job)
            status = await serving.ended(job)
            assert status["EndTime"] is not None
            names = await serving.names(job)
            assert names[-1] == status["State"]
            if refused is None:
                assert names.count("JobStateCancelling") == 1
                assert status["State"] == "JobStateCancelled"
            else:
                assert refused == "job_ended"
                assert "JobStateCancelling" not in names
                assert status["State"] == "JobStateCompleted"
                assert status["JobReport"]["RunReports"]
            rows = await serving.events(job)
            assert [row.sequence for row in rows] == list(range(1, len(rows) + 1))


async def test_an_ended_state_is_never_seen_without_its_end(lab: Lab) -> None:
    async with lab.server() as serving:
        for _ in range(5):
            job = await serving.start(simple(step("sleep", duration="10ms"), targets=("a", "b")))
            await asyncio.sleep(0.01)
            stopping = asyncio.ensure_future(serving.stop(job))
            while True:
                status = await serving.status(job)
                if status["State"] in ("JobStateCompleted", "JobStateCancelled"):
                    break
                assert status["EndTime"] is None
            assert status["EndTime"] is not None
            await stopping


async def test_cancelling_the_server_cancels_its_jobs_and_draining_lets_them_finish(lab: Lab) -> None:
    async with asyncio.timeout(10):
        async with lab.server(at_exit=Termination.DRAIN) as serving:
            await serving.start(simple(step("sleep", duration="200ms"), targets=("a",)))
            await serving.start(simple(step("echo", text="x"), targets=("b",), Runs=0, RunInterval="1h"))
        async with lab.server() as serving:
            assert (await serving.entry(1))["State"] == "JobStateCompleted"
            assert (await serving.entry(2))["State"] == "JobStateCompleted"
            await serving.start(simple(step("sleep", duration="1h"), targets=("a",)))
            await serving.start(simple(step("sleep", duration="1h"), targets=("a",)))
        async with lab.server() as serving:
            for job in (3, 4):
                assert (await serving.entry(job))["State"] == "JobStateCancelled"


async def test_draining_keeps_the_interval_of_a_job_that_has_an_end(lab: Lab) -> None:
    async with lab.server() as serving:
        job = await serving.start(simple(step("echo", text="x"), Runs=2, RunInterval="300ms"))
        serving.server.terminate(Termination.DRAIN)
        await asyncio.wait_for(serving.server.wait(), 5)
    async with lab.server() as serving:
        times = [row.time for row in await serving.events(job) if row.name == "RunStarted"]
        assert len(times) == 2
        assert times[1] - times[0] >= 300_000


PROGRAM = """
import asyncio, sys
from pathlib import Path
from msgspec import Struct
from contest_runner.step import AllTargetsStep, Step
from contest_runner.testing import Lab, simple, step

class Nothing(Struct, frozen=True, kw_only=True):
    pass

async def for_ever():
    while True:
        try:
            await asyncio.sleep(0.05)
        except asyncio.CancelledError:
            pass

class Stubborn(Step):
    Parameters = Nothing
    display_name = "Stubborn"

    async def run(self, target, parameters, context):
        await for_ever()

class Gathering(AllTargetsStep):
    Parameters = Nothing
    display_name = "Gathering"

    async def run(self, arrivals):
        await for_ever()

async def main():
    with Lab(Path(sys.argv[1])) as lab:
        lab.step("stubborn", Stubborn)
        lab.step("gathering", Gathering)
        async with lab.server(stop_grace="300ms") as serving:
            await serving.start(simple(step("stubborn"), targets=("a",)))
            await serving.start(simple(step("gathering"), targets=("b",)))
            await asyncio.sleep(0.3)
    print("left")

asyncio.run(main())
print("ended")
"""


def test_the_program_ends_though_steps_never_do(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    assert done.stdout.split() == ["left", "ended"]
