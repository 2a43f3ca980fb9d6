"""Cases: a transport's client, what it raises and when, and that it leaves nothing."""

from __future__ import annotations

import asyncio

import pytest

from contest_core.client import ClientOptions
from contest_core.errors import ContestError
from contest_core.testing.cases import case, open_files
from contest_core.testing.transport import Transport
from contest_core.testing.world import REQUESTOR, Place, ask, code, refusal, until, within

_WHO = {"requestor": REQUESTOR}


class ClientCases(Transport):
    """What a program relies on."""

    @case
    async def test_a_server_that_is_not_there_is_unreachable(self, place: Place) -> None:
        """Nothing happened: it may be asked again. The message says which address."""
        async with place.serve() as world:
            address = world.address
        with pytest.raises(ContestError) as caught:
            await within(_connect_and_ask(self, address), "the error")
        assert caught.value.code == "unreachable", caught.value
        assert str(caught.value)

    @case
    async def test_a_server_that_is_lost_in_the_middle_may_have_done_it(self, place: Place) -> None:
        """That is another error than not to have reached it."""
        async with place.bare() as bare:
            bare.world.manager.hold("start")
            client = await bare.world.client()
            asked = asyncio.ensure_future(refusal(client.call("start", {**_WHO, "jobDesc": "{}"})))
            await until(lambda: bare.world.manager.held["start"], "the request is being carried out")
            await bare.cancel()
            assert await within(asked, "the end of the request") in ("connection_lost", "interrupted")

    @case
    async def test_an_answer_that_does_not_come_is_waited_for_as_long_as_the_options_say(
        self, place: Place
    ) -> None:
        """`ClientOptions.timeout` bounds every request."""
        async with place.serve() as world:
            world.manager.hold("list")
            client = await world.client(timeout=0.5)
            began = asyncio.get_running_loop().time()
            assert await refusal(client.call("list", _WHO)) in ("connection_lost", "timeout")
            assert asyncio.get_running_loop().time() - began < 5

    @case
    async def test_a_start_that_is_not_answered_in_time_may_have_happened(self, place: Place) -> None:
        """It is not said to be safe to ask again."""
        async with place.serve() as world:
            world.manager.hold("start")
            client = await world.client(timeout=0.5)
            with pytest.raises(ContestError) as caught:
                await within(client.call("start", {**_WHO, "jobDesc": "{}"}), "the error")
            assert caught.value.code in ("connection_lost", "timeout", "interrupted"), caught.value
            assert "changes nothing" not in str(caught.value)

    @case
    async def test_an_answer_over_the_limit_of_the_options_is_refused(self, place: Place) -> None:
        """`ClientOptions.max_answer` bounds what is kept of it."""
        async with place.serve() as world:
            await world.jobs(1)
            world.manager.filler = b"x" * 3_000_000
            client = await world.client(max_answer=1_000_000)
            assert await refusal(client.call("status", {**_WHO, "jobID": "1"})) == "too_large"
            await world.still_serves()

    @case
    async def test_a_request_that_is_cancelled_does_not_spoil_the_next(self, place: Place) -> None:
        """Its answer is not taken for another's."""
        async with place.serve() as world:
            await world.jobs(2)
            client = await world.client()
            world.manager.hold("status")
            asked = asyncio.ensure_future(ask(client, "status", jobID="1"))
            await until(lambda: world.manager.held["status"], "the request is being carried out")
            asked.cancel()
            await asyncio.wait([asked])
            world.manager.release()
            for number in (2, 1):
                answer = await ask(client, "status", jobID=str(number))
                assert answer["Data"]["Status"]["Name"] == f"job-{number}"

    @case
    async def test_closed_in_the_middle_what_was_asked_ends(self, place: Place) -> None:
        """With an error, and not with the program hanging."""
        async with place.serve() as world:
            world.manager.hold("list")
            client = await world.client()
            asked = asyncio.ensure_future(refusal(client.call("list", _WHO)))
            await until(lambda: world.manager.held["list"], "the request is being carried out")
            closing = asyncio.ensure_future(client.aclose())
            await asyncio.sleep(0.2)
            world.manager.release()  # a client that ends a server of its own lets that answer
            await within(closing, "the end of the client")
            found = await within(asked, "the end of the request")
            assert found in ("connection_lost", "unreachable", "None"), found

    @case
    async def test_it_may_be_closed_twice_and_asks_nothing_afterwards(self, place: Place) -> None:
        """The second time does nothing, and a request is refused at once."""
        async with place.serve() as world:
            client = await world.client()
            assert code(await ask(client, "list")) is None
            await within(client.aclose(), "the end of the client")
            await within(client.aclose(), "the second end of the client")
            assert await refusal(client.call("list", _WHO)) in ("connection_lost", "unreachable")
            assert world.manager.times("list") == 1

    @case
    async def test_closed_it_lets_go_at_once(self, place: Place) -> None:
        """Of what it had open and of its place at the server, which goes on."""
        async with place.serve() as world:
            await world.still_serves()
            before = len(open_files()), len(asyncio.all_tasks())
            client = await self.connect(world.address, ClientOptions(requestor=REQUESTOR))
            assert code(await ask(client, "list")) is None
            await within(client.aclose(), "the end of the client")
            await until(
                lambda: len(open_files()) <= before[0] and len(asyncio.all_tasks()) <= before[1],
                "nothing is open that was not before it connected",
            )

    @case
    async def test_a_watch_that_is_lost_in_the_middle_says_so(self, place: Place) -> None:
        """It does not look as if the job had ended."""
        if not self.watches:
            pytest.skip("`watches` is False: this transport has none")
        async with place.bare() as bare:
            await bare.world.jobs(1)
            client = await bare.world.client()
            async with client.watch({**_WHO, "jobID": 1}) as items:
                await within(anext(items), "the first event")
                await bare.cancel()
                assert await refusal(anext(items)) in ("connection_lost", "interrupted", "shutting_down")


async def _connect_and_ask(suite: Transport, address: str) -> None:
    client = await suite.connect(address, ClientOptions(requestor=REQUESTOR, timeout=2.0))
    try:
        await client.call("list", _WHO)
    finally:
        await client.aclose()
