"""What is committed together.

The writer gathers a `Batch` on the event loop and hands it to its thread.
"""

from __future__ import annotations

from asyncio import Future
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from contest_runner.store.schema import events

if TYPE_CHECKING:
    from contest_runner.store.writing import Writing

WIDTH = len(events.columns)
"""Cells of a row of events."""

BLANK = ("step", "payload")
"""Columns in which an empty cell stands for NULL: those that most rows have nothing in."""


class Operation:
    """What to do in the transaction, and who waits for its result."""

    __slots__ = ("future", "job_id", "run")

    def __init__(self, run: Callable[[Writing], Any], future: Future[Any], job_id: int | None) -> None:
        self.run = run
        self.future = future
        self.job_id = job_id
        """Of the job whose lease it asks for."""


class Batch:
    """Rows of events and operations that become one transaction: the rows, then the operations in order."""

    __slots__ = ("cells", "first", "operations", "waiters")

    def __init__(self, first: int) -> None:
        self.first = first
        """The feed position of its first row."""
        self.cells: list[Any] = []
        """The rows' values in the order of the table's columns, row after row: what a statement takes."""
        self.operations: list[Operation] = []
        self.waiters: list[Future[None]] = []
        """One for each task: a task that is cancelled cancels what it waits for, which nobody may share."""

    @property
    def last(self) -> int:
        """The feed position of its last row; before `first` where it has none."""
        return self.first + len(self.cells) // WIDTH - 1
