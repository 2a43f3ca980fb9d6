"""The fields of a descriptor, with ConTest's names and types, before anything is checked.

`contest_runner.descriptor` reads them; what they mean is said there. How many there may be of something stands at
its type. ConTest has no such limits: they keep one request from taking the server for itself, and are far beyond what
a job is.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType

from contest_core import Duration
from contest_runner.walk import Whole

MAX_TESTS: Final = 1_000
MAX_STEPS: Final = 1_000
"""Of one test."""
MAX_STEPS_OF_JOB: Final = 10_000
"""Of all tests together."""
MAX_PARAMETERS: Final = 1_000
"""Of one step; variables that it maps, too."""
MAX_VALUES_OF_JOB: Final = 100_000
"""Values of parameters, in all steps together."""
MAX_REPORTERS: Final = 100
"""Of each kind."""
MAX_TAGS: Final = 1_000
MAX_BRACKETS: Final = 1_000_000
"""`[` and `{` in the text: so much is parsed in one go, during which nothing else happens in the process."""


class _Fields(Whole, kw_only=True, forbid_unknown_fields=True):
    """What may be decoded at once where it is spelt exactly; the walk takes it otherwise, too."""


class ReporterFields(_Fields, rename="pascal"):
    """A reporter."""

    name: str = ""
    parameters: Any | UnsetType = UNSET


Reporters = Annotated[list[ReporterFields], Meta(max_length=MAX_REPORTERS, title="reporters")]


class ReportingFields(_Fields, rename="pascal"):
    """All reporters."""

    run_reporters: Reporters = msgspec.field(default_factory=list)
    final_reporters: Reporters = msgspec.field(default_factory=list)


class RetryFields(_Fields, rename="pascal"):
    """How a test is retried."""

    num_retries: int = 0
    retry_interval: Duration = Duration(0)


class TestFields(_Fields, rename="pascal"):
    """A test."""

    __test__ = False

    disabled: bool = False
    retry_parameters: RetryFields | None = None
    target_manager_name: str = ""
    target_manager_acquire_parameters: Any | UnsetType = UNSET
    target_manager_release_parameters: Any | UnsetType = UNSET
    test_fetcher_name: str = ""
    test_fetcher_fetch_parameters: Any | UnsetType = UNSET
    cleanup_fetcher_name: str = ""
    cleanup_fetcher_fetch_parameters: Any | UnsetType = UNSET
    timeout: Any | UnsetType = UNSET
    cleanup_timeout: Duration | None = None
    max_targets: Any | UnsetType = UNSET


class StepFields(_Fields):
    """A step."""

    name: str = ""
    label: str = ""
    parameters: Annotated[dict[str, list[Any]], Meta(max_length=MAX_PARAMETERS, title="parameters")] = (
        msgspec.field(default_factory=dict)
    )
    variables_mapping: Annotated[
        dict[str, str | None], Meta(max_length=MAX_PARAMETERS, title="variables")
    ] = msgspec.field(name="VariablesMapping", default_factory=dict)
    on_interrupt: str | None = msgspec.field(name="OnInterrupt", default=None)
    timeout: Any | UnsetType = msgspec.field(name="Timeout", default=UNSET)


Steps = Annotated[list[StepFields], Meta(max_length=MAX_STEPS, title="steps")]


class JobFields(_Fields, rename="pascal"):
    """A job."""

    job_name: str = ""
    version: str = ""
    tags: Annotated[list[str], Meta(max_length=MAX_TAGS, title="tags")] = msgspec.field(default_factory=list)
    runs: int = 0
    run_interval: Duration = Duration(0)
    test_descriptors: Annotated[list[TestFields], Meta(max_length=MAX_TESTS, title="tests")] = msgspec.field(
        default_factory=list
    )
    reporting: ReportingFields = msgspec.field(default_factory=ReportingFields)
    target_manager_acquire_timeout: Duration | None = None
    target_manager_release_timeout: Duration | None = None
    timeout: Any | UnsetType = UNSET
    cleanup_timeout: Any | UnsetType = UNSET
    max_targets: Any | UnsetType = UNSET
    queue: Any | UnsetType = UNSET
    priority: Any | UnsetType = UNSET
