"""Acquires and releases the targets of a test: the target manager's word, the locks, the timeouts.

What goes wrong with the targets themselves fails the attempt and the job goes on, as in ConTest; a target manager
that does not come back in time fails the job, and nothing stays locked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from contest_core import Blame
from contest_core.settings import format_duration
from contest_runner.attempt import Attempt
from contest_runner.catalog import Catalog
from contest_runner.job import Job, JobFailed
from contest_runner.parts import AcquireContext, AcquireFailed, ReleaseContext, TargetManager
from contest_runner.plan import TestPlan
from contest_runner.recovery import RecoveredTest
from contest_runner.store import AcquireTimeout, AcquisitionRow, Store
from contest_runner.store.locker import Locker
from contest_runner.target import MAX_TARGET_ID_BYTES, Target
from contest_runner.times import seconds

_SLACK = 1.0
"""Seconds that a target manager has, beyond the deadline of the locks, to say so itself."""

T = TypeVar("T")


class Acquired(Struct, frozen=True, kw_only=True):
    """What an attempt works on."""

    targets: tuple[Target, ...]
    manager: Any
    """The `TargetManager` that gave them."""


class _Stopped(Exception):
    """The job was stopped while it acquired."""


class _JobLocker:
    """The locker, for one attempt of one job; it remembers what it got."""

    def __init__(self, locker: Locker, job: Job) -> None:
        self._locker = locker
        self._job = job
        self.tokens: dict[str, int] = {}
        """By target, the token of its lock."""

    async def acquire(
        self, candidates: Sequence[Target], *, count: int | None = None, deadline: float
    ) -> Sequence[Target]:
        """All of the candidates, or `count` of them; waits. Raises `AcquireFailed`."""
        by_id = {target.id: target for target in candidates}
        try:
            locked = await self._locker.acquire(
                self._job.id, list(by_id), count=count, deadline=deadline, on_waiting=self._job.wait_for
            )
        except AcquireTimeout as error:
            raise AcquireFailed(str(error)) from None
        self.tokens.update(dict.fromkeys(locked.targets, locked.token))
        return [by_id[target] for target in locked.targets]


class Acquiring:
    """Acquires and releases for all jobs of a store."""

    def __init__(self, store: Store, locker: Locker, catalog: Catalog) -> None:
        self._store = store
        self._locker = locker
        self._catalog = catalog

    async def acquire(
        self, job: Job, test: TestPlan, attempt: Attempt, before: RecoveredTest | None
    ) -> Acquired | None:
        """The targets, locked and written down; None where the attempt ends here.

        After an interruption they are those of `before`, whose locks are taken anew. Raises `JobFailed`.
        """
        locker = _JobLocker(self._locker, job)
        manager = self._catalog.target_manager(test.target_manager)()
        try:
            if before is not None:
                targets = await self._again(job, locker, before.targets)
            else:
                targets = await self._ask(job, test, manager, locker)
        except _Stopped:
            await self._unlock(job, locker)
            return None
        except AcquireFailed as error:
            await self._unlock(job, locker)
            self._failed(job, attempt, str(error), Blame.INFRASTRUCTURE)
            return None
        except BaseException:
            await self._unlock(job, locker)
            raise
        attempt.token = max(locker.tokens.values(), default=0)
        acquired = Acquired(targets=tuple(targets), manager=manager)
        if before is None:
            await self._write_down(job, attempt, acquired.targets)
        return acquired

    async def _ask(
        self, job: Job, test: TestPlan, manager: TargetManager[Any, Any], locker: _JobLocker
    ) -> Sequence[Target]:
        patience = seconds(job.plan.acquire_timeout)
        late = f"target manager acquire timed out after {format_duration(job.plan.acquire_timeout)}"
        if patience <= 0:
            raise JobFailed(late)
        deadline = asyncio.get_running_loop().time() + patience
        context = AcquireContext(job_id=job.id, locker=locker, deadline=deadline, log=job.log)
        parameters = msgspec.json.decode(test.acquire_parameters, type=manager.AcquireParameters)

        async def both() -> Sequence[Target]:
            targets = await _guarded(job, "acquire", lambda: manager.acquire(parameters, context))
            try:
                _check(targets)
                unlocked = [target for target in targets if target.id not in locker.tokens]
                if unlocked:
                    await locker.acquire(unlocked, deadline=deadline)
            except BaseException:
                await self._give_back(job, test, manager, targets)
                raise
            return targets

        targets: Sequence[Target] = await _bounded(job, both(), patience + _SLACK, late)
        return targets

    async def _again(self, job: Job, locker: _JobLocker, targets: Sequence[Target]) -> Sequence[Target]:
        deadline = asyncio.get_running_loop().time() + seconds(job.plan.acquire_timeout)
        await _bounded(job, locker.acquire(targets, deadline=deadline), None, "")
        return targets

    async def _write_down(self, job: Job, attempt: Attempt, targets: Sequence[Target]) -> None:
        for target in targets:
            job.write(
                "TargetAcquired",
                run_id=attempt.run_id,
                test=attempt.name,
                attempt=attempt.number,
                target=target.id,
                token=attempt.token,
            )
        attempt.tree.acquired([target.info() for target in targets])
        row = AcquisitionRow(
            run_id=attempt.run_id,
            test_index=attempt.test_index,
            attempt=attempt.number,
            targets=msgspec.json.encode(targets).decode(),
            token=attempt.token,
        )
        await self._store.record_acquisition(job.lease, row)

    def _failed(self, job: Job, attempt: Attempt, error: str, blame: Blame) -> None:
        job.log.warning("test %s: %s", attempt.name, error)
        event = job.record(
            "TargetAcquireErr",
            run_id=attempt.run_id,
            test=attempt.name,
            attempt=attempt.number,
            payload=msgspec.json.encode({"Error": error, "Blame": blame.value}),
        )
        attempt.tree.acquire_failed(event, error)
        job.target_failed = True
        job.blame(blame)

    async def _unlock(self, job: Job, locker: _JobLocker) -> None:
        if locker.tokens:
            await self._locker.release(job.id, max(locker.tokens.values()), list(locker.tokens))

    # --- release

    async def release(self, job: Job, test: TestPlan, attempt: Attempt, acquired: Acquired) -> None:
        """Gives the targets back and unlocks those that nothing is left on. Raises `JobFailed`."""
        failure: JobFailed | None = None
        try:
            await self._give_back(job, test, acquired.manager, acquired.targets)
        except JobFailed as error:
            failure = error
        kept = [target.id for target in acquired.targets if target.id in job.left]
        for target in acquired.targets:
            job.write(
                "TargetReleased",
                run_id=attempt.run_id,
                test=attempt.name,
                attempt=attempt.number,
                target=target.id,
                token=attempt.token,
            )
        if any(what.startswith("process ") for what in job.left):
            kept = [target.id for target in acquired.targets]
        free = [target.id for target in acquired.targets if target.id not in kept]
        await self._locker.release(job.id, attempt.token, free)
        if kept:
            self._locker.keep(job.id, attempt.token)
        await self._store.release_acquisition(job.lease, attempt.run_id, attempt.test_index, attempt.number)
        if failure is not None and job.stopping.why is None:
            raise failure

    async def _give_back(
        self, job: Job, test: TestPlan, manager: TargetManager[Any, Any], targets: Sequence[Target]
    ) -> None:
        timeout = job.plan.release_timeout
        patience = seconds(timeout)
        context = ReleaseContext(
            job_id=job.id, deadline=asyncio.get_running_loop().time() + patience, log=job.log
        )
        parameters = msgspec.json.decode(test.release_parameters, type=manager.ReleaseParameters)
        try:
            async with asyncio.timeout(patience):
                await _guarded(job, "release", lambda: manager.release(targets, parameters, context))
        except TimeoutError:
            raise JobFailed(f"target manager release timed out after {format_duration(timeout)}") from None
        except AcquireFailed as error:
            raise JobFailed(f"failed to release targets: {error}", blame=Blame.PLUGIN) from None


async def _guarded(job: Job, what: str, call: Callable[[], Awaitable[T]]) -> T:
    """The boundary to a target manager's code: what it raises is said, and blamed on it."""
    try:
        return await call()
    except (AcquireFailed, JobFailed, TimeoutError):
        raise
    except Exception as error:
        job.log.exception("the target manager failed to %s", what)
        job.blame(Blame.PLUGIN)
        raise AcquireFailed(f"{type(error).__name__}: {error}") from error


async def _bounded(job: Job, work: Any, patience: float | None, late: str) -> Any:
    """The result of the work; gives up when the job is stopped, or after so many seconds."""
    task = asyncio.ensure_future(work)
    if job.stopping.why is None and await _quick(task):
        return task.result()
    stopped = asyncio.ensure_future(_stop_of(job))
    try:
        await asyncio.wait([task, stopped], timeout=patience, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopped.cancel()
        if not task.done():
            task.cancel()
            await asyncio.wait([task])
    if not task.cancelled():
        return task.result()
    if job.stopping.why is not None:
        raise _Stopped
    raise JobFailed(late)


async def _quick(task: asyncio.Future[Any]) -> bool:
    # Most acquisitions need nothing but a turn of the loop or two: they are spared the second task.
    for _ in range(3):
        await asyncio.sleep(0)
        if task.done():
            return True
    return False


async def _stop_of(job: Job) -> None:
    await job.stopping


def _check(targets: Sequence[Target]) -> None:
    if not targets:
        raise AcquireFailed("there are no targets")
    seen: set[str] = set()
    for target in targets:
        if not target.id.strip():
            raise AcquireFailed("a target has no ID")
        if len(target.id.encode()) > MAX_TARGET_ID_BYTES:
            raise AcquireFailed(
                f"target ID {target.id!r} is too long: the limit is {MAX_TARGET_ID_BYTES} bytes"
            )
        if target.id in seen:
            raise AcquireFailed(f"target {target.id!r} is there twice")
        seen.add(target.id)
