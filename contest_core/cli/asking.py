"""How commands ask a server: the options that they share, and the typed client that they are given.

Used by `verbs`. Above it are commands, below it whatever client the address names. The typed client knows what is asked
again; here a person is told.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Self, TypeVar

import click
import msgspec
from click.shell_completion import CompletionItem

from contest_core.caller import MAX_REQUESTOR_BYTES
from contest_core.cli.failures import Failure
from contest_core.cli.group import plugins_of
from contest_core.cli.output import out_json, say, visible
from contest_core.client import Client, ClientOptions, Contest, client_class
from contest_core.errors import ContestError
from contest_core.reconnecting import Reconnecting

if TYPE_CHECKING:
    from types import TracebackType

    from contest_core.plugins import Plugins
    from contest_core.responses import Response

DEFAULT_ADDRESS = "http://localhost:8080"

HERE = "here:"
"""The address of this program itself, for what needs no server; known where a plugin brings it."""

PATIENCE = 60.0
"""Seconds for which a server may be away while a job is waited for or watched."""

WRONG_ADDRESS = 2
"""The exit status where an address is none."""

D = TypeVar("D")


class Recording(Reconnecting):
    """A client that keeps the last answer as the wire had it."""

    def __init__(self, kind: Callable[[], type[Client]], address: str, options: ClientOptions) -> None:
        super().__init__(kind, address, options)
        self.answer = b""
        """Empty where the last request was not answered."""

    async def call(self, verb: str, parameters: Mapping[str, object]) -> bytes:
        """See `Client.call`."""
        self.answer = b""
        self.answer = await super().call(verb, parameters)
        return self.answer


def _find(address: str, plugins: Plugins) -> type[Client]:
    """The client for an address. Raises `Failure`."""
    scheme = address.partition(":")[0].lower()
    if scheme not in plugins.clients:
        raise Failure(_no_scheme(address, scheme, plugins), WRONG_ADDRESS)
    return client_class(address, plugins)


def _no_scheme(address: str, scheme: str, plugins: Plugins) -> str:
    """What is wrong with the address, which schemes there are, and an example."""
    known = ", ".join(f"{name}:" for name in plugins.clients.names()) or "none"
    if "://" in address:
        wrong = f"{address}: there is no client for {scheme}:"
        hint = f"an example is {DEFAULT_ADDRESS}"
    else:
        wrong = f"{address}: an address begins with a scheme" if address else "the address is empty"
        hint = f"did you mean http://{address}?" if address else f"an example is {DEFAULT_ADDRESS}"
    broken = [f"\nplugin {info.name!r} failed: {info.failure}" for info in plugins.infos if info.failure]
    return f"{wrong}; the schemes are {known}; {hint}{''.join(broken)}"


def _tell(error: ContestError, pause: float) -> None:
    say(f"contest: {visible(error.message)}; asking again in {pause:.1f} s")


class Asker:
    """What a command that asks works with. Entered, it can ask; left, it is closed."""

    def __init__(self, client: Recording, options: ClientOptions, *, address: str, as_json: bool) -> None:
        self.contest = Contest(client, options)
        self.address = address
        self.as_json = as_json
        """Whether the wire's objects are wanted, not text for people."""
        self._client = client

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def need(self, capability: str, option: str) -> None:
        """Raises where the server does not offer what an option asks for: a ConTest ignores what it does not know."""
        if not await self.contest.offers(capability):
            raise ContestError(f"{option} is not offered by {self.address}", code="unsupported")

    async def answer(self, asked: Awaitable[Response[D]]) -> Response[D]:
        """Awaits an answer, which may be a refusal. With `--json` the wire's object goes out in any case."""
        try:
            return await asked
        finally:
            if self.as_json:
                self.show_answer()

    def wait_for_server(self, told: Callable[[ContestError, float], None] = _tell) -> None:
        """From now on a server that is away is waited for longer than for an answer: a job goes on without it."""
        options = msgspec.structs.replace(self.contest.options, patience=PATIENCE, on_repeat=told)
        self.contest.options = options

    def show_answer(self) -> None:
        """Writes the wire's object of the last answer, if there was one."""
        if self._client.answer:
            out_json(self._client.answer.rstrip())

    async def result(self, asked: Awaitable[Response[D]]) -> D:
        """The data of an answer, as `answer`; raises a refusal."""
        return (await self.answer(asked)).result()


def _complete_scheme(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """What an address may begin with: our schemes, and those of installed plugins."""
    known = [f"{name}:" for name in plugins_of(ctx).clients.names()]
    return [CompletionItem(scheme) for scheme in known if scheme.startswith(incomplete)]


_address = click.option(
    "-a",
    "--address",
    envvar="CONTEST_ADDRESS",
    default=DEFAULT_ADDRESS,
    show_default=True,
    show_envvar=True,
    shell_complete=_complete_scheme,
    metavar="ADDRESS",
    help="The server: http://HOST:PORT, ws://HOST:PORT, or stdio:COMMAND, which spawns one.",
)

_address_or_here = click.option(
    "-a",
    "--address",
    envvar="CONTEST_ADDRESS",
    default=HERE,
    show_envvar=True,
    shell_complete=_complete_scheme,
    metavar="ADDRESS",
    help="A server, as http://HOST:PORT or stdio:COMMAND; here, with what is installed, where none is given.",
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
            patience=timeout,
            on_repeat=_tell,
        )
        plugins = plugins_of(ctx)
        if address == HERE and HERE.rstrip(":") not in plugins.clients:
            address = DEFAULT_ADDRESS  # nothing here knows what a job is
        client = Recording(lambda: _find(address, plugins), address, options)

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
