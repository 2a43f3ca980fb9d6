"""Cursors: opaque for who has one, and only good for the store and the feed that gave it.

Used by the watches (the feed of a job, or of all) and by `list` (its pages).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from contest_core import Cursor, InvalidParameters

if TYPE_CHECKING:
    from contest_runner.store import Store

JOBS: Final = "jobs"
"""The feed of the pages of `list`: its positions are numbers of jobs."""

_CURSOR = re.compile(r"1\.([^.]+)\.([^.]+)\.(all|jobs|[0-9]{1,19})\.([0-9]{1,18})", re.ASCII)


def make_cursor(store: Store, feed: int | str | None, position: int) -> Cursor:
    """A cursor behind a position: format, store, incarnation, feed (a job's number, None for all), position."""
    return Cursor(f"1.{store.id}.{store.incarnation}.{_name(feed)}.{position}")


def read_cursor(store: Store, feed: int | str | None, cursor: Cursor, *, parameter: str = "since") -> int:
    """The position of a cursor. Raises `InvalidParameters` for one of another store or feed."""
    match = _CURSOR.fullmatch(str(cursor))
    if match is None:
        raise InvalidParameters(reason="the cursor is none of ours", parameter=parameter)
    store_id, incarnation, of, position = match.groups()
    if (store_id, incarnation) != (store.id, store.incarnation):
        raise InvalidParameters(reason="the cursor is of another store", parameter=parameter)
    if of != _name(feed):
        raise InvalidParameters(reason=f"the cursor is of another feed ({of})", parameter=parameter)
    return int(position)


def _name(feed: int | str | None) -> str:
    return "all" if feed is None else str(feed)
