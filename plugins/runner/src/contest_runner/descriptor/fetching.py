"""Asks fetchers for the steps of tests: the one part of reading a descriptor that waits for something.

Called by `contest_runner.descriptor.reading` between its two halves, always in the loop.
"""

from __future__ import annotations

from collections.abc import Iterable
from logging import Logger, LoggerAdapter
from typing import Any, NamedTuple, TypeAlias

from contest_runner.bounded import guarded
from contest_runner.catalog import Catalog
from contest_runner.faults import describe
from contest_runner.parts import FetchContext, FetchedTest, FetchFailed


class Request(NamedTuple):
    """What a fetcher is asked."""

    fetcher: str
    encoded: bytes
    """The parameters, as `encode_part` has them."""
    parameters: Any

    @property
    def key(self) -> tuple[str, bytes]:
        """The same for requests that are the same."""
        return self.fetcher, self.encoded


Fetched: TypeAlias = dict[tuple[str, bytes], FetchedTest | str]
"""What came of asking, or why nothing did: nobody is asked twice for one descriptor."""


async def fetch(
    requests: Iterable[Request], fetched: Fetched, catalog: Catalog, log: LoggerAdapter[Logger]
) -> None:
    """Asks what was not asked before."""
    for request in requests:
        if request.key not in fetched:
            fetched[request.key] = await _ask(request, catalog, log)


async def _ask(request: Request, catalog: Catalog, log: LoggerAdapter[Logger]) -> FetchedTest | str:
    try:
        kind = catalog.fetcher(request.fetcher)
        return await guarded(lambda: kind().fetch(request.parameters, FetchContext(log=log)))
    except FetchFailed as error:
        return str(error)
    # The boundary to a fetcher's code: its fault refuses this descriptor and no more.
    except Exception as error:
        log.exception("fetcher %s failed", request.fetcher)
        return f"fetcher {request.fetcher} failed: {describe(error)}"
