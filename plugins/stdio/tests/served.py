"""A server with the listener `stdio` and a job manager that does what a test's descriptor says.

A process of its own: the tests are about its descriptors. Its one argument is JSON: `settings` of the listener,
`ticker` for a second listener, `loop`, `authenticated`, `drain` in seconds, `twice` for two stdio listeners.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from contextlib import suppress
from typing import Any

import msgspec

from contest_core import (
    API,
    Authenticator,
    Caller,
    Credentials,
    EncodedJSON,
    EventListMsg,
    EventStartMsg,
    EventStatusMsg,
    JobManager,
    JobManagerContext,
    Listener,
    ListenerContext,
    Principal,
    ResponseDataList,
    ResponseDataStart,
    Termination,
    open_server,
)
from contest_core.settings import dec_hook
from contest_stdio.listener import StdioListener

EARLY_STDOUT = sys.stdout


def say(words: str) -> None:
    os.write(2, f"{words}\n".encode())


class Manager(JobManager):
    """`start` runs the Python of its descriptor; `status` of job N answers with N bytes."""

    def __init__(self, drain: float) -> None:
        super().__init__(None)
        self.drain = drain
        self.started = 0

    def capabilities(self) -> frozenset[str]:
        return frozenset({"start", "status", "list"})

    async def serve(self, context: JobManagerContext) -> None:
        context.ready()
        how = await context.stopping()
        say(f"told to {how.name}")
        await asyncio.sleep(self.drain)

    async def start(self, message: EventStartMsg, caller: Caller) -> ResponseDataStart:
        self.started += 1
        number = self.started
        descriptor = json.loads(message.job_descriptor)
        say(f"start {number} by {message.requestor} of {caller.peer}")
        exec(descriptor.get("python", ""), {"EARLY_STDOUT": EARLY_STDOUT})
        await asyncio.sleep(descriptor.get("sleep", 0))
        say(f"done {number}")
        return ResponseDataStart(job_id=number)

    async def status(self, message: EventStatusMsg, caller: Caller) -> Any:
        return EncodedJSON(b'{"Status":"%b"}' % (b"x" * message.job_id))

    async def list(self, message: EventListMsg, caller: Caller) -> ResponseDataList:
        return ResponseDataList(job_ids=list(range(1, self.started + 1)))


class Ticker(Listener):
    """Another listener: says on stderr that it is served."""

    def __init__(self) -> None:
        super().__init__(None)

    async def serve(self, api: API, context: ListenerContext) -> None:
        context.ready("ticker:")
        caller = api.caller(listener="ticker", peer="itself", requestor="ticker")
        stopping = asyncio.ensure_future(context.stopping())
        while not stopping.done():
            await api.call(caller, "version", {})
            say("tick")
            await asyncio.wait([stopping], timeout=0.02)


class Nobody(Authenticator):
    """Knows nobody."""

    async def authenticate(self, credentials: Credentials, peer: str) -> Principal | None:
        return None


async def main(options: dict[str, Any]) -> None:
    settings = msgspec.convert(options.get("settings", {}), StdioListener.Settings, dec_hook=dec_hook)
    listeners: dict[str, Listener] = {"pipe": StdioListener(settings)}
    if options.get("ticker"):
        listeners["ticker"] = Ticker()
    if options.get("twice"):
        listeners["second"] = StdioListener(settings)
    authenticators = [Nobody(None)] if options.get("authenticated") else []
    manager = Manager(options.get("drain", 0))
    async with open_server(manager, listeners=listeners, authenticators=authenticators) as server:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, server.terminate, Termination.CANCEL)
        say("serving")
        await server.wait()
    with suppress(BrokenPipeError):
        os.write(1, b"after\n")


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    logging.basicConfig(level=logging.INFO)
    if given.get("loop") == "uvloop":
        import uvloop

        uvloop.run(main(given))
    else:
        asyncio.run(main(given))
