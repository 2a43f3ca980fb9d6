"""What a request's head must look like before anything else of it is read: the limits, Host and Origin.

Asked by the protocol once per request; knows neither connections nor the API. Host and Origin are what stands
between a web page in somebody's browser and a server on that person's loopback: a page can send a form
anywhere, and its own name can be made to resolve to 127.0.0.1 (DNS rebinding).
"""

from __future__ import annotations

from typing import Final, NamedTuple

from contest_core.browsers import denied_host, denied_origin, names_loopback
from contest_core.errors import ContestError, InvalidMessage, TooLarge
from contest_http.settings import HttpSettings

Headers = list[tuple[bytes, bytes]]

_SINGLE: Final = (
    b"host",
    b"origin",
    b"authorization",
    b"content-type",
    b"content-length",
    b"transfer-encoding",
)
"""Headers that two readers could take for different things when they are given twice."""

_REMEMBERED: Final = 64

ONLY_POST: Final = b"Only POST requests are supported"
"""ConTest's words for any other method, byte for byte."""

ONLY_POST_HEADERS: Final = (
    (b"content-type", b"text/plain; charset=utf-8"),
    (b"content-length", b"%d" % len(ONLY_POST)),
    (b"allow", b"POST"),
)
"""And the headers of that answer."""


class Refused(NamedTuple):
    """Why a request is not read any further."""

    status: int
    """The HTTP status, which for these is finer than the table of errors."""
    error: ContestError


class Guards:
    """Judges the heads of requests. `loopback` says that nobody else than this machine can connect."""

    def __init__(self, settings: HttpSettings, *, loopback: bool) -> None:
        self._loopback = loopback
        self._origins = frozenset(origin.lower().encode() for origin in settings.origins)
        self._max_headers = settings.max_headers
        self._max_header = int(settings.max_header)
        self._max_request = int(settings.max_request)
        self._hosts: set[bytes] = set()

    def judge(self, url: bytes, headers: Headers, fields: dict[bytes, bytes], version: str) -> Refused | None:
        """None where the body may be read. `fields` are the headers as a dictionary."""
        if len(headers) > self._max_headers:
            return self._too_many()
        if len(fields) != len(headers):
            for name in _SINGLE:
                if sum(name == other for other, _ in headers) > 1:
                    return Refused(400, InvalidMessage(reason=f"header {name.decode()} is given twice"))
        host = fields.get(b"host")
        if host is None:
            if version == "1.1":
                return Refused(400, InvalidMessage(reason="header Host is missing"))
        elif host not in self._hosts and (refused := self._judge_host(host)):
            return refused
        if not url.startswith(b"/") and b"://" in url:
            target = url.partition(b"://")[2].partition(b"/")[0]
            if refused := self._judge_host(target):
                return refused
        if (origin := fields.get(b"origin")) is not None and origin.lower() not in self._origins:
            return Refused(403, denied_origin(origin.decode("latin-1")))
        return self._judge_framing(fields, version)

    def too_long(self) -> Refused:
        """The request's line and headers are over their limit."""
        return Refused(
            431, TooLarge(what="the head of the request", limit=self._max_header, setting="max_header")
        )

    def too_large(self, size: int | None = None) -> Refused:
        """The request's body is over its limit."""
        return Refused(
            413, TooLarge(what="the request", limit=self._max_request, size=size, setting="max_request")
        )

    def _too_many(self) -> Refused:
        return Refused(
            431, TooLarge(what="the request", limit=self._max_headers, unit="headers", setting="max_headers")
        )

    def _judge_host(self, host: bytes) -> Refused | None:
        if self._loopback and not names_loopback(host.decode("latin-1")):
            return Refused(403, denied_host(host.decode("latin-1")))
        if len(self._hosts) < _REMEMBERED:
            self._hosts.add(host)
        return None

    def _judge_framing(self, fields: dict[bytes, bytes], version: str) -> Refused | None:
        coding = fields.get(b"transfer-encoding")
        if coding is not None and (refused := _judge_coding(coding, version)):
            return refused
        length = fields.get(b"content-length")
        if length is not None and int(length) > self._max_request:
            return self.too_large(int(length))
        encoding = fields.get(b"content-encoding", b"identity").lower()
        if encoding != b"identity":
            reason = f"content encoding {_shown(encoding)} is not taken here; send the body as it is"
            return Refused(415, InvalidMessage(reason=reason))
        expected = fields.get(b"expect")
        if expected is not None and expected.lower() != b"100-continue":
            return Refused(417, InvalidMessage(reason=f"nobody here knows how to expect {_shown(expected)}"))
        return None


def _judge_coding(coding: bytes, version: str) -> Refused | None:
    """The parser takes the chunks of whatever ends in `chunked`, also of a body that is compressed in them."""
    if version == "1.0":
        # RFC 9112, 6.1: somebody on the way may not have understood it, so nobody knows where the request ends.
        return Refused(400, InvalidMessage(reason="HTTP/1.0 has no Transfer-Encoding"))
    if coding.strip().lower() != b"chunked":
        reason = f"transfer encoding {_shown(coding)} is not taken here, only chunked; send the body as it is"
        return Refused(501, InvalidMessage(reason=reason))
    return None


def _shown(value: bytes) -> str:
    return repr(value[:100].decode("latin-1"))
