"""Where a case happens: a real server in front of a job manager that is played, and the one it is held against."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from contest_core.answering import Answering
from contest_core.api import API
from contest_core.caller import Authenticator
from contest_core.client import Client, ClientOptions
from contest_core.errors import ContestError
from contest_core.events import EventStartMsg
from contest_core.listener import Listener
from contest_core.server import ServerOptions, open_server
from contest_core.testing.cases import Complaints, listening_sockets
from contest_core.testing.direct import DirectClient, DirectListener
from contest_core.testing.played import OneToken, PlayedJobManager
from contest_core.testing.wire import Wire

if TYPE_CHECKING:
    from contest_core.lifecycle import Server

PATIENCE: Final = 10.0
"""Seconds to wait for anything that has to happen."""

LONG: Final = 60.0
"""Seconds of the API's own timeouts where a case is not about them: what it waits for has to come of itself."""

SERVER_ID: Final = "kit"
REQUESTOR: Final = "kit"

Answer = dict[str, Any]


class Transport(Protocol):
    """What a suite gives: see `contest_core.testing.transport`."""

    def listener(self, directory: Path) -> Listener: ...

    async def connect(self, address: str, options: ClientOptions) -> Client: ...

    async def dial(self, address: str) -> Wire: ...


class Place:
    """One case's directory, and the servers that it opens there."""

    def __init__(self, transport: Transport, directory: Path, complaints: Complaints) -> None:
        self.transport = transport
        self.directory = directory
        self._complaints = complaints

    def expect_errors(self) -> None:
        """What Contest logs as an error in this case is meant to be."""
        self._complaints.expected = True

    @asynccontextmanager
    async def serve(
        self,
        *,
        event_timeout: float = LONG,
        in_flight: int = 1000,
        grace: float = 5.0,
        token: bool = False,
    ) -> AsyncIterator[World]:
        """A server with the listener that is tested."""
        listener = self.transport.listener(self.directory)
        options = ServerOptions(
            server_id=SERVER_ID, event_timeout=event_timeout, in_flight=in_flight, grace=grace
        )
        authenticators: list[Authenticator] = [OneToken()] if token else []
        manager = PlayedJobManager()
        async with (
            open_server(
                manager, listeners={"tested": listener}, authenticators=authenticators, options=options
            ) as server,
            World(self.transport, manager, server.addresses["tested"]) as world,
        ):
            world.server = server
            yield world

    @asynccontextmanager
    async def reference(self, *, event_timeout: float = LONG) -> AsyncIterator[Reference]:
        """The same without a transport."""
        manager = PlayedJobManager()
        listener = DirectListener()
        options = ServerOptions(server_id=SERVER_ID, event_timeout=event_timeout)
        async with open_server(manager, listeners={"tested": listener}, options=options):
            try:
                yield Reference(manager, listener.client())
            finally:
                manager.release()

    @asynccontextmanager
    async def bare(self) -> AsyncIterator[Bare]:
        """The listener alone, with an API and no server around it: it can be cancelled."""
        manager = PlayedJobManager()
        api = API(event_timeout=LONG, server_id=SERVER_ID, capabilities=manager.capabilities())
        context = PlayedContext()
        answering = Answering(manager, api.events, in_flight=1000, report_error=context.count)
        async with asyncio.TaskGroup() as group:
            answers = group.create_task(answering.run())
            serving = group.create_task(self.transport.listener(self.directory).serve(api, context))
            waiting = group.create_task(context.is_ready.wait())
            await asyncio.wait([serving, waiting], timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            assert context.is_ready.is_set(), "the listener was not ready in time"
            try:
                async with World(self.transport, manager, context.addresses) as world:
                    yield Bare(world, context, serving)
            finally:
                serving.cancel()
                answers.cancel()


class World:
    """A running listener, and the connections to it."""

    server: Server

    def __init__(self, transport: Transport, manager: PlayedJobManager, addresses: tuple[str, ...]) -> None:
        assert addresses, "the listener said `ready()` without an address"
        self.address = addresses[0]
        self.manager = manager
        self._transport = transport
        self._closing = AsyncExitStack()

    async def __aenter__(self) -> World:
        return self

    async def __aexit__(self, *error: object) -> None:
        self.manager.release()
        await self._closing.aclose()

    async def client(
        self, *, token: str | None = None, timeout: float = PATIENCE, max_answer: int | None = None
    ) -> Client:
        """Another client; it is closed at the end."""
        options = ClientOptions(requestor=REQUESTOR, token=token, timeout=timeout)
        if max_answer is not None:
            options = ClientOptions(requestor=REQUESTOR, timeout=timeout, max_answer=max_answer)
        client: Client = await within(self._transport.connect(self.address, options))
        self._closing.push_async_callback(client.aclose)
        return client

    async def dial(self) -> Wire:
        """Another raw connection; it is closed at the end."""
        wire: Wire = await within(self._transport.dial(self.address))
        self._closing.callback(wire.close)
        return wire

    async def ask(self, verb: str, **parameters: object) -> Answer:
        """One request by a client of its own."""
        client = await self.client()
        try:
            return await ask(client, verb, **parameters)
        finally:
            await client.aclose()

    async def still_serves(self) -> None:
        """Somebody else is answered."""
        answer = await self.ask("version")
        assert answer.get("Type") == "ResponseTypeVersion", f"others were answered {answer}"

    async def jobs(self, count: int) -> None:
        """There are so many jobs more, `job-N`."""
        for number in range(len(self.manager.jobs) + 1, len(self.manager.jobs) + count + 1):
            await add_job(self.manager, f"job-{number}")


class Reference:
    """A server without a transport, and a client of it."""

    def __init__(self, manager: PlayedJobManager, client: DirectClient) -> None:
        self.manager = manager
        self.client = client


class Bare:
    """A listener that serves, and the task that does."""

    def __init__(self, world: World, context: PlayedContext, serving: asyncio.Task[None]) -> None:
        self.world = world
        self.context = context
        self.serving = serving

    async def cancel(self) -> None:
        """Ends the listener, now."""
        self.serving.cancel()
        done, _ = await asyncio.wait([self.serving], timeout=2.0)
        assert done, "a listener that was cancelled did not end within 2 s"


class PlayedContext:
    """What a listener needs of a server, without one: a `ListenerContext` that remembers."""

    trusted = False

    def __init__(self, name: str = "tested") -> None:
        self.name = name
        self.log = logging.LoggerAdapter(logging.getLogger(f"contest.listener.{name}"), {})
        self.is_ready = asyncio.Event()
        self.addresses: tuple[str, ...] = ()
        self.story: list[str] = []
        """What it asked and said, in order."""
        self.errors: list[Exception | None] = []
        """Faults outside requests."""
        self.stop = asyncio.Event()
        """Set, the listener shall end."""
        self.refuses: ContestError | None = None
        """Raised where it asks whether it may be reached."""
        self._listening_before = listening_sockets()
        self.reachable: set[str] = set()
        """What it listened on when it asked whether it may."""

    @property
    def checked(self) -> list[str]:
        """Where it asked whether it may be reached."""
        return [words.partition(" ")[2] for words in self.story if words.startswith("check_exposed ")]

    def check_exposed(self, where: str) -> None:
        """Wherever it is, it may, unless `refuses` says otherwise."""
        self.story.append(f"check_exposed {where}")
        self.reachable |= listening_sockets() - self._listening_before
        if self.refuses is not None:
            raise self.refuses

    def ready(self, *addresses: str) -> None:
        """It serves."""
        self.story.append("ready")
        self.addresses = addresses
        self.is_ready.set()

    def degraded(self, reason: str) -> None:
        """It does not."""
        self.story.append(f"degraded {reason}")

    def readiness(self) -> str | None:
        """All is well."""
        return None

    async def stopping(self) -> None:
        """Until `stop` is set."""
        await self.stop.wait()

    async def end_of_input(self) -> bool:
        """It may be gone; there are others."""
        return True

    def report_error(self, error: Exception) -> None:
        """A fault outside a request."""
        self.errors.append(error)

    def count(self, listener: str, error: Exception | None) -> None:
        """As the server is told of it."""
        self.errors.append(error)


async def within(work: Any, what: str = "it", seconds: float | None = None) -> Any:
    """The result of what has to be done in time."""
    seconds = PATIENCE if seconds is None else seconds
    try:
        async with asyncio.timeout(seconds):
            return await work
    except TimeoutError as error:
        raise AssertionError(f"{what} did not happen within {seconds:g} s") from error


async def until(holds: Callable[[], object], what: str) -> None:
    """Waits until something holds."""
    ends = asyncio.get_running_loop().time() + PATIENCE
    while not holds():
        assert asyncio.get_running_loop().time() < ends, f"not within {PATIENCE:g} s: {what}"
        await asyncio.sleep(0.005)


async def settled(count: Callable[[], int]) -> None:
    """Returns when this has not grown for a while."""
    before = -1
    while before != count():
        before = count()
        await asyncio.sleep(0.4)


async def call(client: Client, verb: str, parameters: Mapping[str, object]) -> Answer:
    """One request, as its parameters are, and its answer decoded."""
    answer = await within(client.call(verb, parameters), f"the answer to {verb}")
    assert isinstance(answer, bytes), f"a client answers with bytes, not {type(answer).__name__}"
    decoded = json.loads(answer)
    assert isinstance(decoded, dict), f"an answer is an object: {answer[:200]!r}"
    return decoded


async def ask(client: Client, verb: str, **parameters: object) -> Answer:
    """One request by somebody."""
    return await call(client, verb, {"requestor": REQUESTOR, **parameters})


def code(answer: Answer) -> str | None:
    """The code of an answer's error."""
    found: str | None = answer.get("Code")
    return found


async def refusal(work: Any) -> str:
    """The code of a request that fails: as an answer, or raised by the client itself."""
    try:
        answer = await within(work, "the refusal")
    except ContestError as error:
        return error.code
    if isinstance(answer, bytes):
        answer = json.loads(answer)
    return str(answer.get("Code"))


async def add_job(manager: PlayedJobManager, name: str) -> int:
    """A job more, without a request."""
    message = EventStartMsg(requestor=REQUESTOR, job_descriptor=json.dumps({"JobName": name}))
    caller = API().caller(listener="kit", peer="kit")
    data = await super(PlayedJobManager, manager).start(message, caller)
    return data.job_id
