"""How commands ask a server: the options that they share, and a client that asks again while that is safe.

Used by `verbs`. Above it are commands, below it whatever client the address names. It never asks again where a
request may have had its effect, unless the request has a start key or only reads.
"""

from __future__ import annotations

import functools
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from time import monotonic as now
from typing import TYPE_CHECKING, Any, Self, TypeVar

import click
import msgspec
from msgspec import Struct, field

from contest_core.caller import MAX_REQUESTOR_BYTES
from contest_core.cli.failures import Failure
from contest_core.cli.group import plugins_of
from contest_core.cli.output import out_json, say, visible
from contest_core.client import Client, ClientOptions, Contest, client_class
from contest_core.errors import AnswerTimeout, ContestError, Repeat, error_from_wire
from contest_core.verbs import VERBS

if TYPE_CHECKING:
    from types import TracebackType

    from contest_core.plugins import Plugins
    from contest_core.responses import Response

DEFAULT_ADDRESS = "http://localhost:8080"

HERE = "here:"
"""The address of this program itself, for what needs no server; known where a plugin brings it."""

PAUSES = (0.3, 1.0, 2.0)
"""Seconds before a request is sent again."""

SLACK = 0.5
"""Seconds that a client has beyond its own timeout to say what was not in time."""

WRONG_ADDRESS = 2
"""The exit status where an address is none."""

_NOT_AT_ONCE = frozenset({"unreachable", "shutting_down"})
_NEVER = frozenset({"internal"})


D = TypeVar("D")


class _Answer(Struct):
    code: str | None = field(name="Code", default=None)
    message: str | None = field(name="Msg", default=None)
    error: str | None = field(name="Error", default=None)


class Repeating(Client):
    """A client over another one, which it makes at the first request and anew after a loss."""

    def __init__(self, address: str, options: ClientOptions, plugins: Plugins) -> None:
        self.answer = b""
        """The last answer, as the wire had it."""
        self._address = address
        self._options = options
        self._plugins = plugins
        self._client: Client | None = None
        self._lost = False
        self.repeats = True
        """Whether it asks again where that is safe; whoever polls does so anyway."""

    @classmethod
    async def connect(cls, address: str, options: ClientOptions) -> Self:
        """Prepares to; connects at the first request."""
        from contest_core.plugins import load_plugins

        return cls(address, options, load_plugins())

    async def call(self, verb: str, parameters: Mapping[str, object]) -> bytes:
        """Asks, and asks again after a pause while that is safe, the pauses last and there is time."""
        from asyncio import sleep  # brings asyncio, which the module's other users do without

        deadline = now() + self._options.timeout
        # The client's own bound of the first try comes first, since it knows what was not in time.
        until = deadline + SLACK
        for pause in (*PAUSES, None):
            error = await self._try(verb, parameters, until - now())
            if error is None:
                return self.answer
            if pause is None or now() + pause >= deadline or not self._may_repeat(verb, parameters, error):
                break
            until = deadline
            say(f"contest: {visible(error.message)}; asking again in {pause:g} s")
            await sleep(pause)
        assert error is not None
        if self.answer:
            return self.answer
        raise error

    async def _try(self, verb: str, parameters: Mapping[str, object], seconds: float) -> ContestError | None:
        """One attempt: None, or what went wrong; `answer` is empty where nothing came."""
        from asyncio import timeout  # brings asyncio, as above

        self.answer = b""
        try:
            async with timeout(seconds):
                if self._client is None:
                    self._client = await self._class().connect(self._address, self._options)
                self.answer = await self._client.call(verb, parameters)
        except (ContestError, TimeoutError) as raised:
            error = raised if isinstance(raised, ContestError) else self._late(verb)
            self._lost = self._lost or error.code == "connection_lost"
            await self.aclose()
            return error
        return failure(self.answer)

    def _late(self, verb: str) -> ContestError:
        return AnswerTimeout(seconds=self._options.timeout, verb=verb, reads=VERBS[verb].reads)

    def _class(self) -> type[Client]:
        scheme = self._address.partition(":")[0].lower()
        if scheme not in self._plugins.clients:
            raise Failure(self._no_scheme(scheme), WRONG_ADDRESS)
        try:
            return client_class(self._address, self._plugins)
        except ImportError as error:
            raise Failure(
                f"the client for {scheme}: cannot be loaded: {error}; see `contest plugins`"
            ) from error

    def _no_scheme(self, scheme: str) -> str:
        """What is wrong with the address, which schemes there are, and an example."""
        known = ", ".join(f"{name}:" for name in self._plugins.clients.names()) or "none"
        address = self._address
        if "://" in address:
            wrong = f"{address}: there is no client for {scheme}:"
            hint = f"an example is {DEFAULT_ADDRESS}"
        else:
            wrong = f"{address}: an address begins with a scheme" if address else "the address is empty"
            hint = f"did you mean http://{address}?" if address else f"an example is {DEFAULT_ADDRESS}"
        broken = [
            f"\nplugin {info.name!r} failed: {info.failure}" for info in self._plugins.infos if info.failure
        ]
        return f"{wrong}; the schemes are {known}; {hint}{''.join(broken)}"

    def _may_repeat(self, verb: str, parameters: Mapping[str, object], error: ContestError) -> bool:
        if not self.repeats:
            return False
        if error.code in _NOT_AT_ONCE:
            # A person wants to hear of a wrong address at once; a server that was there may be coming back.
            return self._lost
        if error.row.repeat is Repeat.WITH_START_KEY:
            return error.code not in _NEVER and (VERBS[verb].reads or bool(parameters.get("startKey")))
        return error.row.repeat is Repeat.YES

    @asynccontextmanager
    async def _watch(self, parameters: Mapping[str, object]) -> AsyncIterator[AsyncIterator[bytes]]:
        if self._client is None:
            self._client = await self._class().connect(self._address, self._options)
        async with self._client.watch(parameters) as messages:
            yield messages

    def watch(self, parameters: Mapping[str, object]) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Subscribes once: whoever watches resumes by its cursor."""
        return self._watch(parameters)

    async def aclose(self) -> None:
        """Closes the connection, if there is one."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()


def failure(answer: bytes) -> ContestError | None:
    """The error that an answer carries, if any."""
    try:
        decoded = msgspec.json.decode(answer, type=_Answer)
    except msgspec.MsgspecError:
        return None  # whoever reads the answer says what is wrong with it
    message = decoded.message if decoded.message is not None else decoded.error
    return None if message is None else error_from_wire(decoded.code, message)


class Asker:
    """What a command that asks works with. Entered, it can ask; left, it is closed."""

    def __init__(self, client: Repeating, options: ClientOptions, *, address: str, as_json: bool) -> None:
        self.contest = Contest(client, options)
        self.address = address
        self.as_json = as_json
        """Whether the wire's objects are wanted, not text for people."""
        self._client = client
        self._capabilities: frozenset[str] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def offers(self, capability: str) -> bool:
        """Whether the server says so. ConTest's own servers say nothing, and ignore what they do not know."""
        if self._capabilities is None:
            version = await self.contest.version()
            self._capabilities = frozenset(version.result().capabilities)
        return capability in self._capabilities

    async def need(self, capability: str, option: str) -> None:
        """Raises where the server does not offer what an option asks for: it might be ignored."""
        if not await self.offers(capability):
            raise ContestError(f"{option} is not offered by {self.address}", code="unsupported")

    async def answer(self, asked: Awaitable[Response[D]]) -> Response[D]:
        """Awaits an answer, which may be a refusal. With `--json` the wire's object goes out in any case."""
        try:
            return await asked
        finally:
            if self.as_json:
                self.show_answer()

    def ask_once(self) -> None:
        """From now on nothing is asked again: whoever polls does so anyway, and shows where it is."""
        self._client.repeats = False

    def show_answer(self) -> None:
        """Writes the wire's object of the last answer, if there was one."""
        if self._client.answer:
            out_json(self._client.answer.rstrip())

    async def result(self, asked: Awaitable[Response[D]]) -> D:
        """The data of an answer, as `answer`; raises a refusal."""
        return (await self.answer(asked)).result()


_address = click.option(
    "-a",
    "--address",
    envvar="CONTEST_ADDRESS",
    default=DEFAULT_ADDRESS,
    show_default=True,
    show_envvar=True,
    metavar="ADDRESS",
    help="The server: http://HOST:PORT, or stdio:COMMAND, which spawns one.",
)

_address_or_here = click.option(
    "-a",
    "--address",
    envvar="CONTEST_ADDRESS",
    default=HERE,
    show_envvar=True,
    metavar="ADDRESS",
    help="A server, http://HOST:PORT or stdio:COMMAND; here, with what is installed, where none is given.",
)


def asks(
    work: Callable[..., Awaitable[int | None]],
    *,
    address: Callable[[Callable[..., None]], Callable[..., None]] = _address,
) -> Callable[..., None]:
    """Makes a command's body of a coroutine that takes an `Asker` first and returns its exit status."""

    @address
    @click.option(
        "-r",
        "--requestor",
        envvar="CONTEST_REQUESTOR",
        default=None,
        metavar="NAME",
        help="Who asks, at most 32 bytes.  [default: your user name]",
    )
    @click.option(
        "--timeout",
        type=click.FloatRange(min=0, min_open=True),
        default=30.0,
        show_default=True,
        metavar="SECONDS",
        help="How long to wait for an answer, asking again included.",
    )
    @click.option("--json", "as_json", is_flag=True, help="Print the answer as it is on the wire.")
    @click.pass_context
    @functools.wraps(work)
    def command(
        ctx: click.Context,
        /,
        address: str,
        requestor: str | None,
        timeout: float,
        as_json: bool,
        **given: Any,
    ) -> None:
        from contest_core.cli.loop import run_async

        options = ClientOptions(
            requestor=requestor if requestor is not None else user_name(),
            token=os.environ.get("CONTEST_TOKEN") or None,
            timeout=timeout,
        )
        plugins = plugins_of(ctx)
        if address == HERE and HERE.rstrip(":") not in plugins.clients:
            address = DEFAULT_ADDRESS  # nothing here knows what a job is
        client = Repeating(address, options, plugins)

        async def ask() -> int | None:
            async with Asker(client, options, address=address, as_json=as_json) as asker:
                return await work(asker, **given)

        ctx.exit(run_async(ask()) or 0)

    return command


def asks_here(work: Callable[..., Awaitable[int | None]]) -> Callable[..., None]:
    """As `asks`; without an address this program itself is asked."""
    return asks(work, address=_address_or_here)


def user_name() -> str:
    """The name of whoever runs the program, cut to what a requestor may be."""
    from getpass import getuser

    try:
        name = getuser()
    except (KeyError, OSError, ImportError):
        # A container's user may have no name.
        name = ""
    cut = name.encode("utf-8", "replace")[:MAX_REQUESTOR_BYTES].decode("utf-8", "ignore")
    return cut or "contest"
