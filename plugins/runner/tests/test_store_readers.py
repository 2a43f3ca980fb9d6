"""Those who read from the store: what they give up is ended, and an error is told as what it is."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from contest_runner.store import Store, StoreClosed, StoreError
from contest_runner.store.sqlite import READERS

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
"""Never answered unless it is interrupted."""

SECONDS = 10


class Endless:
    """A question that takes for ever, once it is let."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.go = threading.Event()
        self.error: BaseException | None = None
        self.over = threading.Event()

    def __call__(self, connection: Connection) -> None:
        self.begun.set()
        assert self.go.wait(SECONDS)
        try:
            connection.exec_driver_sql(ENDLESS)
        except BaseException as error:
            self.error = error
            raise
        finally:
            self.over.set()


async def wait(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, SECONDS)


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await Store.open("sqlite:///store.db", directory=tmp_path, log=logging.getLogger("test"))
    yield opened
    await asyncio.wait_for(opened.aclose(), SECONDS)


async def test_a_question_that_nobody_waits_for_any_more_is_ended(store: Store) -> None:
    questions = [Endless() for _ in range(READERS)]
    asking = [asyncio.ensure_future(store.read(question)) for question in questions]
    for question, asked in zip(questions, asking, strict=True):
        question.go.set()
        await wait(question.begun)
        asked.cancel()
    for question in questions:
        await wait(question.over)
        assert "interrupted" in str(question.error)
    assert await asyncio.wait_for(store.jobs(), SECONDS) == []


async def test_a_question_that_is_given_up_between_two_statements_is_ended_at_the_next(store: Store) -> None:
    question = Endless()
    asked = asyncio.ensure_future(store.read(question))
    await wait(question.begun)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    question.go.set()
    await wait(question.over)
    assert "interrupted" in str(question.error)


async def test_a_question_that_is_given_up_while_it_waits_for_its_turn_is_never_asked(store: Store) -> None:
    busy = [Endless() for _ in range(READERS)]
    asking = [asyncio.ensure_future(store.read(question)) for question in busy]
    for question in busy:
        await wait(question.begun)
    waiting = Endless()
    asked = asyncio.ensure_future(store.read(waiting))
    await asyncio.sleep(0)
    asked.cancel()
    for question in busy:
        question.go.set()
    for each in asking:
        each.cancel()
    assert await asyncio.wait_for(store.jobs(), SECONDS) == []
    assert not waiting.begun.is_set()


async def test_giving_one_question_up_harms_none_that_comes_after_it(store: Store) -> None:
    for _ in range(50):
        question = Endless()
        question.go.set()
        asked = asyncio.ensure_future(store.read(question))
        await wait(question.begun)
        asked.cancel()
        assert await asyncio.gather(*(store.jobs() for _ in range(2 * READERS))) == [[]] * (2 * READERS)


async def test_closing_waits_for_no_question(tmp_path: Path) -> None:
    store = await Store.open("sqlite:///other.db", directory=tmp_path, log=logging.getLogger("test"))
    questions = [Endless() for _ in range(3 * READERS)]
    asking = [asyncio.ensure_future(store.read(question)) for question in questions]
    for question in questions:
        question.go.set()
    for question in questions[:READERS]:
        await wait(question.begun)
    await asyncio.wait_for(store.aclose(), SECONDS)
    for told in await asyncio.gather(*asking, return_exceptions=True):
        assert isinstance(told, StoreClosed)


async def test_an_error_of_the_statement_is_not_the_stores(store: Store) -> None:
    with pytest.raises(OperationalError, match="no such table"):
        await store.read(lambda connection: connection.exec_driver_sql("SELECT * FROM no_table"))
    deep = " + ".join(["1"] * 2000)
    with pytest.raises(OperationalError, match="too large"):
        await store.read(lambda connection: connection.exec_driver_sql(f"SELECT {deep}"))


async def test_a_disk_that_cannot_be_read_is_the_stores_error(store: Store) -> None:
    def question(connection: Connection) -> None:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR
        raise error

    with pytest.raises(StoreError, match=r"the disk of .*store\.db gives errors"):
        await store.read(question)


async def test_readers_cannot_write(store: Store) -> None:
    with pytest.raises(Exception, match="cannot be written"):
        await store.read(lambda connection: connection.exec_driver_sql("DELETE FROM jobs"))
