"""Every case of the transports' kit can fail: for each there is a listener or a client that is broken that way."""

from __future__ import annotations

import asyncio
import gc
import inspect
import json
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from contest_core import (
    API,
    Caller,
    ContestError,
    Cursor,
    Gap,
    InternalError,
    Interrupted,
    ListenerContext,
    Overloaded,
    Principal,
    ShuttingDown,
    Unsupported,
    Watch,
)
from contest_core.testing import TransportSuite
from contest_core.testing.cases import run_case

from .lines import LIMIT, Connection, LineClient, LineListener, LineSuite


class Broken(NamedTuple):
    """One that is broken, and what is said of it."""

    case: str
    suite: type[LineSuite]
    words: str
    arguments: dict[str, Any]


BROKEN: list[Broken] = []


def breaks(
    case: str, words: str, *, attributes: Mapping[str, Any] = {}, **arguments: Any
) -> Callable[[Any], Any]:
    """This listener, connection, client or API breaks the promise of that case, which says so in these words."""

    def register(kind: Any) -> Any:
        given: dict[str, Any] = dict(attributes)
        if issubclass(kind, Connection):
            given["listener_class"] = type(kind.__name__, (LineListener,), {"connection_class": kind})
        elif issubclass(kind, LineListener):
            given["listener_class"] = kind
        elif issubclass(kind, LineClient):
            given["client_class"] = kind
        else:
            wrapped = {"wrapped": lambda self, api: kind(api)}
            given["listener_class"] = type(kind.__name__, (LineListener,), wrapped)
        BROKEN.append(Broken(case, type(kind.__name__, (LineSuite,), given), words, arguments))
        return kind

    return register


class Between:
    """Stands between a listener and the API."""

    def __init__(self, api: API) -> None:
        self.api = api

    def __getattr__(self, name: str) -> Any:
        return getattr(self.api, name)


# --- what it answers


@breaks("test_it_answers_as_the_reference_listener", "unsupported", asked="stop")
class RefusesStop(Between):
    async def call(self, caller: Caller, verb: str, parameters: Mapping[str, object]) -> Any:
        if verb == "stop":
            raise Unsupported(what=verb, by="this listener")
        return await self.api.call(caller, verb, parameters)


@breaks("test_a_verb_that_there_is_not_is_refused", "unknown_verb")
class TakesAnyVerb(Between):
    async def call(self, caller: Caller, verb: str, parameters: Mapping[str, object]) -> Any:
        return await self.api.call(caller, "locks" if verb == "nope" else verb, parameters)


@breaks("test_every_error_arrives_with_its_code_and_its_words", "overloaded", which="overloaded")
class WordsOfItsOwn(Between):
    async def call(self, caller: Caller, verb: str, parameters: Mapping[str, object]) -> Any:
        try:
            return await self.api.call(caller, verb, parameters)
        except Overloaded as error:
            raise ContestError("please come again", code=error.code) from None


@breaks("test_a_fault_of_the_job_manager_is_internal_and_costs_nobody_else", "unavailable")
class NamesFaultsOtherwise(Between):
    async def call(self, caller: Caller, verb: str, parameters: Mapping[str, object]) -> Any:
        try:
            return await self.api.call(caller, verb, parameters)
        except InternalError as error:
            raise ContestError(error.message, code="unavailable") from None


@breaks("test_text_arrives_as_it_was_sent", "spaces", text=" spaces around ")
class Strips(Between):
    async def call(self, caller: Caller, verb: str, parameters: Mapping[str, Any]) -> Any:
        if verb == "start":
            descriptor = json.loads(parameters["jobDesc"])
            parameters = {**parameters, "jobDesc": json.dumps({"JobName": descriptor["JobName"].strip()})}
        return await self.api.call(caller, verb, parameters)


@breaks("test_the_job_manager_is_told_who_asks", "somebody")
class NamesItselfOtherwise(Connection):
    def caller(self) -> Caller:
        return self.api.caller(listener="somebody", peer="unix")


@breaks("test_the_job_manager_is_told_who_asks", "an ID, of its own")
class HasOneCallerAConnection(Connection):
    one: Caller | None = None

    def caller(self) -> Caller:
        self.one = self.one or super().caller()
        return self.one


@breaks("test_what_is_asked_is_kept_out_of_the_log", "swordfish")
class WritesDownWhatIsAsked(Connection):
    async def message(self, line: bytes) -> None:
        self.listener.context.log.info("asked %s", line.decode(errors="replace"))
        await super().message(line)


@breaks("test_a_token_becomes_a_principal", "unauthenticated")
class ForgetsTokens(Connection):
    async def hello(self, words: list[bytes]) -> None:
        await super().hello([])


@breaks("test_who_cannot_prove_who_they_are_is_refused", "unauthenticated")
class LetsEverybodyIn(Connection):
    async def hello(self, words: list[bytes]) -> None:
        self.principal = Principal(name="everybody")


# --- in time


@breaks("test_what_is_not_taken_in_time_is_overloaded_and_never_happens", "did not happen")
class AsksUntilItIsTaken(Between):
    async def call(self, caller: Caller, verb: str, parameters: Mapping[str, object]) -> Any:
        while True:
            with suppress(Overloaded):
                return await self.api.call(caller, verb, parameters)


@breaks("test_what_is_not_answered_in_time_is_told_so", "too late")
class HasATimeoutOfItsOwn(Between):
    async def call(self, caller: Caller, verb: str, parameters: Mapping[str, object]) -> Any:
        try:
            async with asyncio.timeout(0.1):
                return await self.api.call(caller, verb, parameters)
        except TimeoutError:
            raise ContestError("too late", code="timeout") from None


@breaks("test_a_slow_request_delays_nobody_else", "the answer to version did not happen")
class OneAfterTheOther(Between):
    def __init__(self, api: API) -> None:
        super().__init__(api)
        self.lock = asyncio.Lock()

    async def call(self, caller: Caller, verb: str, parameters: Mapping[str, object]) -> Any:
        async with self.lock:
            return await self.api.call(caller, verb, parameters)


# --- its life


@breaks("test_it_asks_whether_it_may_be_reached_before_it_can_be", "check_exposed")
class AsksNobody(LineListener):
    def check(self, context: ListenerContext) -> None:
        pass


@breaks("test_it_asks_whether_it_may_be_reached_before_it_can_be", "it was listening already")
class AsksWhenItIsTooLate(LineListener):
    def check(self, context: ListenerContext) -> None:
        with socket.socket() as early:
            early.bind(("127.0.0.1", 0))
            early.listen()
            super().check(context)


@breaks("test_refused_to_be_reached_it_ends_and_has_opened_nothing", "without serving")
class TakesNoRefusal(LineListener):
    def check(self, context: ListenerContext) -> None:
        with suppress(ContestError):
            super().check(context)


@breaks("test_an_end_while_nobody_asks_is_quick", "")
class WaitsForPeersToGo(LineListener):
    async def finish(self) -> None:
        while self.connections:
            await asyncio.sleep(0.05)


@breaks("test_new_jobs_are_refused_while_it_drains_and_all_else_is_answered", "shutting_down")
class SaysNothingOfTheEnd(Between):
    async def call(self, caller: Caller, verb: str, parameters: Mapping[str, object]) -> Any:
        try:
            return await self.api.call(caller, verb, parameters)
        except ShuttingDown:
            return self.api.version()


@breaks("test_what_is_in_flight_at_the_end_is_answered", "it ended")
class CutsOff(LineListener):
    async def finish(self) -> None:
        await self.close()


@breaks("test_a_large_answer_that_is_under_way_at_the_end_arrives_whole", "were lost")
class LeavesBeforeItIsRead(Connection):
    async def send(self, message: bytes) -> None:
        self.writer.write(message + b"\n")

    async def flush(self) -> None:
        pass


@breaks("test_answers_that_nobody_has_read_yet_at_the_end_arrive_whole", "were lost")
class LeavesWhenItHasRoom(Connection):
    async def flush(self) -> None:
        await self.writer.drain()


@breaks("test_after_the_job_manager_has_ended_nobody_new_is_let_in", "it was answered")
class LetsInTillTheEnd(LineListener):
    async def finish(self) -> None:
        self.server = await asyncio.start_unix_server(self.accepted, f"{self.path}.2", limit=LIMIT)
        Path(f"{self.path}.2").rename(self.path)
        await super().finish()


@breaks("test_what_outlasts_the_grace_is_told_that_it_was_interrupted", "did not happen")
class SaysNothingOfInterruptions(Between):
    async def call(self, caller: Caller, verb: str, parameters: Mapping[str, object]) -> Any:
        try:
            return await self.api.call(caller, verb, parameters)
        except Interrupted:
            return await asyncio.Event().wait()


@breaks("test_after_the_end_nobody_is_let_in", "")
class LeavesTheDoorOpen(LineListener):
    async def close(self) -> None:
        for task in self.connections:
            task.cancel()


@breaks("test_another_server_may_take_its_place", "in use")
class LeavesItsSocket(LineListener):
    async def close(self) -> None:
        await super().close()
        self.path.write_text("here was somebody")


@breaks("test_two_of_it_serve_beside_each_other", "in use")
class HasOnePlace(LineListener):
    def __init__(self, path: Path) -> None:
        super().__init__(path.parent.parent / "door")

    def check(self, context: ListenerContext) -> None:
        if self.path.exists():
            raise OSError("the address is in use")


@breaks("test_cancelled_it_ends_now", "did not end within 2 s")
class TakesItsTime(LineListener):
    async def close(self) -> None:
        await asyncio.sleep(2.5)
        await super().close()


@breaks("test_cancelled_it_ends_now", "cancelled, these go on")
class EndsNever(LineListener):
    async def close(self) -> None:
        for task in self.connections:
            task.cancel()
        while True:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(60)


# --- many and large


class _FirstAnswerForAll(Between):
    answer: Any = None

    async def call(self, caller: Caller, verb: str, parameters: Mapping[str, object]) -> Any:
        answer = await self.api.call(caller, verb, parameters)
        self.answer = self.answer or answer
        return self.answer


@breaks("test_many_requests_of_many_peers_get_their_own_answers", "another's answer")
class MixesUpPeers(_FirstAnswerForAll):
    pass


@breaks("test_many_requests_of_one_peer_get_their_own_answers", "another's answer")
class MixesUpRequests(_FirstAnswerForAll):
    pass


@breaks("test_a_large_request_arrives_whole", "it ended")
class HasASmallBuffer(Connection):
    async def message(self, line: bytes) -> None:
        if len(line) > 64 * 1024:
            self.writer.transport.abort()
        else:
            await super().message(line)


@breaks("test_a_large_answer_arrives_whole", "")
class CutsAnswers(Connection):
    async def send(self, message: bytes) -> None:
        if len(message) > 1_000_000:
            message = message[:1_000_000]
            self.writer.write(message)
            self.writer.close()
        await super().send(message)


@breaks("test_a_request_over_the_limit_is_told_so_and_costs_nobody_else", "too_large")
class SaysNothingOfLimits(Connection):
    async def message(self, line: bytes) -> None:
        await super().message(line)

    async def read(self) -> None:
        await self.hello((await self.line()).split())
        while line := await self.line():
            if len(line) > LIMIT:
                return
            await self.message(line)


@breaks("test_deep_nesting_is_answered", "it ended", depth=100)
class ReadsForItself(Connection):
    async def message(self, line: bytes) -> None:
        if b"[[[[[[[[" in line:
            self.writer.transport.abort()
        await super().message(line)


# --- bytes


@breaks("test_a_request_may_come_byte_by_byte", "ResponseTypeList")
class TakesAChunkForALine(Connection):
    async def line(self) -> bytes:
        return await self.chunk()


@breaks("test_requests_that_come_at_once_are_all_answered", "all have come to the job manager")
class TakesOneOfAChunk(Connection):
    async def line(self) -> bytes:
        line = await super().line()
        self.buffer = b""
        return line


@breaks("test_rubbish_costs_nobody_else", "", what="no UTF-8")
class EndsWithRubbish(Connection):
    async def message(self, line: bytes) -> None:
        try:
            line.decode()
        except UnicodeDecodeError:
            self.listener.server.close()
            self.listener.path.unlink()
        await super().message(line)


@breaks("test_rubbish_behind_a_request_does_not_hang_it", "did not happen")
class DropsWhatWasAsked(Connection):
    async def chunk(self) -> bytes:
        chunk = await super().chunk()
        if b"\xff\xff" in chunk:
            self.session.cancel()
            await asyncio.Event().wait()
        return chunk


@breaks("test_a_peer_may_vanish_in_the_middle_of_a_request", "complained", part=0.5)
class ComplainsOfHalves(Connection):
    def left(self) -> None:
        super().left()
        if self.buffer:
            self.listener.context.log.error("half a request: %r", self.buffer[:20])


@breaks(
    "test_half_a_request_is_cut_off_in_time",
    "connection did not happen",
    attributes={"read_timeout": -4.5},
)
class WaitsForEver(Connection):
    async def chunk(self) -> bytes:
        return await self.reader.read(65536)


@breaks("test_a_peer_that_takes_no_answer_costs_bounded_memory", "it answers on and on")
class KeepsAnswers(Connection):
    async def send(self, message: bytes) -> None:
        self.writer.write(message + b"\n")


@breaks("test_connections_that_come_and_go_leave_no_trace", "it left")
class KeepsConnections(LineListener):
    kept: list[Any] = []  # noqa: RUF012

    async def accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.kept.append(asyncio.ensure_future(asyncio.sleep(60)))
        await super().accepted(reader, writer)


# --- who goes


@breaks("test_who_goes_takes_what_only_reads_along", "the request is cancelled")
class ReadsOn(Connection):
    def left(self) -> None:
        pass


@breaks("test_what_changes_something_goes_on_when_its_peer_goes", "asked again")
class AsksAgain(Between):
    async def call(self, caller: Caller, verb: str, parameters: Mapping[str, object]) -> Any:
        try:
            return await self.api.call(caller, verb, parameters)
        except asyncio.CancelledError:
            return await self.api.call(caller, verb, parameters)


@breaks("test_what_nobody_has_taken_is_withdrawn_when_its_peer_goes", "the second is withdrawn")
class KeepsOffering(Between):
    async def call(self, caller: Caller, verb: str, parameters: Mapping[str, object]) -> Any:
        return await asyncio.shield(asyncio.ensure_future(self.api.call(caller, verb, parameters)))


@breaks("test_who_asks_nothing_is_told_nothing", "it was told")
class TellsEverybody(Connection):
    async def send(self, message: bytes) -> None:
        for task in self.listener.connections:
            task.writer.write(message + b"\n")  # type: ignore[attr-defined]
        await self.writer.drain()

    async def run(self) -> None:
        asyncio.current_task().writer = self.writer  # type: ignore[union-attr]
        await super().run()


@breaks("test_who_goes_in_the_middle_of_an_answer_costs_nobody_else", "")
class MindsWhoGoes(Connection):
    async def send(self, message: bytes) -> None:
        try:
            await super().send(message)
        except OSError as error:
            self.listener.context.log.error("who goes there", exc_info=error)
            raise


# --- watches


class Through(Watch):
    """A watch of another."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch

    @property
    def cursor(self) -> Cursor:  # type: ignore[override]
        return self.watch.cursor

    async def __anext__(self) -> Any:
        return await anext(self.watch)


class Subscribes(Between):
    """An API whose watches are somehow else."""

    through: type[Through] = Through

    def subscribe(
        self, caller: Caller, parameters: Mapping[str, object]
    ) -> AbstractAsyncContextManager[Watch]:
        return self._subscribe(caller, parameters)

    @asynccontextmanager
    async def _subscribe(self, caller: Caller, parameters: Mapping[str, object]) -> AsyncIterator[Watch]:
        async with self.api.subscribe(caller, parameters) as watch:
            yield self.through(watch)


@breaks("test_a_watch_gives_every_event_from_the_first_to_the_end_of_the_job", "")
class SkipsTheFirst(Subscribes):
    class through(Through):
        skipped = False

        async def __anext__(self) -> Any:
            if not self.skipped:
                self.skipped = True
                await anext(self.watch)
            return await anext(self.watch)


@breaks("test_events_come_as_they_happen", "the next event did not happen")
class GathersEvents(Subscribes):
    class through(Through):
        async def __anext__(self) -> Any:
            event = await anext(self.watch)
            await asyncio.sleep(0.7 if event.data.event_name == "step-1" else 0)
            if event.data.event_name == "step-1":
                await anext(self.watch)
            return event


@breaks("test_a_cursor_resumes_behind_its_event", "", read=5)
class ForgetsCursors(Subscribes):
    def subscribe(self, caller: Caller, parameters: Mapping[str, object]) -> Any:
        return self._subscribe(caller, {key: parameters[key] for key in parameters if key != "since"})


@breaks("test_a_watch_of_all_jobs_has_them_in_one_order", "")
class WatchesTheFirstJob(Subscribes):
    def subscribe(self, caller: Caller, parameters: Mapping[str, object]) -> Any:
        return self._subscribe(caller, {"jobID": 1, **parameters})


@breaks("test_a_gap_says_how_much_is_missing", "Gap")
class KeepsGapsToItself(Subscribes):
    class through(Through):
        async def __anext__(self) -> Any:
            while isinstance(item := await anext(self.watch), Gap):
                pass
            return item


class _AnyWatch(Through):
    def __init__(self) -> None:
        pass

    cursor = Cursor("0")  # type: ignore[assignment]

    async def __anext__(self) -> Any:
        raise StopAsyncIteration


@breaks(
    "test_a_watch_that_is_refused_says_why_when_it_is_entered",
    "DID NOT RAISE",
    parameters={"jobID": 77},
    expected="unknown_job",
)
class NeverRefuses(Subscribes):
    @asynccontextmanager
    async def _subscribe(self, caller: Caller, parameters: Mapping[str, object]) -> AsyncIterator[Watch]:
        try:
            async with self.api.subscribe(caller, parameters) as watch:
                yield watch
        except ContestError:
            yield _AnyWatch()


class _OneThing(LineClient):
    """Asks nothing while it watches."""

    watching = 0

    async def ask(self, verb: str, parameters: Mapping[str, object]) -> Any:
        if self.watching and verb not in ("unwatch", "watch"):
            await asyncio.sleep(5)
        self.watching += verb == "watch"
        return await super().ask(verb, parameters)


@breaks("test_requests_are_answered_beside_a_watch", "the answer to list did not happen")
class DoesOneThing(_OneThing):
    pass


@breaks("test_watches_beside_each_other_get_their_own", "")
class MixesUpWatches(LineClient):
    def take(self, line: bytes) -> None:
        super().take(line.replace(b'"Subscription":2', b'"Subscription":1') if b'"event"' in line else line)


@breaks("test_a_fault_that_ends_a_watch_is_not_taken_for_its_end", "StopAsyncIteration")
class TakesFaultsForEnds(LineClient):
    def take(self, line: bytes) -> None:
        if b'"watchEnded"' in line:
            message = json.loads(line)
            message["params"] = {"Subscription": message["params"]["Subscription"], "Cursor": "1"}
            line = json.dumps(message).encode()
        super().take(line)


@breaks("test_a_watch_that_is_left_ends_at_the_job_manager", "the watch has ended")
class NeverUnwatches(LineClient):
    async def ask(self, verb: str, parameters: Mapping[str, object]) -> Any:
        if verb != "unwatch":
            return await super().ask(verb, parameters)


@breaks(
    "test_a_watch_whose_peer_goes_ends",
    "the watch has ended",
    attributes={"client_class": NeverUnwatches},
)
class WatchesOn(Connection):
    def left(self) -> None:
        pass


@breaks("test_a_slow_consumer_costs_bounded_memory_and_is_told_what_it_misses", "without a hole")
class DropsEvents(Subscribes):
    class through(Through):
        async def __anext__(self) -> Any:
            event = await anext(self.watch)
            if event.sequence_id == 2000:
                return await anext(self.watch)
            return event


@breaks("test_where_there_is_no_watch_it_is_refused", "unsupported", attributes={"watches": False})
class HasWatchesAllTheSame(Connection):
    pass


# --- clients


@breaks("test_a_server_that_is_not_there_is_unreachable", "connection_lost")
class SaysItMayHaveHappened(LineClient):
    def unreachable(self, reason: str) -> ContestError:
        return self.lost()


@breaks("test_a_server_that_is_lost_in_the_middle_may_have_done_it", "unreachable")
class SaysNothingHappened(LineClient):
    def lost(self) -> ContestError:
        return self.unreachable("it ended")


@breaks("test_an_answer_that_does_not_come_is_waited_for_as_long_as_the_options_say", "the refusal did not")
class WaitsOn(LineClient):
    async def ask(self, verb: str, parameters: Mapping[str, object]) -> Any:
        self.options = msgspec.structs.replace(self.options, timeout=60)
        return await super().ask(verb, parameters)


@breaks("test_a_start_that_is_not_answered_in_time_may_have_happened", "changes nothing")
class SaysItChangesNothing(LineClient):
    def reads(self, verb: str) -> bool:
        return True


@breaks("test_an_answer_over_the_limit_of_the_options_is_refused", "too_large")
class TakesAnyAnswer(LineClient):
    async def open(self) -> None:
        self.options = msgspec.structs.replace(self.options, max_answer=100_000_000)
        await super().open()


@breaks("test_a_request_that_is_cancelled_does_not_spoil_the_next", "job-1")
class AnswersInOrder(LineClient):
    async def ask(self, verb: str, parameters: Mapping[str, object]) -> Any:
        line = json.dumps({"jsonrpc": "2.0", "id": 1, "method": verb, "params": parameters}).encode()
        self.writer.write(line + b"\n")
        self.receiving.cancel()
        await asyncio.wait([self.receiving])
        number, _, pending = self.calls.begin(verb, parameters)
        answer = json.loads(await self.reader.readline())
        pending.resolve(json.dumps(answer["result"]).encode())
        self.calls.end(number)
        return pending


@breaks("test_closed_in_the_middle_what_was_asked_ends", "did not happen")
class ForgetsWhatWasAsked(LineClient):
    def end(self) -> None:
        pass


@breaks("test_it_may_be_closed_twice_and_asks_nothing_afterwards", "closed already")
class ClosesOnce(LineClient):
    async def aclose(self) -> None:
        assert not self.receiving.cancelled(), "closed already"
        self.receiving.cancel()
        with suppress(asyncio.CancelledError):
            await self.receiving
        self.writer.transport.abort()


@breaks("test_closed_it_lets_go_at_once", "nothing is open")
class ClosesNothing(LineClient):
    async def aclose(self) -> None:
        pass


@breaks("test_a_watch_that_is_lost_in_the_middle_says_so", "StopAsyncIteration")
class EndsWatchesQuietly(LineClient):
    def end(self) -> None:
        for feed in self.calls._feeds.values():
            feed.end(None)
        super().end()


# --- that they do


@pytest.fixture(autouse=True)
def nothing_left_behind() -> None:
    """What is broken leaves something."""


@pytest.fixture(autouse=True)
def little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("contest_core.testing.world.PATIENCE", 0.7)
    monkeypatch.setattr("contest_core.testing.cases._AWAY", 0.2)
    monkeypatch.setattr("contest_core.testing.cases.CASE_TIMEOUT", 6.0)


def cases() -> dict[str, Any]:
    """The cases of the kit, by name."""
    found = inspect.getmembers(TransportSuite, inspect.isfunction)
    return {name: case for name, case in found if name.startswith("test_")}


def test_for_each_case_there_is_one_that_is_broken() -> None:
    assert {broken.case for broken in BROKEN} == {*cases()}


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: f"{broken.case}-{broken.suite.__name__}")
@pytest.mark.filterwarnings("ignore")
def test_the_case_fails(broken: Broken, tmp_path: Path) -> None:
    body = cases()[broken.case].body
    with pytest.raises((AssertionError, Exception, pytest.fail.Exception)) as caught:
        run_case(broken.suite(), body, tmp_path, **broken.arguments)
    assert broken.words in repr(caught.value) + str(caught.value)
    del caught
    gc.collect()  # what it left complains here, and not in another test
