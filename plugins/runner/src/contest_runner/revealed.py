"""Secrets that template functions give: where a template is rendered they become text, and somebody masks that text.

`reveal` is what `contest_runner.templates` asks about what a function returned. Whoever renders says before where what
was revealed is to be kept: the runner, in the context of a job's task, the set of what is masked in that job.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final

from contest_core import Secret

REVEALED: Final[ContextVar[set[str] | None]] = ContextVar("REVEALED", default=None)
"""Where what is revealed is kept. Tasks that are made below inherit it."""


def reveal(value: object) -> object:
    """The text of a secret, which is kept as revealed; anything else as it is."""
    if not isinstance(value, Secret):
        return value
    kept = REVEALED.get()
    if kept is None or not value:
        # Where nobody masks, nobody reads it.
        return str(value) if value else ""
    kept.add(value.reveal())
    return value.reveal()
