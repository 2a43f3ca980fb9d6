"""A watch: the events of a job, or of all jobs, as they are committed, for whoever reads them.

Job managers implement it; `API.watch` gives it out; transports and `contest run` read it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING

from contest_core.job_event import Gap
from contest_core.responses import encode

if TYPE_CHECKING:
    from typing import Self

    from contest_core.job_event import Cursor, JobEvent


class Watch(ABC):
    """An iterator of job events. It ends when the job has, or the server does."""

    cursor: Cursor
    """Of what was last given out; valid before the first event too."""

    def __aiter__(self) -> Self:
        return self

    @abstractmethod
    async def __anext__(self) -> JobEvent | Gap:
        """The next event, or a gap that says what was missed. May be cancelled and called again."""


def is_from_now(parameters: Mapping[str, object]) -> bool:
    """Whether a watch is of all jobs from now on, so that only the server knows where it begins."""
    return parameters.get("jobID") is None and parameters.get("since") is None


def beginning(cursor: str) -> bytes:
    """What a client's watch gives first where it is from now on: nothing was missed, and here it begins."""
    return encode(Gap(missed=0, cursor=cursor))
