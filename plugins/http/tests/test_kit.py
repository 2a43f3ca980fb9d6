"""HTTP under the conformance kit, on both event loops."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import uvloop

from contest_core import Client, ClientOptions, Listener
from contest_core.settings import ByteSize, Duration
from contest_core.testing import TransportSuite, Wire, dial_tcp
from contest_http.client import HttpClient
from contest_http.listener import HttpListener
from contest_http.settings import HttpSettings


class TestHttp(TransportSuite):
    """One request a connection at a time, answered in order."""

    max_request = 1024 * 1024
    read_timeout = 1.0
    ordered = True

    def listener(self, directory: Path) -> Listener:
        return HttpListener(
            HttpSettings(port=0, max_request=ByteSize("1MiB"), request_timeout=Duration("1s"))
        )

    async def connect(self, address: str, options: ClientOptions) -> Client:
        return await HttpClient.connect(address, options)

    async def dial(self, address: str) -> Wire:
        place = urlsplit(address)
        return await dial_tcp(str(place.hostname), place.port or 80)

    def request(self, verb: str, parameters: Mapping[str, object]) -> bytes:
        body = urlencode(parameters).encode()
        head = (
            f"POST /{verb} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        )
        return head.encode() + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


class TestHttpOnUvloop(TestHttp):
    """As the program runs it."""

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        return uvloop.new_event_loop()
