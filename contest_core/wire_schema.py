"""JSON Schema of what the wires carry, made from the table of verbs, the structs of answers and the table of errors.

Used by `contest_core.openrpc`, and by HTTP for OpenAPI: both documents say the same because it is said here. What is
described is one server: verbs and parameters that its job manager does not declare are left out. References have the
form that both formats share, `#/components/schemas/NAME`.
"""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import Any, Final, TypeAlias, get_args
from weakref import WeakKeyDictionary

import msgspec
from msgspec import Struct

from contest_core.api import API
from contest_core.caller import MAX_REQUESTOR_BYTES
from contest_core.config_schema import field_docs
from contest_core.errors import ERRORS, ContestError, Refusal, RequestError, ServerError
from contest_core.job_event import Gap, JobEvent
from contest_core.responses import (
    RESPONSE_TYPE_TO_NAME,
    ResponseData,
    ResponseDataList,
    ResponseDataLocks,
    ResponseDataRetry,
    ResponseDataStart,
    ResponseDataStatus,
    ResponseDataStop,
    ResponseDataValidate,
    ResponseDataVersion,
    ResponseDataWatch,
    ResponseType,
)
from contest_core.status import ZERO_TIME, Blame, JobState, Severity, Verdict
from contest_core.verbs import CURRENT_API_VERSION, VERBS, Parameter, Verb, api_version

Schema: TypeAlias = dict[str, Any]

DATA: Final[Mapping[ResponseType, type[ResponseData]]] = {
    kind.type: kind
    for kind in (
        ResponseDataStart,
        ResponseDataStop,
        ResponseDataStatus,
        ResponseDataRetry,
        ResponseDataVersion,
        ResponseDataList,
        ResponseDataValidate,
        ResponseDataLocks,
        ResponseDataWatch,
    )
}
"""What `Data` is, by the type of the answer."""

DESCRIPTION: Final = (
    "A server that runs test jobs on machines. A client passes over keys, codes and values that it does not know: "
    "later versions add some."
)
"""What both documents say of the server."""

_ENUMS: Final[Mapping[str, list[str]]] = {
    **{kind.__name__: [member.value for member in kind] for kind in (Severity, Verdict, Blame)},
    JobState.__name__: [state.wire_name for state in JobState],
}
_ANY_REFUSAL: Final = ("unsupported", "refused")
_QUOTED: Final = re.compile(r"`(\w+)`")


class Documents:
    """The encoded documents of servers, each made when it is first asked for, and anew when more is offered."""

    def __init__(self, make: Callable[[API], Schema]) -> None:
        self._make = make
        self._encoded: WeakKeyDictionary[API, tuple[frozenset[str], bytes]] = WeakKeyDictionary()

    async def of(self, api: API) -> bytes:
        """The document of this server."""
        offered, encoded = self._encoded.get(api, (None, b""))
        if offered is not api.capabilities:
            offered = api.capabilities
            # It takes a tenth of a second, in which nobody else would be answered.
            encoded = await asyncio.to_thread(lambda: msgspec.json.encode(self._make(api)))
            self._encoded[api] = (offered, encoded)
        return encoded


def offered(capabilities: Collection[str]) -> list[Verb]:
    """The verbs that a server answers whose job manager declares these, each with all the parameters that it takes."""
    found = []
    for verb in VERBS.values():
        if verb.event is None or verb.name in capabilities:
            taken = [
                each for each in verb.parameters if not each.capability or each.capability in capabilities
            ]
            found.append(msgspec.structs.replace(verb, parameters=(*taken, *_common(verb))))
    return found


# --- what is asked


def _common(verb: Verb) -> tuple[Parameter, Parameter]:
    """What every verb takes."""
    name: Schema = {"type": "string"}
    if verb.needs_requestor:
        name |= {"minLength": 1, "maxLength": MAX_REQUESTOR_BYTES, "pattern": r"^[^\u0000]*$"}
    requestor = Parameter(
        name="requestor",
        argument="requestor",
        convert=str,
        help=f"The name of who asks, 1 to {MAX_REQUESTOR_BYTES} bytes; declared, not proven.",
        required="requestor cannot be empty" if verb.needs_requestor else None,
        text=name,
        json=None,
    )
    version = Parameter(
        name="apiVersion",
        argument="api_version",
        convert=api_version,
        help="The version of the API that the client speaks; others are refused.",
        text={"type": "string", "enum": [str(CURRENT_API_VERSION)]},
        json={"type": "integer", "enum": [CURRENT_API_VERSION]},
    )
    return requestor, version


def in_json(parameter: Parameter) -> Schema:
    """What JSON may have for a parameter; null is none."""
    ways = [parameter.json] if parameter.json is not None else []
    ways.append(parameter.text)
    if not parameter.required:
        ways.append({"type": "null"})
    return dict(ways[0]) if len(ways) == 1 else {"anyOf": [dict(way) for way in ways]}


def parameters_object(verb: Verb, *, form: bool) -> Schema:
    """The parameters of an offered verb, by name; others are ignored in a form, and refused in JSON."""
    schema_of = as_text if form else in_json
    properties = {each.name: {**schema_of(each), "description": each.help} for each in verb.parameters}
    made = _object(properties, [each.name for each in verb.parameters if each.required])
    return made if form else made | {"additionalProperties": False}


def as_text(parameter: Parameter) -> Schema:
    """What a form or a query string may have for a parameter: as `in_json`, but that all is written as text."""
    number = parameter.json is not None and parameter.json["type"] == "integer"
    return dict(parameter.json or {}) if number else dict(parameter.text)


# --- what is answered


def answer(verb: Verb) -> Schema:
    """The object of an answer of the job manager: what HTTP has under 200, and JSON-RPC in `result`."""
    codes = refusals(verb)
    refused = "Why it is refused, a sentence for a person; null where it is not."
    properties = {
        "ServerID": {"type": "string", "description": "Who answers."},
        "Type": {"type": "string", "const": RESPONSE_TYPE_TO_NAME[verb.response]},
        "Data": _data(verb.response),
        "Error": {"type": ["string", "null"], "description": refused},
        "Code": code_of(codes) | {"description": f"Beside an `Error`.\n\n{explained(codes)}"},
    }
    if not codes:
        properties["Error"] = {"type": "null"}
        del properties["Code"]
    described = f"The answer to `{verb.name}`."
    return _object(properties, ["ServerID", "Type", "Data", "Error"]) | {"description": described}


def _data(kind: ResponseType) -> Schema:
    return {"$ref": f"#/components/schemas/{DATA[kind].__name__}"}


def unread(codes: Collection[str]) -> Schema:
    """The object for a request that never reached the job manager, and has one of these codes."""
    properties = {
        "Msg": {"type": "string", "description": "What is wrong, a sentence for a person."},
        "Code": code_of(codes),
    }
    described = "A request that never reached the job manager, or that the server could not answer."
    return _object(properties, ["Msg", "Code"]) | {"description": described}


def refusals(verb: Verb) -> list[str]:
    """The codes with which a job manager refuses a verb."""
    if verb.event is None:
        return []
    return [code for code in ERRORS if code in verb.refusals or code in _ANY_REFUSAL]


def code_of(codes: Collection[str]) -> Schema:
    """An error's code; there may be others later, to be taken as `internal`."""
    return {"type": "string", "x-extensible-enum": list(codes)}


def explained(codes: Collection[str]) -> str:
    """The codes and what they mean, as a list in Markdown."""
    meanings = error_meanings()
    return "\n".join(f"- `{code}`: {meanings[code]}." for code in codes)


def error_meanings() -> dict[str, str]:
    """The first sentence of what each code's class says of itself."""
    found: dict[str, str] = {}
    for root in (RequestError, Refusal, ServerError):
        for each in root.__subclasses__():
            if each.code in ERRORS and each.__module__ == ContestError.__module__:
                found.setdefault(each.code, _first_sentence(each))
    return found


def _first_sentence(kind: type) -> str:
    words = " ".join((inspect.getdoc(kind) or "").split())
    return re.split(r"\. |; |: `|\.$", words)[0]


# --- components


def components(capabilities: Collection[str]) -> dict[str, Schema]:
    """Every schema that the answers to what is offered refer to, by name."""
    verbs = offered(capabilities)
    roots: list[type[Struct]] = [DATA[verb.response] for verb in verbs]
    if "watch" in capabilities:
        roots += [JobEvent, Gap]
    _, found = msgspec.json.schema_components(roots, ref_template="#/components/schemas/{name}")
    for kind in _structs(roots):
        _describe(found[kind.__name__], kind)
    return found


def _structs(kinds: Collection[Any]) -> set[type[Struct]]:
    """These structs and all that they are made of."""
    found: set[type[Struct]] = set()
    left = list(kinds)
    while left:
        kind = left.pop()
        left += get_args(kind)
        if isinstance(kind, type) and issubclass(kind, Struct) and kind not in found:
            found.add(kind)
            left += [field.type for field in msgspec.structs.fields(kind)]
    return found


def _describe(schema: Schema, kind: type[Struct]) -> None:
    """Adds what msgspec leaves out: what the strings below the fields say, and that a time is one."""
    documented = field_docs(kind)
    schema["description"] = _on_the_wire(schema.get("description", ""), kind)
    for field in msgspec.structs.fields(kind):
        own = schema["properties"][field.encode_name]
        if field.name in documented:
            own["description"] = _on_the_wire(documented[field.name], kind)
        if field.type is datetime or datetime in get_args(field.type):
            (own["anyOf"][0] if "anyOf" in own else own)["format"] = "date-time"


def _on_the_wire(text: str, kind: type[Struct]) -> str:
    """What a docstring says, in the words of the wire: its names, null for None, an enum's values for its name."""
    names = {field.name: field.encode_name for field in msgspec.structs.fields(kind)}

    def renamed(found: re.Match[str]) -> str:
        word = found[1]
        if word in _ENUMS:
            return ", ".join(f"`{value}`" for value in _ENUMS[word])
        if word == "ZERO_TIME":
            return f"`{msgspec.to_builtins(ZERO_TIME)}`"
        return f"`{names.get(word, word)}`"

    return re.sub(r"\bNone\b", "null", _QUOTED.sub(renamed, text))


def _object(properties: Schema, required: list[str]) -> Schema:
    return {"type": "object", "properties": properties, **({"required": required} if required else {})}
