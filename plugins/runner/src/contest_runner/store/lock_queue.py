"""Who holds which target, and whose turn it is: the locker's rules, in memory and without waiting.

The locker calls it and is told of every grant; it knows no database, no event loop and no job but by number.
The rules:

1. A target has at most one owner. A lock that ran out is its owner's until somebody else wants the target.
2. A request gets all of its targets at once or, of a pool, as many as it asked for; before that it gets none.
3. It is granted when enough of its targets are open to it: held by its own job, or free and no earlier request
   waits for them. So a later request overtakes only where no earlier one needs what it takes.
4. Every grant has a token larger than any before. What a job asks for that it has already under one token, it
   keeps under that token; asked for with more, it moves under the new one.

A request that waits stands in the queue of each of its targets that its job does not hold, in the order of
arrival, and counts how many of its targets are open to it (`Request.open`); each step below keeps that number.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterable
from heapq import heappop, heappush

from contest_runner.store.rows import Blocker


class Grant:
    """What a job holds under one token."""

    __slots__ = ("job_id", "kept", "targets", "token", "until")

    def __init__(self, job_id: int, token: int, until: int) -> None:
        self.job_id = job_id
        self.token = token
        self.until = until
        """When others may take the targets."""
        self.kept = False
        """True: it is not renewed any more and stays until it runs out."""
        self.targets: dict[str, int] = {}
        """Each with the time since which the job holds it."""


class Request:
    """One call of `acquire`. Once granted it has a grant and the targets chosen."""

    __slots__ = (
        "arrival",
        "chosen",
        "fresh",
        "grant",
        "job_id",
        "need",
        "new",
        "open",
        "own",
        "since",
        "targets",
    )

    def __init__(self, job_id: int, targets: tuple[str, ...], need: int, since: int) -> None:
        self.job_id = job_id
        self.targets = targets
        self.need = need
        self.since = since
        self.arrival = 0
        self.open = 0
        self.own: set[str] = set()
        """Of the targets, those that the job holds: it does not queue for them."""
        self.grant: Grant | None = None
        self.chosen: tuple[str, ...] = ()
        self.new = False
        """The grant was made for it, under a token of its own."""
        self.fresh: tuple[str, ...] = ()
        """Of the chosen, those that the job did not hold before."""


class LockQueue:
    """See the module. Times are microseconds."""

    def __init__(
        self,
        *,
        clock: Callable[[], int],
        duration: int,
        on_grant: Callable[[Request], None],
        on_lapse: Callable[[Grant, list[str]], None],
    ) -> None:
        self.token = 0
        """The last one given."""
        self.held: dict[str, Grant] = {}
        self._grants: dict[int, dict[int, Grant]] = {}
        """By job and token."""
        self._clock = clock
        self._duration = duration
        self._on_grant = on_grant
        self._on_lapse = on_lapse
        self._arrivals = 0
        self._queues: dict[str, list[Request]] = {}
        self._waiting: dict[int, list[Request]] = {}

    @property
    def waiting(self) -> bool:
        """True while any request waits."""
        return bool(self._waiting)

    @property
    def grants(self) -> list[Grant]:
        """All of them."""
        return [grant for of_job in self._grants.values() for grant in of_job.values()]

    def of(self, job_id: int, token: int | None = None) -> list[Grant]:
        """A job's grants, or the one under a token."""
        of_job = self._grants.get(job_id, {})
        if token is None:
            return list(of_job.values())
        return [of_job[token]] if token in of_job else []

    def enter(self, request: Request) -> None:
        """Grant it at once, or let it wait for its turn."""
        self._arrivals += 1
        request.arrival = self._arrivals
        if self.held.keys().isdisjoint(request.targets) and self._queues.keys().isdisjoint(request.targets):
            self._give(request, request.targets[: request.need])
            return
        self._lapse(request.targets, request.job_id)
        self._waiting.setdefault(request.job_id, []).append(request)
        for target in request.targets:
            self._stand(request, target)
        self._grant_ready([request])

    def leave(self, request: Request) -> None:
        """Give up waiting; those behind it move up."""
        self._grant_ready(self._withdraw(request))

    def free(self, grant: Grant, targets: Iterable[str] | None = None) -> None:
        """Take targets, or all, from a grant; whoever waits for them gets his turn."""
        if targets is None and not self._waiting:
            for target in grant.targets:
                del self.held[target]
            grant.targets.clear()
            self._drop(grant)
            return
        ready: list[Request] = []
        for target in list(grant.targets) if targets is None else targets:
            if self.held.get(target) is grant:
                self._take_back(grant, target)
                ready += self._free(grant.job_id, target)
        self._grant_ready(ready)

    def extend(self, grant: Grant, at_least: int = 0) -> int:
        """Let it run out later, `at_least` so long from now; when."""
        grant.until = max(grant.until, self._clock() + max(self._duration, at_least))
        return grant.until

    def lapse(self) -> None:
        """Free what has run out and is waited for."""
        now = self._clock()
        for grant in [grant for grant in self.grants if grant.until < now]:
            self._lapse([target for target in grant.targets if target in self._queues], None)

    def blockers(self, request: Request, limit: int) -> list[Blocker]:
        """Why it waits: its targets that are not open to it, in its own order."""
        found: list[Blocker] = []
        for target in request.targets:
            if len(found) == limit:
                break
            grant, queue = self.held.get(target), self._queues.get(target, [])
            if grant is not None and grant.job_id != request.job_id:
                since, until = grant.targets[target], grant.until
                found.append(
                    Blocker(target=target, held_by=grant.job_id, since=since, until=until, queued=False)
                )
            elif grant is None and queue and queue[0] is not request:
                ahead, since = queue[0].job_id, queue[0].since
                found.append(Blocker(target=target, held_by=ahead, since=since, until=None, queued=True))
        return found

    def restore(self, job_id: int, token: int, until: int, target: str, since: int) -> None:
        """Take over a lock that was on disk."""
        grant = self._grants.setdefault(job_id, {}).setdefault(token, Grant(job_id, token, until))
        grant.targets[target] = since
        self.held[target] = grant

    def _stand(self, request: Request, target: str) -> None:
        grant = self.held.get(target)
        if grant is not None and grant.job_id == request.job_id:
            request.own.add(target)
            request.open += 1
            return
        queue = self._queues.setdefault(target, [])
        insort(queue, request, key=_arrival)
        if grant is None and queue[0] is request:
            request.open += 1

    def _grant_ready(self, candidates: Iterable[Request]) -> None:
        """Grant those whose turn it is, and those whose turn it is then; the earliest first.

        A request is among the candidates once for each target that has become open to it.
        """
        ready = {request.arrival: request for request in candidates}
        arrivals = sorted(ready)
        while arrivals:
            request = ready.pop(heappop(arrivals))
            if request.grant is None and request.open >= request.need:
                chosen = [target for target in request.targets if self._is_open(request, target)]
                for other in self._give(request, tuple(chosen[: request.need])):
                    if other.arrival not in ready:
                        ready[other.arrival] = other
                        heappush(arrivals, other.arrival)

    def _is_open(self, request: Request, target: str) -> bool:
        return target in request.own or (target not in self.held and self._queues[target][0] is request)

    def _give(self, request: Request, chosen: tuple[str, ...]) -> list[Request]:
        """Grant it; those whose turn it may be now (of a pool some targets are left over)."""
        owners = {self.held.get(target) for target in chosen}
        same = owners.pop() if len(owners) == 1 else None
        if same is not None:
            self.extend(same)
        grant = same or self._new_grant(request, chosen)
        request.new = same is None
        request.grant = grant
        request.chosen = chosen
        ready = self._withdraw(request) + (self._own_now(request) if request.fresh else [])
        self._on_grant(request)
        return ready

    def _new_grant(self, request: Request, chosen: tuple[str, ...]) -> Grant:
        self.token += 1
        now = self._clock()
        grant = Grant(request.job_id, self.token, now + self._duration)
        grant.targets = dict.fromkeys(chosen, now)
        for target in request.own.intersection(chosen) if request.own else ():
            former = self.held[target]
            grant.targets[target] = former.targets[target]
            grant.until = max(grant.until, former.until)
            self._take_back(former, target)
        request.fresh = (
            tuple(target for target in chosen if target not in request.own) if request.own else chosen
        )
        self.held.update(dict.fromkeys(chosen, grant))
        self._grants.setdefault(grant.job_id, {})[grant.token] = grant
        return grant

    def _take_back(self, grant: Grant, target: str) -> None:
        del self.held[target]
        del grant.targets[target]
        if not grant.targets:
            self._drop(grant)

    def _drop(self, grant: Grant) -> None:
        of_job = self._grants.get(grant.job_id, {})
        of_job.pop(grant.token, None)
        if not of_job:
            self._grants.pop(grant.job_id, None)

    def _own_now(self, request: Request) -> list[Request]:
        """Other requests of the same job need not queue for what it got."""
        ready: list[Request] = []
        for other in self._waiting.get(request.job_id, ()):
            for target in set(request.fresh).intersection(other.targets):
                self._unqueue(other, target)
                other.own.add(target)
                other.open += 1
            ready.append(other)
        return ready

    def _withdraw(self, request: Request) -> list[Request]:
        """Take it out of every queue; those that moved up."""
        waiting = self._waiting.get(request.job_id, [])
        if request not in waiting:
            return []
        waiting.remove(request)
        if not waiting:
            del self._waiting[request.job_id]
        moved = [self._unqueue(request, target) for target in request.targets if target not in request.own]
        return [other for other in moved if other is not None]

    def _unqueue(self, request: Request, target: str) -> Request | None:
        """Take it out of a target's queue; the one to whom the target is open now."""
        queue = self._queues[target]
        first = queue[0] is request
        queue.remove(request)
        if not queue:
            del self._queues[target]
        elif first and target not in self.held:
            queue[0].open += 1
            return queue[0]
        return None

    def _free(self, job_id: int, target: str) -> list[Request]:
        """The target has no owner any more; the one to whom it is open now."""
        for request in self._waiting.get(job_id, ()):
            if target in request.own:
                request.own.discard(target)
                request.open -= 1
                insort(self._queues.setdefault(target, []), request, key=_arrival)
        queue = self._queues.get(target)
        if not queue:
            return []
        queue[0].open += 1
        return [queue[0]]

    def _lapse(self, targets: Iterable[str], but_of: int | None) -> None:
        now = self._clock()
        lapsed: dict[Grant, list[str]] = {}
        for target in targets:
            grant = self.held.get(target)
            if grant is not None and grant.until < now and grant.job_id != but_of:
                lapsed.setdefault(grant, []).append(target)
        for grant, lost in lapsed.items():
            self._on_lapse(grant, lost)
            self.free(grant, lost)


def _arrival(request: Request) -> int:
    return request.arrival
