"""What a job would do: the answer to `validate` with `plan`. Nothing in it is a secret.

A job manager makes it from a descriptor; the program shows it to a person. Parameters are JSON objects, in
the types that steps get.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from contest_core.job_event import TargetInfo
from contest_core.wire_names import wire_name


class PlannedTarget(Struct, frozen=True, kw_only=True, rename=wire_name, omit_defaults=True):
    """What one target would be given in a step, beside what all get alike."""

    id: str
    parameters: dict[str, Any] = {}
    """What its templates render to."""
    waits_for: list[str] = []
    """Variables, `label.name`, that steps before have to set: what reads them is not known before."""
    error: str = ""
    """Why the target would fail there."""


class PlannedStep(Struct, frozen=True, kw_only=True, rename=wire_name, omit_defaults=True):
    """One step."""

    label: str
    name: str
    parameters: dict[str, Any] = {}
    """What every target is given."""
    templates: dict[str, list[str]] = {}
    """Parameters that differ by target, as they are written."""
    targets: list[PlannedTarget] = []
    """What these come to, for the first of the targets, as many as there is room and time for; none where there are no
    templates."""


class PlannedPart(Struct, frozen=True, kw_only=True, rename=wire_name, omit_defaults=True):
    """A reporter or a target manager, and what it is told."""

    name: str
    parameters: dict[str, Any] = {}


class PlannedTest(Struct, frozen=True, kw_only=True, rename=wire_name, omit_defaults=True):
    """One enabled test."""

    __test__ = False

    test_name: str
    target_manager: PlannedPart
    targets: list[TargetInfo] | None = None
    """The first of those that it would have, or take some of; None where that is known only when they are acquired."""
    target_count: int = 0
    """How many there are in all."""
    targets_error: str = ""
    """Why they could not be had now."""
    steps: list[PlannedStep]
    cleanup_steps: list[PlannedStep] = []
    cleanup_timeout: str = ""
    retries: int = 0
    retry_interval: str = ""


class JobPlan(Struct, frozen=True, kw_only=True, rename=wire_name, omit_defaults=True):
    """A job as it would be run."""

    name: str
    tags: list[str] = []
    runs: int
    """0 is without end."""
    run_interval: str = ""
    acquire_timeout: str
    release_timeout: str
    tests: list[PlannedTest]
    skipped_tests: list[str] = []
    """Names of disabled tests."""
    run_reporters: list[PlannedPart] = []
    final_reporters: list[PlannedPart] = []
