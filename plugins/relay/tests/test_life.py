"""The other server comes and goes: the relay says whether it is there, finds it again, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from contest_core import (
    ContestError,
    Interrupted,
    ShuttingDown,
    Termination,
    Unavailable,
)

PROGRAM = [sys.executable, "-c", "from contest_core.cli import main; main()"]
HELLO = '{"JobName":"j"}'


@pytest.fixture
def port() -> int:
    """One at which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        found: int = free.getsockname()[1]
        return found


@pytest.mark.parametrize("scheme", ["http", "ws"])
async def test_a_server_that_is_away_keeps_no_relay_from_starting_and_is_found_when_it_comes(
    kit: Any, scheme: str, port: int
) -> None:
    address = f"{scheme}://127.0.0.1:{port}"
    async with kit.serving(kit.relay(address)) as here:
        assert here.readiness() == f"cannot reach {address}: Connection refused"
        with pytest.raises(Unavailable, match=f"^{address} is not available: Connection refused$"):
            await here.api.call(kit.caller_of(here), "list", {})
        async with kit.serving(kit.Lab(offers=frozenset({"list"})), scheme, port=port):
            await kit.until(lambda: here.readiness() is None)
            assert here.api.version().result().capabilities == ["list"]
            assert (await here.api.call(kit.caller_of(here), "list", {})).error is None


@pytest.mark.parametrize("scheme", ["http", "ws"])
async def test_a_server_that_is_started_again_is_found_and_asked_anew_what_it_offers(
    kit: Any, scheme: str, port: int
) -> None:
    async with kit.serving(kit.Lab(), scheme, port=port) as far:
        relay = kit.relay(kit.address_of(far))
        here = await asyncio.get_running_loop().create_task(_entered(kit.serving(relay)))
        assert (await here.server.api.call(kit.caller_of(here.server), "locks", {})).error is None
    with pytest.raises(Unavailable):
        await here.server.api.call(kit.caller_of(here.server), "list", {})
    assert here.server.readiness()
    async with kit.serving(kit.Lab(offers=frozenset({"list"})), scheme, port=port):
        await kit.until(lambda: here.server.readiness() is None)
        assert (await here.server.api.call(kit.caller_of(here.server), "list", {})).error is None
        assert (await here.server.api.call(kit.caller_of(here.server), "locks", {})).error is not None
        await here.leave()


class _Entered:
    def __init__(self, context: Any, server: Any) -> None:
        self.context = context
        self.server = server

    async def leave(self) -> None:
        await self.context.__aexit__(None, None, None)


async def _entered(context: Any) -> _Entered:
    return _Entered(context, await context.__aenter__())


async def test_a_silent_server_does_not_hold_up_the_start(kit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("contest_relay.manager.START_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        async with kit.serving(kit.relay(address, timeout="100ms")) as here:
            assert re.search(r"it has not answered yet|no answer within", here.readiness())
            with pytest.raises(Unavailable, match=r"no answer within|does not answer"):
                await here.api.call(kit.caller_of(here), "list", {})


async def test_an_address_without_a_client_ends_the_start(kit: Any) -> None:
    with pytest.raises(ContestError, match=r"relay: .* no client for the scheme 'pigeon'"):
        async with kit.serving(kit.relay("pigeon://roof")):
            pass


async def test_many_who_ask_for_a_server_that_is_away_do_not_all_look_for_it(kit: Any) -> None:
    asked = 0

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        writer.transport.abort()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    async with server:
        address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with kit.serving(kit.relay(address)) as here:
            asking = [here.api.call(kit.caller_of(here), "list", {}) for _ in range(200)]
            found = await asyncio.gather(*asking, return_exceptions=True)
            assert all(isinstance(each, Unavailable) for each in found)
            for _ in range(50):
                with pytest.raises(Unavailable):
                    await here.api.call(kit.caller_of(here), "list", {})
            assert asked < 6


async def test_what_was_asked_before_it_is_known_what_is_offered_is_not_dropped(
    kit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("contest_relay.manager.START_SECONDS", 0.01)
    bare = kit.Bare(lambda _, __: (200, kit.envelope("Status", {"Status": None})))
    bare.offers = frozenset()
    bare.held.clear()
    async with bare.open() as address, kit.serving(kit.relay(address)) as here:
        asking = [
            asyncio.create_task(here.api.call(kit.caller_of(here), verb, asked))
            for verb, asked in (("status", {"jobID": 1, "run": 2}), ("locks", {}), ("status", {"jobID": 1}))
        ]
        await kit.until(lambda: here.manager._asking == 3)
        bare.held.set()
        run, locks, status = [(await task).error for task in asking]
        assert str(run) == f"run of status is not offered by {address}"
        assert str(locks) == f"locks is not offered by {address}"
        assert status is None


async def test_a_relay_to_itself_notices_and_does_not_go_round_in_circles(kit: Any, port: int) -> None:
    async with kit.serving(kit.relay(f"http://127.0.0.1:{port}"), "http", port=port) as here:
        await kit.until(lambda: "leads back to this relay" in (here.readiness() or ""))
        with pytest.raises(Unavailable, match="leads back to this relay"):
            await here.api.call(kit.caller_of(here), "list", {})


async def test_of_two_relays_that_ask_each_other_one_cuts_the_circle(kit: Any, port: int) -> None:
    async with (
        kit.serving(kit.relay(f"http://127.0.0.1:{port}"), "ws") as first,
        kit.serving(kit.relay(kit.address_of(first)), "http", port=port) as second,
    ):
        await kit.until(lambda: "leads back to this relay" in (first.readiness() or ""))
        for server in (first, second):
            with pytest.raises(Unavailable, match="leads back to this relay"):
                await server.api.call(kit.caller_of(server), "list", {})


# --- the end


async def test_what_is_asked_is_answered_at_the_end_and_nothing_more_is(kit: Any) -> None:
    lab = kit.Lab()
    start = lab.start

    async def slow(message: Any, caller: Any) -> Any:
        await lab.wait()
        return await start(message, caller)

    lab.start = slow
    async with kit.relayed(lab) as (_, here):
        asking = asyncio.create_task(here.api.start(kit.caller_of(here), HELLO))
        await kit.until(lambda: lab.waiting)
        here.terminate(Termination.DRAIN)
        await kit.until(lambda: here.manager._far is None)
        with pytest.raises(ShuttingDown):
            await here.api.call(kit.caller_of(here), "list", {})
        lab.release.set()
        assert (await asking).result().job_id == 1
        await here.wait()
        assert not lab.jobs[1].state.ended


async def test_what_is_not_answered_within_the_grace_is_interrupted(kit: Any) -> None:
    lab = kit.Lab()
    lab.start = lambda message, caller: lab.wait()
    async with kit.serving(lab, "http") as far:
        async with kit.serving(kit.relay(kit.address_of(far)), grace=0.05) as here:
            asking = asyncio.create_task(here.api.start(kit.caller_of(here), HELLO))
            await kit.until(lambda: lab.waiting)
        with pytest.raises(Interrupted, match="the job may exist"):
            await asking
        lab.release.set()


# --- stdio


def stdio(tmp_path: Path, manager: str = "{local: {store: 'sqlite:///contest.db'}}") -> str:
    """The address of a server that is started for whoever asks."""
    file = tmp_path / "far.yaml"
    file.write_text(f"listeners: [stdio: {{concurrency: 8}}]\njob_manager: {manager}\n")
    return f"stdio:{shlex.join([*PROGRAM, 'serve', '-c', str(file), '--log-level', 'error'])}"


def children() -> set[int]:
    text = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text()
    return set(map(int, text.split()))


async def test_a_server_that_it_started_is_started_again_and_ends_with_it(kit: Any, tmp_path: Path) -> None:
    before = children()
    async with kit.serving(kit.relay(stdio(tmp_path))) as here:
        (first,) = children() - before
        assert (await here.api.call(kit.caller_of(here), "list", {})).error is None
        os.kill(first, 9)
        await kit.until(lambda: first not in children())
        assert (await here.api.call(kit.caller_of(here, timeout=kit.WAIT), "list", {})).error is None
        assert here.readiness() is None
    assert children() == before


async def test_a_command_that_is_none_is_told(kit: Any) -> None:
    async with kit.serving(kit.relay("stdio:no-such-command-here")) as here:
        assert "No such file or directory" in here.readiness()


async def test_relays_that_start_one_another_come_to_an_end(
    kit: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONTEST_RELAY_DEPTH", "5 of process 1")
    with pytest.raises(ContestError, match="5 relays have started one another"):
        async with kit.serving(kit.relay(stdio(tmp_path))):
            pass
    # This process is one relay; the one that it starts is one too many.
    monkeypatch.setenv("CONTEST_RELAY_DEPTH", f"5 of process {os.getpid()}")
    far = stdio(tmp_path, "{relay: {address: 'http://127.0.0.1:1'}}")
    async with kit.serving(kit.relay(far)) as here:
        assert "5 relays have started one another" in here.readiness()
