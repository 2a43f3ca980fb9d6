"""The kits for who writes a part of a job, or a dialect of the store, and a laboratory for tests of their own.

Public: an author subclasses `StepSuite` in a test file, and pytest finds a case for every promise. It needs pytest, and
no plugin for async tests. `Lab` has servers without a socket, `Serving` is what one does with one of them.
"""

import pytest

# Before they are imported: what an assertion of theirs compared is shown, as of one in a test file.
pytest.register_assert_rewrite("contest_runner.testing.step_suite")

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
from contest_runner.testing.step_suite import StepSuite  # noqa: E402

__all__ = [
    "Json",
    "Lab",
    "Serving",
    "StepSuite",
    "eventually",
    "job_of",
    "last_statuses",
    "one_test",
    "simple",
    "step",
]
