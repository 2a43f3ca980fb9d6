"""The typed client over any transport: what goes out, what comes back, and whose fault it is."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Self

import pytest

from contest_core import (
    Bearer,
    Client,
    ClientOptions,
    Contest,
    ContestError,
    Cursor,
    Denied,
    Gap,
    InvalidDescriptor,
    JobEvent,
    JobQuery,
    JobState,
    Overloaded,
    Refused,
    StartKeyConflict,
    Unauthenticated,
    UnknownJob,
    Unreachable,
    open_server,
)
from contest_core.client import client_class, connect
from contest_core.plugins import PluginInfo, Plugins
from contest_core.testing.direct import DirectClient, DirectListener
from contest_core.testing.memory import MemoryJobManager

CLOSED: list[str] = []


class Canned(Client):
    """Answers every request with the same bytes, and keeps what it was asked."""

    def __init__(self, answer: bytes = b"", events: tuple[bytes, ...] = ()) -> None:
        self.answer = answer
        self.events = events
        self.asked: list[tuple[str, dict[str, object]]] = []

    @classmethod
    async def connect(cls, address: str, options: ClientOptions) -> Self:
        if address == "canned:nobody":
            raise Unreachable(address=address, reason="nobody is there")
        return cls(b'{"ServerID":"s","Type":"ResponseTypeVersion","Data":{"Version":5},"Error":null}')

    async def call(self, verb: str, parameters: Mapping[str, object]) -> bytes:
        self.asked.append((verb, dict(parameters)))
        return self.answer

    def watch(self, parameters: Mapping[str, object]) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        self.asked.append(("watch", dict(parameters)))
        return self._watch()

    @asynccontextmanager
    async def _watch(self) -> AsyncIterator[AsyncIterator[bytes]]:
        async def messages() -> AsyncIterator[bytes]:
            for event in self.events:
                yield event

        yield messages()

    async def aclose(self) -> None:
        CLOSED.append("closed")


def over(answer: bytes) -> tuple[Contest, Canned]:
    client = Canned(answer)
    return Contest(client, ClientOptions(requestor="me", patience=0)), client


def answered(kind: str, data: object, **more: object) -> bytes:
    return json.dumps(
        {"ServerID": "s", "Type": f"ResponseType{kind}", "Data": data, "Error": None, **more}
    ).encode()


async def test_every_verb_goes_out_by_its_wire_names_and_comes_back_typed() -> None:
    contest, client = over(answered("Start", {"JobID": 7}))
    assert (await contest.start("{}", start_key="k", strict=True)).result().job_id == 7
    contest.client = client = Canned(answered("Stop", {}))
    assert (await contest.stop(7)).error is None
    assert client.asked == [("stop", {"requestor": "me", "jobID": 7})]
    contest.client = client = Canned(answered("Status", {"Status": None}))
    assert (await contest.status(7, run=1, test="t", target="T", events=False)).result().status is None
    wanted = {"requestor": "me", "jobID": 7, "run": 1, "test": "t", "target": "T", "events": False}
    assert client.asked == [("status", wanted)]
    contest.client = client = Canned(answered("Retry", {"JobID": 7, "NewJobID": 8}))
    assert (await contest.retry(7, failed_only=True)).result().new_job_id == 8
    assert client.asked == [("retry", {"requestor": "me", "jobID": 7, "failedOnly": True})]
    contest.client = client = Canned(answered("List", {"JobIDs": [1, 2]}))
    query = JobQuery(states=(JobState.STARTED, JobState.FAILED), tags=("a", "b"))
    assert (await contest.list(query)).result().job_ids == [1, 2]
    wanted = {"requestor": "me", "states": "JobStateStarted,JobStateFailed", "tags": "a,b"}
    assert client.asked == [("list", wanted)]
    contest.client = client = Canned(answered("Validate", {"Findings": None}))
    assert (await contest.validate("{}")).result().findings is None
    contest.client = client = Canned(answered("Locks", {"Locks": []}))
    assert (await contest.locks()).result().locks == []


async def test_what_was_not_given_is_not_sent() -> None:
    contest, client = over(answered("Start", {"JobID": 7}))
    await contest.start("{}")
    contest.client.answer = answered("Status", {"Status": None})  # type: ignore[attr-defined]
    await contest.status(7)
    contest.client.answer = answered("List", {"JobIDs": []})  # type: ignore[attr-defined]
    await contest.list(JobQuery())
    assert client.asked == [
        ("start", {"requestor": "me", "jobDesc": "{}"}),
        ("status", {"requestor": "me", "jobID": 7}),
        ("list", {"requestor": "me"}),
    ]


async def test_a_refusal_is_an_answer_whose_result_raises_it_as_what_it_is() -> None:
    contest, _ = over(answered("Status", {"Status": None}, Error="there is no job 7", Code="unknown_job"))
    response = await contest.status(7)
    assert isinstance(response.error, UnknownJob)
    with pytest.raises(UnknownJob, match="there is no job 7"):
        response.result()


async def test_a_request_that_reached_nobody_raises_what_it_is() -> None:
    contest, _ = over(b'{"Msg":"not taken","Code":"overloaded"}')
    with pytest.raises(Overloaded, match="not taken") as raised:
        await contest.start("{}")
    assert raised.value.safe_to_repeat


async def test_a_code_of_a_newer_server_is_a_plain_error_that_keeps_it() -> None:
    contest, _ = over(b'{"Msg":"no more today","Code":"quota_exceeded"}')
    with pytest.raises(ContestError, match="no more today") as raised:
        await contest.start("{}")
    assert type(raised.value) is ContestError
    assert raised.value.code == "quota_exceeded"


async def test_answers_of_contests_own_server_without_codes_are_understood() -> None:
    contest, _ = over(b'{"ServerID":"go","Type":"ResponseTypeStart","Data":{"JobID":0},"Error":"bad tag"}\n')
    with pytest.raises(ContestError, match="bad tag"):
        (await contest.start("{}")).result()
    contest, _ = over(b'{"Msg":"Status failed: job ID cannot be empty"}\n')
    with pytest.raises(ContestError, match="cannot be empty"):
        await contest.status(7)


async def test_a_refusal_that_has_words_alone_is_no_fault_of_the_server() -> None:
    contest, _ = over(answered("Retry", {"JobID": 7, "NewJobID": 0}, Error="Not implemented"))
    error = (await contest.retry(7)).error
    assert isinstance(error, Refused)
    assert (error.message, error.code, error.exit_code) == ("Not implemented", "refused", 2)


@pytest.mark.parametrize("data", ["null", "absent"])
async def test_beside_an_error_the_data_may_be_missing(data: str) -> None:
    answer: dict[str, Any] = {
        "ServerID": "s",
        "Type": "ResponseTypeRetry",
        "Error": "no",
        "Code": "unsupported",
    }
    contest, _ = over(json.dumps({**answer, "Data": None} if data == "null" else answer).encode())
    response = await contest.retry(7)
    assert response.data.new_job_id == 0
    assert response.error is not None


async def test_findings_of_a_refused_descriptor_reach_the_error() -> None:
    finding = {"Severity": "error", "Code": "x", "Path": "/a", "Message": "no"}
    refused = {"Error": "refused", "Code": "invalid_descriptor"}
    contest, _ = over(answered("Start", {"JobID": 0, "Findings": [finding]}, **refused))
    with pytest.raises(InvalidDescriptor) as raised:
        (await contest.start("{}")).result()
    assert [one.path for one in raised.value.findings] == ["/a"]


@pytest.mark.parametrize(
    "answer",
    [
        *(b"", b"<html>", b"[]", b'"x"', b'{"Type":"ResponseTypeStart"}', b'{"Data":{"JobID":"x"}}'),
        b'{"ServerID":"\xff","Data":{"JobID":1}}',
        b'{"Data":{"JobID":1,"Warnings":[{"Severity":"\xff"}]}}',
        b'{"Data":' + b"[" * 100_000,
    ],
)
async def test_what_is_no_answer_of_contests_says_so(answer: bytes) -> None:
    contest, _ = over(answer)
    with pytest.raises(ContestError, match="the server's answer to start is not Contest's"):
        await contest.start("{}")


async def test_more_keys_and_values_than_it_knows_are_passed_over() -> None:
    data = {
        "JobID": 7,
        "Warnings": [{"Severity": "fatal", "Code": "c", "Path": "", "Message": "m"}],
        "Color": "red",
    }
    contest, _ = over(answered("Start", data, More=1))
    assert (await contest.start("{}")).result().warnings[0].severity == "fatal"


async def test_a_watch_gives_events_and_gaps() -> None:
    event = {
        "SequenceID": 1,
        "EmitTime": "2026-11-23T22:55:01Z",
        "Header": {"JobID": 1, "RunID": None, "TestName": None, "TestAttempt": None, "TestStepLabel": None},
        "Data": {"Target": None, "EventName": "JobStateStarted", "Payload": None},
        "Cursor": "c1",
    }
    messages = (json.dumps({"Event": event}).encode(), b'{"Gap":{"Missed":null,"Cursor":"c2"}}')
    client = Canned(events=messages)
    async with Contest(client, ClientOptions(requestor="me")).watch(job_id=1, since=Cursor("c0")) as watch:
        first, second = await anext(watch), await anext(watch)
    assert isinstance(first, JobEvent)
    assert first.cursor == "c1"
    assert second == Gap(missed=None, cursor="c2")
    assert client.asked[0] == ("watch", {"requestor": "me", "jobID": 1, "since": "c0"})


@pytest.mark.parametrize(
    "message",
    [
        *(b'{"Other":1}', b'{"Event":{}}', b"<html>", b'{"Gap":{"Missed":1,"Cursor":"\xff"}}'),
        b'{"Event":' + b"[" * 100_000,
    ],
)
async def test_a_message_of_a_watch_that_is_neither_is_not_contests(message: bytes) -> None:
    async with Contest(Canned(events=(message,)), ClientOptions()).watch() as watch:
        with pytest.raises(ContestError, match="a message of the server's watch is not Contest's"):
            await anext(watch)


# --- finding one by its address


def plugins_with(place: str = f"{__name__}:Canned", *, broken: str | None = None) -> Plugins:
    plugins = Plugins()
    plugins.clients.current_plugin = "canned"
    plugins.clients.add("canned", place)
    if broken:
        plugins.infos.append(
            PluginInfo(name="pigeon", module="m", distribution="d", version="1", failure=broken)
        )
    return plugins


@pytest.fixture
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """This file is no module that could be imported by name."""
    import sys

    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__) or type(sys)(__name__))
    monkeypatch.setattr(sys.modules[__name__], "Canned", Canned, raising=False)


@pytest.mark.usefixtures("_importable")
async def test_connect_finds_the_client_by_its_scheme_and_closes_it() -> None:
    CLOSED.clear()
    async with connect("CANNED:anybody", plugins=plugins_with()) as contest:
        assert (await contest.version()).result().version == 5
        assert CLOSED == []
    assert CLOSED == ["closed"]


@pytest.mark.usefixtures("_importable")
async def test_connect_closes_also_when_the_block_fails() -> None:
    CLOSED.clear()
    with pytest.raises(KeyError):
        async with connect("canned:anybody", plugins=plugins_with()):
            raise KeyError
    assert CLOSED == ["closed"]


@pytest.mark.usefixtures("_importable")
async def test_a_server_that_cannot_be_reached_is_unreachable() -> None:
    with pytest.raises(Unreachable, match="nobody is there"):
        async with connect("canned:nobody", plugins=plugins_with()):
            pytest.fail("it was entered")


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("caned:x", "no client for the scheme 'caned'; did you mean canned:?"),
        ("gopher://x", "no client for the scheme 'gopher'; there are canned"),
        ("localhost", "no client for the scheme 'localhost'"),
        ("", "no client for the scheme ''"),
    ],
)
def test_a_scheme_that_nobody_knows_is_unreachable_with_what_there_is(address: str, words: str) -> None:
    with pytest.raises(Unreachable) as raised:
        client_class(address, plugins_with())
    assert words in raised.value.message


def test_a_scheme_whose_plugin_is_broken_says_which() -> None:
    with pytest.raises(Unreachable, match="plugin 'pigeon' failed: no wings"):
        client_class("pigeon:x", plugins_with(broken="no wings"))
    with pytest.raises(Unreachable, match="client of plugin 'canned' cannot be loaded: ModuleNotFoundError"):
        client_class("canned:x", plugins_with("no_such_module:Thing"))
    with pytest.raises(Unreachable, match="cannot be loaded: AttributeError"):
        client_class("canned:x", plugins_with("json:NoSuchThing"))


def test_our_schemes_have_their_clients() -> None:
    for address in ("http://localhost:8080", "stdio:contest serve"):
        assert issubclass(client_class(address), Client)


def test_options_show_no_token() -> None:
    assert "hunter2" not in repr(ClientOptions(token="hunter2"))


# --- over a server in the same program


async def test_the_whole_way_to_a_server_and_back() -> None:
    listener = DirectListener()
    async with open_server(MemoryJobManager(), listeners={"direct": listener}) as server:
        contest = Contest(listener.client(), ClientOptions(requestor="me"))
        first = (await contest.start('{"JobName": "j", "Tags": ["a"]}', start_key="k")).result()
        assert (await contest.start('{"JobName": "j", "Tags": ["a"]}', start_key="k")).result() == first
        with pytest.raises(StartKeyConflict):
            (await contest.start('{"JobName": "k"}', start_key="k")).result()
        with pytest.raises(InvalidDescriptor) as refused:
            (await contest.start("{}")).result()
        assert refused.value.findings[0].path == "/JobName"
        status = (await contest.status(first.job_id)).result().status
        assert status is not None
        assert status.state is JobState.STARTED
        assert (await contest.list(JobQuery(tags=("a",)))).result().job_ids == [1]
        assert (await contest.stop(first.job_id)).error is None
        assert (await contest.retry(first.job_id)).result().new_job_id == 2
        assert (await contest.validate("{}")).result().findings
        assert (await contest.locks()).result().locks == []
        assert (await contest.version()).server_id == server.api.server_id


async def test_a_direct_client_brings_its_credentials() -> None:
    from contest_core import Authenticator, Credentials, Principal

    class Door(Authenticator):
        async def authenticate(self, credentials: Credentials, peer: str) -> Principal | None:
            known = credentials == Bearer(token="t")
            return Principal(name="ci", scopes=frozenset({"list"})) if known else None

    listener = DirectListener()
    async with open_server(MemoryJobManager(), listeners={"direct": listener}, authenticators=[Door(None)]):
        options = ClientOptions(requestor="me")
        known = Contest(listener.client(options, Bearer(token="t")), options)
        assert (await known.list(JobQuery())).error is None
        with pytest.raises(Denied, match="ci may not stop"):
            await known.stop(1)
        for client in (listener.client(options), listener.client(options, Bearer(token="x"))):
            with pytest.raises(Unauthenticated):
                await Contest(client, options).list(JobQuery())


async def test_a_direct_client_has_no_address_and_no_server_after_the_end() -> None:
    with pytest.raises(Unreachable):
        await DirectClient.connect("direct:x", ClientOptions())
    listener = DirectListener()
    async with open_server(MemoryJobManager(), listeners={"direct": listener}):
        client = listener.client()
    with pytest.raises(Unreachable, match="does not serve"):
        await client.call("version", {})
