"""The kits for who writes a part of a job, or a dialect of the store, and a laboratory for tests of their own.

Public: an author subclasses a suite (`StepSuite`, `TargetManagerSuite`, `FetcherSuite`, `ReporterSuite`, `StoreSuite`)
in a test file, and pytest finds a case for every promise. It needs pytest, and no plugin for async tests. `Lab` has
servers without a socket, `Serving` is what one does with one.
"""

import pytest

# Before they are imported: what an assertion of theirs compared is shown, as of one in a test file.
pytest.register_assert_rewrite(
    *(
        f"contest_runner.testing.{name}"
        for name in (
            "part_place",
            "part_suites",
            "step_place",
            "step_suite",
            "store_feed",
            "store_jobs",
            "store_locks",
            "store_place",
        )
    )
)

from contest_runner.testing.lab import (  # noqa: E402
    Json,
    Lab,
    Serving,
    eventually,
    job_of,
    last_statuses,
    one_test,
    simple,
    step,
)
from contest_runner.testing.part_suites import (  # noqa: E402
    FetcherSuite,
    ReporterSuite,
    TargetManagerSuite,
)
from contest_runner.testing.step_suite import StepSuite  # noqa: E402
from contest_runner.testing.store_suite import StoreSuite  # noqa: E402

__all__ = [
    "FetcherSuite",
    "Json",
    "Lab",
    "ReporterSuite",
    "Serving",
    "StepSuite",
    "StoreSuite",
    "TargetManagerSuite",
    "eventually",
    "job_of",
    "last_statuses",
    "one_test",
    "simple",
    "step",
]
