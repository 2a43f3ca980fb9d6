"""The transport that is broken elsewhere keeps every promise as long as it is whole."""

from __future__ import annotations

from .lines import LineSuite


class TestLines(LineSuite):
    """Whole."""
