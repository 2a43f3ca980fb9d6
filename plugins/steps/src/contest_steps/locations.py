"""Where something is: the URIs of ConTest's parameters, read as Go reads them; it opens nothing.

Used by the fetcher `URI` and the target manager `CSVFileTargetManager`. A text without a scheme is the path of a file,
relative to the directory that the server runs in.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote, urlsplit

from msgspec import Struct

MAX_LENGTH: Final = 8192
"""Characters of a URI."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NO_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


class Location(Struct, frozen=True, kw_only=True):
    """A URI that was understood."""

    shown: str
    """To be told: without a password."""
    scheme: str
    """`file`, `http` or `https`."""
    path: str = ""
    """Of a file."""
    url: str = ""
    """Of what is on the web, without user and password."""
    user: str = ""
    password: str = ""


def locate(uri: str, schemes: tuple[str, ...]) -> Location:
    """The location that a URI names. Raises `ValueError`, in words that begin with what is wrong."""
    if len(uri) > MAX_LENGTH:
        raise ValueError(f"the URI has {len(uri):,} characters, the limit is {MAX_LENGTH:,}")
    if _CONTROL.search(uri):
        raise ValueError("the URI has a control character")
    if (escape := _NO_ESCAPE.search(uri)) is not None:
        raise ValueError(
            f"the URI has a bad escape {uri[escape.start() :][:3]!r}: write %25 for a percent sign"
        )
    if uri != uri.strip() or not uri:
        raise ValueError("the URI is empty, or has spaces around it")
    parts = urlsplit(uri)
    scheme = parts.scheme.lower() or "file"
    if scheme not in schemes:
        raise ValueError(
            f"unsupported scheme {scheme[:60]!r}: a URI here is a path, or has {_listed(schemes)}"
        )
    if scheme == "file":
        return _file(parts.netloc, unquote(parts.path))
    port = f":{parts.port}" if parts.port is not None else ""
    if not parts.hostname:
        raise ValueError("the URI has no host")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    url = parts._replace(scheme=scheme, netloc=host + port, fragment="").geturl()
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    return Location(shown=url, scheme=scheme, url=url, user=user, password=password)


def _file(host: str, path: str) -> Location:
    if host not in ("", "localhost"):
        raise ValueError(
            f"unsupported host {host[:60]!r}: a file is here, write file:///{host}/... or its path"
        )
    if not path or "\0" in path:
        raise ValueError("the URI has no path" if not path else "the path has a NUL character")
    return Location(shown=path, scheme="file", path=path)


def _listed(schemes: tuple[str, ...]) -> str:
    return " or ".join(f"{scheme}://" for scheme in schemes)
