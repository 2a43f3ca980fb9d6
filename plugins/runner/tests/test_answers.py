"""Statuses and lists: parts on request, the same before and after a restart, whole while runs come and go."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from contest_core import EventListMsg, EventStatusMsg, JobQuery, JobState, ListResponse
from contest_runner.store.batch import Batch
from contest_runner.store.transaction import Outcome, Transactor
from contest_runner.testing import Lab, Serving, job_of, one_test, simple, step


async def test_a_status_is_the_same_after_a_restart(lab: Lab) -> None:
    job = job_of(
        one_test(step("cmd", executable="false"), step("echo", text="x"), name="a", targets=("t1", "t2")),
        one_test(
            step("echo", text="x"), name="b", targets=({"ID": "t3", "FQDN": "f", "TMS": [1, {"a": 1.50}]},)
        ),
        Runs=2,
    )
    async with lab.server() as serving:
        number = await serving.start(job)
        await serving.ended(number)
        before = await serving.status(number)
        part = await serving.status(number, run=1, test="a", target="t2", events=False)
    async with lab.server() as serving:
        assert await serving.status(number) == before
        assert await serving.status(number, run=1, test="a", target="t2", events=False) == part
    [run] = part["RunStatuses"]
    [test] = run["TestStatuses"]
    assert [entry["Target"]["ID"] for entry in test["TargetStatuses"]] == ["t2"]
    assert test["TargetStatuses"][0].get("Events") is None
    assert test["TargetStatuses"][0]["Error"]


async def test_no_run_is_missing_from_a_status_while_runs_come_and_go(lab: Lab) -> None:
    async with lab.server() as serving:
        job = await serving.start(simple(step("sleep", duration="5ms"), Runs=15))
        seen = 0
        while True:
            status = await serving.status(job)
            runs = [run["RunID"] for run in status["RunStatuses"] or ()]
            assert runs == list(range(1, len(runs) + 1))
            assert len(runs) >= seen
            seen = len(runs)
            if status["EndTime"]:
                break
        assert seen == 15


async def test_a_list_of_more_tags_or_states_than_anybody_means_is_refused_and_says_the_limit(
    lab: Lab,
) -> None:
    job = simple(step("echo", text="x"), Tags=[f"t{number}" for number in range(64)])
    async with lab.server() as serving:

        async def found(**query: Any) -> ListResponse:
            return await serving.api.list(serving.caller, JobQuery(**query))

        await serving.run(job)
        tags = tuple(f"t{number}" for number in range(100_000))
        assert (await found(tags=tags[:64])).result().job_ids == [1]
        states = (JobState.COMPLETED,) * 64
        assert (await found(states=states)).result().job_ids == [1]
        for many in (tags[:65], tags):
            error = (await found(tags=many)).error
            assert error is not None
            assert error.message == f"{len(many):,} tags are asked for, the limit is 64"
            assert (error.code, error.row.http) == ("invalid_parameters", 200)
        error = (await found(states=(*states, JobState.FAILED))).error
        assert error is not None
        assert error.message == "65 states are asked for, the limit is 64"


async def test_what_is_kept_is_at_hand_until_a_job_changes(lab: Lab) -> None:
    async with lab.server() as serving:
        caller = serving.server.api.caller(listener="test", peer="test", requestor="me")
        query = EventListMsg(requestor="me", query=JobQuery())
        number = await serving.start(simple(step("echo", text="x")))
        whole = EventStatusMsg(requestor="me", job_id=number)
        await serving.ended(number)
        manager = serving.server.manager
        for message, ask in (
            (query, lambda: serving.server.api.call(caller, "list", {})),
            (whole, lambda: serving.server.api.call(caller, "status", {"jobID": number})),
        ):
            answer = (await ask()).result()
            assert manager.at_hand(message, caller) == answer
        assert manager.at_hand(EventStatusMsg(requestor="me", job_id=99), caller) is None
        await serving.start(simple(step("echo", text="x")))
        assert manager.at_hand(query, caller) is None
        assert manager.at_hand(whole, caller) is not None


class Held:
    """The store's thread stands still around the commit of an event: before it, or before the loop hears of it."""

    def __init__(self, patch: pytest.MonkeyPatch, event: str) -> None:
        self._about_to = threading.Event()
        self._commit = threading.Event()
        self._committed = threading.Event()
        self.let_go = threading.Event()
        execute = Transactor.execute

        def held(transactor: Transactor, batch: Batch) -> Outcome:
            if event not in batch.cells:
                return execute(transactor, batch)
            self._about_to.set()
            assert self._commit.wait(20)
            outcome = execute(transactor, batch)
            self._committed.set()
            assert self.let_go.wait(20)
            return outcome

        patch.setattr(Transactor, "execute", held)

    async def about_to_commit(self) -> None:
        assert await asyncio.to_thread(self._about_to.wait, 20)

    async def committed(self) -> None:
        self._commit.set()
        assert await asyncio.to_thread(self._committed.wait, 20)


async def listed(serving: Serving) -> list[str]:
    found = (await serving.api.list(serving.caller, JobQuery())).result().jobs or ()
    return [entry.state_name for entry in found]


async def test_who_has_seen_the_end_of_a_job_is_told_its_verdict(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(monkeypatch, "JobStateCompleted")
    async with lab.server() as serving:
        job = await serving.start(simple(step("sleep", duration="50ms")))
        await held.about_to_commit()
        try:
            assert (await serving.status(job))["State"] == "JobStateStarted"
            assert await listed(serving) == ["JobStateStarted"]
            await held.committed()
            async with asyncio.timeout(10), serving.api.watch(serving.caller, job_id=job) as watch:
                seen = [event async for event in watch]
            assert seen[-1].data.event_name == "JobStateCompleted"
            status = await serving.status(job)
            assert (status["State"], status["Verdict"]) == ("JobStateCompleted", "passed")
            assert await listed(serving) == ["JobStateCompleted"]
        finally:
            held.let_go.set()


async def test_who_has_seen_that_a_job_is_stopped_finds_it_so_in_the_list(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(monkeypatch, "JobStateCancelling")
    async with lab.server() as serving:
        job = await serving.start(simple(step("sleep", duration="30s")))
        stopping = asyncio.create_task(serving.api.stop(serving.caller, job))
        await held.about_to_commit()
        try:
            assert await listed(serving) == ["JobStateStarted"]
            await held.committed()
            assert await listed(serving) == ["JobStateCancelling"]
        finally:
            held.let_go.set()
        assert (await stopping).error is None
