"""Waits for the code of a plugin no longer than the job can wait: until it is stopped, or a time is up.

Used where a job asks a target manager or a reporter. What does not end when it is cancelled is left behind.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final, TypeVar

from contest_runner.faults import describe

if TYPE_CHECKING:
    from contest_runner.job import Job

STUBBORN: Final = 5.0
"""Seconds that cancelled code has to end."""

T = TypeVar("T")


class JobStopped(Exception):
    """The job was stopped meanwhile."""


class TooLate(Exception):
    """The time was up."""


class PluginFault(Exception):
    """The plugin's code raised what it should not; the message says what."""


async def guarded(call: Callable[[], Awaitable[T]]) -> T:
    """Calls a plugin's code. Raises what it raises, but `PluginFault` for what a loop takes for its own."""
    try:
        return await call()
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise PluginFault(describe(error)) from error
    except Exception:
        raise
    # The boundary to a plugin's code: SystemExit and its like would end the program.
    except BaseException as error:
        raise PluginFault(describe(error)) from error


async def while_running(
    job: Job, work: Coroutine[Any, Any, T], *, patience: float | None = None, stubborn: float = STUBBORN
) -> T:
    """The result of the work. Raises `JobStopped`, `TooLate` (after `patience` seconds), or what it raises."""
    task = asyncio.ensure_future(work)
    try:
        # Much of what is asked needs nothing but one turn of the loop.
        await asyncio.sleep(0)
        if not task.done():
            await _stopped_or_done(job, task, patience)
    finally:
        if ended_by_us := not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=stubborn)
    if not ended_by_us:
        return task.result()
    if not task.done():
        leave_behind(job, task)
    elif not task.cancelled() and task.exception() is None:
        return task.result()
    raise TooLate if job.stopping.why is None else JobStopped


def leave_behind(job: Job, task: asyncio.Future[Any]) -> None:
    """Waits no longer for what does not end though it is cancelled, and says so."""
    job.log.error("%s did not end when it was cancelled: it is left behind", task)
    task.add_done_callback(_seen)
    disown(task)


def disown(task: asyncio.Future[Any]) -> None:
    """Leaves a task behind that may never end: asyncio waits at a program's end for every task that it knows."""
    asyncio.tasks._unregister_task(task)  # type: ignore[arg-type]
    # And tells of every other one that is destroyed; of this one the job has told.
    task._log_destroy_pending = False  # type: ignore[attr-defined]


async def _stopped_or_done(job: Job, task: asyncio.Future[Any], patience: float | None) -> None:
    stopped = asyncio.get_running_loop().create_future()

    def stop() -> None:
        if not stopped.done():
            stopped.set_result(None)

    with job.stopping.calling(stop):
        await asyncio.wait([task, stopped], timeout=patience, return_when=asyncio.FIRST_COMPLETED)


def _seen(task: asyncio.Future[Any]) -> None:
    if not task.cancelled():
        task.exception()
