"""The part of a job that a status is asked for: what is in it, what is refused, what is said of one too large."""

from __future__ import annotations

from typing import Any

import pytest

from contest_core import TooLarge
from contest_runner import answers, status_parts
from contest_runner.testing import Json, Lab, Serving, job_of, one_test, simple, step

WAIT = step("sleep", duration="1h")


def begun(status: Json) -> bool:
    """Its targets are there."""
    return bool(status["RunStatus"] and status["RunStatus"]["TestStatuses"][0]["TargetStatuses"])


async def size(serving: Serving, job: int) -> int:
    response = await serving.api.call(serving.caller, "status", {"jobID": job})
    return len(response.data.json)


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """No answer is kept."""
    monkeypatch.setattr(answers, "CACHE_BYTES", 0)


async def refusal(serving: Serving, job: int, **part: Any) -> str:
    error = (await serving.api.status(serving.caller, job, **part)).error
    assert error is not None
    assert (error.code, error.row.http) == ("invalid_parameters", 200)
    return error.message


async def test_a_part_does_not_repeat_the_last_run_and_a_whole_status_does(lab: Lab) -> None:
    async def look(serving: Serving, job: int) -> None:
        whole = await serving.status(job)
        assert whole["RunStatus"] == whole["RunStatuses"][-1]
        for part in ({"run": 1}, {"test": "t"}, {"target": "t1"}, {"events": False}):
            status = await serving.status(job, **part)
            assert status["RunStatus"] is None
            assert status["RunStatuses"]

    async with lab.server() as serving:
        running = await serving.start(simple(WAIT))
        await serving.until(running, begun)
        await look(serving, running)
        await serving.stop(running)
        ended = await serving.start(simple(step("echo", text="x"), targets=("t1", "t2"), Runs=2))
        await serving.ended(ended)
        await look(serving, ended)


async def test_a_run_that_a_job_does_not_have_is_refused_with_those_it_has(lab: Lab) -> None:
    async with lab.server() as serving:
        job = await serving.start(simple(step("echo", text="x"), Runs=2))
        await serving.ended(job)
        assert await refusal(serving, job, run=7) == "job 1 has no run 7; it has runs 1 to 2"
        assert await refusal(serving, job, run=0) == "job 1 has no run 0; it has runs 1 to 2"
        running = await serving.start(simple(WAIT, Runs=3))
        await serving.until(running, lambda status: status["RunStatus"])
        assert await refusal(serving, running, run=4) == "job 2 has no run 4; it has run 1"
        # It is planned, and has not begun.
        assert (await serving.status(running, run=3))["RunStatuses"] is None
        await serving.stop(running)
        await serving.ended(running)
        assert await refusal(serving, running, run=3) == "job 2 has no run 3; it has run 1"


async def test_a_test_that_a_job_does_not_have_is_refused_with_the_nearest(lab: Lab) -> None:
    descriptor = job_of(
        one_test(step("echo", text="x"), name="boot"),
        one_test(step("echo", text="x"), name="memory"),
        one_test(step("echo", text="x"), name="off", Disabled=True),
    )
    async with lab.server() as serving:
        await serving.ended(await serving.start(descriptor))
        assert await refusal(serving, 1, test="bout") == "job 1 has no test 'bout', did you mean 'boot'?"
        there = "there are 'boot', 'memory', 'off'"
        assert await refusal(serving, 1, test="xyz") == f"job 1 has no test 'xyz'; {there}"
        assert len(await refusal(serving, 1, test="n" * 100_000)) < 200
        assert (await serving.status(1, test="off"))["RunStatuses"][0]["SkippedTests"] == ["off"]


async def test_a_target_that_a_job_does_not_have_is_refused_with_the_nearest(lab: Lab) -> None:
    descriptor = job_of(
        one_test(step("echo", text="x"), name="a", targets=("board-1", "board-2")),
        one_test(step("echo", text="x"), name="b", targets=("board-3",)),
    )
    async with lab.server() as serving:
        job = await serving.start(descriptor)
        await serving.ended(job)
        assert await refusal(serving, job, target="bord-2") == (
            "job 1 has no target 'bord-2', did you mean 'board-2'?"
        )
        assert await refusal(serving, job, target="nope") == (
            "job 1 has no target 'nope'; there are 'board-1', 'board-2', 'board-3'"
        )
        assert await refusal(serving, job, target="xyz", test="b") == (
            "test 'b' of job 1 has no target 'xyz'; there is 'board-3'"
        )
        assert "run 1 of job 1 has no target 'nope'" in await refusal(serving, job, target="nope", run=1)
        # Asked again it is no answer that was kept.
        assert "has no target" in await refusal(serving, job, target="nope")
        assert (await serving.status(job, target="board-3"))["RunStatuses"]


async def test_a_target_that_a_job_has_is_no_error_before_it_has_begun(lab: Lab) -> None:
    async with lab.server() as serving:
        holder = await serving.start(simple(WAIT, targets=("t1", "t2")))
        await serving.until(holder, begun)
        for target in ("t1", "t2"):
            [run] = (await serving.status(holder, target=target))["RunStatuses"]
            assert [each["Target"]["ID"] for each in run["TestStatuses"][0]["TargetStatuses"]] == [target]
        assert "job 1 has no target 'nope'" in await refusal(serving, holder, target="nope")
        waiting = await serving.start(simple(WAIT, targets=("t2",)))
        await serving.until(waiting, lambda status: status.get("Waiting"))
        # Nobody knows yet which targets it will have.
        assert (await serving.status(waiting, target="t2"))["Name"] == "job"


async def test_a_blank_target_asks_for_none(lab: Lab) -> None:
    async with lab.server() as serving:
        await serving.run(simple(step("echo", text="x")))
        [run] = (await serving.status(1, target=" "))["RunStatuses"]
        assert run["TestStatuses"][0]["TargetStatuses"] is None


Part = dict[str, Any]
ALL: dict[str, Part] = {
    "`run`": {"run": 1},
    "`test`": {"test": "a"},
    "`target`": {"target": "t001"},
    "`events`": {"events": False},
}


async def told(serving: Serving, job: int, **part: Any) -> set[str]:
    """What the error of a status that is too large says to ask for: all of it is answered."""
    with pytest.raises(TooLarge) as error:
        await serving.status(job, **part)
    hint = error.value.message.partition("; ")[2]
    found = {name for name in ALL if name in hint}
    assert found or hint == "there is no smaller part"
    for name in found:
        await serving.status(job, **{**part, **ALL[name]})
    return found


@pytest.mark.usefixtures("forgetful")
async def test_what_an_error_says_to_ask_for_is_small_enough(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def limit(size: float) -> None:
        monkeypatch.setattr(status_parts, "MAX_ANSWER_BYTES", int(size))

    names = [f"t{number:03}" for number in range(300)]
    async with lab.server() as serving:
        job = await serving.start(job_of(one_test(step("echo", text="x"), name="a", targets=names)))
        await serving.ended(job)
        whole = await size(serving, job)
        limit(whole * 0.75)
        assert await told(serving, job) == set(ALL)
        limit(whole * 0.25)
        assert await told(serving, job) == {"`target`"}
        assert await told(serving, job, run=1) == {"`target`"}
        assert await told(serving, job, events=False) == {"`target`"}
        limit(10)
        with pytest.raises(TooLarge, match="there is no smaller part"):
            await serving.status(job, target="t001")


@pytest.mark.usefixtures("forgetful")
async def test_of_a_job_of_many_runs_and_tests_an_error_says_to_ask_for_one(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"t{number:03}" for number in range(10)]
    fails = step("cmd", executable="false")
    async with lab.server() as serving:
        many = [one_test(fails, name=name, targets=names) for name in "abcd"]
        job = await serving.start(job_of(*many, Runs=2))
        await serving.ended(job)
        whole = await size(serving, job)
        run = whole / 3
        monkeypatch.setattr(status_parts, "MAX_ANSWER_BYTES", int(run * 1.2))
        assert await told(serving, job) >= {"`run`", "`test`", "`target`"}
        monkeypatch.setattr(status_parts, "MAX_ANSWER_BYTES", int(run * 0.6))
        assert "`run`" not in await told(serving, job)
        assert "`events`" in await told(serving, job, run=1)
