"""Cases: what a listener answers is what the API answered, and what it asks is what was asked."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

import pytest

from contest_core.errors import ERRORS, error_from_wire
from contest_core.testing.cases import Heard, case
from contest_core.testing.transport import Transport
from contest_core.testing.world import REQUESTOR, Place, World, ask, call, code, refusal

Question = tuple[str, Mapping[str, object]]

_WHO: Final = {"requestor": REQUESTOR}
_TEXT: Final = '{"JobName": "one", "Tags": ["red", "blue"]}'
_START: Final = ("start", {**_WHO, "jobDesc": _TEXT})
_STOP: Final = ("stop", {**_WHO, "jobID": "1"})


def _of(verb: str, **parameters: object) -> Question:
    return verb, {**_WHO, **parameters}


QUESTIONS: Final[Mapping[str, Sequence[Question]]] = {
    "version": [("version", {})],
    "version by somebody": [_of("version", apiVersion="5")],
    "version of another API": [_of("version", apiVersion="4")],
    "version of no API": [_of("version", apiVersion="five")],
    "start": [_START],
    "start twice with a key": [_of("start", jobDesc=_TEXT, startKey="k")] * 2,
    "start with the key of another": [
        _of("start", jobDesc=_TEXT, startKey="k"),
        _of("start", jobDesc='{"JobName": "two"}', startKey="k"),
    ],
    "start with too long a key": [_of("start", jobDesc=_TEXT, startKey="k" * 257)],
    "start strictly": [_of("start", jobDesc=_TEXT, strict="true")],
    "start neither strictly nor not": [_of("start", jobDesc=_TEXT, strict="perhaps")],
    "start without a descriptor": [_of("start")],
    "start with a bad descriptor": [_of("start", jobDesc="{}")],
    "start with no JSON": [_of("start", jobDesc="{")],
    "start by nobody": [("start", {"jobDesc": _TEXT})],
    "start by a name that is too long": [("start", {"requestor": "r" * 33, "jobDesc": _TEXT})],
    "stop": [_START, _STOP],
    "stop of an ended job": [_START, _STOP, _STOP],
    "stop of no job": [_of("stop", jobID="77")],
    "stop without a number": [_of("stop")],
    "stop of what is no number": [_of("stop", jobID="one")],
    "status": [_START, _of("status", jobID="1")],
    "status of an ended job": [_START, _STOP, _of("status", jobID="1")],
    "status of no job": [_of("status", jobID="77")],
    "status of a number beyond numbers": [_of("status", jobID="9" * 30)],
    "status of a part that is not offered": [_START, _of("status", jobID="1", run="1")],
    "retry": [_START, _STOP, _of("retry", jobID="1")],
    "retry of a running job": [_START, _of("retry", jobID="1")],
    "retry of no job": [_of("retry", jobID="77")],
    "retry of what failed, not offered": [_START, _STOP, _of("retry", jobID="1", failedOnly="true")],
    "list of nothing": [_of("list")],
    "list": [_START, _START, _STOP, _of("list")],
    "list by state": [_START, _START, _STOP, _of("list", states="JobStateStarted,JobStatePaused")],
    "list by tags": [_START, _of("start", jobDesc='{"JobName": "two"}'), _of("list", tags="red,blue")],
    "list by a state that is none": [_of("list", states="JobStateHappy")],
    "list by nobody": [("list", {})],
    "validate": [_of("validate", jobDesc=_TEXT)],
    "validate what is bad": [_of("validate", jobDesc='{"JobName": ""}')],
    "validate nothing": [_of("validate")],
    "locks": [_of("locks")],
}
"""What is asked, one after another; every answer has to be that of the reference."""

ODD_TEXT: Final = (
    "ä€😀",
    "a=b&c=d+e%20f",
    'quotes " and \\ and /',
    "lines\nand\r\nlines\ttabs",
    "\u0000\u0001\u001f\u007f",
    "\u2028\u2029\ufeff",
    "</script>&amp;",
    " spaces around ",
)


class AnswerCases(Transport):
    """What it answers."""

    @pytest.mark.parametrize("asked", QUESTIONS)
    @case
    async def test_it_answers_as_the_reference_listener(self, place: Place, asked: str) -> None:
        """Each verb, its good and its bad uses: the same object as without a transport."""
        async with place.serve() as world, place.reference() as reference:
            client = await world.client()
            for verb, parameters in QUESTIONS[asked]:
                expected = await call(reference.client, verb, parameters)
                assert await call(client, verb, parameters) == expected

    @case
    async def test_a_verb_that_there_is_not_is_refused(self, place: Place) -> None:
        """By its code; a wire may use words of its own."""
        async with place.serve() as world:
            assert code(await world.ask("nope")) == "unknown_verb"

    @pytest.mark.parametrize("which", [name for name, row in ERRORS.items() if row.http])
    @case
    async def test_every_error_arrives_with_its_code_and_its_words(self, place: Place, which: str) -> None:
        """Whatever the job manager refuses with comes out at the other end."""
        async with place.serve() as world, place.reference() as reference:
            error = error_from_wire(which, 'it is "so", and not\notherwise: ä')
            world.manager.raises["list"] = reference.manager.raises["list"] = error
            assert await world.ask("list") == await ask(reference.client, "list")

    @case
    async def test_a_fault_of_the_job_manager_is_internal_and_costs_nobody_else(self, place: Place) -> None:
        """The traceback stays in the log; the answer has the number under which it is there."""
        place.expect_errors()
        async with place.serve() as world:
            client = await world.client()
            world.manager.raises["list"] = ZeroDivisionError("secret words")
            answer = await ask(client, "list")
            assert code(answer) == "internal"
            assert "secret words" not in json.dumps(answer)
            assert code(await ask(client, "locks")) is None

    @pytest.mark.parametrize("text", ODD_TEXT)
    @case
    async def test_text_arrives_as_it_was_sent(self, place: Place, text: str) -> None:
        """There and back: nothing is decoded twice, cut off or escaped away."""
        async with place.serve() as world:
            client = await world.client()
            started = await ask(client, "start", jobDesc=json.dumps({"JobName": text}, ensure_ascii=False))
            assert started["Error"] is None, started
            assert (await ask(client, "status", jobID=1))["Data"]["Status"]["Name"] == text

    @case
    async def test_the_job_manager_is_told_who_asks(self, place: Place) -> None:
        """The requestor that the client declares, the listener's name, and a peer for the log."""
        async with place.serve() as world:
            await world.ask("list")
            _, message, caller = world.manager.asked[-1]
            assert message.requestor == REQUESTOR
            assert caller.listener == "tested"
            assert caller.peer
            client = await world.client()
            ids = {caller.request_id}
            for count in (2, 3):
                assert code(await ask(client, "list")) is None
                ids.add(world.manager.caller().request_id)
                assert len(ids) == count, "every request has a caller, and an ID, of its own"

    @case
    async def test_what_is_asked_is_kept_out_of_the_log(self, place: Place) -> None:
        """A descriptor has secrets, and a token is one; what is logged for debugging may have them."""
        token = "right" if self.tokens else None
        async with place.serve(token=self.tokens) as world:
            with Heard(logging.INFO) as heard:
                client = await world.client(token=token)
                await ask(client, "start", jobDesc='{"JobName": "one", "Password": "swordfish"}')
        for secret in filter(None, ("swordfish", token)):
            found = [words for words in heard.lines if secret in words]
            assert not found, f"it is in the log: {found[0]}"

    @case
    async def test_a_token_becomes_a_principal(self, place: Place) -> None:
        """And a wrong one, or none, is refused; `version` needs none."""
        if not self.tokens:
            pytest.skip("`tokens` is False: this transport carries none")
        async with place.serve(token=True) as world:
            assert code(await ask(await world.client(token="right"), "list")) is None
            principal = world.manager.caller().principal
            assert principal is not None
            assert principal.name == "ada"
            for token in ("wrong", None):
                assert await _refused(world, token) == "unauthenticated"
            assert world.manager.times("list") == 1
            assert (await ask(await world.client(token="right"), "version"))["Type"] == "ResponseTypeVersion"

    @case
    async def test_who_cannot_prove_who_they_are_is_refused(self, place: Place) -> None:
        """Where there are authenticators and none of them knows the peer."""
        async with place.serve(token=True) as world:
            assert await _refused(world, None) == "unauthenticated"
            assert world.manager.asked == []


async def _refused(world: World, token: str | None) -> str:
    """The code of the refusal, whether it comes with the connection or with the request."""

    async def asking() -> Any:
        return await (await world.client(token=token)).call("list", _WHO)

    return await refusal(asking())
