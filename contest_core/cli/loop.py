"""Runs a command's coroutine on an event loop.

Used by every command that talks to somebody. asyncio is imported here, so import this module within a command.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run_async(work: Coroutine[Any, Any, T], *, serving: bool = False) -> T:
    """Runs it to its end. `serving` is for what carries load: uvloop where it is installed.

    A command that asks once is quicker without: uvloop takes longer to import than it saves. Ctrl-C cancels
    the coroutine and raises KeyboardInterrupt, unless it handles signals itself.
    """
    with asyncio.Runner(loop_factory=loop_factory() if serving else None) as runner:
        return runner.run(work)


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's, or None, which is asyncio's own, where it is not installed."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
