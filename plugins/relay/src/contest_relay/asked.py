"""From a message of the API to the parameters of a wire: everything that was asked goes along, and nothing else."""

from __future__ import annotations

from datetime import datetime

import msgspec

from contest_core import VERBS, Cursor, EventMsg, JobState
from contest_core.events import EventListMsg


def parameters_of(verb: str, message: EventMsg) -> dict[str, object]:
    """What a client is given, by wire names; what says no more than the default is left out, as ConTest has none."""
    asked = message.query if isinstance(message, EventListMsg) else message
    given: dict[str, object] = {"requestor": message.requestor}
    for parameter in VERBS[verb].parameters:
        value = getattr(asked, parameter.argument)
        if value != parameter.default:
            given[parameter.name] = _on_a_wire(value)
    return given


def _on_a_wire(value: object) -> object:
    if isinstance(value, tuple):
        return [_on_a_wire(each) for each in value]
    if isinstance(value, JobState):
        return value.wire_name
    if isinstance(value, datetime):
        return msgspec.to_builtins(value)
    return str(value) if isinstance(value, Cursor) else value
