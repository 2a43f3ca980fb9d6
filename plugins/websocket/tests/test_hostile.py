"""Peers that are slow, wrong, greedy or gone: each gets a clear end, and costs nobody else anything."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contest_websocket import connection as connection_module
from contest_websocket.connection import Connection

TEXT, BINARY, CLOSE, PING, PONG, CONTINUATION = 1, 2, 8, 9, 10, 0
WAIT = 10.0


async def still_served(running: Any) -> None:
    """Another peer is answered."""
    wire = await running.open()
    wire.ask("version", 77)
    assert (await wire.message())["id"] == 77
    wire.close()


async def until(condition: Any) -> None:
    async with asyncio.timeout(WAIT):
        while not condition():
            await asyncio.sleep(0.005)


# --- before a connection is open


async def test_half_an_opening_request_is_cut_off_in_time(serve: Any) -> None:
    async with serve(open_timeout="50ms") as running:
        silent, half = await running.dial(), await running.dial()
        half.send(b"GET / HTTP/1.1\r\nHost: local")
        assert await silent.rest() == await half.rest() == b""
        await still_served(running)


@pytest.mark.parametrize(
    "rubbish",
    [b"\0" * 100 + b"\r\n\r\n", b"GET\r\n\r\n", b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\r\n", b"\r\n\r\n"],
)
async def test_rubbish_opens_nothing(serve: Any, rubbish: bytes) -> None:
    async with serve() as running:
        wire = await running.dial()
        wire.send(rubbish)
        assert b" 101 " not in await wire.rest()
        await still_served(running)


async def test_an_opening_request_has_a_limit(serve: Any) -> None:
    async with serve() as running:
        wire = await running.dial()
        wire.send(b"GET / HTTP/1.1\r\n")
        for number in range(20):
            wire.send(b"x-%d: %b\r\n" % (number, b"y" * 8000))
        status, _, _ = await wire.answer()
        assert status == 431
        await still_served(running)


# --- frames


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        (b"\x81\x02{}", 1002),  # not masked
        (b"\xf1\x80\0\0\0\0", 1002),  # reserved bits
        (b"\x83\x80\0\0\0\0", 1002),  # no such opcode
        (b"\x80\x80\0\0\0\0", 1002),  # a continuation of nothing
        (b"\x09\x80\0\0\0\0", 1002),  # a ping in fragments
        (b"\x89\xfe\0\x7e\0\0\0\0" + b"p" * 126, 1002),  # a ping that is too long
        (b"\x01\x80\0\0\0\0\x81\x80\0\0\0\0", 1002),  # a message within another
        (b"\x88\x81\0\0\0\0\x03", 1002),  # half a code
        (b"\x81\x82\0\0\0\0\xff\xff", 1007),  # a text that is none
        (b"\x81\xff\0\0\0\0\x01\0\0\x01\0\0\0\0", 1009),  # 16 MiB and a byte
        (b"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0", 1009),
    ],
)
async def test_what_the_protocol_forbids_ends_the_connection_with_its_code(
    serve: Any, frames: bytes, code: int
) -> None:
    async with serve() as running:
        wire = await running.open()
        wire.send(frames)
        assert (await wire.goodbye())[0] == code
        await still_served(running)


async def test_a_message_over_the_limit_ends_the_connection_with_1009(serve: Any) -> None:
    async with serve(max_request=1000) as running:
        wire = await running.open()
        wire.text(b" " * 1001)
        code, reason = await wire.goodbye()
        assert (code, "1001 bytes" in reason) == (1009, True)
        fragments = await running.open()
        for opcode in (TEXT, CONTINUATION, CONTINUATION):
            fragments.put(opcode, b" " * 400, fin=False)
        assert (await fragments.goodbye())[0] == 1009
        await still_served(running)


async def test_a_message_in_more_fragments_than_anybody_needs_ends_the_connection(serve: Any) -> None:
    async with serve() as running:
        wire = await running.open()
        wire.put(TEXT, b" ", fin=False)
        wire.send(running.frame(CONTINUATION, b"", fin=False) * 5000)
        assert (await wire.goodbye())[0] == 1009
        await still_served(running)


async def test_a_peer_that_never_ends_its_side_is_cut_off(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "CLOSE_SECONDS", 0.05)
    async with serve(write_timeout="100ms") as running:
        wire = await running.open()
        wire.send(b"\xf1\x80\0\0\0\0")
        assert (await wire.goodbye())[0] == 1002
        await until(lambda: _is_cut_off(wire))


def _is_cut_off(wire: Any) -> bool:
    wire.send(b"x")
    return bool(wire.writer.transport.is_closing())


async def test_a_message_that_does_not_come_to_its_end_is_told_so(serve: Any) -> None:
    async with serve(request_timeout="50ms") as running:
        half = await running.open()
        half.send(running.frame(TEXT, b"x" * 100)[:50])
        fragments = await running.open()
        fragments.put(TEXT, b"x", fin=False)
        for wire in (half, fragments):
            assert await wire.goodbye() == (1008, "a message was not complete within 50ms")
        await still_served(running)


async def test_a_dripping_message_gets_no_more_time_and_pings_do_not_help(serve: Any) -> None:
    async with serve(request_timeout="100ms") as running:
        wire = await running.open()
        wire.put(TEXT, b"x", fin=False)

        async def drip() -> None:
            while True:
                wire.put(PING)
                wire.put(CONTINUATION, b"x", fin=False)
                await asyncio.sleep(0.01)

        task = asyncio.ensure_future(drip())
        assert (await wire.goodbye())[0] == 1008
        task.cancel()


# --- silence


async def test_an_idle_connection_is_told_goodbye(serve: Any) -> None:
    async with serve(idle_timeout="100ms", ping_interval="20ms") as running:
        wire = await running.open()
        wire.ask("version")
        code, reason = await wire.goodbye()
        assert (code, reason) == (1001, "no request for 100ms (idle_timeout)")


async def test_a_request_that_takes_long_is_no_idle_connection(serve: Any) -> None:
    async with serve(idle_timeout="50ms", event_timeout=10) as running:
        wire = await running.open()
        wire.ask("status", jobID=7)
        await running.manager.arrived.wait()
        await asyncio.sleep(0.15)
        running.manager.release.set()
        assert (await wire.message())["id"] == 1


async def test_a_silent_peer_gets_a_ping_and_is_taken_for_dead_without_an_answer(serve: Any) -> None:
    async with serve(ping_interval="30ms", ping_timeout="60ms") as running:
        alive, dead = await running.open(), await running.open()
        for _ in range(4):
            opcode, payload, _ = await alive.frame()
            assert opcode == PING
            alive.put(PONG, payload)
        assert await dead.goodbye() == (1011, "no answer to a ping within 60ms")
        alive.ask("version")
        assert (await alive.message())["id"] == 1


# --- floods, and peers that take nothing


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """The most bytes that any connection held: of messages, and unsent."""
    most = {"messages": 0, "unsent": 0}
    take_in = Connection._take_in

    def look(self: Connection, data: bytes) -> None:
        take_in(self, data)
        most["messages"] = max(most["messages"], self._held + self._begun + self._loose)
        most["unsent"] = max(most["unsent"], self.transport.get_write_buffer_size())

    monkeypatch.setattr(Connection, "_take_in", look)
    return most


async def test_a_flood_of_pings_is_answered(serve: Any) -> None:
    async with serve() as running:
        wire = await running.open()
        wire.send(running.frame(PING, b"p" * 100) * 5000)
        for _ in range(5000):
            assert (await wire.frame())[0] == PONG
        await still_served(running)


async def test_a_peer_that_floods_with_pings_and_takes_no_answer_is_read_no_more_and_cut_off(
    serve: Any, held: dict[str, int]
) -> None:
    async with serve(write_timeout="150ms") as running:
        wire = await running.open()
        wire.take_nothing()
        await wire.flood(running.frame(PING, b"p" * 125) * 500)
        assert wire.writer.transport.is_closing()
        assert 500_000 < held["unsent"] < 1_000_000
        await still_served(running)


async def test_a_peer_that_asks_on_and_takes_nothing_is_cut_off(serve: Any, held: dict[str, int]) -> None:
    async with serve(write_timeout="150ms") as running:
        running.manager.size = 1000
        wire = await running.open()
        wire.take_nothing()
        await wire.flood(running.frame(TEXT, running.request("status", 1, jobID=1)) * 500)
        assert wire.writer.transport.is_closing()
        assert max(held.values()) < 2_000_000
        await still_served(running)


async def test_a_peer_that_takes_nothing_of_a_large_answer_is_cut_off(serve: Any) -> None:
    async with serve(write_timeout="150ms") as running:
        running.manager.size = 30_000_000
        wire = await running.open()
        wire.take_nothing()
        wire.ask("status", 1, jobID=1)
        await until(lambda: running.manager.asked)
        await still_served(running)
        await until(lambda: _is_cut_off(wire))


async def test_a_slow_but_steady_reader_gets_everything_and_is_not_taken_for_dead(serve: Any) -> None:
    # It takes longer than a silent peer would have, and answers no ping before it has read all.
    async with serve(write_timeout="300ms", ping_interval="20ms", ping_timeout="300ms") as running:
        running.manager.size = 2_500_000
        wire = await running.open()
        wire.shrink()
        wire.ask("status", 1, jobID=1)
        taken = 0
        async with asyncio.timeout(WAIT):
            while taken < 2_500_000:
                data = await wire.reader.read(100_000)
                assert data, "it was cut off"
                taken += len(data)
                await asyncio.sleep(0.02)


@pytest.mark.parametrize("connections", [1, 6])
async def test_large_answers_that_nobody_takes_are_bounded_together(serve: Any, connections: int) -> None:
    async with serve(max_request=1_000_000, max_buffered=2_500_000) as running:
        running.manager.size = 1_000_000
        wires = [await running.open() for _ in range(connections)]
        for number in range(6):
            wires[number % connections].take_nothing()
            wires[number % connections].ask("status", 1, jobID=1)
        await until(lambda: len(running.manager.asked) == 6)
        await asyncio.sleep(0.05)
        answers = []
        for number in range(6):
            wires[number % connections].take()
            answers.append(await wires[number % connections].message())
        refused = [answer["error"]["data"]["Code"] for answer in answers if "error" in answer]
        assert 1 <= len(refused) <= 4
        assert set(refused) == {"too_many_requests"}
        # What was held is given back.
        wires[0].ask("status", 1, jobID=1)
        assert "result" in await wires[0].message()


async def test_what_large_answers_of_batches_take_is_given_back_however_they_end(serve: Any) -> None:
    def batch(*jobs: int) -> bytes:
        return b"[%b]" % b",".join(running.request("status", job, jobID=job) for job in jobs)

    async with serve(max_request=1_000_000, max_buffered=2_500_000, max_answer=2_100_000) as running:
        running.manager.size = 1_000_000
        for jobs, kinds in (((1, 1), ["result", "result"]), ((1, 1, 1), ["result", "result", "error"])):
            for _ in range(3):
                wire = await running.open()
                wire.text(batch(*jobs))
                assert [kind for answer in await wire.message() for kind in answer if kind in kinds] == kinds
                wire.text(batch(1, 7))
                async with asyncio.timeout(WAIT):
                    await running.manager.arrived.wait()
                wire.close()
                async with asyncio.timeout(WAIT):
                    await running.manager.cancelled.wait()
                running.manager.arrived.clear()
                running.manager.cancelled.clear()


async def test_large_requests_are_bounded_together_and_given_back(serve: Any) -> None:
    async with serve(max_request=1_000_000, max_buffered=1_000_000) as running:
        first, second = await running.open(), await running.open()
        first.send(running.frame(TEXT, b" " * 900_000)[:800_000])
        await asyncio.sleep(0.05)
        second.send(running.frame(TEXT, b" " * 900_000)[:800_000])
        code, reason = await second.goodbye()
        assert (code, "max_buffered" in reason) == (1013, True)
        second.close()
        first.close()
        await asyncio.sleep(0.05)
        third = await running.open()
        third.text(running.request("version", 1) + b" " * 900_000)
        assert (await third.message())["id"] == 1


async def test_a_large_request_is_carried_out_alone(serve: Any) -> None:
    async with serve() as running:
        wire = await running.open()
        for number in range(3):
            wire.ask("start", number, jobDesc="wait")
            wire.text(running.request("list", 10 + number) + b" " * 100_000)
        assert (await wire.message())["id"] == 10
        await asyncio.sleep(0.02)
        assert running.manager.waiting == 1
        running.manager.release.set()
        assert {(await wire.message())["id"] for _ in range(5)} == {0, 1, 2, 11, 12}


async def test_requests_beyond_what_is_carried_out_wait_outside(serve: Any, held: dict[str, int]) -> None:
    async with serve(concurrency=2) as running:
        wire = await running.open()
        asked = running.frame(TEXT, running.request("status", 1, jobID=7))
        await wire.flood(asked * 500, 0.15)
        assert running.manager.waiting == 2
        assert 0 < held["messages"] < 2_000_000
        await still_served(running)


# --- peers that vanish


@pytest.mark.parametrize(
    "state", ["dialled", "half open", "open", "half a frame", "in a message", "asked", "answered"]
)
async def test_a_peer_may_vanish_in_every_state(serve: Any, state: str) -> None:
    async with serve() as running:
        wire = await running.dial()
        if state == "half open":
            wire.send(b"GET / HTTP/1.1\r\nHost")
        elif state != "dialled":
            await wire.open()
        if state == "half a frame":
            wire.send(b"\x81")
        elif state == "in a message":
            wire.put(TEXT, b"{", fin=False)
        elif state == "asked":
            wire.ask("status", 1, jobID=7)
            await running.manager.arrived.wait()
        elif state == "answered":
            running.manager.size = 2_000_000
            wire.ask("status", 1, jobID=1)
            await wire.frame()
        wire.close()
        await still_served(running)
        if state == "asked":
            async with asyncio.timeout(WAIT):
                await running.manager.cancelled.wait()


async def test_peers_that_vanish_under_their_answers_leave_no_trace(serve: Any) -> None:
    faults: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: faults.append(context))
    async with serve() as running:
        flood = running.frame(TEXT, running.request("version", 1)) * 100
        for turns in range(40):
            wire = await running.open()
            wire.send(flood)
            for _ in range(turns % 8):
                await asyncio.sleep(0)
            wire.close()
        await still_served(running)
    assert faults == []


async def test_a_peer_that_half_closes_is_left(serve: Any) -> None:
    async with serve() as running:
        wire = await running.open()
        wire.ask("status", 1, jobID=7)
        await running.manager.arrived.wait()
        wire.writer.write_eof()
        await wire.rest()
        async with asyncio.timeout(WAIT):
            await running.manager.cancelled.wait()


# --- bytes


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=40),
            st.tuples(st.integers(0, 15), st.binary(max_size=200), st.booleans(), st.booleans()),
        ),
        max_size=8,
    )
)
def test_no_bytes_bring_a_traceback_or_a_hang(
    serve: Any, caplog: pytest.LogCaptureFixture, parts: list[Any]
) -> None:
    async def try_them() -> None:
        async with serve() as running:
            wire = await running.open()
            for part in parts:
                if isinstance(part, bytes):
                    wire.send(part)
                else:
                    opcode, payload, fin, mask = part
                    wire.put(opcode, payload, fin=fin, mask=mask)
            wire.writer.write_eof()
            await wire.rest()
            wire.close()
            await still_served(running)

    asyncio.run(try_them())
    assert [record for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")] == []
