"""Runs what blocks in daemon threads, whose end the loop is told of: a `ThreadStep`'s targets, a part's slow calls.

A thread cannot be cancelled: a cancelled flow waits on until its thread has really returned, or the attempt is
given up, and then the job reports what is left.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from contest_runner.context import StepContext, ThreadStepContext
from contest_runner.faults import raised_as_error

if TYPE_CHECKING:
    from contest_runner.flow import Flow
    from contest_runner.step import ThreadStep

T = TypeVar("T")


def begin(call: Callable[[], T], *, name: str) -> asyncio.Future[T]:
    """Calls it in a daemon thread of its own; the future has what it gives or raises, and may be cancelled."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[T] = loop.create_future()

    def work() -> None:
        result: T | None = None
        error: BaseException | None = None
        try:
            result = call()
        # The boundary to other people's code in another thread: it is raised again where it is awaited.
        except BaseException as raised:
            error = raised
        try:
            loop.call_soon_threadsafe(_tell, ended, result, error)
        except RuntimeError:
            return  # the program has ended without us

    threading.Thread(target=work, name=name, daemon=True).start()
    return ended


async def run_in_thread(step: ThreadStep[Any], flow: Flow, parameters: Any, context: StepContext) -> None:
    """Runs the step and returns or raises as it does. Cancelled, it waits on: a thread has to end by itself."""
    of_thread = ThreadStepContext(context, asyncio.get_running_loop())
    ended = begin(lambda: step.run(flow.target, parameters, of_thread), name=f"step for {flow.target.id}")
    while not ended.done():
        try:
            await asyncio.wait([ended])
        except asyncio.CancelledError:
            if flow.abandoned:
                ended.cancel()
                raise
    ended.result()


def _tell(ended: asyncio.Future[Any], result: object, error: BaseException | None) -> None:
    if ended.done():
        return  # given up
    if error is None:
        ended.set_result(result)
    elif isinstance(error, Exception) and not isinstance(error, StopIteration):
        ended.set_exception(error)
    else:
        # No future takes such an exception, and in the loop's own thread it would end the program.
        ended.set_exception(raised_as_error(error))
