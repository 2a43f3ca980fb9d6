"""The websocket under the conformance kit, on both event loops."""

from __future__ import annotations

import asyncio
import itertools
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import uvloop

from contest_core import Client, ClientOptions, Listener
from contest_core.settings import ByteSize, Duration
from contest_core.testing import TransportSuite, Wire, dial_tcp
from contest_websocket.client import WebsocketClient
from contest_websocket.listener import WebsocketListener
from contest_websocket.settings import WebsocketSettings

OPENING = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
_numbers = itertools.count(1)


class TestWebsocket(TransportSuite):
    """JSON-RPC, a message a frame; several requests at once."""

    max_request = 1024 * 1024
    read_timeout = 1.0

    def listener(self, directory: Path) -> Listener:
        settings = WebsocketSettings(port=0, max_request=ByteSize("1MiB"), request_timeout=Duration("1s"))
        return WebsocketListener(settings)

    async def connect(self, address: str, options: ClientOptions) -> Client:
        return await WebsocketClient.connect(address, options)

    async def dial(self, address: str) -> Wire:
        place = urlsplit(address)
        wire = await dial_tcp(str(place.hostname), place.port or 80)
        await wire.send(OPENING)
        await wire.reader.readuntil(b"\r\n\r\n")
        return wire

    def request(self, verb: str, parameters: Mapping[str, object]) -> bytes:
        message = {"jsonrpc": "2.0", "id": next(_numbers), "method": verb, "params": parameters}
        payload = json.dumps(message).encode()
        size = struct.pack("!BBH", 0x81, 0x80 | 126, len(payload))
        return size + b"\0\0\0\0" + payload


class TestWebsocketOneByOne(TestWebsocket):
    """With a concurrency of one, requests are carried out in their order."""

    ordered = True

    def listener(self, directory: Path) -> Listener:
        settings = WebsocketSettings(
            port=0, max_request=ByteSize("1MiB"), request_timeout=Duration("1s"), concurrency=1
        )
        return WebsocketListener(settings)

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        return uvloop.new_event_loop()
