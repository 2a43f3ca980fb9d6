"""One attempt of one test, or its cleanup: every target walks the steps at its own pace; its failure is its own.

The hottest code of Contest: a target-step is one turn of `_walk`. `TargetOut` of one step and `TargetIn` of the
next are one commit, and the next step's code begins when that is on disk. Flows are bare tasks counted here and
not a task group: a group cannot be left while a member refuses to end, and a job whose step outlives its stop
has to say so (`left`) and end all the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from contest_core import Blame, Output
from contest_runner.binding import BindFailed, BoundStep
from contest_runner.bounded import disown
from contest_runner.context import StepContext
from contest_runner.faults import describe, storable, trace_of
from contest_runner.flow import Flow, Progress
from contest_runner.gathering import Gathering
from contest_runner.rebinding import StepGone
from contest_runner.status_tree import CLEANUP, LiveTarget, StepsTree
from contest_runner.step import OnInterrupt, Stopped, TargetFailed
from contest_runner.stopping import Stopping, StopReason
from contest_runner.store import LeaseLost, SavedState, StoreError
from contest_runner.threads import run_in_thread
from contest_runner.times import moment

if TYPE_CHECKING:
    from contest_runner.job import Job
    from contest_runner.outcome import Outcome
    from contest_runner.target import Target

ADMITTED_AT_ONCE: Final = 1000
"""Targets let in together, and at most twice as many that are not on disk: keeps memory and latency down."""

_MAX_OUTPUT: Final = 65_536
"""Characters of each output that a failure may bring."""

_LAST_MOMENT: Final = 1.0
"""Seconds that cancelled flows have when the program itself is cancelled."""


class Attempt:
    """The steps of one attempt of one test, or those of its cleanup."""

    def __init__(
        self,
        job: Job,
        *,
        run_id: int,
        test_index: int,
        number: int,
        steps: Sequence[BoundStep],
        tree: StepsTree,
        outcome: Outcome,
        phase: str = "test",
        stopping: Stopping | None = None,
    ) -> None:
        """`stopping` is what the steps are told where that is not what the job is told."""
        self.job = job
        self.run_id = run_id
        self.test_index = test_index
        self.name = tree.name
        self.number = number
        self.steps = tuple(steps)
        self.tree = tree
        self.outcome = outcome
        self.phase = phase
        self.stopping = job.stopping if stopping is None else stopping
        self.token = 0
        """The fencing token of the targets' locks."""
        self.flows: list[Flow] = []
        self.saved: dict[tuple[str, str], Any] = {}
        """By step label and target ID, what steps had saved before an interruption."""
        self._store = job.store
        self._now = job.store.now
        self._open = 0
        self._ended: asyncio.Future[None] | None = None
        self._gatherings: dict[int, Gathering] = {}
        self._error: BaseException | None = None

    # --- the whole of it

    async def run(
        self,
        targets: Sequence[Target],
        progress: Mapping[str, Progress] | None = None,
        *,
        but: Container[str] = (),
    ) -> None:
        """Walks all targets `but` these through the steps; returns when they have come out, or are given up as `left`.

        Raises what made it impossible to go on, such as a store that failed.
        """
        loop = asyncio.get_running_loop()
        infos = self.tree.targets
        self.flows = [
            Flow(index, target, infos[index]) for index, target in enumerate(targets) if target.id not in but
        ]
        if not self.flows:
            return
        self._open = len(self.flows)
        self._ended = loop.create_future()
        for position, step in enumerate(self.steps):
            if step.gathers:
                self._gatherings[position] = Gathering(self, step, self._open)
        try:
            await self._admit(progress or {})
            await self._ended
            for gathering in self._gatherings.values():
                await gathering.ended()
        except BaseException:
            await self._leave_nothing()
            raise
        if self._error is not None:
            raise self._error

    async def _admit(self, before: Mapping[str, Progress]) -> None:
        loop = asyncio.get_running_loop()
        earlier: asyncio.Future[None] | None = None
        for start in range(0, len(self.flows), ADMITTED_AT_ONCE):
            for flow in self.flows[start : start + ADMITTED_AT_ONCE]:
                walk = self._walk(flow, before.get(flow.target.id))
                flow.task = loop.create_task(walk)
            if start + ADMITTED_AT_ONCE >= len(self.flows):
                return
            await asyncio.sleep(0)
            # These are written while the next ones are let in, and those before them are on disk by then.
            entered = self._store.committed()
            entered.add_done_callback(_seen)
            if earlier is not None:
                await earlier
            earlier = entered
            await self._store.room()

    async def _leave_nothing(self) -> None:
        """The program ends, or the store does not take anything any more: no flow may outlive this."""
        self.abandon()
        tasks = [flow.task for flow in self.flows if flow.task is not None]
        tasks += [gathering.task for gathering in self._gatherings.values() if gathering.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=_LAST_MOMENT)

    def cancel(self) -> None:
        """Cancels the steps that have not obeyed a stop."""
        for flow in self.flows:
            flow.cancel()

    def lose(self, targets: Sequence[str]) -> None:
        """The locks of these targets are lost: their steps are cancelled, and they alone fail."""
        lost = frozenset(targets)
        for flow in self.flows:
            if flow.target.id in lost and not flow.out:
                flow.alone = StopReason.LOCK_LOST
                if flow.stopping is not None:
                    flow.stopping.set(flow.alone)
                flow.cancel()

    def abandon(self) -> dict[str, str]:
        """Gives up waiting: says which targets are still inside which steps, and lets `run` return."""
        left = {flow.target.id: _named(flow.inside) for flow in self.flows if flow.inside is not None}
        for flow in self.flows:
            if not flow.out:
                flow.abandoned = True
                flow.cancel()
        for gathering in self._gatherings.values():
            left.update(dict.fromkeys(gathering.abandon(), _named(gathering.step)))
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)
        self._disown()
        return left

    def _disown(self) -> None:
        """Lets the program end without those that may never end."""
        tasks = [flow.task for flow in self.flows]
        tasks += [gathering.task for gathering in self._gatherings.values()]
        for task in tasks:
            if task is not None and not task.done():
                disown(task)

    # --- one target

    async def _walk(self, flow: Flow, progress: Progress | None) -> None:
        stopping = self.stopping
        position = 0
        status: LiveTarget | None = None
        flow.started = True
        try:
            if flow.abandoned:
                return
            if progress is not None and (position := self._resume(flow, progress)) < 0:
                return
            inside = progress is not None and progress.inside
            for step in self.steps[position:] if position else self.steps:
                if stopping.why is not None:
                    return
                if inside:
                    status = self._inside(flow)
                    inside = False
                else:
                    status = self._enter(flow, step)
                    await self._store.written()
                if flow.alone is not None:
                    self._fail(flow, step, status, f"stopped: {flow.alone}", Blame.TARGET)
                    return
                if not await self._step(flow, step, status):
                    return
            flow.passed = True
        except asyncio.CancelledError as error:
            if status is not None and not flow.abandoned:
                self._cancelled(flow, step, status, error)
        # Nothing that a flow meets may be lost in its task: the runner raises it.
        except Exception as error:
            self._error = self._error or error
        finally:
            flow.inside = None
            flow.out = True
            flow.task = None
            self._came_out(flow)

    def _cancelled(self, flow: Flow, step: BoundStep, status: LiveTarget, error: BaseException) -> None:
        """A flow was cancelled in a step: by a stop, by a lost lock, or by the step itself."""
        if flow.alone is not None:
            self._fail(flow, step, status, f"stopped: {flow.alone}", Blame.TARGET)
        elif self.stopping.why is None:
            self._plugin_fault(flow, step, status, error)
        else:
            self._cut_off(flow, step, status)

    def _cut_off(self, flow: Flow, step: BoundStep, status: LiveTarget) -> None:
        """A step obeyed: of a stopped job that says enough, but a cleanup may be cut off while its job goes on."""
        if self.phase == CLEANUP:
            self._fail(flow, step, status, f"stopped: {self.stopping.why}", Blame.TEST)

    def _came_out(self, flow: Flow) -> None:
        if flow.stopping is not None:
            self.stopping.forget(flow.stopping)
        for position, gathering in self._gatherings.items():
            gathering.gone(flow, position)
        self._open -= 1
        if not self._open and self._ended is not None and not self._ended.done():
            self._ended.set_result(None)

    async def _step(self, flow: Flow, step: BoundStep, status: LiveTarget) -> bool:
        """Runs one step for one target; whether the target goes on."""
        flow.inside = step
        try:
            parameters = step.literal
            if parameters is None:
                parameters = step.bind(flow.target, flow.variables)
            if step.has_secrets:
                self.job.secrets.update(step.secrets_of(parameters))
            context = StepContext(self, step, flow)
            if step.threaded:
                await run_in_thread(step.step, flow, parameters, context)
            elif step.gathers:
                await self._gatherings[step.position].arrive(flow, parameters, context)
            else:
                await step.step.run(flow.target, parameters, context)
        except (asyncio.CancelledError, StoreError, LeaseLost):
            raise
        # The boundary to a step's code: whatever it raises fails this target alone.
        except BaseException as error:
            flow.inside = None
            if not flow.abandoned:
                self._came_to_nothing(flow, step, status, error)
            return isinstance(error, StepGone) and not flow.abandoned
        flow.inside = None
        if flow.abandoned:
            return False
        if flow.alone is not None:
            self._fail(flow, step, status, f"stopped: {flow.alone}", Blame.TARGET)
            return False
        self._leave(flow, step, status)
        return True

    def _came_to_nothing(self, flow: Flow, step: BoundStep, status: LiveTarget, error: BaseException) -> None:
        if isinstance(error, TargetFailed):
            self._fail(flow, step, status, error.message, error.blame, output=error.output)
        elif isinstance(error, BindFailed):
            self._fail(flow, step, status, str(error), error.blame)
        elif isinstance(error, Stopped) and flow.alone is not None:
            self._fail(flow, step, status, f"stopped: {flow.alone}", Blame.TARGET)
        elif not isinstance(error, Stopped) or self.stopping.why is None:
            self._plugin_fault(flow, step, status, error)
        else:
            self._cut_off(flow, step, status)

    # --- transitions

    def _enter(self, flow: Flow, step: BoundStep) -> LiveTarget:
        job = self.job
        now = self._now()
        job.sequence = sequence = job.sequence + 1
        self._store.append(
            job.id,
            sequence,
            self.run_id,
            self.name,
            self.phase,
            self.number,
            step.label,
            flow.target.id,
            "TargetIn",
            now,
            None,
            self.token,
        )
        return self.tree.enter(step.position, flow.index, flow.info, moment(now))

    def _leave(self, flow: Flow, step: BoundStep, status: LiveTarget) -> None:
        job = self.job
        now = self._now()
        job.sequence = sequence = job.sequence + 1
        self._store.append(
            job.id,
            sequence,
            self.run_id,
            self.name,
            self.phase,
            self.number,
            step.label,
            flow.target.id,
            "TargetOut",
            now,
            None,
            self.token,
        )
        status.out_time = moment(now)

    def _fail(
        self,
        flow: Flow,
        step: BoundStep,
        status: LiveTarget,
        message: str,
        blame: Blame,
        *,
        output: Output | None = None,
        trace: str | None = None,
    ) -> None:
        flow.failed = True
        mask = self.job.masked
        message = mask(storable(message)) or "failed"
        output = _checked(output, mask)
        payload: dict[str, Any] = {"Error": message, "Blame": blame.value}
        if output is not None:
            payload["Output"] = output
        if trace is not None:
            payload["Traceback"] = mask(trace)
        event = self.job.record(
            "TargetErr",
            run_id=self.run_id,
            test=self.name,
            attempt=self.number,
            step=step.label,
            target=flow.info,
            payload=msgspec.json.encode(payload),
            token=self.token,
            phase=self.phase,
        )
        status.out_time = event.emit_time
        status.error = message
        status.blame = blame.value
        status.output = output
        self.outcome.fail(flow.target.id, blame)

    def _plugin_fault(self, flow: Flow, step: BoundStep, status: LiveTarget, error: BaseException) -> None:
        trace = self.job.masked(trace_of(error))
        self.job.log.error(
            "step %s (%s) of plugin code failed target %s:\n%s",
            step.label,
            step.plan.name,
            flow.target.id,
            trace,
        )
        self._fail(flow, step, status, describe(error), Blame.PLUGIN, trace=trace)

    # --- what contexts ask

    async def emit(self, step: BoundStep, flow: Flow, name: str, payload: bytes | None) -> None:
        """An event of a step for one target; waits where the store falls behind."""
        event = self.job.record(
            name,
            run_id=self.run_id,
            test=self.name,
            attempt=self.number,
            step=step.label,
            target=flow.info,
            payload=payload,
            token=self.token,
            phase=self.phase,
        )
        status = self._inside(flow)
        if status.events is None:
            status.events = [event]
        else:
            status.events.append(event)
        await self._store.room()

    async def save(self, step: BoundStep, flow: Flow, state: bytes) -> None:
        """Keeps a step's state for the case of an interruption."""
        kept = SavedState(
            run_id=self.run_id,
            test_index=self.test_index,
            attempt=self.number,
            step=step.label,
            target=flow.target.id,
            state=state.decode(),
        )
        self.job.saves = True
        await self._store.save(self.job.lease, kept)

    async def ensure_lock(self, target: str, seconds: float) -> None:
        """Returns when the target's lock holds for so many seconds more. Raises `LockLost`."""
        await self.job.ensure_lock(target, self.token, seconds)

    def saved_state(self, step: BoundStep, flow: Flow) -> Any:
        """What the step had saved for this target before an interruption."""
        return self.saved.get((step.label, flow.target.id))

    # --- after an interruption

    def _inside(self, flow: Flow) -> LiveTarget:
        status = self.tree.last[flow.index]
        assert isinstance(status, LiveTarget)
        return status

    def _resume(self, flow: Flow, progress: Progress) -> int:
        """Where the target goes on; -1 where it does not."""
        flow.variables = progress.variables
        flow.failed = progress.failed
        if progress.failed:
            return -1
        if not progress.inside:
            return progress.step
        step = self.steps[progress.step]
        if step.on_interrupt is OnInterrupt.FAIL:
            status = self._inside(flow)
            message = "interrupted: the server was killed while the target was inside the step"
            self._fail(flow, step, status, message, Blame.SERVER)
            return -1
        return progress.step


def _seen(future: asyncio.Future[None]) -> None:
    """What failed one commit fails the next one, too, and that is looked at."""
    if not future.cancelled():
        future.exception()


def _named(step: BoundStep) -> str:
    return f"step {step.label!r} ({step.plan.name})"


def _checked(output: Output | None, mask: Callable[[str], str]) -> Output | None:
    """What a step says a command wrote, as it can be stored."""
    if not isinstance(output, Output):
        return None
    return msgspec.structs.replace(
        output,
        stdout=mask(storable(output.stdout, _MAX_OUTPUT)),
        stderr=mask(storable(output.stderr, _MAX_OUTPUT)),
    )
