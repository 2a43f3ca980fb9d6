"""The API: what a listener calls, ConTest's `pkg/api`; the one place for permissions and limits of time.

Called by listeners (with a `Caller` that it made), it turns a verb into an event, hands that over to whoever
consumes `API.events` and waits for the answer. Who may ask is judged in `contest_core.admission`. It knows
neither transports nor job managers.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, final

import msgspec
from msgspec import Struct

from contest_core import verbs
from contest_core.admission import Admission, check_start_key
from contest_core.caller import Authenticator, Caller, Credentials, Principal
from contest_core.errors import (
    AnswerTimeout,
    ContestError,
    IncompatibleVersion,
    InvalidDescriptor,
    InvalidParameters,
    Overloaded,
    Refusal,
    ServerError,
    UnknownVerb,
    Unsupported,
)
from contest_core.events import (
    Event,
    EventChannel,
    EventListMsg,
    EventLocksMsg,
    EventMsg,
    EventResponse,
    EventRetryMsg,
    EventStartMsg,
    EventStatusMsg,
    EventStopMsg,
    EventType,
    EventValidateMsg,
    EventWatchMsg,
)
from contest_core.job_event import Cursor
from contest_core.responses import (
    ZERO_DATA,
    EncodedJSON,
    ListResponse,
    LocksResponse,
    Response,
    ResponseData,
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
from contest_core.status import JobQuery
from contest_core.verbs import CURRENT_API_VERSION, VERBS
from contest_core.watch import Watch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

DEFAULT_EVENT_TIMEOUT: Final = 3.0
"""ConTest's `DefaultEventTimeout`, in seconds: once for the hand-over, once for the answer."""

MAX_SERVER_ID_BYTES: Final = 64
"""ConTest's limit."""


class _Everything(frozenset[str]):
    def __contains__(self, item: object) -> bool:
        return True


ALL: Final[frozenset[str]] = _Everything()
"""Every capability: what an API has that is not told otherwise."""


class Config(Struct, frozen=True, kw_only=True):
    """What of an API ConTest's `Option`s set."""

    event_timeout: float
    """Seconds for handing an event over, and again for its answer."""
    server_id: str
    """At most 64 bytes."""


@final
class API:
    """The communication between clients and the job manager.

    What the table of errors gives an HTTP status of 200, the job manager's own answers, is `Response.error`; all
    else is raised. Where there are authenticators, every verb but `version` needs a caller with a principal.
    """

    def __init__(
        self,
        *,
        event_timeout: float = DEFAULT_EVENT_TIMEOUT,
        server_id: str | Callable[[], str] | None = None,
        authenticators: Sequence[Authenticator] = (),
        capabilities: frozenset[str] = ALL,
        trusted: Collection[str] = frozenset(),
    ) -> None:
        """`trusted` are the names of listeners whose word for their peers' names (`Vouched`) is taken."""
        from asyncio.events import get_running_loop  # keeps `contest --help` free of asyncio

        self._running_loop = get_running_loop
        self.config = Config(event_timeout=event_timeout, server_id=_server_id(server_id))
        self.events = EventChannel()
        self._admission = Admission(
            authenticators=authenticators,
            trusted=trusted,
            capabilities=capabilities,
            patience=event_timeout,
        )
        self._ids = map("{}-{:x}".format, itertools.repeat(os.urandom(3).hex()), itertools.count(1))
        self.offer(capabilities)

    @property
    def server_id(self) -> str:
        """Who answers: given, made by a function, else the host name."""
        return self.config.server_id

    @property
    def authenticated(self) -> bool:
        """Whether callers have to prove who they are."""
        return self._admission.authenticated

    def offer(self, capabilities: frozenset[str]) -> None:
        """From now on the job manager offers these: all else is refused, and `version` lists them."""
        self.capabilities = capabilities
        self._admission.offers(capabilities)
        self._version = self._answer_version()
        self._encoded_version = self._encode_version()

    def refuse(self, *names: str) -> None:
        """From now on these verbs are answered with `ShuttingDown`: the server ends."""
        self._admission.close_to(*names)

    # --- who asks

    async def authenticate(self, *credentials: Credentials, listener: str, peer: str) -> Principal | None:
        """The principal that the credentials prove; None where nobody needs to prove anything.

        Raises `Unauthenticated` where credentials are needed and nobody claims these, `Unavailable` where an
        authenticator does not answer within the event timeout, or fails.
        """
        return await self._admission.authenticate(credentials, listener, peer)

    def caller(
        self,
        *,
        listener: str,
        peer: str,
        principal: Principal | None = None,
        requestor: str | None = None,
        timeout: float | None = None,
        request_id: str | None = None,
        traceparent: str | None = None,
    ) -> Caller:
        """Makes the caller of a request. Every argument is what the listener knows of it."""
        return Caller(
            requestor=requestor,
            principal=principal,
            listener=listener,
            peer=peer,
            request_id=request_id or next(self._ids),
            timeout=timeout,
            traceparent=traceparent,
        )

    # --- the verbs

    async def start(
        self, caller: Caller, job_descriptor: str, *, start_key: str | None = None, strict: bool = False
    ) -> StartResponse:
        """Creates a job from a descriptor (one JSON object) and runs it; answered when it is on disk.

        With a start key, 1 to 256 bytes, asking again with the same descriptor gives the same job.
        """
        arguments = {"job_descriptor": job_descriptor, "start_key": start_key, "strict": strict}
        return await self._answered(caller, "start", arguments, ResponseDataStart)

    async def stop(self, caller: Caller, job_id: int) -> StopResponse:
        """Requests the cancellation of a job; answered when the request is on disk."""
        return await self._answered(caller, "stop", {"job_id": job_id}, ResponseDataStop)

    async def status(
        self,
        caller: Caller,
        job_id: int,
        *,
        run: int | None = None,
        test: str | None = None,
        target: str | None = None,
        events: bool = True,
    ) -> StatusResponse:
        """The status of a job, or of one run, test or target of it, with or without steps' events."""
        arguments = {"job_id": job_id, "run": run, "test": test, "target": target, "events": events}
        return await self._answered(caller, "status", arguments, ResponseDataStatus)

    async def retry(self, caller: Caller, job_id: int, *, failed_only: bool = False) -> RetryResponse:
        """Runs an ended job again as a new one, linked to it."""
        arguments = {"job_id": job_id, "failed_only": failed_only}
        return await self._answered(caller, "retry", arguments, ResponseDataRetry)

    async def list(self, caller: Caller, query: JobQuery) -> ListResponse:
        """The jobs that match the query."""
        return await self._answered(caller, "list", {"query": query}, ResponseDataList)

    def version(self) -> VersionResponse:
        """The API version that is spoken here, and beside it what this server offers."""
        return self._version

    async def validate(self, caller: Caller, job_descriptor: str, *, plan: bool = False) -> ValidateResponse:
        """Everything that `start` checks; nothing is run. With `plan`, what each target would be given."""
        arguments = {"job_descriptor": job_descriptor, "plan": plan}
        return await self._answered(caller, "validate", arguments, ResponseDataValidate)

    async def locks(self, caller: Caller) -> LocksResponse:
        """Which targets are locked, by which job, until when."""
        return await self._answered(caller, "locks", {}, ResponseDataLocks)

    def watch(
        self, caller: Caller, *, job_id: int | None = None, since: Cursor | None = None
    ) -> AbstractAsyncContextManager[Watch]:
        """Follows the events of a job (until it ends) or of all; from the beginning, or from a cursor.

        Entering the context is being subscribed; refusals are raised there.
        """
        return self._watch(caller, job_id, since)

    @asynccontextmanager
    async def _watch(self, caller: Caller, job_id: int | None, since: Cursor | None) -> AsyncIterator[Watch]:
        response = await self._ask(caller, "watch", {"job_id": job_id, "since": since})
        async with response.result() as watch:
            yield watch

    def subscribe(
        self, caller: Caller, parameters: Mapping[str, object]
    ) -> AbstractAsyncContextManager[Watch]:
        """What a transport needs for `watch`: with the wire's parameters, as `call`. Raises what they have wrong."""
        self._check_version(parameters)
        arguments = verbs.arguments(VERBS["watch"], parameters)
        return self.watch(_declare(caller, parameters), **arguments)

    async def call(self, caller: Caller, verb: str, parameters: Mapping[str, object]) -> Response[Any]:
        """What a transport needs: a verb by name, with the wire's parameters (a `Form`, or JSON values).

        Takes `requestor` and `apiVersion` from the parameters where the caller has none.
        """
        row = VERBS.get(verb)
        if row is None:
            raise _unknown_verb(verb)
        self._check_version(parameters)
        if row.event is None:
            if parameters:
                _declare(caller, parameters)
                verbs.arguments(row, parameters)
            return self._encoded_version
        caller = _declare(caller, parameters)
        requestor = self._admission.admit(verb, caller)
        if row.event is EventType.WATCH:
            error = Unsupported(what="watch", by="this wire")
            return Response(server_id=self.config.server_id, type=row.response, data=None, error=error)
        arguments = verbs.arguments(row, parameters)
        if row.event is EventType.LIST:
            arguments = {"query": JobQuery(**arguments)}
        return await self._send(caller, verb, _message(verb, requestor, arguments))

    # --- events

    async def send_event(self, event: Event, timeout: float | None = None) -> None:
        """Hands an event over. Raises `Overloaded` when nobody takes it in time: then nobody ever will.

        The time is the timeout (else `config.event_timeout`), or the caller's own where that is less.
        """
        seconds = self.config.event_timeout if timeout is None else timeout
        limit = event.context.timeout
        if limit is not None and limit < seconds:
            seconds = limit
        if not await self.events.put_within(event, seconds):
            raise Overloaded(seconds=seconds)

    async def send_receive_event(self, event: Event, timeout: float | None = None) -> EventResponse:
        """Hands an event over and waits for its answer.

        The timeout is used once for each, it is not cumulative; the caller's own is for both together. Raises
        `Overloaded` (nothing happened), or `AnswerTimeout` or another `ServerError` in place of an answer.
        """
        seconds = self.config.event_timeout if timeout is None else timeout
        response = event.response
        loop = response.get_loop()
        limit = event.context.timeout
        ends = None if limit is None else loop.time() + limit
        try:
            await self.send_event(event, seconds)
            if not response.done():
                # Most answers are there when the job manager has had its turn: they need no timer.
                await _TURN
        except BaseException:
            response.cancel()
            raise
        if response.done():
            answer = response.result()
        else:
            if ends is not None:
                seconds = max(min(seconds, ends - loop.time()), 0.0)
            timer = loop.call_later(seconds, _expire, event, seconds)
            try:
                answer = await response
            finally:
                timer.cancel()
        if isinstance(answer.err, ServerError):
            raise answer.err
        return answer

    async def _answered(
        self, caller: Caller, verb: str, arguments: Mapping[str, Any], kind: type[ResponseData]
    ) -> Response[Any]:
        """The answer for a program, which wants no encoded data."""
        response = await self._ask(caller, verb, arguments)
        if VERBS[verb].reads:
            # What is at hand is answered in no time: a program that asks on and on must not keep the loop.
            await _TURN
        if not isinstance(response.data, EncodedJSON):
            return response
        return msgspec.structs.replace(response, data=msgspec.json.decode(response.data.json, type=kind))

    async def _ask(self, caller: Caller, verb: str, arguments: Mapping[str, Any]) -> Response[Any]:
        requestor = self._admission.admit(verb, caller)
        return await self._send(caller, verb, _message(verb, requestor, arguments))

    async def _send(self, caller: Caller, verb: str, message: EventMsg) -> Response[Any]:
        """Asks the job manager, for a caller who may."""
        row = VERBS[verb]
        server_id = self.config.server_id
        error: ContestError | None = self._admission.offer.lacks(verb, message)
        if error is None:
            assert row.event is not None
            event = Event(
                context=caller,
                type=row.event,
                server_id=server_id,
                msg=message,
                response=self._running_loop().create_future(),
            )
            answer = await self.send_receive_event(event)
            if answer.err is None:
                return Response(server_id=server_id, type=row.response, data=answer.data)
            error = answer.err
        if error.row.http != 200:
            raise error
        data = _refused_data(row.response, error, message)
        return Response(server_id=server_id, type=row.response, data=data, error=error)

    def _check_version(self, parameters: Mapping[str, object]) -> None:
        asked = parameters.get("apiVersion")
        if asked is not None and (number := verbs.api_version(asked)) != CURRENT_API_VERSION:
            raise IncompatibleVersion(asked=number, spoken=CURRENT_API_VERSION)

    def _answer_version(self) -> VersionResponse:
        data = ResponseDataVersion(version=CURRENT_API_VERSION, capabilities=sorted(self.capabilities))
        return VersionResponse(server_id=self.server_id, type=ResponseType.VERSION, data=data)

    def _encode_version(self) -> Response[EncodedJSON]:
        data = EncodedJSON(msgspec.json.encode(self._version.data))
        return Response(server_id=self.server_id, type=ResponseType.VERSION, data=data)


class _Turn:
    """Awaited, lets everybody else have their turn: `asyncio.sleep(0)`, at a third of its price."""

    def __await__(self) -> Generator[None, None, None]:
        yield


_TURN: Final = _Turn()


def _declare(caller: Caller, parameters: Mapping[str, object]) -> Caller:
    if caller.requestor is not None:
        return caller
    declared = parameters.get("requestor")
    if declared is None:
        return caller
    if not isinstance(declared, str):
        raise InvalidParameters(reason="requestor must be a string", parameter="requestor")
    return msgspec.structs.replace(caller, requestor=declared)


def _unknown_verb(verb: str) -> UnknownVerb:
    from difflib import get_close_matches  # a rare answer, and half a millisecond of every start

    nearest = get_close_matches(verb[:40].lower(), VERBS, n=1)
    return UnknownVerb(verb=verb, known=list(VERBS), nearest=nearest[0] if nearest else None)


_MESSAGES: Final[Mapping[str, type[EventMsg]]] = {
    "start": EventStartMsg,
    "stop": EventStopMsg,
    "status": EventStatusMsg,
    "retry": EventRetryMsg,
    "list": EventListMsg,
    "validate": EventValidateMsg,
    "locks": EventLocksMsg,
    "watch": EventWatchMsg,
}


def _message(verb: str, requestor: str, arguments: Mapping[str, Any]) -> EventMsg:
    """What the event has. Raises `InvalidParameters` for a start key that could not be kept."""
    start_key = arguments.get("start_key")
    if start_key is not None:
        check_start_key(start_key)
    return _MESSAGES[verb](requestor=requestor, **arguments)


def _refused_data(
    kind: ResponseType, error: ContestError, message: EventMsg
) -> ResponseData | EncodedJSON | None:
    if isinstance(error, Refusal) and error.data is not None:
        return error.data
    if isinstance(message, EventRetryMsg):
        # As in ConTest: which job it is that is not retried.
        return ResponseDataRetry(job_id=message.job_id, new_job_id=0)
    if isinstance(error, InvalidDescriptor) and kind is ResponseType.START:
        return ResponseDataStart(job_id=0, findings=list(error.findings))
    if isinstance(error, InvalidDescriptor) and kind is ResponseType.VALIDATE:
        return ResponseDataValidate(findings=list(error.findings))
    return ZERO_DATA.get(kind)


def _expire(event: Event, seconds: float) -> None:
    row = next((row for row in VERBS.values() if row.event is event.type), None)
    verb, reads = (row.name, row.reads) if row is not None else (str(event.type), False)
    event.resolve(AnswerTimeout(seconds=seconds, verb=verb, reads=reads))


def _server_id(given: str | Callable[[], str] | None) -> str:
    from socket import gethostname  # costs as much as a tenth of the start, where most programs open no API

    server_id = given() if callable(given) else given
    server_id = server_id or gethostname() or "<unknown>"
    size = len(server_id.encode())
    if size > MAX_SERVER_ID_BYTES:
        raise ValueError(f"the server ID is too long: {size} > {MAX_SERVER_ID_BYTES} bytes")
    return server_id
