"""The yardsticks of the wires: servers that do nothing but carry bytes, each a process of its own.

As a program, `python -m contest_runner.bench.bare http BODY` is uvicorn with an application that answers with these
bytes, `websocket` an echo by the library, `lines ANSWER` a loop that reads, decodes, encodes and writes lines. The
first two write the port on which they listen.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable, Coroutine
from typing import Any, Final

import msgspec

from contest_core.cli.loop import run_async

_CHUNK: Final = 1 << 16


def _listen() -> socket.socket:
    sock = socket.create_server(("127.0.0.1", 0), backlog=1024)
    sys.stdout.write(f"{sock.getsockname()[1]}\n")
    sys.stdout.flush()
    return sock


async def http(body: bytes) -> None:
    """uvicorn, on httptools; what it serves is ready."""
    import uvicorn

    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    start = {"type": "http.response.start", "status": 200, "headers": headers}
    end = {"type": "http.response.body", "body": body}

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send(start)
        await send(end)

    config = uvicorn.Config(
        application, http="httptools", ws="none", lifespan="off", access_log=False, server_header=False
    )
    config.load()
    await uvicorn.Server(config).serve(sockets=[_listen()])


async def websocket() -> None:
    """The library's own loop over messages, each sent back."""
    from websockets.asyncio.server import ServerConnection, serve

    async def echo(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    async with serve(echo, sock=_listen(), compression=None) as server:
        await server.serve_forever()


async def lines(answer: bytes) -> None:
    """Each line is decoded, and another one encoded."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(_CHUNK)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, sys.stdout)
    writer = asyncio.StreamWriter(transport, protocol, reader, loop)
    answered = msgspec.json.decode(answer)
    while line := await reader.readline():
        msgspec.json.decode(line)
        writer.write(msgspec.json.encode(answered) + b"\n")
        await writer.drain()
    writer.close()


def main() -> None:
    """Serves until it is terminated, or its input ends."""
    kind, *given = sys.argv[1:]
    serves: dict[str, Callable[..., Coroutine[Any, Any, None]]] = {
        "http": http,
        "websocket": websocket,
        "lines": lines,
    }
    run_async(serves[kind](*(text.encode() for text in given)), serving=True)


if __name__ == "__main__":
    main()
