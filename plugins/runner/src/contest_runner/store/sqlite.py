"""The store's database as a SQLite file: the only module that knows SQLite.

The file is in WAL mode, so readers and the writer do not wait for each other. One process serves from it: it
holds a lock of the operating system on `FILE.lock`, which dies with it. Without a path the database is
private: a file that has no name any more when `open` returns, so that nothing is left whatever happens.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import count
from pathlib import Path

from sqlalchemy import Connection, Table, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from contest_runner.store import schema
from contest_runner.store.bulk import DeleteOfValues, InsertOfValues, SelectOfValues, UpdateOfValues
from contest_runner.store.database import Bulk, BulkSelect, Database, Fault, Log, execute
from contest_runner.store.errors import StoreError, StoreLocked, StoreTooNew

READERS = 2
"""Connections for reading, and so threads."""

BUSY_SECONDS = 2.0
"""How long SQLite itself waits for another program that holds the file, before it is a fault."""

_SYNCHRONOUS = ("full", "normal", "off")
_APPLICATION = 0x436F6E54  # "ConT": the file says whose it is

# What another try may mend.
_WAIT = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_READONLY,
}
_FATAL = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}

_WORDS = {
    sqlite3.SQLITE_BUSY: "{file} is locked by another program: end its transaction",
    sqlite3.SQLITE_CANTOPEN: "{file} cannot be opened: see that its directory exists and may be written",
    sqlite3.SQLITE_CORRUPT: "{file} is damaged ({error}): restore a backup, or name another file",
    sqlite3.SQLITE_FULL: "the disk of {file} is full: make room",
    sqlite3.SQLITE_IOERR: "the disk of {file} gives errors ({error})",
    sqlite3.SQLITE_LOCKED: "{file} is locked by another program: end its transaction",
    sqlite3.SQLITE_NOTADB: "{file} is no SQLite database: name another file",
    sqlite3.SQLITE_PERM: "no permission to use {file}",
    sqlite3.SQLITE_READONLY: "{file} cannot be written: see its permissions, and that nobody moved it",
}


class SQLite(Database):
    """See the module."""

    one_server = True
    errors = (DBAPIError, sqlite3.Error)

    def __init__(self, url: URL, *, directory: Path, log: Log, synchronous: str) -> None:
        if synchronous not in _SYNCHRONOUS:
            raise StoreError(f"synchronous is one of {', '.join(_SYNCHRONOUS)}, not {synchronous!r}")
        if url.query or url.host:
            raise StoreError("the address of a SQLite store is sqlite:///PATH and nothing else")
        self._private = url.database in (None, "", ":memory:")
        self._file = Path(".") if self._private else directory / str(url.database)
        self._synchronous = "off" if self._private else synchronous
        self._log = log
        self._lock: int | None = None
        self._drivers: list[sqlite3.Connection] = []
        self._connections: list[Connection] = []

    def open(self) -> None:
        """Lock the file, connect, make or migrate the tables."""
        try:
            self._open()
        except BaseException as error:
            self.close()
            if isinstance(error, OSError):
                raise StoreError(_why_not(self._file, error)) from error
            if isinstance(error, self.errors):
                raise StoreError(self.explain(error)) from error
            raise

    def _open(self) -> None:
        if self._private:
            self._file = Path(tempfile.mkdtemp(prefix="contest-")) / "store.db"
        else:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._file.resolve()
            self._lock = _lock(self._file)
        engine = create_engine("sqlite://", creator=self._connect, poolclass=NullPool, hide_parameters=True)
        self.writer = engine.connect()
        self._connections.append(self.writer)
        self._prepare_tables()
        self.readers = [engine.connect() for _ in range(READERS)]
        self._connections.extend(self.readers)
        for reader in self.readers:
            event.listen(reader, "begin", _begin)
            reader.exec_driver_sql("PRAGMA query_only = ON")
            # Reading opens the files beside the database, which `_forget_names` then may remove.
            reader.exec_driver_sql("SELECT count(*) FROM meta").close()
            reader.rollback()
        if self._private:
            self._forget_names()

    def _connect(self) -> sqlite3.Connection:
        # Transactions are begun by `_begin`, not by the driver's guess; threads take turns.
        driver = sqlite3.connect(
            self._file, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        self._drivers.append(driver)
        with closing(driver.execute("PRAGMA journal_mode = WAL")) as answer:
            (mode,) = answer.fetchone()
        if mode != "wal":
            raise StoreError(f"{self._file} lies on a file system without shared memory: use a local disk")
        driver.execute(f"PRAGMA synchronous = {self._synchronous}")
        return driver

    def _prepare_tables(self) -> None:
        self.begin()
        version = self._pragma("user_version")
        application = self._pragma("application_id")
        empty = not self.writer.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar_one()
        if application != _APPLICATION and not (empty and version == application == 0):
            raise StoreError(f"{self._file} is another program's database: name another file")
        if version > schema.VERSION:
            raise StoreTooNew(str(self._file), version, schema.VERSION)
        if version == 0:
            schema.create(self.writer)
            self.writer.exec_driver_sql(f"PRAGMA application_id = {_APPLICATION}")
        for statements in schema.MIGRATIONS[version - 1 :] if version else ():
            for statement in statements:
                self.writer.exec_driver_sql(statement)
        self.writer.exec_driver_sql(f"PRAGMA user_version = {schema.VERSION}")
        self.commit()

    def _pragma(self, name: str) -> int:
        return int(self.writer.exec_driver_sql(f"PRAGMA {name}").scalar_one())

    def _forget_names(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            Path(f"{self._file}{suffix}").unlink(missing_ok=True)
        self._file.parent.rmdir()

    def close(self) -> None:
        """Close the connections, readers first: the last one to close moves the log into the database."""
        for connection in reversed(self._connections):
            connection.close()
        for driver in reversed(self._drivers):
            driver.close()
        self._connections.clear()
        self._drivers.clear()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def interrupt(self, reader: Connection) -> None:
        """SQLite's own way: the statement raises SQLITE_INTERRUPT."""
        driver = reader.connection.dbapi_connection
        assert isinstance(driver, sqlite3.Connection)
        driver.interrupt()

    def begin(self) -> None:
        """Take the lock for writing now, not at the first change."""
        execute(self.writer, "BEGIN IMMEDIATE")

    def numbers(self, table: Table) -> Iterator[int]:
        """Those behind the highest that AUTOINCREMENT remembers: it keeps up with numbers that are given."""
        found = execute(
            self.writer, "SELECT seq FROM sqlite_sequence WHERE name = ?", (table.name,)
        ).fetchone()
        return count(found[0] + 1 if found else 1)

    def bulk_insert(self, table: Table, conflict: str = "", blank: Collection[str] = ()) -> Bulk:
        """A statement of many rows."""
        return InsertOfValues(table, mark="?", conflict=conflict, blank=blank)

    def bulk_update(
        self,
        table: Table,
        *,
        key: Sequence[str],
        columns: Sequence[str] = (),
        fixed: Mapping[str, str] | None = None,
        blank: Collection[str] = (),
    ) -> Bulk:
        """A statement of many rows."""
        return UpdateOfValues(table, mark="?", key=key, columns=columns, fixed=fixed, blank=blank)

    def bulk_select(self, table: Table, key: str, columns: Sequence[str]) -> BulkSelect:
        """A statement of many rows."""
        return SelectOfValues(table, mark="?", key=key, columns=columns)

    def bulk_delete(self, table: Table, key: str) -> Bulk:
        """A statement of many rows."""
        return DeleteOfValues(table, mark="?", key=key)

    def fault(self, error: Exception) -> Fault:
        """By SQLite's result code; the driver's own refusals of a value have none."""
        code = _code(_cause(error))
        if code in _WAIT:
            return Fault.WAIT
        return Fault.FATAL if code in _FATAL else Fault.REFUSED

    def explain(self, error: Exception) -> str:
        """What the result code means here."""
        cause = _cause(error)
        code = _code(cause)
        words = _WORDS.get(code, "{file}: {error}") if code is not None else "{file}: {error}"
        return words.format(file=self._file if not self._private else "the private store", error=cause)


def _begin(reader: Connection) -> None:
    reader.exec_driver_sql("BEGIN")


def _cause(error: Exception) -> BaseException:
    return error.orig or error if isinstance(error, DBAPIError) else error


def _code(error: BaseException) -> int | None:
    # Extended result codes carry the plain one in their low byte.
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _why_not(file: Path, error: OSError) -> str:
    """Why there cannot be a store of that name, and what to do."""
    there = file.parent
    while not os.path.exists(there):
        there = there.parent
    if not os.path.isdir(there):
        return f"{there} is no folder, so the store {file} cannot be in it: name another"
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM) and not os.access(there, os.W_OK | os.X_OK):
        return (
            f"the folder {there} cannot be written ({error.strerror}), and the store {file} needs several files there: "
            "let this user write it, or name a store elsewhere"
        )
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _WORDS[sqlite3.SQLITE_FULL].format(file=file)
    named = "" if error.filename in (None, str(file)) else f" ({error.filename})"
    return f"{file}: {error.strerror or error}{named}"


def _lock(file: Path) -> int:
    """Take the lock beside the file; the descriptor that holds it. Raises StoreLocked."""
    name = f"{file}.lock"
    descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
    except BlockingIOError:
        holder = os.pread(descriptor, 20, 0).strip()
        os.close(descriptor)
        raise StoreLocked(str(file), int(holder) if holder.isdigit() else None) from None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
