"""Cases: many, large, malformed and hostile requests, and peers that vanish."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

import pytest

from contest_core.testing.cases import case
from contest_core.testing.transport import Transport
from contest_core.testing.wire import Wire, rest
from contest_core.testing.world import REQUESTOR, Place, World, ask, call, refusal, settled, until, within

_DESCRIPTOR = '{"JobName": "one"}'
_WHO = {"requestor": REQUESTOR}

RUBBISH: Final[Mapping[str, bytes]] = {
    "zeros": bytes(1000),
    "ones": b"\xff" * 1000,
    "random bytes": random.Random(5).randbytes(5000),
    "empty lines": b"\r\n" * 500 + b"\n" * 500,
    "a long line": b"A" * 200_000 + b"\n",
    "half a JSON object": b'{"jsonrpc": "2.0", "id": 1, "method": "lis\n',
    "JSON that is no request": b"null\n[]\n{}\n1\n" + b'"text"\n',
    "JSON nested deeply": b"[" * 20_000 + b"\n",
    "no UTF-8": b'{"method": "\xc3\x28"}\n',
    "HTTP": b"GET /nope HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "half of HTTP": b"POST /start HTTP/1.1\r\nContent-Length: 10",
    "HTTP that smuggles": b"POST /list HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a TLS hello": bytes.fromhex("16030100f8010000f40303") + bytes(64),
    "websocket frames": b"\x81\x85\0\0\0\0hello\x88\x80\0\0\0\0",
}
"""What is no request on any wire."""


class LoadCases(Transport):
    """Many and large."""

    @case
    async def test_many_requests_of_many_peers_get_their_own_answers(self, place: Place) -> None:
        """A hundred at once, over ten connections."""
        async with place.serve() as world:
            await world.jobs(100)
            clients = [await world.client() for _ in range(10 if self.many else 1)]
            await _ask_all(clients, range(1, 101))

    @case
    async def test_many_requests_of_one_peer_get_their_own_answers(self, place: Place) -> None:
        """Sixty-four in flight over one client."""
        async with place.serve() as world:
            await world.jobs(64)
            await _ask_all([await world.client()], range(1, 65))

    @case
    async def test_a_large_request_arrives_whole(self, place: Place) -> None:
        """As large as it may be, but for what is around it; one that is larger than any buffer."""
        size = min(2_000_000, (self.max_request or 2_000_000) // 2)
        async with place.serve() as world, place.reference() as reference:
            descriptor = json.dumps({"JobName": "large", "Filler": "x" * size})
            answer = await world.ask("start", jobDesc=descriptor)
            assert answer == await ask(reference.client, "start", jobDesc=descriptor)
            assert world.manager.jobs[1].descriptor == reference.manager.jobs[1].descriptor

    @case
    async def test_a_large_answer_arrives_whole(self, place: Place) -> None:
        """And the next one after it."""
        async with place.serve() as world:
            await world.jobs(1)
            client = await world.client()
            for size in (8_000_000, 10):
                world.manager.filler = b"y" * size
                answer = await ask(client, "status", jobID=1)
                assert answer["Data"]["Filler"] == "y" * size

    @case
    async def test_a_request_over_the_limit_is_told_so_and_costs_nobody_else(self, place: Place) -> None:
        """The code is `too_large`; nothing of it came to the job manager."""
        if self.max_request is None:
            pytest.skip("`max_request` is None: it has no limit")
        async with place.serve() as world:
            client = await world.client()
            descriptor = json.dumps({"JobName": "x" * (self.max_request + 1)})
            assert await refusal(client.call("start", {**_WHO, "jobDesc": descriptor})) == "too_large"
            await world.still_serves()
            assert world.manager.asked == []

    @pytest.mark.parametrize("depth", [100, 100_000])
    @case
    async def test_deep_nesting_is_answered(self, place: Place, depth: int) -> None:
        """As by the reference, and without a traceback."""
        if self.max_request is not None:
            depth = min(depth, self.max_request // 3)
        descriptor = '{"JobName": "deep", "Deep": ' + "[" * depth + "]" * depth + "}"
        async with place.serve() as world, place.reference() as reference:
            answer = await world.ask("start", jobDesc=descriptor)
            assert answer == await ask(reference.client, "start", jobDesc=descriptor)


class BytesCases(Transport):
    """On raw connections."""

    @case
    async def test_a_request_may_come_byte_by_byte(self, place: Place) -> None:
        """Where it is cut is the network's affair."""
        async with place.serve() as world:
            wire = await world.dial()
            for byte in self.request("list", _WHO):
                await wire.send(bytes([byte]))
                await asyncio.sleep(0)
            await _receive(wire, b"ResponseTypeList")

    @case
    async def test_requests_that_come_at_once_are_all_answered(self, place: Place) -> None:
        """Nobody has to wait for an answer before asking again; where promised, in order."""
        async with place.serve() as world:
            await world.jobs(20)
            wire = await world.dial()
            await wire.send(b"".join(self._status(number) for number in range(1, 21)))
            await until(lambda: world.manager.times("status") == 20, "all have come to the job manager")
            names = [f'"job-{number}"'.encode() for number in range(1, 21)]
            got = await _receive(wire, *names)
            if self.ordered:
                places = [got.index(name) for name in names]
                assert places == sorted(places), "the answers are not in the order of the requests"
                asked = [message.job_id for _, message, _ in world.manager.asked]  # type: ignore[attr-defined]
                assert asked == list(range(1, 21)), "the requests were not carried out in their order"

    @pytest.mark.parametrize("what", RUBBISH)
    @case
    async def test_rubbish_costs_nobody_else(self, place: Place, what: str) -> None:
        """No traceback, nothing of it comes to the job manager, and nothing hangs for others."""
        async with place.serve() as world:
            wire = await world.dial()
            with suppress(OSError):
                await wire.send(RUBBISH[what])
            await world.still_serves()
            wire.close()
            await world.still_serves()
            assert world.server.errors_reported == 0
            assert world.manager.asked == []

    @case
    async def test_rubbish_behind_a_request_does_not_hang_it(self, place: Place) -> None:
        """What was asked before is answered, or the connection ends: where a protocol is broken it may have to."""
        async with place.serve() as world:
            world.manager.hold("list")
            wire = await world.dial()
            await wire.send(self.request("list", _WHO))
            await until(lambda: world.manager.held["list"], "the request is being carried out")
            with suppress(OSError):
                await wire.send(RUBBISH["ones"])
            await world.still_serves()
            world.manager.release()
            await within(_answer_or_end(wire, b"ResponseTypeList"), "the answer, or the end")

    @pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.9])
    @case
    async def test_a_peer_may_vanish_in_the_middle_of_a_request(self, place: Place, part: float) -> None:
        """Nothing of it happens, and nothing of it is kept."""
        async with place.serve() as world:
            wire = await world.dial()
            request = self.request("start", {**_WHO, "jobDesc": json.dumps({"JobName": "x" * 1000})})
            await wire.send(request[: int(len(request) * part)])
            await world.still_serves()
            wire.close()
            await world.still_serves()
            assert world.manager.asked == []

    @case
    async def test_half_a_request_is_cut_off_in_time(self, place: Place) -> None:
        """Whoever does not go on asking does not keep the place."""
        if self.read_timeout is None:
            pytest.skip("`read_timeout` is None: the suite does not say when")
        async with place.serve() as world:
            wire = await world.dial()
            request = self.request("list", _WHO)
            await wire.send(request[: len(request) // 2])
            await within(rest(wire), "the end of its connection", self.read_timeout + 5)

    @case
    async def test_a_peer_that_takes_no_answer_costs_bounded_memory(self, place: Place) -> None:
        """It is read no more, or refused, or cut off, before its answers have filled the memory."""
        answer = 512 * 1024
        async with place.serve() as world:
            await world.jobs(1)
            world.manager.filler = b"z" * answer
            wire = await world.dial()
            asking = asyncio.ensure_future(_ask_on_and_on(wire, self._status(1), 400))
            await settled(lambda: world.manager.done["status"])
            assert world.manager.done["status"] * answer < 100 * 1024 * 1024, "it answers on and on"
            await world.still_serves()
            wire.close()
            asking.cancel()
            await asyncio.wait([asking])

    @case
    async def test_who_asks_nothing_is_told_nothing(self, place: Place) -> None:
        """Neither others' answers nor what others watch."""
        async with place.serve() as world:
            await world.jobs(1)
            wire = await world.dial()
            receiving = asyncio.ensure_future(wire.receive())
            client = await world.client()
            await ask(client, "status", jobID=1)
            if self.watches:
                async with client.watch({**_WHO, "jobID": 1}) as items:
                    await within(anext(items), "the first event")
            done, _ = await asyncio.wait([receiving], timeout=0.2)
            assert not done, f"it was told {receiving.result()[:200]!r}"
            wire.close()
            receiving.cancel()
            await asyncio.wait([receiving])

    @case
    async def test_connections_that_come_and_go_leave_no_trace(self, place: Place) -> None:
        """A hundred, of which some ask and none takes the answer."""
        async with place.serve() as world:
            for turn in range(100):
                wire = await within(self.dial(world.address))
                if turn % 3:
                    with suppress(OSError):
                        await wire.send(self.request("list", _WHO) * (turn % 3))
                wire.close()
            await world.still_serves()

    def _status(self, number: int) -> bytes:
        return self.request("status", {**_WHO, "jobID": str(number)})


class GoneCases(Transport):
    """Peers that go while something of theirs is under way."""

    @case
    async def test_who_goes_takes_what_only_reads_along(self, place: Place) -> None:
        """It is cancelled at the job manager."""
        async with place.serve() as world:
            await world.jobs(1)
            world.manager.hold("status")
            await _ask_and_go(self, world, "status", lambda: world.manager.held["status"])
            await until(lambda: world.manager.cancelled["status"], "the request is cancelled")
            await world.still_serves()

    @case
    async def test_what_changes_something_goes_on_when_its_peer_goes(self, place: Place) -> None:
        """Taken is taken."""
        async with place.serve() as world:
            world.manager.hold("start")
            await _ask_and_go(self, world, "start", lambda: world.manager.held["start"])
            await asyncio.sleep(0.1)
            world.manager.release()
            await until(lambda: world.manager.done["start"], "the start goes on")
            await world.still_serves()
            assert world.manager.cancelled["start"] == 0
            assert world.manager.times("start") == 1, "it was asked again"

    @case
    async def test_what_nobody_has_taken_is_withdrawn_when_its_peer_goes(self, place: Place) -> None:
        """It never happens."""
        async with place.serve(in_flight=1) as world:
            world.manager.hold("list")
            client = await world.client()
            first = asyncio.ensure_future(ask(client, "list"))
            await until(lambda: world.manager.held["list"], "the first request is being carried out")
            await _ask_and_go(self, world, "start", lambda: world.server.api.events._offers)
            await until(lambda: not world.server.api.events._offers, "the second is withdrawn")
            world.manager.release()
            await first
            await world.still_serves()
            assert world.manager.times("start") == 0

    @case
    async def test_who_goes_in_the_middle_of_an_answer_costs_nobody_else(self, place: Place) -> None:
        """Whatever of it was sent."""
        async with place.serve() as world:
            await world.jobs(1)
            world.manager.filler = b"z" * 8_000_000
            wire = await world.dial()
            await wire.send(self.request("status", {**_WHO, "jobID": "1"}))
            assert await within(wire.receive(), "the beginning of the answer")
            wire.close()
            await world.still_serves()


async def _ask_all(clients: list[Any], numbers: range) -> None:
    """The status of each job, all at once."""

    async def one(number: int) -> None:
        answer = await call(clients[number % len(clients)], "status", {**_WHO, "jobID": str(number)})
        assert answer["Data"]["Status"]["Name"] == f"job-{number}", "somebody got another's answer"

    async with asyncio.TaskGroup() as group:
        for number in numbers:
            group.create_task(one(number))


async def _receive(wire: Wire, *wanted: bytes) -> bytes:
    """What comes, until all of this has."""
    got = b""

    async def receiving() -> None:
        nonlocal got
        while not all(each in got for each in wanted):
            more = await wire.receive()
            assert more, f"the connection ended before {wanted[-1]!r} came, after {got[-200:]!r}"
            got += more

    await within(receiving(), f"{wanted[-1]!r} in what is received")
    return got


async def _answer_or_end(wire: Wire, wanted: bytes) -> None:
    got = b""
    while wanted not in got and (more := await wire.receive()):
        got += more


async def _ask_on_and_on(wire: Wire, request: bytes, times: int) -> None:
    with suppress(OSError):
        for _ in range(times):
            await wire.send(request)


async def _ask_and_go(suite: Transport, world: World, verb: str, arrived: Callable[[], object]) -> None:
    """Asks, and is gone when the request has arrived: without a word, where there are raw connections."""
    given = {**_WHO, "jobDesc": _DESCRIPTOR} if verb == "start" else {**_WHO, "jobID": "1"}
    if type(suite).dial is not Transport.dial:
        wire = await world.dial()
        await wire.send(suite.request(verb, given))
        await until(arrived, f"the {verb} has arrived")
        wire.close()
        return
    client = await world.client()
    asked = asyncio.ensure_future(refusal(client.call(verb, given)))
    await until(arrived, f"the {verb} has arrived")
    asked.cancel()
    await asyncio.wait([asked])
    await within(client.aclose(), "the end of the client")
