"""The client for addresses `stdio:COMMAND`: spawns a server and asks it over its stdin and stdout.

The command is split as a shell would, but no shell runs it (`stdio:ssh lab contest serve -c stdio.yaml` works). Any
server that speaks JSON-RPC 2.0 on lines will do; its answers become the objects that HTTP has, their data uncopied
and unread.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import shlex
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final, Self

import msgspec
from msgspec import Raw, Struct, field

from contest_core.client import Client, ClientOptions
from contest_core.errors import (
    ERRORS,
    AnswerTimeout,
    ConnectionLost,
    ContestError,
    TooLarge,
    Unreachable,
    Unsupported,
)
from contest_core.verbs import VERBS
from contest_stdio.child import Child
from contest_stdio.lines import Overlong

PATIENCE_SECONDS: Final = 10.0
"""How long a server may take to end when its input has, and again when it is told to."""

_LITTLE_PATIENCE_SECONDS: Final = 1.0
"""The same for what has not behaved like a server."""

_CODES: Final = {row.rpc: code for code, row in ERRORS.items()} | {-32700: "invalid_message"}
_ID: Final = re.compile(rb'\A\{"jsonrpc":"2\.0","id":([0-9]{1,18}),')


class StdioClient(Client):
    """A server of our own, spawned for this connection. Many calls may be in flight."""

    def __init__(self, address: str, options: ClientOptions) -> None:
        self._address = address
        self._options = options
        self._numbers = itertools.count(1)
        self._pending: dict[int, _Pending] = {}
        self._child = Child(options.max_answer, self._take, self._end)

    @classmethod
    async def connect(cls, address: str, options: ClientOptions) -> Self:
        """Spawns the command and waits until it answers. Raises `Unreachable`, with the end of its stderr."""
        client = cls(address, options)
        command = client._command()
        try:
            await client._child.spawn(command)
        except OSError as error:
            reason = f"{command[0]}: {error.strerror or error}"
            raise Unreachable(address=address, reason=reason) from error
        try:
            await client.call("version", {})
        except (ConnectionLost, AnswerTimeout) as error:
            reason = client._why(error)
            await client._child.aclose(_LITTLE_PATIENCE_SECONDS)
            raise Unreachable(address=address, reason=reason) from error
        except BaseException:
            await client._child.aclose(0)
            raise
        return client

    async def call(self, verb: str, parameters: Mapping[str, object]) -> bytes:
        """Asks a verb; gives the object that HTTP has, for any status.

        Raises `Unreachable` where the server has gone before, `ConnectionLost` where it goes now, `AnswerTimeout`,
        and `TooLarge` where the answer is beyond the client's limit.
        """
        number = next(self._numbers)
        request = {"jsonrpc": "2.0", "id": number, "method": verb, "params": parameters}
        line = msgspec.json.encode(request)
        pending = self._pending[number] = _Pending(len(line))
        try:
            async with asyncio.timeout(self._options.timeout):
                if await self._child.write(line):
                    return await pending.answer
                await self._child.ended.wait()
        except TimeoutError:
            row = VERBS.get(verb)
            reads = row is not None and row.reads
            raise AnswerTimeout(seconds=self._options.timeout, verb=verb, reads=reads) from None
        finally:
            del self._pending[number]
            error = pending.close()
        # Nothing was written: it had gone before.
        raise Unreachable(address=self._address, reason=self._why(error))

    def watch(self, parameters: Mapping[str, object]) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Raises `Unsupported` when entered: the wires do not carry watches yet."""
        return _unsupported_watch()

    async def aclose(self) -> None:
        """Closes the server's stdin, which ends it in good order; it is told, and killed, if that takes long."""
        await self._child.aclose(PATIENCE_SECONDS)

    def _command(self) -> list[str]:
        try:
            command = shlex.split(self._address.partition(":")[2])
        except ValueError as error:
            raise Unreachable(address=self._address, reason=f"the command cannot be read: {error}") from None
        if not command:
            raise Unreachable(address=self._address, reason="there is no command after `stdio:`")
        return command

    def _why(self, error: BaseException | None) -> str:
        if isinstance(error, _NotAnAnswer):
            return error.reason
        fate = self._child.fate()
        late = f"no answer within {self._options.timeout:g} s, and "
        return late + fate if isinstance(error, AnswerTimeout) else fate

    # --- called by the child

    def _take(self, line: bytes) -> None:
        if isinstance(line, Overlong):
            self._too_large(line)
            return
        if not line or line.isspace():
            return
        try:
            answer = _decoder.decode(line)
            if answer.method is not None and answer.id is None:
                return  # a notification, of a kind that is not known here
            envelope = answer.envelope()
        # DecodeError and UnicodeDecodeError are both ValueError.
        except (ValueError, RecursionError):
            self._fail(_NotAnAnswer(address=self._address, line=line))
            return
        pending = self._pending.get(answer.id) if answer.id is not None else self._largest()
        if pending is not None:
            pending.resolve(envelope)

    def _end(self) -> None:
        self._fail(ConnectionLost(address=self._address, reason=self._child.fate()))

    def _fail(self, error: ContestError) -> None:
        for pending in self._pending.values():
            pending.fail(error)

    def _too_large(self, head: bytes) -> None:
        error = TooLarge(
            what="the answer", limit=self._options.max_answer, setting="ClientOptions.max_answer"
        )
        found = _ID.match(head)
        if found is None:
            self._fail(error)
        elif (pending := self._pending.get(int(found[1]))) is not None:
            pending.fail(error)

    def _largest(self) -> _Pending | None:
        """Whose an answer without an id is: what we send can be read, so it was too long."""
        waiting = [pending for pending in self._pending.values() if not pending.answer.done()]
        return max(waiting, key=lambda pending: pending.size, default=None)


class _Pending:
    __slots__ = ("answer", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def resolve(self, answer: bytes) -> None:
        if not self.answer.done():
            self.answer.set_result(answer)

    def fail(self, error: ContestError) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)

    def close(self) -> BaseException | None:
        """Nobody waits any more; gives the error with which it failed, if it did."""
        if self.answer.done() and not self.answer.cancelled():
            return self.answer.exception()
        self.answer.cancel()
        return None


class _NotAnAnswer(ConnectionLost):
    """The process wrote something that is no answer: it is no server, or something else writes to its stdout."""

    def __init__(self, *, address: str, line: bytes) -> None:
        shown = line[:200].decode(errors="replace")
        self.reason = f"it wrote a line that is no JSON-RPC answer: {shown!r}"
        super().__init__(address=address, reason=self.reason)


class _Facts(Struct):
    code: str | None = field(name="Code", default=None)
    server_id: str = field(name="ServerID", default="")
    type: str | None = field(name="Type", default=None)
    data: Raw = field(name="Data", default=Raw(b"null"))


class _Error(Struct):
    code: int
    message: str
    data: Raw = Raw()


class _Answer(Struct):
    id: int | None = None
    method: str | None = None
    result: Raw = Raw()
    error: _Error | None = None

    def envelope(self) -> bytes:
        """The object that HTTP has for this answer. Raises `ValueError` where it is none."""
        if self.error is not None:
            return _refusal(self.error)
        if result := bytes(self.result):
            return result
        raise ValueError("neither a result nor an error")


_decoder = msgspec.json.Decoder(_Answer)


def _refusal(error: _Error) -> bytes:
    try:
        facts = msgspec.json.decode(error.data, type=_Facts)
    except msgspec.DecodeError:
        facts = _Facts()
    code = facts.code or _CODES.get(error.code, "internal")
    if facts.type is None:
        return msgspec.json.encode({"Msg": error.message, "Code": code})
    answer = {"ServerID": facts.server_id, "Type": facts.type, "Data": facts.data}
    return msgspec.json.encode({**answer, "Error": error.message, "Code": code})


@asynccontextmanager
async def _unsupported_watch() -> AsyncIterator[AsyncIterator[bytes]]:
    raise Unsupported(what="watch", by="this wire")
    yield
