"""The API: its two timeouts, who may ask, and what is refused before there is an event."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from msgspec import Struct

from contest_core import (
    ALL,
    API,
    CURRENT_API_VERSION,
    DEFAULT_EVENT_TIMEOUT,
    VERBS,
    AnswerTimeout,
    Authenticator,
    Bearer,
    Caller,
    ContestError,
    Credentials,
    Denied,
    EncodedJSON,
    Event,
    EventListMsg,
    EventResponse,
    EventStartMsg,
    EventStatusMsg,
    EventType,
    Finding,
    Form,
    IncompatibleVersion,
    InternalError,
    InvalidDescriptor,
    InvalidParameters,
    JobQuery,
    JobState,
    Overloaded,
    Principal,
    Refusal,
    ResponseData,
    ResponseDataList,
    ResponseDataLocks,
    ResponseDataRetry,
    ResponseDataStart,
    ResponseDataStatus,
    ResponseDataStop,
    ResponseDataValidate,
    ResponseType,
    ShuttingDown,
    TooLarge,
    Unauthenticated,
    Unavailable,
    UnknownJob,
    UnknownVerb,
    Unsupported,
    Vouched,
    encode,
)
from contest_core.testing.clock import VirtualClock

Answer = Callable[[Event], object]


def caller_of(api: API, **given: Any) -> Caller:
    return api.caller(listener="test", peer="here", **{"requestor": "me", **given})


@asynccontextmanager
async def consumer(api: API, answer: Answer) -> AsyncIterator[list[Event]]:
    """Takes every event and resolves it with what `answer` makes of it; None leaves it open."""
    taken: list[Event] = []

    async def consume() -> None:
        while True:
            event = await api.events.take()
            taken.append(event)
            given = answer(event)
            if isinstance(given, EventResponse | ContestError):
                event.resolve(given)
            elif given is not None:
                event.resolve(EventResponse(requestor="me", data=given))

    async with asyncio.TaskGroup() as group:
        task = group.create_task(consume())
        yield taken
        task.cancel()


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


# --- handing over, and the answer


async def test_start_without_a_consumer_times_out_and_a_consumer_that_comes_later_never_sees_it(
    clock: VirtualClock,
) -> None:
    api = API()
    with pytest.raises(Overloaded, match="nothing happened"):
        await api.start(caller_of(api), "{}")
    assert DEFAULT_EVENT_TIMEOUT == 3.0
    assert clock.now == pytest.approx(3.0)
    async with consumer(api, lambda _: ResponseDataList(job_ids=[])) as taken:
        await api.list(caller_of(api), JobQuery())
    assert [event.type for event in taken] == [EventType.LIST]


async def test_the_timeouts_of_hand_over_and_answer_are_separate(clock: VirtualClock) -> None:
    api = API(event_timeout=3.0)
    start = asyncio.create_task(api.start(caller_of(api), "{}"))
    await asyncio.sleep(2.9)
    event = await api.events.take()
    await asyncio.sleep(2.9)
    event.resolve(EventResponse(requestor="me", data=ResponseDataStart(job_id=1)))
    assert (await start).result().job_id == 1
    assert clock.now == pytest.approx(5.8)


async def test_what_is_taken_and_not_answered_times_out_with_words_that_name_start_keys(
    clock: VirtualClock,
) -> None:
    api = API(event_timeout=3.0)
    start = asyncio.create_task(api.start(caller_of(api), "{}"))
    await asyncio.sleep(2.0)
    event = await api.events.take()
    with pytest.raises(AnswerTimeout, match=r"no answer to start within 3 s.*start key"):
        await start
    assert clock.now == pytest.approx(5.0)
    event.resolve(EventResponse(requestor="me", data=ResponseDataStart(job_id=1)))
    late = await event.response
    assert isinstance(late.err, AnswerTimeout)


async def test_the_clients_own_timeout_is_for_both_together_and_never_longer_than_the_apis(
    clock: VirtualClock,
) -> None:
    api = API(event_timeout=3.0)
    start = asyncio.create_task(api.start(caller_of(api, timeout=4.0), "{}"))
    await asyncio.sleep(2.5)
    await api.events.take()
    with pytest.raises(AnswerTimeout, match=r"within 1\.5 s"):
        await start
    assert clock.now == pytest.approx(4.0)
    with pytest.raises(Overloaded):
        await api.start(caller_of(api, timeout=1.0), "{}")
    assert clock.now == pytest.approx(5.0)
    with pytest.raises(Overloaded):
        await api.start(caller_of(api, timeout=100.0), "{}")
    assert clock.now == pytest.approx(8.0)


async def test_a_caller_that_goes_away_withdraws_what_nobody_took() -> None:
    api = API()
    start = asyncio.create_task(api.start(caller_of(api), "{}"))
    await settle()
    start.cancel()
    await asyncio.wait([start])
    take = asyncio.create_task(api.events.take())
    await settle()
    assert not take.done()
    take.cancel()


async def test_a_caller_that_goes_away_after_the_hand_over_is_seen_by_the_consumer() -> None:
    api = API()
    start = asyncio.create_task(api.start(caller_of(api), "{}"))
    event = await api.events.take()
    await settle()
    start.cancel()
    await asyncio.wait([start])
    assert event.response.cancelled()


async def test_a_caller_that_goes_away_at_the_instant_of_the_hand_over_is_seen_by_the_consumer() -> None:
    api = API()
    asking = asyncio.create_task(api.list(caller_of(api), JobQuery()))
    await settle()
    event = await api.events.take()
    asking.cancel()
    await asyncio.wait([asking])
    assert event.response.cancelled()


async def test_a_caller_that_goes_away_at_the_instant_of_its_timeout_leaves_no_complaint(
    clock: VirtualClock,
) -> None:
    api = API(event_timeout=3.0)
    for taken in (False, True):
        start = asyncio.create_task(api.start(caller_of(api), "{}"))
        if taken:
            await api.events.take()
        asyncio.get_running_loop().call_later(3.0, start.cancel)
        await asyncio.wait([start])


async def test_send_event_hands_over_and_waits_for_no_answer() -> None:
    api = API()
    event = Event(
        context=caller_of(api),
        type=EventType.ERROR,
        server_id=api.server_id,
        err=OSError("the broker is gone"),
        response=asyncio.get_running_loop().create_future(),
    )
    send = asyncio.create_task(api.send_event(event))
    assert await api.events.take() is event
    await send
    event.response.cancel()


async def test_send_event_takes_a_timeout_of_its_own(clock: VirtualClock) -> None:
    api = API()
    event = Event(
        context=caller_of(api),
        type=EventType.ERROR,
        server_id=api.server_id,
        response=asyncio.get_running_loop().create_future(),
    )
    with pytest.raises(Overloaded, match=r"within 0\.5 s"):
        await api.send_event(event, 0.5)
    with pytest.raises(Overloaded):
        await api.send_receive_event(event, 0.25)
    assert clock.now == pytest.approx(0.75)


# --- what is asked, and what is answered


async def test_an_event_carries_the_caller_the_server_and_the_message() -> None:
    api = API(server_id="lab-1")
    caller = caller_of(api, request_id="r1", traceparent="00-1-2-03")
    async with consumer(api, lambda _: ResponseDataStart(job_id=7)) as taken:
        response = await api.start(caller, '{"a": 1}', start_key="k", strict=True)
    event = taken[0]
    assert event.context is caller
    assert event.server_id == "lab-1" == response.server_id
    assert event.msg == EventStartMsg(
        requestor="me", job_descriptor='{"a": 1}', start_key="k", strict=True, test_id="", num_runs=0
    )
    assert response.type is ResponseType.START
    assert response.result() == ResponseDataStart(job_id=7)


CALLS: dict[str, Mapping[str, object]] = {
    "start": {"jobDesc": "{}"},
    "stop": {"jobID": 1},
    "status": {"jobID": 1},
    "retry": {"jobID": 1},
    "list": {},
    "validate": {"jobDesc": "{}"},
    "locks": {},
}


@pytest.mark.parametrize("verb", CALLS)
async def test_call_looks_a_verb_up_and_asks_it(verb: str) -> None:
    api = API()
    async with consumer(api, lambda _: EncodedJSON(b"{}")) as taken:
        response = await api.call(caller_of(api), verb, CALLS[verb])
    assert taken[0].type is VERBS[verb].event
    assert response.type is VERBS[verb].response
    assert json.loads(encode(response))["Type"] == f"ResponseType{verb.capitalize()}"


async def test_call_converts_parameters_to_a_query() -> None:
    api = API()
    async with consumer(api, lambda _: ResponseDataList(job_ids=[])) as taken:
        await api.call(caller_of(api), "list", Form(states="JobStateStarted", tags="a,b"))
    query = JobQuery(states=(JobState.STARTED,), tags=("a", "b"))
    assert taken[0].msg == EventListMsg(requestor="me", query=query)


async def test_call_hands_encoded_data_on_and_the_methods_decode_it() -> None:
    api = API()
    data = {"status": EncodedJSON(b'{"Status":null}'), "list": EncodedJSON(b'{"JobIDs":[1]}')}
    async with consumer(api, lambda event: data[event.type.name.lower()]):
        assert (await api.call(caller_of(api), "status", {"jobID": 1})).data is data["status"]
        assert (await api.call(caller_of(api), "list", {})).data is data["list"]
        assert (await api.status(caller_of(api), 1)).data == ResponseDataStatus(status=None)
        assert (await api.list(caller_of(api), JobQuery())).data == ResponseDataList(job_ids=[1])


@pytest.mark.parametrize(
    ("verb", "data"),
    [
        ("start", ResponseDataStart(job_id=1)),
        ("stop", ResponseDataStop()),
        ("retry", ResponseDataRetry(job_id=1, new_job_id=2)),
        ("validate", ResponseDataValidate(findings=[])),
        ("locks", ResponseDataLocks(locks=[])),
    ],
)
async def test_every_answer_may_be_there_as_json(verb: str, data: ResponseData) -> None:
    api = API()
    encoded = msgspec.json.encode(msgspec.to_builtins(data) | {"Newer": {"than": "this"}})
    arguments = {"start": ("{}",), "stop": (1,), "retry": (1,), "validate": ("{}",)}
    async with consumer(api, lambda _: EncodedJSON(encoded)):
        answer = await api.call(caller_of(api), verb, CALLS[verb])
        assert json.loads(encode(answer))["Data"]["Newer"] == {"than": "this"}
        assert (await getattr(api, verb)(caller_of(api), *arguments.get(verb, ()))).data == data


async def test_what_a_refusal_has_beside_it_is_handed_on() -> None:
    api = API()
    refusal = Refusal("no more jobs today", code="quota_exceeded")
    refusal.data = EncodedJSON(b'{"JobID":0,"Quota":7}')
    async with consumer(api, lambda _: refusal):
        answer = json.loads(encode(await api.call(caller_of(api), "start", CALLS["start"])))
        assert (await api.start(caller_of(api), "{}")).data == ResponseDataStart(job_id=0)
    assert answer["Data"] == {"JobID": 0, "Quota": 7}
    assert (answer["Error"], answer["Code"]) == ("no more jobs today", "quota_exceeded")


async def test_a_part_of_a_status_is_asked_for_by_name() -> None:
    api = API()
    async with consumer(api, lambda _: ResponseDataStatus(status=None)) as taken:
        await api.call(
            caller_of(api), "status", {"jobID": "3", "run": 2, "test": "t", "target": "T1", "events": False}
        )
    wanted = EventStatusMsg(requestor="me", job_id=3, run=2, test="t", target="T1", events=False)
    assert taken[0].msg == wanted


async def test_an_unknown_verb_is_refused_with_the_nearest_one() -> None:
    api = API()
    with pytest.raises(UnknownVerb, match="did you mean 'status'"):
        await api.call(caller_of(api), "statuz", {})
    with pytest.raises(UnknownVerb, match="there are start, stop"):
        await api.call(caller_of(api), "", {})


async def test_a_refusal_is_an_answer_with_zero_values() -> None:
    api = API()
    async with consumer(api, lambda _: UnknownJob(job_id=7)):
        response = await api.status(caller_of(api), 7)
    assert response.data == ResponseDataStatus(status=None)
    with pytest.raises(UnknownJob):
        response.result()


@pytest.mark.parametrize("job_id", [7, -1])
async def test_a_refused_retry_says_which_job_is_not_retried(job_id: int) -> None:
    api = API()
    async with consumer(api, lambda _: UnknownJob(job_id=job_id)):
        response = await api.retry(caller_of(api), job_id)
    assert isinstance(response.error, UnknownJob)
    assert response.data == ResponseDataRetry(job_id=job_id, new_job_id=0)


async def test_a_refused_descriptor_shows_its_findings_in_the_data() -> None:
    api = API()
    findings = [Finding(severity="error", code="x", path="", message="no")]
    async with consumer(api, lambda _: InvalidDescriptor(findings=findings)):
        started = await api.start(caller_of(api), "{}")
        validated = await api.validate(caller_of(api), "{}")
    assert started.data == ResponseDataStart(job_id=0, findings=findings)
    assert validated.data.findings == findings


@pytest.mark.parametrize(
    "error",
    [
        TooLarge(what="the answer", limit=1),
        Unavailable(reason="the disk is full"),
        InternalError(request_id="x"),
        InvalidParameters(reason="since: it is of another store"),
        ContestError("no", code="unheard_of"),
    ],
    ids=lambda error: error.code,
)
async def test_what_has_an_http_status_of_its_own_is_raised(error: ContestError) -> None:
    api = API()
    async with consumer(api, lambda _: error):
        with pytest.raises(type(error)) as raised:
            await api.status(caller_of(api), 1)
    assert raised.value is error


async def test_watch_asks_on_entering_and_raises_refusals_there() -> None:
    api = API()

    @asynccontextmanager
    async def watching() -> AsyncIterator[str]:
        yield "a watch"

    answers: list[object] = [UnknownJob(job_id=7), watching()]
    async with consumer(api, lambda _: answers.pop(0)):
        with pytest.raises(UnknownJob):
            async with api.watch(caller_of(api), job_id=7):
                pass
        async with api.watch(caller_of(api)) as watch:
            assert watch == "a watch"  # type: ignore[comparison-overlap]


async def test_watch_is_not_offered_on_a_wire_yet() -> None:
    api = API()
    response = await api.call(caller_of(api), "watch", {})
    assert isinstance(response.error, Unsupported)
    assert json.loads(encode(response))["Code"] == "unsupported"


# --- version


def test_version_needs_neither_requestor_nor_caller() -> None:
    api = API(server_id="s", capabilities=frozenset({"start", "list"}))
    response = api.version()
    assert response.result().version == CURRENT_API_VERSION == 5
    assert response.result().capabilities == ["list", "start"]


async def test_version_by_call_is_the_same_in_bytes() -> None:
    api = API(server_id="s", capabilities=frozenset({"start", "list"}))
    called = await api.call(caller_of(api, requestor=None), "version", {})
    assert encode(called) == encode(api.version())


@pytest.mark.parametrize("asked", [5, "5", "+5"])
async def test_the_api_version_that_is_spoken_may_be_asked_for_with_any_verb(asked: object) -> None:
    api = API()
    async with consumer(api, lambda _: EncodedJSON(b"{}")):
        for verb, parameters in CALLS.items():
            await api.call(caller_of(api), verb, {**parameters, "apiVersion": asked})
    await api.call(caller_of(api), "version", {"apiVersion": asked})


@pytest.mark.parametrize("asked", [4, "6", 0, -1])
async def test_another_api_version_is_refused_with_any_verb(asked: object) -> None:
    api = API()
    for verb in VERBS:
        with pytest.raises(IncompatibleVersion, match="this server speaks 5"):
            await api.call(caller_of(api), verb, {"apiVersion": asked})


async def test_an_api_version_that_is_no_number_is_a_bad_parameter() -> None:
    api = API()
    with pytest.raises(InvalidParameters, match="apiVersion"):
        await api.call(caller_of(api), "version", {"apiVersion": "five"})


async def test_version_too_refuses_what_it_does_not_have_in_json() -> None:
    api = API()
    await api.call(caller_of(api), "version", Form(requestor="me", color="red"))
    with pytest.raises(InvalidParameters, match="color"):
        await api.call(caller_of(api), "version", {"color": "red"})


# --- the requestor


@pytest.mark.parametrize("verb", CALLS)
async def test_every_verb_but_version_needs_a_requestor(verb: str) -> None:
    api = API()
    for nobody in (None, ""):
        with pytest.raises(InvalidParameters, match=f"{verb.capitalize()} failed: requestor cannot be empty"):
            await api.call(caller_of(api, requestor=nobody), verb, CALLS[verb])


async def test_the_requestor_comes_from_the_parameters_where_the_listener_knows_none() -> None:
    api = API()
    async with consumer(api, lambda _: EncodedJSON(b"{}")) as taken:
        await api.call(caller_of(api, requestor=None), "list", {"requestor": "declared"})
        await api.call(caller_of(api, requestor="known"), "list", {"requestor": "declared"})
    assert [event.msg.requestor for event in taken if event.msg] == ["declared", "known"]
    assert taken[0].context.requestor == "declared"


@pytest.mark.parametrize("given", [7, ["me"], True])
async def test_a_requestor_is_a_text(given: object) -> None:
    api = API()
    with pytest.raises(InvalidParameters, match="requestor must be a string"):
        await api.call(caller_of(api, requestor=None), "list", {"requestor": given})


@pytest.mark.parametrize(
    ("requestor", "fits"),
    [
        ("r" * 32, True),
        ("r" * 33, False),
        ("ü" * 16, True),
        ("ü" * 17, False),
        ("😀" * 8, True),
        ("😀" * 9, False),
    ],
)
async def test_a_requestor_has_at_most_32_bytes_however_many_characters(requestor: str, fits: bool) -> None:
    api = API()
    async with consumer(api, lambda _: ResponseDataList(job_ids=[])):
        if fits:
            await api.list(caller_of(api, requestor=requestor), JobQuery())
        else:
            size = len(requestor.encode())
            with pytest.raises(InvalidParameters, match=f"too long: {size} > 32"):
                await api.list(caller_of(api, requestor=requestor), JobQuery())


# --- who asks


class Door(Authenticator):
    """Knows some tokens, and says what it was asked."""

    class Settings(Struct):
        """It has none."""

    def __init__(self, **known: Principal | Exception | float) -> None:
        super().__init__(None)
        self.known = known
        self.asked: list[tuple[Credentials, str]] = []

    async def authenticate(self, credentials: Credentials, peer: str) -> Principal | None:
        self.asked.append((credentials, peer))
        found = self.known.get(credentials.token) if isinstance(credentials, Bearer) else None
        if isinstance(found, float):
            await asyncio.sleep(found)
            return Principal(name="slow")
        if isinstance(found, Exception):
            raise found
        return found


ALICE = Principal(name="alice")


def authenticate(api: API, *credentials: Credentials, listener: str = "http") -> Awaitable[Principal | None]:
    return api.authenticate(*credentials, listener=listener, peer="1.2.3.4:5")


async def test_where_nobody_is_asked_to_prove_anything_everybody_is_anonymous() -> None:
    assert await authenticate(API()) is None
    assert await authenticate(API(), Bearer(token="t"), Vouched(name="eve")) is None


async def test_authenticators_are_asked_in_their_order_until_one_claims() -> None:
    first, second, third = Door(), Door(t=ALICE), Door(t=Principal(name="other"))
    api = API(authenticators=[first, second, third])
    assert await authenticate(api, Bearer(token="t")) is ALICE
    assert [len(door.asked) for door in (first, second, third)] == [1, 1, 0]
    assert first.asked == [(Bearer(token="t"), "1.2.3.4:5")]


async def test_credentials_are_tried_in_their_order() -> None:
    door = Door(good=ALICE)
    api = API(authenticators=[door])
    assert await authenticate(api, Bearer(token="bad"), Bearer(token="good")) is ALICE


async def test_credentials_that_nobody_claims_and_none_at_all_are_unauthenticated() -> None:
    api = API(authenticators=[Door(), Door()])
    for credentials in ([], [Bearer(token="t")], [Vouched(name="eve")]):
        with pytest.raises(Unauthenticated):
            await authenticate(api, *credentials)


async def test_an_authenticator_that_knows_better_ends_the_search() -> None:
    second = Door(t=ALICE)
    api = API(authenticators=[Door(t=Unauthenticated(reason="it has been revoked")), second])
    with pytest.raises(Unauthenticated, match="revoked"):
        await authenticate(api, Bearer(token="t"))
    assert not second.asked


async def test_a_slow_authenticator_is_bounded(clock: VirtualClock) -> None:
    api = API(event_timeout=3.0, authenticators=[Door(t=60.0)])
    with pytest.raises(Unavailable, match=r"authenticator Door is not available: no answer within 3 s"):
        await authenticate(api, Bearer(token="t"))
    assert clock.now == pytest.approx(3.0)


async def test_an_authenticator_that_fails_is_logged_and_lets_nobody_in(
    caplog: pytest.LogCaptureFixture,
) -> None:
    api = API(authenticators=[Door(t=OSError("ldap://secret is away")), Door(t=ALICE)])
    with caplog.at_level(logging.ERROR), pytest.raises(Unavailable, match="authenticator Door") as raised:
        await authenticate(api, Bearer(token="t"))
    assert "secret" not in raised.value.message
    assert "ldap://secret is away" in caplog.text


async def test_a_vouched_name_is_taken_only_from_a_listener_that_is_trusted() -> None:
    api = API(authenticators=[Door()], trusted=["chat"])
    assert await authenticate(api, Vouched(name="alice"), listener="chat") == ALICE
    with pytest.raises(Unauthenticated):
        await authenticate(api, Vouched(name="alice"), listener="http")


async def test_a_vouched_name_stands_beside_the_requestor_where_nobody_authenticates() -> None:
    api = API(trusted=["chat"])
    assert await authenticate(api, Vouched(name="alice"), listener="chat") == ALICE
    assert await authenticate(api, Vouched(name="alice"), listener="http") is None


async def test_where_there_are_authenticators_no_verb_but_version_is_for_the_anonymous() -> None:
    api = API(authenticators=[Door()])
    for verb, parameters in CALLS.items():
        with pytest.raises(Unauthenticated):
            await api.call(caller_of(api), verb, parameters)
    assert (await api.call(caller_of(api), "version", {})).error is None


async def test_who_may_not_ask_learns_nothing_of_the_parameters() -> None:
    api = API(authenticators=[Door()])
    for verb in CALLS:
        with pytest.raises(Unauthenticated):
            await api.call(caller_of(api), verb, {"nonsense": 1})
    with pytest.raises(Unauthenticated):
        await api.call(caller_of(api), "watch", {})


async def test_a_principal_may_do_what_its_scopes_say() -> None:
    api = API(authenticators=[Door()])
    reader = caller_of(api, principal=Principal(name="ci", scopes=frozenset({"status", "list"})))
    async with consumer(api, lambda _: EncodedJSON(b"{}")):
        for verb, parameters in CALLS.items():
            if verb in ("status", "list"):
                await api.call(reader, verb, parameters)
            else:
                with pytest.raises(Denied, match=f"ci may not {verb}"):
                    await api.call(reader, verb, parameters)
        with pytest.raises(Denied, match="ci may not watch"):
            async with api.watch(reader):
                pass


async def test_a_principal_without_scopes_may_do_everything_and_one_with_none_nothing() -> None:
    api = API()
    async with consumer(api, lambda _: ResponseDataList(job_ids=[])):
        await api.list(caller_of(api, principal=ALICE), JobQuery())
        with pytest.raises(Denied):
            await api.list(caller_of(api, principal=Principal(name="x", scopes=frozenset())), JobQuery())


async def test_a_proof_that_has_run_out_is_one_no_more() -> None:
    api = API()
    now = datetime.now(UTC)
    async with consumer(api, lambda _: ResponseDataList(job_ids=[])):
        fresh = Principal(name="alice", expires=now + timedelta(hours=1))
        stale = Principal(name="alice", expires=now - timedelta(seconds=1))
        await api.list(caller_of(api, principal=fresh), JobQuery())
        with pytest.raises(Unauthenticated, match="alice have run out"):
            await api.list(caller_of(api, principal=stale), JobQuery())


def test_every_caller_has_a_request_id_of_its_own_unless_it_brings_one() -> None:
    api = API()
    ids = {caller_of(api).request_id for _ in range(100)}
    assert len(ids) == 100
    assert caller_of(api, request_id="theirs").request_id == "theirs"
    assert not ids & {caller_of(API()).request_id for _ in range(100)}


def test_a_token_is_in_no_representation() -> None:
    assert "hunter2" not in repr(Bearer(token="hunter2"))
    assert "hunter2" not in str(Bearer(token="hunter2"))


# --- what a job manager offers


@pytest.mark.parametrize("verb", CALLS)
async def test_a_verb_that_is_not_declared_is_refused_as_an_answer_and_hands_nothing_over(verb: str) -> None:
    api = API(capabilities=frozenset(VERBS) - {verb})
    response = await api.call(caller_of(api), verb, CALLS[verb])
    assert isinstance(response.error, Unsupported)
    assert verb in response.error.message
    assert response.type is VERBS[verb].response
    assert not api.events._offers


@pytest.mark.parametrize(
    ("verb", "parameters", "named"),
    [
        ("start", {"jobDesc": "{}", "startKey": "k"}, "startKey of start"),
        ("start", {"jobDesc": "{}", "strict": True}, "strict of start"),
        ("status", {"jobID": 1, "run": 1}, "run of status"),
        ("status", {"jobID": 1, "test": "t"}, "test of status"),
        ("status", {"jobID": 1, "target": "T"}, "target of status"),
        ("status", {"jobID": 1, "events": False}, "events of status"),
        ("retry", {"jobID": 1, "failedOnly": True}, "failedOnly of retry"),
    ],
)
async def test_a_parameter_that_is_not_declared_is_refused_by_its_name(
    verb: str, parameters: Mapping[str, object], named: str
) -> None:
    api = API(capabilities=frozenset(VERBS))
    response = await api.call(caller_of(api), verb, parameters)
    assert isinstance(response.error, Unsupported)
    assert response.error.message.startswith(named)


async def test_a_parameter_that_says_what_is_the_default_needs_no_capability() -> None:
    api = API(capabilities=frozenset(VERBS))
    async with consumer(api, lambda _: EncodedJSON(b"{}")):
        assert (await api.call(caller_of(api), "start", {"jobDesc": "{}", "strict": False})).error is None
        assert (await api.call(caller_of(api), "status", {"jobID": 1, "events": True})).error is None


async def test_what_is_offered_may_change() -> None:
    api = API(capabilities=frozenset(VERBS))
    asked = {"jobID": 1, "run": 1}
    assert isinstance((await api.call(caller_of(api), "status", asked)).error, Unsupported)
    api.offer(frozenset({"status", "status.run"}))
    assert api.version().result().capabilities == ["status", "status.run"]
    async with consumer(api, lambda _: EncodedJSON(b"{}")):
        assert (await api.call(caller_of(api), "status", asked)).error is None
        assert isinstance((await api.call(caller_of(api), "list", {})).error, Unsupported)


async def test_an_api_that_is_not_told_otherwise_offers_everything() -> None:
    assert "anything.at_all" in ALL
    api = API()
    async with consumer(api, lambda _: EncodedJSON(b"{}")) as taken:
        await api.call(caller_of(api), "start", {"jobDesc": "{}", "startKey": "k", "strict": True})
    assert len(taken) == 1
    assert api.version().result().capabilities == []


@pytest.mark.parametrize(("key", "fits"), [("k", True), ("k" * 256, True), ("ü" * 129, False), ("", False)])
async def test_a_start_key_has_1_to_256_bytes(key: str, fits: bool) -> None:
    api = API()
    async with consumer(api, lambda _: ResponseDataStart(job_id=1)):
        if fits:
            await api.start(caller_of(api), "{}", start_key=key)
        else:
            with pytest.raises(InvalidParameters, match="startKey: must have 1 to 256 bytes"):
                await api.start(caller_of(api), "{}", start_key=key)


async def test_what_is_refused_at_the_end_is_shutting_down_and_all_else_goes_on() -> None:
    api = API()
    api.refuse("start", "retry")
    async with consumer(api, lambda _: EncodedJSON(b"{}")):
        for verb, parameters in CALLS.items():
            if verb in ("start", "retry"):
                with pytest.raises(ShuttingDown):
                    await api.call(caller_of(api), verb, parameters)
            else:
                await api.call(caller_of(api), verb, parameters)
        assert (await api.call(caller_of(api), "version", {})).error is None


# --- the server's name


def test_the_server_id_is_given_or_made_by_a_function_or_the_host_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "host-1")
    assert API(server_id="lab-1").server_id == "lab-1"
    assert API(server_id=lambda: "made").config.server_id == "made"
    assert API().server_id == "host-1"
    assert API(server_id="").server_id == "host-1"
    monkeypatch.setattr("socket.gethostname", lambda: "")
    assert API().server_id == "<unknown>"


@pytest.mark.parametrize(("server_id", "fits"), [("s" * 64, True), ("s" * 65, False), ("ü" * 33, False)])
def test_a_server_id_has_at_most_64_bytes(server_id: str, fits: bool) -> None:
    if fits:
        assert API(server_id=server_id).server_id == server_id
    else:
        with pytest.raises(ValueError, match=r"server ID is too long: 6\d > 64"):
            API(server_id=server_id)


def test_the_config_has_what_contests_options_set() -> None:
    config = API(event_timeout=1.5, server_id="s").config
    assert (config.event_timeout, config.server_id) == (1.5, "s")
