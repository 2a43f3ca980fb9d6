"""Runs a `ThreadStep`: a daemon thread for each target, whose end the loop is told of.

A thread cannot be cancelled: a cancelled flow waits on until the thread has really returned, or the attempt is
given up, and then the job reports what is left.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

from contest_runner.context import StepContext, ThreadStepContext
from contest_runner.faults import raised_as_error

if TYPE_CHECKING:
    from contest_runner.flow import Flow
    from contest_runner.step import ThreadStep


async def run_in_thread(step: ThreadStep[Any], flow: Flow, parameters: Any, context: StepContext) -> None:
    """Runs the step and returns or raises as it does. Cancelled, it waits on: a thread has to end by itself."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()

    def work() -> None:
        error: BaseException | None = None
        try:
            step.run(flow.target, parameters, ThreadStepContext(context, loop))
        # The boundary to a step's code in another thread: it is raised again where the step is awaited.
        except BaseException as raised:
            error = raised
        try:
            loop.call_soon_threadsafe(_tell, ended, error)
        except RuntimeError:
            return  # the program has ended without us

    threading.Thread(target=work, name=f"step for {flow.target.id}", daemon=True).start()
    while not ended.done():
        try:
            await asyncio.wait([ended])
        except asyncio.CancelledError:
            if flow.abandoned:
                ended.cancel()
                raise
    ended.result()


def _tell(ended: asyncio.Future[None], error: BaseException | None) -> None:
    if ended.done():
        return  # given up
    if error is None:
        ended.set_result(None)
    elif isinstance(error, Exception) and not isinstance(error, StopIteration):
        ended.set_exception(error)
    else:
        # No future takes such an exception, and in the loop's own thread it would end the program.
        ended.set_exception(raised_as_error(error))
