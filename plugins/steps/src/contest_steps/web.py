"""Gets a document over HTTP, within bounds; used by the fetcher `URI`, which bounds the time.

Stands on httpx2, which is imported when something is fetched: a fifth of a second that only those pay who use it.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Final
from urllib.parse import urljoin, urlsplit

import msgspec

from contest_core import ByteSize
from contest_core.network import is_loopback, system_words
from contest_steps.files import in_thread
from contest_steps.locations import Location, locate

if TYPE_CHECKING:
    import httpx2

MAX_REDIRECTS: Final = 10
SCHEMES: Final = ("http", "https")

_HEADERS: Final = {"accept": "application/json, */*", "accept-encoding": "identity", "user-agent": "contest"}


class NotFetched(Exception):
    """The document could not be had; the message says from where and why."""


async def get(location: Location, limit: ByteSize, timeout: float) -> bytes:
    """The document of a URL, through redirections. `timeout` is of each operation. Raises `NotFetched`."""
    import httpx2  # see above

    for _ in range(MAX_REDIRECTS + 1):
        try:
            found = await _once(location, limit, timeout)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            reason = system_words(error) or str(error) or type(error).__name__
            raise NotFetched(f"cannot fetch {location.shown}: {reason}") from None
        if isinstance(found, bytes):
            return found
        location = found
    raise NotFetched(f"cannot fetch {location.shown}: more than {MAX_REDIRECTS} redirections")


async def _once(location: Location, limit: ByteSize, timeout: float) -> bytes | Location:
    """The document, or where it is said to be."""
    import httpx2  # see above

    client = httpx2.AsyncClient(
        headers=_HEADERS,
        timeout=timeout,
        auth=(location.user, location.password) if location.user or location.password else None,
        # A proxy from the environment cannot reach what is on this machine.
        trust_env=not is_loopback(urlsplit(location.url).hostname or ""),
        # The certificates of the system, which take a while to read.
        verify=await in_thread(ssl.create_default_context) if location.scheme == "https" else False,
    )
    async with client, client.stream("GET", location.url) as response:
        if response.has_redirect_location:
            return _redirected(location, response.headers["location"])
        if response.status_code != 200:
            said = f"{response.status_code} {response.reason_phrase}".strip()
            raise NotFetched(f"cannot fetch {location.shown}: it was answered with {said}")
        if (encoding := response.headers.get("content-encoding", "identity")) != "identity":
            raise NotFetched(f"cannot fetch {location.shown}: it came compressed ({encoding}), unasked")
        return await _body(location, response, limit)


def _redirected(location: Location, target: str) -> Location:
    url = urljoin(location.url, target)
    try:
        found = locate(url, SCHEMES)
    except ValueError as error:
        raise NotFetched(
            f"cannot fetch {location.shown}: it redirects to {target[:200]!r}: {error}"
        ) from None
    if found.user or urlsplit(found.url)[:2] != urlsplit(location.url)[:2]:
        return found
    return msgspec.structs.replace(found, user=location.user, password=location.password)


async def _body(location: Location, response: httpx2.Response, limit: ByteSize) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in response.aiter_raw():
        size += len(part)
        if size > limit:
            raise NotFetched(f"cannot fetch {location.shown}: it is larger than {limit}")
        parts.append(part)
    return b"".join(parts)
