"""Rows of values: the form in which SQLite takes many rows fastest.

One statement inserts up to 512 rows; the driver keeps the six statements prepared. Called by a database's
`bulk_insert`; knows nothing of what the rows mean. (`executemany` binds and steps row by row, and takes the
interpreter's lock for each.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Table

from contest_runner.store.database import execute

SIZES = (512, 128, 32, 8, 2, 1)
"""How many rows one statement inserts: any number of rows is few statements, of few different texts."""


class RowsOfValues:
    """INSERT … VALUES (…), (…), … for one table."""

    def __init__(self, table: Table, *, mark: str, conflict: str = "") -> None:
        self._width = len(table.columns)
        names = ", ".join(column.name for column in table.columns)
        row = f"({', '.join([mark] * self._width)})"
        self._statements = [
            (size, f"INSERT INTO {table.name} ({names}) VALUES {', '.join([row] * size)} {conflict}")
            for size in SIZES
        ]

    def __call__(self, connection: Connection, cells: Sequence[Any]) -> None:
        """Insert the rows; `cells` are their values, row after row. Raises what the driver raises."""
        width = self._width
        at, end = 0, len(cells)
        for size, statement in self._statements:
            step = size * width
            while end - at >= step:
                execute(connection, statement, cells[at : at + step]).close()
                at += step
