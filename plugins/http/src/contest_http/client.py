"""The client for `http://` and `https://`: a verb is a POST of a form, to our server or to a ConTest; a watch a GET.

Called by `contest_core.client.Contest`; stands on httpx2, which is imported when a client connects.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import urlencode

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from contest_core.client import Client, ClientOptions
from contest_core.errors import (
    ConnectionLost,
    ContestError,
    InvalidParameters,
    TooLarge,
    Unreachable,
    Unsupported,
    error_from_wire,
)
from contest_core.foreign import decoded
from contest_core.network import is_loopback, parts_of, system_words
from contest_core.verbs import VERBS
from contest_core.watch import beginning, is_from_now
from contest_http.events import EventStream, Message

if TYPE_CHECKING:
    import httpx2

FORM: Final = "application/x-www-form-urlencoded"

KEPT: Final = 20
"""Connections that stay open when nothing is asked."""

MAX_SILENCE: Final = 45.0
"""Seconds in which a watch has to give a sign of life; the server sends a comment every 15."""

_ONLY_POST: Final = b"Only POST requests are supported"
"""What a ConTest says to any GET."""


class _Answer(Struct, rename="pascal"):
    """What tells a Contest's answer from anybody else's."""

    server_id: Raw | UnsetType = msgspec.field(name="ServerID", default=UNSET)
    msg: Raw | UnsetType = UNSET


class _Refusal(Struct, rename="pascal"):
    """What a refusal says, and the end of a watch."""

    msg: str | None = None
    error: str | None = None
    code: str | None = None

    def as_error(self) -> ContestError | None:
        words = self.msg or self.error
        return None if words is None else error_from_wire(self.code, words)


class HttpClient(Client):
    """Asks one server over HTTP, on connections that are kept alive."""

    def __init__(self, address: str, options: ClientOptions, session: httpx2.AsyncClient) -> None:
        self._address = address.rstrip("/")
        self._options = options
        self._session = session

    @classmethod
    async def connect(cls, address: str, options: ClientOptions) -> Self:
        """Prepares to connect; the first call does. Raises `Unreachable` where the address is none."""
        from http.cookiejar import CookieJar, DefaultCookiePolicy  # what httpx2 imports

        import httpx2  # a fifth of a second that only those pay who use it

        host = _host(address)
        _quieten(logging.getLogger("httpx2"))
        headers = {"content-type": FORM, "accept-encoding": "identity"}
        if options.token is not None:
            headers["authorization"] = f"Bearer {options.token}"
        session = httpx2.AsyncClient(
            headers=headers,
            timeout=options.timeout,
            # Whoever asks knows how much at once; a watch has a connection of its own for as long as it goes on.
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=KEPT),
            # A proxy from the environment cannot reach what is on this machine.
            trust_env=not is_loopback(host),
            # Reading the certificates of the system takes longer than asking; without TLS they have no use.
            verify=address.lower().startswith("https:"),
            # No Contest has any, and what else sets some may set one that cannot be sent back.
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        )
        return cls(address, options, session)

    async def call(self, verb: str, parameters: Mapping[str, object]) -> bytes:
        """Asks a verb; see `Client.call`."""
        url = f"{self._address}/{verb}"
        with self._translated():
            async with self._session.stream("POST", url, content=_form(parameters).encode()) as response:
                answer = await self._read(response)
        if not _is_contest(answer):
            raise self._foreign(url, response, answer)
        return answer

    def watch(self, parameters: Mapping[str, object]) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Follows `GET /events`; see `Client.watch`. Raises the refusal when entered.

        Read to its end, it has ended as a watch does; a connection that breaks before raises `ConnectionLost`.
        """
        return self._watch(parameters)

    @asynccontextmanager
    async def _watch(self, parameters: Mapping[str, object]) -> AsyncIterator[AsyncIterator[bytes]]:
        response = await self._subscribe(f"{self._address}/events?{_form(parameters)}")
        try:
            async with aclosing(self._items(response, from_now=is_from_now(parameters))) as items:
                yield items
        finally:
            await response.aclose()

    async def _subscribe(self, url: str) -> httpx2.Response:
        from asyncio import timeout  # brings asyncio, which the program's start does without

        import httpx2  # imported already by `connect`

        seconds = self._options.timeout
        silence = httpx2.Timeout(seconds, read=max(seconds, MAX_SILENCE))
        request = self._session.build_request(
            "GET", url, headers={"accept": "text/event-stream"}, timeout=silence
        )
        try:
            with self._translated():
                async with timeout(seconds):
                    response = await self._session.send(request, stream=True)
                    if response.status_code == 200 and _content_type(response) == "text/event-stream":
                        return response
                    try:
                        answer = await self._read(response)
                    finally:
                        await response.aclose()
        except TimeoutError:
            raise ConnectionLost(address=self._address, reason=_WORDS["ReadTimeout"]) from None
        raise self._refusal(url, response, answer)

    def _refusal(self, url: str, response: httpx2.Response, answer: bytes) -> ContestError:
        if answer.startswith(_ONLY_POST):
            return Unsupported(what="watch", by=f"{self._address}, which is a ConTest")
        error = None
        if _is_contest(answer):
            with suppress(ValueError):
                error = decoded(answer, _Refusal).as_error()
        return error or self._foreign(url.partition("?")[0], response, answer)

    async def _items(self, response: httpx2.Response, *, from_now: bool) -> AsyncGenerator[bytes, None]:
        stream = EventStream(self._options.max_answer)
        with self._translated():
            async with aclosing(response.aiter_bytes()) as parts:
                async for part in parts:
                    messages = stream.feed(part)
                    if from_now and stream.begins:
                        from_now = False
                        yield beginning(self._text(stream.begins))
                    for message in messages:
                        if message.kind == b"watchEnded":
                            self._ended(message)
                            return
                        if not message.kind:
                            yield message.data
        raise ConnectionLost(address=self._address, reason="it ended in the middle of a watch")

    def _text(self, cursor: bytes) -> str:
        try:
            return cursor.decode()
        except UnicodeDecodeError:
            reason = "the beginning of a watch is not Contest's"
            raise ConnectionLost(address=self._address, reason=reason) from None

    def _ended(self, message: Message) -> None:
        try:
            error = decoded(message.data, _Refusal).as_error()
        except ValueError:
            reason = "the end of a watch is not Contest's"
            raise ConnectionLost(address=self._address, reason=reason) from None
        if error is not None:
            raise error

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Makes our errors of those of httpx2."""
        import httpx2  # imported already by `connect`

        if self._session.is_closed:
            raise Unreachable(address=self._address, reason="this client was closed")
        try:
            yield
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.ProxyError) as error:
            raise Unreachable(address=self._address, reason=_reason(error)) from error
        except (httpx2.UnsupportedProtocol, httpx2.InvalidURL) as error:
            raise Unreachable(address=self._address, reason=_reason(error)) from error
        except httpx2.RequestError as error:
            raise ConnectionLost(address=self._address, reason=_reason(error)) from error

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._session.aclose()

    async def _read(self, response: httpx2.Response) -> bytes:
        limit = self._options.max_answer
        length = response.headers.get("content-length", "")
        if length.isdecimal() and int(length) > limit:
            raise TooLarge(
                what="the answer", limit=limit, size=int(length), setting="ClientOptions.max_answer"
            )
        parts: list[bytes] = []
        size = 0
        async for part in response.aiter_bytes():
            size += len(part)
            if size > limit:
                raise TooLarge(what="the answer", limit=limit, setting="ClientOptions.max_answer")
            parts.append(part)
        return b"".join(parts)

    def _foreign(self, url: str, response: httpx2.Response, answer: bytes) -> ContestError:
        kind = _content_type(response) or "no content type"
        start = " ".join(answer[:200].decode("utf-8", "replace").split())
        location = response.headers.get("location")
        hint = f"it points to {location}" if location else f"it begins with {start[:80]!r}"
        return ContestError(
            f"{url} is not answered by a Contest server but with {response.status_code}"
            f" {response.reason_phrase} ({kind}): {hint}; is the address right, is there a proxy in between?"
        )


def _quieten(logger: logging.Logger) -> None:
    """It tells of every request, at the level at which a server tells of its life."""
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.WARNING)


def _host(address: str) -> str:
    parts = parts_of(address, example="http://HOST:PORT")
    if parts.query or parts.fragment:
        raise Unreachable(address=address, reason="an address has no query and no fragment")
    return parts.hostname or ""


def _content_type(response: httpx2.Response) -> str:
    kind: str = response.headers.get("content-type", "")
    return kind.partition(";")[0].strip().lower()


def _form(parameters: Mapping[str, object]) -> str:
    """The form. Raises `InvalidParameters` for what would be something else in it, or nothing."""
    given = {name: value for name, value in parameters.items() if value is not None}
    for name, value in given.items():
        texts = value if isinstance(value, list | tuple) else [value]
        if name in _OPTIONAL and "" in texts:
            raise InvalidParameters(reason=f"{name}: an empty text is none in a form", parameter=name)
        if texts is value and any("," in str(text) for text in texts):
            raise InvalidParameters(reason=f"{name}: a comma in a name ends it in a form", parameter=name)
    return urlencode({name: _text(value) for name, value in given.items()})


_OPTIONAL: Final = frozenset(
    each.name for verb in VERBS.values() for each in verb.parameters if not each.required
)


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return msgspec.json.encode(value).decode()
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return str(value)


def _is_contest(answer: bytes) -> bool:
    try:
        found = decoded(answer, _Answer)
    except ValueError:
        return False
    return found.server_id is not UNSET or found.msg is not UNSET


def _reason(error: BaseException) -> str:
    return system_words(error) or str(error) or _WORDS.get(type(error).__name__, type(error).__name__)


_WORDS: Final = {
    "ConnectTimeout": "no connection in time",
    "ReadTimeout": "no answer in time",
    "WriteTimeout": "the request was not taken in time",
    "PoolTimeout": "all connections are busy",
}
