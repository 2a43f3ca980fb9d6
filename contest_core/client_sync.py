"""The blocking client: the methods of `Contest`, each of which waits for its answer.

Made by `contest_core.client.connect_sync`. Generated from `contest_core/client.py` by `tests/core/test_client_sync.py`,
so that a type checker sees every method: change it there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from contest_core.client import Contest
    from contest_core.job_event import Cursor, Gap, JobEvent
    from contest_core.portal import Portal
    from contest_core.responses import (
        ListResponse,
        LocksResponse,
        RetryResponse,
        StartResponse,
        StatusResponse,
        StopResponse,
        ValidateResponse,
        VersionResponse,
    )
    from contest_core.status import JobQuery


class ContestSync:
    """`Contest`, for programs without an event loop."""

    def __init__(self, portal: Portal, contest: Contest) -> None:
        self._portal = portal
        self._contest = contest

    def start(
        self, job_descriptor: str, *, start_key: str | None = None, strict: bool = False
    ) -> StartResponse:
        """Starts a job from a descriptor (one JSON object).

        A server that has start keys is given one in any case, so that a start whose answer was lost is sent again and
        starts one job.
        """
        return self._portal.call(self._contest.start(job_descriptor, start_key=start_key, strict=strict))

    def stop(self, job_id: int) -> StopResponse:
        """Requests the cancellation of a job."""
        return self._portal.call(self._contest.stop(job_id))

    def status(
        self,
        job_id: int,
        *,
        run: int | None = None,
        test: str | None = None,
        target: str | None = None,
        events: bool = True,
    ) -> StatusResponse:
        """The status of a job, or of a part of it."""
        return self._portal.call(
            self._contest.status(job_id, run=run, test=test, target=target, events=events)
        )

    def retry(self, job_id: int, *, failed_only: bool = False) -> RetryResponse:
        """Runs an ended job again as a new one."""
        return self._portal.call(self._contest.retry(job_id, failed_only=failed_only))

    def list(self, query: JobQuery) -> ListResponse:
        """The jobs that match the query."""
        return self._portal.call(self._contest.list(query))

    def version(self) -> VersionResponse:
        """The API version that is spoken there, and what the server offers."""
        return self._portal.call(self._contest.version())

    def validate(self, job_descriptor: str, *, plan: bool = False) -> ValidateResponse:
        """What is to be said of a descriptor, and with `plan` what the job would do; nothing is run."""
        return self._portal.call(self._contest.validate(job_descriptor, plan=plan))

    def locks(self) -> LocksResponse:
        """Which targets are locked."""
        return self._portal.call(self._contest.locks())

    def watch(
        self, *, job_id: int | None = None, since: Cursor | None = None
    ) -> AbstractContextManager[Iterator[JobEvent | Gap]]:
        """Follows the events of a job to its end, or of all jobs, from behind a cursor.

        When the server is lost or ends it is subscribed again from the last event, within the patience of the options:
        nothing is missing, nothing comes twice, or a gap says so. Without `since` a job's events begin with its first,
        those of all jobs with the next. Raises the refusal when entered, and in the iterator what is final.
        """
        return self._portal.iterate(self._contest.watch(job_id=job_id, since=since))

    def offers(self, capability: str) -> bool:
        """Whether the server declares a capability, `start.start_key` for example.

        It is asked once, and anew when the start key of a request was to make it harmless.
        """
        return self._portal.call(self._contest.offers(capability))
