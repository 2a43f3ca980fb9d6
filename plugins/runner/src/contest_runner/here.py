"""The client for the address `here:`: no server, but this program and what is installed beside it; it can `validate`.

Found by its scheme as any client is. It embeds a server without listeners and without a store, whose job manager knows
no jobs.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, ClassVar, Self

from msgspec import Struct

from contest_core import (
    API,
    Caller,
    ContestError,
    EventValidateMsg,
    JobManager,
    JobManagerContext,
    ResponseDataValidate,
    ServerOptions,
    Unsupported,
    encode,
    open_server,
)
from contest_core.client import Client, ClientOptions
from contest_core.plugins import load_plugins
from contest_core.standard_streams import stdout_diverted
from contest_runner.aside import Aside
from contest_runner.catalog import Catalog
from contest_runner.parts import NoSettings
from contest_runner.validating import validate


class Checker(JobManager):
    """Checks descriptors."""

    Settings: ClassVar[type[Struct]] = NoSettings

    def __init__(self, settings: Any = None) -> None:
        super().__init__(settings)
        self._catalog: Catalog
        self._aside = Aside()
        self._log = logging.LoggerAdapter(logging.getLogger("contest.job_manager"), {})

    def capabilities(self) -> frozenset[str]:
        """What it offers."""
        return frozenset({"validate", "validate.plan"})

    async def serve(self, context: JobManagerContext) -> None:
        """Serves until it is told to end."""
        self._catalog = Catalog(context.plugins or load_plugins())
        context.ready()
        await context.stopping()

    async def validate(self, message: EventValidateMsg, caller: Caller) -> ResponseDataValidate:
        """Everything that a start would check here."""
        return await validate(message, self._catalog, self._aside, log=self._log)


class HereClient(Client):
    """Asks this program itself."""

    def __init__(self) -> None:
        self._stack = AsyncExitStack()
        self._api: API

    @classmethod
    async def connect(cls, address: str, options: ClientOptions) -> Self:
        """There is nothing to connect to."""
        client = cls()
        with stdout_diverted():
            server = await client._stack.enter_async_context(
                open_server(Checker(), options=ServerOptions(event_timeout=options.timeout))
            )
        client._api = server.api
        return client

    async def call(self, verb: str, parameters: Mapping[str, object]) -> bytes:
        """Asks this program. What a plugin prints meanwhile must not reach stdout, which is the answer's."""
        with stdout_diverted():
            try:
                caller = self._api.caller(listener="here", peer="this program")
                return encode(await self._api.call(caller, verb, parameters))
            except ContestError as error:
                return encode(error)

    def watch(self, parameters: Mapping[str, object]) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """There are no jobs here."""
        raise Unsupported(what="watch", by="this program without a server")

    async def aclose(self) -> None:
        """Ends what it began."""
        await self._stack.aclose()
