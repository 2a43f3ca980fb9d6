"""What a row of the benchmark is. The rows are in `rows` and `wires`; `results` takes them."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

from msgspec import Struct


class RowFailed(Exception):
    """A figure could not be taken; says why."""


class Sample(Struct, frozen=True, kw_only=True):
    """One round of a row."""

    ours: float
    """Things a second; of times, seconds; of memory, bytes."""
    yardstick: float | None
    cpu: float | None = None
    """Microseconds of our processor time a thing."""
    yardstick_cpu: float | None = None
    """The same of the yardstick."""
    peak: int = 0
    """Bytes."""
    beside: float | None = None
    """What went on beside it, a second."""


class Row(Struct, frozen=True, kw_only=True):
    """One row."""

    name: str
    what: str
    unit: str
    yardstick: str
    """What it is held against; empty where it is a bound of its own."""
    needs: tuple[str, ...] = ("contest_steps",)
    """Packages without which it cannot be measured."""
    at_least: float | None = None
    """What ours by the yardstick has to be. Without this and `at_most`, the row only tells."""
    at_most: float | None = None
    """What ours by the yardstick may be; of memory, bytes."""
    peak_below: int | None = None
    beside: str = ""
    """What `Sample.beside` counts."""
    sample: Callable[[float], Sample]

    def missing(self) -> list[str]:
        """What of `needs` is not installed, by the distributions' names."""
        return [name.replace("_", "-") for name in self.needs if find_spec(name) is None]
