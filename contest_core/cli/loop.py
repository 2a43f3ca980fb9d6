"""Runs a command's coroutine on an event loop.

Used by every command that talks to somebody. asyncio is imported here, so import this module within a command.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")

_COLLECT_AT = (10_000, 20, 50)


def run_async(work: Coroutine[Any, Any, T], *, serving: bool = False) -> T:
    """Runs it to its end. `serving` is for what carries load: uvloop where it is installed, a lazier collector.

    A command that asks once is quicker without: uvloop takes longer to import than it saves. Ctrl-C cancels
    the coroutine and raises KeyboardInterrupt, unless it handles signals itself.
    """
    if not serving:
        with asyncio.Runner() as runner:
            return runner.run(work)
    with _lazy_collector(), asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(work)


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's, or None, which is asyncio's own, where it is not installed."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


@contextmanager
def _lazy_collector() -> Iterator[None]:
    """The collector's default threshold costs a third of the speed with many targets: few cycles, many objects."""
    before = gc.get_threshold()
    gc.set_threshold(*_COLLECT_AT)
    try:
        yield
    finally:
        gc.set_threshold(*before)
