"""One batch, one transaction: what the writer's thread does.

Called by the writer's thread alone, with one batch at a time; calls the database. It does not wait: the outcome
says whether the batch is on disk, may be tried again, or never will be. A batch that is tried again is executed
from the start, so an operation may run more than once before its future knows.

Hardly ever is anything refused, and a savepoint around each operation costs as much as the operation. So a batch
is executed without any, and only when something in it is refused it is begun anew with them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from msgspec import Struct
from sqlalchemy import Connection

from contest_runner.store import schema
from contest_runner.store.batch import BLANK, WIDTH, Batch, Operation
from contest_runner.store.database import Database, Fault, Log, execute
from contest_runner.store.errors import LeaseLost, StartKeyTaken
from contest_runner.store.writing import Bulks, Writing

REFUSED_NAME = "EventRefused"
"""The name of the event that stands where the database did not take one."""

_COLUMNS = [column.name for column in schema.events.columns]
_JOB = _COLUMNS.index("job_id")
_NAME = _COLUMNS.index("name")
_PAYLOAD = _COLUMNS.index("payload")
_REQUIRED = {_COLUMNS.index(name) for name in ("job_id", "sequence", "time")}
_INT64 = 1 << 63

_NOTHING_WRITTEN = (LeaseLost, StartKeyTaken)
"""What an operation raises before it has changed anything: there is nothing to undo."""


Result = tuple[bool, Any]
"""Of an operation: True and its value, or False and what it raised."""


class Done(Struct, frozen=True):
    """It is on disk."""

    results: Sequence[Result]
    """Of each operation."""
    jobs: frozenset[int]
    """Whose events are in it."""


class Unwell(Struct, frozen=True):
    """It is not, and may be when it is tried again."""

    reason: str


class Fatal(Struct, frozen=True):
    """It is not and will not be."""

    reason: str


Outcome = Done | Unwell | Fatal


class Transactor:
    """Executes batches."""

    def __init__(self, database: Database, log: Log) -> None:
        self._database = database
        self._log = log
        self._insert_events = database.bulk_insert(schema.events, blank=BLANK)
        self._insert_segments = database.bulk_insert(schema.event_segments, "ON CONFLICT DO NOTHING")
        self._bulks = Bulks(database)
        # The jobs that are known to have a row for the segment that is being filled.
        self._segment = -1
        self._known: frozenset[int] = frozenset()

    def execute(self, batch: Batch) -> Outcome:
        """Try the batch once."""
        try:
            try:
                return self._transaction(batch, self._write_rows, self._run_all)
            except Exception as error:
                if self._database.fault(error) is not Fault.REFUSED:
                    raise
                self._database.rollback()
                return self._transaction(batch, self._sift_rows, self._run_each)
        except Exception as error:
            return self._failed(error)

    def _transaction(
        self,
        batch: Batch,
        write_rows: Callable[[Connection, list[Any]], None],
        run: Callable[[Writing, Sequence[Operation]], list[Result]],
    ) -> Done:
        database, connection = self._database, self._database.writer
        database.begin()
        write_rows(connection, batch.cells)
        jobs, segment, known = self._write_segments(connection, batch)
        results: list[Result] = []
        if batch.operations:
            job_ids = {each.job_id for each in batch.operations if each.job_id is not None}
            results = run(Writing(database, self._bulks, job_ids), batch.operations)
        database.commit()
        self._segment, self._known = segment, known
        return Done(results, jobs)

    def _failed(self, error: Exception) -> Outcome:
        reason = self._database.explain(error)
        fault = self._database.fault(error)
        try:
            self._database.rollback()
        except Exception as worse:
            fault, error = Fault.FATAL, worse
        if fault is Fault.WAIT:
            return Unwell(reason)
        self._log.error("the store cannot go on: %s", reason, exc_info=getattr(error, "orig", None) or error)
        return Fatal(reason)

    def _write_rows(self, connection: Connection, cells: list[Any]) -> None:
        self._insert_events(connection, cells)

    def _run_all(self, writing: Writing, operations: Sequence[Operation]) -> list[Result]:
        results: list[Result] = []
        for operation in operations:
            try:
                results.append((True, operation.run(writing)))
            except _NOTHING_WRITTEN as error:
                results.append((False, error))
        writing.flush()
        return results

    def _run_each(self, writing: Writing, operations: Sequence[Operation]) -> list[Result]:
        results: list[Result] = []
        for operation in operations:
            results.append(self._attempt(partial(_whole, operation, writing)))
            if not results[-1][0]:
                writing.forget()
        return results

    def _sift_rows(self, connection: Connection, cells: list[Any]) -> None:
        self._sift(connection, cells, 0, len(cells))

    def _sift(self, connection: Connection, cells: list[Any], start: int, end: int) -> None:
        """Insert them; find the ones that the database refuses by halving, and replace those in place."""
        done, error = self._attempt(lambda: self._insert_events(connection, cells[start:end]))
        if done:
            return
        if end - start > WIDTH:
            middle = start + (end - start) // WIDTH // 2 * WIDTH
            self._sift(connection, cells, start, middle)
            self._sift(connection, cells, middle, end)
            return
        if cells[start + _NAME] == REFUSED_NAME:
            raise error
        cells[start:end] = _refused(cells[start:end], error)
        self._log.warning("an event of job %s was refused: %s", cells[start + _JOB], cells[start + _PAYLOAD])
        self._sift(connection, cells, start, end)

    def _write_segments(
        self, connection: Connection, batch: Batch
    ) -> tuple[frozenset[int], int, frozenset[int]]:
        jobs: frozenset[int] = frozenset()
        segment, known = self._segment, self._known
        rows: list[int] = []
        position = batch.first
        while position <= batch.last:
            if position >> schema.SEGMENT_BITS != segment:
                segment, known = position >> schema.SEGMENT_BITS, frozenset()
            end = min(batch.last + 1, (segment + 1) << schema.SEGMENT_BITS)
            start = (position - batch.first) * WIDTH + _JOB
            here = frozenset(batch.cells[start : (end - batch.first) * WIDTH : WIDTH])
            if fresh := here - known:
                rows += [cell for job in fresh for cell in (job, segment)]
                known |= here
            jobs |= here
            position = end
        self._insert_segments(connection, rows)
        return jobs, segment, known

    def _attempt(self, run: Callable[[], Any]) -> Result:
        """Run it under a savepoint: True and its value, or False and what it raised, undone.

        What the database raises when it is not well goes on up: then the whole batch is at stake.
        """
        connection = self._database.writer
        execute(connection, "SAVEPOINT attempt")
        try:
            result = run()
        except Exception as error:
            if self._database.fault(error) is not Fault.REFUSED:
                raise
            execute(connection, "ROLLBACK TO attempt")
            execute(connection, "RELEASE attempt")
            return False, error
        execute(connection, "RELEASE attempt")
        return True, result


def _whole(operation: Operation, writing: Writing) -> Any:
    result = operation.run(writing)
    writing.flush()
    return result


def _refused(row: Sequence[Any], error: Exception) -> list[Any]:
    """The row to write instead: what of the original can be stored, and why the rest could not."""
    kept: list[Any] = [
        cell if _storable(cell) else (0 if column in _REQUIRED else None) for column, cell in enumerate(row)
    ]
    reason = str(getattr(error, "orig", None) or error)
    kept[_NAME] = REFUSED_NAME
    kept[_PAYLOAD] = json.dumps({"Event": str(row[_NAME])[:100], "Error": reason[:500]})
    return kept


def _storable(cell: Any) -> bool:
    if isinstance(cell, int):
        return -_INT64 <= cell < _INT64
    if isinstance(cell, str):
        return cell.isascii() or cell.encode("utf-8", "ignore").decode() == cell
    return cell is None
