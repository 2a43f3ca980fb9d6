"""Whether and when something is asked again: what is safe, with which pauses, for how long.

Used by the typed client, for its requests and its watches. It knows neither verbs nor transports.
"""

from __future__ import annotations

from collections.abc import Awaitable
from random import uniform
from time import monotonic as now
from typing import TYPE_CHECKING, Final, TypeVar

from contest_core.errors import ERRORS, AnswerTimeout, ContestError, Repeat, TooManyRequests

if TYPE_CHECKING:
    from contest_core.client import ClientOptions

FIRST_PAUSE: Final = 0.3
LONGEST_PAUSE: Final = 5.0
GROWTH: Final = 2.0
"""From one pause to the next."""

SPREAD: Final = 0.25
"""By which part a pause is longer or shorter: clients of one server are not to come back all at once."""

SLACK: Final = 0.5
"""Seconds that a client has beyond its own timeout to say itself what was not in time."""

_OF_A_KNOWN_SERVER: Final = frozenset({"unreachable", "shutting_down"})
"""Of a server that was never there they are told at once: the address may be wrong, and nobody comes back."""

T = TypeVar("T")


class Tries:
    """The tries of one request, or of one watch to go on.

    `harmless` says that it may be done twice: it only reads, or has a start key. `heard` says that the server was
    there.
    """

    def __init__(self, options: ClientOptions, *, harmless: bool, heard: bool) -> None:
        self._options = options
        self._harmless = harmless
        self._heard = heard
        self._until = now() + options.patience
        self._pause = FIRST_PAUSE
        self.first = True
        """Nothing was asked again yet."""

    async def bounded(self, asked: Awaitable[T], *, verb: str, reads: bool) -> T:
        """Awaits an answer as long as there is time. Raises `AnswerTimeout`."""
        from asyncio import timeout  # brings asyncio, which `contest --help` does without

        left = self._options.timeout
        if not self.first:
            left = min(left, self._until - now())
        try:
            async with timeout(left + SLACK):
                return await asked
        except TimeoutError:
            raise AnswerTimeout(seconds=round(left, 2), verb=verb, reads=reads) from None

    async def wait(self, error: ContestError) -> None:
        """Returns when it is time to ask again; raises the error where that is not safe, or the patience is over."""
        from asyncio import sleep  # brings asyncio, as above

        self.first = False
        self._heard = self._heard or error.code == "connection_lost"
        pause = self._pause * uniform(1 - SPREAD, 1 + SPREAD)
        if isinstance(error, TooManyRequests):
            pause = max(pause, error.retry_after or 0.0)
        if now() + pause >= self._until or not self._is_safe(error):
            raise error
        self._tell(error, pause)
        self._pause = min(self._pause * GROWTH, LONGEST_PAUSE)
        await sleep(pause)

    def _is_safe(self, error: ContestError) -> bool:
        if error.code in _OF_A_KNOWN_SERVER:
            return self._heard
        if error.code == "internal" or error.code not in ERRORS:
            return False  # a fault is one the next time, too, and nobody knows what an unknown code says
        repeat = error.row.repeat
        return repeat is Repeat.YES or (repeat is Repeat.WITH_START_KEY and self._harmless)

    def _tell(self, error: ContestError, pause: float) -> None:
        if self._options.on_repeat is not None:
            self._options.on_repeat(error, pause)
            return
        import logging  # takes a while, and most programs never need it here

        logging.getLogger("contest.client").warning("%s; asking again in %.1f s", error.message, pause)
