"""The yardsticks: what the machine gives without Contest, on the same disk, in the same run."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from contest_core import ResponseDataStatus
from contest_core.caller import Caller
from contest_core.lifecycle import Server
from contest_core.responses import EncodedJSON

if TYPE_CHECKING:
    from contest_runner.bench.measure import Figure

_TABLE = """CREATE TABLE events (position INTEGER PRIMARY KEY, job_id INTEGER, sequence INTEGER, run_id INTEGER,
test TEXT, phase TEXT, attempt INTEGER, step TEXT, target TEXT, name TEXT, time INTEGER, payload TEXT, token INTEGER)"""
_INSERT = f"INSERT INTO events VALUES ({', '.join('?' * 13)})"
_AT_ONCE = 1000
"""Rows in one commit."""


def _database(directory: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(directory / "yardstick.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(_TABLE)
    return connection


def _rows(number: int) -> Iterator[tuple[object, ...]]:
    for position in range(1, number + 1):
        name = "TargetIn" if position % 2 else "TargetOut"
        target = f"T{position // 2 % 1000:05}"
        yield (
            position,
            1,
            position,
            1,
            "bench",
            "test",
            0,
            "step1",
            target,
            name,
            10**15 + position,
            None,
            1,
        )


async def rows(directory: Path, scale: float) -> Figure:
    """Raw insertion of two rows a target-step, 1,000 a commit, by `executemany`."""
    from contest_runner.bench.measure import Timer

    steps = max(1000, int(100_000 * scale))
    prepared = list(_rows(2 * steps))
    connection = _database(directory)
    timer = Timer(steps)
    with timer:
        for start in range(0, len(prepared), _AT_ONCE):
            connection.execute("BEGIN")
            connection.executemany(_INSERT, prepared[start : start + _AT_ONCE])
            connection.execute("COMMIT")
    connection.close()
    return timer.figure


async def commits(directory: Path, scale: float) -> Figure:
    """Commits of one row each."""
    from contest_runner.bench.measure import Timer

    prepared = list(_rows(500))
    connection = _database(directory)
    timer = Timer(len(prepared))
    with timer:
        for row in prepared:
            connection.execute(_INSERT, row)
    connection.close()
    return timer.figure


async def processes(directory: Path, scale: float) -> Figure:
    """As many processes as the job of commands, as many at once, started and waited for by asyncio."""
    from contest_runner.bench.measure import Timer

    targets = max(5, int(200 * scale))

    async def one_after_the_other() -> None:
        for _ in range(5):
            process = await asyncio.create_subprocess_exec("true")
            await process.wait()

    timer = Timer(targets * 5)
    with timer:
        async with asyncio.TaskGroup() as group:
            for _ in range(targets):
                group.create_task(one_after_the_other())
    return timer.figure


async def statuses(server: Server, caller: Caller, job_id: int, number: int) -> list[Figure]:
    """So many answers about a running job, and as many encodings of one of them, in turn."""
    from contest_runner.bench.measure import Timer

    answer = (await server.api.call(caller, "status", {"jobID": job_id})).result()
    assert isinstance(answer, EncodedJSON)
    decoded = msgspec.json.decode(answer.json, type=ResponseDataStatus)
    ours, plain = Timer(3), Timer(3)
    for _ in range(number // 3):
        with ours:
            for _ in range(3):
                await server.api.call(caller, "status", {"jobID": job_id})
        with plain:
            for _ in range(3):
                msgspec.json.encode(decoded)
    return [ours.figure, plain.figure]
