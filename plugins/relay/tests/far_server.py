"""A process of servers with jobs, one at a time; the kit looks for what a job manager leaves in its own process.

`open SCHEME DIRECTORY` is answered with an address, `close` with `closed`.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import IO, Self


class FarServers:
    """The process, and what one says to it."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, *error: object) -> None:
        self._process.communicate(timeout=20)

    def open(self, scheme: str, directory: Path) -> str:
        """The address of a new server."""
        return self._say(f"open {scheme} {directory}")

    def close(self) -> None:
        """Ends it."""
        self._say("close")

    def _say(self, words: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        say(words, self._process.stdin)
        return self._process.stdout.readline().strip()


async def serve() -> None:
    """Until the input ends."""
    from contest_core import ServerOptions, open_server
    from contest_core.settings import Duration
    from contest_http.listener import HttpListener
    from contest_runner.manager import LocalJobManager
    from contest_runner.settings import LocalSettings
    from contest_websocket.listener import WebsocketListener

    kinds = {"http": HttpListener, "ws": WebsocketListener}
    while words := (await asyncio.to_thread(sys.stdin.readline)).split():
        _, scheme, directory = words
        manager = LocalJobManager(LocalSettings(stop_grace=Duration("2s"), synchronous="normal"))
        kind = kinds[scheme]
        options = ServerOptions(directory=Path(directory), server_id="kit", event_timeout=10)
        door = kind(kind.Settings(port=0))
        async with open_server(manager, listeners={"door": door}, options=options) as server:
            say(server.addresses["door"][0], sys.stdout)
            await asyncio.to_thread(sys.stdin.readline)
        say("closed", sys.stdout)


def say(words: str, to: IO[str]) -> None:
    """One line, at once."""
    to.write(words + "\n")
    to.flush()


if __name__ == "__main__":
    asyncio.run(serve())
