"""The known name that is nearest to a wrong one, for the findings of a descriptor.

Comparing is slow and a descriptor may have a million wrong names, so one reading compares only so often, and no
more than the beginning of a name.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final

MAX_HINTS: Final = 100
"""Nobody reads more of them."""

_LENGTH: Final = 64
"""Characters of a wrong name that are compared; no known one is so long."""


class Nearest:
    """Gives hints, until there have been enough of them."""

    def __init__(self, hints: int = MAX_HINTS) -> None:
        self._left = hints

    def to(self, wrong: str, known: Iterable[str]) -> str | None:
        """The nearest known name, as it is spelt; case does not matter. None where none is near."""
        if self._left <= 0:
            return None
        self._left -= 1
        spelt = {name.lower(): name for name in known}
        near = get_close_matches(wrong[:_LENGTH].lower(), spelt, n=1)
        return spelt[near[0]] if near else None
