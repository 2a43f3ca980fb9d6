"""What the typed client asks again, when, and for how long; and how its watch goes on after a loss."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Self

import pytest

from contest_core import (
    AnswerTimeout,
    Client,
    ClientOptions,
    ConnectionLost,
    Contest,
    ContestError,
    Cursor,
    Denied,
    Gap,
    InternalError,
    Interrupted,
    JobQuery,
    Overloaded,
    ShuttingDown,
    TooManyRequests,
    Unavailable,
    UnknownJob,
    Unreachable,
    encode,
    repeats,
)
from contest_core.following import READ_AHEAD
from contest_core.reconnecting import Reconnecting

LOST = ConnectionLost(address="x:", reason="it went away")
AWAY = Unreachable(address="x:", reason="refused")
WAIT = 10.0


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeats, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(repeats, "LONGEST_PAUSE", 0.001)


def answered(kind: str, data: object, **more: object) -> bytes:
    answer = {"ServerID": "s", "Type": f"ResponseType{kind}", "Data": data, "Error": None, **more}
    return json.dumps(answer).encode()


STARTED = answered("Start", {"JobID": 7})
JOBS = answered("List", {"JobIDs": []})
VERSION = answered("Version", {"Version": 5, "Capabilities": ["start", "start.start_key", "watch"]})
NO_KEYS = answered("Start", {"JobID": 0}, Error="startKey of start is not offered", Code="unsupported")
CONTEST = answered("Version", {"Version": 5})
"""ConTest's own server names no capability."""


def status(state: str) -> bytes:
    shown = {
        "Name": "j",
        "State": state,
        "StateErrMsg": "",
        "StartTime": "2026-01-01T00:00:00Z",
        "EndTime": None,
        "RunStatus": None,
        "RunStatuses": None,
        "JobReport": {"JobID": 1, "RunReports": None, "FinalReports": None},
    }
    return answered("Status", {"Status": shown})


class Scripted(Client):
    """Answers from lists, one a verb, whose last entry stays; an exception in a list is raised."""

    def __init__(self, **answers: Any) -> None:
        self.answers = defaultdict(list, {"version": [VERSION], **answers})
        self.asked: list[tuple[str, dict[str, object]]] = []

    @classmethod
    async def connect(cls, address: str, options: ClientOptions) -> Self:
        raise NotImplementedError

    def calls(self, verb: str) -> list[dict[str, object]]:
        return [parameters for asked, parameters in self.asked if asked == verb]

    def next(self, verb: str, parameters: Mapping[str, object]) -> Any:
        self.asked.append((verb, dict(parameters)))
        answers = self.answers[verb]
        return answers.pop(0) if len(answers) > 1 else answers[0]

    async def call(self, verb: str, parameters: Mapping[str, object]) -> bytes:
        found = self.next(verb, parameters)
        if isinstance(found, BaseException):
            raise found
        assert isinstance(found, bytes)
        return found

    def watch(self, parameters: Mapping[str, object]) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        return self._watch(self.next("watch", parameters))

    @asynccontextmanager
    async def _watch(self, found: Any) -> AsyncIterator[AsyncIterator[bytes]]:
        """Of a list the items, and at its end the exception, the end, or nothing for ever where there is `...`."""
        if isinstance(found, BaseException):
            raise found

        async def items() -> AsyncIterator[bytes]:
            for item in found:
                if item is ...:
                    await asyncio.Event().wait()
                if isinstance(item, BaseException):
                    raise item
                yield item

        yield items()

    async def aclose(self) -> None:
        return


def contest(client: Client, **options: Any) -> Contest:
    return Contest(client, ClientOptions(**{"requestor": "me", "patience": 0.2, **options}))


# --- requests


@pytest.mark.parametrize(
    "error",
    [
        encode(Overloaded(seconds=3)),
        encode(Unavailable(reason="no disk")),
        encode(TooManyRequests(reason="wait")),
        encode(AnswerTimeout(seconds=3, verb="list")),
        encode(Interrupted(verb="list")),
        LOST,
    ],
)
async def test_what_only_reads_is_asked_again_whatever_became_of_it(error: Any) -> None:
    client = Scripted(list=[error, error, JOBS])
    assert (await contest(client).list(JobQuery())).result().job_ids == []
    assert len(client.calls("list")) == 3


@pytest.mark.parametrize(
    "error",
    [
        encode(InternalError(request_id="x")),
        encode(Denied(principal="me", verb="list")),
        b'{"Msg":"no more today","Code":"quota_exceeded"}',
        b'{"Msg":"bad"}',
        b"<html>",
    ],
)
async def test_what_is_final_or_a_fault_or_not_understood_is_raised_at_once(error: bytes) -> None:
    client = Scripted(list=[error, JOBS])
    with pytest.raises(ContestError):
        await contest(client).list(JobQuery())
    assert len(client.calls("list")) == 1


@pytest.mark.parametrize("verb", ["stop", "retry"])
async def test_what_changes_something_is_asked_again_only_where_nothing_happened(verb: str) -> None:
    answer = answered(verb.capitalize(), {"JobID": 1, "NewJobID": 2})
    client = Scripted(**{verb: [encode(Overloaded(seconds=3)), answer]})
    assert (await getattr(contest(client), verb)(1)).error is None
    for lost in (LOST, encode(AnswerTimeout(seconds=3, verb=verb)), encode(Interrupted(verb=verb))):
        client = Scripted(**{verb: [lost, answer]})
        with pytest.raises(ContestError):
            await getattr(contest(client), verb)(1)
        assert len(client.calls(verb)) == 1


async def test_a_lost_start_is_not_sent_again_to_a_server_that_has_no_start_keys_any_more() -> None:
    client = Scripted(version=[VERSION, CONTEST], start=[LOST, STARTED])
    with pytest.raises(ConnectionLost):
        await contest(client).start("{}")
    assert len(client.calls("start")) == 1


async def test_a_key_that_nobody_gave_is_left_out_where_the_server_has_none_after_all() -> None:
    client = Scripted(version=[VERSION, CONTEST], start=[NO_KEYS, STARTED])
    assert (await contest(client).start("{}")).result().job_id == 7
    first, second = client.calls("start")
    assert first.pop("startKey")
    assert second == first


async def test_a_key_that_was_given_is_never_left_out() -> None:
    client = Scripted(version=[VERSION, CONTEST], start=[NO_KEYS, STARTED])
    refused = await contest(client).start("{}", start_key="mine")
    assert refused.error is not None
    assert refused.error.code == "unsupported"
    assert len(client.calls("start")) == 1


async def test_a_key_is_not_left_out_of_a_start_that_may_have_happened() -> None:
    client = Scripted(version=[VERSION, VERSION, CONTEST], start=[LOST, NO_KEYS, STARTED])
    refused = await contest(client).start("{}")
    assert refused.error is not None
    assert len(client.calls("start")) == 2


@pytest.mark.parametrize("given", ["mine", None])
async def test_a_start_whose_answer_was_lost_is_sent_again_with_one_key(given: str | None) -> None:
    client = Scripted(start=[LOST, AWAY, encode(Interrupted(verb="start")), STARTED])
    assert (await contest(client).start("{}", start_key=given)).result().job_id == 7
    keys = [sent["startKey"] for sent in client.calls("start")]
    assert len(keys) == 4
    assert len(set(keys)) == 1
    assert keys[0] == given or (given is None and len(str(keys[0])) == 32)


async def test_each_start_has_a_key_of_its_own_and_the_server_is_asked_once_what_it_offers() -> None:
    client = Scripted(start=[STARTED])
    typed = contest(client)
    await typed.start("{}")
    await typed.start("{}")
    assert len({sent["startKey"] for sent in client.calls("start")}) == 2
    assert len(client.calls("version")) == 1


@pytest.mark.parametrize("given", ["mine", None])
async def test_a_server_without_start_keys_is_sent_none_of_ours_and_no_lost_start_again(
    given: str | None,
) -> None:
    client = Scripted(start=[encode(Overloaded(seconds=3)), LOST, STARTED])
    client.answers["version"] = [CONTEST]
    with pytest.raises(ConnectionLost):
        await contest(client).start("{}", start_key=given)
    assert [sent.get("startKey") for sent in client.calls("start")] == [given, given]


async def test_without_patience_nothing_is_asked_again_nor_beside() -> None:
    client = Scripted(start=[LOST], list=[encode(Overloaded(seconds=3))])
    with pytest.raises(ConnectionLost):
        await contest(client, patience=0).start("{}")
    with pytest.raises(Overloaded):
        await contest(client, patience=0).list(JobQuery())
    assert client.asked == [("start", {"requestor": "me", "jobDesc": "{}"}), ("list", {"requestor": "me"})]


@pytest.mark.parametrize("error", [AWAY, encode(ShuttingDown())])
async def test_a_server_that_never_answered_is_not_waited_for_and_one_that_did_is(error: Any) -> None:
    client = Scripted(list=[error, JOBS])
    typed = contest(client)
    with pytest.raises(ContestError):
        await typed.list(JobQuery())
    await typed.version()
    client.answers["list"] = [error, error, JOBS]
    assert (await typed.list(JobQuery())).error is None


async def test_patience_has_an_end_and_the_last_error_is_raised() -> None:
    client = Scripted(list=[LOST, AWAY])
    with pytest.raises(Unreachable):
        await contest(client, patience=0.05).list(JobQuery())
    assert len(client.calls("list")) > 3


async def test_pauses_grow_to_a_bound_and_are_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr("asyncio.sleep", sleep)
    monkeypatch.setattr(repeats, "FIRST_PAUSE", 0.3)
    monkeypatch.setattr(repeats, "LONGEST_PAUSE", 5.0)
    told: list[tuple[str, float]] = []
    client = Scripted(list=[*[encode(Overloaded(seconds=3))] * 7, JOBS])
    typed = contest(client, patience=60.0, on_repeat=lambda error, pause: told.append((error.code, pause)))
    await typed.list(JobQuery())
    assert [seconds for _, seconds in told] == pauses
    assert {code for code, _ in told} == {"overloaded"}
    for pause, exact in zip(pauses, [0.3, 0.6, 1.2, 2.4, 4.8, 5.0, 5.0], strict=True):
        assert exact * 0.75 <= pause <= exact * 1.25
    client.answers["list"] = [encode(Overloaded(seconds=3)), JOBS]
    with caplog.at_level(logging.WARNING, "contest.client"):
        await contest(client, patience=60.0).list(JobQuery())
    assert "asking again in 0." in caplog.text


async def test_a_server_that_says_when_to_come_back_is_not_asked_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr("asyncio.sleep", sleep)
    later = [encode(TooManyRequests(reason="slowly", retry_after=after)) for after in (7, 2.5)]
    client = Scripted(list=[*later, JOBS])
    await contest(client, patience=60.0).list(JobQuery())
    assert pauses == [7.0, 2.5]
    client.answers["list"] = [encode(TooManyRequests(reason="slowly", retry_after=61))]
    with pytest.raises(TooManyRequests):
        await contest(client, patience=60.0).list(JobQuery())


async def test_what_is_raised_where_it_is_told_ends_the_repeating() -> None:
    def enough(error: ContestError, pause: float) -> None:
        raise KeyError(error.code)

    with pytest.raises(KeyError, match="overloaded"):
        await contest(Scripted(list=[encode(Overloaded(seconds=3))]), on_repeat=enough).list(JobQuery())


async def test_a_client_that_never_has_done_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stuck(Scripted):
        async def call(self, verb: str, parameters: Mapping[str, object]) -> bytes:
            await asyncio.Event().wait()
            raise AssertionError

    monkeypatch.setattr(repeats, "SLACK", 0.0)
    with pytest.raises(AnswerTimeout, match=r"no answer to list within 0\.01 s"):
        await contest(Stuck(), timeout=0.01, patience=0).list(JobQuery())


# --- a client that is made anew


class Mortal(Scripted):
    """Of no use any more after its first loss."""

    made: list[Mortal]
    plans: list[dict[str, Any]]

    def __init__(self, **answers: Any) -> None:
        super().__init__(**answers)
        self.closed = False
        self.dead = False

    @classmethod
    async def connect(cls, address: str, options: ClientOptions) -> Self:
        plan = cls.plans.pop(0)
        if "connect" in plan:
            raise plan["connect"]
        client = cls(**plan)
        cls.made.append(client)
        return client

    def next(self, verb: str, parameters: Mapping[str, object]) -> Any:
        assert not self.dead
        assert not self.closed
        found = super().next(verb, parameters)
        self.dead = found is LOST
        return found

    async def aclose(self) -> None:
        self.closed = True


async def test_a_client_that_was_lost_is_closed_and_another_one_made() -> None:
    Mortal.made, Mortal.plans = [], [{"list": [LOST]}, {"connect": AWAY}, {"list": [JOBS]}]
    client = Reconnecting(lambda: Mortal, "x:", ClientOptions())
    await client.open()
    assert (await contest(client).list(JobQuery())).error is None
    assert [made.closed for made in Mortal.made] == [True, False]
    await client.aclose()
    assert [made.closed for made in Mortal.made] == [True, True]
    with pytest.raises(Unreachable, match="this client is closed"):
        await client.call("version", {})


async def test_a_client_that_is_lost_stays_open_for_those_that_it_still_answers() -> None:
    Mortal.made, Mortal.plans = [], [{"list": [LOST], "watch": [[b"1", b"2"]]}, {"list": [JOBS]}]
    client = Reconnecting(lambda: Mortal, "x:", ClientOptions())
    async with client.watch({}) as items:
        assert await anext(items) == b"1"
        await contest(client).list(JobQuery())
        assert [made.closed for made in Mortal.made] == [False, False]
        assert [item async for item in items] == [b"2"]
    assert [made.closed for made in Mortal.made] == [True, False]
    await client.aclose()


# --- watches


def event(number: int, name: str = "Step", *, job: int = 1, cursor: bool = True) -> bytes:
    header = {"JobID": job, "RunID": None, "TestName": None, "TestAttempt": None, "TestStepLabel": None}
    data = {"Target": None, "EventName": name, "Payload": None}
    made = {"SequenceID": number, "EmitTime": "2026-11-23T22:55:01Z", "Header": header, "Data": data}
    return json.dumps({"Event": {**made, **({"Cursor": f"c{number}"} if cursor else {})}}).encode()


def gap(cursor: str, missed: int | None) -> bytes:
    return json.dumps({"Gap": {"Missed": missed, "Cursor": cursor}}).encode()


async def seen(client: Client, count: int | None = None, **given: Any) -> list[Any]:
    """The numbers of the events, and the gaps, to the end or so many."""
    found: list[Any] = []
    async with asyncio.timeout(WAIT), contest(client).watch(**given) as watch:
        async for item in watch:
            found.append(item if isinstance(item, Gap) else item.sequence_id)
            if len(found) == count:
                break
    return found


END = event(3, "JobStateCompleted")


async def test_a_watch_that_is_lost_goes_on_behind_its_last_event() -> None:
    client = Scripted(watch=[[event(1), LOST], AWAY, Overloaded(seconds=3), [event(2), LOST], [END]])
    assert await seen(client, job_id=1) == [1, 2, 3]
    assert [sent.get("since") for sent in client.calls("watch")] == [None, "c1", "c1", "c1", "c2"]


async def test_a_job_whose_last_event_was_seen_is_not_asked_for_again() -> None:
    for end in ([], [LOST]):
        client = Scripted(watch=[[event(1), event(2), END, *end]])
        assert await seen(client, job_id=1) == [1, 2, 3]
        assert len(client.asked) == 1


async def test_a_watch_of_a_job_that_the_server_ended_goes_on_when_it_is_back() -> None:
    for unsure in (status("JobStateStarted"), encode(ShuttingDown()), AWAY, LOST):
        client = Scripted(watch=[[event(1)], AWAY, [event(2), END]], status=[unsure])
        assert await seen(client, job_id=1) == [1, 2, 3]
        assert [sent.get("since") for sent in client.calls("watch")] == [None, "c1", "c1"]


async def test_a_job_that_ended_meanwhile_is_read_to_its_end() -> None:
    client = Scripted(watch=[[event(1)], [event(2)], []], status=[status("JobStateCompleted")])
    assert await seen(client, job_id=1) == [1, 2]
    assert [sent.get("since") for sent in client.calls("watch")] == [None, "c1", "c2"]


async def test_a_watch_from_behind_a_jobs_end_ends() -> None:
    client = Scripted(watch=[[]], status=[status("JobStateCompleted")])
    assert await seen(client, job_id=1, since=Cursor("c3")) == []
    client = Scripted(watch=[[]], status=[encode(Denied(principal="me", verb="status"))])
    assert await seen(client, job_id=1, since=Cursor("c3")) == []


async def test_a_watch_of_all_jobs_ends_with_nothing_but_patience() -> None:
    client = Scripted(watch=[[event(1), END], [event(4)], AWAY])
    found: list[int] = []

    async def follow() -> None:
        async with asyncio.timeout(WAIT), contest(client).watch() as watch:
            async for item in watch:
                assert not isinstance(item, Gap)
                found.append(item.sequence_id)

    with pytest.raises(Unreachable):
        await follow()
    assert found == [1, 3, 4]


async def test_a_watch_from_now_on_goes_on_from_where_the_client_says_that_it_began() -> None:
    client = Scripted(watch=[[gap("c0", 0), LOST], [event(1), ...]])
    assert await seen(client, 1) == [1]
    assert [sent.get("since") for sent in client.calls("watch")] == [None, "c0"]


async def test_where_nobody_says_where_it_began_a_gap_says_that_something_may_be_missing() -> None:
    client = Scripted(watch=[[LOST], [event(1), ...]])
    assert await seen(client, 2) == [Gap(missed=None, cursor=""), 1]


async def test_gaps_of_the_server_are_given_out_and_gone_on_from() -> None:
    client = Scripted(watch=[[event(1), gap("c5", 4), LOST], [event(6), END]])
    assert await seen(client, job_id=1) == [1, Gap(missed=4, cursor="c5"), 6, 3]
    assert client.calls("watch")[1]["since"] == "c5"


@pytest.mark.parametrize(
    "final",
    [
        UnknownJob(job_id=1),
        ContestError("the cursor is of another store", code="invalid_parameters"),
        InternalError(request_id="x"),
        Denied(principal="me", verb="watch"),
    ],
)
async def test_what_is_final_is_raised_when_it_is_entered_and_later(final: ContestError) -> None:
    with pytest.raises(type(final)):
        async with contest(Scripted(watch=[final])).watch(job_id=1):
            pytest.fail("it was entered")
    client = Scripted(watch=[[event(1), LOST], final])
    async with contest(client).watch(job_id=1) as watch:
        await anext(watch)
        for _ in range(2):
            with pytest.raises(type(final)):
                await anext(watch)


async def test_a_server_that_is_not_there_is_told_at_once_when_it_is_entered() -> None:
    client = Scripted(watch=[AWAY])
    with pytest.raises(Unreachable):
        async with contest(client).watch():
            pytest.fail("it was entered")
    assert len(client.asked) == 1


async def test_subscribing_again_without_seeing_anything_has_an_end() -> None:
    client = Scripted(watch=[[event(1), LOST], [LOST]])
    with pytest.raises(ConnectionLost):
        await seen(client, job_id=1)
    assert len(client.asked) > 3


async def test_events_without_cursors_are_not_asked_for_again() -> None:
    client = Scripted(watch=[[event(1, cursor=False), LOST]])
    with pytest.raises(ConnectionLost):
        await seen(client, job_id=1)
    assert len(client.asked) == 1


async def test_a_reader_may_be_cancelled_and_ask_again() -> None:
    client = Scripted(watch=[[event(1), ...]])
    async with contest(client).watch(job_id=1) as watch:
        await anext(watch)
        for _ in range(2):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await anext(watch)
        client.answers["watch"] = [[event(1), LOST], [event(2), ...]]
    async with contest(client).watch(job_id=1) as watch:
        assert [(await anext(watch)).cursor for _ in range(2)] == ["c1", "c2"]


async def test_a_reader_that_does_not_read_holds_up_the_watch() -> None:
    given = 0

    class Endless(Scripted):
        @asynccontextmanager
        async def _watch(self, found: Any) -> AsyncIterator[AsyncIterator[bytes]]:
            async def items() -> AsyncIterator[bytes]:
                nonlocal given
                while True:
                    given += 1
                    yield event(given)

            yield items()

    async with contest(Endless(watch=[[]])).watch(job_id=1) as watch:
        for _ in range(5):
            await asyncio.sleep(0)
        assert given == READ_AHEAD
        for number in range(3 * READ_AHEAD):
            item = await anext(watch)
            assert not isinstance(item, Gap)
            assert item.sequence_id == number + 1


async def test_a_watch_is_left_by_whoever_entered_it_also_after_a_loss_and_a_fault_in_the_block() -> None:
    tasks: list[Any] = []

    class Strict(Scripted):
        @asynccontextmanager
        async def _watch(self, found: Any) -> AsyncIterator[AsyncIterator[bytes]]:
            tasks.append(asyncio.current_task())
            try:
                async with super()._watch(found) as items:
                    yield items
            finally:
                assert asyncio.current_task() is tasks.pop()

    async def fail_behind_two(client: Client) -> None:
        async with contest(client).watch(job_id=1) as watch:
            await anext(watch)
            await asyncio.create_task(anext(watch))  # type: ignore[arg-type]
            raise KeyError

    with pytest.raises(KeyError):
        await fail_behind_two(Strict(watch=[[event(1), LOST], [event(2), ...]]))
    assert tasks == []
    assert asyncio.all_tasks() == {asyncio.current_task()}
