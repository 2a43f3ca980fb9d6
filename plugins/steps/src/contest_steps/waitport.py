"""The step `waitport`, as in ConTest: waits until a port of the target is open.

After a crash of the server it waits again, as long as it is told: looking twice does no harm, and while the server was
away nobody looked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from types import NoneType
from typing import Any, ClassVar, Final

from msgspec import Struct

from contest_core import Duration, Finding, Severity
from contest_core.settings import format_duration
from contest_core.wire_names import wire_name
from contest_runner.context import StepContext
from contest_runner.step import Expanded, OnInterrupt, Single, Step, TargetFailed
from contest_runner.target import Target
from contest_steps.commands import clean
from contest_steps.probing import FAMILIES, probe, reason

PROTOCOLS: Final = tuple(kind + digit for kind in ("tcp", "udp") for digit in FAMILIES)

LEAST_INTERVAL: Final = 0.05
"""Seconds between two tries at least, whatever `check_interval` is: a loop without a pause is no way to wait."""


class WaitPortStart(Struct, frozen=True, kw_only=True, rename=wire_name):
    """Payload of `waitportStart`."""

    address: str
    port: int
    protocol: str
    check_interval: int
    """Nanoseconds."""
    timeout: int
    """Nanoseconds."""


def _check_port(port: int) -> Iterable[Finding]:
    if not 0 < port < 65_536:
        message = f"a port is from 1 to 65535, not {port}"
        yield Finding(severity=Severity.ERROR, code="out_of_range", path="", message=message)


def _check_protocol(protocol: str) -> Iterable[Finding]:
    if protocol.lower() not in PROTOCOLS:
        message = f"the protocol has to be one of {', '.join(PROTOCOLS)}, not {protocol[:60]!r}"
        yield Finding(severity=Severity.ERROR, code="bad_parameter", path="", message=message)


class WaitPortParameters(Struct, frozen=True, kw_only=True):
    """Parameters of `waitport`."""

    target: Single[Expanded[str]] = ""
    """Whom to ask, a name or an address; else the target's FQDN, IPv4 and IPv6 address, in this order."""
    port: int
    """From 1 to 65535."""
    protocol: Single[str]
    """One of `tcp`, `tcp4`, `tcp6`, `udp`, `udp4`, `udp6`."""
    timeout: Single[Duration]
    """How long to wait at most."""
    check_interval: Single[Duration]
    """How long to wait between two tries."""


class WaitPort(Step[WaitPortParameters]):
    """Waits until a port of the target is open."""

    Parameters: ClassVar[type[Struct]] = WaitPortParameters
    display_name = "waitport"
    on_interrupt = OnInterrupt.RERUN
    events: ClassVar[Mapping[str, type]] = {"waitportStart": WaitPortStart, "waitportEnd": NoneType}
    checks: ClassVar[Mapping[str, Callable[[Any], Iterable[Finding]]]] = {
        "port": _check_port,
        "protocol": _check_protocol,
    }

    async def run(self, target: Target, parameters: WaitPortParameters, context: StepContext) -> None:
        """Tries one address after the other, until one is open, the time is up or the job is stopped."""
        start = WaitPortStart(
            address=clean(parameters.target),
            port=parameters.port,
            protocol=parameters.protocol.lower(),
            check_interval=parameters.check_interval.nanoseconds,
            timeout=parameters.timeout.nanoseconds,
        )
        await context.emit("waitportStart", start)
        failed: TargetFailed | None = None
        try:
            async with asyncio.timeout(None) as until_stop:
                with context.stopping.calling(lambda: until_stop.reschedule(0)):
                    await _wait(_hosts(target, parameters), start)
        except TargetFailed as error:
            failed = error
        except TimeoutError:
            pass  # the job is stopped, see below
        await context.emit("waitportEnd")
        if failed is not None:
            raise failed
        context.stopping.check()


def _hosts(target: Target, parameters: WaitPortParameters) -> list[str]:
    own = (target.fqdn, target.primary_ipv4, target.primary_ipv6)
    return [host for host in ([parameters.target] if parameters.target else own) if host]


async def _wait(hosts: list[str], what: WaitPortStart) -> None:
    """Returns when a port is open. Raises `TargetFailed` where none is when the time is up."""
    if not hosts:
        raise TargetFailed("the target has no FQDN and no address, and the job names no 'target' to ask")
    loop = asyncio.get_running_loop()
    end = loop.time() + what.timeout / 1e9
    said = "no time to try"
    while True:
        for host in hosts:
            if (left := end - loop.time()) <= 0:
                raise _late(what, said)
            try:
                await probe(what.protocol, host, what.port, left)
            except OSError as error:
                said = f"{_joined(host, what.port)}: {reason(error)}"
            else:
                return
        await asyncio.sleep(max(0, min(end - loop.time(), max(LEAST_INTERVAL, what.check_interval / 1e9))))


def _late(what: WaitPortStart, said: str) -> TargetFailed:
    waited = format_duration(max(0, what.timeout))
    return TargetFailed(f"context deadline exceeded: no {what.protocol} port open within {waited}; {said}")


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
