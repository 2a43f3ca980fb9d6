"""Terminals for tests of programs that look whether a person reads them."""

from __future__ import annotations

import os

import pytest


def pseudo_terminal() -> tuple[int, int]:
    """Both ends of one: the reader's and the program's. A bare system may have none to give: the test is skipped."""
    try:
        return os.openpty()
    except OSError as error:
        pytest.skip(f"there are no pseudo terminals here: {error}")
