"""The listener `mcp`: a server of the Model Context Protocol on stdin and stdout, whose tools are the verbs.

A host spawns `contest serve -c mcp.yaml`. There are two ends: the host closes stdin, or the server ends; in both,
what was asked is answered.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

from mcp.server.lowlevel import Server
from msgspec import Struct

from contest_core import (
    API,
    CORE_VERSION,
    ByteSize,
    InvalidSettings,
    Listener,
    ListenerContext,
    UnixPeer,
)
from contest_mcp.tools import Tools
from contest_mcp.wire import Wire, standard_streams

INSTRUCTIONS = (
    "Contest runs test jobs on machines. `start` takes a job descriptor and gives a number; `status` says how that job "
    "goes. `validate` checks a descriptor and runs nothing."
)


class McpListener(Listener):
    """Serves the host that has spawned this process."""

    class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
        """What may stand under `mcp:` in a configuration."""

        requestor: str = "mcp"
        """Who asks, for the list of jobs; at most 32 bytes."""
        max_request: ByteSize = ByteSize("16MiB")
        """Size of a message."""

        def __post_init__(self) -> None:
            if not 1 <= len(self.requestor.encode()) <= 32:
                raise InvalidSettings({"requestor": "has to have 1 to 32 bytes"})

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._settings = settings
        self._claimed: tuple[int, int] | None = None

    def claim(self) -> AbstractContextManager[None]:
        """Takes stdin and stdout, before anything can print."""
        return self._claim()

    @contextmanager
    def _claim(self) -> Iterator[None]:
        with standard_streams() as self._claimed:
            try:
                yield
            finally:
                self._claimed = None

    async def serve(self, api: API, context: ListenerContext) -> None:
        """Serves until stdin ends, or the server. Raises `Unauthenticated` where this user may not ask."""
        peer = UnixPeer(uid=os.getuid(), gid=os.getgid(), pid=os.getppid())
        name = f"pid {peer.pid}"
        principal = await api.authenticate(peer, listener=context.name, peer=name)
        caller = partial(
            api.caller,
            listener=context.name,
            peer=name,
            principal=principal,
            requestor=self._settings.requestor,
        )
        tools = Tools(api, caller, context.log)
        server: Server[object] = Server(
            "contest",
            version=CORE_VERSION,
            instructions=INSTRUCTIONS,
            on_list_tools=tools.list,
            on_call_tool=tools.call,
        )
        with nullcontext(self._claimed) if self._claimed else standard_streams() as (source, sink):
            async with Wire.open(source, sink, self._settings.max_request) as wire:
                await _converse(server, wire, context)


async def _converse(server: Server[object], wire: Wire, context: ListenerContext) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(server.run(wire.incoming, wire.outgoing, server.create_initialization_options()))
        group.create_task(wire.write())
        reading = group.create_task(wire.read())
        stopping = group.create_task(context.stopping())
        context.ready("mcp on stdin and stdout")
        await asyncio.wait([reading, stopping], return_when=asyncio.FIRST_COMPLETED)
        reading.cancel()
        await wire.idle()
        if not stopping.done():
            await context.end_of_input()
        stopping.cancel()
        wire.end()
