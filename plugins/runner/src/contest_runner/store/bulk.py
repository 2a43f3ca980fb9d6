"""Rows of values: the form in which SQLite takes many rows fastest.

One statement inserts up to 512 rows; the driver keeps the statements prepared. Called by a database's
`bulk_insert`; knows nothing of what the rows mean. (`executemany` binds and steps row by row, and takes the
interpreter's lock for each.)
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Table

from contest_runner.store.database import execute

SIZES = (512, 128, 32, 8, 2, 1)
"""How many rows one statement inserts: any number of rows is few statements, of few different texts."""


class RowsOfValues:
    """INSERT … VALUES (…), (…), … for one table.

    Python's driver takes twenty times as long over a None as over a text. In the columns `blank`, where most rows have
    nothing, nothing is an empty text; where no row of a statement has anything there, it leaves the column out.
    """

    def __init__(self, table: Table, *, mark: str, conflict: str = "", blank: Collection[str] = ()) -> None:
        self._table = table.name
        self._names = [column.name for column in table.columns]
        self._width = len(self._names)
        self._mark = mark
        self._conflict = conflict
        self._blank = [place for place, name in enumerate(self._names) if name in blank][::-1]
        self._statement = lru_cache(maxsize=None)(self._text)

    def __call__(self, connection: Connection, cells: Sequence[Any]) -> None:
        """Insert the rows; `cells` are their values, row after row. Raises what the driver raises."""
        width = self._width
        at, end = 0, len(cells)
        for size in SIZES:
            step = size * width
            while end - at >= step:
                some = cells[at : at + step]
                absent = [place for place in self._blank if not any(some[place::width])]
                if absent:
                    some = self._without(absent, some)
                execute(connection, self._statement(size, tuple(absent)), some).close()
                at += step

    def _without(self, absent: Sequence[int], cells: Sequence[Any]) -> list[Any]:
        kept, width = list(cells), self._width
        # From the right, so that the places of the others stay.
        for place in absent:
            del kept[place::width]
            width -= 1
        return kept

    def _text(self, size: int, absent: tuple[int, ...]) -> str:
        there = [place for place in range(self._width) if place not in absent]
        names = ", ".join(self._names[place] for place in there)
        marks = [f"NULLIF({self._mark}, '')" if place in self._blank else self._mark for place in there]
        rows = ", ".join([f"({', '.join(marks)})"] * size)
        return f"INSERT INTO {self._table} ({names}) VALUES {rows} {self._conflict}"
