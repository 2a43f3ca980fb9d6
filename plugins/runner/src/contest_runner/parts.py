"""The other parts of a job: target managers, fetchers and reporters, as their authors derive from them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from logging import Logger, LoggerAdapter
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeAlias, TypeVar

import msgspec
from msgspec import Raw, Struct

from contest_core import Duration, JobEntry, JobStatus, RunStatus, Secret
from contest_core.settings import dec_hook
from contest_runner.ready import ready

if TYPE_CHECKING:
    from contest_runner.target import Target

A = TypeVar("A")
R = TypeVar("R")
F = TypeVar("F")
P = TypeVar("P")


class NoSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """For a part that the server has nothing to configure of."""


class Locker(Protocol):
    """Locks targets for one job."""

    async def acquire(
        self, candidates: Sequence[Target], *, count: int | None = None, deadline: float
    ) -> Sequence[Target]:
        """Locks all of the candidates, or `count` of them, and waits until it can.

        `deadline` is in the loop's time. Raises `AcquireFailed`, which says who holds what.
        """


class AcquireFailed(Exception):
    """The targets could not be had. The attempt has failed; the job goes on."""


class AcquireContext(Struct, frozen=True, kw_only=True):
    """What a target manager may use while it acquires."""

    job_id: int
    locker: Locker
    deadline: float
    """In the loop's time; the job's `TargetManagerAcquireTimeout`."""
    log: LoggerAdapter[Logger]
    only: frozenset[str] | None = None
    """The IDs of the targets that a retry is narrowed to: these, all of them and no others. None elsewhere."""


class ReleaseContext(Struct, frozen=True, kw_only=True):
    """What a target manager may use while it releases."""

    job_id: int
    deadline: float
    """In the loop's time; the job's `TargetManagerReleaseTimeout`."""
    log: LoggerAdapter[Logger]


class TargetManager(ABC, Generic[A, R]):
    """Finds the targets of a test and gives them back."""

    Settings: ClassVar[type[Struct]] = NoSettings
    AcquireParameters: ClassVar[type[Struct]]
    ReleaseParameters: ClassVar[type[Struct]]
    narrows: ClassVar[bool] = False
    """Whether `acquire` heeds `AcquireContext.only`; else jobs that use it are not retried with `failedOnly`."""

    def __init__(self, settings: Any = None) -> None:
        self.settings = settings

    @abstractmethod
    async def acquire(self, parameters: A, context: AcquireContext) -> Sequence[Target]:
        """The targets of the test, in order. Those that it did not lock itself, the runner locks.

        Raises `AcquireFailed` where they cannot be had; anything else is the plugin's fault.
        """

    async def candidates(self, parameters: A) -> Sequence[Target] | None:
        """The targets that `acquire` would give or choose from, in order, for a person who plans a job.

        None, as here, where that is known only when they are acquired. Raises as `acquire`.
        """
        return None

    @abstractmethod
    async def release(self, targets: Sequence[Target], parameters: R, context: ReleaseContext) -> None:
        """Gives the targets back; called on every path on which `acquire` returned."""


class FetchedTest(Struct, frozen=True, kw_only=True):
    """What a fetcher found."""

    name: str
    """The test's name; empty for cleanup steps."""
    steps: Any
    """The list of step descriptors, as parsed JSON: the descriptor's reader checks it like any other."""
    path: str = "/Steps"
    """Where in the fetcher's parameters the list stands, or what says where, as a JSON pointer."""
    text: str | None = None
    """The list as JSON, where it stands elsewhere: parameters that are no texts are taken as they are written there."""


class FetchContext(Struct, frozen=True, kw_only=True):
    """What a fetcher may use."""

    log: LoggerAdapter[Logger]


class Fetcher(ABC, Generic[P]):
    """Finds the steps of a test, when the job is handed in."""

    Settings: ClassVar[type[Struct]] = NoSettings
    Parameters: ClassVar[type[Struct]]

    def __init__(self, settings: Any = None) -> None:
        self.settings = settings

    @abstractmethod
    async def fetch(self, parameters: P, context: FetchContext) -> FetchedTest:
        """The test's name and steps. Raises `FetchFailed` where they cannot be had."""


class FetchFailed(Exception):
    """The steps could not be fetched: the descriptor is refused."""


class ReportResult(Struct, frozen=True, kw_only=True):
    """What a reporter says."""

    success: bool
    data: Any = None
    """Any JSON."""


async def _no_entry() -> JobEntry | None:
    return None


class ReportContext(Struct, frozen=True, kw_only=True):
    """What a reporter may use."""

    job_id: int
    key: str
    """The same for repeats of one report: a report may be made twice after a crash."""
    log: LoggerAdapter[Logger]
    entry: Callable[[], Awaitable[JobEntry | None]] = _no_entry
    """What `list` says of the job: its name, tags, requestor. It is read when it is asked for."""


class Reporter(ABC, Generic[R, F]):
    """Says something about a run, or about the whole job."""

    Settings: ClassVar[type[Struct]] = NoSettings
    RunParameters: ClassVar[type[Struct]]
    FinalParameters: ClassVar[type[Struct]]
    judges: ClassVar[bool]
    """Whether its word decides the verdict."""
    display_name: ClassVar[str] = ""
    """`ReporterName` in the status; the registered name where empty."""

    def __init__(self, settings: Any = None) -> None:
        self.settings = settings

    @abstractmethod
    async def run_report(self, status: RunStatus, parameters: R, context: ReportContext) -> ReportResult:
        """Called after each run, at least once."""

    @abstractmethod
    async def final_report(self, status: JobStatus, parameters: F, context: ReportContext) -> ReportResult:
        """Called after the last run, at least once."""


def encode_part(parameters: Any) -> Raw:
    """A part's parameters as a plan keeps them: with their secrets, which the job needs."""
    return Raw(msgspec.json.encode(parameters, enc_hook=_as_written))


def decode_part(raw: Raw, kind: Any) -> Any:
    """The parameters that `encode_part` kept."""
    return msgspec.json.decode(raw, type=ready(kind), dec_hook=dec_hook)


def _as_written(value: Any) -> str:
    if isinstance(value, Secret):
        return value.reveal()
    if isinstance(value, Duration):
        return str(value)
    raise NotImplementedError(f"no parameters can be of type {type(value).__name__}")


TemplateFunction: TypeAlias = Callable[..., "str | int | Secret"]
"""A function that templates may call; a `Secret` joins what the job masks."""

__all__ = [
    "AcquireContext",
    "AcquireFailed",
    "FetchContext",
    "FetchFailed",
    "FetchedTest",
    "Fetcher",
    "Locker",
    "NoSettings",
    "ReleaseContext",
    "ReportContext",
    "ReportResult",
    "Reporter",
    "TargetManager",
    "TemplateFunction",
]
