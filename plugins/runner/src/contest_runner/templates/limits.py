"""How much a template may cost: read by the parser and by the compiled closures."""

from __future__ import annotations

from typing import Final

from msgspec import Struct


class Limits(Struct, frozen=True, kw_only=True):
    """Bounds on one template; beyond one there is an error, never a hang and never a RecursionError."""

    tokens: int = 100_000
    """Tokens inside of `{{ }}`, comments and pieces of text in one template."""
    nesting: int = 50
    """Blocks and parentheses inside of each other."""
    depth: int = 100
    """Blocks inside of each other at run time, through templates that invoke each other."""
    output: int = 16 * 1024 * 1024
    """Characters that a template, or one function in it, may produce."""
    steps: int = 250_000
    """Nodes that are evaluated in one rendering; 16 characters of a long string count as one, a verb of `printf` as
    four. It takes about a second to reach."""


DEFAULT_LIMITS: Final = Limits()
