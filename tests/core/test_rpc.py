"""The JSON-RPC session over a channel in memory, clause by clause of the specification."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import jsonrpcclient
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contest_core.api import API
from contest_core.caller import Caller
from contest_core.errors import Denied, UnknownJob
from contest_core.events import Event, EventResponse, EventType
from contest_core.responses import EncodedJSON, ResponseDataList, ResponseDataStop, encode
from contest_core.rpc import Session

Answer = Callable[[Event], Awaitable[EventResponse]]


class Peer:
    """The other end of a session, and the job manager behind it."""

    def __init__(self) -> None:
        self.api = API(server_id="lab-1", event_timeout=5)
        self.sent: list[bytes] = []
        self.taken: list[Event] = []
        self.answers: dict[EventType, Answer] = {}
        self.consumer = asyncio.get_running_loop().create_task(self.consume())

    async def consume(self) -> None:
        async with asyncio.TaskGroup() as group:
            while True:
                event = await self.api.events.take()
                self.taken.append(event)
                group.create_task(self.answer(event))

    async def answer(self, event: Event) -> None:
        assert event.msg is not None
        answer = self.answers.get(event.type)
        if answer is not None:
            event.resolve(await answer(event))
        elif event.type is EventType.STOP:
            event.resolve(EventResponse(requestor=event.msg.requestor, data=ResponseDataStop()))
        else:
            data = ResponseDataList(job_ids=[len(self.taken)])
            event.resolve(EventResponse(requestor=event.msg.requestor, data=data))

    def caller(self) -> Caller:
        return self.api.caller(listener="memory", peer="test")

    async def send(self, message: bytes) -> None:
        self.sent.append(message)

    def session(self, **options: Any) -> Session:
        options = {"caller": self.caller, "send": self.send} | options
        return Session(self.api, **options)

    async def ask(self, message: bytes | str | dict[str, Any] | list[Any], **options: Any) -> Any:
        """What a session answers to one message; None where it does not."""
        before = len(self.sent)
        session = self.session(**options)
        await session.received(as_bytes(message))
        await session.aclose()
        answers = self.sent[before:]
        assert len(answers) <= 1
        return json.loads(answers[0]) if answers else None


def as_bytes(message: bytes | str | dict[str, Any] | list[Any]) -> bytes:
    if isinstance(message, bytes):
        return message
    return message.encode() if isinstance(message, str) else json.dumps(message).encode()


def call(method: str, params: Any = None, **members: Any) -> dict[str, Any]:
    given = {} if params is None else {"params": params}
    return {"jsonrpc": "2.0", "method": method, **given, **members}


def with_id(method: str, written: str) -> str:
    return f'{{"jsonrpc":"2.0","method":"{method}","id":{written}}}'


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    peer = Peer()
    yield peer
    peer.consumer.cancel()
    await asyncio.wait([peer.consumer])


async def gate(peer: Peer, kind: EventType = EventType.LIST) -> asyncio.Event:
    """Makes the answers to these events wait until the gate is set."""
    opened = asyncio.Event()

    async def answer(event: Event) -> EventResponse:
        await opened.wait()
        return EventResponse(requestor="me", data=ResponseDataList(job_ids=[]))

    peer.answers[kind] = answer
    return opened


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


# --- the request and its answer


async def test_a_result_is_the_object_that_http_has(peer: Peer) -> None:
    answer = await peer.ask(call("version", id=1))
    assert answer == {"jsonrpc": "2.0", "id": 1, "result": json.loads(encode(peer.api.version()))}


async def test_parameters_by_name_reach_the_verb(peer: Peer) -> None:
    answer = await peer.ask(call("stop", {"jobID": 42, "requestor": "me"}, id=3))
    assert answer["result"]["Type"] == "ResponseTypeStop"
    assert peer.taken[0].msg.job_id == 42  # type: ignore[union-attr]
    assert peer.taken[0].context.requestor == "me"


async def test_parameters_by_position_are_refused_with_the_names(peer: Peer) -> None:
    answer = await peer.ask(call("stop", [42, 23], id=1))
    assert (answer["id"], answer["error"]["code"]) == (1, -32602)
    assert "by name" in answer["error"]["message"]
    assert "jobID" in answer["error"]["message"]


@pytest.mark.parametrize("params", [[], {}, None])
async def test_no_parameters_may_be_written_in_any_way(peer: Peer, params: Any) -> None:
    answer = await peer.ask({"jsonrpc": "2.0", "method": "version", "params": params, "id": 1})
    assert answer["result"]["Data"]["Version"] == 5


async def test_members_that_the_specification_does_not_have_are_ignored(peer: Peer) -> None:
    answer = await peer.ask(call("version", id=1, meta={"trace": [1, 2]}))
    assert answer["result"]["Data"]["Version"] == 5


@pytest.mark.parametrize(
    "written",
    [
        "1",
        "0",
        "-7",
        "1.50",
        "1e400",
        "123456789012345678901234567890123456789",
        '"9"',
        '""',
        '"\\u00e9\\n\\"é"',
        "null",
    ],
)
async def test_an_id_comes_back_as_it_was_written(peer: Peer, written: str) -> None:
    await peer.ask(with_id("version", written))
    await peer.ask(with_id("nothing", written))
    assert len(peer.sent) == 2
    for sent in peer.sent:
        assert f'"id":{written},'.encode() in sent


@pytest.mark.parametrize("written", ["true", "false", "[1]", "{}"])
async def test_an_id_of_another_kind_makes_an_invalid_request(peer: Peer, written: str) -> None:
    answer = await peer.ask(with_id("version", written))
    assert (answer["id"], answer["error"]["code"]) == (None, -32600)


# --- notifications


async def test_a_notification_is_carried_out_and_not_answered(peer: Peer) -> None:
    assert await peer.ask(call("stop", {"jobID": 1, "requestor": "me"})) is None
    assert [event.type for event in peer.taken] == [EventType.STOP]


@pytest.mark.parametrize(
    "notification",
    [
        call("foobar"),
        call("stop", [1]),
        call("stop", {"jobID": "x", "requestor": "me"}),
        '{"jsonrpc":"2.0","method":"stop","params":{"jobID":1e999}}',
    ],
)
async def test_a_notification_that_fails_is_not_answered(peer: Peer, notification: Any) -> None:
    assert await peer.ask(notification) is None


async def test_a_request_with_the_id_null_is_no_notification(peer: Peer) -> None:
    answer = await peer.ask(call("version", id=None))
    assert answer["id"] is None
    assert "result" in answer


# --- errors


@pytest.mark.parametrize(
    "message",
    [
        b'{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]',
        b'[{"jsonrpc": "2.0", "method": "version", "id": "1"},{"jsonrpc": "2.0", "method"]',
        b"",
        b"version",
        b"{",
        b"1,2",
        b'{"jsonrpc":"2.0","method":1,"id":1',
        b'{"jsonrpc":"2.0","method":"version","id":01}',
        b'{"jsonrpc":"2.0","method":"version","id":NaN}',
        b'{"jsonrpc":"2.0","method":"version","id":"\xff"}',
        b'{"jsonrpc":"2.0","method":"version","id":"\xed\xa0\x80"}',
        b'{"jsonrpc":"2.0","method":"version","unknown":"\xff","id":1}',
        b'\xef\xbb\xbf{"jsonrpc":"2.0","method":"version","id":1}',
        b'{"jsonrpc":"2.0","method":"version","id":1} {}',
    ],
)
async def test_what_is_no_json_is_a_parse_error_without_an_id(peer: Peer, message: bytes) -> None:
    answer = await peer.ask(message)
    assert (answer["jsonrpc"], answer["id"], answer["error"]["code"]) == ("2.0", None, -32700)
    assert answer["error"]["data"] == {"Code": "invalid_message", "ServerID": "lab-1"}


@pytest.mark.parametrize(
    ("message", "identity", "words"),
    [
        ({"jsonrpc": "2.0", "method": 1, "params": "bar"}, None, "method"),
        ({"jsonrpc": "2.0", "method": "version", "params": "bar"}, None, "params"),
        ({"jsonrpc": "2.0", "method": "version", "params": 1, "id": 5}, 5, "params"),
        ({"jsonrpc": "2.0", "method": "version", "params": False, "id": 5}, 5, "params"),
        ({"jsonrpc": "2.0", "id": "x"}, "x", "method"),
        ({"jsonrpc": "1.0", "method": "version", "id": 1}, 1, "jsonrpc"),
        ({"jsonrpc": 2.0, "method": "version", "id": 1}, 1, "jsonrpc"),
        ({"method": "version", "id": 1}, 1, "jsonrpc"),
        ({"jsonrpc": "1.0", "method": "version", "id": [1]}, None, "jsonrpc"),
        ({"foo": "boo"}, None, "jsonrpc"),
        ("1", None, "object"),
        ('"version"', None, "object"),
        ("null", None, "object"),
    ],
)
async def test_json_that_is_no_request_is_an_invalid_request(
    peer: Peer, message: Any, identity: Any, words: str
) -> None:
    answer = await peer.ask(message)
    assert (answer["id"], answer["error"]["code"]) == (identity, -32600)
    assert words in answer["error"]["message"]


RESPONSE = {"jsonrpc": "2.0", "id": 1}


@pytest.mark.parametrize(
    "message",
    [
        RESPONSE | {"result": 7},
        RESPONSE | {"result": None},
        RESPONSE | {"error": {"code": -32600, "message": "no"}},
        {"jsonrpc": "2.0", "id": None, "error": {"code": -32600, "message": "no"}},
        [RESPONSE | {"result": 7}, RESPONSE | {"error": {"code": 1, "message": "no"}}],
    ],
)
async def test_a_response_is_no_request_so_nothing_is_answered(peer: Peer, message: Any) -> None:
    assert await peer.ask(message) is None


async def test_a_response_in_a_batch_takes_no_place_among_the_answers(peer: Peer) -> None:
    answers = await peer.ask([RESPONSE | {"result": 7}, call("version", id=2), {"jsonrpc": "2.0", "id": 3}])
    assert [answer["id"] for answer in answers] == [2, 3]


@pytest.mark.parametrize(
    "message",
    [
        {"id": 1, "result": 7},
        {"jsonrpc": "2.0", "result": 7},
        {"jsonrpc": "2.0", "id": [], "result": 7},
        RESPONSE | {"result": 7, "error": {"code": 1, "message": "no"}},
        RESPONSE | {"method": 7, "result": 7},
    ],
)
async def test_what_is_not_quite_a_response_is_an_invalid_request(peer: Peer, message: Any) -> None:
    assert (await peer.ask(message))["error"]["code"] == -32600


async def test_two_sessions_that_are_connected_to_each_other_come_to_rest(peer: Peer) -> None:
    sessions = [peer.session(), peer.session()]
    message = b"no JSON"
    for session in sessions:
        await session.received(message)
        message = peer.sent.pop() if peer.sent else b""
        if not message:
            break
    else:
        pytest.fail(f"the second one has answered an answer: {message!r}")


async def test_a_method_that_does_not_exist_is_told_with_the_nearest(peer: Peer) -> None:
    answer = await peer.ask(call("verson", id="1"))
    assert (answer["id"], answer["error"]["code"]) == ("1", -32601)
    assert "'version'" in answer["error"]["message"]


@pytest.mark.parametrize("method", ["rpc.version", "rpc.", "", "Version", "foobar"])
async def test_reserved_and_unknown_methods_are_not_found(peer: Peer, method: str) -> None:
    answer = await peer.ask(call(method, [1], id=1))
    assert answer["error"]["code"] == -32601
    assert answer["error"]["data"] == {"Code": "unknown_verb", "ServerID": "lab-1"}


@pytest.mark.parametrize(
    "params", [{"requestor": "me"}, {"jobID": 1}, {"jobID": 1, "requestor": "me", "colour": 1}]
)
async def test_wrong_parameters_are_invalid_params(peer: Peer, params: Any) -> None:
    answer = await peer.ask(call("stop", params, id=1))
    assert answer["error"]["code"] == -32602
    assert answer["error"]["data"] == {"Code": "invalid_parameters", "ServerID": "lab-1"}


@pytest.mark.parametrize("number", ["1e999", "1" * 5000])
async def test_a_number_that_cannot_be_read_is_invalid_params(peer: Peer, number: str) -> None:
    message = '{"jsonrpc":"2.0","method":"stop","params":{"jobID":NUMBER},"id":9}'
    answer = await peer.ask(message.replace("NUMBER", number))
    assert (answer["id"], answer["error"]["code"]) == (9, -32602)


async def test_a_refusal_has_its_number_and_the_data_of_the_answer(peer: Peer) -> None:
    async def refuse(event: Event) -> EventResponse:
        return EventResponse(requestor="me", err=UnknownJob(job_id=7))

    peer.answers[EventType.STOP] = refuse
    answer = await peer.ask(call("stop", {"jobID": 7, "requestor": "me"}, id=1))
    assert answer["error"] == {
        "code": -32011,
        "message": "there is no job 7",
        "data": {"Code": "unknown_job", "ServerID": "lab-1", "Type": "ResponseTypeStop", "Data": {}},
    }


async def test_a_request_that_never_reached_the_manager_has_no_data_of_an_answer(peer: Peer) -> None:
    peer.api.refuse("stop")
    answer = await peer.ask(call("stop", {"jobID": 7, "requestor": "me"}, id=1))
    assert answer["error"]["code"] == -32031
    assert answer["error"]["data"] == {"Code": "shutting_down", "ServerID": "lab-1"}


async def test_what_the_caller_cannot_be_is_the_answer(peer: Peer) -> None:
    def refuse() -> Caller:
        raise Denied(principal="eve", verb="list")

    answer = await peer.ask(call("list", id=1), caller=refuse)
    assert answer["error"]["code"] == -32021


async def test_encoded_data_is_copied_through(peer: Peer) -> None:
    async def answer(event: Event) -> EventResponse:
        return EventResponse(requestor="me", data=EncodedJSON(b'{"Big" : 1.0e2}'))

    peer.answers[EventType.LIST] = answer
    await peer.ask(call("list", {"requestor": "me"}, id=1))
    assert b'"Data":{"Big" : 1.0e2}' in peer.sent[0]


async def test_a_fault_is_logged_with_its_traceback_and_ends_nothing(
    peer: Peer, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> Caller:
        raise ZeroDivisionError("a secret")

    session = peer.session(caller=fail)
    await session.received(as_bytes(call("list", id=1)))
    await session.received(as_bytes(call("list", id=2)))
    codes = [json.loads(sent)["error"]["code"] for sent in peer.sent]
    assert codes == [-32603, -32603]
    assert "secret" not in peer.sent[0].decode()
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 2
    assert "ZeroDivisionError: a secret" in caplog.text


async def test_data_that_cannot_be_encoded_is_a_fault_under_the_requests_id(
    peer: Peer, caplog: pytest.LogCaptureFixture
) -> None:
    async def answer(event: Event) -> EventResponse:
        return EventResponse(requestor="me", data={"surrogate": "\ud800"})

    peer.answers[EventType.LIST] = answer
    answered = await peer.ask(call("list", {"requestor": "me"}, id=1))
    assert answered["error"]["code"] == -32603
    assert peer.taken[0].context.request_id in answered["error"]["message"]
    assert peer.taken[0].context.request_id in caplog.text


@pytest.mark.parametrize("depth", [500, 960, 2_000, 100_000])
@pytest.mark.parametrize("place", ['"params":{"jobDesc":%s,"requestor":"me"}', '"id":%s', '"more":%s'])
@pytest.mark.parametrize("around", ["%s", "[%s]"])
async def test_no_depth_of_nesting_is_a_fault(peer: Peer, depth: int, place: str, around: str) -> None:
    deep = '{"a":' * depth + "1" + "}" * depth
    message = '{"jsonrpc":"2.0","method":"start",%s,"id":1}' % (place % deep)
    answer = await peer.ask(around % message)
    one = answer[0] if isinstance(answer, list) else answer
    assert "result" in one or one["error"]["code"] in (-32700, -32602, -32600)


# --- batches


async def test_an_empty_batch_is_one_invalid_request(peer: Peer) -> None:
    answer = await peer.ask([])
    assert (answer["id"], answer["error"]["code"]) == (None, -32600)


@pytest.mark.parametrize("members", [[1], [1, 2, 3], [[]], [None]])
async def test_a_batch_of_no_requests_has_an_error_for_each(peer: Peer, members: list[Any]) -> None:
    answers = await peer.ask(members)
    assert [(answer["id"], answer["error"]["code"]) for answer in answers] == [(None, -32600)] * len(members)


@pytest.mark.parametrize("concurrency", [1, 2, 100])
async def test_a_mixed_batch_is_answered_without_its_notifications(peer: Peer, concurrency: int) -> None:
    answers = await peer.ask(
        [
            call("list", {"requestor": "me"}, id="1"),
            call("stop", {"jobID": 7, "requestor": "me"}),
            call("version", id="2"),
            {"foo": "boo"},
            call("foo.get", {"name": "myself"}, id="5"),
            call("list", {"requestor": "me"}, id="9"),
        ],
        concurrency=concurrency,
    )
    assert [(answer["id"], answer.get("error", {}).get("code")) for answer in answers] == [
        ("1", None),
        ("2", None),
        (None, -32600),
        ("5", -32601),
        ("9", None),
    ]
    assert [event.type for event in peer.taken] == [EventType.LIST, EventType.STOP, EventType.LIST]


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_a_batch_of_notifications_is_not_answered(peer: Peer, concurrency: int) -> None:
    batch = [call("stop", {"jobID": number, "requestor": "me"}) for number in (1, 2)]
    assert await peer.ask(batch, concurrency=concurrency) is None
    assert len(peer.taken) == 2


async def test_a_batch_of_one_is_answered_by_an_array(peer: Peer) -> None:
    assert [answer["id"] for answer in await peer.ask([call("version", id=1)])] == [1]


async def test_a_batch_over_its_limit_is_refused_as_a_whole(peer: Peer) -> None:
    answer = await peer.ask([call("list", {"requestor": "me"}, id=1)] * 4, max_batch=3)
    assert (answer["id"], answer["error"]["code"]) == (None, -32022)
    assert not peer.taken


# --- limits


async def test_an_answer_over_its_limit_says_how_to_ask_for_less(peer: Peer) -> None:
    async def answer(event: Event) -> EventResponse:
        return EventResponse(requestor="me", data=EncodedJSON(b'"%b"' % (b"x" * 2000)))

    peer.answers[EventType.LIST] = answer
    answered = await peer.ask(call("list", {"requestor": "me"}, id=1), max_answer=2000)
    assert (answered["id"], answered["error"]["code"]) == (1, -32022)
    assert "`events`" in answered["error"]["message"]


async def test_the_answers_of_a_batch_share_one_limit(peer: Peer) -> None:
    async def answer(event: Event) -> EventResponse:
        return EventResponse(requestor="me", data=EncodedJSON(b'"%b"' % (b"x" * 1000)))

    peer.answers[EventType.LIST] = answer
    batch = [call("list", {"requestor": "me"}, id=number) for number in range(4)]
    answers = await peer.ask(batch, max_answer=3000)
    assert ["error" in answer for answer in answers] == [False, False, True, True]
    assert [answer["id"] for answer in answers] == [0, 1, 2, 3]


async def test_a_message_that_the_transport_rejects_is_answered_without_an_id(peer: Peer) -> None:
    session = peer.session()
    await session.reject(UnknownJob(job_id=1))
    assert json.loads(peer.sent[0])["id"] is None


# --- order and room


async def test_one_at_a_time_answers_come_in_order_and_the_next_waits(peer: Peer) -> None:
    opened = await gate(peer)
    session = peer.session()
    first = asyncio.create_task(session.received(as_bytes(call("list", {"requestor": "me"}, id=1))))
    await until(lambda: bool(peer.taken))
    assert not first.done()
    opened.set()
    await first
    await session.received(as_bytes(call("version", id=2)))
    assert [json.loads(sent)["id"] for sent in peer.sent] == [1, 2]


async def test_with_concurrency_a_slow_request_does_not_hold_up_the_next(peer: Peer) -> None:
    opened = await gate(peer)
    session = peer.session(concurrency=2)
    await session.received(as_bytes(call("list", {"requestor": "me"}, id="slow")))
    await session.received(as_bytes(call("version", id="quick")))
    assert [json.loads(sent)["id"] for sent in peer.sent] == ["quick"]
    opened.set()
    await session.aclose()
    assert [json.loads(sent)["id"] for sent in peer.sent] == ["quick", "slow"]


async def test_received_returns_when_there_is_room_for_the_next(peer: Peer) -> None:
    opened = await gate(peer)
    session = peer.session(concurrency=3)
    request = call("list", {"requestor": "me"}, id=1)
    async with asyncio.timeout(5):
        await session.received(as_bytes(request))
        await session.received(as_bytes(request))
        third = asyncio.create_task(session.received(as_bytes(request)))
        await until(lambda: len(peer.taken) == 3)
        assert not third.done()
        opened.set()
        await third
    await session.aclose()
    assert len(peer.sent) == 3


async def test_the_members_of_a_batch_count_too(peer: Peer) -> None:
    opened = await gate(peer)
    session = peer.session(concurrency=2)
    batch = asyncio.create_task(session.received(as_bytes([call("list", {"requestor": "me"}, id=1)] * 5)))
    await until(lambda: len(peer.taken) == 2)
    for _ in range(50):
        await asyncio.sleep(0)
    assert len(peer.taken) == 2
    opened.set()
    await batch
    await session.aclose()
    assert len(peer.taken) == 5
    assert [len(json.loads(sent)) for sent in peer.sent] == [5]


async def test_send_is_never_called_before_it_has_returned(peer: Peer) -> None:
    sending = 0
    most = 0

    async def send(message: bytes) -> None:
        nonlocal sending, most
        sending += 1
        most = max(most, sending)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        sending -= 1

    session = peer.session(concurrency=10, send=send)
    for number in range(10):
        await session.received(as_bytes(call("list", {"requestor": "me"}, id=number)))
    await session.aclose()
    assert most == 1


# --- the end


@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize("error", [ConnectionResetError, BrokenPipeError, OSError])
async def test_a_peer_that_goes_away_ends_the_session_in_good_order(
    peer: Peer, concurrency: int, error: type[OSError], caplog: pytest.LogCaptureFixture
) -> None:
    async def send(message: bytes) -> None:
        raise error

    opened = await gate(peer)
    session = peer.session(concurrency=concurrency, send=send)
    if concurrency > 1:
        await session.received(as_bytes(call("list", {"requestor": "me"}, id=1)))
        await until(lambda: bool(peer.taken))
    await session.received(as_bytes(call("version", id=2)))
    assert session.gone
    await session.received(as_bytes(call("stop", {"jobID": 1, "requestor": "me"}, id=3)))
    await session.aclose()
    opened.set()
    assert all(event.response.cancelled() for event in peer.taken)
    assert EventType.STOP not in [event.type for event in peer.taken]
    assert not [record for record in caplog.records if record.levelno > logging.DEBUG]


@pytest.mark.parametrize("concurrency", [1, 4])
async def test_another_failure_to_send_is_not_swallowed(peer: Peer, concurrency: int) -> None:
    async def send(message: bytes) -> None:
        raise ZeroDivisionError

    session = peer.session(concurrency=concurrency, send=send)

    async def use() -> None:
        await session.received(as_bytes(call("list", {"requestor": "me"}, id=1)))
        await session.aclose()

    with pytest.raises(ZeroDivisionError):
        await use()


@pytest.mark.parametrize("concurrency", [1, 4])
async def test_closing_waits_for_what_is_in_flight(peer: Peer, concurrency: int) -> None:
    opened = await gate(peer)
    session = peer.session(concurrency=concurrency)
    receiving = asyncio.create_task(session.received(as_bytes(call("list", {"requestor": "me"}, id=1))))
    await until(lambda: bool(peer.taken))
    closing = asyncio.create_task(session.aclose())
    await asyncio.sleep(0)
    await session.received(as_bytes(call("version", id=2)))
    assert not closing.done()
    opened.set()
    async with asyncio.timeout(5):
        await closing
    await receiving
    assert [json.loads(sent)["id"] for sent in peer.sent] == [1]


async def test_closing_that_is_cancelled_cancels_what_is_in_flight(peer: Peer) -> None:
    await gate(peer)
    session = peer.session(concurrency=4)
    await session.received(as_bytes(call("list", {"requestor": "me"}, id=1)))
    await until(lambda: bool(peer.taken))
    closing = asyncio.create_task(session.aclose())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert peer.taken[0].response.cancelled()
    assert not peer.sent


async def test_receiving_that_is_cancelled_withdraws_the_request(peer: Peer) -> None:
    await gate(peer)
    session = peer.session()
    receiving = asyncio.create_task(session.received(as_bytes(call("list", {"requestor": "me"}, id=1))))
    await until(lambda: bool(peer.taken))
    receiving.cancel()
    await asyncio.wait([receiving])
    assert peer.taken[0].response.cancelled()
    async with asyncio.timeout(5):
        await session.aclose()


# --- a client that nobody here wrote


async def test_jsonrpcclient_builds_requests_and_understands_the_answers(peer: Peer) -> None:
    ok = jsonrpcclient.parse(await peer.ask(jsonrpcclient.request_json("version")))
    assert isinstance(ok, jsonrpcclient.Ok)
    assert ok.result["Data"]["Version"] == 5
    refused = jsonrpcclient.parse(await peer.ask(jsonrpcclient.request_json("stop", params=(1,))))
    assert isinstance(refused, jsonrpcclient.Error)
    assert refused.code == -32602
    assert await peer.ask(jsonrpcclient.notification_json("version")) is None
    batch = [jsonrpcclient.request("version"), jsonrpcclient.request_uuid("list", {"requestor": "me"})]
    answers = jsonrpcclient.parse(await peer.ask(json.dumps(batch)))
    assert all(isinstance(answer, jsonrpcclient.Ok) for answer in answers)


# --- anything at all

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
METHODS = st.sampled_from(["version", "list", "stop", "start", "status", "watch", "rpc.x"]) | st.text()
NAMES = st.sampled_from(["requestor", "jobID", "jobDesc", "states", "tags", "apiVersion", "events"])
REQUESTS = st.fixed_dictionaries(
    {},
    optional={
        "jsonrpc": st.just("2.0") | JSON,
        "method": METHODS | JSON,
        "params": st.dictionaries(NAMES | st.text(), JSON, max_size=4) | JSON,
        "id": JSON,
    },
)
MESSAGES = (
    st.binary()
    | JSON.map(lambda value: json.dumps(value).encode())
    | REQUESTS.map(lambda value: json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass"))
    | st.lists(REQUESTS, max_size=4).map(lambda value: json.dumps(value).encode())
)


def check_answer(answer: Any) -> None:
    assert answer["jsonrpc"] == "2.0"
    assert set(answer) in ({"jsonrpc", "id", "result"}, {"jsonrpc", "id", "error"})
    assert not isinstance(answer["id"], bool | list | dict)
    if "error" in answer:
        assert isinstance(answer["error"]["code"], int)
        assert answer["error"]["code"] != -32603
        assert isinstance(answer["error"]["message"], str)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=300)
@given(message=MESSAGES, concurrency=st.sampled_from([1, 3]))
def test_any_bytes_are_answered_or_are_notifications(message: bytes, concurrency: int) -> None:
    async def ask() -> Any:
        peer = Peer()
        try:
            async with asyncio.timeout(10):
                return await peer.ask(message, concurrency=concurrency)
        finally:
            peer.consumer.cancel()
            await asyncio.wait([peer.consumer])

    answer = asyncio.run(ask())
    if isinstance(answer, list):
        assert answer
        for one in answer:
            check_answer(one)
    elif answer is not None:
        check_answer(answer)


@settings(deadline=None, max_examples=100)
@given(identity=st.none() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text())
def test_any_id_comes_back_equal(identity: Any) -> None:
    async def ask() -> Any:
        peer = Peer()
        try:
            return await peer.ask(call("version", id=identity))
        finally:
            peer.consumer.cancel()
            await asyncio.wait([peer.consumer])

    assert asyncio.run(ask())["id"] == identity


# --- the document of the methods


async def test_discover_answers_with_the_document_of_what_is_offered_now(peer: Peer) -> None:
    peer.api.offer(frozenset({"list"}))
    first = await peer.ask(call("rpc.discover", id=1))
    assert first["result"]["openrpc"].startswith("1.3")
    assert [method["name"] for method in first["result"]["methods"]] == ["list", "version"]
    peer.api.offer(frozenset({"list", "locks"}))
    second = await peer.ask([call("rpc.discover", {"requestor": "me"}, id="two"), call("rpc.discover")])
    assert [method["name"] for method in second[0]["result"]["methods"]] == ["list", "version", "locks"]
    assert len(second) == 1


@pytest.mark.parametrize("params", [{"jobID": 7}, ["x"], [{}]])
async def test_discover_takes_no_parameters(peer: Peer, params: Any) -> None:
    answer = await peer.ask(call("rpc.discover", params, id=1))
    assert (answer["error"]["code"], answer["error"]["message"]) == (
        -32602,
        "rpc.discover takes no parameters",
    )


async def test_a_document_that_is_larger_than_the_peer_takes_is_an_error(peer: Peer) -> None:
    answer = await peer.ask(call("rpc.discover", id=1), max_answer=1000)
    assert answer["error"]["data"]["Code"] == "too_large"
