"""Statements for many rows: the form in which SQLite takes them fastest.

One statement takes up to 512 rows; the driver keeps the statements prepared. Made by a database's `bulk_…` methods;
knows nothing of what the rows mean. (`executemany` binds and steps row by row, and
takes the interpreter's lock for each.)

Python's driver takes twenty times as long over a None as over a text. So in the columns called `blank`, where most rows
have nothing, nothing is an empty text.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Table

from contest_runner.store.database import execute

SIZES = (512, 128, 32, 8, 2, 1)
"""How many rows one statement takes: any number of rows is few statements, of few different texts."""


def _pieces(cells: Sequence[Any], width: int) -> Iterator[tuple[int, Sequence[Any]]]:
    """The rows in pieces for which there are statements: how many rows, and their cells."""
    at, end = 0, len(cells)
    for size in SIZES:
        step = size * width
        while end - at >= step:
            yield size, cells[at : at + step]
            at += step


def _list(mark: str, size: int) -> str:
    return f"({', '.join([mark] * size)})"


class InsertOfValues:
    """INSERT … VALUES (…), (…), … for one table.

    A blank column in which no row of a statement has anything is left out.
    """

    def __init__(self, table: Table, *, mark: str, conflict: str = "", blank: Collection[str] = ()) -> None:
        self._table = table.name
        self._names = [column.name for column in table.columns]
        self._mark = mark
        self._conflict = conflict
        self._blank = [place for place, name in enumerate(self._names) if name in blank][::-1]
        self._statement = lru_cache(maxsize=None)(self._text)

    def __call__(self, connection: Connection, cells: Sequence[Any]) -> None:
        """Insert the rows; `cells` are their values, row after row. Raises what the driver raises."""
        width = len(self._names)
        for size, some in _pieces(cells, width):
            absent = [place for place in self._blank if some[place::width].count("") == size]
            kept = self._without(absent, some) if absent else some
            execute(connection, self._statement(size, tuple(absent)), kept).close()

    def _without(self, absent: Sequence[int], cells: Sequence[Any]) -> list[Any]:
        kept, width = list(cells), len(self._names)
        # From the right, so that the places of the others stay.
        for place in absent:
            del kept[place::width]
            width -= 1
        return kept

    def _text(self, size: int, absent: tuple[int, ...]) -> str:
        there = [place for place in range(len(self._names)) if place not in absent]
        names = ", ".join(self._names[place] for place in there)
        marks = [f"NULLIF({self._mark}, '')" if place in self._blank else self._mark for place in there]
        rows = ", ".join([f"({', '.join(marks)})"] * size)
        return f"INSERT INTO {self._table} ({names}) VALUES {rows} {self._conflict}"


class SelectOfValues:
    """SELECT … WHERE … IN (…) from one table."""

    def __init__(self, table: Table, *, mark: str, key: str, columns: Sequence[str]) -> None:
        self._begin = f"SELECT {', '.join([key, *columns])} FROM {table.name} WHERE {key} IN"
        self._mark = mark

    def __call__(self, connection: Connection, cells: Sequence[Any]) -> list[tuple[Any, ...]]:
        """The keys that were found and their columns. Raises what the driver raises."""
        found: list[tuple[Any, ...]] = []
        for size, some in _pieces(cells, 1):
            cursor = execute(connection, f"{self._begin} {_list(self._mark, size)}", some)
            found += cursor.fetchall()
            cursor.close()
        return found


class UpdateOfValues:
    """UPDATE … FROM (VALUES …) for one table: each row of values changes the rows that have its key."""

    def __init__(
        self,
        table: Table,
        *,
        mark: str,
        key: Sequence[str],
        columns: Sequence[str] = (),
        fixed: Mapping[str, str] | None = None,
        blank: Collection[str] = (),
    ) -> None:
        self._table = table.name
        self._key = key
        self._names = [*key, *columns]
        self._mark = mark
        changes = {name: f"NULLIF(v.{name}, '')" if name in blank else f"v.{name}" for name in columns}
        self._changes = changes | dict(fixed or {})
        self._statement = lru_cache(maxsize=None)(self._text)

    def __call__(self, connection: Connection, cells: Sequence[Any]) -> None:
        """Change them; `cells` are each row's key and values, row after row. Raises what the driver raises."""
        for size, some in _pieces(cells, len(self._names)):
            execute(connection, self._statement(size), some).close()

    def _text(self, size: int) -> str:
        row = _list(self._mark, len(self._names))
        values = f"WITH v({', '.join(self._names)}) AS (VALUES {', '.join([row] * size)})"
        changes = ", ".join(f"{name} = {value}" for name, value in self._changes.items())
        same = " AND ".join(f"{self._table}.{name} = v.{name}" for name in self._key)
        return f"{values} UPDATE {self._table} SET {changes} FROM v WHERE {same}"


class DeleteOfValues:
    """DELETE … WHERE … IN (…) for one table."""

    def __init__(self, table: Table, *, mark: str, key: str) -> None:
        self._begin = f"DELETE FROM {table.name} WHERE {key} IN"
        self._mark = mark

    def __call__(self, connection: Connection, cells: Sequence[Any]) -> None:
        """Delete the rows that have these keys. Raises what the driver raises."""
        for size, some in _pieces(cells, 1):
            execute(connection, f"{self._begin} {_list(self._mark, size)}", some).close()
