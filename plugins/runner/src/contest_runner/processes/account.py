"""The account of which processes are whose: what the supervisor asks, and answers of two kinds of systems.

`orphans.Orphans` is Linux's, `groups.Groups` everybody else's.
"""

from __future__ import annotations

from typing import Protocol

import msgspec


class Survivor(msgspec.Struct, frozen=True, kw_only=True):
    """A process that a job has started, directly or not, and that lives."""

    pid: int
    job_id: int
    command: str
    """Its command line, cut to 200 characters; it may hold what the job's author wrote there, secrets too."""
    started: int
    """Clock ticks since the machine started, which with `pid` name it for good; 0 where that is not known,
    and then `pid` stands for a whole group."""


class Account(Protocol):
    """Used on the loop's thread only."""

    def started(self, pid: int, job_id: int) -> None:
        """A process of a job runs: a child that its `Process` waits for."""

    def ended(self, pid: int) -> None:
        """It has been waited for."""

    @property
    def restless(self) -> bool:
        """Whether the last look found anything that makes another one worth while."""

    def look(self) -> int:
        """Bring the account up to date, bury orphans that have ended, and return how many these were."""

    def survivors(self, job_id: int | None, *, adopting: bool) -> list[Survivor]:
        """What lives of a job, or of all on this store (None); `adopting`: orphans become our children."""

    def signal(self, survivor: Survivor, number: int) -> None:
        """Signal that process, and no other that has got its number since."""
