"""Acquires and releases the targets of a test: the target manager's word, the locks, the timeouts.

What goes wrong with the targets themselves fails the attempt and the job goes on, as in ConTest; a target manager
that does not come back in time fails the job, and nothing stays locked.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from contest_core import Blame
from contest_core.settings import format_duration
from contest_runner.attempt import Attempt
from contest_runner.bounded import (
    STUBBORN,
    JobStopped,
    PluginFault,
    TooLate,
    guarded,
    leave_behind,
    while_running,
)
from contest_runner.catalog import Catalog
from contest_runner.faults import FAULTS, describe, storable
from contest_runner.job import Job, JobFailed
from contest_runner.parts import AcquireContext, AcquireFailed, ReleaseContext, TargetManager, decode_part
from contest_runner.plan import TestPlan
from contest_runner.recovery import RecoveredTest
from contest_runner.status_tree import TestTree
from contest_runner.store import AcquireTimeout, AcquisitionRow, Store, StoreError
from contest_runner.store.locker import Locker
from contest_runner.target import MAX_TARGET_ID_BYTES, Target
from contest_runner.times import moment, seconds

_SLACK = 1.0
"""Seconds that a target manager has, beyond the deadline of the locks, to say so itself."""

_PLAIN_ID = re.compile(rf"[!-~]{{1,{MAX_TARGET_ID_BYTES}}}").fullmatch

T = TypeVar("T")


class Acquired(Struct, frozen=True, kw_only=True):
    """What an attempt works on."""

    targets: tuple[Target, ...]
    manager: Any
    """The `TargetManager` that gave them; None after an interruption: then it is made when it is needed."""


class _ManagerFault(AcquireFailed):
    """The target manager's code is to blame."""


class _JobLocker:
    """The locker, for one attempt of one job; it remembers what it got."""

    def __init__(self, locker: Locker, job: Job) -> None:
        self._locker = locker
        self._job = job
        self._closed = False
        self.tokens: dict[str, int] = {}
        """By target, the token of its lock."""

    async def acquire(
        self, candidates: Sequence[Target], *, count: int | None = None, deadline: float
    ) -> Sequence[Target]:
        """All of the candidates, or `count` of them; waits. Raises `AcquireFailed`."""
        return await self._acquire(candidates, count, deadline, durable=True)

    async def lock(self, targets: Sequence[Target], *, deadline: float) -> None:
        """For the runner, which does nothing with them before what it writes next is on disk, and with that this."""
        await self._acquire(targets, None, deadline, durable=False)

    async def _acquire(
        self, candidates: Sequence[Target], count: int | None, deadline: float, *, durable: bool
    ) -> Sequence[Target]:
        if self._closed:
            raise AcquireFailed("the acquisition is over")
        by_id = {target.id: target for target in candidates}
        try:
            locked = await self._locker.acquire(
                self._job.id,
                list(by_id),
                count=count,
                deadline=deadline,
                on_waiting=self._job.wait_for,
                durable=durable,
            )
        except AcquireTimeout as error:
            raise AcquireFailed(str(error)) from None
        self.tokens.update(dict.fromkeys(locked.targets, locked.token))
        return [by_id[target] for target in locked.targets]

    def keep_only(self, targets: Sequence[Target]) -> None:
        """Frees what was locked and is not among these."""
        kept = {target.id for target in targets}
        self._free([target for target in self.tokens if target not in kept])

    def close(self) -> None:
        """Frees everything, and locks nothing any more: the target manager may not have ended."""
        self._closed = True
        self._free(list(self.tokens))

    def _free(self, targets: Sequence[str]) -> None:
        freed = {self.tokens.pop(target) for target in targets}
        for token in freed:
            self._locker.release_soon(self._job.id, token, targets)


class Acquiring:
    """Acquires and releases for all jobs of a store."""

    def __init__(self, store: Store, locker: Locker, catalog: Catalog, *, stop_grace: float) -> None:
        """`stop_grace` is what a release has, in seconds, once somebody is in a hurry."""
        self._stop_grace = stop_grace
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
        manager: TargetManager[Any, Any] | None = None
        try:
            if before is not None:
                targets = await self._again(job, locker, before.targets)
            else:
                manager = self._manager(test)
                targets = await self._ask(job, test, manager, locker)
        except BaseException as error:
            locker.close()
            if isinstance(error, AcquireFailed):
                blame = Blame.PLUGIN if isinstance(error, _ManagerFault) else Blame.INFRASTRUCTURE
                self._failed(job, attempt, storable(error), blame)
                # Of attempts without an interval nothing else waits where the store falls behind.
                await self._store.room()
            elif not isinstance(error, JobStopped):
                raise
            return None
        attempt.token = max(locker.tokens.values(), default=0)
        acquired = Acquired(targets=tuple(targets), manager=manager)
        if before is None:
            await self._write_down(job, attempt, acquired.targets)
        return acquired

    def _manager(self, test: TestPlan) -> TargetManager[Any, Any]:
        try:
            return self._catalog.target_manager(test.target_manager)()
        # The boundary to a target manager's code, its import and its constructor.
        except FAULTS as error:
            raise _ManagerFault(f"target manager {test.target_manager}: {describe(error)}") from error

    async def _ask(
        self, job: Job, test: TestPlan, manager: TargetManager[Any, Any], locker: _JobLocker
    ) -> Sequence[Target]:
        patience = seconds(job.plan.acquire_timeout)
        late = f"target manager acquire timed out after {format_duration(job.plan.acquire_timeout)}"
        if patience <= 0:
            raise JobFailed(late)
        deadline = asyncio.get_running_loop().time() + patience
        only = frozenset(test.only) or None
        context = AcquireContext(job_id=job.id, locker=locker, deadline=deadline, log=job.log, only=only)
        given: list[Sequence[Target]] = []

        async def both() -> Sequence[Target]:
            parameters = decode_part(test.acquire_parameters, manager.AcquireParameters)
            targets = _typed(await guarded(lambda: manager.acquire(parameters, context)))
            given.append(targets)
            _check(targets, only)
            # Under one token in the end, whatever the manager locked by itself and in how many calls.
            tokens = {locker.tokens.get(target.id) for target in targets}
            if None in tokens or len(tokens) > 1:
                await locker.lock(targets, deadline=deadline)
            locker.keep_only(targets)
            return targets

        try:
            return await _blamed(job, "acquire", while_running(job, both(), patience=patience + _SLACK))
        except (AcquireFailed, JobStopped, TooLate) as error:
            if given:
                await self._give_back(job, test, manager, given[0])
            if isinstance(error, TooLate):
                raise JobFailed(late) from None
            raise

    async def _again(self, job: Job, locker: _JobLocker, targets: Sequence[Target]) -> Sequence[Target]:
        deadline = asyncio.get_running_loop().time() + seconds(job.plan.acquire_timeout)
        acquiring = locker.acquire(targets, deadline=deadline)
        # Of a job that is stopped already they are cleaned up.
        return await (acquiring if job.stopping.why is not None else while_running(job, acquiring))

    async def _write_down(self, job: Job, attempt: Attempt, targets: Sequence[Target]) -> None:
        now = _tell(job, attempt, "TargetAcquired", targets)
        _tree(job, attempt).acquired([target.info() for target in targets], attempt.number, moment(now))
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
        _tree(job, attempt).acquire_failed(event, error, attempt.number, blame.value)
        attempt.outcome.fail(None, blame)

    # --- release

    async def release(self, job: Job, test: TestPlan, attempt: Attempt, acquired: Acquired) -> None:
        """Gives the targets back and unlocks those that nothing is left on. Raises `JobFailed`."""
        failure: JobFailed | None = None
        try:
            await self._give_back(job, test, acquired.manager, acquired.targets)
        except JobFailed as error:
            failure = error
        now = _tell(job, attempt, "TargetReleased", acquired.targets)
        _tree(job, attempt).released(moment(now))
        free = [target.id for target in acquired.targets if target.id not in job.left and not job.survivors]
        # Events and locks are one commit: nothing is awaited in between.
        self._locker.release_soon(job.id, attempt.token, free)
        if len(free) < len(acquired.targets):
            self._locker.keep(job.id, attempt.token)
        if failure is None:
            return
        if job.stopping.why is None:
            raise failure
        job.log.error("%s", failure)

    async def give_back_recovered(
        self, job: Job, test: TestPlan, attempt: Attempt, before: RecoveredTest
    ) -> None:
        """Gives back what an interrupted test had, of a job that does not go on. Raises `JobFailed`."""
        await self.release(job, test, attempt, Acquired(targets=before.targets, manager=None))

    async def _give_back(
        self, job: Job, test: TestPlan, given: TargetManager[Any, Any] | None, targets: Sequence[Target]
    ) -> None:
        patience = seconds(job.plan.release_timeout)
        context = ReleaseContext(
            job_id=job.id, deadline=asyncio.get_running_loop().time() + patience, log=job.log
        )

        async def release() -> None:
            manager = self._manager(test) if given is None else given
            parameters = decode_part(test.release_parameters, manager.ReleaseParameters)
            await guarded(lambda: manager.release(targets, parameters, context))

        # A stop does not shorten it: what was acquired is given back on every path.
        task = asyncio.ensure_future(_blamed(job, "release", release()))
        try:
            # Much of what is released needs nothing but one turn of the loop.
            await asyncio.sleep(0)
            if not task.done():
                await self._patiently(job, task, patience)
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait([task], timeout=STUBBORN)
            if not task.done():
                leave_behind(job, task)
        if not task.done() or task.cancelled():
            late = f"timed out after {format_duration(job.plan.release_timeout)}"
            raise JobFailed(f"target manager release {'was given up' if job.urgent.is_set() else late}")
        error = task.exception()
        if isinstance(error, AcquireFailed):
            blame = Blame.PLUGIN if isinstance(error, _ManagerFault) else Blame.INFRASTRUCTURE
            raise JobFailed(f"failed to release targets: {storable(error)}", blame=blame) from None
        task.result()

    async def _patiently(self, job: Job, task: asyncio.Future[None], patience: float) -> None:
        """Waits for a release: as long as the job wants, or the grace of a stop from when somebody is in a hurry."""
        end = asyncio.get_running_loop().time() + patience
        urgent = asyncio.ensure_future(job.urgent.wait())
        try:
            both: list[asyncio.Future[Any]] = [task, urgent]
            await asyncio.wait(both, timeout=max(0.0, patience), return_when=asyncio.FIRST_COMPLETED)
            if not task.done() and urgent.done():
                left = end - asyncio.get_running_loop().time()
                await asyncio.wait([task], timeout=max(0.0, min(left, self._stop_grace)))
        finally:
            urgent.cancel()


async def _blamed(job: Job, what: str, work: Coroutine[Any, Any, T]) -> T:
    """The boundary to a target manager's code: what it raises is said, and blamed on it."""
    try:
        return await work
    except (AcquireFailed, JobStopped, TooLate, StoreError):
        raise
    except Exception as error:
        job.log.exception("the target manager failed to %s", what)
        said = str(error) if isinstance(error, PluginFault) else describe(error)
        raise _ManagerFault(said) from error


def _tree(job: Job, attempt: Attempt) -> TestTree:
    assert job.run is not None
    return job.run.tests[attempt.test_index]


def _tell(job: Job, attempt: Attempt, name: str, targets: Sequence[Target]) -> int:
    """Writes an event for each of the targets: it happened to all of them together. Gives its time."""
    return job.write_each(
        name,
        [target.id for target in targets],
        run_id=attempt.run_id,
        test=attempt.name,
        attempt=attempt.number,
        token=attempt.token,
    )


def _typed(targets: Any) -> Sequence[Target]:
    if not isinstance(targets, Sequence) or not all(isinstance(target, Target) for target in targets):
        raise PluginFault(f"it gave a {type(targets).__name__} and no targets")
    return targets


def _check(targets: Sequence[Target], only: frozenset[str] | None) -> None:
    if not targets:
        raise AcquireFailed("there are no targets")
    ids = [target.id for target in targets]
    if only is not None and (others := only.symmetric_difference(ids)):
        wrong = min(others)
        raise PluginFault(
            f"it {'did not give' if wrong in only else 'gave'} target {wrong!r}: {len(only)} are meant"
        )
    if all(map(_PLAIN_ID, ids)) and len(set(ids)) == len(ids):
        return
    seen: set[str] = set()
    for target in targets:
        if not target.id.strip():
            raise AcquireFailed("a target has no ID")
        if "\0" in target.id:
            raise AcquireFailed(f"target ID {target.id!r} has a NUL character")
        if len(target.id.encode()) > MAX_TARGET_ID_BYTES:
            raise AcquireFailed(
                f"target ID {target.id!r} is too long: the limit is {MAX_TARGET_ID_BYTES} bytes"
            )
        if target.id in seen:
            raise AcquireFailed(f"target {target.id!r} is there twice")
        seen.add(target.id)
