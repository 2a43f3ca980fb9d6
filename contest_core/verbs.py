"""The one table of verbs: parameters, event, answer, permission, and whether a verb only reads.

Transports and the command line are made from it: it says how a wire's parameter (a form's text, or JSON)
becomes the typed argument of the API's method. It knows neither transports nor job managers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

import msgspec
from msgspec import Struct

from contest_core.errors import InvalidParameters
from contest_core.events import EventType
from contest_core.job_event import Cursor
from contest_core.responses import ResponseType
from contest_core.status import JobState

CURRENT_API_VERSION: Final = 5
"""ConTest's `CurrentAPIVersion`; 0 is an error indicator."""


class Form(dict[str, str]):
    """Parameters from a form: all values are text, and names that a verb does not have are ignored."""


class Parameter(Struct, frozen=True, kw_only=True):
    """A parameter as it is on the wires."""

    name: str
    """Its wire name."""
    argument: str
    """The argument of the API's method."""
    convert: Callable[[object], Any]
    """From text or JSON to the argument; raises `ValueError` with a reason."""
    help: str
    required: str | None = None
    """Why it cannot be missing, in ConTest's words; None where it can."""
    capability: str | None = None
    """What the job manager has to declare before this may be given."""
    default: Any = None
    """The argument's value where the parameter is not given."""
    text: Mapping[str, Any]
    """The JSON Schema of what `convert` takes as text: from a form, a query string, or JSON."""
    json: Mapping[str, Any] | None
    """The JSON Schema of what JSON may have in place of the text; None where that is nothing else."""


class Verb(Struct, frozen=True, kw_only=True):
    """One verb."""

    name: str
    summary: str
    event: EventType | None
    """None for `version`, which the API answers itself."""
    response: ResponseType
    reads: bool
    """It changes nothing, so it is cancelled when its caller goes away."""
    parameters: tuple[Parameter, ...] = ()
    needs_requestor: bool = True
    refusals: tuple[str, ...] = ()
    """Codes of errors with which a job manager refuses it, beside `unsupported`."""

    @property
    def permission(self) -> str:
        """The scope that a principal needs."""
        return self.name


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("must be a string")
    return value


def _integer(value: object) -> int:
    if isinstance(value, str):
        digits = value[1:] if value[:1] in ("+", "-") else value
        # As Go's ParseInt reads it; int() would also take spaces, underscores and other scripts' digits.
        if digits.isascii() and digits.isdigit():
            value = _in_range(digits.lstrip("0") or "0", value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # JSON has one kind of number: 7.0 is 7 to its schemas, and to some who write it
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{_shown(value)} is not a decimal number")
    if not -(2**63) <= value < 2**63:
        raise ValueError("the number is out of range (64 bits)")
    return value


def _in_range(digits: str, text: str) -> int:
    # Longer than any 64-bit number; int() is quadratic, and refuses very long ones in words of its own.
    value = int(digits) if len(digits) <= 19 else 1 << 64
    return -value if text.startswith("-") else value


def _shown(value: object) -> str:
    """What was given, cut short; of what is no scalar only its kind, which may be megabytes."""
    if isinstance(value, str):
        return repr(value[:40])
    return repr(value) if isinstance(value, bool | float) else f"a {type(value).__name__}"


def _job_id(value: object) -> int:
    if value == "":
        raise ValueError("job ID cannot be empty")
    return _integer(value)


def _boolean(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if value in ("true", "1"):
        return True
    if value in ("false", "0"):
        return False
    raise ValueError(f"{_shown(value)} is neither true nor false")


def _descriptor(value: object) -> str:
    if isinstance(value, dict):
        return msgspec.json.encode(value).decode()
    if not isinstance(value, str):
        raise ValueError("must be a JSON object, or its text")
    if not value:
        raise ValueError("Missing job description")
    return value


def _names(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return tuple(value.split(",")) if value else ()
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    raise ValueError("must be a list of names, or names with commas between")


def _cursor(value: object) -> Cursor:
    return Cursor(_text(value))


def _time(value: object) -> datetime:
    if not isinstance(value, str):
        raise ValueError("must be a time as text, 2026-11-25T10:00:00Z")
    try:
        time: datetime = msgspec.convert(value, datetime)
        if time.tzinfo is not None:
            return time
    except msgspec.ValidationError:
        pass
    raise ValueError(f"{_shown(value)} is no time (RFC 3339): write one like 2026-11-25T10:00:00Z")


def _states(value: object) -> tuple[JobState, ...]:
    states = []
    for name in _names(value):
        state = JobState.from_wire(name)
        if state is JobState.UNKNOWN:
            known = ", ".join(known.wire_name for known in JobState if known)
            raise ValueError(f"invalid job state {name[:40]!r}; there are {known}")
        states.append(state)
    return tuple(states)


def _start_key(value: object) -> str:
    # Its bytes are counted where it is used, also by programs.
    return _text(value)


_TEXT: Final = {"type": "string"}
_NUMBER: Final = {"type": "string", "pattern": "^[-+]?0*[0-9]{1,18}$"}
_INTEGER: Final = {"type": "integer", "format": "int64", "minimum": -(2**63), "maximum": 2**63 - 1}
_STATES: Final = [state.wire_name for state in JobState if state]
_STATE: Final = f"({'|'.join(_STATES)})"

_SCHEMAS: Final[Mapping[Callable[[object], Any], tuple[Mapping[str, Any], Mapping[str, Any] | None]]] = {
    _text: (_TEXT, None),
    _start_key: ({"type": "string", "minLength": 1, "maxLength": 256}, None),
    _cursor: (_TEXT, None),
    _integer: (_NUMBER, _INTEGER),
    _job_id: (_NUMBER, _INTEGER),
    _boolean: ({"type": "string", "enum": ["true", "1", "false", "0"]}, {"type": "boolean"}),
    _descriptor: ({"type": "string", "minLength": 1}, {"type": "object"}),
    _names: (_TEXT, {"type": "array", "items": _TEXT}),
    _states: (
        {"type": "string", "pattern": f"^({_STATE}(,{_STATE})*)?$"},
        {"type": "array", "items": {"type": "string", "enum": _STATES}},
    ),
    _time: ({"type": "string", "format": "date-time"}, None),
}
"""What each conversion takes, as text and in JSON."""


def _parameter(
    name: str, argument: str, convert: Callable[[object], Any], help: str, **more: Any
) -> Parameter:
    text, json = _SCHEMAS[convert]
    return Parameter(name=name, argument=argument, convert=convert, help=help, text=text, json=json, **more)


_JOB_ID = _parameter("jobID", "job_id", _job_id, "The job's number.", required="job ID cannot be empty")
_JOB_DESC = _parameter(
    "jobDesc",
    "job_descriptor",
    _descriptor,
    "The job descriptor: a JSON object, or its text.",
    required="Missing job description",
)

VERBS: Mapping[str, Verb] = {
    verb.name: verb
    for verb in (
        Verb(
            name="start",
            summary="Start a job.",
            event=EventType.START,
            response=ResponseType.START,
            reads=False,
            refusals=("invalid_descriptor", "start_key_conflict"),
            parameters=(
                _JOB_DESC,
                _parameter(
                    "startKey",
                    "start_key",
                    _start_key,
                    "Makes it safe to ask again.",
                    capability="start.start_key",
                ),
                _parameter(
                    "strict",
                    "strict",
                    _boolean,
                    "Take warnings for errors.",
                    capability="start.strict",
                    default=False,
                ),
            ),
        ),
        Verb(
            name="stop",
            summary="Stop a job.",
            event=EventType.STOP,
            response=ResponseType.STOP,
            reads=False,
            refusals=("unknown_job", "job_ended"),
            parameters=(_JOB_ID,),
        ),
        Verb(
            name="status",
            summary="Show the status of a job.",
            event=EventType.STATUS,
            response=ResponseType.STATUS,
            reads=True,
            refusals=("unknown_job", "invalid_parameters"),
            parameters=(
                _JOB_ID,
                _parameter("run", "run", _integer, "Only this run.", capability="status.run"),
                _parameter("test", "test", _text, "Only this test.", capability="status.test"),
                _parameter("target", "target", _text, "Only this target.", capability="status.target"),
                _parameter(
                    "events",
                    "events",
                    _boolean,
                    "With the events of steps.",
                    capability="status.events",
                    default=True,
                ),
            ),
        ),
        Verb(
            name="retry",
            summary="Run an ended job again, as a new job.",
            event=EventType.RETRY,
            response=ResponseType.RETRY,
            reads=False,
            refusals=("unknown_job", "job_running", "invalid_descriptor", "invalid_parameters"),
            parameters=(
                _JOB_ID,
                _parameter(
                    "failedOnly",
                    "failed_only",
                    _boolean,
                    "Only targets that failed.",
                    capability="retry.failed_only",
                    default=False,
                ),
            ),
        ),
        Verb(
            name="list",
            summary="List jobs.",
            event=EventType.LIST,
            response=ResponseType.LIST,
            reads=True,
            refusals=("invalid_parameters",),
            parameters=(
                _parameter("states", "states", _states, "In any of these states.", default=()),
                _parameter("tags", "tags", _names, "With all of these tags.", default=()),
                _parameter(
                    "requestors",
                    "requestors",
                    _names,
                    "Of any of these requestors.",
                    capability="list.requestors",
                    default=(),
                ),
                _parameter(
                    "name", "name", _text, "Of this name; * and ? are wildcards.", capability="list.name"
                ),
                _parameter("since", "since", _time, "Begun then or later.", capability="list.since"),
                _parameter("until", "until", _time, "Begun before.", capability="list.until"),
                _parameter(
                    "limit", "limit", _integer, "At most so many, the newest.", capability="list.limit"
                ),
                _parameter(
                    "cursor", "cursor", _text, "Behind those of an earlier answer.", capability="list.cursor"
                ),
            ),
        ),
        Verb(
            name="version",
            summary="Show the API's version.",
            event=None,
            response=ResponseType.VERSION,
            reads=True,
            needs_requestor=False,
        ),
        Verb(
            name="validate",
            summary="Check a job descriptor and run nothing.",
            event=EventType.VALIDATE,
            response=ResponseType.VALIDATE,
            reads=True,
            refusals=("invalid_descriptor",),
            parameters=(
                _JOB_DESC,
                _parameter(
                    "plan",
                    "plan",
                    _boolean,
                    "With what each target would be given.",
                    capability="validate.plan",
                    default=False,
                ),
            ),
        ),
        Verb(
            name="locks",
            summary="List locked targets.",
            event=EventType.LOCKS,
            response=ResponseType.LOCKS,
            reads=True,
        ),
        Verb(
            name="watch",
            summary="Follow the events of a job, or of all.",
            event=EventType.WATCH,
            response=ResponseType.WATCH,
            reads=True,
            refusals=("unknown_job",),
            parameters=(
                _parameter("jobID", "job_id", _job_id, "Only of this job, to its end.", default=None),
                _parameter("since", "since", _cursor, "From behind this cursor.", default=None),
            ),
        ),
    )
}
"""By name. A new verb is a row here, a method of `API` and of `JobManager`, and a capability."""

COMMON = frozenset({"requestor", "apiVersion"})
"""Parameters that every verb has."""

_NAMES = {verb.name: COMMON.union(parameter.name for parameter in verb.parameters) for verb in VERBS.values()}
"""The parameters of each verb."""


def arguments(verb: Verb, parameters: Mapping[str, object]) -> dict[str, Any]:
    """The arguments of the API's method from a wire's parameters.

    Raises `InvalidParameters`; in JSON also for a name that the verb does not have. In a form an empty text is
    the same as none, in JSON null is.
    """
    found: dict[str, Any] = {}
    empty = "" if isinstance(parameters, Form) else None
    for parameter in verb.parameters:
        value = parameters.get(parameter.name)
        if value is None or value == empty:
            if parameter.required:
                label = verb.name.capitalize()
                raise InvalidParameters(reason=parameter.required, parameter=parameter.name, verb=label)
            continue
        try:
            found[parameter.argument] = parameter.convert(value)
        except ValueError as error:
            reason, label = f"{parameter.name}: {error}", verb.name.capitalize()
            raise InvalidParameters(reason=reason, parameter=parameter.name, verb=label) from None
    if not isinstance(parameters, Form):
        _refuse_unknown(verb, parameters)
    return found


def api_version(value: object) -> int:
    """The API version that a client asks for. Raises `InvalidParameters`."""
    try:
        return _integer(value)
    except ValueError as error:
        raise InvalidParameters(reason=f"apiVersion: {error}", parameter="apiVersion") from None


def _refuse_unknown(verb: Verb, parameters: Mapping[str, object]) -> None:
    known = _NAMES[verb.name]
    for name in parameters:
        if name not in known:
            own = [parameter.name for parameter in verb.parameters]
            there = ", ".join([*own, *sorted(COMMON)])
            raise InvalidParameters(
                reason=f"no parameter {name[:60]!r}; there are {there}",
                parameter=name,
                verb=verb.name.capitalize(),
            )
