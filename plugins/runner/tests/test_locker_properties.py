"""The locker's rules hold whatever jobs do: Hypothesis plays them against a slow and simple model."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from contest_runner.store.lock_queue import Grant, LockQueue, Request

TARGETS = ("a", "b", "c", "d", "e")
DURATION = 100

jobs = st.integers(1, 4)
some_targets = st.lists(st.sampled_from(TARGETS), min_size=1, max_size=4, unique=True)


@dataclass
class Waiting:
    """What the model knows of a request that waits."""

    arrival: int
    request: Request


@dataclass
class Model:
    """Who owns what, until when; who waits, in the order of arrival."""

    owner: dict[str, tuple[int, int]] = field(default_factory=dict)
    waiting: list[Waiting] = field(default_factory=list)

    def may_have(self, index: int) -> list[str]:
        """By the rules, the targets that are open to the request at `index`."""
        request = self.waiting[index].request
        wanted_before = {target for each in self.waiting[:index] for target in self.queued(each.request)}
        return [
            target
            for target in request.targets
            if self.owner.get(target, (request.job_id, 0))[0] == request.job_id
            and (target in self.owner or target not in wanted_before)
        ]

    def queued(self, request: Request) -> list[str]:
        """What a request stands in a queue for: all but what its own job holds."""
        return [
            target
            for target in request.targets
            if target not in self.owner or self.owner[target][0] != request.job_id
        ]


class LockerRules(RuleBasedStateMachine):
    """Requests, releases, ends and time, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000
        self.arrivals = count()
        self.model = Model()
        self.tokens: list[int] = []
        self.queue = LockQueue(
            clock=lambda: self.now, duration=DURATION, on_grant=self.granted, on_lapse=self.lapsed
        )

    def granted(self, request: Request) -> None:
        grant = request.grant
        assert grant is not None
        assert len(request.chosen) == request.need
        assert set(request.chosen) <= set(request.targets)
        index = next(index for index, each in enumerate(self.model.waiting) if each.request is request)
        open_ones = self.model.may_have(index)
        assert set(request.chosen) <= set(open_ones), "it overtook, or took what another owns"
        del self.model.waiting[index]
        if request.fresh:
            assert grant.token > max(self.tokens, default=0)
            self.tokens.append(grant.token)
        for target in request.chosen:
            self.model.owner[target] = (request.job_id, grant.token)

    def lapsed(self, grant: Grant, targets: list[str]) -> None:
        assert grant.until < self.now
        for target in targets:
            assert self.model.owner.pop(target) == (grant.job_id, grant.token)

    @rule(job_id=jobs, wanted=some_targets, data=st.data())
    def acquire(self, job_id: int, wanted: list[str], data: st.DataObject) -> None:
        need = data.draw(st.one_of(st.just(len(wanted)), st.integers(1, len(wanted))))
        request = Request(job_id, tuple(wanted), need, self.now)
        self.model.waiting.append(Waiting(next(self.arrivals), request))
        self.queue.enter(request)

    @precondition(lambda self: self.model.waiting)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        waiting = data.draw(st.sampled_from(self.model.waiting))
        self.model.waiting.remove(waiting)
        self.queue.leave(waiting.request)

    @precondition(lambda self: self.queue.grants)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        grant = data.draw(st.sampled_from(sorted(self.queue.grants, key=lambda each: each.token)))
        targets = data.draw(st.one_of(st.none(), some_targets))
        for target in grant.targets if targets is None else targets:
            if self.model.owner.get(target) == (grant.job_id, grant.token):
                del self.model.owner[target]
        self.queue.free(grant, targets)

    @precondition(lambda self: self.queue.grants)
    @rule(data=st.data())
    def extend(self, data: st.DataObject) -> None:
        grant = data.draw(st.sampled_from(sorted(self.queue.grants, key=lambda each: each.token)))
        assert self.queue.extend(grant) == self.now + DURATION

    @rule(passed=st.sampled_from([1, DURATION // 2, DURATION + 1]))
    def time_passes(self, passed: int) -> None:
        self.now += passed
        self.queue.lapse()

    @invariant()
    def the_owners_are_the_models(self) -> None:
        held = {target: (grant.job_id, grant.token) for target, grant in self.queue.held.items()}
        assert held == self.model.owner
        in_grants = {
            target: (grant.job_id, grant.token) for grant in self.queue.grants for target in grant.targets
        }
        assert in_grants == held
        assert all(grant in self.queue.of(grant.job_id, grant.token) for grant in self.queue.grants)

    @invariant()
    def nobody_waits_whose_turn_it_is(self) -> None:
        for index, waiting in enumerate(self.model.waiting):
            assert len(self.model.may_have(index)) < waiting.request.need, "a lost wake-up"

    @invariant()
    def who_waits_is_told_why(self) -> None:
        assert self.queue.waiting == bool(self.model.waiting)
        for index, waiting in enumerate(self.model.waiting):
            closed = set(waiting.request.targets) - set(self.model.may_have(index))
            assert {each.target for each in self.queue.blockers(waiting.request, 99)} == closed


LockerRules.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestLockerRules = LockerRules.TestCase
