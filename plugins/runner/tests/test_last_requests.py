"""Requests that are open when the server ends: answered, refused as having done nothing, or told what may be."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from contest_core import (
    ContestError,
    EventListMsg,
    EventLocksMsg,
    EventRetryMsg,
    EventStartMsg,
    EventStatusMsg,
    EventStopMsg,
    EventValidateMsg,
    EventWatchMsg,
    JobQuery,
    ShuttingDown,
    Termination,
    Unavailable,
)
from contest_runner.descriptor import read_descriptor
from contest_runner.manager import LocalJobManager
from contest_runner.store import StoreClosed, StoreError, StoreFailed
from contest_runner.testing import Lab, Serving, eventually, simple, step

JOB = json.dumps(simple(step("echo", text="x")))

VERBS: dict[str, Any] = {
    "start": EventStartMsg(requestor="me", job_descriptor=JOB),
    "stop": EventStopMsg(requestor="me", job_id=1),
    "status": EventStatusMsg(requestor="me", job_id=1),
    "retry": EventRetryMsg(requestor="me", job_id=1),
    "list": EventListMsg(requestor="me", query=JobQuery()),
}
"""Those that ask the store, each with a message."""


class Gate:
    """Holds whoever comes until it is opened."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()

    def before(self, call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def held(*arguments: Any, **named: Any) -> Any:
            await self._pass()
            return await call(*arguments, **named)

        return held

    def behind(self, call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def held(*arguments: Any, **named: Any) -> Any:
            found = await call(*arguments, **named)
            await self._pass()
            return found

        return held

    async def _pass(self) -> None:
        self.reached.set()
        await self.opened.wait()


async def verb(serving_or_manager: Serving | LocalJobManager, name: str, caller: Any) -> Any:
    manager = getattr(serving_or_manager, "manager", serving_or_manager)
    return await getattr(manager, name)(VERBS[name], caller)


@pytest.mark.parametrize("how", [Termination.DRAIN, Termination.CANCEL])
async def test_a_job_that_is_being_written_down_when_the_end_comes_is_answered_and_ends(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, how: Termination
) -> None:
    gate = Gate()
    async with lab.server() as serving:
        monkeypatch.setattr(serving.store, "create_job", gate.before(serving.store.create_job))
        starting = asyncio.create_task(serving.start(JOB))
        await gate.reached.wait()
        serving.server.terminate(how)
        await asyncio.sleep(0)
        gate.opened.set()
        assert await starting == 1
        await serving.server.wait()
    async with lab.server() as serving:
        assert (await serving.entry(1))["Verdict"] == ("passed" if how is Termination.DRAIN else "cancelled")


async def test_a_start_that_is_still_being_read_when_the_server_has_ended_does_nothing(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate()
    monkeypatch.setattr("contest_runner.manager.read_descriptor", gate.behind(read_descriptor))
    async with lab.server() as serving:
        starting = asyncio.create_task(serving.start(JOB))
        await gate.reached.wait()
        serving.server.terminate(Termination.DRAIN)
        await eventually(lambda: serving.manager._idle, "the end of the job manager")
        gate.opened.set()
        with pytest.raises(ShuttingDown):
            await starting
    async with lab.server() as serving:
        assert await serving.store.jobs() == []


async def test_a_job_that_was_written_down_too_late_to_begin_is_told_of_and_taken_on_by_the_next_server(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate()
    async with lab.server() as serving:
        monkeypatch.setattr(serving.store, "create_job", gate.behind(serving.store.create_job))
        starting = asyncio.create_task(serving.start(JOB))
        await gate.reached.wait()
        monkeypatch.setattr(serving.manager, "_idle", True)  # as after a fault, which waits for nobody
        gate.opened.set()
        with pytest.raises(ContestError, match="the job may exist: `list` shows it") as told:
            await starting
        assert told.value.code == "interrupted"
    async with lab.server() as serving:
        assert (await serving.ended(1))["Verdict"] == "passed"


@pytest.mark.parametrize("name", VERBS)
async def test_what_asks_a_store_that_is_closed_is_refused_as_by_a_server_that_ends(
    lab: Lab, name: str
) -> None:
    async with lab.server(at_exit=Termination.DRAIN) as serving:
        await serving.start(JOB)
    with pytest.raises(ShuttingDown):
        await verb(serving, name, serving.caller)


async def test_a_watch_of_a_store_that_is_closed_is_refused_when_it_is_entered(lab: Lab) -> None:
    async with lab.server(at_exit=Termination.DRAIN) as serving:
        await serving.start(JOB)
    with pytest.raises(ShuttingDown):
        async with serving.manager.watch(EventWatchMsg(requestor="me", job_id=1), serving.caller):
            pass


async def test_what_does_not_ask_the_store_is_answered_to_the_last(lab: Lab) -> None:
    async with lab.server() as serving:
        pass
    manager, caller = serving.manager, serving.caller
    message = EventValidateMsg(requestor="me", job_descriptor=JOB)
    assert (await manager.validate(message, caller)).findings == []
    assert (await manager.locks(EventLocksMsg(requestor="me"), caller)).locks == []


@pytest.mark.parametrize("name", VERBS)
async def test_a_store_that_fails_is_told_as_one_that_is_away(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    async def failing(*_: Any, **__: Any) -> Any:
        raise StoreFailed("disk image is malformed")

    async with lab.server() as serving:
        for method in ("read", "write", "request"):
            monkeypatch.setattr(serving.store, method, failing)
        with pytest.raises(Unavailable, match=r"the store is not available: .*disk image is malformed"):
            await verb(serving, name, serving.caller)
        monkeypatch.undo()


@pytest.mark.parametrize(
    ("error", "code"), [(StoreClosed(), "shutting_down"), (StoreError("gone"), "unavailable")]
)
async def test_a_client_gets_the_code_and_the_log_no_traceback(
    lab: Lab,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: StoreError,
    code: str,
) -> None:
    async def failing(*_: Any) -> Any:
        raise error

    async with lab.server() as serving:
        monkeypatch.setattr(serving.store, "read", failing)
        with pytest.raises(ContestError) as refused:
            await serving.api.call(serving.caller, "status", {"jobID": "1"})
        assert refused.value.code == code
        monkeypatch.undo()
    assert not [record for record in caplog.records if record.exc_info]
