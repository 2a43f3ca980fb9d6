"""The expanded plan of a job: all that is needed to run it, and to go on after a crash, beside the plugins.

Made by `contest_runner.descriptor` from a job descriptor, kept in the store as JSON, run by the runner. It has a
format number, so that a later program knows what it reads.
"""

from __future__ import annotations

from typing import Any, Final

from msgspec import Raw, Struct

PLAN_FORMAT: Final = 1
"""Grows when a field changes its meaning; a plan of a greater number is not run."""

DEFAULT_ACQUIRE_TIMEOUT: Final = 5 * 60 * 1_000_000_000
DEFAULT_RELEASE_TIMEOUT: Final = 5 * 60 * 1_000_000_000
"""ConTest's, in nanoseconds."""


class StepPlan(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One step of a test."""

    name: str
    """The step's name in the registry."""
    label: str
    parameters: dict[str, list[Any]] = {}
    on_interrupt: str | None = None
    """Overrides the step class's own; one of `OnInterrupt`."""


class TestPlan(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One enabled test."""

    __test__ = False

    name: str
    target_manager: str
    acquire_parameters: Raw
    release_parameters: Raw
    steps: tuple[StepPlan, ...]
    retries: int = 0
    """How often the test is tried again while some target has not passed."""
    retry_interval: int = 0
    """Nanoseconds from the end of an attempt that failed to the next."""
    cleanup: tuple[StepPlan, ...] = ()
    """Steps that run at the end of every attempt, whatever became of the targets."""
    cleanup_timeout: int = 0
    """Nanoseconds that these have together; 0 is no limit while the job goes on."""
    only: tuple[str, ...] = ()
    """The IDs of the targets that a retry is narrowed to; all where it is empty."""


class ReporterPlan(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One reporter of a job."""

    name: str
    parameters: Raw = Raw(b"null")


class Plan(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A job, ready to run."""

    format: int = PLAN_FORMAT
    name: str
    tags: tuple[str, ...] = ()
    runs: int = 0
    """0 is without end."""
    run_interval: int = 0
    """Nanoseconds from the end of a run, after its reports, to the start of the next."""
    acquire_timeout: int = DEFAULT_ACQUIRE_TIMEOUT
    """Nanoseconds."""
    release_timeout: int = DEFAULT_RELEASE_TIMEOUT
    """Nanoseconds."""
    tests: tuple[TestPlan, ...]
    skipped_tests: tuple[str, ...] = ()
    """Names of tests that do not run: disabled, or in a retry of what failed without anything that did."""
    run_reporters: tuple[ReporterPlan, ...] = ()
    final_reporters: tuple[ReporterPlan, ...] = ()
