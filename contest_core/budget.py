"""Bytes that a listener holds for all of its peers together: of large requests that come, of large answers that go."""

from __future__ import annotations

from contest_core.errors import TooManyRequests


class Budget:
    """Counts them against a limit."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.used = 0

    def take(self, size: int) -> bool:
        """Counts so many bytes more; false, and they are counted all the same, where that is too much.

        What is held alone is never too much: the limits of a single request and answer are others.
        """
        alone = not self.used
        self.used += size
        return alone or self.used <= self._limit

    def give_back(self, size: int) -> None:
        """Counts them no longer."""
        self.used -= size

    def spent(self) -> TooManyRequests:
        """What the peer is told."""
        reason = (
            f"large requests and answers of {self.used:,} bytes are under way, the limit is {self._limit:,}"
        )
        return TooManyRequests(reason=reason, retry_after=5)
