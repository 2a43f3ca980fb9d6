"""Spoiling a store or a locker as it is opened, to see that cases of the stores' kit can fail."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import pytest

from contest_core.testing.cases import run_case
from contest_runner.testing import StoreSuite, store_place

Spoil = Callable[[Any], None]

ARGUMENTS: dict[str, dict[str, Any]] = {
    "test_what_most_rows_lack_comes_back_in_the_rows_that_have_it": {"every": 2},
    "test_an_event_that_is_not_storable_is_replaced_and_spoils_no_other": {
        "column": "attempt",
        "value": 1 << 70,
    },
    "test_what_cannot_be_meant_is_refused": {"job_id": 0, "targets": ["a"], "count": None},
}
"""Of cases that have some."""


class Spoilt(NamedTuple):
    """What is spoilt, and how."""

    case: str
    what: str
    """`store` or `locker`."""
    spoil: Spoil
    words: str


def spoils(found: list[Spoilt], what: str, *cases: str, words: str = "") -> Callable[[Spoil], Spoil]:
    """The function below does, of a store or a locker; the cases say so."""

    def register(spoil: Spoil) -> Spoil:
        found.extend(Spoilt(f"test_{case}", what, spoil, words) for case in cases)
        return spoil

    return register


def instead(part: Any, name: str, make: Callable[[Any], Any]) -> None:
    """Puts something in the place of a method; `make` is given the method."""
    setattr(part, name, make(getattr(part, name)))


def after(part: Any, name: str, change: Callable[[Any], Any]) -> None:
    """Changes what a method gives."""

    def make(real: Any) -> Any:
        async def changed(*arguments: Any, **named: Any) -> Any:
            return change(await real(*arguments, **named))

        return changed

    instead(part, name, make)


def given(part: Any, name: str, change: Callable[..., tuple[tuple[Any, ...], dict[str, Any]]]) -> None:
    """Changes what a method is given."""

    def make(real: Any) -> Any:
        async def changed(*arguments: Any, **named: Any) -> Any:
            arguments, named = change(*arguments, **named)
            return await real(*arguments, **named)

        return changed

    instead(part, name, make)


def does_nothing(part: Any, name: str, result: Any = None) -> None:
    """In the place of a method."""

    async def nothing(*arguments: Any, **named: Any) -> Any:
        return result

    setattr(part, name, nothing)


class SpoiltSuite(StoreSuite):
    """SQLite, spoilt as it is opened."""

    opens_with: ClassVar = {"synchronous": "off"}
    spoilt: Spoilt

    def url(self, directory: Path) -> str:
        return "sqlite:///store.db"

    def place(self, directory: Path, complaints: Any) -> Any:
        place = super().place(directory, complaints)
        open_store = place._open_store

        async def spoil_store(*arguments: Any) -> Any:
            store = await open_store(*arguments)
            if self.spoilt.what == "store":
                self.spoilt.spoil(store)
            return store

        place._open_store = spoil_store
        return place

    async def locker(self, store: Any, **more: Any) -> Any:
        made = await super().locker(store, **more)
        if self.spoilt.what == "locker":
            self.spoilt.spoil(made)
        return made


def fails(spoilt: Spoilt, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asserts that the case fails, in these words."""
    monkeypatch.setattr(store_place, "SECONDS", 0.2)
    suite = SpoiltSuite()
    suite.spoilt = spoilt
    body = getattr(StoreSuite, spoilt.case).body
    with pytest.raises((AssertionError, pytest.fail.Exception, Exception, asyncio.CancelledError)) as caught:
        run_case(suite, body, directory, **ARGUMENTS.get(spoilt.case, {}))
    assert spoilt.words in repr(caught.value)
    del caught
    gc.collect(1)  # what the case has left is destroyed here and not while pytest reads a file


def cases(*areas: type) -> list[str]:
    """The names of all cases."""
    return sorted({name for area in areas for name in vars(area) if name.startswith("test_")})
