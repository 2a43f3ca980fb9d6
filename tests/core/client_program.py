"""A program that uses every method of both clients; a type checker has to know what each gives."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import assert_type

from contest_core import (
    ClientOptions,
    Contest,
    ContestError,
    Cursor,
    Gap,
    JobEvent,
    JobQuery,
    JobState,
    ListResponse,
    LocksResponse,
    RetryResponse,
    StartResponse,
    StatusResponse,
    StopResponse,
    ValidateResponse,
    VersionResponse,
)
from contest_core.client import connect, connect_sync
from contest_core.client_sync import ContestSync
from contest_core.status import JobStatus


def told(error: ContestError, pause: float) -> None:
    """What is asked again."""
    assert_type(error.code, str)


OPTIONS = ClientOptions(requestor="me", token="t", timeout=5, patience=10, on_repeat=told, max_answer=1000)


async def ask(address: str) -> None:
    """With an event loop."""
    async with connect(address, OPTIONS) as contest:
        assert_type(contest, Contest)
        started = await contest.start("{}", start_key="k", strict=True)
        assert_type(started, StartResponse)
        assert_type(started.error, ContestError | None)
        job = started.result().job_id
        assert_type(job, int)
        assert_type(await contest.stop(job), StopResponse)
        status = await contest.status(job, run=1, test="t", target="x", events=False)
        assert_type(status, StatusResponse)
        assert_type(status.result().status, JobStatus | None)
        assert_type(await contest.retry(job, failed_only=True), RetryResponse)
        assert_type(await contest.list(JobQuery(states=(JobState.STARTED,))), ListResponse)
        assert_type(await contest.version(), VersionResponse)
        assert_type(await contest.validate("{}", plan=True), ValidateResponse)
        assert_type(await contest.locks(), LocksResponse)
        assert_type(await contest.offers("watch"), bool)
        async with contest.watch(job_id=job, since=Cursor("c")) as events:
            assert_type(events, AsyncIterator[JobEvent | Gap])
            async for event in events:
                assert_type(event, JobEvent | Gap)


def ask_sync(address: str) -> None:
    """Without one."""
    with connect_sync(address, OPTIONS) as contest:
        assert_type(contest, ContestSync)
        job = contest.start("{}", start_key="k", strict=True).result().job_id
        assert_type(job, int)
        assert_type(contest.stop(job), StopResponse)
        assert_type(contest.status(job, run=1, test="t", target="x", events=False), StatusResponse)
        assert_type(contest.retry(job, failed_only=True), RetryResponse)
        assert_type(contest.list(JobQuery()), ListResponse)
        assert_type(contest.version(), VersionResponse)
        assert_type(contest.validate("{}", plan=True), ValidateResponse)
        assert_type(contest.locks(), LocksResponse)
        assert_type(contest.offers("watch"), bool)
        with contest.watch(job_id=job, since=Cursor("c")) as events:
            assert_type(events, Iterator[JobEvent | Gap])
            for event in events:
                assert_type(event, JobEvent | Gap)
