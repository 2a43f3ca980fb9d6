"""What is no job manager's answer is told from here, with thought: what happened, whose fault it is, what to do."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from contest_core import (
    AnswerTimeout,
    ContestError,
    Interrupted,
    Overloaded,
    TooLarge,
    TooManyRequests,
    Unavailable,
    Unsupported,
)

TOLD: list[tuple[str, str, str, str]] = [
    ("unauthenticated", "status", "unavailable", "it does not know this relay: so it is"),
    ("denied", "stop", "unsupported", "stop is not offered by"),
    ("unknown_verb", "locks", "unsupported", "locks is not offered by"),
    ("incompatible_version", "status", "unavailable", "so it is"),
    ("invalid_parameters", "list", "invalid_parameters", "so it is"),
    ("too_large", "status", "too_large", "so it is"),
    ("too_many_requests", "status", "too_many_requests", "so it is"),
    ("overloaded", "start", "overloaded", "so it is"),
    ("shutting_down", "start", "unavailable", "so it is"),
    ("unavailable", "start", "unavailable", "so it is"),
    ("timeout", "start", "timeout", "so it is"),
    ("interrupted", "start", "interrupted", "so it is"),
    ("internal", "status", "internal", "http://127.0.0.1"),
    ("unreachable", "start", "unavailable", "so it is"),
    ("connection_lost", "start", "interrupted", "the job may exist"),
    ("connection_lost", "list", "unavailable", "so it is"),
    ("quota_exceeded", "start", "quota_exceeded", "so it is"),
]

ARGUMENTS: dict[str, Any] = {
    "start": {"jobDesc": "{}"},
    "stop": {"jobID": 1},
    "retry": {"jobID": 1},
    "status": {"jobID": 1},
    "list": {},
    "validate": {"jobDesc": "{}"},
    "locks": {},
}


async def told(kit: Any, here: Any, verb: str, **more: Any) -> ContestError:
    """The error that who asks here gets."""
    try:
        answer = await here.api.call(kit.caller_of(here), verb, ARGUMENTS[verb] | more)
    except ContestError as error:
        return error
    assert isinstance(answer.error, ContestError)
    return answer.error


@pytest.mark.parametrize(("code", "verb", "becomes", "words"), TOLD, ids=lambda given: str(given)[:20])
async def test_what_is_said_to_the_relay_is_told_to_who_asks(
    kit: Any, code: str, verb: str, becomes: str, words: str
) -> None:
    bare = kit.Bare(lambda _, __: (503, {"Msg": "so it is", "Code": code}))
    async with bare.open() as address, kit.serving(kit.relay(address)) as here:
        error = await told(kit, here, verb)
    assert (error.code, words in error.message) == (becomes, True), error


@pytest.mark.parametrize("verb", ["start", "stop", "retry"])
async def test_what_changes_something_and_was_lost_may_have_happened_and_is_not_asked_again(
    kit: Any, verb: str
) -> None:
    bare = kit.Bare(lambda _, __: None)
    async with bare.open() as address, kit.serving(kit.relay(address)) as here:
        error = await told(kit, here, verb)
        assert bare.asked.count(verb) == 1
    assert isinstance(error, Interrupted)
    assert "may" in error.message
    assert "broke before it answered" in error.message


@pytest.mark.parametrize("verb", ["status", "list", "validate", "locks"])
async def test_what_only_reads_is_asked_once_more(kit: Any, verb: str) -> None:
    data = {"JobID": 7}
    bare = kit.Bare(lambda verb, count: None if count == 1 else (200, kit.envelope("X", data)))
    async with bare.open() as address, kit.serving(kit.relay(address)) as here:
        answer = await here.api.call(kit.caller_of(here), verb, ARGUMENTS[verb])
    assert answer.data.json == b'{"JobID": 7}'


async def test_what_only_reads_and_is_lost_again_has_not_happened(kit: Any) -> None:
    bare = kit.Bare(lambda _, __: None)
    async with bare.open() as address, kit.serving(kit.relay(address)) as here:
        error = await told(kit, here, "list")
        assert bare.asked.count("list") == 2
    assert isinstance(error, Unavailable)


async def test_a_start_with_a_key_is_asked_once_more_and_may_have_happened_the_first_time(kit: Any) -> None:
    answers: list[Any] = [None, (200, kit.envelope("Start", {"JobID": 7})), None, None]
    bare = kit.Bare(lambda _, count: answers[count - 1])
    async with bare.open() as address, kit.serving(kit.relay(address)) as here:
        answer = await here.api.start(kit.caller_of(here), "{}", start_key="k")
        assert answer.result().job_id == 7
        assert isinstance(await told(kit, here, "start", startKey="k"), Interrupted)
        assert bare.asked.count("start") == 4


async def test_what_was_lost_may_have_happened_though_nobody_is_there_any_more(kit: Any) -> None:
    bare = kit.Bare(lambda _, __: setattr(bare, "gone", True))
    async with bare.open() as address, kit.serving(kit.relay(address)) as here:
        assert isinstance(await told(kit, here, "start", startKey="k"), Interrupted)
        assert bare.asked == ["start"]


@pytest.mark.parametrize(
    "answer",
    [
        *((200, {"ServerID": "x", "Error": 7}), (502, "<html>"), (200, {"Msg": 7}), (200, [])),
        (200, b'{"ServerID":"x","Data":{"JobIDs":["\xff"]}}'),
        (200, b'{"ServerID":"x","Data":' + b"[" * 100_000),
    ],
    ids=lambda answer: str(answer)[:40],
)
async def test_what_is_no_answer_of_contests_says_so(kit: Any, answer: Any) -> None:
    bare = kit.Bare(lambda _, __: answer)
    async with bare.open() as address, kit.serving(kit.relay(address)) as here:
        error = await told(kit, here, "list")
    assert error.code == "internal"
    assert address in error.message


@pytest.mark.parametrize("scheme", ["http", "ws"])
async def test_an_answer_over_the_limit_says_how_to_ask_for_less(kit: Any, scheme: str) -> None:
    lab = kit.Lab(lambda _: kit.Encoded(b'{"Status":"%b"}' % (b"x" * 600_000)))
    async with kit.relayed(lab, scheme, max_answer=300_000) as (_, here):
        error = await told(kit, here, "status")
        assert isinstance(error, TooLarge)
        assert "the setting 'max_answer' raises it; ask for one `run`" in error.message
        lab.answer = None
        assert (await here.api.call(kit.caller_of(here), "list", {})).error is None


# --- the token


async def test_the_relay_shows_its_own_token(kit: Any) -> None:
    lab = kit.Lab()
    async with (
        kit.serving(lab, "http", authenticators=[kit.OneToken()]) as far,
        kit.serving(kit.relay(kit.address_of(far), token="right")) as here,
    ):
        assert (await here.api.call(kit.caller_of(here), "list", {})).error is None
        ((_, caller),) = lab.asked
        assert (caller.principal.name, caller.requestor) == ("the relay", "me")


@pytest.mark.parametrize("scheme", ["http", "ws"])
@pytest.mark.parametrize("token", ["wrong", None])
async def test_a_token_that_is_not_taken_ends_the_start(kit: Any, scheme: str, token: str | None) -> None:
    async with kit.serving(kit.Lab(), scheme, authenticators=[kit.OneToken()]) as far:
        settings = {} if token is None else {"token": token}
        address = kit.address_of(far)
        words = rf"job manager relay: {address} does not know this relay: .*; `token` is what it shows there"
        with pytest.raises(ContestError, match=words) as raised:
            async with kit.serving(kit.relay(address, **settings)):
                pass
    assert "wrong" not in str(raised.value)


async def test_a_token_that_is_not_taken_any_more_is_no_fault_of_who_asks(kit: Any) -> None:
    authenticator = kit.OneToken()
    async with (
        kit.serving(kit.Lab(), "http", authenticators=[authenticator]) as far,
        kit.serving(kit.relay(kit.address_of(far), token="right")) as here,
    ):
        assert here.readiness() is None
        far.api._admission._authenticators = (_Nobody(authenticator),)
        assert isinstance(await told(kit, here, "list"), Unavailable)
        assert "nobody has this token" in here.readiness()


class _Nobody:
    def __init__(self, other: Any) -> None:
        self.other = other

    async def authenticate(self, credentials: Any, peer: str) -> Any:
        return await self.other.authenticate(type(credentials)(token="too old"), peer)


async def test_what_the_relay_may_not_do_there_is_not_offered_here(kit: Any) -> None:
    authenticator = kit.OneToken(frozenset({"list"}))
    async with (
        kit.serving(kit.Lab(), "http", authenticators=[authenticator]) as far,
        kit.serving(kit.relay(kit.address_of(far), token="right")) as here,
    ):
        assert (await here.api.call(kit.caller_of(here), "list", {})).error is None
        error = await told(kit, here, "stop")
        assert isinstance(error, Unsupported)
        assert "the relay may not stop" in error.message
        assert here.readiness() is None


# --- time


@pytest.mark.parametrize("scheme", ["http", "ws"])
async def test_the_callers_time_bounds_what_changes_something_too(kit: Any, scheme: str) -> None:
    lab = kit.Lab()
    lab.start = lambda message, caller: lab.wait()
    async with kit.relayed(lab, scheme) as (_, here):
        with pytest.raises(AnswerTimeout, match="the job may exist"):
            await here.api.start(kit.caller_of(here, timeout=0.05), "{}")
        async with asyncio.timeout(1):
            await kit.until(lambda: not here.manager._asking)
        lab.release.set()


async def test_a_read_whose_caller_has_gone_is_cancelled_over_there(kit: Any) -> None:
    lab = kit.Lab()
    lab.status = lambda message, caller: lab.wait() if message.job_id == 1 else _unknown(message)
    async with kit.relayed(lab) as (_, here):
        asking = asyncio.create_task(here.api.status(kit.caller_of(here), 1))
        await kit.until(lambda: lab.waiting)
        asking.cancel()
        async with asyncio.timeout(kit.WAIT):
            await lab.cancelled.wait()


async def _unknown(message: Any) -> Any:
    from contest_core import UnknownJob

    raise UnknownJob(job_id=message.job_id)


async def test_the_settings_bound_what_the_other_server_takes(kit: Any) -> None:
    lab = kit.Lab()
    lab.stop = lambda message, caller: lab.wait()
    async with kit.relayed(lab, timeout="80ms") as (_, here):
        with pytest.raises(AnswerTimeout, match=r"within 0.08 s"):
            await here.api.stop(kit.caller_of(here), 1)
        lab.release.set()


@pytest.mark.parametrize("scheme", ["http", "ws"])
async def test_questions_do_not_wait_for_each_other(kit: Any, scheme: str) -> None:
    lab = kit.Lab()
    lab.stop = lambda message, caller: lab.wait()
    many = 150 if scheme == "http" else 60
    async with kit.relayed(lab, scheme) as (_, here):
        asking = [asyncio.create_task(here.api.stop(kit.caller_of(here), 1)) for _ in range(many)]
        await kit.until(lambda: lab.waiting == many)
        assert (await here.api.call(kit.caller_of(here), "list", {})).error is None
        lab.release.set()
        await asyncio.wait(asking, timeout=kit.WAIT)
        assert all(task.done() and task.exception() for task in asking)


async def test_an_overloaded_server_is_told_as_such(kit: Any) -> None:
    bare = kit.Bare(lambda _, __: (429, {"Msg": "too fast; come back in 1 s", "Code": "too_many_requests"}))
    async with bare.open() as address, kit.serving(kit.relay(address)) as here:
        error = await told(kit, here, "start")
        assert isinstance(error, TooManyRequests)
        assert error.safe_to_repeat
        bare.answer = lambda _, __: (503, {"Msg": "not taken", "Code": "overloaded"})
        assert isinstance(await told(kit, here, "start"), Overloaded)
        assert here.readiness() is None
