"""The event channel: a rendezvous that neither loses an event nor gives one out twice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contest_core import (
    API,
    Event,
    EventChannel,
    EventListMsg,
    EventListResponse,
    EventResponse,
    EventType,
    InternalError,
    JobQuery,
    ShuttingDown,
)
from contest_core.testing.clock import VirtualClock

MakeEvent = Callable[[str], Event]


def make_event(name: str = "e") -> Event:
    caller = API(server_id="s").caller(listener="test", peer="here", requestor=name, request_id=name)
    return Event(
        context=caller,
        type=EventType.LIST,
        server_id="s",
        msg=EventListMsg(requestor=name, query=JobQuery()),
        response=asyncio.get_running_loop().create_future(),
    )


async def settle() -> None:
    """Lets everybody do what can be done without time passing."""
    for _ in range(10):
        await asyncio.sleep(0)


def test_contests_event_types_have_contests_numbers_and_names() -> None:
    names = ["Start", "Status", "Stop", "Retry", "Error", "List"]
    assert [str(EventType(number)) for number in range(6)] == [f"EventType{name}" for name in names]


def test_one_struct_answers_lists_too() -> None:
    assert EventListResponse is EventResponse


async def test_put_returns_when_the_event_is_taken_and_not_before() -> None:
    channel, event = EventChannel(), make_event()
    put = asyncio.create_task(channel.put(event))
    await settle()
    assert not put.done()
    assert await channel.take() is event
    await asyncio.wait_for(put, 1)


async def test_take_waits_for_an_offer() -> None:
    channel, event = EventChannel(), make_event()
    take = asyncio.create_task(channel.take())
    await settle()
    assert not take.done()
    await asyncio.wait_for(channel.put(event), 1)
    assert await take is event


async def test_the_oldest_offer_is_taken_first() -> None:
    channel = EventChannel()
    events = [make_event(str(number)) for number in range(5)]
    puts = [asyncio.create_task(channel.put(event)) for event in events]
    await settle()
    assert [await channel.take() for _ in events] == events
    await asyncio.gather(*puts)


async def test_a_cancelled_put_withdraws_its_event() -> None:
    channel = EventChannel()
    first, second = make_event("1"), make_event("2")
    puts = [asyncio.create_task(channel.put(event)) for event in (first, second)]
    await settle()
    puts[0].cancel()
    # Not even the task of `put` has run since.
    assert await channel.take() is second
    await asyncio.wait(puts)
    assert puts[0].cancelled()


async def test_an_event_that_expired_is_never_taken(clock: VirtualClock) -> None:
    channel = EventChannel()
    assert await channel.put_within(make_event(), 3.0) is False
    assert clock.now == pytest.approx(3.0)
    take = asyncio.create_task(channel.take())
    await settle()
    assert not take.done()
    take.cancel()


async def test_a_taker_that_comes_at_the_very_instant_of_the_timeout_takes_or_does_not_but_never_both(
    clock: VirtualClock,
) -> None:
    channel = EventChannel()
    put = asyncio.create_task(channel.put_within(make_event(), 3.0))
    taken: list[Event] = []
    asyncio.get_running_loop().call_later(3.0, lambda: taken.extend(_take_now(channel)))
    assert await put is bool(taken)


def _take_now(channel: EventChannel) -> list[Event]:
    """Runs `take` as far as it gets without waiting."""
    coroutine = channel.take()
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return [stop.value]
    coroutine.close()
    return []


async def test_a_wake_up_of_a_taker_that_was_cancelled_goes_to_the_next() -> None:
    channel, event = EventChannel(), make_event()
    takers = [asyncio.create_task(channel.take()) for _ in range(2)]
    await settle()
    put = asyncio.create_task(channel.put(event))
    await asyncio.sleep(0)
    takers[0].cancel()
    await settle()
    assert takers[0].cancelled()
    assert takers[1].result() is event
    await put


async def test_takers_that_were_cancelled_leave_nothing_behind() -> None:
    channel = EventChannel()
    for _ in range(100):
        take = asyncio.create_task(channel.take())
        await asyncio.sleep(0)
        take.cancel()
        await asyncio.wait([take])
    assert not channel._takers


async def test_a_closed_channel_refuses_who_waits_and_who_comes() -> None:
    channel = EventChannel()
    waiting = asyncio.create_task(channel.put(make_event()))
    await settle()
    channel.close(ShuttingDown)
    with pytest.raises(ShuttingDown):
        await waiting
    with pytest.raises(ShuttingDown):
        await channel.put(make_event())
    with pytest.raises(ShuttingDown):
        await channel.put_within(make_event(), 3.0)
    with pytest.raises(ShuttingDown):
        await channel.take()


async def test_a_taker_that_waits_is_told_of_the_closing() -> None:
    channel = EventChannel()
    takers = [asyncio.create_task(channel.take()) for _ in range(3)]
    await settle()
    channel.close(ShuttingDown)
    await settle()
    assert [type(taker.exception()) for taker in takers] == [ShuttingDown] * 3


async def test_a_consumer_on_the_spot_takes_without_a_task_in_between() -> None:
    channel, event = EventChannel(), make_event()
    taken: list[Event] = []
    channel.attach(lambda event: not taken.append(event))  # type: ignore[func-returns-value]
    await channel.put(event)
    assert await channel.put_within(event, 3.0) is True
    assert taken == [event, event]


async def test_what_a_consumer_on_the_spot_leaves_waits_for_take_and_keeps_its_place() -> None:
    channel = EventChannel()
    events = [make_event(str(number)) for number in range(3)]
    answers = iter([False, True, True])
    channel.attach(lambda _: next(answers))
    puts = [asyncio.create_task(channel.put(event)) for event in events]
    await settle()
    # The second was not even asked about: the first waits before it.
    assert [await channel.take() for _ in events] == events
    await asyncio.gather(*puts)


async def test_an_answer_is_given_at_most_once() -> None:
    event = make_event()
    first = EventResponse(requestor="e", job_id=1)
    event.resolve(first)
    event.resolve(EventResponse(requestor="e", job_id=2))
    event.resolve(InternalError(request_id="x"))
    assert await event.response is first


async def test_an_error_as_answer_is_no_exception_that_somebody_has_to_fetch() -> None:
    event = make_event("somebody")
    event.resolve(InternalError(request_id="x"))
    answer = await event.response
    assert isinstance(answer.err, InternalError)
    assert answer.requestor == "somebody"


async def test_an_answer_to_a_caller_that_went_away_is_dropped() -> None:
    event = make_event()
    event.response.cancel()
    event.resolve(EventResponse(requestor="e"))
    assert event.response.cancelled()


# --- storms


class Storm:
    """Putters and takers that are cancelled at random, and what has become of every event."""

    def __init__(self) -> None:
        self.channel = EventChannel()
        self.events: list[Event] = []
        self.puts: dict[int, asyncio.Task[bool]] = {}
        self.takers: list[asyncio.Task[None]] = []
        self.taken: list[int] = []
        self.withdrawn: set[int] = set()

    def put(self, seconds: float) -> None:
        number = len(self.events)
        event = make_event(str(number))
        self.events.append(event)
        self.puts[number] = asyncio.create_task(self.channel.put_within(event, seconds))

    def take(self) -> None:
        self.takers.append(asyncio.create_task(self._take()))

    async def _take(self) -> None:
        event = await self.channel.take()
        self.taken.append(int(event.context.request_id))

    def cancel_put(self, which: int) -> None:
        if self.puts:
            number = which % len(self.puts)
            if self.puts[number].cancel() and number not in self.taken:
                self.withdrawn.add(number)

    def cancel_take(self, which: int) -> None:
        if self.takers:
            self.takers[which % len(self.takers)].cancel()

    async def end(self) -> None:
        await settle()
        waiting = [number for number, put in self.puts.items() if not put.done()]
        assert not waiting or all(taker.done() for taker in self.takers), "somebody waits on both sides"
        while any(not put.done() for put in self.puts.values()):
            self.take()
            await settle()
        for taker in self.takers:
            taker.cancel()
        await asyncio.wait([*self.puts.values(), *self.takers])

    def check(self) -> None:
        assert len(set(self.taken)) == len(self.taken), "an event was given out twice"
        assert not self.withdrawn & set(self.taken), "an event was given out that was withdrawn"
        for number, put in self.puts.items():
            if not put.cancelled():
                assert put.result() is (number in self.taken), "put and take disagree"
        # What was taken by a taker that was cancelled afterwards would be lost.
        assert not self.channel._offers
        assert not self.channel._takers


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from([0, 1000])),
        st.tuples(st.just("take"), st.just(0)),
        st.tuples(st.just("cancel_put"), st.integers(0, 30)),
        st.tuples(st.just("cancel_take"), st.integers(0, 30)),
        st.tuples(st.just("run"), st.integers(1, 3)),
    ),
    max_size=60,
)


@settings(max_examples=400, deadline=None)
@given(steps=STEPS)
def test_storms_of_cancellations_neither_lose_nor_double_an_event(steps: list[tuple[str, int]]) -> None:
    async def storm() -> None:
        storm = Storm()
        for what, value in steps:
            if what == "put":
                storm.put(value)
            elif what == "take":
                storm.take()
            elif what == "run":
                for _ in range(value):
                    await asyncio.sleep(0)
            else:
                getattr(storm, what)(value)
        if storm.puts or storm.takers:
            await storm.end()
        storm.check()

    asyncio.run(storm())
