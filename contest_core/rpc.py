"""A JSON-RPC 2.0 session, by the letter of the specification, over any channel of messages.

A transport makes one `Session` a connection, gives it every message that came in and sends what it is told to
send; it never looks inside. The session reads requests, has `API.call` carry them out and writes the answers.
It knows neither descriptors nor sockets. Used by `stdio`, `websocket` and other people's transports.

Where the specification leaves room: the methods are the verbs, and their parameters are by name; the answers of
a batch come in the order of its requests; `"params": null`, which some clients send for none, is taken as none;
a response that comes in is passed over, as it is no request and the session asks for nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final

import msgspec
from msgspec import Raw

from contest_core.api import API
from contest_core.budget import Budget
from contest_core.caller import Caller
from contest_core.errors import (
    ContestError,
    InternalError,
    InvalidMessage,
    InvalidParameters,
    TooLarge,
    TooManyRequests,
)
from contest_core.responses import (
    RESPONSE_TYPE_TO_NAME,
    EncodedJSON,
    Response,
    ResponseDataWatch,
    ResponseType,
    encode,
)
from contest_core.rpc_messages import (
    ID_BEGINS,
    NULL,
    Batch,
    Malformed,
    Request,
    is_quick,
    parameters,
    parse,
    parse_member,
)
from contest_core.rpc_watch import MAX_WATCHES, Subscription, Subscriptions
from contest_core.verbs import COMMON

MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024
"""What one message to the peer may have, unless the transport says otherwise."""

MAX_BATCH: Final = 1000
"""How many requests one batch may have, unless the transport says otherwise."""

LARGE_ANSWER: Final = 64 * 1024
"""Bytes of an answer that are not worth counting."""

DISCOVER: Final = "rpc.discover"
"""The method of OpenRPC that answers with the document of all others; no verb, but of every session."""

_OWN: Final = frozenset(("watch", "unwatch", DISCOVER))
"""Methods of the session itself."""

_ASK_FOR_LESS: Final = (
    "ask for a `run`, a `test` or a `target`, or without `events`; in a batch, for fewer at once"
)


class _Opened(bytes):
    """The answer to a `watch`: when it is sent, notifications may come."""

    subscription: Subscription


class Session:
    """The server's side of one connection.

    `caller` is called once a request and says who asks; what `ContestError` it raises is the answer. `send` gets
    one whole message, is never called again before it has returned, and raises `OSError` (`ConnectionError`)
    when the peer is gone: the session then ends by itself. Anything else that `send` raises comes out of
    `received` or `aclose`.

    With a `concurrency` of 1 the requests, also those of a batch, are carried out one after another and
    answered in their order; else so many at once, and answered as they end. `max_answer` is in bytes of one
    message; an answer beyond it becomes the error `too_large`. `max_batch` is a number of requests, `max_watches`
    one of watches that go on at once. An answer for which the `budget` has no room becomes `too_many_requests`.
    """

    def __init__(
        self,
        api: API,
        *,
        caller: Callable[[], Caller],
        send: Callable[[bytes], Awaitable[None]],
        concurrency: int = 1,
        max_answer: int = MAX_ANSWER_BYTES,
        max_batch: int = MAX_BATCH,
        max_watches: int = MAX_WATCHES,
        budget: Budget | None = None,
        log: logging.Logger | logging.LoggerAdapter[logging.Logger] | None = None,
    ) -> None:
        self._api = api
        self._caller = caller
        self._send = send
        self._concurrency = concurrency
        self._max_answer = max_answer
        self._max_batch = max_batch
        self._budget = budget
        self._held = 0
        self._log = log or logging.getLogger("contest.rpc")
        self._subscriptions = Subscriptions(api, self._deliver, limit=max_watches, log=self._log)
        self._accepting = True
        self._gone = False
        self._failure: BaseException | None = None
        self._receiving = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._sending = False
        self._changed = asyncio.Event()

    @property
    def gone(self) -> bool:
        """True once the peer is known to be gone; whatever is received then is passed over."""
        return self._gone

    @property
    def busy(self) -> bool:
        """Whether anything is being carried out, or a watch goes on: however quiet, the connection is not idle."""
        return bool(self._receiving or self._tasks or self._subscriptions.going_on)

    async def received(self, message: bytes) -> None:
        """Takes one message; returns when there is room for the next. To be called by one task only.

        Cancelled, it cancels what it is carrying out itself (which is all there is where `concurrency` is 1).
        """
        if not self._accepting:
            return
        if self._failure is not None:
            raise self._failure
        self._receiving += 1
        try:
            request = parse(message, self._max_batch)
            if isinstance(request, list):
                await self._take_batch(request)
            elif self._concurrency > 1 and not is_quick(request):
                await self._begin(self._respond(request))
            # Not `_respond`: this is nearly every request's way, and a layer less is a tenth of its price.
            elif (answer := await self._answer(request)) is not None:
                await self._deliver(answer, answer)
        finally:
            self._receiving -= 1
            self._changed.set()

    async def reject(self, error: ContestError) -> None:
        """Answers a message that the transport could not give to `received`: it was too long, for example."""
        if self._accepting:
            await self._deliver(self._refusal(error, NULL))

    async def idle(self) -> None:
        """Returns when nothing is being carried out and every answer is sent; watches may go on."""
        while self._receiving or self._tasks:
            self._changed.clear()
            await self._changed.wait()

    def cancel(self) -> None:
        """The peer is gone: cancels what is being carried out beside `received`, and sends nothing more."""
        self._accepting = False
        self._gone = True
        self._subscriptions.cancel()
        for task in self._tasks:
            task.cancel()

    def end_watches(self) -> None:
        """Ends the watches that go on, as `unwatch` does: the connection ends, and the server goes on."""
        self._subscriptions.end()

    async def aclose(self) -> None:
        """Takes no more messages, and returns when those taken are answered and all watches have ended.

        The end of the job manager ends them, or `end_watches`. Cancelled, it cancels what goes on.
        """
        self._accepting = False
        try:
            await self.idle()
            await self._subscriptions.ended()
        finally:
            if self._tasks:
                self.cancel()
                await asyncio.wait(self._tasks)
            self._release(self._held)
        if self._failure is not None:
            raise self._failure

    # --- carrying out

    async def _respond(self, request: Request | Malformed) -> None:
        answer = await self._answer(request)
        if answer is not None:
            await self._deliver(answer, answer)

    async def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        # No task group: the tasks outlive the call that began them, and `aclose` is what ends them all.
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        while len(self._tasks) >= self._concurrency:
            self._changed.clear()
            await self._changed.wait()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._changed.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failure = error

    async def _take_batch(self, members: Sequence[Raw]) -> None:
        batch = Batch(len(members))
        for position, member in enumerate(members):
            work = self._respond_in(batch, position, parse_member(member))
            if self._concurrency == 1:
                await work
            else:
                await self._begin(work)

    async def _respond_in(self, batch: Batch, position: int, request: Request | Malformed) -> None:
        answer = await self._answer(request)
        if answer is not None and batch.size + len(answer) > self._max_answer:
            if len(answer) > LARGE_ANSWER:
                self._release(len(answer))
            answer = self._too_large(bytes(request.id) or NULL)
        batch.put(position, answer)
        if not batch.missing and batch.size:
            await self._deliver(batch.encode(), *(each for each in batch.answers if each is not None))

    async def _answer(self, request: Request | Malformed) -> bytes | None:
        """The message that answers a request; None for a notification or a response."""
        if isinstance(request, Malformed):
            return self._refusal(request.error, request.id) if request.id else None
        identity = bytes(request.id)
        if identity and identity[0] not in ID_BEGINS:
            error = InvalidMessage(reason="id must be a string, a number or null")
            return self._refusal(error, NULL)
        caller: Caller | None = None
        try:
            caller = self._caller()
            if request.method in _OWN:
                return await self._own(request, caller, identity)
            response = await self._api.call(caller, request.method, parameters(request))
            answer = self._encode(response, identity)
        except ContestError as error:
            answer = self._refusal(error, identity)
        except RecursionError:
            reason = "the parameters, or their answer, are nested too deeply"
            answer = self._refusal(InvalidParameters(reason=reason), identity)
        # The one boundary per request: whatever else is raised is a fault of the server.
        except Exception:
            answer = self._fault(request, caller, identity)
        return answer if identity else None

    async def _own(self, request: Request, caller: Caller, identity: bytes) -> bytes | None:
        """The session's own methods; as notifications they do nothing: nobody would know of a subscription."""
        if not identity:
            return None
        if request.method == DISCOVER:
            document = await self._discovered(request)
            return self._bounded(b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (identity, document), identity)
        given = parameters(request)
        if request.method == "unwatch":
            return self._subscribed(identity, self._subscriptions.close(given))
        subscription = await self._subscriptions.open(caller, given)
        answer = _Opened(self._subscribed(identity, subscription.number, subscription.opened.result()))
        answer.subscription = subscription
        return answer

    async def _discovered(self, request: Request) -> bytes:
        from contest_core.openrpc import DOCUMENTS  # most servers are never asked for it

        if any(not isinstance(name, str) or name not in COMMON for name in request.params or ()):
            raise InvalidParameters(reason=f"{DISCOVER} takes no parameters")
        return await DOCUMENTS.of(self._api)

    def _subscribed(self, identity: bytes, number: int, cursor: str | None = None) -> bytes:
        data = ResponseDataWatch(subscription=number, cursor=cursor)
        response = Response(server_id=self._api.server_id, type=ResponseType.WATCH, data=data, error=None)
        return self._encode(response, identity)

    # --- answering

    async def _deliver(self, message: bytes, *answers: bytes) -> None:
        """Sends a message; `answers` are those in it. When it is sent the watches that these opened begin."""
        try:
            while self._sending:
                self._changed.clear()
                await self._changed.wait()
            if self._gone:
                return
            self._sending = True
            try:
                await self._send(message)
            except OSError as error:
                self._log.debug("the peer is gone: %s", error)
                self.cancel()
            finally:
                self._sending = False
                self._changed.set()
            for answer in answers:
                if type(answer) is _Opened:
                    answer.subscription.begin()
        finally:
            if self._held:
                self._release(sum(len(answer) for answer in answers if len(answer) > LARGE_ANSWER))

    def _encode(self, response: Response[Any], identity: bytes) -> bytes:
        if response.error is not None:
            answer = self._refusal(response.error, identity, response)
        else:
            answer = b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (identity, encode(response))
        return self._bounded(answer, identity)

    def _bounded(self, answer: bytes, identity: bytes) -> bytes:
        """The answer, or that it is too large for the peer or for what there is room for."""
        size = len(answer)
        if size > self._max_answer:
            return self._too_large(identity)
        if size > LARGE_ANSWER and identity and not self._hold(size):
            reason = "large answers wait for their readers: take those first, or ask for less at once"
            return self._refusal(TooManyRequests(reason=reason, retry_after=1), identity)
        return answer

    def _hold(self, size: int) -> bool:
        """Counts a large answer until it is sent; false where there is no room for it."""
        if self._budget is None or self._gone:
            return True
        if not self._budget.take(size):
            self._budget.give_back(size)
            return False
        self._held += size
        return True

    def _release(self, size: int) -> None:
        """Counts it no longer. What came by other ways than `_encode` was not counted."""
        if self._budget is not None:
            size = min(size, self._held)
            self._held -= size
            self._budget.give_back(size)

    def _fault(self, request: Request, caller: Caller | None, identity: bytes) -> bytes:
        request_id = caller.request_id if caller is not None else "-"
        self._log.exception("request %s (%.100r) failed", request_id, request.method)
        return self._refusal(InternalError(request_id=request_id), identity)

    def _refusal(self, error: ContestError, identity: bytes, response: Response[Any] | None = None) -> bytes:
        facts: dict[str, object] = {"Code": error.code, "ServerID": self._api.server_id}
        if response is not None:
            data = response.data
            facts["Type"] = RESPONSE_TYPE_TO_NAME[response.type]
            facts["Data"] = Raw(data.json) if isinstance(data, EncodedJSON) else data
        # Names of files may hold what UTF-8 cannot say.
        message = error.message.encode(errors="backslashreplace").decode()
        members = {"code": error.row.rpc, "message": message, "data": facts}
        return b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (identity, msgspec.json.encode(members))

    def _too_large(self, identity: bytes) -> bytes:
        error = TooLarge(what="the answer", limit=self._max_answer, setting="max_answer", hint=_ASK_FOR_LESS)
        return self._refusal(error, identity)
