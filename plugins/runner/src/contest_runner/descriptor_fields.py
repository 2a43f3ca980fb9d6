"""The fields of a descriptor, with ConTest's names and types, before anything is checked.

`contest_runner.descriptor` reads them; what they mean is said there.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from contest_core import Duration


class _Fields(Struct, kw_only=True, forbid_unknown_fields=True):
    """What may be decoded at once where it is spelt exactly; the walk takes it otherwise, too."""


class ReporterFields(_Fields, rename="pascal"):
    """A reporter."""

    name: str = ""
    parameters: Any | UnsetType = UNSET


class ReportingFields(_Fields, rename="pascal"):
    """All reporters."""

    run_reporters: list[ReporterFields] = []
    final_reporters: list[ReporterFields] = []


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
    cleanup_timeout: Any | UnsetType = UNSET
    max_targets: Any | UnsetType = UNSET


class StepFields(_Fields):
    """A step."""

    name: str = ""
    label: str = ""
    parameters: dict[str, list[Any]] = {}
    variables_mapping: dict[str, str] = msgspec.field(name="VariablesMapping", default_factory=dict)
    on_interrupt: str | None = msgspec.field(name="OnInterrupt", default=None)
    timeout: Any | UnsetType = msgspec.field(name="Timeout", default=UNSET)


class JobFields(_Fields, rename="pascal"):
    """A job."""

    job_name: str = ""
    version: str = ""
    tags: list[str] = []
    runs: int = 0
    run_interval: Duration = Duration(0)
    test_descriptors: list[TestFields] = []
    reporting: ReportingFields = msgspec.field(default_factory=ReportingFields)
    target_manager_acquire_timeout: Duration | None = None
    target_manager_release_timeout: Duration | None = None
    timeout: Any | UnsetType = UNSET
    cleanup_timeout: Any | UnsetType = UNSET
    max_targets: Any | UnsetType = UNSET
    queue: Any | UnsetType = UNSET
    priority: Any | UnsetType = UNSET
