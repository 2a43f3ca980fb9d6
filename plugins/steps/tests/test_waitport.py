"""The step `waitport`, with real sockets on loopback."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from contest_runner.testing import Lab, eventually, job_of, last_statuses, one_test, simple, step


def wait(port: int, protocol: str = "tcp", timeout: str = "10s", interval: str = "10ms", **more: Any) -> Any:
    return step("waitport", port=port, protocol=protocol, timeout=timeout, check_interval=interval, **more)


def events(entry: Any) -> dict[str, Any]:
    return {event["Data"]["EventName"]: event["Data"]["Payload"] for event in entry["Events"]}


@contextmanager
def bound(
    kind: int = socket.SOCK_STREAM, family: int = socket.AF_INET
) -> Iterator[tuple[socket.socket, int]]:
    """A socket that has a port; of TCP it does not listen yet."""
    with socket.socket(family, kind) as made:
        made.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
        yield made, made.getsockname()[1]


async def test_it_passes_when_the_port_opens_and_says_what_it_waited_for(lab: Lab) -> None:
    async with lab.server() as serving:
        with bound() as (door, port):
            job = await serving.start(simple(wait(port, "TCP4", target="{{ .ID }}.1"), targets=("127.0.0",)))
            await eventually(lambda: _named(serving, job, "waitportStart"))
            door.listen()
            status = await serving.ended(job)
        entry = last_statuses(status)["127.0.0"]
        assert status["Verdict"] == "passed"
        assert list(events(entry)) == ["waitportStart", "waitportEnd"]
        assert events(entry)["waitportStart"] == {
            "Address": "127.0.0.1",
            "Port": port,
            "Protocol": "tcp4",
            "CheckInterval": 10_000_000,
            "Timeout": 10_000_000_000,
        }
        assert events(entry)["waitportEnd"] is None


async def _named(serving: Any, job: int, name: str) -> bool:
    return name in await serving.names(job)


async def test_the_addresses_of_the_target_are_tried_in_turn(lab: Lab) -> None:
    async with lab.server() as serving:
        with bound() as (door, port):
            door.listen()
            target = {"ID": "a", "FQDN": "no-such-host.invalid", "PrimaryIPv4": "127.0.0.1"}
            status = await serving.run(job_of(one_test(wait(port), targets=(target,))))
        assert status["Verdict"] == "passed"


async def test_a_port_that_stays_shut_fails_the_target_when_the_time_is_up(lab: Lab) -> None:
    async with lab.server() as serving:
        with bound() as (_, port):
            status = await serving.run(simple(wait(port, target="127.0.0.1", timeout="100ms")))
        entry = last_statuses(status)["t1"]
        assert entry["Error"].startswith("context deadline exceeded: no tcp port open within 100ms")
        assert f"127.0.0.1:{port}: Connection refused" in entry["Error"]
        assert entry["Blame"] == "test"
        assert list(events(entry)) == ["waitportStart", "waitportEnd"]


async def test_a_target_without_any_address_fails_at_once(lab: Lab) -> None:
    async with lab.server() as serving:
        status = await asyncio.wait_for(serving.run(simple(wait(1, timeout="1h"))), 5)
        assert "no FQDN and no address" in last_statuses(status)["t1"]["Error"]


async def test_a_name_that_no_host_can_have_is_told_and_waited_for(lab: Lab) -> None:
    async with lab.server() as serving:
        status = await serving.run(simple(wait(1, target="a\0b", timeout="60ms")))
        entry = last_statuses(status)["t1"]
    assert status["Verdict"] == "failed"
    assert "no name of a host" in entry["Error"]
    assert events(entry)["waitportStart"]["Address"] == "a\N{REPLACEMENT CHARACTER}b"


async def test_an_address_of_the_other_family_is_not_taken(lab: Lab) -> None:
    async with lab.server() as serving:
        with bound() as (door, port):
            door.listen()
            status = await serving.run(simple(wait(port, "tcp6", target="127.0.0.1", timeout="60ms")))
        assert "context deadline exceeded" in last_statuses(status)["t1"]["Error"]


async def test_a_udp_port_that_nobody_has_is_not_open(lab: Lab) -> None:
    async with lab.server() as serving:
        with bound(socket.SOCK_DGRAM) as (_, port):
            pass
        status = await serving.run(simple(wait(port, "udp", target="127.0.0.1", timeout="200ms")))
        assert "Connection refused" in last_statuses(status)["t1"]["Error"]


async def test_a_udp_port_that_is_silent_or_answers_is_open(lab: Lab) -> None:
    async with lab.server() as serving:
        with bound(socket.SOCK_DGRAM) as (_, port):
            status = await serving.run(simple(wait(port, "udp4", target="127.0.0.1", timeout="200ms")))
        assert status["Verdict"] == "passed"
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            _Echo, local_addr=("127.0.0.1", 0)
        )
        port = transport.get_extra_info("sockname")[1]
        answered = serving.run(simple(wait(port, "udp", target="localhost", timeout="1h")))
        assert (await asyncio.wait_for(answered, 3))["Verdict"] == "passed"
        transport.close()


class _Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.transport.sendto(b"here", addr)


async def test_a_stop_ends_the_waiting_at_once(lab: Lab) -> None:
    async with lab.server(stop_grace="1h") as serving:
        with bound() as (_, port):
            job = await serving.start(
                simple(wait(port, target="127.0.0.1", timeout="1h", interval="1h"), step("echo", text="x"))
            )
            await eventually(lambda: _named(serving, job, "waitportStart"))
            await serving.stop(job)
            status = await asyncio.wait_for(serving.ended(job), 5)
        assert status["State"] == "JobStateCancelled"
        assert "waitportEnd" in await serving.names(job)
        assert "TargetErr" not in await serving.names(job)


@pytest.mark.parametrize(
    ("changes", "key", "words"),
    [
        ({"port": 0}, "port", "from 1 to 65535"),
        ({"port": "65536"}, "port", "from 1 to 65535"),
        ({"port": "http"}, "port", "not a whole number"),
        ({"port": []}, "port", "missing"),
        ({"protocol": "sctp"}, "protocol", "tcp, tcp4, tcp6, udp, udp4, udp6"),
        ({"protocol": ""}, "protocol", "missing"),
        ({"timeout": 5}, "timeout", "needs a unit"),
        ({"check_interval": "soon"}, "check_interval", "not a duration"),
        ({"target": ["a", "b"]}, "target", "takes one value, has 2"),
        ({"protocol": ["tcp", "udp"]}, "protocol", "takes one value, has 2"),
        ({"timeout": ["1s", "2s"]}, "timeout", "takes one value, has 2"),
        ({"check_interval": ["1s", "1s", "1s"]}, "check_interval", "takes one value, has 3"),
    ],
)
async def test_bad_parameters_are_found_when_the_job_is_handed_in(
    lab: Lab, changes: dict[str, Any], key: str, words: str
) -> None:
    good = {"port": 1, "protocol": "tcp", "timeout": "1s", "check_interval": "1s"}
    reading = await lab.read(simple(step("waitport", **{**good, **changes})))
    (finding,) = reading.findings
    assert finding.severity.value == "error"
    assert finding.path.endswith(f"/parameters/{key}")
    assert words in finding.message
