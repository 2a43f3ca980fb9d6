"""What programs that ask other machines share: whether it is this one, and why one did not answer.

Used by plugins that open connections: HTTP's client, the fetcher `URI`. Knows no library, and opens none itself.
"""

from __future__ import annotations

import os
from ipaddress import ip_address


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
