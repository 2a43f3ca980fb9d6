"""The one table of verbs: parameters, event, answer, permission, and whether a verb only reads.

Transports and the command line are made from it: it says how a wire's parameter (a form's text, or JSON)
becomes the typed argument of the API's method. It knows neither transports nor job managers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
from msgspec import Struct

from contest_core.errors import InvalidParameters
from contest_core.events import EventType
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

    @property
    def permission(self) -> str:
        """The scope that a principal needs."""
        return self.name


_INTEGER = re.compile(r"[+-]?[0-9]{1,19}", re.ASCII)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("must be a string")
    return value


def _integer(value: object) -> int:
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{str(value)[:40]!r} is not a decimal number")
    if not -(2**63) <= value < 2**63:
        raise ValueError(f"{value} is out of range (64 bits)")
    return value


def _job_id(value: object) -> int:
    if value is None or value == "":
        raise ValueError("job ID cannot be empty")
    return _integer(value)


def _boolean(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if value in ("true", "1"):
        return True
    if value in ("false", "0", ""):
        return False
    raise ValueError(f"{str(value)[:40]!r} is neither true nor false")


def _descriptor(value: object) -> str:
    if isinstance(value, dict):
        return msgspec.json.encode(value).decode()
    if not isinstance(value, str) or not value:
        raise ValueError("Missing job description")
    return value


def _names(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return tuple(value.split(",")) if value else ()
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    raise ValueError("must be a list of names, or names with commas between")


def _states(value: object) -> tuple[JobState, ...]:
    states = []
    for name in _names(value):
        state = JobState.from_wire(name)
        if state is JobState.UNKNOWN:
            known = ", ".join(known.wire_name for known in JobState if known)
            raise ValueError(f"invalid job state {name[:40]!r}; there are {known}")
        states.append(state)
    return tuple(states)


def _parameter(name: str, convert: Callable[[object], Any], help: str, **more: Any) -> Parameter:
    argument = more.pop("argument", None) or re.sub(r"(?<=[a-z])[A-Z]+", lambda m: "_" + m[0], name).lower()
    return Parameter(name=name, argument=argument, convert=convert, help=help, **more)


_JOB_ID = _parameter("jobID", _job_id, "The job's number.", required="job ID cannot be empty")
_JOB_DESC = _parameter(
    "jobDesc",
    _descriptor,
    "The job descriptor: a JSON object, or its text.",
    argument="job_descriptor",
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
            parameters=(
                _JOB_DESC,
                _parameter("startKey", _text, "Makes it safe to ask again.", capability="start.start_key"),
                _parameter("strict", _boolean, "Take warnings for errors.", capability="start.strict"),
            ),
        ),
        Verb(
            name="stop",
            summary="Stop a job.",
            event=EventType.STOP,
            response=ResponseType.STOP,
            reads=False,
            parameters=(_JOB_ID,),
        ),
        Verb(
            name="status",
            summary="Show the status of a job.",
            event=EventType.STATUS,
            response=ResponseType.STATUS,
            reads=True,
            parameters=(
                _JOB_ID,
                _parameter("run", _integer, "Only this run.", capability="status.run"),
                _parameter("test", _text, "Only this test.", capability="status.test"),
                _parameter("target", _text, "Only this target.", capability="status.target"),
                _parameter("events", _boolean, "With the events of steps.", capability="status.events"),
            ),
        ),
        Verb(
            name="retry",
            summary="Run an ended job again, as a new job.",
            event=EventType.RETRY,
            response=ResponseType.RETRY,
            reads=False,
            parameters=(
                _JOB_ID,
                _parameter(
                    "failedOnly", _boolean, "Only targets that failed.", capability="retry.failed_only"
                ),
            ),
        ),
        Verb(
            name="list",
            summary="List jobs.",
            event=EventType.LIST,
            response=ResponseType.LIST,
            reads=True,
            parameters=(
                _parameter("states", _states, "In any of these states."),
                _parameter("tags", _names, "With all of these tags."),
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
            parameters=(_JOB_DESC,),
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
        ),
    )
}
"""By name. A new verb is a row here, a method of `API` and of `JobManager`, and a capability."""

COMMON = frozenset({"requestor", "apiVersion"})
"""Parameters that every verb has."""


def arguments(verb: Verb, parameters: Mapping[str, object]) -> dict[str, Any]:
    """The arguments of the API's method from a wire's parameters.

    Raises `InvalidParameters`; in JSON also for a name that the verb does not have.
    """
    found: dict[str, Any] = {}
    label = verb.name.capitalize()
    for parameter in verb.parameters:
        value = parameters.get(parameter.name)
        if value is None:
            if parameter.required:
                raise InvalidParameters(reason=parameter.required, parameter=parameter.name, verb=label)
            continue
        try:
            found[parameter.argument] = parameter.convert(value)
        except ValueError as error:
            reason = f"{parameter.name}: {error}"
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
    known = [parameter.name for parameter in verb.parameters]
    for name in parameters:
        if name not in known and name not in COMMON:
            there = ", ".join([*known, *sorted(COMMON)])
            raise InvalidParameters(
                reason=f"no parameter {name[:60]!r}; there are {there}",
                parameter=name,
                verb=verb.name.capitalize(),
            )
