"""The bytes of the wires, as the benchmark's peers send and read them: no more of each protocol than they need."""

from __future__ import annotations

import json
import re
import socket
import struct
from typing import Any, Final
from urllib.parse import urlencode

OPENING: Final = (
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
"""What opens a websocket."""

_END: Final = b"\r\n\r\n"
_PATIENCE: Final = 60.0


def connect(port: int) -> socket.socket:
    """A connection to this machine."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def form_request(verb: str, parameters: dict[str, Any]) -> bytes:
    """A request over HTTP."""
    body = urlencode(parameters).encode()
    return (
        b"POST /%b HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (verb.encode(), len(body), body)
    )


def rpc_request(verb: str, parameters: dict[str, Any]) -> bytes:
    """A request over JSON-RPC; all have one number, as nobody here tells them apart."""
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": verb, "params": parameters}).encode()


def frame(message: bytes) -> bytes:
    """A message as a websocket's client sends it; the mask is zero, which costs the server the same."""
    size = len(message)
    if size < 126:
        head = bytes([0x81, 0x80 | size])
    elif size < 1 << 16:
        head = b"\x81\xfe" + struct.pack("!H", size)
    else:
        head = b"\x81\xff" + struct.pack("!Q", size)
    return head + b"\0\0\0\0" + message


def open_websocket(connection: socket.socket) -> None:
    """The opening handshake. Raises `ConnectionError` where it is refused."""
    connection.sendall(OPENING)
    answer = b""
    while _END not in answer:
        answer += _received(connection)
    if not answer.startswith(b"HTTP/1.1 101 "):
        raise ConnectionError(answer.decode(errors="replace"))


class Frames:
    """What a server sends on a websocket, cut into messages that are whole; none is in fragments."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that are complete now."""
        data = self._rest + data
        found = []
        start, end = 0, len(data)
        while start + 2 <= end:
            size, head = data[start + 1], 2
            if size == 126:
                size, head = int.from_bytes(data[start + 2 : start + 4]), 4
            elif size == 127:
                size, head = int.from_bytes(data[start + 2 : start + 10]), 10
            if start + head + size > end:
                break
            found.append(data[start + head : start + head + size])
            start += head + size
        self._rest = data[start:]
        return found


def http_answer(connection: socket.socket, request: bytes) -> tuple[bytes, bytes]:
    """Asks, and gives the head and the body of the answer."""
    connection.sendall(request)
    data = b""
    while _END not in data:
        data += _received(connection)
    head, _, body = data.partition(_END)
    found = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
    size = int(found[1]) if found else 0
    while len(body) < size:
        body += _received(connection)
    return head, body


def http_answer_size(connection: socket.socket, request: bytes) -> int:
    """Asks, and gives how many bytes the answer has. Raises `ConnectionError` where it is no answer."""
    head, body = http_answer(connection, request)
    if b" 200 " not in head[:16]:
        raise ConnectionError((head + _END + body).decode(errors="replace"))
    return len(head) + len(_END) + len(body)


def _received(connection: socket.socket) -> bytes:
    data = connection.recv(1 << 18)
    if not data:
        raise ConnectionError("the server has closed the connection")
    return data
