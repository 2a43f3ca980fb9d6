"""What programs that ask other machines share: the parts of its address, whether it is this one, why it did not answer.

Used by plugins that open connections: HTTP's client, the fetcher `URI`. Knows no library, and opens none itself.
"""

from __future__ import annotations

import os
from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit

from contest_core.errors import Unreachable


def parts_of(address: str, *, example: str) -> SplitResult:
    """The parts of a server's address, which has a host and carries no credentials. Raises `Unreachable`."""
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise Unreachable(address=address, reason=str(error)) from None
    if not host:
        raise Unreachable(address=address, reason=f"the address has no host; write {example}")
    if parts.username is not None or parts.password is not None:
        reason = "an address carries no user and no password; a token goes beside it"
        raise Unreachable(address=f"{parts.scheme}://{host}", reason=reason)
    return parts


def is_loopback(host: str) -> bool:
    """Whether a host, as it stands in a URL, is this machine; no name but `localhost` is looked up."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def system_words(error: BaseException) -> str:
    """The operating system's words behind an error that libraries have wrapped several times; empty without any."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ConnectionError) and cause.errno:
            # asyncio puts words of its own there.
            return os.strerror(cause.errno)
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return ""
