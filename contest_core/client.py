"""The client's contract, and the typed client that a program uses over any of them.

A transport's author writes the four methods of `Client`; `connect` finds the class by the address's scheme and
wraps it into `Contest`, whose methods are the verbs with typed answers; `connect_sync` into `ContestSync`, whose
methods wait for them. What is asked again (`repeats`), how a watch goes on (`following`) and when a client is made anew
(`reconnecting`) is the same for every transport.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, TypeVar, cast

import msgspec
from msgspec import Struct

from contest_core import foreign
from contest_core.errors import (
    ContestError,
    InvalidDescriptor,
    Refused,
    Unreachable,
    Unsupported,
    error_from_wire,
)
from contest_core.job_event import Cursor, Gap, JobEvent
from contest_core.responses import (
    ZERO_DATA,
    ListResponse,
    LocksResponse,
    Response,
    ResponseDataList,
    ResponseDataLocks,
    ResponseDataRetry,
    ResponseDataStart,
    ResponseDataStatus,
    ResponseDataStop,
    ResponseDataValidate,
    ResponseDataVersion,
    ResponseType,
    RetryResponse,
    StartResponse,
    StatusResponse,
    StopResponse,
    ValidateResponse,
    VersionResponse,
)
from contest_core.verbs import VERBS

if TYPE_CHECKING:
    from datetime import datetime
    from typing import Self

    from contest_core.client_sync import ContestSync
    from contest_core.plugins import Plugins
    from contest_core.repeats import Tries
    from contest_core.status import JobQuery

MAX_ANSWER_BYTES = 64 * 1024 * 1024
"""What our clients accept as one answer."""


class ClientOptions(Struct, frozen=True, kw_only=True):
    """How a client behaves, whatever its transport."""

    requestor: str = "contest"
    """Declared with every request that names none."""
    token: str | None = None
    """A bearer token."""
    timeout: float = 30.0
    """Seconds to wait for a connection, and for an answer."""
    max_answer: int = MAX_ANSWER_BYTES
    """Bytes of one answer."""
    patience: float = 60.0
    """Seconds for which the typed client asks again what is safe to ask again, and waits for a server that is away.

    A server that has never answered is not waited for; with 0 none is."""
    on_repeat: Callable[[ContestError, float], None] | None = None
    """Told what went wrong and in how many seconds it is asked again; without one the logger `contest.client` is.

    What it raises ends the repeating. `connect_sync` calls it in the thread of its event loop."""

    def __repr__(self) -> str:
        return f"ClientOptions(requestor={self.requestor!r}, timeout={self.timeout!r})"


class Client(ABC):
    """A connection to a server over one transport.

    One that has raised `Unreachable` or `ConnectionLost` need not work any more: `connect` makes another and closes it.
    """

    @classmethod
    @abstractmethod
    async def connect(cls, address: str, options: ClientOptions) -> Self:
        """Connects, or prepares to. Raises `Unreachable`."""

    @abstractmethod
    async def call(self, verb: str, parameters: Mapping[str, object]) -> bytes:
        """Asks a verb with wire parameters; gives the object that HTTP has, for any status.

        Raises `Unreachable` (nothing happened), `ConnectionLost` (it may have), `TooLarge`.
        """

    @abstractmethod
    def watch(self, parameters: Mapping[str, object]) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Subscribes; each item is a JSON object `{"Event": …}` or `{"Gap": …}`. Raises the refusal when entered.

        It ends when the server ends it, and raises `ConnectionLost` where it breaks off. Of all jobs from now on the
        first item may be a gap of which `Missed` is 0: it says where the watch begins, so that it can go on from there.
        """

    @abstractmethod
    async def aclose(self) -> None:
        """Closes what it opened, and ends what it spawned."""


_NULL = msgspec.Raw(b"null")
_ZEROS = {kind: msgspec.Raw(msgspec.json.encode(data)) for kind, data in ZERO_DATA.items()}


class _Envelope(Struct, rename="pascal"):
    server_id: str = msgspec.field(name="ServerID", default="")
    type: str = ""
    data: msgspec.Raw = _NULL
    error: str | None = None
    code: str | None = None
    msg: str | None = None


D = TypeVar("D")


class Contest:
    """The typed client: the verbs of `API`, over any transport.

    An answer of the job manager is a `Response`, whose `result()` raises its refusal; a request that never
    reached one raises a `ContestError`, when it is final or the patience of the options is over. What may have happened
    is asked again only where that is harmless: a verb that reads, a `start` at a server with start keys.
    """

    def __init__(self, client: Client, options: ClientOptions) -> None:
        self.client = client
        self.options = options
        """May be replaced at any time."""
        self._capabilities: frozenset[str] | None = None
        self._heard = False

    async def start(
        self, job_descriptor: str, *, start_key: str | None = None, strict: bool = False
    ) -> StartResponse:
        """Starts a job from a descriptor (one JSON object).

        A server that has start keys is given one in any case, so that a start whose answer was lost is sent again and
        starts one job.
        """
        parameters = {"jobDesc": job_descriptor, "startKey": start_key, "strict": strict or None}
        if self.options.patience <= 0 or not await self.offers("start.start_key"):
            return await self._ask("start", ResponseType.START, ResponseDataStart, parameters)
        key = os.urandom(16).hex() if start_key is None else start_key
        keyed = {**parameters, "startKey": key}
        tries = self._tries(harmless=True)
        response = await self._ask("start", ResponseType.START, ResponseDataStart, keyed, tries=tries)
        if isinstance(response.error, Unsupported) and start_key is None and tries.first:
            # Another server may have come to this address since it was asked what it offers.
            self._capabilities = None
            if not await self.offers("start.start_key"):
                return await self._ask("start", ResponseType.START, ResponseDataStart, parameters)
        return response

    async def stop(self, job_id: int) -> StopResponse:
        """Requests the cancellation of a job."""
        return await self._ask("stop", ResponseType.STOP, ResponseDataStop, {"jobID": job_id})

    async def status(
        self,
        job_id: int,
        *,
        run: int | None = None,
        test: str | None = None,
        target: str | None = None,
        events: bool = True,
    ) -> StatusResponse:
        """The status of a job, or of a part of it."""
        parameters = {
            "jobID": job_id,
            "run": run,
            "test": test,
            "target": target,
            "events": None if events else False,
        }
        return await self._ask("status", ResponseType.STATUS, ResponseDataStatus, parameters)

    async def retry(self, job_id: int, *, failed_only: bool = False) -> RetryResponse:
        """Runs an ended job again as a new one."""
        parameters = {"jobID": job_id, "failedOnly": failed_only or None}
        return await self._ask("retry", ResponseType.RETRY, ResponseDataRetry, parameters)

    async def list(self, query: JobQuery) -> ListResponse:
        """The jobs that match the query."""
        parameters = {
            "states": ",".join(state.wire_name for state in query.states) or None,
            "tags": ",".join(query.tags) or None,
            "requestors": ",".join(query.requestors) or None,
            "name": query.name,
            "since": _time_text(query.since),
            "until": _time_text(query.until),
            "limit": query.limit,
            "cursor": query.cursor,
        }
        return await self._ask("list", ResponseType.LIST, ResponseDataList, parameters)

    async def version(self) -> VersionResponse:
        """The API version that is spoken there, and what the server offers."""
        return await self._ask("version", ResponseType.VERSION, ResponseDataVersion, {})

    async def validate(self, job_descriptor: str, *, plan: bool = False) -> ValidateResponse:
        """What is to be said of a descriptor, and with `plan` what the job would do; nothing is run."""
        parameters = {"jobDesc": job_descriptor, "plan": plan or None}
        return await self._ask("validate", ResponseType.VALIDATE, ResponseDataValidate, parameters)

    async def locks(self) -> LocksResponse:
        """Which targets are locked."""
        return await self._ask("locks", ResponseType.LOCKS, ResponseDataLocks, {})

    @asynccontextmanager
    async def watch(
        self, *, job_id: int | None = None, since: Cursor | None = None
    ) -> AsyncIterator[AsyncIterator[JobEvent | Gap]]:
        """Follows the events of a job to its end, or of all jobs, from behind a cursor.

        When the server is lost or ends it is subscribed again from the last event, within the patience of the options:
        nothing is missing, nothing comes twice, or a gap says so. Without `since` a job's events begin with its first,
        those of all jobs with the next. Raises the refusal when entered, and in the iterator what is final.
        """
        from contest_core.following import following  # brings asyncio, which `contest --help` does without

        async def has_ended() -> bool:
            return job_id is not None and await self._has_ended(job_id)

        async with following(
            lambda cursor: self._subscribe({"jobID": job_id, "since": cursor}),
            job_id=job_id,
            since=None if since is None else str(since),
            tries=lambda: self._tries(harmless=True),
            has_ended=has_ended,
        ) as items:
            yield items

    async def offers(self, capability: str) -> bool:
        """Whether the server declares a capability, `start.start_key` for example.

        It is asked once, and anew when the start key of a request was to make it harmless.
        """
        if self._capabilities is None:
            self._capabilities = frozenset((await self.version()).result().capabilities)
        return capability in self._capabilities

    @asynccontextmanager
    async def _subscribe(
        self, parameters: Mapping[str, object]
    ) -> AsyncIterator[AsyncIterator[JobEvent | Gap]]:
        async with self.client.watch(self._complete(parameters)) as messages:
            self._heard = True
            yield (_event(message) async for message in messages)

    async def _has_ended(self, job_id: int) -> bool:
        """Whether a job has, asked once and for as little as the server can cut a status down to."""
        events = False if await self.offers("status.events") else None
        target = " " if await self.offers("status.target") else None  # nobody's: no ID is blank
        parameters = self._complete({"jobID": job_id, "events": events, "target": target})
        answer = await self.client.call("status", parameters)
        status = _decoded(answer, "status", ResponseType.STATUS, ResponseDataStatus).result().status
        return status is not None and status.state.ended

    async def _ask(
        self,
        verb: str,
        kind: ResponseType,
        data: type[D],
        parameters: Mapping[str, object],
        *,
        tries: Tries | None = None,
    ) -> Response[D]:
        """An answer. With `tries`, it is the key in the parameters that makes it harmless to ask again."""
        reads = VERBS[verb].reads
        complete = self._complete(parameters)
        keyed = tries is not None
        tries = tries or self._tries(harmless=reads)
        while True:
            try:
                answer = await tries.bounded(self.client.call(verb, complete), verb=verb, reads=reads)
                response = _decoded(answer, verb, kind, data)
            except ContestError as error:
                failed = error
            else:
                self._heard = True
                return response
            await tries.wait(failed)
            if keyed and not await self._still_keyed():
                raise failed

    async def _still_keyed(self) -> bool:
        """Whether the server that answers now has start keys: one that has none would start the job twice."""
        self._capabilities = None
        try:
            return await self.offers("start.start_key")
        except ContestError:
            return False

    def _tries(self, *, harmless: bool) -> Tries:
        from contest_core.repeats import Tries  # most programs have no client

        return Tries(self.options, harmless=harmless, heard=self._heard)

    def _complete(self, parameters: Mapping[str, object]) -> dict[str, object]:
        given = {name: value for name, value in parameters.items() if value is not None}
        return {"requestor": self.options.requestor, **given}


def _decoded(answer: bytes, verb: str, kind: ResponseType, data: type[D]) -> Response[D]:
    try:
        envelope = foreign.decoded(answer, _Envelope)
        if envelope.msg is not None:
            raise error_from_wire(envelope.code, envelope.msg)
        error = None
        if envelope.error is not None:
            error = error_from_wire(envelope.code or Refused.code, envelope.error)
        if error is not None and envelope.data == _NULL:
            # Beside an error even the zero values may be missing.
            envelope.data = _ZEROS[kind]
        decoded = foreign.decoded(envelope.data, data)
    except ValueError as wrong:
        raise ContestError(f"the server's answer to {verb} is not Contest's: {wrong}") from None
    if isinstance(error, InvalidDescriptor):
        error.findings = tuple(getattr(decoded, "findings", None) or ())
    return Response(server_id=envelope.server_id, type=kind, data=decoded, error=error)


@asynccontextmanager
async def connect(
    address: str, options: ClientOptions | None = None, *, plugins: Plugins | None = None
) -> AsyncIterator[Contest]:
    """Connects to a server by its address (`http://host:port`, `stdio:COMMAND`) and closes at the end.

    After a loss it connects anew; a server that was spawned is spawned again. Raises `Unreachable`, also for a scheme
    that no installed plugin knows.
    """
    from contest_core.reconnecting import Reconnecting  # stands on this module

    options = options or ClientOptions()
    kind = client_class(address, plugins)
    client = Reconnecting(lambda: kind, address, options)
    try:
        await client.open()
        yield Contest(client, options)
    finally:
        await client.aclose()


@contextmanager
def connect_sync(
    address: str, options: ClientOptions | None = None, *, plugins: Plugins | None = None
) -> Iterator[ContestSync]:
    """As `connect`, for programs without an event loop: every method waits for its answer.

    A loop runs in a thread of its own until the context is left. Raises `Unreachable`.
    """
    from contest_core.client_sync import ContestSync  # brings asyncio, which `contest --help` does without
    from contest_core.portal import Portal
    from contest_core.reconnecting import Reconnecting  # stands on this module

    options = options or ClientOptions()
    kind = client_class(address, plugins)
    with Portal() as portal:
        client = Reconnecting(lambda: kind, address, options)
        try:
            portal.call(client.open())
            yield ContestSync(portal, Contest(client, options))
        finally:
            portal.call(client.aclose())


def client_class(address: str, plugins: Plugins | None = None) -> type[Client]:
    """The client class for an address's scheme. Raises `Unreachable`, also where its plugin is broken."""
    from contest_core.plugins import load_plugins

    scheme = address.partition(":")[0].lower()
    loaded = plugins or load_plugins()
    if scheme not in loaded.clients:
        raise Unreachable(address=address, reason=_no_client(scheme, loaded))
    try:
        return cast("type[Client]", loaded.clients.load(scheme))
    # The boundary to other people's code: whatever an import raises is theirs.
    except Exception as error:
        plugin = loaded.clients.get(scheme).plugin
        reason = f"the client of plugin {plugin!r} cannot be loaded: {type(error).__name__}: {error}"
        raise Unreachable(address=address, reason=reason) from error


def _no_client(scheme: str, plugins: Plugins) -> str:
    from difflib import get_close_matches  # keeps `contest --help` free of difflib

    known = plugins.clients.names()
    near = get_close_matches(scheme, known, n=1)
    hint = f"did you mean {near[0]}:?" if near else f"there are {', '.join(known) or 'none'}"
    broken = [f"; plugin {info.name!r} failed: {info.failure}" for info in plugins.infos if info.failure]
    return f"no client for the scheme {scheme!r}; {hint}{''.join(broken)}"


def _event(message: bytes) -> JobEvent | Gap:
    try:
        found = foreign.decoded(message, dict[str, msgspec.Raw])
        if "Gap" in found:
            return foreign.decoded(found["Gap"], Gap)
        return foreign.decoded(found["Event"], JobEvent)
    except (ValueError, KeyError) as wrong:
        raise ContestError(f"a message of the server's watch is not Contest's: {wrong}") from None


def _time_text(time: datetime | None) -> str | None:
    return None if time is None else msgspec.json.encode(time).decode()[1:-1]
