"""The client for addresses `stdio:COMMAND`: spawns a server and asks it over its stdin and stdout.

The command is split as a shell would, but no shell runs it (`stdio:ssh lab contest serve -c stdio.yaml` works). Any
server that speaks JSON-RPC 2.0 on lines will do; its answers become the objects that HTTP has, their data uncopied
and unread.
"""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Final, Self

from contest_core.client import Client, ClientOptions
from contest_core.errors import AnswerTimeout, ConnectionLost, TooLarge, Unreachable
from contest_core.rpc_client import Calls, NotAnAnswer, Pending, watching
from contest_core.verbs import VERBS
from contest_stdio.child import Child
from contest_stdio.lines import Overlong

PATIENCE_SECONDS: Final = 10.0
"""How long a server may take to end when its input has, and again when it is told to."""

_LITTLE_PATIENCE_SECONDS: Final = 1.0
"""The same for what has not behaved like a server."""


class StdioClient(Client):
    """A server of our own, spawned for this connection. Many calls may be in flight."""

    def __init__(self, address: str, options: ClientOptions) -> None:
        self._address = address
        self._options = options
        self._calls = Calls()
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
        return (await self._ask(verb, parameters)).answer.result()

    async def _ask(self, method: str, parameters: Mapping[str, object]) -> Pending:
        number, line, pending = self._calls.begin(method, parameters)
        try:
            async with asyncio.timeout(self._options.timeout):
                if await self._child.write(line):
                    await pending.answer
                    return pending
                await self._child.ended.wait()
        except TimeoutError:
            row = VERBS.get(method)
            reads = row is None or row.reads
            raise AnswerTimeout(seconds=self._options.timeout, verb=method, reads=reads) from None
        finally:
            error = self._calls.end(number)
        # Nothing was written: it had gone before.
        raise Unreachable(address=self._address, reason=self._why(error))

    def watch(self, parameters: Mapping[str, object]) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Subscribes on this connection; any number of watches may go on."""
        return watching(self._calls, self._ask, parameters)

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
        if isinstance(error, NotAnAnswer):
            return error.reason
        fate = self._child.fate()
        late = f"no answer within {self._options.timeout:g} s, and "
        return late + fate if isinstance(error, AnswerTimeout) else fate

    # --- called by the child

    def _take(self, line: bytes) -> None:
        if isinstance(line, Overlong):
            limit = self._options.max_answer
            error = TooLarge(what="the answer", limit=limit, setting="ClientOptions.max_answer")
            self._calls.too_large(line, error)
        elif line and not line.isspace():
            try:
                self._calls.take(line)
            except ValueError:
                self._calls.fail(NotAnAnswer(address=self._address, message=line))

    def _end(self) -> None:
        self._calls.fail(ConnectionLost(address=self._address, reason=self._child.fate()))
