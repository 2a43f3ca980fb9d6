"""The job manager `local`: runs jobs in this process over a store of its own.

The server calls it; it reads descriptors, writes jobs down, hands them to the runner and answers from the live
jobs and the store. After a crash it takes the jobs on where they were.
"""

from __future__ import annotations

import asyncio
import logging
import os
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import ClassVar, Final

import msgspec

from contest_core import (
    Caller,
    EncodedJSON,
    EventListMsg,
    EventLocksMsg,
    EventMsg,
    EventRetryMsg,
    EventStartMsg,
    EventStatusMsg,
    EventStopMsg,
    EventValidateMsg,
    EventWatchMsg,
    Interrupted,
    InvalidDescriptor,
    JobEnded,
    JobManager,
    JobManagerContext,
    JobRunning,
    JobState,
    JobStatus,
    Lock,
    ResponseDataList,
    ResponseDataLocks,
    ResponseDataRetry,
    ResponseDataStart,
    ResponseDataStatus,
    ResponseDataStop,
    ResponseDataValidate,
    Severity,
    ShuttingDown,
    StartKeyConflict,
    Termination,
    UnknownJob,
    Watch,
)
from contest_core.plugins import load_plugins
from contest_runner.answers import Answers
from contest_runner.aside import Aside
from contest_runner.binding import BoundSteps, plan_secrets
from contest_runner.catalog import Catalog
from contest_runner.comparing import difference_of, digest_of
from contest_runner.descriptor import read_descriptor
from contest_runner.interpreter import tuned_interpreter
from contest_runner.job import Job
from contest_runner.patience import Health
from contest_runner.plan import PLAN_FORMAT, Plan
from contest_runner.processes import Supervisor
from contest_runner.refusals import check_query, check_start_key, refuses_for_store
from contest_runner.retrying import narrowed
from contest_runner.runner import Runner, read_plan
from contest_runner.settings import LocalSettings
from contest_runner.stopping import StopReason
from contest_runner.store import (
    JobRow,
    Lease,
    NewJob,
    StartKeyTaken,
    Store,
    StoreError,
)
from contest_runner.store.locker import Locker
from contest_runner.times import moment
from contest_runner.validating import validate
from contest_runner.watchdog import Watchdog
from contest_runner.watching import Watches

_LEASE_SECONDS: Final = 3600.0
_KILL_GRACE: Final = 5.0
_CAPABILITIES: Final = frozenset(
    {
        "start",
        "start.start_key",
        "start.strict",
        "stop",
        "status",
        "status.run",
        "status.test",
        "status.target",
        "status.events",
        "retry",
        "retry.failed_only",
        "list",
        "list.requestors",
        "list.name",
        "list.since",
        "list.until",
        "list.limit",
        "list.cursor",
        "validate",
        "validate.plan",
        "locks",
        "watch",
    }
)


class LocalJobManager(JobManager):
    """Runs jobs in this process."""

    Settings: ClassVar[type[msgspec.Struct]] = LocalSettings
    settings: LocalSettings

    def __init__(self, settings: LocalSettings) -> None:
        super().__init__(settings)
        self._store: Store
        self._locker: Locker
        self._catalog: Catalog
        self._runner: Runner
        self._answers: Answers
        self._watches: Watches
        self._health: Health
        self._group: asyncio.TaskGroup
        self._running: set[asyncio.Task[None]] = set()
        self._aside = Aside()
        self._creating = 0
        """Jobs that are being written down: their requests were taken before the end."""
        self._created = asyncio.Event()
        """Set when none is."""
        self._idle = False
        """The end has come: no job runs, and none begins any more."""
        self._ending: Termination | None = None
        self._hard = asyncio.Event()
        """The jobs shall not finish but end."""
        self._server_id = ""
        self._owner = f"pid {os.getpid()}"
        self._log = logging.LoggerAdapter(logging.getLogger("contest.job_manager"), {})

    def capabilities(self) -> frozenset[str]:
        """What it offers."""
        return _CAPABILITIES

    # --- its life

    async def serve(self, context: JobManagerContext) -> None:
        """Opens the store, takes on what an earlier server left, and serves until told how to end."""
        self._log = context.log
        self._server_id = context.server_id
        self._catalog = Catalog(context.plugins or load_plugins())
        async with AsyncExitStack() as stack:
            stack.enter_context(tuned_interpreter)
            await self._open(context, stack)
            try:
                async with asyncio.TaskGroup() as self._group:
                    await self._live(context)
            except* StoreError as failed:
                raise failed.exceptions[0] from None

    async def _open(self, context: JobManagerContext, stack: AsyncExitStack) -> None:
        self._health = Health(context)
        self._store = await Store.open(
            self.settings.store,
            directory=context.directory,
            log=context.log,
            synchronous=self.settings.synchronous,
            on_health=self._health.tell,
        )
        stack.push_async_callback(self._store.aclose)
        self._locker = Locker(
            self._store,
            duration=self.settings.lock_duration.seconds,
            on_lost=lambda *lost: self._runner.lock_lost(*lost),
        )
        stack.callback(self._locker.close)
        supervisor = Supervisor(store_id=self._store.id, log=context.log)
        supervisor.become_subreaper()
        stack.callback(supervisor.resign)
        await self._kill_left_over(supervisor)
        self._runner = Runner(
            store=self._store,
            locker=self._locker,
            catalog=self._catalog,
            supervisor=supervisor,
            stop_grace=self.settings.stop_grace.seconds,
            changing=lambda: self._answers.changing(),
        )
        self._answers = Answers(self._store, self._runner.jobs)
        self._watches = Watches(self._store)
        await self._locker.open()
        stack.enter_context(Watchdog())

    async def _kill_left_over(self, supervisor: Supervisor) -> None:
        left = supervisor.survivors(None)
        if left:
            self._log.warning("ending %d processes that an earlier server left", len(left))
            await supervisor.kill_survivors(None, grace=_KILL_GRACE)

    async def _live(self, context: JobManagerContext) -> None:
        renewing = self._group.create_task(self._renew(), name="renewing")
        for row in await self._store.unfinished():
            await self._take_on(row)
        self._health.serve()
        try:
            self._end(await context.stopping())
            ending = [
                self._group.create_task(self._escalate(context), name="escalation"),
                self._group.create_task(
                    self._health.bound_the_end(self._store.give_up, self._hard), name="patience"
                ),
            ]
            await self.idle()
            await self._store.committed()
        finally:
            self._idle = True
        await self._watches.finish()
        for task in (*ending, renewing):
            task.cancel()

    async def idle(self) -> None:
        """Returns when no job runs."""
        while self._running or self._creating:
            if self._running:
                await asyncio.wait(self._running)
            else:
                self._created.clear()
                await self._created.wait()

    def running(self, job_id: int) -> Job | None:
        """A job that runs here."""
        return self._runner.jobs.get(job_id)

    async def ended(self, job_id: int, *, last: int) -> JobStatus:
        """The status of a job that has ended, with its `last` runs, as structs and of any size."""
        return await self._answers.ended(job_id, last=last)

    def hurry(self) -> None:
        """Cancels what has not obeyed a stop, or does not obey one that comes."""
        self._runner.hurry()

    def kill(self) -> None:
        """Kills the processes of all jobs and waits for nothing: the program is about to be gone."""
        self._runner.kill()

    def drain(self) -> None:
        """Endless jobs end after the run that goes on."""
        for job in self._runner.jobs.values():
            job.drained.set()

    def _end(self, how: Termination) -> None:
        self._ending = how
        if how is not Termination.DRAIN:
            self._hard.set()
        # All at once: on a full disk the first one would wait, and the others would not be told.
        for job in list(self._runner.jobs.values()):
            self._group.create_task(self._end_job(job, how), name=f"ending job {job.id}")
        if how is Termination.HURRY:
            self.hurry()

    async def _end_job(self, job: Job, how: Termination) -> None:
        job.drained.set()
        if how is not Termination.DRAIN:
            await self._runner.stop(job, StopReason.PROGRAM_ENDS)

    async def _escalate(self, context: JobManagerContext) -> None:
        while True:
            self._end(await context.harder())

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(min(self.settings.lock_duration.seconds, _LEASE_SECONDS) / 3)
            await self._locker.renew_all()
            await self._store.renew([job.lease for job in self._runner.jobs.values()], _LEASE_SECONDS)

    async def _take_on(self, row: JobRow) -> None:
        lease = await self._store.claim(row.job_id, self._owner, _LEASE_SECONDS)
        if not isinstance(lease, Lease):
            self._log.warning("job %d is run by %s", row.job_id, lease.owner)
            return
        self._log.info("job %d goes on after an interruption", row.job_id)
        plan = read_plan(row.plan)
        job = self._runner.admit(row.job_id, lease, plan, retry_of=row.retry_of)
        job.start_time = row.start_time
        if row.state == JobState.CANCELLING or any(intent.kind == "stop" for intent in row.intents):
            job.state = JobState.CANCELLING
            job.stop(StopReason.STOP)
        self._begin(row.job_id, lease, resumed=True)

    def _begin(self, job_id: int, lease: Lease, *, resumed: bool = False) -> None:
        self._answers.changed()
        running = self._runner.run(job_id, lease, resumed=resumed)
        task = self._group.create_task(running, name=f"job {job_id}")
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    # --- verbs

    @refuses_for_store
    async def start(self, message: EventStartMsg, caller: Caller) -> ResponseDataStart:
        """Reads the descriptor, writes the job down and begins it."""
        async with self._aside.work(len(message.job_descriptor)) as work:
            reading = await read_descriptor(message.job_descriptor, self._catalog, log=self._log, work=work)
            warnings = [finding for finding in reading.findings if finding.severity != Severity.ERROR]
            if reading.plan is None or (message.strict and warnings):
                raise InvalidDescriptor(findings=reading.findings)
            check_start_key(message.start_key)
            new = await work.do(self._new_job, message, reading.text, reading.plan, caller)
        try:
            job_id = await self._create(new, reading.plan, reading.bound)
        except StartKeyTaken as taken:
            difference = await self._compare(taken, reading.plan, reading.text)
            raise StartKeyConflict(
                start_key=taken.start_key, job_id=taken.job_id, difference=difference
            ) from None
        return ResponseDataStart(job_id=job_id, warnings=warnings)

    async def _compare(self, taken: StartKeyTaken, plan: Plan, text: str) -> str:
        """In what a descriptor differs from that of the job which has its start key; no secrets."""
        try:
            theirs = plan_secrets(read_plan(await self._store.plan(taken.job_id)), self._catalog)
            secrets = theirs | plan_secrets(plan, self._catalog)
        except StoreError:
            raise
        # The boundary to the parts' code: where one is gone since, nobody knows what was a secret.
        except Exception:
            self._log.exception("the secrets of job %d are not known", taken.job_id)
            return "they are not equal"
        async with self._aside.work(max(len(taken.descriptor), len(text))) as work:
            return await work.do(difference_of, taken.descriptor, text, secrets)

    @refuses_for_store
    async def retry(self, message: EventRetryMsg, caller: Caller) -> ResponseDataRetry:
        """Runs an ended job's plan again, whole or what failed of it, as a new job linked to it."""
        row = await self._row(message.job_id)
        if not JobState(row.state).ended:
            raise JobRunning(job_id=row.job_id, state=JobState(row.state).wire_name)
        plan = msgspec.json.decode(await self._store.plan(row.job_id) or "{}", type=Plan)
        if message.failed_only:
            plan = await narrowed(row.job_id, plan, self._store, self._catalog)
        descriptor = await self._store.descriptor(row.job_id) or ""
        new = self._job_row(descriptor, plan, message.requestor, caller, retry_of=row.job_id)
        return ResponseDataRetry(job_id=row.job_id, new_job_id=await self._create(new, plan))

    def _new_job(self, message: EventStartMsg, text: str, plan: Plan, caller: Caller) -> NewJob:
        digest = digest_of(text) if message.start_key else None
        return self._job_row(
            message.job_descriptor,
            plan,
            message.requestor,
            caller,
            start_key=message.start_key,
            digest=digest,
        )

    def _job_row(
        self,
        descriptor: str,
        plan: Plan,
        requestor: str,
        caller: Caller,
        *,
        start_key: str | None = None,
        digest: str | None = None,
        retry_of: int | None = None,
    ) -> NewJob:
        return NewJob(
            name=plan.name,
            requestor=requestor,
            principal=None if caller.principal is None else caller.principal.name,
            server_id=self._server_id,
            start_key=start_key,
            start_digest=digest,
            request_time=(now := self._store.now()),
            start_time=now,
            state=int(JobState.STARTED),
            descriptor=descriptor,
            plan=msgspec.json.encode(plan).decode(),
            plan_format=PLAN_FORMAT,
            retry_of=retry_of,
            tags=plan.tags,
        )

    async def _create(self, new: NewJob, plan: Plan, bound: BoundSteps | None = None) -> int:
        if self._idle:
            raise ShuttingDown
        self._creating += 1
        try:
            created = await self._store.create_job(new, owner=self._owner, seconds=_LEASE_SECONDS)
            if created.lease is not None and self._idle:
                # It is on disk, and the next server takes it on.
                raise Interrupted(verb="start" if new.retry_of is None else "retry")
            if created.lease is not None:
                job = self._runner.admit(
                    created.job_id, created.lease, plan, retry_of=new.retry_of, bound=bound
                )
                self._begin(created.job_id, created.lease)
                if self._ending is not None:
                    await self._end_job(job, self._ending)
            return created.job_id
        finally:
            self._creating -= 1
            if not self._creating:
                self._created.set()

    @refuses_for_store
    async def stop(self, message: EventStopMsg, caller: Caller) -> ResponseDataStop:
        """Writes the wish down and tells the job."""
        job = self._runner.jobs.get(message.job_id)
        if job is None:
            row = await self._row(message.job_id)
            raise JobEnded(job_id=row.job_id, state=JobState(row.state).wire_name)
        await self._store.add_intent(job.id, "stop", message.requestor)
        if job.ending or self._runner.jobs.get(job.id) is not job:
            await self._store.committed()  # its end is among what was appended
            row = await self._row(message.job_id)
            raise JobEnded(job_id=row.job_id, state=JobState(row.state).wire_name)
        await self._runner.stop(job)
        return ResponseDataStop()

    def at_hand(self, message: EventMsg, caller: Caller) -> EncodedJSON | None:
        """Statuses of ended jobs, and lists, while nothing changes."""
        return self._answers.at_hand(message)

    @refuses_for_store
    async def status(self, message: EventStatusMsg, caller: Caller) -> ResponseDataStatus | EncodedJSON:
        """The status of a job, encoded."""
        return await self._answers.status(message)

    @refuses_for_store
    async def list(self, message: EventListMsg, caller: Caller) -> ResponseDataList | EncodedJSON:
        """The jobs in any of the states that have all of the tags."""
        check_query(message.query)
        return await self._answers.list(message)

    async def validate(self, message: EventValidateMsg, caller: Caller) -> ResponseDataValidate:
        """Everything that `start` checks."""
        return await validate(message, self._catalog, self._aside, log=self._log)

    @refuses_for_store
    async def locks(self, message: EventLocksMsg, caller: Caller) -> ResponseDataLocks:
        """Which targets are locked."""
        return ResponseDataLocks(
            locks=[
                Lock(
                    target=row.target,
                    job_id=row.job_id,
                    since=moment(row.since),
                    until=moment(row.until),
                    token=row.token,
                )
                for row in self._locker.locks()
            ]
        )

    def watch(self, message: EventWatchMsg, caller: Caller) -> AbstractAsyncContextManager[Watch]:
        """Follows the store's feed."""
        return self._watches.make(message.job_id, message.since)

    async def _row(self, job_id: int) -> JobRow:
        row = await self._store.job(job_id)
        if row is None:
            raise UnknownJob(job_id=job_id)
        return row
