"""What a job is, as its status shows it: ConTest's names and shapes, with Contest's additions.

The runner keeps these as a job goes, `status` answers with them, clients decode them. Fields that ConTest has
are always encoded; those that Contest adds are left out where they say nothing. A client passes on values
of an enum that it does not know, so what comes from a wire is typed `str` and compared with the enum.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import IntEnum, StrEnum
from typing import Any

from msgspec import Struct, field

from contest_core.job_event import JobEvent, TargetInfo
from contest_core.wire_names import wire_name

ZERO_TIME = datetime(1, 1, 1, tzinfo=UTC)
"""Go's zero time, which stands on the wire where something has not happened yet."""


class JobState(IntEnum):
    """Where a job is in its life. Numbers and wire names are ConTest's."""

    UNKNOWN = 0
    """Of a job that has not begun."""
    STARTED = 1
    """It runs, or waits for targets (then the status has `Waiting`)."""
    COMPLETED = 2
    """It ran to its end; whether it passed is the verdict's to say."""
    FAILED = 3
    """It could not be run to its end."""
    PAUSED = 4
    """It goes on when the server is started again."""
    PAUSE_FAILED = 5
    """A pause was asked for and could not be had."""
    CANCELLING = 6
    """A stop was accepted; steps and processes are on their way out."""
    CANCELLED = 7
    """It was stopped, its steps have returned and its processes are gone."""
    CANCELLATION_FAILED = 8
    """It was stopped, and something outlived the grace."""

    @property
    def wire_name(self) -> str:
        """ConTest's name on the wire, `JobStateStarted`; `Unknown` for number 0."""
        return _STATE_NAMES[self]

    @property
    def ended(self) -> bool:
        """True for the states that a job never leaves."""
        return self in _ENDED

    @classmethod
    def from_wire(cls, name: str) -> JobState:
        """The state of that wire name; `UNKNOWN` for a name that this program does not know."""
        return _STATES.get(name, cls.UNKNOWN)


_STATE_NAMES = {
    state: "Unknown"
    if state is JobState.UNKNOWN
    else "JobState" + "".join(word.capitalize() for word in state.name.split("_"))
    for state in JobState
}
_STATES = {name: state for state, name in _STATE_NAMES.items()}
_ENDED = frozenset({JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED, JobState.CANCELLATION_FAILED})


class Verdict(StrEnum):
    """How an ended job came out, beside its state."""

    PASSED = "passed"
    """No judging reporter said no; where none judges, no target failed its last attempt."""
    FAILED = "failed"
    """A judging reporter said no in some run; where none judges, a target failed its last attempt."""
    ERROR = "error"
    """It ended Failed, or a fault of acquisition, reporter, plugin or server decided a target."""
    CANCELLED = "cancelled"
    """It was stopped."""


class Blame(StrEnum):
    """Whose fault a failure is."""

    TEST = "test"
    """The step said so: the target did not do what the test wants."""
    TARGET = "target"
    """The target was lost, for example its lock."""
    INFRASTRUCTURE = "infrastructure"
    """What the test stands on failed: acquiring, a program that is not there."""
    PLUGIN = "plugin"
    """A plugin raised what it should not."""
    SERVER = "server"
    """The server itself, for example an interruption."""


class Severity(StrEnum):
    """How bad a finding is."""

    ERROR = "error"
    """The descriptor is refused."""
    WARNING = "warning"
    """Accepted, and told; refused where the request is strict."""


class Finding(Struct, frozen=True, kw_only=True, rename=wire_name, omit_defaults=True):
    """Something about a job descriptor."""

    severity: str
    """One of `Severity`."""
    code: str
    """What kind of finding, in snake case: `unknown_key`, `bad_template`."""
    path: str
    """Where, as a JSON pointer (RFC 6901); empty is the whole document."""
    message: str
    """One sentence for a person."""
    nearest: str | None = None
    """The known name that is nearest to what was written."""


class Output(Struct, frozen=True, kw_only=True, rename=wire_name):
    """The ends of what a command wrote, and how much there was in bytes."""

    stdout: str = ""
    stdout_size: int = 0
    stderr: str = ""
    stderr_size: int = 0


class TargetStatus(Struct, frozen=True, kw_only=True, rename=wire_name, omit_defaults=True):
    """One target in one step."""

    job_id: int
    run_id: int
    test_name: str
    test_step_name: str
    """The step's display name."""
    test_step_label: str
    target: TargetInfo | None
    in_time: datetime
    """When the target entered the step."""
    out_time: datetime
    """When it left, passed or failed; `ZERO_TIME` while it is inside."""
    error: str
    """Empty where it passed."""
    events: list[JobEvent] | None
    """What the step emitted for this target."""
    blame: str | None = None
    """One of `Blame`, where it failed."""
    output: Output | None = None
    """The ends of what a command wrote, where it failed."""


class TestStepStatus(Struct, frozen=True, kw_only=True, rename=wire_name):
    """One step of a test in one run."""

    job_id: int
    run_id: int
    test_name: str
    test_step_name: str
    test_step_label: str
    events: list[JobEvent] | None
    """Events of the step that concern no single target."""
    target_statuses: list[TargetStatus] | None
    """One a target, in the order in which they entered; null when none has."""

    __test__ = False


class AttemptStatus(Struct, frozen=True, kw_only=True, rename=wire_name):
    """One attempt of a test in one run."""

    attempt: int
    """From 0."""
    start_time: datetime
    """When its targets were acquired, or could not be."""
    end_time: datetime
    """When they were given back; `ZERO_TIME` while it goes on."""
    target_statuses: list[TargetStatus] | None
    """As those of the test."""


class TestStatus(Struct, frozen=True, kw_only=True, omit_defaults=True, rename=wire_name):
    """One test in one run: its last attempt, and beside it those before it where there were several."""

    job_id: int
    run_id: int
    test_name: str
    test_step_statuses: list[TestStepStatus]
    target_statuses: list[TargetStatus] | None
    """One an acquired target: its status in the last step that it entered."""
    cleanup_step_statuses: list[TestStepStatus] | None = None
    """Its cleanup steps; None where it has none."""
    attempts: list[AttemptStatus] | None = None
    """The last attempts, in order, the last one of all too; None where there was one only.

    At most 100, and fewer where those before the last one have more than 10,000 targets and events in all; the last
    but one is always there. `attempt` numbers them; what happened in those before is in the job's events.
    """

    __test__ = False


class RunStatus(Struct, frozen=True, kw_only=True, omit_defaults=True, rename=wire_name):
    """One run of a job."""

    job_id: int
    run_id: int
    """From 1."""
    start_time: datetime
    test_statuses: list[TestStatus]
    """One an enabled test, whether or not it has begun."""
    skipped_tests: list[str] = []
    """Names of tests that do not run: disabled, or, in a retry of what failed, without anything that did."""


class Report(Struct, frozen=True, kw_only=True, omit_defaults=True, rename=wire_name):
    """What one reporter said."""

    job_id: int
    run_id: int = 0
    """0, and left out, for a final report."""
    reporter_name: str
    report_time: datetime
    success: bool
    data: Any
    """Any JSON."""


class JobReport(Struct, frozen=True, kw_only=True, rename=wire_name):
    """All reports of a job."""

    job_id: int
    run_reports: list[list[Report]] | None
    """One list a run."""
    final_reports: list[Report] | None


class WaitingTarget(Struct, frozen=True, kw_only=True, rename=wire_name):
    """A target that a job waits for, and who holds it."""

    id: str
    held_by: int
    """The job that holds it."""
    since: datetime
    until: datetime
    """When the holder's lock runs out, unless it is renewed."""


class Waiting(Struct, frozen=True, kw_only=True, rename=wire_name):
    """What a job waits for."""

    what: str = field(name="For", default="targets")
    since: datetime
    targets: list[WaitingTarget]


class JobStatus(Struct, frozen=True, kw_only=True, omit_defaults=True, rename=wire_name):
    """The status of a job: ConTest's object, and beside it what Contest adds."""

    name: str
    state_name: str = field(name="State")
    """One of `JobState`, as the wire spells it."""
    state_err_msg: str
    """Why the job failed, or what outlived its stop."""
    start_time: datetime
    """When the job first began."""
    end_time: datetime | None
    run_status: RunStatus | None
    """The last run, again: ConTest's old clients look here. None where a part of a job was asked for."""
    run_statuses: list[RunStatus] | None
    job_report: JobReport
    verdict: str | None = None
    """One of `Verdict`, once the job has ended."""
    flaky: bool = False
    """A target passed, but not at its first attempt."""
    blame: str | None = None
    """One of `Blame`, where the verdict is an error."""
    waiting: Waiting | None = None
    """What the job waits for, while it does."""
    retry_of: int | None = None
    """The job of which this one is the retry."""

    @property
    def state(self) -> JobState:
        """The state; `UNKNOWN` for a name that this program does not know."""
        return JobState.from_wire(self.state_name)


class JobEntry(Struct, frozen=True, kw_only=True, rename=wire_name):
    """One job in a list."""

    job_id: int
    name: str
    state_name: str = field(name="State")
    """One of `JobState`, as the wire spells it."""
    verdict: str | None
    """One of `Verdict`, once the job has ended."""
    flaky: bool
    requestor: str
    principal: str | None
    tags: list[str]
    start_time: datetime | None
    end_time: datetime | None

    @property
    def state(self) -> JobState:
        """The state; `UNKNOWN` for a name that this program does not know."""
        return JobState.from_wire(self.state_name)


class Lock(Struct, frozen=True, kw_only=True, rename=wire_name):
    """A target's lock."""

    target: str
    job_id: int
    since: datetime
    until: datetime
    """When it runs out unless it is renewed."""
    token: int
    """The fencing token: grows with every lock that the store ever gave."""


class JobQuery(Struct, frozen=True, kw_only=True):
    """Which jobs `list` shows: those that meet every condition."""

    states: tuple[JobState, ...] = ()
    """In any of these; empty is any."""
    tags: tuple[str, ...] = ()
    """With all of these; empty is no condition."""
    requestors: tuple[str, ...] = ()
    """Of any of these; empty is any."""
    name: str | None = None
    """Of this name; `*` stands for any characters, `?` for one, and then case does not matter."""
    since: datetime | None = None
    """Begun then or later."""
    until: datetime | None = None
    """Begun before."""
    limit: int | None = None
    """At most so many, the newest."""
    cursor: str | None = None
    """Behind those of an earlier answer, which had this `Cursor`."""
