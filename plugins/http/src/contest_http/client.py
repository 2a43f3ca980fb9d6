"""The client for `http://` and `https://`: a verb is a POST of a form, to our server or to a ConTest.

Called by `contest_core.client.Contest`; stands on httpx2, which is imported when a client connects.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import urlencode, urlsplit

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from contest_core.client import Client, ClientOptions
from contest_core.errors import ConnectionLost, ContestError, TooLarge, Unreachable, Unsupported
from contest_core.network import is_loopback, system_words

if TYPE_CHECKING:
    import httpx2

FORM: Final = "application/x-www-form-urlencoded"


class _Answer(Struct, rename="pascal"):
    """What tells a Contest's answer from anybody else's."""

    server_id: Raw | UnsetType = msgspec.field(name="ServerID", default=UNSET)
    msg: Raw | UnsetType = UNSET


class HttpClient(Client):
    """Asks one server over HTTP, on connections that are kept alive."""

    def __init__(self, address: str, options: ClientOptions, session: httpx2.AsyncClient) -> None:
        self._address = address.rstrip("/")
        self._options = options
        self._session = session

    @classmethod
    async def connect(cls, address: str, options: ClientOptions) -> Self:
        """Prepares to connect; the first call does. Raises `Unreachable` where the address is none."""
        import httpx2  # a fifth of a second that only those pay who use it

        host = _host(address)
        headers = {"content-type": FORM, "accept-encoding": "identity"}
        if options.token is not None:
            headers["authorization"] = f"Bearer {options.token}"
        session = httpx2.AsyncClient(
            headers=headers,
            timeout=options.timeout,
            # A proxy from the environment cannot reach what is on this machine.
            trust_env=not is_loopback(host),
            # Reading the certificates of the system takes longer than asking; without TLS they have no use.
            verify=address.lower().startswith("https:"),
        )
        return cls(address, options, session)

    async def call(self, verb: str, parameters: Mapping[str, object]) -> bytes:
        """Asks a verb; see `Client.call`."""
        import httpx2  # imported already by `connect`

        form = urlencode({name: _text(value) for name, value in parameters.items() if value is not None})
        url = f"{self._address}/{verb}"
        try:
            async with self._session.stream("POST", url, content=form.encode()) as response:
                answer = await self._read(response)
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.ProxyError) as error:
            raise Unreachable(address=self._address, reason=_reason(error)) from error
        except (httpx2.UnsupportedProtocol, httpx2.InvalidURL) as error:
            raise Unreachable(address=self._address, reason=_reason(error)) from error
        except httpx2.RequestError as error:
            raise ConnectionLost(address=self._address, reason=_reason(error)) from error
        if not _is_contest(answer):
            raise self._foreign(url, response, answer)
        return answer

    def watch(self, parameters: Mapping[str, object]) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Is not on this wire yet. Raises `Unsupported`."""
        raise Unsupported(what="watch", by="this wire")

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
        kind = response.headers.get("content-type", "no content type").partition(";")[0]
        start = " ".join(answer[:200].decode("utf-8", "replace").split())
        location = response.headers.get("location")
        hint = f"it points to {location}" if location else f"it begins with {start[:80]!r}"
        return ContestError(
            f"{url} is not answered by a Contest server but with {response.status_code}"
            f" {response.reason_phrase} ({kind}): {hint}; is the address right, is there a proxy in between?"
        )


def _host(address: str) -> str:
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise Unreachable(address=address, reason=str(error)) from None
    if not host:
        raise Unreachable(address=address, reason="the address has no host; write http://HOST:PORT")
    if parts.username is not None or parts.password is not None:
        reason = "an address carries no user and no password; a token goes beside it"
        raise Unreachable(address=f"{parts.scheme}://{host}", reason=reason)
    if parts.query or parts.fragment:
        raise Unreachable(address=address, reason="an address has no query and no fragment")
    return host


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
        found = msgspec.json.decode(answer, type=_Answer)
    except (msgspec.DecodeError, UnicodeDecodeError):
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
