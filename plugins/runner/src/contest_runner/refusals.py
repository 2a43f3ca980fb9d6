"""What the job manager refuses beside descriptors, and the seam between the store's errors and those of a wire.

Used by the job manager's verbs and by watches. A store that is closed is a server that ends; one that cannot be
used is away. In both cases nothing happened.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from typing import Any, Final, ParamSpec, TypeVar

from contest_core import ContestError, InvalidParameters, JobQuery, Refusal, ShuttingDown, Unavailable
from contest_runner.descriptor import TAG
from contest_runner.store import StoreClosed, StoreError

MAX_START_KEY_BYTES: Final = 256

MAX_ASKED: Final = 64
"""Tags, states and requestors that one `list` may ask for."""

MAX_PAGE: Final = 100_000
"""Jobs that it may ask for."""

P = ParamSpec("P")
T = TypeVar("T")


def refusal_of(error: StoreError) -> ContestError:
    """What a client is told."""
    if isinstance(error, StoreClosed):
        return ShuttingDown()
    return Unavailable(reason=str(error), what="the store")


def refuses_for_store(verb: Callable[P, Awaitable[T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Makes a verb raise `ShuttingDown` or `Unavailable` where it would raise a `StoreError`."""

    @wraps(verb)
    async def refusing(*arguments: P.args, **named: P.kwargs) -> T:
        try:
            return await verb(*arguments, **named)
        except StoreError as error:
            raise refusal_of(error) from error

    return refusing


class InvalidQuery(Refusal):
    """The jobs that are asked for cannot be meant; ConTest's job manager answers so, with HTTP 200."""

    code = "invalid_parameters"


def check_query(query: JobQuery) -> None:
    """Raises `InvalidQuery` for what cannot be tags of a job, and for more tags or states than anybody means."""
    for what, asked in (
        ("tags", query.tags),
        ("states", query.states),
        ("requestors", query.requestors),
    ):
        if len(asked) > MAX_ASKED:
            raise InvalidQuery(f"{len(asked):,} {what} are asked for, the limit is {MAX_ASKED}")
    for tag in query.tags:
        if not re.fullmatch(TAG, tag):
            raise InvalidQuery(f"{tag[:60]!r} is not a valid tag: letters, digits, _ and -")
    if len(set(query.tags)) < len(query.tags):
        raise InvalidQuery("a tag is there twice")
    if query.limit is not None and not 0 < query.limit <= MAX_PAGE:
        raise InvalidQuery(f"a limit is from 1 to {MAX_PAGE:,}, not {query.limit}")


def check_start_key(start_key: str | None) -> None:
    """Raises `InvalidParameters` for one that is too long, or empty."""
    if start_key is not None and not 0 < len(start_key.encode()) <= MAX_START_KEY_BYTES:
        reason = f"a start key has 1 to {MAX_START_KEY_BYTES} bytes"
        raise InvalidParameters(reason=reason, parameter="startKey")
