"""The contract of HTTP for machines: an OpenAPI document, made from the table of verbs and what this listener adds.

The application answers `GET /openapi.json` with it, `contest openapi` prints it. See https://spec.openapis.org.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from contest_core.core_version import CORE_VERSION
from contest_core.errors import ERRORS
from contest_core.verbs import CURRENT_API_VERSION, Verb
from contest_core.wire_schema import (
    DESCRIPTION,
    Documents,
    Schema,
    answer,
    as_text,
    components,
    explained,
    offered,
    parameters_object,
    refusals,
    unread,
)

OPENAPI: Final = "3.1.1"
"""The version of the specification."""

_FRAMING: Final[dict[int, tuple[str, ...]]] = {
    408: ("invalid_message",),
    415: ("invalid_message",),
    417: ("invalid_message",),
    431: ("too_large",),
    501: ("invalid_message",),
}
"""Statuses for requests that are not even read, finer than the table of errors."""

_ABOUT: Final[dict[int, str]] = {
    400: "The request is wrong.",
    401: "A token is needed, and this is none.",
    403: "The principal may not, or the web page that asks.",
    408: "The request did not come in time.",
    413: "The request, or its answer, is too large.",
    415: "The body is compressed.",
    417: "`Expect` asks for something unknown.",
    429: "Too much at once.",
    431: "The headers are too large, or too many.",
    500: "A fault of the server.",
    501: "The body is coded for the transfer in another way than `chunked`.",
    503: "The server cannot take it now.",
    504: "It was taken, and not answered in time.",
}

_HEADERS: Final[dict[str, str]] = {
    "X-Request-ID": "Names the request in the server's log, up to 128 printable characters; sent back.",
    "Prefer": "`wait=2` is how many seconds the client waits (RFC 7240).",
    "traceparent": "W3C trace context, handed on.",
}


def document(capabilities: Collection[str], *, authenticated: bool | None) -> Schema:
    """The document of a server whose job manager declares these capabilities.

    `authenticated` says whether a token is needed; None is where nobody knows.
    """
    paths: Schema = {}
    for verb in offered(capabilities):
        if verb.name == "watch":
            paths["/events"] = {"get": _events(verb)}
        else:
            paths[f"/{verb.name}"] = {"post": _operation(verb)}
    paths |= {
        "/healthz": {"get": _look("healthz", "Whether the process lives.", "alive")},
        "/readyz": {"get": _look("readyz", "Whether every part works.", "ready", 503)},
        "/openapi.json": {"get": _itself()},
    }
    statuses = {*(row.http for row in ERRORS.values()), *_FRAMING} - {None, 200}
    made: Schema = {
        "openapi": OPENAPI,
        "info": {
            "title": "Contest",
            "version": CORE_VERSION,
            "description": f"{DESCRIPTION}\n\nThe version of the API is {CURRENT_API_VERSION}. 200 is the job "
            "manager's answer, also where it refuses: then it has `Error` and `Code`.",
        },
        "servers": [{"url": "/", "description": "Where this document is served."}],
        "paths": paths,
        "components": {
            "schemas": _schemas(capabilities),
            "responses": {_named(status): _response(status) for status in sorted(filter(None, statuses))},
            "parameters": {name: _header(name, about) for name, about in _HEADERS.items()},
        },
    }
    if authenticated is not False:
        made["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        made["security"] = [{"token": []}] if authenticated else [{}, {"token": []}]
    return made


# --- verbs


def _operation(verb: Verb) -> Schema:
    form = {"schema": parameters_object(verb, form=True)}
    content = {
        "application/x-www-form-urlencoded": form,
        "multipart/form-data": form,
        "application/json": {"schema": parameters_object(verb, form=False)},
    }
    return {
        "operationId": verb.name,
        "summary": verb.summary,
        "parameters": _headers(),
        "requestBody": {"content": content, "required": verb.needs_requestor},
        "responses": {"200": _ok(_answered(verb), "The job manager's answer."), **_responses()},
    }


def _answered(verb: Verb) -> Schema:
    return {"$ref": f"#/components/schemas/{verb.name.capitalize()}Response"}


# --- what GET finds


def _events(verb: Verb) -> Schema:
    parameters = [
        {"name": each.name, "in": "query", "description": each.help, "schema": as_text(each)}
        | ({"required": True} if each.required else {})
        for each in verb.parameters
    ]
    resumes = "The cursor from behind which to go on; wins over `since`."
    parameters.append(_header("Last-Event-ID", resumes))
    codes = refusals(verb)
    refused = {**answer(verb), "description": "The refusal, in place of the stream."}
    refused["properties"] = {**refused["properties"], "Data": {"type": "null"}, "Error": {"type": "string"}}
    refused["required"] = [*refused["required"], "Code"]
    ok = _ok(refused, f"Server-sent events, or the refusal.\n\n{explained(codes)}")
    ok["content"]["text/event-stream"] = {"schema": _message()}
    return {
        "operationId": "events",
        "summary": verb.summary,
        "description": "Server-sent events: a message is `EventMessage` as JSON, its `id` the cursor; the first "
        "`id` says where it begins, and the last message, of the type `watchEnded`, is `WatchEnded`.",
        "parameters": [*parameters, *_headers()],
        "responses": {"200": ok, **_responses()},
    }


def _message() -> Schema:
    """One server-sent event, which is what the schema of a stream is of, to tools that know streams."""

    def data(name: str) -> Schema:
        content = {"$ref": f"#/components/schemas/{name}"}
        return {"type": "string", "contentMediaType": "application/json", "contentSchema": content}

    happened = {
        "id": {"type": "string", "description": "The cursor."},
        "event": {"const": "message"},
        "data": data("EventMessage"),
    }
    ended = {"event": {"const": "watchEnded"}, "data": data("WatchEnded")}
    return {
        "anyOf": [
            {"type": "object", "properties": happened, "required": ["id", "data"]},
            {"type": "object", "properties": ended, "required": ["event", "data"]},
        ]
    }


def _look(name: str, summary: str, word: str, *statuses: int) -> Schema:
    schema = {"type": "object", "properties": {"Status": {"const": word}}, "required": ["Status"]}
    return {
        "operationId": name,
        "summary": summary,
        "security": [],
        "responses": {"200": _ok(schema, "It does."), **_responses(*_ALWAYS, *statuses)},
    }


def _itself() -> Schema:
    return {
        "operationId": "openapi",
        "summary": "This document.",
        "security": [],
        "responses": {"200": _ok({"type": "object"}, "OpenAPI."), **_responses(*_ALWAYS)},
    }


# --- answers


_ALWAYS: Final = (400, 403, 408, 413, 415, 417, 429, 431, 500, 501)
"""Statuses that anything may get."""


def _responses(*statuses: int) -> Schema:
    return {
        str(status): {"$ref": f"#/components/responses/{_named(status)}"} for status in statuses or _ABOUT
    }


def _named(status: int) -> str:
    return f"Status{status}"


def _response(status: int) -> Schema:
    codes = [code for code, row in ERRORS.items() if row.http == status and code != "unknown_verb"]
    codes += _FRAMING.get(status, ())
    response = _ok({"$ref": "#/components/schemas/Unread"}, f"{_ABOUT[status]}\n\n{explained(codes)}")
    response["x-codes"] = codes
    if status in (429, 503):
        response["headers"]["Retry-After"] = {
            "description": "Seconds after which to come back.",
            "schema": {"type": "integer"},
        }
    return response


def _ok(schema: Schema, about: str) -> Schema:
    named = {"description": "As it was given, or of the server's own making.", "schema": {"type": "string"}}
    return {
        "description": about,
        "headers": {"X-Request-ID": named},
        "content": {"application/json": {"schema": schema}},
    }


def _headers() -> list[Schema]:
    return [{"$ref": f"#/components/parameters/{name}"} for name in _HEADERS]


def _header(name: str, about: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "description": about, "schema": {"type": "string"}}


def _schemas(capabilities: Collection[str]) -> Schema:
    codes = [code for code, row in ERRORS.items() if row.http not in (None, 200)]
    answers = {
        f"{verb.name.capitalize()}Response": answer(verb)
        for verb in offered(capabilities)
        if verb.name != "watch"
    }
    made = {**answers, **components(capabilities), "Unread": unread(codes)}
    if "watch" not in capabilities:
        return made
    # What answers `watch` is a number on JSON-RPC only.
    del made["ResponseDataWatch"]
    text = {"type": "string"}
    event = {"$ref": "#/components/schemas/JobEvent"}
    gap = {"$ref": "#/components/schemas/Gap"}
    return made | {
        "EventMessage": {
            "description": "What happened, or how much was missed.",
            "oneOf": [
                {"type": "object", "properties": {"Event": event}, "required": ["Event"]},
                {"type": "object", "properties": {"Gap": gap}, "required": ["Gap"]},
            ],
        },
        "WatchEnded": {
            "description": "The end of a watch; `Error` and `Code` where a fault is the reason.",
            "type": "object",
            "properties": {"Cursor": text, "Error": text, "Code": text},
            "required": ["Cursor"],
        },
    }


DOCUMENTS: Final = Documents(lambda api: document(api.capabilities, authenticated=api.authenticated))
"""Of the servers of this process."""
