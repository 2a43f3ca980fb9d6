"""A job while it runs: what its tests, targets and steps share, and the one place where its events are numbered.

Made by the runner. The job's owner alone writes its events, so the sequence is dense.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Raw

from contest_core import (
    Blame,
    EventData,
    Header,
    JobEvent,
    JobState,
    Report,
    Secret,
    TargetInfo,
    Waiting,
    WaitingTarget,
)
from contest_runner.status_tree import CLEANUP, RunTree
from contest_runner.stopping import Stopping, StopReason
from contest_runner.store import LockLost
from contest_runner.times import moment

if TYPE_CHECKING:
    from contest_runner.attempt import Attempt
    from contest_runner.binding import BoundSteps
    from contest_runner.cleanup import Cleanup
    from contest_runner.plan import Plan
    from contest_runner.processes import JobProcesses, Supervisor, Survivor
    from contest_runner.store import Lease, NewRun, ReportRow, Store
    from contest_runner.store.locker import Locker, Waiter

_log = logging.getLogger("contest.runner")


PROCESS_GRACE: Final = 5.0
"""The most seconds between SIGTERM and SIGKILL."""


class JobFailed(Exception):
    """The job cannot be run to its end: it ends Failed with this message."""

    def __init__(self, message: str, *, blame: Blame = Blame.INFRASTRUCTURE) -> None:
        super().__init__(message)
        self.blame = blame


class Job:
    """One running job."""

    def __init__(
        self, job_id: int, plan: Plan, lease: Lease, *, store: Store, locker: Locker, supervisor: Supervisor
    ) -> None:
        self.id = job_id
        self.plan = plan
        self.lease = lease
        self.store = store
        self.log = logging.LoggerAdapter(_log, {"job_id": job_id})
        self.sequence = 0
        """Of the last event."""
        self.state = JobState.STARTED
        self.ending = False
        """Its end is being written: it cannot be stopped any more."""
        self.start_time: int | None = None
        self.retry_of: int | None = None
        self.bound: BoundSteps | None = None
        """The steps of the plan, where they are bound already."""
        self.stopping = Stopping()
        self.hurried = False
        """Once it is stopped, nobody waits for what does not obey, and not for long for a cleanup."""
        self.urgent = asyncio.Event()
        """It is stopped and hurried."""
        self.drained = asyncio.Event()
        """An endless job ends after its current run."""
        self._waiter: Waiter | None = None
        self.run: RunTree | None = None
        """The run that goes on now."""
        self.run_start = 0
        """When that run began, in microseconds."""
        self.reports: list[Report] = []
        """Reports of the run that goes on, and final ones, until they are in the store."""
        self.attempt: Attempt | None = None
        """The attempt whose steps go on now,"""
        self.cleanup: Cleanup | None = None
        """or whose cleanup does."""
        self.secrets: set[str] = set()
        """What is masked in all that is written or said of the job."""
        self.process_grace = PROCESS_GRACE
        """Seconds that a process has from the polite signal to the other one."""
        self.left: dict[str, str] = {}
        """What outlived a stop: target ID to a description."""
        self.survivors: dict[int, str] = {}
        """Processes that would not die, by number."""
        self.saves = False
        """A step may have saved something in the run that goes on."""
        self.last_run: NewRun | None = None
        """The run that the end of the job writes down,"""
        self.last_reports: Sequence[ReportRow] = []
        """and what its reporters said."""
        self.said_cancelling = False
        """There is a `JobStateCancelling` among its events."""
        self.judged = False
        """A judging reporter has spoken."""
        self.judged_no = False
        """A judging reporter said no."""
        self.fault: Blame | None = None
        """Whose fault decided a target, where it was not the test's: the verdict is an error."""
        self.target_failed = False
        """A target failed its last attempt in some run."""
        self.flaky = False
        """A target passed, but not at its first attempt."""
        self._locker = locker
        self._supervisor = supervisor
        self._processes: JobProcesses | None = None
        self._spawned = False
        """Something of this job may live."""

    def masked(self, text: str) -> str:
        """The text without the job's secrets."""
        for secret in self.secrets:
            text = text.replace(secret, Secret.MASK)
        return text

    def masked_json(self, payload: bytes) -> bytes:
        """The payload without the job's secrets, wherever in it they stand."""
        if not self.secrets:
            return payload
        return msgspec.json.encode(self._masked_value(msgspec.json.decode(payload)))

    def _masked_value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.masked(value)
        if isinstance(value, list):
            return [self._masked_value(item) for item in value]
        if isinstance(value, dict):
            return {self.masked(key): self._masked_value(item) for key, item in value.items()}
        return value

    def wait_for(self, waiter: Waiter | None) -> None:
        """The job waits for locks, or does so no longer."""
        self._waiter = waiter

    @property
    def waiting(self) -> Waiting | None:
        """What the job waits for just now."""
        if self._waiter is None:
            return None
        targets = [
            WaitingTarget(
                id=blocker.target,
                held_by=blocker.held_by,
                since=moment(blocker.since),
                until=moment(blocker.until),
            )
            for blocker in self._waiter.blockers()
        ]
        return Waiting(since=moment(self._waiter.since), targets=targets)

    def holds(self, target: str, token: int) -> bool:
        """Whether the target's lock is still the job's."""
        return self._locker.holds(self.id, token, target)

    async def ensure_lock(self, target: str, token: int, seconds: float) -> None:
        """Returns when the lock holds for so many seconds more. Raises `LockLost`."""
        await self._locker.extend(self.id, token, seconds)
        if not self.holds(target, token):
            raise LockLost(self.id, [target])

    def processes(self) -> JobProcesses:
        """The job's processes, for who starts one."""
        if self._processes is None:
            self._processes = self._supervisor.job(self.id)
            self._spawned = True
        return self._processes

    async def end_processes(self, grace: float) -> list[Survivor]:
        """Ends what steps have left running; returns what would not die, and notes it in `survivors`."""
        if not self._spawned:
            return []
        self._processes = None
        left = await self._supervisor.job(self.id).finish(grace)
        self._spawned = bool(left)
        for survivor in left:
            self.log.error("process %d would not die", survivor.pid)
            self.survivors[survivor.pid] = _shown(survivor)
            self.blame(Blame.INFRASTRUCTURE)
        return left

    def write(
        self,
        name: str,
        *,
        run_id: int | None = None,
        test: str | None = None,
        attempt: int | None = None,
        step: str | None = None,
        target: str | None = None,
        payload: bytes | None = None,
        token: int | None = None,
        phase: str | None = None,
    ) -> int:
        """Writes an event; gives its time in microseconds. Transitions of targets have a faster way."""
        self.sequence += 1
        now = self.store.now()
        self.store.append(
            self.id,
            self.sequence,
            run_id,
            test,
            None if test is None else phase or "test",
            attempt,
            step,
            target,
            name,
            now,
            None if payload is None else payload.decode(),
            token,
        )
        return now

    def write_each(
        self, name: str, targets: Sequence[str], *, run_id: int, test: str, attempt: int, token: int
    ) -> int:
        """Writes an event of each of these targets; gives their time in microseconds."""
        first = self.sequence + 1
        self.sequence += len(targets)
        now = self.store.now()
        self.store.append_each(self.id, first, run_id, test, "test", attempt, targets, name, now, token)
        return now

    def record(
        self,
        name: str,
        *,
        run_id: int,
        test: str,
        attempt: int,
        step: str | None = None,
        target: TargetInfo | None = None,
        payload: bytes | None = None,
        token: int | None = None,
        phase: str = "test",
    ) -> JobEvent:
        """Writes an event of a test and gives it as statuses show it."""
        if payload is not None:
            payload = self.masked_json(payload)
        now = self.write(
            name,
            run_id=run_id,
            test=test,
            attempt=attempt,
            step=step,
            target=None if target is None else target.id,
            payload=payload,
            token=token,
            phase=phase,
        )
        return JobEvent(
            sequence_id=self.sequence,
            emit_time=moment(now),
            header=Header(
                job_id=self.id,
                run_id=run_id,
                test_name=test,
                test_attempt=attempt,
                test_step_label=step or "",
            ),
            data=EventData(target=target, event_name=name, payload=None if payload is None else Raw(payload)),
            phase=phase if phase == CLEANUP else None,
        )

    def blame(self, who: Blame) -> None:
        """A target was decided by somebody's fault; the first one that is not the test's stays."""
        if who is not Blame.TEST and self.fault is None:
            self.fault = who

    @property
    def draining(self) -> bool:
        """Whether an endless job shall end after its current run."""
        return self.drained.is_set()

    def stop(self, why: StopReason) -> None:
        """Tells every step to stop."""
        self.stopping.set(why)

    def __repr__(self) -> str:
        return f"<job {self.id} {self.plan.name!r} {self.state.wire_name}>"


def _shown(survivor: Survivor) -> str:
    # Not its arguments: they may be secrets.
    words = survivor.command.split()
    return words[0].rpartition("/")[2][:64] if words else "a process"
