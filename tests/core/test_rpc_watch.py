"""`watch` and `unwatch` on a JSON-RPC session, over a channel in memory with a job manager in memory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from contest_core.job_manager import Termination
from contest_core.rpc import Session
from contest_core.server import open_server
from contest_core.testing.memory import MemoryJobManager


class Peer:
    """The other end of a session of a real server."""

    def __init__(self, api: Any) -> None:
        self.api = api
        self.messages: list[dict[str, Any]] = []
        self.reads = asyncio.Event()
        self.reads.set()
        self.changed = asyncio.Event()
        self.session = Session(api, caller=self.caller, send=self.send, concurrency=4, max_watches=3)

    def caller(self) -> Any:
        return self.api.caller(listener="memory", peer="test", requestor="me")

    async def send(self, message: bytes) -> None:
        await self.reads.wait()
        self.messages.append(json.loads(message))
        self.changed.set()

    async def ask(self, method: str, **params: Any) -> dict[str, Any]:
        number = len(self.messages) + 1000
        await self.session.received(request(method, number, **params))
        return await self.until(lambda message: message.get("id") == number)

    async def until(self, holds: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        async with asyncio.timeout(5):
            while True:
                for message in self.messages:
                    if holds(message):
                        return message
                self.changed.clear()
                await self.changed.wait()

    async def watch(self, **params: Any) -> int:
        answer = await self.ask("watch", **params)
        assert answer["result"]["Type"] == "ResponseTypeWatch"
        number: int = answer["result"]["Data"]["Subscription"]
        return number

    async def start(self, name: str = "x") -> int:
        job = {"JobName": name, "Version": "1.0"}
        answer = await self.ask("start", jobDesc=job)
        number: int = answer["result"]["Data"]["JobID"]
        return number

    def events(self, subscription: int) -> list[dict[str, Any]]:
        told = [each["params"] for each in self.messages if each.get("method") == "event"]
        return [each["Event"] for each in told if each["Subscription"] == subscription]

    async def ended(self, subscription: int) -> dict[str, Any]:
        message = await self.until(
            lambda each: each.get("method") == "watchEnded" and each["params"]["Subscription"] == subscription
        )
        found: dict[str, Any] = message["params"]
        return found


def request(method: str, number: int, **params: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}).encode()


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    async with open_server(MemoryJobManager()) as server:
        made = Peer(server.api)
        made.server = server  # type: ignore[attr-defined]
        yield made
        made.session.cancel()
        await made.session.aclose()
    assert {task.get_name() for task in asyncio.all_tasks()} == {asyncio.current_task().get_name()}  # type: ignore[union-attr]


async def test_a_job_is_watched_to_its_end(peer: Peer) -> None:
    job = await peer.start()
    subscription = await peer.watch(jobID=job)
    await peer.ask("stop", jobID=job)
    ended = await peer.ended(subscription)
    names = [event["Data"]["EventName"] for event in peer.events(subscription)]
    assert names[0] == "JobStateStarted"
    assert names[-1] == "JobStateCancelled"
    assert ended == {"Subscription": subscription, "Cursor": peer.events(subscription)[-1]["Cursor"]}


async def test_the_answer_comes_before_the_first_event(peer: Peer) -> None:
    job = await peer.start()
    await peer.watch(jobID=job)
    await peer.until(lambda message: message.get("method") == "event")
    kinds = [message.get("method", "answer") for message in peer.messages]
    assert kinds[-2:] == ["answer", "event"]


async def test_in_a_batch_events_come_behind_its_answers(peer: Peer) -> None:
    job = await peer.start()
    batch = b"[%b,%b]" % (request("watch", 1, jobID=job), request("list", 2))
    sent: list[Any] = []

    async def send(message: bytes) -> None:
        sent.append(json.loads(message))

    session = Session(peer.api, caller=peer.caller, send=send, concurrency=1)
    await session.received(batch)
    async with asyncio.timeout(5):
        while len(sent) < 2:
            await asyncio.sleep(0)
    assert [answer["id"] for answer in sent[0]] == [1, 2]
    assert sent[1]["method"] == "event"
    session.end_watches()
    await session.aclose()
    assert sent[-1]["method"] == "watchEnded"


async def test_a_cursor_goes_on_where_another_watch_was(peer: Peer) -> None:
    first = await peer.start()
    all_jobs = await peer.watch(since="0")
    await peer.start()
    await peer.until(lambda _: len(peer.events(all_jobs)) >= 2)
    middle = peer.events(all_jobs)[0]["Cursor"]
    again = await peer.watch(since=middle)
    await peer.until(lambda _: peer.events(again))
    assert peer.events(again)[0] == peer.events(all_jobs)[1]
    assert peer.events(all_jobs)[0]["Header"]["JobID"] == first


async def test_unwatch_ends_it_and_says_where_it_was(peer: Peer) -> None:
    subscription = await peer.watch(since="0")
    await peer.start()
    await peer.until(lambda _: peer.events(subscription))
    answer = await peer.ask("unwatch", subscription=str(subscription))
    assert answer["result"]["Data"] == {"Subscription": subscription}
    assert (await peer.ended(subscription))["Cursor"] == peer.events(subscription)[-1]["Cursor"]
    await peer.start()
    assert len(peer.events(subscription)) == 1
    assert (await peer.ask("unwatch", subscription=subscription))["error"]["code"] == -32602


@pytest.mark.parametrize("given", [{}, {"subscription": 7}, {"subscription": "x"}, {"subscription": None}])
async def test_unwatch_of_nothing_is_refused(peer: Peer, given: dict[str, Any]) -> None:
    assert (await peer.ask("unwatch", **given))["error"]["data"]["Code"] == "invalid_parameters"


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"jobID": 99}, "unknown_job"),
        ({"jobID": "x"}, "invalid_parameters"),
        ({"colour": 1}, "invalid_parameters"),
    ],
)
async def test_a_watch_that_cannot_be_is_refused_in_the_answer(
    peer: Peer, given: dict[str, Any], code: str
) -> None:
    answer = await peer.ask("watch", **given)
    assert answer["error"]["data"]["Code"] == code


async def test_as_notifications_they_do_nothing(peer: Peer) -> None:
    await peer.session.received(b'{"jsonrpc":"2.0","method":"watch","params":{"since":"0"}}')
    await peer.session.received(b'{"jsonrpc":"2.0","method":"unwatch"}')
    await peer.start()
    assert [message.get("method") for message in peer.messages] == [None]


async def test_a_connection_has_only_so_many_watches(peer: Peer) -> None:
    subscriptions = [await peer.watch() for _ in range(3)]
    refused = await peer.ask("watch")
    assert refused["error"]["data"]["Code"] == "too_many_requests"
    await peer.ask("unwatch", subscription=subscriptions[0])
    await peer.ended(subscriptions[0])
    assert await peer.watch() not in subscriptions


async def test_a_peer_that_does_not_read_holds_up_nothing_but_itself(peer: Peer) -> None:
    subscription = await peer.watch(since="0")
    other = Peer(peer.api)
    peer.reads.clear()
    for _ in range(50):
        await other.start()
    assert peer.events(subscription) == []
    peer.reads.set()
    await peer.until(lambda _: len(peer.events(subscription)) == 50)
    await other.session.aclose()


async def test_the_end_of_the_server_ends_it_behind_the_last_event(peer: Peer) -> None:
    subscription = await peer.watch(since="0")
    await peer.start()
    peer.server.terminate(Termination.CANCEL)  # type: ignore[attr-defined]
    ended = await peer.ended(subscription)
    await peer.session.aclose()
    assert peer.events(subscription)[-1]["Data"]["EventName"] == "JobStateCancelled"
    assert ended["Cursor"] == peer.events(subscription)[-1]["Cursor"]


async def test_a_peer_that_goes_leaves_no_watch(peer: Peer) -> None:
    await peer.watch()
    before = len(asyncio.all_tasks())
    peer.session.cancel()
    await peer.session.aclose()
    assert len(asyncio.all_tasks()) < before
