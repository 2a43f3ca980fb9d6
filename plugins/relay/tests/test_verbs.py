"""What is asked goes over whole, what is answered comes back as it was, and what is not offered is refused by name."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from contest_core import (
    EventListMsg,
    EventLocksMsg,
    EventRetryMsg,
    EventStartMsg,
    EventStatusMsg,
    EventStopMsg,
    EventValidateMsg,
    Finding,
    InvalidDescriptor,
    InvalidParameters,
    JobEnded,
    JobQuery,
    JobRunning,
    JobState,
    Refusal,
    StartKeyConflict,
    UnknownJob,
    Unsupported,
    encode,
)
from contest_core.errors import error_from_wire

TEXT = '{"JobName":"höher & = weiter",\n "Runs": 1.0}'
DAY = datetime(2026, 11, 25, 10, 0, 0, 123456, tzinfo=UTC)
QUERY = JobQuery(
    states=(JobState.STARTED, JobState.CANCELLED),
    tags=("one", "two"),
    requestors=("me", "yoü"),
    name="a*",
    since=DAY,
    until=DAY,
    limit=7,
    cursor="x/1+2",
)

ASKED: list[tuple[str, dict[str, Any], Any]] = [
    ("start", {"job_descriptor": TEXT}, EventStartMsg(requestor="me", job_descriptor=TEXT)),
    (
        "start",
        {"job_descriptor": TEXT, "start_key": "k ey", "strict": True},
        EventStartMsg(requestor="me", job_descriptor=TEXT, start_key="k ey", strict=True),
    ),
    ("stop", {"job_id": -7}, EventStopMsg(requestor="me", job_id=-7)),
    ("status", {"job_id": 2**63 - 1}, EventStatusMsg(requestor="me", job_id=2**63 - 1)),
    (
        "status",
        {"job_id": 7, "run": 2, "test": "t t", "target": "é", "events": False},
        EventStatusMsg(requestor="me", job_id=7, run=2, test="t t", target="é", events=False),
    ),
    ("retry", {"job_id": 7}, EventRetryMsg(requestor="me", job_id=7)),
    ("retry", {"job_id": 7, "failed_only": True}, EventRetryMsg(requestor="me", job_id=7, failed_only=True)),
    ("list", {"query": JobQuery()}, EventListMsg(requestor="me", query=JobQuery())),
    ("list", {"query": QUERY}, EventListMsg(requestor="me", query=QUERY)),
    ("validate", {"job_descriptor": TEXT}, EventValidateMsg(requestor="me", job_descriptor=TEXT)),
    (
        "validate",
        {"job_descriptor": TEXT, "plan": True},
        EventValidateMsg(requestor="me", job_descriptor=TEXT, plan=True),
    ),
    ("locks", {}, EventLocksMsg(requestor="me")),
]

WIRE: dict[str, dict[str, object]] = {
    "start": {"jobDesc": TEXT},
    "stop": {"jobID": 7},
    "status": {"jobID": 7},
    "retry": {"jobID": 7},
    "list": {},
    "validate": {"jobDesc": TEXT},
    "locks": {},
}


@pytest.mark.parametrize("scheme", ["http", "ws"])
async def test_everything_that_is_asked_goes_along(kit: Any, scheme: str) -> None:
    lab = kit.Lab(lambda _: UnknownJob(job_id=1))
    async with kit.relayed(lab, scheme) as (_, here):
        for verb, arguments, _ in ASKED:
            await getattr(here.api, verb)(kit.caller_of(here), **arguments)
    assert [message for message, _ in lab.asked] == [message for _, _, message in ASKED]
    assert {caller.requestor for _, caller in lab.asked} == {"me"}


@pytest.mark.parametrize("scheme", ["http", "ws"])
@pytest.mark.parametrize("verb", WIRE)
async def test_an_answer_is_copied_through_with_what_nobody_knows_here(
    kit: Any, verb: str, scheme: str
) -> None:
    data = b'{"JobID": 7,  "NewJobID":8,"Warnings":[],"Newer":{"a":[1.0e2,"\\u00fc"]},"Version":1}'
    lab = kit.Lab(lambda _: kit.Encoded(data))
    async with kit.relayed(lab, scheme) as (_, here):
        answer = await here.api.call(kit.caller_of(here), verb, WIRE[verb])
    assert answer.data.json == data


REFUSALS: list[Any] = [
    InvalidDescriptor(
        findings=[Finding(severity="error", code="x", path="/a", message="no", nearest="b")] * 2
    ),
    UnknownJob(job_id=7),
    JobRunning(job_id=7, state="JobStateStarted"),
    JobEnded(job_id=7, state="JobStateCompleted"),
    StartKeyConflict(start_key="k", job_id=7, difference="Runs"),
    Unsupported(what="single targets", by="the pool"),
    error_from_wire("refused", "in words of its own: ü"),
    Refusal("a query that cannot be meant", code="invalid_parameters"),
    Refusal("no more jobs today", code="quota_exceeded"),
    InvalidParameters(reason="the cursor is of another store", parameter="cursor"),
]


@pytest.mark.parametrize("scheme", ["http", "ws"])
@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: f"{type(refusal).__name__}-{refusal.code}")
async def test_a_refusal_comes_back_whole(kit: Any, refusal: Any, scheme: str) -> None:
    async def told(server: Any, verb: str) -> Any:
        try:
            return json.loads(encode(await server.api.call(kit.caller_of(server), verb, WIRE[verb])))
        except InvalidParameters as error:
            return json.loads(encode(error))

    async with kit.relayed(kit.Lab(lambda _: refusal), scheme) as (far, here):
        for verb in WIRE:
            assert await told(here, verb) == await told(far, verb)


async def test_what_a_refusal_has_beside_it_comes_along_and_a_program_has_its_findings(kit: Any) -> None:
    finding = {"Severity": "error", "Code": "x", "Path": "/a", "Message": "no", "Newer": 1}
    refusal = InvalidDescriptor(findings=[])
    refusal.data = kit.Encoded(json.dumps({"JobID": 0, "Findings": [finding], "Quota": 7}).encode())
    async with kit.relayed(kit.Lab(lambda _: refusal)) as (_, here):
        answer = await here.api.call(kit.caller_of(here), "start", WIRE["start"])
        assert json.loads(encode(answer))["Data"] == {"JobID": 0, "Findings": [finding], "Quota": 7}
        error = (await here.api.start(kit.caller_of(here), "{}")).error
    assert error.findings == (Finding(severity="error", code="x", path="/a", message="no"),)


async def test_a_large_status_is_not_decoded(kit: Any) -> None:
    # No status at all, and longer than any other part that is read.
    data = b'{"Status":{"Name":%b}}' % (b"[" + b"1," * 1_000_000 + b"1]")
    async with kit.relayed(kit.Lab(lambda _: kit.Encoded(data))) as (_, here):
        answer = await here.api.call(kit.caller_of(here), "status", {"jobID": 1})
    assert answer.data.json == data


async def test_what_is_not_offered_over_there_is_refused_by_name_and_not_asked(kit: Any) -> None:
    lab = kit.Lab(offers=frozenset({"start", "status", "status.run", "list"}))
    async with kit.relayed(lab) as (_, here):
        assert here.api.version().result().capabilities == ["list", "start", "status", "status.run"]
        for verb, arguments, named in (
            ("start", {"job_descriptor": "{}", "start_key": "k"}, "startKey of start"),
            ("start", {"job_descriptor": "{}", "strict": True}, "strict of start"),
            ("status", {"job_id": 1, "events": False}, "events of status"),
            ("list", {"query": JobQuery(limit=1)}, "limit of list"),
            ("stop", {"job_id": 1}, "stop"),
            ("locks", {}, "locks"),
        ):
            error = (await getattr(here.api, verb)(kit.caller_of(here), **arguments)).error
            assert isinstance(error, Unsupported)
            assert error.message.startswith(f"{named} is not offered by")
        with pytest.raises(Unsupported, match="watch is not offered"):
            async with here.api.watch(kit.caller_of(here)):
                pass
        assert not lab.asked
        assert (await here.api.status(kit.caller_of(here), 1, run=1)).error is not None
        assert len(lab.asked) == 1


async def test_a_relay_of_relays_is_one(kit: Any) -> None:
    lab = kit.Lab()
    async with (
        kit.relayed(lab, "http", "ws") as (_, first),
        kit.serving(kit.relay(kit.address_of(first)), "http") as second,
        kit.serving(kit.relay(kit.address_of(second))) as third,
    ):
        assert third.api.version().data == first.api.version().data
        assert (await third.api.start(kit.caller_of(third), '{"JobName":"j"}')).result().job_id == 1
        async with third.api.watch(kit.caller_of(third), job_id=1) as watch:
            lab.finish(1)
            assert [event.data.event_name async for event in watch] == [
                "JobStateStarted",
                "JobStateCompleted",
            ]
    assert lab.jobs[1].requestor == "me"


@pytest.mark.parametrize(
    "query",
    [JobQuery(requestors=("a,b",)), JobQuery(requestors=("",)), JobQuery(name=""), JobQuery(cursor="")],
    ids=str,
)
async def test_what_a_form_cannot_say_is_refused_and_not_changed(kit: Any, query: JobQuery) -> None:
    lab = kit.Lab()
    async with kit.relayed(lab, "http") as (_, here):
        with pytest.raises(InvalidParameters, match="in a form"):
            await here.api.list(kit.caller_of(here), query)
        assert not lab.asked
    async with kit.relayed(lab, "ws") as (_, here):
        await here.api.list(kit.caller_of(here), query)
    ((message, _),) = lab.asked
    assert message.query == query
