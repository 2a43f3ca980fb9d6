"""The contract of JSON-RPC for machines: an OpenRPC document, made from the table of verbs.

A `Session` answers `rpc.discover` with it, `contest openrpc` prints it. The notifications that a watch sends, for which
OpenRPC has no place, are method objects under `x-notifications`. See https://spec.open-rpc.org.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from contest_core.core_version import CORE_VERSION
from contest_core.errors import ERRORS
from contest_core.verbs import CURRENT_API_VERSION, VERBS, Verb
from contest_core.wire_schema import (
    DESCRIPTION,
    Documents,
    Schema,
    answer,
    components,
    error_meanings,
    in_json,
    offered,
    refusals,
)

OPENRPC: Final = "1.3.2"
"""The version of the specification."""

_PARSE_ERROR: Final = {
    "code": -32700,
    "message": "The bytes are not JSON",
    "data": {"Code": "invalid_message"},
}


def document(capabilities: Collection[str]) -> Schema:
    """The document of a server whose job manager declares these capabilities."""
    methods = [_method(verb) for verb in offered(capabilities)]
    watched = "watch" in capabilities
    if watched:
        methods.append(_unwatch())
    made: Schema = {
        "openrpc": OPENRPC,
        "info": {
            "title": "Contest",
            "version": CORE_VERSION,
            "description": f"{DESCRIPTION}\n\nThe version of the API is {CURRENT_API_VERSION}. Parameters are by name; "
            "what a refusal has in `data` is the schema `ErrorData`.",
        },
        "methods": methods,
        "components": {
            "schemas": components(capabilities) | {"ErrorData": _error_data()},
            "errors": _errors(),
        },
    }
    return made | ({"x-notifications": _notifications()} if watched else {})


def _method(verb: Verb) -> Schema:
    params = [
        _descriptor(each.name, in_json(each), each.help, required=each.required is not None)
        for each in verb.parameters
    ]
    # OpenRPC has those first that are required, also where they are by name.
    params.sort(key=lambda each: not each["required"])
    return _call(verb.name, verb.summary, params, answer(verb), refusals(verb))


def _unwatch() -> Schema:
    number: Schema = {
        "anyOf": [{"type": "integer"}, {"type": "string"}],
        "description": "What `watch` answered with.",
    }
    params = [_descriptor("subscription", number, "The watch to end.", required=True)]
    return _call("unwatch", "End a watch of this connection.", params, answer(VERBS["watch"]), [])


def _call(name: str, summary: str, params: list[Schema], result: Schema, refused: list[str]) -> Schema:
    before = [code for code, row in ERRORS.items() if row.http not in (None, 200) and code != "unknown_verb"]
    codes = [code for code in ERRORS if code in before or code in refused]
    # An answer with an error is no result.
    properties = {key: each for key, each in result["properties"].items() if key != "Code"}
    schema = {**result, "properties": {**properties, "Error": {"type": "null"}}}
    return {
        "name": name,
        "summary": summary,
        "paramStructure": "by-name",
        "params": params,
        "result": {"name": "answer", "schema": schema},
        "errors": [{"$ref": f"#/components/errors/{code}"} for code in codes],
    }


def _descriptor(name: str, schema: Schema, about: str, *, required: bool) -> Schema:
    return {"name": name, "description": about, "required": required, "schema": schema}


def _errors() -> dict[str, Schema]:
    meanings = error_meanings()
    made: dict[str, Schema] = {
        code: {"code": row.rpc, "message": meanings[code], "data": {"Code": code}}
        for code, row in ERRORS.items()
        if row.http is not None
    }
    return made | {"parse_error": dict(_PARSE_ERROR)}


def _error_data() -> Schema:
    code = {
        "type": "string",
        "description": "The error's code; one that is not known is to be taken as `internal`.",
    }
    about = "As in an answer, where the job manager refused."
    return {
        "type": "object",
        "description": "`data` of an error.",
        "properties": {
            "Code": code,
            "ServerID": {"type": "string", "description": "Who answers."},
            "Type": {"type": "string", "description": about},
            "Data": {"description": about},
        },
        "required": ["Code", "ServerID"],
    }


def _notifications() -> list[Schema]:
    text = {"type": "string"}
    subscription = _descriptor("Subscription", {"type": "integer"}, "Of which watch.", required=True)
    cursor = _descriptor("Cursor", text, "How far it came.", required=True)
    event = {"$ref": "#/components/schemas/JobEvent"}
    gap = {"$ref": "#/components/schemas/Gap"}
    return [
        _notification(
            "event",
            "What happened in a job, or how much was missed: one of the two.",
            subscription,
            _descriptor("Event", event, "What happened.", required=False),
            _descriptor("Gap", gap, "What was missed.", required=False),
        ),
        _notification(
            "watchEnded",
            "The last of a watch: its job has ended, the server does, or `unwatch` asked for it.",
            subscription,
            cursor,
            _descriptor("Error", text, "The fault that ended it.", required=False),
            _descriptor("Code", text, "The code of that fault.", required=False),
        ),
    ]


def _notification(name: str, summary: str, *params: Any) -> Schema:
    return {"name": name, "summary": summary, "paramStructure": "by-name", "params": list(params)}


DOCUMENTS: Final = Documents(lambda api: document(api.capabilities))
"""Of the servers of this process."""
