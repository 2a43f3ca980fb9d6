"""The target locker: jobs wait here for their targets, each in its turn.

The engine and, through it, target managers call it; nobody polls. It is for a store that has one server: who holds
what is decided in memory (`lock_queue`), and the rows (`lock_table`) are its durable image. A grant is given
out when its rows are on disk. What is freed may be granted in memory before the deletion is on disk: the rows are
written in that order, so no crash can show two owners.
"""

from __future__ import annotations

from asyncio import Future, TimerHandle, get_running_loop, timeout_at
from collections.abc import Callable, Sequence

from contest_runner.store.errors import AcquireTimeout, LockLost
from contest_runner.store.lock_queue import Grant, LockQueue, Request
from contest_runner.store.lock_table import LockTable
from contest_runner.store.rows import Blocker, Locked, LockRow
from contest_runner.store.store import Store


class Waiter:
    """A call of `acquire` that waits, for those who show why."""

    def __init__(self, queue: LockQueue, request: Request) -> None:
        self._queue = queue
        self._request = request
        self._turn: Future[None] = get_running_loop().create_future()
        self.job_id = request.job_id
        self.since = request.since

    def blockers(self, limit: int = 100) -> list[Blocker]:
        """The targets that are not to be had now, and who has them."""
        return self._queue.blockers(self._request, limit)


def _ignore(*_: object) -> None:
    pass


class Locker:
    """See the module. All of it belongs on the store's event loop."""

    def __init__(
        self,
        store: Store,
        *,
        duration: float = 600.0,
        on_lost: Callable[[int, int, Sequence[str]], None] = _ignore,
    ) -> None:
        """Locks run out after `duration` seconds unless they are renewed.

        `on_lost` is called with job, token and targets when a lock had run out and somebody else wants the target.
        """
        self._store = store
        self._table = LockTable(store)
        self._queue = LockQueue(
            clock=store.now,
            duration=int(duration * 1_000_000),
            on_grant=self._granted,
            on_lapse=self._lapsed,
        )
        self._on_lost = on_lost
        self._waiters: dict[Request, Waiter] = {}
        self._written: dict[Request, Future[None]] = {}
        self._timer: TimerHandle | None = None

    async def open(self) -> None:
        """Take over the locks on disk: those of jobs that have not ended, for another `duration`."""
        self._queue.token, rows = await self._table.load()
        for row in rows:
            self._queue.restore(row.job_id, row.token, row.until, row.target, row.since)
        await self.renew_all()

    def close(self) -> None:
        """Let nothing be woken any more. The locks stay as they are."""
        if self._timer is not None:
            self._timer.cancel()

    async def acquire(
        self,
        job_id: int,
        targets: Sequence[str],
        *,
        count: int | None = None,
        deadline: float | None = None,
        on_waiting: Callable[[Waiter | None], None] = _ignore,
        durable: bool = True,
    ) -> Locked:
        """Lock all of the targets, or any `count` of them, for a job; on disk when this returns.

        Not `durable`, it is on disk together with what the caller writes before he waits for anything.

        Waits for its turn until `deadline` (in `loop.time()`; one that has passed means not to wait); then
        AcquireTimeout. `on_waiting` gets the waiter when the wait begins and None when it ends. Targets that
        the job holds already stay its own. Cancelled, it takes nothing. Of no targets the token is 0. Raises
        ValueError for a blank target, and for one that cannot be stored.
        """
        wanted = _checked(job_id, targets, count)
        need = len(wanted) if count is None else count
        if not need:
            return Locked(token=0, targets=(), until=self._store.now())
        request = Request(job_id, wanted, need, self._store.now())
        try:
            self._queue.enter(request)
            if request.grant is None:
                await self._wait(request, deadline, on_waiting)
            if durable:
                await self._written[request]
        except BaseException:
            self._undo(request)
            raise
        finally:
            self._written.pop(request, None)
        grant = _grant_of(request)
        return Locked(token=grant.token, targets=request.chosen, until=grant.until)

    async def extend(self, job_id: int, token: int, seconds: float = 0.0) -> None:
        """Renew what a job holds under a token, for `seconds` at the least.

        Raises LockLost where that is nothing any more.
        """
        grants = self._queue.of(job_id, token)
        if not grants:
            raise LockLost(job_id, ())
        until = self._queue.extend(grants[0], int(seconds * 1_000_000))
        self._table.extend([(job_id, token, until)])
        await self._store.committed()

    async def renew_all(self) -> None:
        """Renew all locks but those that are kept; free those of these that ran out. For a timer."""
        now = self._store.now()
        grants = self._queue.grants
        for grant in grants:
            if grant.kept and grant.until < now:
                self._release(grant, None)
        renewed = [grant for grant in grants if not grant.kept]
        if renewed:
            self._table.extend([(grant.job_id, grant.token, self._queue.extend(grant)) for grant in renewed])
            await self._store.committed()

    async def release(self, job_id: int, token: int | None, targets: Sequence[str] | None = None) -> None:
        """As `release_soon`, and wait until that is on disk."""
        self.release_soon(job_id, token, targets)
        await self._store.committed()

    def release_soon(self, job_id: int, token: int | None, targets: Sequence[str] | None = None) -> None:
        """Free what a job holds under a token, or some of it; without a token, all that the job holds.

        The deletion joins the batch being gathered. What is not held is ignored.
        """
        for grant in self._queue.of(job_id, token):
            self._release(grant, targets)

    def keep(self, job_id: int, token: int | None = None) -> None:
        """Renew these locks, or all of the job, no more: others get the targets when they have run out."""
        for grant in self._queue.of(job_id, token):
            grant.kept = True

    def holds(self, job_id: int, token: int, target: str) -> bool:
        """True while the job holds the target under the token."""
        grant = self._queue.held.get(target)
        return grant is not None and (grant.job_id, grant.token) == (job_id, token)

    def locks(self) -> list[LockRow]:
        """All locks, by target."""
        return [
            LockRow(
                target=target,
                job_id=grant.job_id,
                token=grant.token,
                since=grant.targets[target],
                until=grant.until,
            )
            for target, grant in sorted(self._queue.held.items(), key=lambda item: item[0])
        ]

    def expire(self) -> None:
        """Give what has run out to those who wait for it. Called by the locker's own timer."""
        self._timer = None
        self._queue.lapse()
        self._arm()

    async def _wait(
        self, request: Request, deadline: float | None, on_waiting: Callable[[Waiter | None], None]
    ) -> None:
        waiter = self._waiters[request] = Waiter(self._queue, request)
        self._arm()
        try:
            on_waiting(waiter)
            async with timeout_at(deadline):
                await waiter._turn
        except TimeoutError:
            # The turn may have come in the same moment as the deadline.
            if request.grant is None:
                raise AcquireTimeout(waiter.blockers()) from None
        finally:
            del self._waiters[request]
            on_waiting(None)

    def _granted(self, request: Request) -> None:
        grant = _grant_of(request)
        if request.new:
            self._table.put(grant.job_id, grant.token, grant.until, grant.targets)
        else:
            self._table.extend([(grant.job_id, grant.token, grant.until)])
        self._written[request] = written = self._store.committed()
        written.add_done_callback(_seen)
        if request in self._waiters and not self._waiters[request]._turn.done():
            self._waiters[request]._turn.set_result(None)

    def _undo(self, request: Request) -> None:
        """Leave the queue, or give back what was granted; what the job held before stays its own."""
        if request.grant is None:
            self._queue.leave(request)
        elif request.fresh:
            self._release(request.grant, request.fresh)

    def _release(self, grant: Grant, targets: Sequence[str] | None) -> None:
        freed = [
            target for target in (grant.targets if targets is None else targets) if target in grant.targets
        ]
        self._table.drop(freed)
        self._queue.free(grant, None if len(freed) == len(grant.targets) else freed)

    def _lapsed(self, grant: Grant, targets: list[str]) -> None:
        self._table.drop(targets)
        self._on_lost(grant.job_id, grant.token, targets)

    def _arm(self) -> None:
        """While somebody waits: look again when the next lock runs out."""
        if self._timer is not None or not self._queue.waiting:
            return
        now = self._store.now()
        untils = [grant.until for grant in self._queue.grants if grant.until >= now]
        if untils:
            # Behind the end, not at it: a lock is its owner's up to and with that moment.
            delay = (min(untils) - now) / 1_000_000 + 0.001
            self._timer = get_running_loop().call_later(delay, self.expire)


def _grant_of(request: Request) -> Grant:
    if request.grant is None:
        raise AssertionError("not granted")
    return request.grant


def _seen(future: Future[None]) -> None:
    """Nobody has to look at it: what failed the write fails whoever waits for the commit, too."""
    if not future.cancelled():
        future.exception()


def _storable(target: str) -> bool:
    return target.isascii() or target.encode(errors="ignore").decode() == target


def _checked(job_id: int, targets: Sequence[str], count: int | None) -> tuple[str, ...]:
    wanted = tuple(dict.fromkeys(targets))
    if job_id <= 0:
        raise ValueError(f"job {job_id} cannot own a lock")
    if not all(map(str.strip, wanted)):
        raise ValueError("a target to lock has no ID")
    if not all(map(_storable, wanted)):
        raise ValueError("the ID of a target to lock is no text that can be stored")
    if count is not None and not 0 <= count <= len(wanted):
        raise ValueError(f"{count} of {len(wanted)} targets cannot be locked")
    return wanted
