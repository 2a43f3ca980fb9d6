"""Cases: how a listener begins and ends, its timeouts, and what becomes of those who are in the middle of something."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from contest_core.api import API
from contest_core.client import ClientOptions
from contest_core.errors import Exposed
from contest_core.job_manager import Termination
from contest_core.server import open_server
from contest_core.testing.cases import case
from contest_core.testing.played import PlayedJobManager
from contest_core.testing.transport import Transport
from contest_core.testing.wire import rest
from contest_core.testing.world import (
    REQUESTOR,
    Place,
    PlayedContext,
    World,
    ask,
    code,
    refusal,
    until,
    within,
)

_DESCRIPTOR = '{"JobName": "one"}'


class TimeCases(Transport):
    """Both timeouts of a request."""

    @case
    async def test_what_is_not_taken_in_time_is_overloaded_and_never_happens(self, place: Place) -> None:
        """The hand-over has a timeout of its own; given up, the request is withdrawn."""
        async with place.serve(event_timeout=0.3, in_flight=1) as world:
            first = await _ask_and_hold(world, "start", jobDesc=_DESCRIPTOR)
            assert code(await world.ask("list")) == "overloaded"
            world.manager.release()
            await first
            await world.still_serves()
            assert world.manager.times("list") == 0

    @case
    async def test_what_is_not_answered_in_time_is_told_so(self, place: Place) -> None:
        """The words of the reference: they say whether it may have happened."""
        async with place.serve(event_timeout=0.3) as world, place.reference(event_timeout=0.3) as reference:
            for manager in (world.manager, reference.manager):
                manager.hold("start")
                manager.hold("status")
            await world.jobs(1)
            for verb, parameters in (("start", {"jobDesc": _DESCRIPTOR}), ("status", {"jobID": "1"})):
                answer = await world.ask(verb, **parameters)
                assert code(answer) == "timeout"
                assert answer == await ask(reference.client, verb, **parameters)
            await until(lambda: world.manager.cancelled["status"], "what only reads is cancelled")
            world.manager.release()
            await until(lambda: world.manager.done["start"], "what was taken goes on")

    @case
    async def test_a_slow_request_delays_nobody_else(self, place: Place) -> None:
        """Other connections are served."""
        if not self.many:
            pytest.skip("`many` is False: there is one connection")
        async with place.serve() as world:
            slow = await _ask_and_hold(world, "list")
            await world.still_serves()
            world.manager.release()
            assert code(await slow) is None


class LifeCases(Transport):
    """Its beginning and its end."""

    @case
    async def test_it_asks_whether_it_may_be_reached_before_it_can_be(self, place: Place) -> None:
        """`check_exposed` comes before `ready`, and `ready` once."""
        async with place.bare() as bare:
            said = [words.partition(" ")[0] for words in bare.context.story]
            assert said[-1] == "ready"
            assert said.count("ready") == 1
            assert "check_exposed" in said
            assert not bare.context.reachable, "it was listening already when it asked `check_exposed`"

    @case
    async def test_refused_to_be_reached_it_ends_and_has_opened_nothing(self, place: Place) -> None:
        """It lets through what `check_exposed` raises."""
        context = PlayedContext()
        context.refuses = Exposed(listener=context.name, where="everywhere")
        with pytest.raises(Exposed):
            await within(self.listener(place.directory).serve(API(), context), "its end, without serving")
        assert not context.is_ready.is_set(), "it said `ready` all the same"

    @case
    async def test_an_end_while_nobody_asks_is_quick(self, place: Place) -> None:
        """Idle connections do not hold it up."""
        async with place.serve() as world:
            clients = [await world.client() for _ in range(3 if self.many else 1)]
            for client in clients:
                assert code(await ask(client, "list")) is None
            world.server.terminate(Termination.CANCEL)
            await within(world.server.wait(), "the end of the server", 3.0)

    @case
    async def test_new_jobs_are_refused_while_it_drains_and_all_else_is_answered(self, place: Place) -> None:
        """Until the last job has ended."""
        async with place.serve() as world:
            client = await world.client()
            await ask(client, "start", jobDesc=_DESCRIPTOR)
            world.server.terminate(Termination.DRAIN)
            assert code(await ask(client, "start", jobDesc=_DESCRIPTOR)) == "shutting_down"
            assert (await ask(client, "status", jobID=1))["Data"]["Status"]["State"] == "JobStateStarted"
            world.manager.finish(1)
            await within(world.server.wait(), "the end of the server")

    @case
    async def test_what_is_in_flight_at_the_end_is_answered(self, place: Place) -> None:
        """The end waits for it, within the grace."""
        async with place.serve() as world:
            asked = await _ask_and_hold(world, "list")
            world.server.terminate(Termination.CANCEL)
            await until(lambda: world.manager.ended, "the job manager has ended")
            await asyncio.sleep(0.1)
            world.manager.release()
            answer = await within(asked, "the answer")
            assert answer["Type"] == "ResponseTypeList", answer
            await within(world.server.wait(), "the end of the server")

    @case
    async def test_a_large_answer_that_is_under_way_at_the_end_arrives_whole(self, place: Place) -> None:
        """The connection is closed behind its last byte."""
        size = 4_000_000
        async with place.serve() as world:
            await world.jobs(1)
            world.manager.filler = b"z" * size
            wire = await world.dial()
            await wire.send(self.request("status", {"requestor": REQUESTOR, "jobID": "1"}))
            came = (await within(wire.receive(), "the beginning of the answer")).count(b"z")
            world.server.terminate(Termination.CANCEL)
            while came < size and (more := await within(wire.receive(), "more of the answer")):
                came += more.count(b"z")
            assert came >= size, f"{size - came:,} of its {size:,} bytes were lost"

    @case
    async def test_answers_that_nobody_has_read_yet_at_the_end_arrive_whole(self, place: Place) -> None:
        """Also what lies in the connection's own buffer, and holds nobody up."""
        sizes = range(150_000, 630_000, 30_000)
        async with place.serve() as world:
            await world.jobs(1)
            wires = {}
            for size in sizes if self.many else [300_000]:
                world.manager.filler = b"z" * size
                wires[size] = await world.dial()
                await wires[size].send(self.request("status", {"requestor": REQUESTOR, "jobID": "1"}))
                await until(lambda: world.manager.done["status"] == len(wires), "it has answered")
            await asyncio.sleep(0.1)
            world.server.terminate(Termination.CANCEL)
            await asyncio.sleep(0.1)
            got = await within(asyncio.gather(*map(rest, wires.values())), "the end of the connections")
            came = zip(wires, (each.count(b"z") for each in got), strict=True)
            lost = [f"{size - count:,} of {size:,}" for size, count in came if count < size]
            assert not lost, f"bytes of answers were lost: {', '.join(lost)}"
            await within(world.server.wait(), "the end of the server")

    @case
    async def test_after_the_job_manager_has_ended_nobody_new_is_let_in(self, place: Place) -> None:
        """Also while it still answers what was asked before."""
        if not self.many:
            pytest.skip("`many` is False: there is one connection")
        async with place.serve() as world:
            asked = await _ask_and_hold(world, "list")
            world.server.terminate(Termination.CANCEL)
            await until(lambda: world.manager.ended, "the job manager has ended")
            await asyncio.sleep(0.1)
            found = await refusal(_connect_and_ask(self, world.address, "version"))
            assert found in ("unreachable", "connection_lost", "shutting_down"), f"it was answered: {found}"
            world.manager.release()
            await within(asked, "the answer to who had asked before")

    @case
    async def test_what_outlasts_the_grace_is_told_that_it_was_interrupted(self, place: Place) -> None:
        """Not cut off without a word."""
        async with place.serve(grace=0.2) as world:
            asked = await _ask_and_hold(world, "start", jobDesc=_DESCRIPTOR)
            world.server.terminate(Termination.CANCEL)
            assert code(await within(asked, "the answer")) == "interrupted"
            await within(world.server.wait(), "the end of the server")

    @case
    async def test_after_the_end_nobody_is_let_in(self, place: Place) -> None:
        """And what asks is told that nothing happened, or may have."""
        async with place.serve() as world:
            address = world.address
        code = await refusal(_connect_and_ask(self, address))
        assert code in ("unreachable", "connection_lost"), code

    @case
    async def test_another_server_may_take_its_place(self, place: Place) -> None:
        """What the first one leaves does not keep the second from starting."""
        for _ in range(2):
            async with place.serve() as world:
                await world.still_serves()

    @case
    async def test_two_of_it_serve_beside_each_other(self, place: Place) -> None:
        """Each by its own name."""
        manager = PlayedJobManager()
        listeners = {}
        for name in ("one", "two"):
            (place.directory / name).mkdir()
            listeners[name] = self.listener(place.directory / name)
        async with open_server(manager, listeners=listeners) as server:
            for name in listeners:
                async with World(self, manager, server.addresses[name]) as world:
                    assert code(await world.ask("list")) is None
                    assert manager.caller().listener == name

    @case
    async def test_cancelled_it_ends_now(self, place: Place) -> None:
        """Whatever is under way; what it had open is closed."""
        async with place.bare() as bare:
            bare.world.manager.hold("list")
            client = await bare.world.client()
            asked = asyncio.ensure_future(refusal(client.call("list", {"requestor": REQUESTOR})))
            await until(lambda: bare.world.manager.held["list"], "the request is being carried out")
            await bare.cancel()
            assert await within(asked, "the end of the request") in ("connection_lost", "interrupted")
            assert bare.context.errors == []


async def _ask_and_hold(world: World, verb: str, **parameters: object) -> asyncio.Task[Any]:
    """A request by a client of its own, which is being carried out until the job manager's `release`."""
    world.manager.hold(verb)
    client = await world.client()
    asked = asyncio.ensure_future(ask(client, verb, **parameters))
    await until(lambda: world.manager.held[verb], "the request is being carried out")
    return asked


async def _connect_and_ask(suite: Transport, address: str, verb: str = "list") -> bytes:
    client = await suite.connect(address, ClientOptions(requestor=REQUESTOR, timeout=2.0))
    try:
        return await client.call(verb, {"requestor": REQUESTOR})
    finally:
        await client.aclose()
