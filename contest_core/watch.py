"""A watch: the events of a job, or of all jobs, as they are committed, for whoever reads them.

Job managers implement it; `API.watch` gives it out; transports and `contest run` read it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Self

    from contest_core.job_event import Cursor, Gap, JobEvent


class Watch(ABC):
    """An iterator of job events. It ends when the job has, or the server does."""

    cursor: Cursor
    """Of what was last given out; valid before the first event too."""

    def __aiter__(self) -> Self:
        return self

    @abstractmethod
    async def __anext__(self) -> JobEvent | Gap:
        """The next event, or a gap that says what was missed. May be cancelled and called again."""
