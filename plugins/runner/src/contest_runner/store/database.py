"""What the store asks of a database, and what differs between them.

The store calls a `Database`; an implementation knows one kind: how to open it, what a batch of rows looks
like as statements, what an error means. SQLite is the one that exists (`contest_runner.store.sqlite`); another is
a module beside it and a line in `find`. All SQL elsewhere in the package is what every database understands.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from enum import Enum
from importlib import import_module
from logging import Logger, LoggerAdapter
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from sqlalchemy import Connection, Table
from sqlalchemy.engine import URL, Dialect, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.sql.expression import ClauseElement

from contest_runner.store.errors import StoreError

Log = Logger | LoggerAdapter[Logger]

Bulk = Callable[[Connection, Sequence[Any]], None]
"""Writes rows that are given as one flat sequence of their values, row after row."""

BulkSelect = Callable[[Connection, Sequence[Any]], list[tuple[Any, ...]]]
"""Finds the rows that have one of these keys."""

_KINDS = {"sqlite": "contest_runner.store.sqlite:SQLite"}


class Fault(Enum):
    """What an error of the database means."""

    REFUSED = "refused"
    """The statement or its values are at fault; others may do."""
    WAIT = "wait"
    """Nothing is wrong with the values: a full disk, a locked file. Trying again may help."""
    FATAL = "fatal"
    """Nothing more can be written: the database is damaged."""


class Database(ABC):
    """One database, open from `open` to `close`. Its methods block: they are called in threads."""

    one_server: ClassVar[bool]
    """True where `open` makes sure that no other process writes here: leases of earlier ones are void."""

    errors: tuple[type[Exception], ...]
    """What the driver and SQLAlchemy raise: for `explain`."""

    writer: Connection
    """For the one thread that writes, between `begin` and `commit` or `rollback`."""
    readers: Sequence[Connection]
    """Each for one thread at a time; each transaction sees one state of everything."""

    @abstractmethod
    def __init__(self, url: URL, *, directory: Path, log: Log, synchronous: str) -> None:
        """Do no I/O. Raises StoreError where the address or the setting is no good."""

    @abstractmethod
    def open(self) -> None:
        """Connect, make or migrate the tables. Raises StoreError, and then nothing is left open."""

    @abstractmethod
    def close(self) -> None:
        """Give everything back. May be called once, after every thread has let go."""

    @abstractmethod
    def interrupt(self, reader: Connection) -> None:
        """End the statement that this reader is in the middle of, if it is. Called from any thread."""

    @abstractmethod
    def begin(self) -> None:
        """Begin a transaction of the writer, with the right to write."""

    def commit(self) -> None:
        """End the writer's transaction: what it did is on disk when this returns."""
        self.writer.connection.commit()
        self._forget_transaction()

    def rollback(self) -> None:
        """End the writer's transaction, if there is one: it did nothing."""
        self.writer.connection.rollback()
        self._forget_transaction()

    def _forget_transaction(self) -> None:
        # The transactions are the driver's (SQLAlchemy's own are dear); one that SQLAlchemy thinks it has
        # begun, because an operation used it, is over.
        if self.writer.in_transaction():
            self.writer.rollback()

    @abstractmethod
    def numbers(self, table: Table) -> Iterator[int]:
        """Numbers for new rows of a table that count by themselves, never given before; for one transaction."""

    # Of the many rows of a statement most have nothing in some columns: there, in the columns `blank`, an empty text
    # stands for NULL. A driver may take twenty times as long over a None.

    @abstractmethod
    def bulk_insert(self, table: Table, conflict: str = "", blank: Collection[str] = ()) -> Bulk:
        """The fastest way to insert many rows, given by all columns; `conflict` is an ON CONFLICT clause."""

    @abstractmethod
    def bulk_update(
        self,
        table: Table,
        *,
        key: Sequence[str],
        columns: Sequence[str] = (),
        fixed: Mapping[str, str] | None = None,
        blank: Collection[str] = (),
    ) -> Bulk:
        """The fastest way to change many rows, given by `key` and `columns`; `fixed` columns get an SQL expression."""

    @abstractmethod
    def bulk_select(self, table: Table, key: str, columns: Sequence[str]) -> BulkSelect:
        """The fastest way to find many rows: what it gives has the key and these columns."""

    @abstractmethod
    def bulk_delete(self, table: Table, key: str) -> Bulk:
        """The fastest way to delete many rows, given by one column."""

    @abstractmethod
    def fault(self, error: Exception) -> Fault:
        """What an error means that was raised while executing; one that is not the database's is REFUSED."""

    @abstractmethod
    def explain(self, error: Exception) -> str:
        """The error as half a sentence for an operator, with what to do about it."""


def execute(connection: Connection, statement: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> Any:
    """Execute it with the driver's own cursor, and return that.

    What is written often goes this way: past SQLAlchemy a small statement costs a fifth.
    """
    cursor = connection.connection.cursor()
    cursor.execute(statement, values)
    return cursor


class _Compiled(NamedTuple):
    kind: type[Dialect]
    sql: str
    names: Sequence[str] | None
    """The parameters in their order; None where the driver takes them by name."""
    fixed: Mapping[str, Any]
    """The values that the statement itself brings."""


class Prepared:
    """A statement written in Core, compiled once, executed with named values.

    Values go to the driver as they are, so only types that every driver knows may be used: int, str, bytes,
    bool, None.
    """

    def __init__(self, statement: ClauseElement) -> None:
        self._statement = statement
        self._compiled: _Compiled | None = None

    def run(self, connection: Connection, **values: Any) -> int:
        """Execute it; how many rows it changed. The values are those of its bind parameters."""
        cursor = self._execute(connection, values)
        count: int = cursor.rowcount
        cursor.close()
        return count

    def rows(self, connection: Connection, **values: Any) -> list[tuple[Any, ...]]:
        """Execute it; all rows of its answer."""
        cursor = self._execute(connection, values)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
        cursor.close()
        return rows

    def row(self, connection: Connection, **values: Any) -> tuple[Any, ...] | None:
        """Execute it; the first row of its answer."""
        rows = self.rows(connection, **values)
        return rows[0] if rows else None

    def number(self, connection: Connection, **values: Any) -> int:
        """Execute it; the number that it answers with."""
        row = self.row(connection, **values)
        if row is None:
            raise StoreError("the database gave no number")
        return int(row[0])

    def _execute(self, connection: Connection, values: Mapping[str, Any]) -> Any:
        made = self._compiled
        if made is None or made.kind is not type(connection.dialect):
            made = self._compile(connection.dialect)
        if made.fixed:
            values = {**made.fixed, **values}
        if made.names is None:
            return execute(connection, made.sql, values)
        return execute(connection, made.sql, [values[name] for name in made.names])

    def _compile(self, dialect: Dialect) -> _Compiled:
        made: Any = self._statement.compile(dialect=dialect)
        fixed = {name: value for name, value in made.params.items() if value is not None}
        # One assignment: stores in other threads share this object.
        self._compiled = _Compiled(
            type(dialect), made.string, made.positiontup if made.positional else None, fixed
        )
        return self._compiled


def find(url: str) -> tuple[type[Database], URL]:
    """The kind of database that an address names, and the address taken apart. Raises StoreError."""
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise StoreError("the store's address cannot be read; one is sqlite:///contest.db") from error
    place = _KINDS.get(parsed.get_backend_name())
    if place is None:
        known = ", ".join(sorted(_KINDS))
        raise StoreError(f"no store of the kind {parsed.get_backend_name()!r}; there is: {known}")
    module, name = place.split(":")
    kind: type[Database] = getattr(import_module(module), name)
    return kind, parsed
