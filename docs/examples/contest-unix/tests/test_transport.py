"""The transport is held to the contract, by the kit that Contest's own are held to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from contest_unix.client import UnixClient
from contest_unix.listener import UnixListener

from contest_core import ByteSize, Client, ClientOptions, Duration, Listener
from contest_core.testing import TransportSuite, Wire, dial_unix


class TestUnix(TransportSuite):
    """Every case is a promise."""

    tokens = False
    max_request = 64 * 1024
    read_timeout = 0.3

    def listener(self, directory: Path) -> Listener:
        return UnixListener(
            UnixListener.Settings(
                path=str(directory / "socket"),
                max_request=ByteSize(self.max_request),
                request_timeout=Duration("300ms"),
                write_timeout=Duration("1s"),
            )
        )

    async def connect(self, address: str, options: ClientOptions) -> Client:
        return await UnixClient.connect(address, options)

    async def dial(self, address: str) -> Wire:
        return await dial_unix(address.partition(":")[2])

    def request(self, verb: str, parameters: Mapping[str, object]) -> bytes:
        message = {"jsonrpc": "2.0", "id": 1, "method": verb, "params": parameters}
        return json.dumps(message).encode() + b"\n"
