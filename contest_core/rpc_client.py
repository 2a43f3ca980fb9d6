"""The client's side of JSON-RPC 2.0, over any channel of messages: requests and answers by number, and watches.

A transport's client makes one `Calls` a connection, gives it every message that comes and sends what it makes; the
answers become the objects that HTTP has, their data uncopied and unread. Used by `stdio`, `websocket` and other
people's transports. It opens nothing and waits only for what `Calls.take` brings.
"""

from __future__ import annotations

import asyncio
import itertools
import re
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Final

import msgspec
from msgspec import Raw, Struct, field

from contest_core.errors import ERRORS, ConnectionLost, ContestError, error_from_wire
from contest_core.foreign import decoded
from contest_core.watch import beginning, is_from_now

MAX_UNREAD: Final = 1000
"""Events of a watch that wait in memory; a reader that is slower is subscribed anew when it has read them."""

_CODES: Final = {row.rpc: code for code, row in ERRORS.items()} | {-32700: "invalid_message"}
_ID: Final = re.compile(rb'\A\{"jsonrpc":"2\.0","id":([0-9]{1,18}),')


class Pending:
    """A request that is not answered yet."""

    def __init__(self, method: str, size: int) -> None:
        self.method = method
        self.size = size
        """Bytes of the request."""
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        """The object that HTTP has."""
        self.feed: Feed | None = None
        """Of a watch, where its events come."""

    def resolve(self, answer: bytes) -> None:
        """The answer has come."""
        if not self.answer.done():
            self.answer.set_result(answer)

    def fail(self, error: ContestError) -> None:
        """No answer will come."""
        if not self.answer.done():
            self.answer.set_exception(error)

    def close(self) -> BaseException | None:
        """Nobody waits any more; gives the error with which it failed, if it did."""
        if self.answer.done() and not self.answer.cancelled():
            return self.answer.exception()
        self.answer.cancel()
        return None


class Feed:
    """The notifications of one watch, until somebody reads them."""

    def __init__(self, subscription: int, begins: str) -> None:
        self.subscription = subscription
        self.begins = begins
        """The cursor where it begins; empty where the server does not say."""
        self.full = False
        """It has taken as many as it takes, and passes over the others."""
        self.on_full: Callable[[], None] = _nothing
        """Called once, when it is."""
        self.ended = False
        self.error: ContestError | None = None
        self._items: deque[bytes] = deque()
        self._last = b""
        self._changed = asyncio.Event()

    def put(self, item: bytes) -> None:
        """One event or gap has come."""
        if self.full:
            return
        if len(self._items) < MAX_UNREAD:
            self._items.append(item)
            self._changed.set()
        else:
            self.full = True
            self.on_full()

    def end(self, error: ContestError | None) -> None:
        """No more will come."""
        if not self.ended:
            self.ended, self.error = True, error
            self._changed.set()

    async def get(self) -> bytes | None:
        """The next; None where there is none any more, or none but those that were passed over."""
        while not self._items:
            if self.ended or self.full:
                return None
            self._changed.clear()
            await self._changed.wait()
        self._last = self._items.popleft()
        return self._last

    def cursor(self) -> str:
        """Of the last that was read. Raises `ContestError` where it is no event of Contest's."""
        try:
            last = decoded(self._last, _Item)
        except ValueError as wrong:
            raise ContestError(f"a message of the server's watch is not Contest's: {wrong}") from None
        return (last.event or last.gap or _At()).cursor


class Calls:
    """The requests of one connection."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._pending: dict[int, Pending] = {}
        self._feeds: dict[int, Feed] = {}

    def begin(self, method: str, parameters: Mapping[str, object]) -> tuple[int, bytes, Pending]:
        """A request: its number, the message to send, and what will have its answer. `end` has to follow."""
        number = next(self._numbers)
        message = msgspec.json.encode(
            {"jsonrpc": "2.0", "id": number, "method": method, "params": parameters}
        )
        pending = self._pending[number] = Pending(method, len(message))
        return number, message, pending

    def end(self, number: int) -> BaseException | None:
        """Nobody waits for the answer any more; gives the error with which the request failed, if it did."""
        return self._pending.pop(number).close()

    def take(self, message: bytes) -> None:
        """A message has come. Raises `ValueError` where it is no answer and no notification."""
        try:
            answer = _decoder.decode(message)
        except RecursionError:
            raise ValueError("nested too deep") from None
        if answer.method is not None and answer.id is None:
            self._notified(answer.method, answer.params)
            return
        envelope = answer.envelope()
        pending = self._pending.get(answer.id) if answer.id is not None else self._largest()
        if pending is None:
            return
        if pending.method == "watch" and answer.error is None:
            pending.feed = self._feed(envelope)
        pending.resolve(envelope)

    def fail(self, error: ContestError) -> None:
        """No answer will come to anything that is asked."""
        for pending in self._pending.values():
            pending.fail(error)
        for feed in self._feeds.values():
            feed.end(error)

    def too_large(self, head: bytes, error: ContestError) -> None:
        """A message was too large to be taken; `head` is its beginning."""
        found = _ID.match(head)
        if found is None:
            self.fail(error)
        elif (pending := self._pending.get(int(found[1]))) is not None:
            pending.fail(error)

    def forget(self, feed: Feed) -> None:
        """Nobody reads it any more."""
        self._feeds.pop(feed.subscription, None)

    def _feed(self, envelope: bytes) -> Feed:
        told = msgspec.json.decode(envelope, type=_Subscribed).data
        feed = self._feeds[told.subscription] = Feed(told.subscription, told.cursor or "")
        return feed

    def _notified(self, method: str, params: Raw) -> None:
        """Notifications of a kind that is not known here, and of watches that nobody reads, are passed over."""
        if method not in ("event", "watchEnded"):
            return
        told = msgspec.json.decode(params, type=_Told)
        feed = self._feeds.get(told.subscription)
        if feed is None:
            return
        if method == "event":
            feed.put(bytes(params))
        else:
            feed.end(None if told.error is None else error_from_wire(told.code, told.error))

    def _largest(self) -> Pending | None:
        """Whose an answer without an id is: what we send can be read, so it was too long."""
        waiting = [pending for pending in self._pending.values() if not pending.answer.done()]
        return max(waiting, key=lambda pending: pending.size, default=None)


Ask = Callable[[str, Mapping[str, object]], Awaitable[Pending]]
"""Sends a request and returns when its answer is there."""


@asynccontextmanager
async def watching(
    calls: Calls, ask: Ask, parameters: Mapping[str, object]
) -> AsyncIterator[AsyncIterator[bytes]]:
    """What `Client.watch` is over JSON-RPC. Raises the refusal when entered."""
    subscription = _Subscription(calls, ask)
    feed = await subscription.to(parameters)

    async def items() -> AsyncIterator[bytes]:
        nonlocal feed
        if feed.begins and is_from_now(parameters):
            yield beginning(feed.begins)
        while True:
            while (item := await feed.get()) is not None:
                yield item
            if not feed.full:
                break
            # It was read too slowly to be kept here: the server has it all.
            await subscription.leave()
            feed = await subscription.to({**parameters, "since": feed.cursor()})
        if feed.error is not None:
            raise feed.error

    try:
        yield items()
    finally:
        await subscription.leave()


class _Subscription:
    """The subscription of one watch.

    When its feed is full it is left at once: else the server would send all the rest for nothing.
    """

    def __init__(self, calls: Calls, ask: Ask) -> None:
        self._calls = calls
        self._ask = ask
        self._feed: Feed | None = None
        self._leaving: asyncio.Task[None] | None = None

    async def to(self, parameters: Mapping[str, object]) -> Feed:
        """Subscribes. Raises the refusal."""
        pending = await self._ask("watch", parameters)
        if pending.feed is None:
            raise _refusal_of(pending.answer.result())
        self._feed = pending.feed
        self._feed.on_full = self._leave_soon
        if self._feed.full:
            self._leave_soon()
        return self._feed

    async def leave(self) -> None:
        """Ends the subscription, if there is one."""
        leaving, self._leaving = self._leaving, None
        if leaving is None:
            await self._leave()
        elif not leaving.done():
            await asyncio.wait([leaving])

    def _leave_soon(self) -> None:
        # No task group: `leave` waits for it, and `ask` bounds it.
        self._leaving = asyncio.get_running_loop().create_task(self._leave())

    async def _leave(self) -> None:
        feed, self._feed = self._feed, None
        if feed is None:
            return
        self._calls.forget(feed)
        if not feed.ended:
            with suppress(ContestError):
                await self._ask("unwatch", {"subscription": feed.subscription})


def _nothing() -> None:
    pass


def _refusal_of(envelope: bytes) -> ContestError:
    told = msgspec.json.decode(envelope, type=_Refusal)
    return error_from_wire(told.code, told.error or told.msg or "the watch was refused without a reason")


class NotAnAnswer(ConnectionLost):
    """The other side sent what is no answer: it is no server, or something else writes there."""

    def __init__(self, *, address: str, message: bytes) -> None:
        shown = message[:200].decode(errors="replace")
        self.reason = f"it wrote a line that is no JSON-RPC answer: {shown!r}"
        super().__init__(address=address, reason=self.reason)


class _At(Struct):
    cursor: str = field(name="Cursor", default="")


class _Item(Struct):
    event: _At | None = field(name="Event", default=None)
    gap: _At | None = field(name="Gap", default=None)


class _Told(Struct, rename="pascal"):
    subscription: int
    error: str | None = None
    code: str | None = None


class _Begun(Struct, rename="pascal"):
    subscription: int
    cursor: str | None = None


class _Subscribed(Struct, rename="pascal"):
    data: _Begun


class _Refusal(Struct, rename="pascal"):
    code: str | None = None
    error: str | None = None
    msg: str | None = None


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
    params: Raw = Raw(b"null")
    result: Raw = Raw()
    error: _Error | None = None

    def envelope(self) -> bytes:
        """The object that HTTP has for this answer. Raises `ValueError` where it is none."""
        if self.error is not None:
            return _refusal(self.error)
        if result := bytes(self.result):
            return result
        raise ValueError("neither a result nor an error")


_decoder: Final = msgspec.json.Decoder(_Answer)


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
