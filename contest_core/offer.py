"""What a job manager offers, held against what is asked of it.

Used by `contest_core.admission` for the server's own, and by job managers that ask others.
"""

from __future__ import annotations

from contest_core.errors import Unsupported
from contest_core.events import EventListMsg, EventMsg
from contest_core.verbs import VERBS, Parameter


class Offer:
    """The capabilities of one job manager; refusals name `by`."""

    def __init__(self, capabilities: frozenset[str], *, by: str) -> None:
        self.capabilities = capabilities
        self._by = by
        self._lacking = {verb: _undeclared(verb, capabilities) for verb in VERBS}

    def lacks(self, verb: str, message: EventMsg) -> Unsupported | None:
        """The refusal of what is not offered, if the message asks for that."""
        lacking = self._lacking[verb]
        if lacking is None:
            return Unsupported(what=verb, by=self._by)
        asked = message.query if isinstance(message, EventListMsg) else message
        for parameter in lacking:
            if getattr(asked, parameter.argument) != parameter.default:
                return Unsupported(what=f"{parameter.name} of {verb}", by=self._by)
        return None


def _undeclared(verb: str, capabilities: frozenset[str]) -> tuple[Parameter, ...] | None:
    """Of a verb, the parameters that are not offered; None where it is the verb itself."""
    if verb not in capabilities:
        return None
    parameters = VERBS[verb].parameters
    return tuple(one for one in parameters if one.capability and one.capability not in capabilities)
