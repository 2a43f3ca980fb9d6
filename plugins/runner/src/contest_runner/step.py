"""What a step is: the classes that a step's author derives from.

The runner binds parameters, calls `run` for each target, and records what comes out; a step expands and parses
nothing, and nothing that it does ends the job or the server. Standard steps are in `plugins/steps`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Generic, TypeAlias, TypeVar

from msgspec import Raw

from contest_core import Blame, Finding, Output

if TYPE_CHECKING:
    from msgspec import Struct

    from contest_runner.context import StepContext, ThreadStepContext
    from contest_runner.target import Target

T = TypeVar("T")
P = TypeVar("P")


class _Mark:
    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


EXPANDED: Final = _Mark("EXPANDED")
"""Marks, inside `Annotated`, a parameter that may be written as a template."""

Expanded: TypeAlias = Annotated[T, EXPANDED]
"""A parameter that is written as a template and given to `run` as a T."""

SINGLE: Final = _Mark("SINGLE")
"""Marks, inside `Annotated`, a parameter of which a second value is refused."""

Single: TypeAlias = Annotated[T, SINGLE]
"""A parameter that has one value; of any other the values behind the first are ignored, as in ConTest."""

REST: Final = _Mark("REST")
"""Marks, inside `Annotated`, the field for the parameters that no other field takes."""

Rest: TypeAlias = Annotated[dict[str, list[Raw]], REST]
"""The parameters that no other field takes: by name, the JSON of each value as it is written; never a template."""


class OnInterrupt(StrEnum):
    """What happens to a target that was inside the step when the server was killed."""

    FAIL = "fail"
    """The target fails as interrupted."""
    RERUN = "rerun"
    """The step runs again for it: running twice does no harm."""
    RESUME = "resume"
    """The step runs again and finds in `context.saved` what it kept with `context.save`."""


class TargetFailed(Exception):
    """Raised by a step: the target failed, and the test is to blame (unless `blame` says who is).

    `output` has the ends of what a command wrote, which the status and the report show.
    """

    def __init__(self, message: str, *, output: Output | None = None, blame: Blame = Blame.TEST) -> None:
        super().__init__(message)
        self.message = message
        self.output = output
        self.blame = Blame(blame)


class Stopped(Exception):
    """Raised by a step: it obeyed a stop or a pause and is not finished."""


class BaseStep(ABC, Generic[P]):
    """What the kinds of steps have in common. Constructed once a step of a job, without arguments.

    Constructing and checking only calculate: where a descriptor is large that is done in a thread, beside the loop.
    """

    Parameters: ClassVar[type[Struct]]
    """A frozen struct of the parameters; `Expanded[T]` marks what may be a template."""
    events: ClassVar[Mapping[str, type]] = {}
    """The events that it may emit, and the type of their payload."""
    on_interrupt: ClassVar[OnInterrupt] = OnInterrupt.FAIL
    display_name: ClassVar[str]
    """`TestStepName` in the status."""
    checks: ClassVar[Mapping[str, Callable[[Any], Iterable[Finding]]]] = {}
    """By field: judges a literal when the job is handed in, else the rendered value. Paths are relative to the
    field."""

    def check(self, parameters: P) -> Iterable[Finding]:
        """Judges all fields together: when the job is handed in, if all are literal, else when rendered."""
        return ()

    def outputs(self, parameters: P | None) -> frozenset[str] | None:
        """The variables that it sets; None where that is not known. `parameters` is None unless literal."""
        return frozenset()


class Step(BaseStep[P]):
    """A step that handles one target at a time, all of them side by side."""

    @abstractmethod
    async def run(self, target: Target, parameters: P, context: StepContext) -> None:
        """Returning passes the target; `TargetFailed` fails it; any other exception is the plugin's fault.

        When the job is stopped `context.stopping` says so at once; half the manager's `stop_grace` later the
        step is cancelled.
        """


class ThreadStep(BaseStep[P]):
    """As `Step`, for libraries that block: each target has a daemon thread of its own."""

    @abstractmethod
    def run(self, target: Target, parameters: P, context: ThreadStepContext) -> None:
        """As `Step.run`, but cannot be cancelled: it has to look at `context.stopping` itself."""


class Arrival(ABC, Generic[P]):
    """A target that has reached an `AllTargetsStep`."""

    target: Target
    parameters: P
    context: StepContext

    @abstractmethod
    def passed(self) -> None:
        """Lets the target go on."""

    @abstractmethod
    def failed(self, error: TargetFailed | Exception) -> None:
        """Fails the target, as raising from `Step.run` does."""


class AllTargetsStep(BaseStep[P]):
    """A step that wants all targets at once."""

    @abstractmethod
    async def run(self, arrivals: AsyncIterator[Arrival[P]]) -> None:
        """Called once an attempt, when the first target arrives. The iterator ends when no more can reach it.

        A target on which neither `passed` nor `failed` was called when it returns or raises has failed, by
        the plugin's fault.
        """
