"""The listener `spool`: a file in a directory is a JSON-RPC message, its answer is the file beside it.

`NAME.request`, renamed to that when it is complete, gets `NAME.answer` and is then removed. What a server leaves
behind unanswered, the next one answers: so a `start` should carry a `startKey`.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from msgspec import Struct

from contest_core import (
    API,
    ByteSize,
    Caller,
    ContestError,
    Duration,
    InvalidMessage,
    Listener,
    ListenerContext,
    TooLarge,
)
from contest_core.rpc import Session


class SpoolListener(Listener):
    """Serves whoever may write into its directory."""

    class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
        """What may stand under `spool:` in a configuration."""

        directory: str
        """Where requests are looked for; relative to where the program was started."""
        interval: Duration = Duration("200ms")
        """How long to wait before the next look."""
        max_request: ByteSize = ByteSize("16MiB")
        """Size of a request; a larger one gets the error `too_large`."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._directory = os.path.abspath(settings.directory)
        self._interval = settings.interval.seconds
        self._max_request = settings.max_request

    async def serve(self, api: API, context: ListenerContext) -> None:
        """Serves until the server ends. Raises `OSError` where the directory cannot be read or written."""
        context.check_exposed(self._directory)
        await asyncio.to_thread(os.makedirs, self._directory, mode=0o700, exist_ok=True)
        context.ready(f"spool:{self._directory}")
        stopping = asyncio.ensure_future(context.stopping())
        try:
            while not stopping.done():
                for request in await asyncio.to_thread(_waiting, self._directory):
                    if not stopping.done():
                        await self._serve_one(request, api, context)
                await asyncio.wait([stopping], timeout=self._interval)
        finally:
            stopping.cancel()

    async def _serve_one(self, request: Path, api: API, context: ListenerContext) -> None:
        answers: list[bytes] = []

        def caller() -> Caller:
            return api.caller(listener=context.name, peer=request.name, principal=principal)

        async def send(message: bytes) -> None:
            answers.append(message)

        session = Session(api, caller=caller, send=send, log=context.log)
        try:
            principal = await api.authenticate(listener=context.name, peer=request.name)
            await session.received(await asyncio.to_thread(_read, request, self._max_request))
        except ContestError as error:
            await session.reject(error)
        await session.aclose()
        await asyncio.to_thread(_finish, request, answers)


def _waiting(directory: str) -> list[Path]:
    return sorted(file for file in Path(directory).glob("*.request") if file.is_file())


def _read(request: Path, limit: int) -> bytes:
    """The whole of a request. Raises `TooLarge` and `InvalidMessage`."""
    try:
        size = request.stat().st_size
        if size > limit:
            raise TooLarge(what="the request", limit=limit, size=size)
        return request.read_bytes()
    except OSError as error:
        raise InvalidMessage(reason=f"it cannot be read: {error.strerror}") from None


def _finish(request: Path, answers: list[bytes]) -> None:
    for answer in answers:
        unfinished = request.with_suffix(".unfinished")
        unfinished.write_bytes(answer + b"\n")
        unfinished.rename(request.with_suffix(".answer"))
    request.unlink(missing_ok=True)
