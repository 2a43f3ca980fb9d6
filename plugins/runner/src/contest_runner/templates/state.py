"""What one rendering carries along: made by a template for each target, passed through all of its closures."""

from __future__ import annotations

from typing import Any

from contest_runner.templates.functions import Variables


class Scope:
    """The variables of one definition while it runs; inner ones hide outer ones of the same name."""

    __slots__ = ("names", "values")

    def __init__(self, dot: object) -> None:
        self.names = ["$"]
        """What is declared, in order: its length is what `leave` takes."""
        self.values: dict[str, list[object]] = {"$": [dot]}
        """By name, the innermost last."""

    def declare(self, name: str, value: object) -> None:
        """A new variable."""
        self.names.append(name)
        self.values.setdefault(name, []).append(value)

    def leave(self, length: int) -> None:
        """Forgets what was declared since there were so many."""
        names, values = self.names, self.values
        while len(names) > length:
            values[names.pop()].pop()


class State:
    """One rendering. A `Rendering` to functions that read variables."""

    __slots__ = ("depth", "output", "scope", "size", "steps", "target", "variables")

    scope: Scope
    """Set only where the template has variables, and where one definition invokes another."""

    def __init__(self, target: Any, variables: Variables) -> None:
        self.target = target
        self.variables = variables
        self.output: list[str] = []
        self.size = 0
        """Characters in the output."""
        self.steps = 0
        """Work done so far, as `Limits.steps` counts it."""
        self.depth = 0
        """Of blocks around the definition that runs."""
