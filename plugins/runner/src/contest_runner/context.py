"""What a step may use: the contexts that its `run` is given.

One is made for each target in each step; everything that is not needed by every step is made when asked for.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
from msgspec import Struct

from contest_core.settings import enc_hook
from contest_runner.step import OnInterrupt, Stopped
from contest_runner.stopping import Stopping
from contest_runner.variables import Variables

if TYPE_CHECKING:
    from contest_runner.attempt import Attempt
    from contest_runner.binding import BoundStep
    from contest_runner.flow import Flow
    from contest_runner.processes import Process

MAX_PAYLOAD_BYTES: Final = 16_777_215
"""ConTest's limit of an event's payload."""

_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]*", re.ASCII)
_log = logging.getLogger("contest.step")

T = TypeVar("T")


class StepInfo(Struct, frozen=True, kw_only=True):
    """Where a step runs."""

    job_id: int
    run_id: int
    test: str
    attempt: int
    """From 0."""
    step: str
    """The step's label."""


class TargetLock(Struct, frozen=True, kw_only=True):
    """The lock of the target that a step works on."""

    attempt: Any
    target: str

    @property
    def token(self) -> int:
        """The fencing token: grows with every lock, so a device can refuse an older one."""
        token: int = self.attempt.token
        return token

    async def ensure(self, seconds: float) -> None:
        """Returns when the lock holds for so many seconds more. Raises `LockLost`."""
        await self.attempt.ensure_lock(self.target, seconds)


class StepContext:
    """What a `Step` may use, for one target."""

    __slots__ = ("_attempt", "_flow", "_step")

    def __init__(self, attempt: Attempt, step: BoundStep, flow: Flow) -> None:
        self._attempt = attempt
        self._step = step
        self._flow = flow

    @property
    def info(self) -> StepInfo:
        """Job, run, test, attempt and step label."""
        attempt = self._attempt
        return StepInfo(
            job_id=attempt.job.id,
            run_id=attempt.run_id,
            test=attempt.name,
            attempt=attempt.number,
            step=self._step.label,
        )

    @property
    def lock(self) -> TargetLock:
        """The lock of this target."""
        return TargetLock(attempt=self._attempt, target=self._flow.target.id)

    @property
    def variables(self) -> Variables:
        """What earlier steps set for this target."""
        return self._flow.variables

    @property
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        """A log that knows job, step and target."""
        info = self.info
        where = {"job_id": info.job_id, "step": info.step, "target": self._flow.target.id}
        return _StepLog(_log, where, self._attempt.job.masked)

    @property
    def stopping(self) -> Stopping:
        """Await it, or `check()` it; it says why."""
        flow = self._flow
        if flow.stopping is None:
            flow.stopping = self._attempt.stopping.child()
        return flow.stopping

    @property
    def saved(self) -> Any:
        """What `save` kept before an interruption, as JSON reads it; None where there was none.

        None, too, where the job says `rerun`: the step begins anew.
        """
        if self._step.on_interrupt is not OnInterrupt.RESUME:
            return None
        return self._attempt.saved_state(self._step, self._flow)

    async def emit(self, name: str, payload: object = None) -> None:
        """Emits an event that the step declares. Raises `ValueError`, at once, for what cannot be stored."""
        self._check_inside()
        declared = self._step.step.events
        if name not in declared:
            there = ", ".join(declared) or "none"
            raise ValueError(
                f"step {self._step.plan.name} does not declare the event {name!r}; it declares {there}"
            )
        await self._attempt.emit(self._step, self._flow, name, encode_payload(payload))

    async def set_variable(self, name: str, value: object) -> None:
        """Sets a variable of this step for this target. Raises `ValueError` for a bad name or value."""
        self._check_inside()
        if not _IDENTIFIER.fullmatch(name):
            raise ValueError(f"{name!r} is no variable name: a letter, then letters, digits and underscores")
        raw = encode_payload(value) or b"null"
        self._flow.set_variable(self._step.label, name, raw)
        payload = encode_payload({"Name": name, "Value": raw.decode()})
        await self._attempt.emit(self._step, self._flow, "VariableEmitted", payload)

    async def save(self, state: object) -> None:
        """Keeps a state for `saved` after an interruption; on disk when it returns."""
        self._check_inside()
        await self._attempt.save(self._step, self._flow, encode_payload(state) or b"null")

    async def spawn(
        self,
        argv: Sequence[str],
        *,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        stdin: bytes | None = None,
        keep: int = 8192,
        capture: int | None = None,
    ) -> Process:
        """Starts a process, the only way to one: `async with await context.spawn([...]) as process:`.

        It has a session of its own, ends with the block, and its output is kept in bounds: the last `keep`
        bytes, and with `capture` the whole up to so many. Raises `SpawnError`.
        """
        self._check_inside()
        job = self._attempt.job
        return await job.processes().spawn(
            argv, cwd=cwd, env=env, stdin=stdin, keep=keep, capture=capture, grace=job.process_grace
        )

    def _check_inside(self) -> None:
        """Refuses what comes from a task or thread that has outlived the step or its stop."""
        if self._flow.abandoned:
            raise Stopped("the step was given up: the job has ended without it")
        if self._flow.inside is not self._step:
            message = f"target {self._flow.target.id} has left step {self._step.label}: nothing more is taken"
            raise RuntimeError(message)


class _StepLog(logging.LoggerAdapter[logging.Logger]):
    """A step's log, which does not say the job's secrets."""

    def __init__(
        self, logger: logging.Logger, where: Mapping[str, object], mask: Callable[[str], str]
    ) -> None:
        super().__init__(logger, where)
        self._mask = mask

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """Writes it, masked."""
        if self.isEnabledFor(level):
            text = str(msg) % args if args else str(msg)
            super().log(level, "%s", self._mask(text), **kwargs)


class ThreadStepContext:
    """What a `ThreadStep` may use, for one target: the same, as plain functions."""

    def __init__(self, context: StepContext, loop: asyncio.AbstractEventLoop) -> None:
        self._context = context
        self._loop = loop

    @property
    def info(self) -> StepInfo:
        """Job, run, test, attempt and step label."""
        return self._context.info

    @property
    def lock_token(self) -> int:
        """The fencing token of this target's lock."""
        return self._context.lock.token

    @property
    def variables(self) -> Variables:
        """What earlier steps set for this target."""
        return self._context.variables

    @property
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        """A log that knows job, step and target."""
        return self._context.log

    @property
    def stopping(self) -> Stopping:
        """`check()` it, or `wait(seconds)` for it."""
        return self._context.stopping

    @property
    def saved(self) -> Any:
        """What `save` kept before an interruption."""
        return self._context.saved

    def emit(self, name: str, payload: object = None) -> None:
        """Emits an event that the step declares."""
        self._do(self._context.emit(name, payload))

    def set_variable(self, name: str, value: object) -> None:
        """Sets a variable of this step for this target."""
        self._do(self._context.set_variable(name, value))

    def save(self, state: object) -> None:
        """Keeps a state for `saved` after an interruption; on disk when it returns."""
        self._do(self._context.save(state))

    def _do(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()


def encode_payload(payload: object) -> bytes | None:
    """The JSON of a payload; None for None. Raises `ValueError` for what cannot be stored."""
    if payload is None:
        return None
    try:
        raw = msgspec.json.encode(payload, enc_hook=enc_hook)
    except (TypeError, ValueError, NotImplementedError, msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(f"the payload is no JSON: {error}") from None
    if len(raw) > MAX_PAYLOAD_BYTES:
        raise ValueError(f"the payload has {len(raw):,} bytes, the limit is {MAX_PAYLOAD_BYTES:,}")
    if b"\\u0000" in raw and _NUL.search(raw):
        raise ValueError("the payload has a NUL character, which no store keeps")
    return raw
