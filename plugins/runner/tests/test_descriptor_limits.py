"""What one request may take: limits of a descriptor, an end of the walk, and a loop that answers others meanwhile."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import pytest
from msgspec import Struct

from contest_core import EventValidateMsg, Finding, InvalidDescriptor, Severity
from contest_runner import walk
from contest_runner.aside import LARGE, SMALL_AT_ONCE, Aborted, Aside, Work
from contest_runner.nearest import MAX_HINTS, Nearest
from contest_runner.parts import TargetManager
from contest_runner.step import Step
from contest_runner.testing import Lab, job_of, one_test, simple, step

ECHO = step("echo", text="x")
T = "/TestDescriptors/0"
S = f"{T}/TestFetcherFetchParameters/Steps"


def many(count: int, first: int = 0) -> list[Any]:
    return [step("echo", f"l{number}", text="x") for number in range(first, first + count)]


def job_with(count: int, steps: int = 1) -> Any:
    return job_of(*[one_test(*many(steps), name=f"t{number}") for number in range(count)])


OVER: dict[str, tuple[Callable[[], Any], str, str]] = {
    "tests": (lambda: job_with(1001), "/TestDescriptors", "has 1,001 tests, the limit is 1,000"),
    "steps": (lambda: simple(*many(1001)), S, "has 1,001 steps, the limit is 1,000"),
    "steps of all tests": (
        lambda: job_with(11, 1000),
        S.replace("/0", "/10", 1),
        "the job has 11,000 steps, the limit is 10,000 in all tests together",
    ),
    "values": (
        lambda: simple(step("cmd", executable="true", args=["x"] * 100_001)),
        S,
        "has 100,002 values of parameters, the limit is 100,000",
    ),
    "parameters": (
        lambda: simple({**ECHO, "parameters": {f"k{number}": [1] for number in range(1001)}}),
        f"{S}/0/parameters",
        "has 1,001 parameters, the limit is 1,000",
    ),
    "reporters": (
        lambda: simple(ECHO, Reporting={"RunReporters": [{"Name": "noop"}] * 101}),
        "/Reporting/RunReporters",
        "has 101 reporters, the limit is 100",
    ),
    "tags": (
        lambda: simple(ECHO, Tags=[f"t{number}" for number in range(1001)]),
        "/Tags",
        "has 1,001 tags, the limit is 1,000",
    ),
    "brackets": (lambda: [[]] * 1_000_000, "", "has 1,000,001 brackets, [ and {, the limit is 1,000,000"),
    "duration": (
        lambda: simple(ECHO, RunInterval="1s" * 501),
        "/RunInterval",
        "has 1,002 characters, the limit is 1,000",
    ),
    "duration of a step": (
        lambda: simple(step("sleep", duration="1s" * 501)),
        f"{S}/0/parameters/duration",
        "has 1,002 characters, the limit is 1,000",
    ),
}


def errors(findings: Iterable[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.severity == Severity.ERROR]


@pytest.mark.parametrize("what", OVER)
async def test_far_too_much_of_something_is_refused_with_the_number_and_the_limit(
    lab: Lab, what: str
) -> None:
    job, path, message = OVER[what]
    reading = await lab.read(job())
    assert reading.plan is None
    [finding] = errors(reading.findings)
    assert (finding.path, message in finding.message) == (path, True), finding


@pytest.mark.parametrize("job", [job_with(1000), job_with(10, 1000)], ids=["tests", "steps"])
async def test_as_much_as_the_limit_is_taken(lab: Lab, job: Any) -> None:
    job["Tags"] = [f"t{number}" for number in range(1000)]
    job["Reporting"] = {"RunReporters": [{"Name": "noop"}] * 100, "FinalReporters": [{"Name": "noop"}] * 100}
    assert (await lab.read(job)).findings == ()
    assert (await lab.read({**job, "jobname": "folded"})).plan is not None


# --- findings


async def test_very_many_warnings_are_bounded_and_the_job_is_accepted(lab: Lab) -> None:
    reading = await lab.read(simple(ECHO) | {f"k{number}": 1 for number in range(20_000)})
    assert reading.plan is not None
    assert len(reading.findings) == walk.MAX_FINDINGS + 1
    assert reading.findings[-1].code == "too_many_findings"


async def test_the_first_error_is_told_however_many_warnings_precede_it(lab: Lab) -> None:
    reading = await lab.read({f"k{number}": 1 for number in range(20_000)} | simple(step("ecko")))
    assert reading.plan is None
    assert [finding.code for finding in errors(reading.findings)] == ["unknown_step"]


def test_nobody_walks_on_where_there_are_findings_enough() -> None:
    class Counting(walk.Walk):
        reads = 0

        def read(self, value: Any, kind: Any, path: str) -> Any:
            self.reads += 1
            return super().read(value, kind, path)

    counting = Counting()
    with pytest.raises(walk.Enough):
        counting.read([None] * 100_000, list[int], "")
    assert counting.reads <= walk.MAX_FINDINGS + 1
    assert len(counting.findings) == walk.MAX_FINDINGS + 1


def test_findings_are_bounded_in_length_as_well() -> None:
    long = walk.Walk()
    with pytest.raises(walk.Enough):
        long.read({"k" * 100_000: [None] * 1000}, dict[str, list[int]], "")
    assert len(long.findings) < 20


def test_names_are_compared_only_so_often() -> None:
    nearest = Nearest()
    found = [nearest.to("TARGETLITS" + "x" * 10_000_000, ["TargetList"]) for _ in range(1)]
    found += [nearest.to("targetlits", ["TargetList"]) for _ in range(MAX_HINTS)]
    assert found == [None] + ["TargetList"] * (MAX_HINTS - 1) + [None]


# --- the loop


class Nothing(Struct, frozen=True):
    """No parameters, or any."""

    text: str = ""


def checked(check: Callable[[], None]) -> type[Step[Any]]:
    class Made(Step[Nothing]):
        Parameters: ClassVar[type[Struct]] = Nothing
        display_name = "Made"

        def check(self, parameters: Nothing) -> Iterable[Finding]:
            check()
            return ()

        async def run(self, target: Any, parameters: Nothing, context: Any) -> None:
            pass

    return Made


def large(*steps: Any, **more: Any) -> str:
    job = simple(*steps, targets=[{"ID": f"t{number}", "FQDN": "x" * 40} for number in range(8000)], **more)
    text = json.dumps(job)
    assert len(text) > LARGE
    return text


@pytest.mark.parametrize("more", [{}, {"jobname": "by the walk"}], ids=["exactly", "walking"])
async def test_the_loop_answers_others_while_a_large_descriptor_is_read(lab: Lab, more: Any) -> None:
    reading, answered = threading.Event(), threading.Event()

    def check() -> None:
        reading.set()
        assert answered.wait(20), "nobody was answered meanwhile"

    lab.step("made", checked(check))
    async with lab.server() as serving:
        asked = asyncio.create_task(serving.api.validate(serving.caller, large(step("made"), **more)))
        while not reading.is_set():
            await asyncio.sleep(0.001)
        serving.api.version()
        assert await serving.locks() == {}
        answered.set()
        findings = (await asked).result().findings
        assert [finding.code for finding in findings or ()] == (["duplicate_key"] if more else [])


async def test_a_small_descriptor_is_read_in_the_loop(lab: Lab) -> None:
    seen: list[bool] = []
    here = threading.current_thread()
    lab.step("made", checked(lambda: seen.append(threading.current_thread() is here)))
    async with lab.server() as serving:
        await serving.api.validate(serving.caller, json.dumps(simple(step("made"))))
    assert seen == [True]


async def test_a_large_job_runs(lab: Lab) -> None:
    seen: list[int] = []

    class Counting(TargetManager[Any, Any]):
        AcquireParameters = dict  # type: ignore[assignment]
        ReleaseParameters = dict  # type: ignore[assignment]

        async def acquire(self, parameters: Any, context: Any) -> Any:
            seen.append(len(parameters["Targets"]))
            return []

        async def release(self, targets: Any, parameters: Any, context: Any) -> None: ...

    lab.add("target_managers", "counting", Counting)
    text = large(ECHO).replace('"TargetList"', '"counting"')
    async with lab.server() as serving:
        await serving.ended(await serving.start(text))
        with pytest.raises(InvalidDescriptor):
            await serving.start(text.replace('"echo"', '"ecko"'))
    assert seen == [8000]


async def test_a_reading_that_nobody_waits_for_ends(lab: Lab) -> None:
    began, go_on = threading.Event(), threading.Event()
    checks: list[int] = []

    def check() -> None:
        checks.append(1)
        began.set()
        go_on.wait(20)

    lab.step("made", checked(check))
    steps = [step("made", f"l{number}") for number in range(50)]
    async with lab.server() as serving:
        message = EventValidateMsg(requestor="tester", job_descriptor=large(*steps))
        asked = asyncio.create_task(serving.manager.validate(message, serving.caller))
        while not began.is_set():
            await asyncio.sleep(0.001)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        go_on.set()
        # The next one has its turn.
        assert (await serving.api.validate(serving.caller, large(ECHO))).result().findings == []
    assert len(checks) == 1


async def test_work_in_a_thread_stops_when_it_is_cancelled() -> None:
    aside = Aside()
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()
    ended = threading.Event()

    def forever(work: Work) -> None:
        loop.call_soon_threadsafe(begun.set)
        try:
            while True:
                work.check()
        except Aborted:
            ended.set()
            raise

    async def working() -> None:
        async with aside.work(LARGE + 1) as work:
            await work.do(forever, work)

    task = asyncio.create_task(working())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(ended.wait, 10)


async def test_many_small_descriptors_at_once_leave_the_loop_its_turns() -> None:
    aside = Aside()
    read: list[int] = []

    async def reading(number: int) -> None:
        async with aside.work(10):
            read.append(number)

    tasks = [asyncio.create_task(reading(number)) for number in range(100)]
    tasks[40].cancel()
    counts = [0]
    while len(read) < 99:
        await asyncio.sleep(0)
        counts.append(len(read))
        assert counts[-1] - counts[-2] <= SMALL_AT_ONCE
    assert read == [number for number in range(100) if number != 40]
    await asyncio.wait(tasks)
    await asyncio.wait_for(reading(100), 10)
