"""The API: what a listener calls, ConTest's `pkg/api`; the one place for permissions and limits of time.

Called by listeners (with a `Caller` that it made), it turns a verb into an event, hands that over to whoever
consumes `API.events` and waits for the answer. It knows neither transports nor job managers.
"""

from __future__ import annotations

import itertools
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from difflib import get_close_matches
from secrets import token_hex
from typing import TYPE_CHECKING, Any, Final, final

import msgspec
from msgspec import Struct

from contest_core import verbs
from contest_core.caller import MAX_REQUESTOR_BYTES, Authenticator, Caller, Credentials, Principal, Vouched
from contest_core.errors import (
    AnswerTimeout,
    ContestError,
    Denied,
    IncompatibleVersion,
    InvalidDescriptor,
    InvalidParameters,
    Overloaded,
    Refusal,
    RequestError,
    ShuttingDown,
    Unauthenticated,
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
    ResponseDataStart,
    ResponseDataStatus,
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

    A refusal by the job manager is `Response.error`; a request that never reached it raises a `ContestError`.
    """

    def __init__(
        self,
        *,
        event_timeout: float = DEFAULT_EVENT_TIMEOUT,
        server_id: str | Callable[[], str] | None = None,
        authenticators: Sequence[Authenticator] = (),
        capabilities: frozenset[str] = ALL,
    ) -> None:
        self.config = Config(event_timeout=event_timeout, server_id=_server_id(server_id))
        self.events = EventChannel()
        self.capabilities = capabilities
        self._authenticators = tuple(authenticators)
        self._ids = map("{}-{:x}".format, itertools.repeat(token_hex(3)), itertools.count(1))
        self._closed_to: frozenset[str] = frozenset()
        self._version = self._answer_version()
        self._encoded_version = self._encode_version()

    @property
    def server_id(self) -> str:
        """Who answers: given, made by a function, else the host name."""
        return self.config.server_id

    def refuse(self, *names: str) -> None:
        """From now on these verbs are answered with `ShuttingDown`: the server ends."""
        self._closed_to = self._closed_to.union(names)

    # --- who asks

    async def authenticate(
        self, *credentials: Credentials, listener: str, peer: str, trusted: bool = False
    ) -> Principal | None:
        """The principal that the credentials prove; None where nobody needs to prove anything.

        `trusted` is the configuration's word that this listener may vouch for names itself. Raises
        `Unauthenticated` where credentials are needed and nobody claims these.
        """
        for credential in credentials:
            if isinstance(credential, Vouched) and trusted:
                return Principal(name=credential.name)
            principal = await self._ask_authenticators(credential, peer)
            if principal is not None:
                return principal
        if self._authenticators:
            raise Unauthenticated
        return None

    async def _ask_authenticators(self, credential: Credentials, peer: str) -> Principal | None:
        from asyncio import timeout  # keeps `contest --help` free of asyncio

        try:
            async with timeout(self.config.event_timeout):
                for authenticator in self._authenticators:
                    principal = await authenticator.authenticate(credential, peer)
                    if principal is not None:
                        return principal
        except TimeoutError:
            raise Unauthenticated(reason="the authenticator did not answer in time") from None
        return None

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
        """Creates a job from a descriptor (one JSON object) and runs it; answered when it is on disk."""
        message = EventStartMsg(
            requestor=self._admit("start", caller, start_key=start_key, strict=strict or None),
            job_descriptor=job_descriptor,
            start_key=start_key,
            strict=strict,
        )
        return await self._ask(caller, "start", message)

    async def stop(self, caller: Caller, job_id: int) -> StopResponse:
        """Requests the cancellation of a job; answered when the request is on disk."""
        return await self._ask(
            caller, "stop", EventStopMsg(requestor=self._admit("stop", caller), job_id=job_id)
        )

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
        response = await self._status(caller, job_id, run=run, test=test, target=target, events=events)
        data = response.data
        if isinstance(data, EncodedJSON):
            decoded = msgspec.json.decode(data.json, type=ResponseDataStatus)
            return StatusResponse(server_id=response.server_id, type=response.type, data=decoded)
        return response

    async def _status(
        self,
        caller: Caller,
        job_id: int,
        *,
        run: int | None = None,
        test: str | None = None,
        target: str | None = None,
        events: bool = True,
    ) -> Response[Any]:
        without = None if events else False
        message = EventStatusMsg(
            requestor=self._admit("status", caller, run=run, test=test, target=target, events=without),
            job_id=job_id,
            run=run,
            test=test,
            target=target,
            events=events,
        )
        return await self._ask(caller, "status", message)

    async def retry(self, caller: Caller, job_id: int, *, failed_only: bool = False) -> RetryResponse:
        """Runs an ended job again as a new one, linked to it."""
        requestor = self._admit("retry", caller, failed_only=failed_only or None)
        message = EventRetryMsg(requestor=requestor, job_id=job_id, failed_only=failed_only)
        return await self._ask(caller, "retry", message)

    async def list(self, caller: Caller, query: JobQuery) -> ListResponse:
        """The jobs that match the query."""
        return await self._ask(
            caller, "list", EventListMsg(requestor=self._admit("list", caller), query=query)
        )

    def version(self) -> VersionResponse:
        """The API version that is spoken here, and beside it what this server offers."""
        return self._version

    async def validate(self, caller: Caller, job_descriptor: str) -> ValidateResponse:
        """Everything that `start` checks; nothing is run."""
        requestor = self._admit("validate", caller)
        return await self._ask(
            caller, "validate", EventValidateMsg(requestor=requestor, job_descriptor=job_descriptor)
        )

    async def locks(self, caller: Caller) -> LocksResponse:
        """Which targets are locked, by which job, until when."""
        return await self._ask(caller, "locks", EventLocksMsg(requestor=self._admit("locks", caller)))

    def watch(
        self, caller: Caller, *, job_id: int | None = None, since: Cursor | None = None
    ) -> AbstractAsyncContextManager[Watch]:
        """Follows the events of a job (until it ends) or of all; from the beginning, or from a cursor.

        Entering the context is being subscribed; refusals are raised there.
        """
        return self._watch(caller, job_id, since)

    @asynccontextmanager
    async def _watch(self, caller: Caller, job_id: int | None, since: Cursor | None) -> AsyncIterator[Watch]:
        message = EventWatchMsg(requestor=self._admit("watch", caller), job_id=job_id, since=since)
        response = await self._ask(caller, "watch", message)
        async with response.result() as watch:
            yield watch

    async def call(self, caller: Caller, verb: str, parameters: Mapping[str, object]) -> Response[Any]:
        """What a transport needs: a verb by name, with the wire's parameters (a `Form`, or JSON values).

        Takes `requestor` and `apiVersion` from the parameters where the caller has none.
        """
        row = VERBS.get(verb)
        if row is None:
            nearest = get_close_matches(verb[:40].lower(), VERBS, n=1)
            raise UnknownVerb(verb=verb, known=list(VERBS), nearest=nearest[0] if nearest else None)
        self._check_version(parameters)
        if row.event is None:
            return self._encoded_version
        if row.event is EventType.WATCH:
            raise Unsupported(what="watch", by="this wire")
        caller = _declare(caller, parameters)
        self._requestor(verb, caller)
        arguments = verbs.arguments(row, parameters)
        if row.event is EventType.STATUS:
            return await self._status(caller, **arguments)
        if row.event is EventType.LIST:
            return await self.list(caller, JobQuery(**arguments))
        method = getattr(self, verb)
        answer: Response[Any] = await method(caller, **arguments)
        return answer

    # --- events

    async def send_event(self, event: Event, timeout: float | None = None) -> None:
        """Hands an event over. Raises `Overloaded` when nobody takes it in time: then nobody ever will."""
        seconds = self.config.event_timeout if timeout is None else timeout
        if not await self.events.put_within(event, seconds):
            raise Overloaded(seconds=seconds)

    async def send_receive_event(self, event: Event, timeout: float | None = None) -> EventResponse:
        """Hands an event over and waits for its answer.

        The timeout is used once for each, it is not cumulative. Raises `Overloaded` (nothing happened) or
        `AnswerTimeout` (it may have).
        """
        seconds = self.config.event_timeout if timeout is None else timeout
        response = event.response
        try:
            await self.send_event(event, seconds)
        except BaseException:
            response.cancel()
            raise
        timer = response.get_loop().call_later(seconds, _expire, event, seconds)
        try:
            return await response
        finally:
            timer.cancel()

    async def _ask(self, caller: Caller, verb: str, message: EventMsg) -> Response[Any]:
        from asyncio import get_running_loop  # keeps `contest --help` free of asyncio

        row = VERBS[verb]
        assert row.event is not None
        event = Event(
            context=caller,
            type=row.event,
            server_id=self.config.server_id,
            msg=message,
            response=get_running_loop().create_future(),
        )
        own = self.config.event_timeout
        seconds = own if caller.timeout is None else min(own, caller.timeout)
        answer = await self.send_receive_event(event, seconds)
        if answer.err is None:
            return Response(server_id=self.config.server_id, type=row.response, data=answer.data)
        if isinstance(answer.err, Refusal | RequestError):
            data = _refused_data(row.response, answer.err)
            return Response(server_id=self.config.server_id, type=row.response, data=data, error=answer.err)
        raise answer.err

    def _admit(self, verb: str, caller: Caller, **given: object) -> str:
        """Whether this caller may ask this with these arguments; gives the message's requestor."""
        if verb in self._closed_to:
            raise ShuttingDown
        requestor = self._requestor(verb, caller)
        scopes = caller.principal.scopes if caller.principal is not None else None
        if caller.principal is not None and scopes is not None and VERBS[verb].permission not in scopes:
            raise Denied(principal=caller.principal.name, verb=verb)
        if verb not in self.capabilities:
            raise Unsupported(what=verb, by="this server's job manager")
        for parameter in VERBS[verb].parameters:
            wanted = parameter.capability
            if wanted and given.get(parameter.argument) is not None and wanted not in self.capabilities:
                raise Unsupported(what=f"{parameter.name} of {verb}", by="this server's job manager")
        return requestor

    def _requestor(self, verb: str, caller: Caller) -> str:
        requestor = caller.requestor
        label = verb.capitalize()
        if not requestor:
            raise InvalidParameters(reason="requestor cannot be empty", parameter="requestor", verb=label)
        # The length in characters is cheap and settles nearly every case; only bytes count.
        if len(requestor) * 4 > MAX_REQUESTOR_BYTES:
            size = len(requestor.encode("utf-8", "surrogatepass"))
            if size > MAX_REQUESTOR_BYTES:
                reason = f"requestor is too long: {size} > {MAX_REQUESTOR_BYTES} bytes"
                raise InvalidParameters(reason=reason, parameter="requestor", verb=label)
        return requestor

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


def _declare(caller: Caller, parameters: Mapping[str, object]) -> Caller:
    if caller.requestor is not None:
        return caller
    declared = parameters.get("requestor")
    if declared is None:
        return caller
    if not isinstance(declared, str):
        raise InvalidParameters(reason="requestor must be a string", parameter="requestor")
    return msgspec.structs.replace(caller, requestor=declared)


def _refused_data(kind: ResponseType, error: ContestError) -> ResponseData | None:
    if isinstance(error, InvalidDescriptor) and kind is ResponseType.START:
        return ResponseDataStart(job_id=0, findings=list(error.findings))
    return ZERO_DATA.get(kind)


def _expire(event: Event, seconds: float) -> None:
    verb = next((row.name for row in VERBS.values() if row.event is event.type), str(event.type))
    event.resolve(AnswerTimeout(seconds=seconds, verb=verb))


def _server_id(given: str | Callable[[], str] | None) -> str:
    server_id = given() if callable(given) else given
    server_id = server_id or socket.gethostname() or "<unknown>"
    size = len(server_id.encode())
    if size > MAX_SERVER_ID_BYTES:
        raise ValueError(f"the server ID is too long: {size} > {MAX_SERVER_ID_BYTES} bytes")
    return server_id
