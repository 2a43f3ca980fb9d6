"""The ASGI application: a request to a verb and its parameters, the API's answer to bytes.

Called by `GuardedProtocol` with whole requests, one task each; calls the API, and gives a watch to a `Feed`. It knows
nothing of sockets. Here are the exception boundaries of a request, one for verbs and one for `/events`.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any, Final

from contest_core.caller import Bearer, Caller, Principal
from contest_core.errors import ContestError, InternalError, TooLarge, Unsupported
from contest_core.responses import Response, ResponseType, encode
from contest_http.feed import Feed
from contest_http.forms import parse_form, read_parameters
from contest_http.guards import ONLY_POST, ONLY_POST_HEADERS
from contest_http.protocol import answer_headers

if TYPE_CHECKING:
    from uvicorn._types import ASGIReceiveCallable, ASGISendCallable, HTTPScope

    from contest_core.api import API
    from contest_core.budget import Budget
    from contest_core.listener import ListenerContext
    from contest_http.settings import HttpSettings

EVENTS: Final = "/events"
"""Where GET finds `watch`."""

OPENAPI: Final = "/openapi.json"
"""Where GET finds the contract for machines."""

LATER: Final = ("/metrics",)
"""Paths that have a meaning for GET, but not in this version."""

LOOKS: Final = frozenset({"/healthz", "/readyz", EVENTS, OPENAPI, *LATER})
"""All paths of GET; every other one is a verb's, as in ConTest."""

SLICE: Final = 256 * 1024
"""Bytes of a large answer that are given to the connection at once; a body beyond it is also parsed in a thread."""

_REQUEST_ID: Final = re.compile(rb"[\x21-\x7e]{1,128}")
_TRACEPARENT: Final = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_WAIT: Final = re.compile(rb"(?:^|[\s,;])wait\s*=\s*([0-9]{1,6})\b", re.IGNORECASE)

ASK_FOR_LESS: Final = "ask for one `run`, `test` or `target`, or with `events=false`"

JSON: Final = (b"content-type", b"application/json")

_ALLOWED_HEADERS: Final = b"authorization, content-type, last-event-id, prefer, traceparent, x-request-id"

Headers = list[tuple[bytes, bytes]]


class Application:
    """What answers on one listener."""

    def __init__(self, api: API, context: ListenerContext, settings: HttpSettings, budget: Budget) -> None:
        self._api = api
        self._context = context
        self._max_answer = int(settings.max_answer)
        self._budget = budget

    async def __call__(self, scope: HTTPScope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """Answers one request."""
        fields = dict(scope["headers"])
        if scope["method"] == "POST" and scope["path"] not in LOOKS:
            message: Any = await receive()
            status, headers, body = await self._ask(scope, fields, message["body"])
        elif scope["path"] == EVENTS and scope["method"] in ("GET", "HEAD"):
            refused = await self._watch(scope, fields, send)
            if refused is None:
                return
            status, headers, body = refused
        elif scope["path"] == OPENAPI and scope["method"] in ("GET", "HEAD"):
            from contest_http.openapi import DOCUMENTS  # most servers are never asked for it

            status, headers, body = _json(200, await DOCUMENTS.of(self._api))
        else:
            status, headers, body = self._look(scope["method"], scope["path"], fields)
        if b"origin" in fields:
            headers += _cors(fields[b"origin"])
        if len(body) > SLICE:
            await self._send_large(status, headers, body, send)
        else:
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": body, "more_body": False})

    # --- a verb

    async def _ask(
        self, scope: HTTPScope, fields: dict[bytes, bytes], body: bytes
    ) -> tuple[int, Headers, bytes]:
        caller = self._caller(scope, fields)
        try:
            caller = await self._authenticated(scope, fields, caller)
            content_type = fields.get(b"content-type")
            if len(body) > SLICE:
                parameters = await asyncio.to_thread(read_parameters, content_type, body)
            else:
                parameters = read_parameters(content_type, body)
            answer = await self._api.call(caller, scope["path"].lstrip("/"), parameters)
            if answer.type is ResponseType.WATCH:
                answer = self._no_watch(Unsupported(what="POST /watch", by="HTTP, which has GET /events"))
            encoded = encode(answer)
            if len(encoded) > self._max_answer:
                raise TooLarge(
                    what="the answer",
                    limit=self._max_answer,
                    size=len(encoded),
                    setting="max_answer",
                    hint=ASK_FOR_LESS,
                )
        except ContestError as error:
            return _refused(error, caller)
        # The one boundary of a request: a fault of this server, of which the peer learns no more than a name.
        except Exception:
            self._context.log.exception("request %s to %.40s failed", caller.request_id, scope["path"])
            return _refused(InternalError(request_id=caller.request_id), caller)
        headers = [JSON, (b"content-length", b"%d" % len(encoded)), *_request_id(fields, caller)]
        return 200, headers, encoded

    # --- a watch

    async def _watch(
        self, scope: HTTPScope, fields: dict[bytes, bytes], send: ASGISendCallable
    ) -> tuple[int, Headers, bytes] | None:
        """Answers with a feed; gives the refusal, where it is not begun."""
        caller = self._caller(scope, fields)
        headers = _cors(fields[b"origin"]) if b"origin" in fields else []
        feed = Feed(scope, send, headers + _request_id(fields, caller))
        error: ContestError | None = None
        try:
            caller = await self._authenticated(scope, fields, caller)
            parameters = parse_form(scope["query_string"])
            if since := fields.get(b"last-event-id"):
                parameters["since"] = since.decode("latin-1")
            async with self._api.subscribe(caller, parameters) as watch:
                await feed.follow(watch)
        except ContestError as refused:
            error = refused
        # The one boundary of a watch, as of a verb above.
        except Exception:
            self._context.log.exception("request %s to %s failed", caller.request_id, EVENTS)
            error = InternalError(request_id=caller.request_id)
        if error is None or feed.begun:
            await feed.end(error)
            return None
        if error.row.http != 200:
            return _refused(error, caller)
        body = encode(self._no_watch(error))
        return 200, [JSON, (b"content-length", b"%d" % len(body)), *_request_id(fields, caller)], body

    async def _authenticated(self, scope: HTTPScope, fields: dict[bytes, bytes], caller: Caller) -> Caller:
        principal = await self._api.authenticate(
            *_credentials(fields.get(b"authorization")), listener=caller.listener, peer=caller.peer
        )
        if principal is None:
            return caller
        return self._caller(scope, fields, principal=principal, request_id=caller.request_id)

    def _no_watch(self, error: ContestError) -> Response[Any]:
        return Response(server_id=self._api.server_id, type=ResponseType.WATCH, data=None, error=error)

    def _caller(
        self,
        scope: HTTPScope,
        fields: dict[bytes, bytes],
        principal: Principal | None = None,
        request_id: str | None = None,
    ) -> Caller:
        client = scope["client"]
        given = fields.get(b"x-request-id")
        traceparent = fields.get(b"traceparent")
        prefer = fields.get(b"prefer")
        if request_id is None and given and _REQUEST_ID.fullmatch(given):
            request_id = given.decode()
        return self._api.caller(
            listener=self._context.name,
            peer=_peer(client) if client is not None else "unknown",
            principal=principal,
            request_id=request_id,
            traceparent=traceparent.decode() if traceparent and _TRACEPARENT.fullmatch(traceparent) else None,
            timeout=_wait(prefer) if prefer is not None else None,
        )

    async def _send_large(self, status: int, headers: Headers, body: bytes, send: ASGISendCallable) -> None:
        """In slices: the connection takes the next one when the peer has taken the last."""
        size = len(body)
        try:
            if not self._budget.take(size):
                status, headers, body = _refused(self._budget.spent(), None)
            await send({"type": "http.response.start", "status": status, "headers": headers})
            for end in range(SLICE, len(body) + SLICE, SLICE):
                part = body[end - SLICE : end]
                await send({"type": "http.response.body", "body": part, "more_body": end < len(body)})
        finally:
            self._budget.give_back(size)

    # --- what is no verb

    def _look(self, method: str, path: str, fields: dict[bytes, bytes]) -> tuple[int, Headers, bytes]:
        if method == "OPTIONS" and b"origin" in fields:
            # A browser asks before it sends; origins that are not allowed did not come this far.
            return 204, [(b"access-control-max-age", b"600")], b""
        if path not in LOOKS:
            return _only_post()
        if method not in ("GET", "HEAD"):
            return _only_get(path)
        if path == "/healthz":
            return _json(200, b'{"Status":"alive"}')
        if path == "/readyz":
            reason = self._context.readiness()
            if reason is None:
                return _json(200, b'{"Status":"ready"}')
            return _refused(ContestError(reason, code="unavailable"), None)
        there = "this version has GET /events, /healthz, /readyz and /openapi.json, and the verbs by POST"
        return _json(404, encode(ContestError(f"{path} is not offered yet; {there}", code="unsupported")))


def _refused(error: ContestError, caller: Caller | None) -> tuple[int, Headers, bytes]:
    body = encode(error)
    headers = answer_headers(error, body)
    if caller is not None:
        headers.append((b"x-request-id", caller.request_id.encode()))
    return error.row.http or 500, headers, body


def _request_id(fields: dict[bytes, bytes], caller: Caller) -> Headers:
    return [(b"x-request-id", caller.request_id.encode())] if b"x-request-id" in fields else []


def _only_post() -> tuple[int, Headers, bytes]:
    return 400, list(ONLY_POST_HEADERS), ONLY_POST


def _only_get(path: str) -> tuple[int, Headers, bytes]:
    error = ContestError(f"{path} is for GET", code="invalid_message")
    status, headers, body = _json(405, encode(error))
    return status, [*headers, (b"allow", b"GET, HEAD")], body


def _json(status: int, body: bytes) -> tuple[int, Headers, bytes]:
    return status, [JSON, (b"content-length", b"%d" % len(body)), (b"cache-control", b"no-store")], body


def _cors(origin: bytes) -> Headers:
    return [
        (b"access-control-allow-origin", origin),
        (b"access-control-allow-methods", b"POST, GET"),
        (b"access-control-allow-headers", _ALLOWED_HEADERS),
        (b"access-control-expose-headers", b"retry-after, x-request-id"),
        (b"vary", b"origin"),
    ]


def _credentials(authorization: bytes | None) -> tuple[Bearer, ...]:
    if authorization is None:
        return ()
    scheme, _, token = authorization.partition(b" ")
    if scheme.lower() != b"bearer" or not (token := token.strip()):
        return ()
    return (Bearer(token=token.decode("latin-1")),)


def _peer(client: tuple[str, int]) -> str:
    host, port = client
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _wait(prefer: bytes) -> float | None:
    """The seconds that a client is willing to wait: `Prefer: wait=10` of RFC 7240."""
    found = _WAIT.search(prefer)
    return float(found[1]) or None if found else None
