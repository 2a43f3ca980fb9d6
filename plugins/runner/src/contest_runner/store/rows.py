"""What goes into the store and comes out of it: plain data, no behaviour.

All times are integer microseconds since the epoch, UTC. States, verdicts and blames are what the engine
gives; the store does not interpret them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from msgspec import Struct


class NewJob(Struct, frozen=True, kw_only=True):
    """A job as it is handed in."""

    name: str
    requestor: str
    principal: str | None = None
    """The proven name, where there is one."""
    server_id: str
    start_key: str | None = None
    """Unique in the store for good."""
    start_digest: str | None = None
    """Of the canonical descriptor: tells whether a repeated start key means the same job."""
    request_time: int
    start_time: int | None = None
    """Where the job begins at once."""
    state: int
    descriptor: str
    """As handed in."""
    plan: str
    """Everything needed to run it, expanded; JSON."""
    plan_format: int
    retry_of: int | None = None
    """The job that this one repeats."""
    tags: tuple[str, ...] = ()


class Lease(Struct, frozen=True, kw_only=True):
    """The right to run a job and to write what happens in it."""

    job_id: int
    owner: str
    token: int
    """Grows with each claim of the job; writes compare it."""
    until: int
    """When it runs out unless it is renewed."""


class Created(Struct, frozen=True, kw_only=True):
    """The answer to `create_job`."""

    job_id: int
    existing: bool
    """True where the start key belonged to this job already and nothing was written."""
    lease: Lease | None = None
    """Of a new job that was claimed at once."""


class Held(Struct, frozen=True, kw_only=True):
    """The answer to a claim of a job that somebody else runs, or that has ended."""

    job_id: int
    owner: str | None
    """None: the job has ended, or there is none of that number."""
    until: int | None


class IntentRow(Struct, frozen=True, kw_only=True):
    """What somebody wants of a job: its owner obeys."""

    intent_id: int
    job_id: int
    kind: str
    """`stop`, `pause` or `retry`."""
    requestor: str
    time: int
    done: bool


class JobRow(Struct, frozen=True, kw_only=True):
    """A job. The descriptor is asked for by itself: `Store.descriptor`."""

    job_id: int
    name: str
    requestor: str
    principal: str | None
    server_id: str
    start_key: str | None
    request_time: int
    start_time: int | None
    end_time: int | None
    """None: it has not ended."""
    state: int
    verdict: str | None
    flaky: bool
    error: str | None
    blame: str | None
    plan_format: int
    retry_of: int | None
    first_position: int
    """No event of this job has a smaller feed position."""
    lease_owner: str | None
    lease_token: int
    lease_until: int | None
    tags: tuple[str, ...]
    plan: str | None = None
    """Only from `Store.unfinished`."""
    intents: tuple[IntentRow, ...] = ()
    """Those not done, only from `Store.unfinished`."""


class EventRow(Struct, frozen=True):
    """One event of a job: the columns of its table, in their order (a reader makes hundreds of thousands)."""

    position: int
    """In the feed of all jobs; grows, never used again."""
    job_id: int
    sequence: int
    """In its job, dense from 1."""
    run_id: int | None
    test: str | None
    phase: str | None
    """`test` or `cleanup`."""
    attempt: int | None
    step: str | None
    target: str | None
    name: str
    time: int
    payload: str | None
    """JSON."""
    token: int | None
    """The fencing token of the target's lock."""


class NewRun(Struct, frozen=True, kw_only=True):
    """A run that has ended, as `finish_run` takes it."""

    run_id: int
    """From 1."""
    start_time: int
    end_time: int
    status: bytes | Callable[[], bytes]
    """In the engine's compact form; a function is called once, by the writer's thread."""
    saves: bool = True
    """False: no step has saved anything in it."""


class RunRow(Struct, frozen=True, kw_only=True):
    """A run that has ended."""

    run_id: int
    start_time: int
    end_time: int
    status: bytes


class JobEnd(Struct, frozen=True, kw_only=True):
    """How a job came out."""

    state: int
    verdict: str
    flaky: bool
    error: str | None
    blame: str | None
    end_time: int


class ReportRow(Struct, frozen=True, kw_only=True):
    """What a reporter said."""

    run_id: int
    """0: a final report."""
    position: int
    """Of the reporter in the descriptor's list, from 0."""
    reporter: str
    time: int
    success: bool
    data: str
    """JSON."""


Place: TypeAlias = tuple[int, int]
"""Where in a run: the index of a test, and an attempt of it."""


class AcquisitionRow(Struct, frozen=True, kw_only=True):
    """The targets that one attempt of a test works on."""

    run_id: int
    test_index: int
    attempt: int
    targets: str
    """JSON, with what the target manager keeps."""
    token: int


class SavedState(Struct, frozen=True, kw_only=True):
    """What a step kept with `context.save` for the case that it is interrupted."""

    run_id: int
    test_index: int
    attempt: int
    step: str
    target: str
    state: str
    """JSON."""


class LockRow(Struct, frozen=True, kw_only=True):
    """A locked target."""

    target: str
    job_id: int
    token: int
    since: int
    until: int
    """When another job may take it, unless it is renewed."""


class Locked(Struct, frozen=True, kw_only=True):
    """What `Locker.acquire` gives."""

    token: int
    """The fencing token: larger than any given before in this store."""
    targets: tuple[str, ...]
    """In the order given."""
    until: int


class Blocker(Struct, frozen=True, kw_only=True):
    """Why a target cannot be had."""

    target: str
    held_by: int
    """The job that holds it, or, where it is queued for, the job that is next."""
    since: int
    """Since when it is held, or waited for."""
    until: int | None
    """When the lock runs out unless it is renewed; None where nobody holds it."""
    queued: bool
    """True: nobody holds it, an earlier job waits for it together with others."""
