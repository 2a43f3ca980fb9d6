"""A server's life: ready when entered, ended in one order on every path, nothing left behind."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from msgspec import Struct

from contest_core import (
    API,
    AnswerTimeout,
    Authenticator,
    Bearer,
    Caller,
    ContestError,
    Credentials,
    EncodedJSON,
    Event,
    EventListMsg,
    EventMsg,
    EventStartMsg,
    EventStatusMsg,
    EventType,
    Exposed,
    InternalError,
    Interrupted,
    JobManager,
    JobManagerContext,
    JobQuery,
    JobState,
    Listener,
    ListenerContext,
    ListenerOptions,
    Overloaded,
    Principal,
    ResponseDataList,
    ResponseDataStart,
    ResponseDataStatus,
    ServerOptions,
    ShuttingDown,
    StartError,
    Termination,
    UnknownJob,
    Vouched,
    open_server,
)
from contest_core.answering import Answering
from contest_core.exposure import is_local
from contest_core.lifecycle import Server
from contest_core.testing.clock import VirtualClock
from contest_core.testing.direct import DirectListener
from contest_core.testing.memory import MemoryJobManager

DESCRIPTOR = '{"JobName": "j"}'


class Nothing(Struct):
    """No settings."""


class Manager(JobManager):
    """Writes down what is said to it; ends when told, after `work` seconds or at a harder word."""

    Settings = Nothing

    def __init__(
        self,
        log: list[str],
        *,
        work: float = 0.0,
        before_ready: Callable[[], Any] | None = None,
        serving: Callable[[JobManagerContext], Any] | None = None,
    ) -> None:
        super().__init__(None)
        self.log = log
        self.work = work
        self.before_ready = before_ready
        self.serving = serving
        self.context: JobManagerContext | None = None
        self.release = asyncio.Event()

    def capabilities(self) -> frozenset[str]:
        return frozenset({"start", "stop", "status", "list", "watch"})

    async def serve(self, context: JobManagerContext) -> None:
        self.context = context
        try:
            if self.before_ready is not None:
                await self.before_ready()
            context.ready()
            if self.serving is not None:
                await self.serving(context)
                return
            how = await context.stopping()
            self.log.append(f"told {how.name.lower()}")
            try:
                async with asyncio.timeout(self.work):
                    self.log.append(f"told {(await context.harder()).name.lower()}")
            except TimeoutError:
                pass
        finally:
            self.log.append("manager ended")

    async def start(self, message: EventStartMsg, caller: Caller) -> ResponseDataStart:
        await self.release.wait()
        return ResponseDataStart(job_id=1)

    async def status(self, message: EventStatusMsg, caller: Caller) -> ResponseDataStatus | EncodedJSON:
        return ResponseDataStatus(status=None)

    async def list(self, message: EventListMsg, caller: Caller) -> ResponseDataList | EncodedJSON:
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.log.append("list cancelled")
            raise
        return ResponseDataList(job_ids=[])


class Probe(Listener):
    """Writes down its life; `before_ready` and `serving` are what happens in it."""

    Settings = Nothing

    def __init__(
        self,
        log: list[str],
        name: str = "probe",
        *,
        before_ready: Callable[[], Any] | None = None,
        serving: Callable[[API, ListenerContext], Any] | None = None,
        finishing: Callable[[], Any] | None = None,
    ) -> None:
        super().__init__(None)
        self.log = log
        self.name = name
        self.before_ready = before_ready
        self.serving = serving
        self.finishing = finishing

    async def serve(self, api: API, context: ListenerContext) -> None:
        try:
            if self.before_ready is not None:
                await self.before_ready()
            context.ready(f"test:{self.name}")
            if self.serving is not None:
                await self.serving(api, context)
                return
            await context.stopping()
            self.log.append(f"{self.name} stopping")
            if self.finishing is not None:
                await self.finishing()
        except asyncio.CancelledError:
            self.log.append(f"{self.name} cancelled")
            raise
        finally:
            self.log.append(f"{self.name} ended")


def raising(error: BaseException) -> Callable[..., Any]:
    async def serving(*_: object) -> None:
        raise error

    return serving


def raising_later(error: BaseException) -> Callable[..., Any]:
    async def serving(*_: object) -> None:
        await asyncio.sleep(1)
        raise error

    return serving


async def nothing(*_: object) -> None:
    """Returns at once."""


async def forever(*_: object) -> None:
    await asyncio.get_running_loop().create_future()


MESSAGES: dict[str, EventMsg] = {
    "list": EventListMsg(requestor="me", query=JobQuery()),
    "start": EventStartMsg(requestor="me", job_descriptor=DESCRIPTOR),
}


def make_event(api: API, kind: EventType, **more: Any) -> Event:
    return Event(
        context=api.caller(listener="test", peer="here", requestor="me"),
        type=kind,
        server_id=api.server_id,
        response=asyncio.get_running_loop().create_future(),
        **more,
    )


async def open_and_wait(
    manager: JobManager, listeners: Mapping[str, Listener], begin: Callable[[], None] = lambda: None
) -> None:
    async with open_server(manager, listeners=listeners) as server:
        begin()
        await server.wait()


def caller_of(server: Server) -> Caller:
    return server.api.caller(listener="test", peer="here", requestor="me")


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.fixture
def log() -> list[str]:
    return []


@pytest.fixture(autouse=True)
async def no_task_left(clock: VirtualClock) -> AsyncIterator[None]:
    """Virtual time for all; and when a test ends, no task lives but its own."""
    before = asyncio.all_tasks()
    yield
    left = {task for task in asyncio.all_tasks() - before if not task.done()} - {asyncio.current_task()}
    assert not left


ORDER = ["told cancel", "manager ended", "probe stopping", "probe ended"]


# --- the start


async def test_a_server_is_ready_when_it_is_entered(log: list[str]) -> None:
    async with open_server(Manager(log), listeners={"probe": Probe(log)}) as server:
        assert server.readiness() is None
        assert server.addresses == {"probe": ("test:probe",)}
        assert (await server.api.status(caller_of(server), 1)).error is None
    assert log == ORDER


async def test_what_a_job_manager_offers_is_asked_for_whenever_it_is_ready(log: list[str]) -> None:
    offered = frozenset[str]()
    changed = asyncio.Event()

    class Changing(Manager):
        def capabilities(self) -> frozenset[str]:
            return offered

    async def serving(context: JobManagerContext) -> None:
        await changed.wait()
        context.ready()
        changed.clear()
        await context.stopping()

    async def before_ready() -> None:
        nonlocal offered
        offered = frozenset({"list"})

    manager = Changing(log, before_ready=before_ready, serving=serving)
    async with open_server(manager, listeners={"probe": Probe(log)}) as server:
        assert server.api.version().result().capabilities == ["list"]
        offered = frozenset({"status"})
        changed.set()
        while changed.is_set():
            await asyncio.sleep(0)
        assert server.api.version().result().capabilities == ["status"]
        assert (await server.api.status(caller_of(server), 1)).error is None


async def test_no_listener_is_fine(log: list[str]) -> None:
    async with open_server(Manager(log)) as server:
        assert server.readiness() is None
    assert log == ORDER[:2]


async def test_entering_waits_for_the_job_manager_and_then_for_every_listener(
    clock: VirtualClock, log: list[str]
) -> None:
    def after(seconds: float, word: str) -> Callable[[], Any]:
        async def wait() -> None:
            await asyncio.sleep(seconds)
            log.append(word)

        return wait

    slow = {name: Probe([], name, before_ready=after(s, name)) for name, s in (("a", 3), ("b", 1))}
    async with open_server(Manager([], before_ready=after(5, "manager")), listeners=slow):
        assert clock.now == pytest.approx(8)
        assert log == ["manager", "b", "a"]


@pytest.mark.parametrize("other", ["before", "after"])
async def test_a_listener_that_fails_to_start_ends_the_start_at_once_and_is_named(
    other: str, clock: VirtualClock, log: list[str]
) -> None:
    slow = Probe(log, "slow", before_ready=forever)
    listeners = {"busy": Probe(log, "busy", before_ready=raising(OSError("address in use")))}
    listeners = {"slow": slow, **listeners} if other == "before" else {**listeners, "slow": slow}
    with pytest.raises(StartError, match=r"listener busy: address in use") as failed:
        async with open_server(Manager(log), listeners=listeners):
            pytest.fail("it was entered")
    assert isinstance(failed.value.__cause__, OSError)
    assert failed.value.exit_code == 3
    assert "told cancel" in log
    # What never was ready has nothing to finish, and waits for no word.
    assert clock.now <= ServerOptions().grace


async def test_a_listener_that_would_be_exposed_fails_the_start_with_that_error(log: list[str]) -> None:
    def exposed(*_: object) -> Any:
        raise Exposed(listener="probe", where="0.0.0.0")

    with pytest.raises(Exposed):
        async with open_server(Manager(log), listeners={"probe": Probe(log, before_ready=exposed)}):
            pytest.fail("it was entered")


@pytest.mark.parametrize("how", [nothing, raising(asyncio.CancelledError())])
async def test_a_listener_that_ends_before_it_is_ready_fails_the_start(
    how: Callable[..., Any], log: list[str]
) -> None:
    class Ends(Probe):
        async def serve(self, api: API, context: ListenerContext) -> None:
            await how()

    with pytest.raises(StartError, match="listener odd ended before it was ready"):
        async with open_server(Manager(log), listeners={"odd": Ends(log), "probe": Probe(log)}):
            pytest.fail("it was entered")
    assert log == ORDER


async def test_listeners_that_are_not_ready_in_time_fail_the_start_and_are_named(
    clock: VirtualClock, log: list[str]
) -> None:
    listeners = {name: Probe(log, name, before_ready=forever) for name in ("a", "b")}
    listeners["fine"] = Probe(log, "fine")
    with pytest.raises(StartError, match=r"listener a, listener b was not ready within 5 s"):
        async with open_server(Manager(log), listeners=listeners, options=ServerOptions(start_timeout=5)):
            pytest.fail("it was entered")
    assert {"a cancelled", "b cancelled", "fine ended"} <= set(log)
    assert clock.now == pytest.approx(5 + ServerOptions().grace)


async def test_a_job_manager_that_raises_before_it_is_ready_fails_the_start_with_that_error(
    log: list[str],
) -> None:
    with pytest.raises(OSError, match="locked"):
        async with open_server(
            Manager(log, before_ready=raising(OSError("locked"))), listeners={"probe": Probe(log)}
        ):
            pytest.fail("it was entered")
    assert log == ["manager ended"]


async def test_a_job_manager_that_ends_before_it_is_ready_fails_the_start(log: list[str]) -> None:
    class Ends(Manager):
        async def serve(self, context: JobManagerContext) -> None:
            return

    with pytest.raises(StartError, match="job manager ended before it was ready"):
        async with open_server(Ends(log)):
            pytest.fail("it was entered")


async def test_a_job_manager_that_ends_while_listeners_start_fails_the_start(log: list[str]) -> None:
    with pytest.raises(StartError, match="the job manager ended before the server was ready"):
        async with open_server(
            Manager(log, serving=nothing), listeners={"slow": Probe(log, before_ready=forever)}
        ):
            pytest.fail("it was entered")


async def test_a_job_manager_that_is_stuck_before_it_is_ready_is_cancelled(
    clock: VirtualClock, log: list[str]
) -> None:
    with pytest.raises(StartError, match="job manager was not ready within 5 s"):
        async with open_server(
            Manager(log, before_ready=forever), options=ServerOptions(start_timeout=5, grace=2)
        ):
            pytest.fail("it was entered")
    assert clock.now == pytest.approx(7)


async def test_a_job_manager_that_is_not_ready_in_time_says_what_it_lacked(
    clock: VirtualClock, log: list[str]
) -> None:
    class Stuck(Manager):
        async def serve(self, context: JobManagerContext) -> None:
            context.degraded("the disk is full")
            await forever()

    with pytest.raises(StartError, match=r"job manager \(the disk is full\) was not ready within 5 s"):
        async with open_server(Stuck(log), options=ServerOptions(start_timeout=5, grace=2)):
            pytest.fail("it was entered")


async def test_an_opener_that_is_cancelled_during_the_start_leaves_nothing(
    clock: VirtualClock, log: list[str]
) -> None:
    async def open_it() -> None:
        async with open_server(Manager(log), listeners={"slow": Probe(log, "slow", before_ready=forever)}):
            pytest.fail("it was entered")

    task = asyncio.create_task(open_it())
    await settle()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert log == ["told cancel", "manager ended", "slow cancelled", "slow ended"]
    assert clock.now <= ServerOptions().grace


class Door(Authenticator):
    Settings = Nothing

    def __init__(self, log: list[str], entering: Callable[[], Any] = nothing) -> None:
        super().__init__(None)
        self.log = log
        self.entering = entering

    async def __aenter__(self) -> Door:
        await self.entering()
        self.log.append("door opened")
        return self

    async def __aexit__(self, *_: object) -> None:
        self.log.append("door closed")

    async def authenticate(self, credentials: Credentials, peer: str) -> Principal | None:
        return Principal(name="alice") if credentials == Bearer(token="t") else None


async def test_authenticators_open_before_all_and_close_after_all(log: list[str]) -> None:
    async with open_server(Manager(log), listeners={"probe": Probe(log)}, authenticators=[Door(log)]):
        assert log == ["door opened"]
    assert log == ["door opened", *ORDER, "door closed"]


async def test_an_authenticator_that_cannot_open_fails_the_start(log: list[str]) -> None:
    with pytest.raises(OSError, match="no such file"):
        async with open_server(Manager(log), authenticators=[Door(log, raising(OSError("no such file")))]):
            pytest.fail("it was entered")
    with pytest.raises(StartError, match="authenticator Door was not ready within 30 s"):
        async with open_server(Manager(log), authenticators=[Door(log, forever)]):
            pytest.fail("it was entered")
    assert log == []


async def test_a_server_id_that_is_too_long_is_refused_before_anything_starts(log: list[str]) -> None:
    with pytest.raises(ValueError, match="server ID is too long"):
        async with open_server(Manager(log), options=ServerOptions(server_id="s" * 65)):
            pytest.fail("it was entered")
    assert log == []


# --- the end, by every path


@pytest.mark.parametrize("how", list(Termination))
async def test_a_word_from_the_program_ends_the_server_in_order(how: Termination, log: list[str]) -> None:
    async with open_server(Manager(log), listeners={"probe": Probe(log)}) as server:
        server.terminate(how)
        await server.wait()
        assert log == [f"told {how.name.lower()}", *ORDER[1:]]


async def test_leaving_says_what_the_options_say(log: list[str]) -> None:
    options = ServerOptions(at_exit=Termination.DRAIN)
    async with open_server(Manager(log), listeners={"probe": Probe(log)}, options=options):
        pass
    assert log == ["told drain", *ORDER[1:]]


async def test_a_harder_word_overtakes_and_a_softer_one_is_not_heard(
    clock: VirtualClock, log: list[str]
) -> None:
    manager = Manager(log, work=1000)
    async with open_server(manager, listeners={"probe": Probe(log)}) as server:
        server.terminate(Termination.PAUSE)
        await settle()
        server.terminate(Termination.DRAIN)
        await settle()
        assert log == ["told pause"]
        assert manager.context is not None
        assert await manager.context.stopping() is Termination.PAUSE
        server.terminate(Termination.CANCEL)
        await server.wait()
    assert log == ["told pause", *ORDER]
    assert clock.now < 1


async def test_a_harder_word_is_heard_by_who_asks_for_it_only_later(log: list[str]) -> None:
    async def serving(context: JobManagerContext) -> None:
        log.append((await context.stopping()).name)
        await asyncio.sleep(5)
        log.append((await context.harder()).name)

    async with open_server(Manager([], serving=serving)) as server:
        server.terminate(Termination.DRAIN)
        await asyncio.sleep(1)
        server.terminate(Termination.CANCEL)
        await server.wait()
    assert log == ["DRAIN", "CANCEL"]


async def test_several_may_wait_for_the_harder_word(log: list[str]) -> None:
    async def hear(context: JobManagerContext) -> None:
        log.append((await context.harder()).name)

    async def serving(context: JobManagerContext) -> None:
        await context.stopping()
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(hear(context))

    async with open_server(Manager([], serving=serving)) as server:
        server.terminate(Termination.DRAIN)
        await settle()
        server.terminate(Termination.CANCEL)
        await server.wait()
    assert log == ["CANCEL"] * 3


async def test_while_the_manager_drains_new_jobs_are_refused_and_all_else_is_answered(
    clock: VirtualClock, log: list[str]
) -> None:
    async with open_server(Manager(log, work=100), listeners={"probe": Probe(log)}) as server:
        caller = caller_of(server)
        server.terminate(Termination.DRAIN)
        await asyncio.sleep(50)
        assert server.readiness() == "shutting down"
        with pytest.raises(ShuttingDown):
            await server.api.start(caller, DESCRIPTOR)
        assert (await server.api.status(caller, 1)).error is None
        assert log == ["told drain"]
        await server.wait()
        assert clock.now == pytest.approx(100)
        with pytest.raises(ShuttingDown):
            await server.api.status(caller, 1)


async def test_the_end_of_input_of_the_only_listener_ends_the_server_and_returns_when_the_manager_has(
    log: list[str],
) -> None:
    async def serving(api: API, context: ListenerContext) -> None:
        await context.end_of_input()
        log.append("input ended")

    async with open_server(
        Manager(log, work=5), listeners={"pipe": Probe(log, "pipe", serving=serving)}
    ) as server:
        await server.wait()
    assert log == ["told drain", "manager ended", "input ended", "pipe ended"]


async def test_an_input_that_is_empty_does_not_fail_the_start(log: list[str]) -> None:
    async def serving(api: API, context: ListenerContext) -> None:
        await context.end_of_input()

    await open_and_wait(Manager(log), {"pipe": Probe(log, "pipe", serving=serving)})
    assert log == ["told drain", "manager ended", "pipe ended"]


async def test_the_end_of_input_ends_as_the_listeners_options_say(log: list[str]) -> None:
    async def serving(api: API, context: ListenerContext) -> None:
        await context.end_of_input()

    async with open_server(
        Manager(log),
        listeners={"pipe": Probe(log, "pipe", serving=serving)},
        listener_options={"pipe": ListenerOptions(on_disconnect=Termination.PAUSE)},
    ) as server:
        await server.wait()
    assert log[0] == "told pause"


async def test_the_end_of_input_beside_other_listeners_ends_that_one_alone(log: list[str]) -> None:
    async def serving(api: API, context: ListenerContext) -> None:
        await context.end_of_input()

    pipe = Probe(log, "pipe", serving=serving)
    async with open_server(Manager(log), listeners={"pipe": pipe, "probe": Probe(log)}) as server:
        await settle()
        assert log == ["pipe ended"]
        assert server.readiness() is None
    assert log == ["pipe ended", *ORDER]


async def test_the_last_of_several_inputs_that_ends_ends_the_server(log: list[str]) -> None:
    second = asyncio.Event()

    def serving(until: asyncio.Event | None) -> Callable[[API, ListenerContext], Any]:
        async def serve(api: API, context: ListenerContext) -> None:
            if until is not None:
                await until.wait()
            await context.end_of_input()

        return serve

    listeners = {"a": Probe(log, "a", serving=serving(None)), "b": Probe(log, "b", serving=serving(second))}
    async with open_server(Manager(log), listeners=listeners) as server:
        await settle()
        assert log == ["a ended"]
        second.set()
        await server.wait()
    assert log == ["a ended", "told drain", "manager ended", "b ended"]


async def test_a_listener_that_returns_later_ends_alone(log: list[str]) -> None:
    listeners = {"short": Probe(log, "short", serving=nothing), "probe": Probe(log)}
    async with open_server(Manager(log), listeners=listeners) as server:
        await settle()
        assert log == ["short ended"]
        assert server.readiness() is None
        assert (await server.api.status(caller_of(server), 1)).error is None
    assert log == ["short ended", *ORDER]


async def test_a_listener_that_has_returned_is_no_other_beside_the_last(log: list[str]) -> None:
    async def serving(api: API, context: ListenerContext) -> None:
        await asyncio.sleep(1)
        await context.end_of_input()

    listeners = {"short": Probe(log, "short", serving=nothing), "pipe": Probe(log, "pipe", serving=serving)}
    await open_and_wait(Manager(log), listeners)
    assert log == ["short ended", "told drain", "manager ended", "pipe ended"]


async def test_a_listener_that_raises_later_ends_the_server_with_that_error(log: list[str]) -> None:
    fault = asyncio.Event()

    async def serving(api: API, context: ListenerContext) -> None:
        await fault.wait()
        raise OSError("the card was pulled out")

    listeners = {"odd": Probe(log, "odd", serving=serving), "probe": Probe(log)}
    with pytest.raises(OSError, match="pulled out"):
        await open_and_wait(Manager(log), listeners, begin=fault.set)
    assert log == ["odd ended", *ORDER]


async def test_a_job_manager_that_returns_ends_the_server_in_order(log: list[str]) -> None:
    end = asyncio.Event()

    async def serving(context: JobManagerContext) -> None:
        await end.wait()

    async with open_server(Manager(log, serving=serving), listeners={"probe": Probe(log)}) as server:
        end.set()
        await server.wait()
        assert server.readiness() == "shutting down"
    assert log == ORDER[1:]


async def test_a_job_manager_that_raises_ends_the_server_with_that_error_in_order(log: list[str]) -> None:
    end = asyncio.Event()

    async def serving(context: JobManagerContext) -> None:
        await end.wait()
        raise OSError("the store is gone")

    with pytest.raises(OSError, match="the store is gone"):
        await open_and_wait(Manager(log, serving=serving), {"probe": Probe(log)}, begin=end.set)
    assert log == ORDER[1:]


async def test_a_fault_that_nobody_waited_for_is_raised_on_leaving(log: list[str]) -> None:
    with pytest.raises(OSError, match="gone"):
        async with open_server(Manager(log, serving=raising_later(OSError("gone")))):
            await asyncio.sleep(2)


async def test_what_the_block_raises_comes_out_as_it_is(log: list[str]) -> None:
    with pytest.raises(KeyError, match="mine"):
        async with open_server(Manager(log), listeners={"probe": Probe(log)}):
            raise KeyError("mine")
    assert log == ORDER


async def test_a_fault_beside_what_the_block_raises_is_logged(
    log: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    async def block() -> None:
        async with open_server(Manager(log, serving=raising_later(OSError("gone")))):
            await asyncio.sleep(2)
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await block()
    assert "gone" in caplog.text


async def test_a_block_that_is_cancelled_ends_the_server_in_order(log: list[str]) -> None:
    async def block() -> None:
        async with open_server(Manager(log, work=5), listeners={"probe": Probe(log)}):
            await forever()

    task = asyncio.create_task(block())
    await settle()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert log == ORDER


async def test_cancelled_once_more_it_means_now(clock: VirtualClock, log: list[str]) -> None:
    async def block() -> None:
        async with open_server(Manager(log, work=1000), listeners={"probe": Probe(log)}):
            await forever()

    task = asyncio.create_task(block())
    await settle()
    task.cancel()
    await settle()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert log[0] == "told cancel"
    assert sorted(log[1:]) == ["manager ended", "probe cancelled", "probe ended"]
    assert clock.now == 0


async def test_several_faults_are_one_error_and_lines_in_the_log(
    log: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    odd = Probe(log, "odd", finishing=raising(ValueError("second")))
    with pytest.raises(OSError, match="first"):
        await open_and_wait(Manager(log, serving=raising_later(OSError("first"))), {"odd": odd})
    assert "second" in caplog.text


# --- what is in flight at the end


async def test_what_is_in_flight_is_finished_within_the_grace(clock: VirtualClock, log: list[str]) -> None:
    manager = Manager(log)
    async with open_server(
        manager, listeners={"probe": Probe(log)}, options=ServerOptions(event_timeout=60)
    ) as server:
        start = asyncio.create_task(server.api.start(caller_of(server), DESCRIPTOR))
        await settle()
        server.terminate(Termination.CANCEL)
        asyncio.get_running_loop().call_later(5, manager.release.set)
        await server.wait()
        assert (await start).result().job_id == 1
        assert clock.now == pytest.approx(5)


async def test_what_was_taken_and_is_not_answered_when_the_grace_is_over_is_interrupted(
    clock: VirtualClock, log: list[str]
) -> None:
    options = ServerOptions(event_timeout=60, grace=10)
    async with open_server(Manager(log), listeners={"probe": Probe(log)}, options=options) as server:
        asked = [
            asyncio.create_task(server.api.start(caller_of(server), DESCRIPTOR)),
            asyncio.create_task(server.api.list(caller_of(server), JobQuery())),
        ]
        await settle()
        server.terminate(Termination.CANCEL)
        await server.wait()
        assert clock.now == pytest.approx(10)
        for task in asked:
            with pytest.raises(Interrupted):
                await task


async def test_a_listener_is_left_time_to_send_what_was_interrupted(
    clock: VirtualClock, log: list[str]
) -> None:
    listener = DirectListener()
    async with open_server(
        Manager(log), listeners={"direct": listener}, options=ServerOptions(event_timeout=60, grace=10)
    ) as server:
        asked = asyncio.create_task(
            listener.client().call("start", {"jobDesc": DESCRIPTOR, "requestor": "me"})
        )
        await settle()
        server.terminate(Termination.CANCEL)
        await server.wait()
        assert b'"Code":"interrupted"' in await asked


async def test_a_listener_is_left_time_to_send_what_was_interrupted_at_the_very_end(
    clock: VirtualClock, log: list[str]
) -> None:
    async def serving(api: API, context: ListenerContext) -> None:
        try:
            await api.start(api.caller(listener="slow", peer="p", requestor="me"), DESCRIPTOR)
        except Interrupted:
            await asyncio.sleep(0.5)
            log.append("sent")

    options = ServerOptions(event_timeout=60, grace=10)
    listeners = {"slow": Probe(log, "slow", serving=serving)}
    async with open_server(Manager(log), listeners=listeners, options=options):
        await settle()
    assert log[-2:] == ["sent", "slow ended"]
    assert clock.now == pytest.approx(10.5)


async def test_what_was_never_taken_is_shutting_down(clock: VirtualClock, log: list[str]) -> None:
    options = ServerOptions(event_timeout=60, in_flight=1, grace=10)
    async with open_server(Manager(log), options=options) as server:
        asked = [asyncio.create_task(server.api.start(caller_of(server), DESCRIPTOR)) for _ in range(3)]
        await settle()
        server.terminate(Termination.CANCEL)
        await server.wait()
        results = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(result) for result in results] == [Interrupted, ShuttingDown, ShuttingDown]


async def test_a_listener_that_does_not_finish_is_cancelled_when_the_grace_is_over(
    clock: VirtualClock, log: list[str]
) -> None:
    listeners = {"stuck": Probe(log, "stuck", finishing=forever), "probe": Probe(log)}
    async with open_server(Manager(log), listeners=listeners, options=ServerOptions(grace=10)):
        pass
    assert log[-2:] == ["stuck cancelled", "stuck ended"]
    assert clock.now == pytest.approx(10)


async def test_requests_in_flight_when_it_is_cancelled_now_are_interrupted(log: list[str]) -> None:
    servers: list[Server] = []

    async def block() -> None:
        async with open_server(Manager(log, work=1000), options=ServerOptions(event_timeout=60)) as server:
            servers.append(server)
            await forever()

    task = asyncio.create_task(block())
    await settle()
    asked = [asyncio.create_task(servers[0].api.start(caller_of(servers[0]), DESCRIPTOR)) for _ in range(2)]
    await settle()
    # The second has been taken, but its task has not had a first step.
    asked.append(asyncio.create_task(servers[0].api.start(caller_of(servers[0]), DESCRIPTOR)))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    results = await asyncio.gather(*asked, return_exceptions=True)
    assert {type(result) for result in results} <= {Interrupted, ShuttingDown}


# --- answering


async def test_a_slow_answer_delays_nothing_else(log: list[str]) -> None:
    manager = Manager(log)
    async with open_server(manager) as server:
        slow = asyncio.create_task(server.api.start(caller_of(server), DESCRIPTOR))
        await settle()
        assert (await server.api.status(caller_of(server), 1)).error is None
        assert not slow.done()
        manager.release.set()
        await slow


async def test_no_more_than_in_flight_are_open_and_the_next_waits_for_room(
    clock: VirtualClock, log: list[str]
) -> None:
    manager = Manager(log)
    async with open_server(manager, options=ServerOptions(in_flight=2)) as server:
        caller = caller_of(server)
        asked = [asyncio.create_task(server.api.start(caller, DESCRIPTOR)) for _ in range(2)]
        await settle()
        with pytest.raises(Overloaded):
            await server.api.status(caller, 1)
        # The two have timed out meanwhile, but what changes something is not cancelled and keeps its place.
        for task in asked:
            with pytest.raises(AnswerTimeout):
                await task
        waiting = asyncio.create_task(server.api.status(caller, 1))
        await settle()
        assert not waiting.done()
        manager.release.set()
        assert (await waiting).error is None


@pytest.mark.parametrize("in_flight", [1, 2, 3])
async def test_every_place_is_given_back(in_flight: int, log: list[str]) -> None:
    manager = Manager(log)
    async with open_server(manager, options=ServerOptions(in_flight=in_flight)) as server:
        caller = caller_of(server)
        for _ in range(5):
            gone = [asyncio.create_task(server.api.list(caller, JobQuery())) for _ in range(4)]
            await asyncio.sleep(0)
            for task in gone:
                task.cancel()
            await asyncio.wait(gone)
        await settle()
        manager.release.set()
        async with asyncio.timeout(1):
            await asyncio.gather(*(server.api.list(caller, JobQuery()) for _ in range(10)))
        assert server._answering._open == {}


async def test_when_its_caller_goes_away_what_reads_is_cancelled_and_what_changes_something_is_not(
    log: list[str],
) -> None:
    manager = Manager(log)
    async with open_server(manager) as server:
        reading = asyncio.create_task(server.api.list(caller_of(server), JobQuery()))
        changing = asyncio.create_task(server.api.start(caller_of(server), DESCRIPTOR))
        await settle()
        reading.cancel()
        changing.cancel()
        await settle()
        assert log == ["list cancelled"]
        assert len(server._answering._open) == 1
        manager.release.set()
        await settle()
        assert not server._answering._open


async def test_when_its_time_is_over_what_reads_is_cancelled(clock: VirtualClock, log: list[str]) -> None:
    async with open_server(Manager(log)) as server:
        with pytest.raises(AnswerTimeout, match="changes nothing"):
            await server.api.list(caller_of(server), JobQuery())
        await settle()
        assert log == ["list cancelled"]


async def test_a_fault_of_the_manager_is_logged_with_its_traceback_and_answered_as_internal(
    log: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    class Faulty(Manager):
        async def status(self, message: EventStatusMsg, caller: Caller) -> ResponseDataStatus:
            raise ZeroDivisionError("secret words")

    async with open_server(Faulty(log)) as server:
        with pytest.raises(InternalError) as raised:
            await server.api.status(
                server.api.caller(listener="t", peer="p", requestor="me", request_id="r7"), 1
            )
        assert "r7" in raised.value.message
        assert "secret" not in raised.value.message
        assert "ZeroDivisionError: secret words" in caplog.text
        assert "r7" in caplog.text
        with pytest.raises(AnswerTimeout):
            await server.api.list(caller_of(server), JobQuery())


@pytest.mark.parametrize("answer", [None, 7, {"JobID": 1}])
async def test_an_answer_that_is_none_is_a_fault_of_the_manager(
    answer: Any, log: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    class Forgetful(Manager):
        async def status(self, message: EventStatusMsg, caller: Caller) -> ResponseDataStatus:
            return answer  # type: ignore[no-any-return]

    async with open_server(Forgetful(log)) as server:
        with pytest.raises(InternalError):
            await server.api.status(caller_of(server), 1)
    assert f"the job manager answered EventTypeStatus with a {type(answer).__name__}" in caplog.text


class Quick(Manager):
    """Has one status at hand, and of another only trouble."""

    def at_hand(self, message: EventMsg, caller: Caller) -> EncodedJSON | None:
        self.log.append(f"{type(message).__name__} of {caller.requestor}")
        if isinstance(message, EventStatusMsg) and message.job_id == 7:
            return EncodedJSON(b'{"Status":null}')
        if isinstance(message, EventStatusMsg) and message.job_id == 8:
            raise UnknownJob(job_id=8)
        if isinstance(message, EventStatusMsg) and message.job_id == 9:
            raise ZeroDivisionError("secret words")
        return None

    async def status(self, message: EventStatusMsg, caller: Caller) -> ResponseDataStatus:
        self.log.append("asked")
        return ResponseDataStatus(status=None)


async def test_what_is_at_hand_is_answered_without_a_task_and_all_else_by_its_verb(log: list[str]) -> None:
    async with open_server(Quick(log)) as server:
        caller = server.api.caller(listener="t", peer="p", requestor="me")
        tasks = len(asyncio.all_tasks())
        answering = server.api.call(caller, "status", {"jobID": 7})
        with pytest.raises(StopIteration) as done:
            answering.send(None)
        assert done.value.value.data == EncodedJSON(b'{"Status":null}')
        assert len(asyncio.all_tasks()) == tasks
        assert (await server.api.status(caller, 1)).result().status is None
        assert log == ["EventStatusMsg of me", "EventStatusMsg of me", "asked"]
        with pytest.raises(AnswerTimeout):
            await server.api.start(caller, DESCRIPTOR)
        assert len(log) == 3, "what changes something is never asked for so"


async def test_what_is_raised_where_an_answer_is_looked_for_is_told_as_of_a_verb(
    log: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    async with open_server(Quick(log), options=ServerOptions(in_flight=1)) as server:
        caller = caller_of(server)
        for _ in range(3):
            assert isinstance((await server.api.status(caller, 8)).error, UnknownJob)
            with pytest.raises(InternalError):
                await server.api.status(caller, 9)
    assert "ZeroDivisionError: secret words" in caplog.text


async def test_a_verb_that_is_declared_and_not_written_is_refused_by_the_managers_name(
    log: list[str],
) -> None:
    async with open_server(Manager(log)) as server:
        response = await server.api.stop(caller_of(server), 1)
        assert response.error is not None
        assert "the job manager Manager" in response.error.message


async def test_an_event_without_a_message_harms_nobody(
    log: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    async with open_server(Manager(log)) as server:
        event = make_event(server.api, EventType.STATUS)
        with pytest.raises(InternalError):
            await server.api.send_receive_event(event)
        assert (await server.api.status(caller_of(server), 1)).error is None


async def test_a_listeners_fault_outside_a_request_is_logged_and_counted_by_either_way(
    log: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    async def serving(api: API, context: ListenerContext) -> None:
        context.report_error(OSError("a frame was torn"))
        await api.send_event(make_event(api, EventType.ERROR, err=OSError("another too")))
        await context.stopping()

    async with open_server(Manager(log), listeners={"odd": Probe(log, "odd", serving=serving)}) as server:
        await settle()
        assert server.errors_reported == 2
    assert "listener odd: a frame was torn" in caplog.text
    assert "listener test: another too" in caplog.text


async def test_faults_outside_requests_take_no_places(log: list[str]) -> None:
    async with open_server(Manager(log), options=ServerOptions(in_flight=1)) as server:
        for _ in range(3):
            event = make_event(server.api, EventType.ERROR, err=OSError("x"))
            await server.api.send_event(event)
        assert (await server.api.status(caller_of(server), 1)).error is None


async def test_what_is_withdrawn_before_its_task_began_is_not_asked_if_it_reads_and_else_is(
    log: list[str],
) -> None:
    class Asked(Manager):
        async def list(self, message: EventListMsg, caller: Caller) -> ResponseDataList:
            log.append("list")
            return ResponseDataList(job_ids=[])

        async def start(self, message: EventStartMsg, caller: Caller) -> ResponseDataStart:
            log.append("start")
            return ResponseDataStart(job_id=1)

    async with open_server(Asked(log)) as server:
        for verb, message in MESSAGES.items():
            event = make_event(server.api, EventType[verb.upper()], msg=message)
            await server.api.send_event(event)
            event.response.cancel()
            await settle()
        assert log == ["start"]


async def test_a_consumer_that_is_cancelled_interrupts_what_has_not_even_begun(clock: VirtualClock) -> None:
    api = API()
    answering = Answering(MemoryJobManager(), api.events, in_flight=10, report_error=lambda *_: None)
    run = asyncio.create_task(answering.run())
    await settle()
    caller = api.caller(listener="t", peer="p", requestor="me")
    run.cancel()
    with pytest.raises(Interrupted):
        await api.list(caller, JobQuery())
    with pytest.raises(Overloaded):
        await api.list(caller, JobQuery())
    assert run.cancelled()


async def test_a_fault_of_the_server_itself_comes_out_without_a_group(
    log: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Answering, "run", raising_later(ZeroDivisionError("ours")))
    with pytest.raises(ZeroDivisionError, match="ours"):
        await open_and_wait(Manager(log), {"probe": Probe(log)})


# --- readiness and exposure


async def test_readiness_says_what_does_not_work_until_it_does_again(
    log: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    contexts: list[ListenerContext] = []

    async def serving(api: API, context: ListenerContext) -> None:
        contexts.append(context)
        await context.stopping()

    manager = Manager(log)
    caplog.set_level(logging.INFO)
    async with open_server(manager, listeners={"bus": Probe(log, "bus", serving=serving)}) as server:
        await settle()
        assert manager.context is not None
        manager.context.degraded("the disk is full")
        contexts[0].degraded("the broker is away")
        contexts[0].degraded("the broker is away")
        assert server.readiness() == contexts[0].readiness() == "the disk is full; the broker is away"
        manager.context.ready()
        contexts[0].ready("bus:again")
        assert server.readiness() is None
        assert server.addresses == {"bus": ("bus:again",)}
    assert caplog.text.count("the broker is away") == 1
    assert caplog.text.count("ready again") == 2


@pytest.mark.parametrize(
    "where",
    [
        "127.0.0.1",
        "127.0.0.1:8080",
        "127.8.8.8",
        "localhost",
        "LOCALHOST.",
        "localhost:80",
        "::1",
        "[::1]",
        "[::1]:80",
        "::ffff:127.0.0.1",
        "/run/contest.sock",
        "unix:/run/contest.sock",
        "@abstract",
        "::1%lo",
    ],
)
def test_a_place_on_this_machine_is_local(where: str) -> None:
    assert is_local(where)


@pytest.mark.parametrize(
    "where",
    [
        "0.0.0.0",
        "0.0.0.0:80",
        "::",
        "[::]:80",
        "",
        "*",
        "10.0.0.1",
        "lab-1",
        "localhost.lab",
        "128.0.0.1",
        "2001:db8::1",
        "::ffff:10.0.0.1",
        "127.0.0.1.evil.example",
        "fe80::1%lo",
    ],
)
def test_a_place_beyond_this_machine_is_not(where: str) -> None:
    assert not is_local(where)


async def test_a_listener_may_be_exposed_where_somebody_is_authenticated_or_it_is_allowed(
    log: list[str],
) -> None:
    async def exposed(allowed: bool, doors: list[Authenticator]) -> bool:
        refused: list[Exposed] = []

        async def serving(api: API, context: ListenerContext) -> None:
            try:
                context.check_exposed("0.0.0.0")
            except Exposed as error:
                refused.append(error)
            context.check_exposed("127.0.0.1")
            await context.stopping()

        async with open_server(
            Manager([]),
            listeners={"probe": Probe([], serving=serving)},
            listener_options={"probe": ListenerOptions(allow_anonymous=allowed)},
            authenticators=doors,
        ):
            await settle()
        return not refused

    assert not await exposed(False, [])
    assert await exposed(True, [])
    assert await exposed(False, [Door([])])


async def test_the_configuration_says_which_listeners_are_trusted(log: list[str]) -> None:
    options = {"chat": ListenerOptions(trust=True)}
    async with open_server(Manager(log), listeners={"chat": Probe(log)}, listener_options=options) as server:
        vouched = Vouched(name="alice")
        trusted = await server.api.authenticate(vouched, listener="chat", peer="p")
        assert trusted == Principal(name="alice")
        assert await server.api.authenticate(vouched, listener="http", peer="p") is None


# --- the whole way in memory


@asynccontextmanager
async def in_memory() -> AsyncIterator[tuple[Server, MemoryJobManager, DirectListener]]:
    manager, listener = MemoryJobManager(), DirectListener()
    async with open_server(manager, listeners={"direct": listener}) as server:
        yield server, manager, listener


async def test_a_watch_follows_a_job_to_its_end_and_resumes_by_its_cursor() -> None:
    async with in_memory() as (server, manager, _):
        caller = caller_of(server)
        job_id = (await server.api.start(caller, DESCRIPTOR)).result().job_id
        async with server.api.watch(caller, job_id=job_id) as watch:
            first = await anext(watch)
            cursor = watch.cursor
            manager.finish(job_id)
            rest = [event async for event in watch]
        assert [event.data.event_name for event in (first, *rest)] == ["JobStateStarted", "JobStateCompleted"]  # type: ignore[union-attr]
        async with server.api.watch(caller, job_id=job_id, since=cursor) as watch:
            assert [event async for event in watch] == rest
        with pytest.raises(UnknownJob):
            async with server.api.watch(caller, job_id=99):
                pass


async def test_watches_go_on_while_the_manager_drains_and_end_with_it() -> None:
    seen: list[str] = []

    async def follow(server: Server) -> None:
        async with server.api.watch(caller_of(server)) as watch:
            async for event in watch:
                seen.append(event.data.event_name)  # type: ignore[union-attr]
        seen.append("end")

    async with in_memory() as (server, manager, _), asyncio.TaskGroup() as group:
        await server.api.start(caller_of(server), DESCRIPTOR)
        group.create_task(follow(server))
        await settle()
        server.terminate(Termination.DRAIN)
        await settle()
        assert seen == ["JobStateStarted"]
        manager.finish(1)
        await server.wait()
    assert seen == ["JobStateStarted", "JobStateCompleted", "end"]


async def test_a_cancel_stops_the_jobs_and_the_server_ends() -> None:
    async with in_memory() as (server, manager, _):
        await server.api.start(caller_of(server), DESCRIPTOR)
        server.terminate(Termination.DRAIN)
        await settle()
        server.terminate(Termination.CANCEL)
        await server.wait()
    assert manager.jobs[1].state is JobState.CANCELLED


async def test_no_exception_group_reaches_whoever_opened_the_server(log: list[str]) -> None:
    class Odd(MemoryJobManager):
        def capabilities(self) -> frozenset[str]:
            raise ContestError("no")

    with pytest.raises(ContestError, match="no"):
        async with open_server(Odd()):
            pytest.fail("it was entered")
