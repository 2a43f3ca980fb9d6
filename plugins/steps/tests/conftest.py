"""What the tests of the standard parts share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from contest_runner.testing import Lab


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """A laboratory with the installed parts."""
    with Lab(tmp_path) as made:
        yield made
