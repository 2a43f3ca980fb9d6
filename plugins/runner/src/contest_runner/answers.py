"""Answers about jobs: statuses and lists, from what runs here and from the store, encoded once and kept.

Called by the job manager. The run that goes on is the live tree; runs that have ended are unpacked from the store
in a thread, encoded once and kept in a cache with a bound in bytes.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any, Final

import msgspec
from msgspec import Raw

from contest_core import (
    Cursor,
    EncodedJSON,
    JobEntry,
    JobReport,
    JobState,
    JobStatus,
    Report,
    ResponseDataList,
    ResponseDataStatus,
    RunStatus,
    TooLarge,
    UnknownJob,
)
from contest_core.client import MAX_ANSWER_BYTES
from contest_core.events import EventListMsg, EventMsg, EventStatusMsg
from contest_runner.cursors import JOBS, make_cursor, read_cursor
from contest_runner.job import Job
from contest_runner.status_packing import unpack
from contest_runner.status_parts import (
    Piece,
    check_run,
    check_size,
    check_target,
    check_test,
    cut,
    is_whole,
)
from contest_runner.status_tree import RunTree
from contest_runner.store import JobRow, ReportRow, RunRow, Store
from contest_runner.times import microseconds, moment

CACHE_BYTES: Final = 8 * 1024 * 1024
"""What encoded answers and runs may take in memory."""

RUNS_SHOWN: Final = 10
"""Of an endless job, the last runs that a status shows unless one is asked for."""

_READINGS: Final = 4
"""How often a status is read anew because a run ended meanwhile; of an endless job with short runs one always does."""


class _Cache:
    """Encoded pieces, the ones asked for last; with a bound in bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._pieces: OrderedDict[Any, bytes] = OrderedDict()

    def get(self, key: Any) -> bytes | None:
        piece = self._pieces.get(key)
        if piece is not None:
            self._pieces.move_to_end(key)
        return piece

    def put(self, key: Any, piece: bytes) -> None:
        if key in self._pieces or len(piece) > self._limit // 4:
            return
        self._pieces[key] = piece
        self._size += len(piece)
        while self._size > self._limit:
            _, dropped = self._pieces.popitem(last=False)
            self._size -= len(dropped)


class Answers:
    """Answers about the jobs of one store."""

    def __init__(self, store: Store, jobs: Mapping[int, Job]) -> None:
        self._store = store
        self._jobs = jobs
        self._cache = _Cache(CACHE_BYTES)
        self._generation = 0
        self._lists: dict[Any, EncodedJSON] = {}
        self._being_written = 0
        """Changes of jobs' states that may be on disk, or not yet."""

    def changed(self) -> None:
        """The state of some job has changed."""
        self._generation += 1
        self._lists.clear()

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Entered in the turn of the loop in which the change of a job's state is appended; left when it is on disk.

        Watches may tell of it before the loop has heard that it is: what is asked for then is looked up.
        """
        self._being_written += 1
        self.changed()
        try:
            yield
        finally:
            self._being_written -= 1
            self.changed()

    # --- status

    def at_hand(self, message: EventMsg) -> EncodedJSON | None:
        """An answer that is kept: of a job that has ended, or of jobs none of which has changed since."""
        if isinstance(message, EventListMsg):
            return self._lists.get(message.query)
        if isinstance(message, EventStatusMsg) and (kept := self._cache.get(_key(message))) is not None:
            return EncodedJSON(kept)
        return None

    async def status(self, message: EventStatusMsg) -> EncodedJSON:
        """The status that was asked for; of a part there is `RunStatuses` and no `RunStatus`, which repeats the last.

        Raises `UnknownJob`, `TooLarge`, and `InvalidQuery` for a run, test or target that the job does not have.
        """
        job, row = self._jobs.get(message.job_id), None
        if job is None or job.ending:
            row = await self._store.job(message.job_id)
        ended = row is not None and JobState(row.state).ended
        if job is not None and not ended:
            encoded = await self._of_running(job, message)
        elif row is not None:
            encoded = await self._of_stored(row, message)
            if ended:
                self._cache.put(_key(message), encoded)
        else:
            raise UnknownJob(job_id=message.job_id)
        if len(encoded) > MAX_ANSWER_BYTES:
            # Not for its runs: reports have no bound of their own.
            raise TooLarge(what="the status", limit=MAX_ANSWER_BYTES, size=len(encoded))
        return EncodedJSON(encoded)

    async def whole(self, job: Job) -> JobStatus:
        """The status of a running job as a reporter sees it, with all its runs."""
        runs = [await self._unpacked(job.id, row) for row in await self._store.runs(job.id, last=None)]
        reports = await self._store.reports(job.id)
        return _frame(job, [tree.status for tree in runs], _job_report(job.id, reports))

    async def _of_running(self, job: Job, message: EventStatusMsg) -> bytes:
        plan = job.plan
        endless = plan.runs == 0
        check_test(message, [test.name for test in plan.tests] + list(plan.skipped_tests))
        for _ in range(_READINGS):
            live = job.run
            first_run = live is not None and live.status.run_id == 1
            last, pieces, reports = 0, list[Piece](), list[ReportRow]()
            if not first_run:
                last, pieces = await self._stored_runs(job.id, message, endless=endless)
                reports = await self._store.reports(job.id)
            # A run that ended meanwhile is in the store now, and perhaps not among what was read.
            if job.run is live:
                break
        live = job.run
        if live is not None:
            last = live.status.run_id
            pieces = [piece for piece in pieces if piece.run_id != last]
            if message.run in (None, last):
                pieces.append(cut(live, message))
        check_run(message, last=last, to_come=plan.runs)
        await self._check(message, pieces, ended=False)
        shown = RUNS_SHOWN if endless else None
        reported = _job_report(job.id, reports, shown=shown)
        return _encode_status(_frame(job, _raw(pieces), reported, part=not is_whole(message)))

    @staticmethod
    async def _check(message: EventStatusMsg, pieces: Sequence[Piece], *, ended: bool) -> None:
        if message.target is not None:
            await asyncio.to_thread(check_target, message, pieces, ended=ended)
        check_size(message, pieces)

    async def ended(self, job_id: int, *, last: int) -> JobStatus:
        """The status of a job that has ended, for this program itself: however large it is, it is not encoded.

        Of the runs before the `last` ones there are only their numbers and times.
        """
        row = await self._store.job(job_id)
        if row is None:
            raise UnknownJob(job_id=job_id)
        rows = await self._store.runs(job_id, last=None)
        earlier = [_without_tests(job_id, run) for run in rows[:-last]]
        runs = [(await self._unpacked(job_id, run)).status for run in rows[-last:]]
        reports = _job_report(job_id, await self._store.reports(job_id))
        decoded = msgspec.json.decode(msgspec.json.encode(reports), type=JobReport)
        return _stored_frame(row, [*earlier, *runs], decoded)

    async def _of_stored(self, row: JobRow, message: EventStatusMsg) -> bytes:
        plan = _planned(await self._store.plan(row.job_id))
        if plan.tests is not None:
            check_test(message, [test.name for test in plan.tests] + list(plan.skipped_tests))
        ended = JobState(row.state).ended
        endless = plan.runs == 0
        last, pieces = await self._stored_runs(row.job_id, message, endless=endless)
        check_run(message, last=last, to_come=0 if ended else plan.runs)
        await self._check(message, pieces, ended=ended)
        reports = await self._store.reports(row.job_id)
        report = _job_report(row.job_id, reports, shown=RUNS_SHOWN if endless else None)
        return _encode_status(_stored_frame(row, _raw(pieces), report, part=not is_whole(message)))

    async def _stored_runs(
        self, job_id: int, message: EventStatusMsg, *, endless: bool
    ) -> tuple[int, list[Piece]]:
        """The number of the last run, and those that were asked for."""
        rows = await self._store.runs(job_id, last=RUNS_SHOWN if endless and message.run is None else None)
        wanted = [row for row in rows if message.run in (None, row.run_id)]
        pieces = [await self._piece(job_id, row, message) for row in wanted]
        return rows[-1].run_id if rows else 0, pieces

    async def _piece(self, job_id: int, row: RunRow, message: EventStatusMsg) -> Piece:
        key = (job_id, "run", row.run_id, message.test, message.target, message.events)
        kept = self._cache.get(key)
        if kept is not None:
            return Piece(row.run_id, kept)
        piece = await asyncio.to_thread(_unpack_and_cut, job_id, row, message)
        if piece.missed is None:
            self._cache.put(key, piece.encoded)
        return piece

    async def _unpacked(self, job_id: int, row: RunRow) -> RunTree:
        return await asyncio.to_thread(unpack, job_id, row.run_id, row.status)

    # --- list

    async def list(self, message: EventListMsg) -> EncodedJSON:
        """The jobs that match."""
        query = message.query
        generation = self._generation
        rows = await self._store.jobs(
            states=[int(state) for state in query.states],
            tags=query.tags,
            requestors=query.requestors,
            name=query.name,
            since=None if query.since is None else microseconds(query.since),
            until=None if query.until is None else microseconds(query.until),
            # One more than is asked for tells whether there are more.
            limit=None if query.limit is None else query.limit + 1,
            before=None
            if query.cursor is None
            else read_cursor(self._store, JOBS, Cursor(query.cursor), parameter="cursor"),
        )
        cursor = None
        if query.limit is not None and len(rows) > query.limit:
            rows = rows[: query.limit]
            cursor = str(make_cursor(self._store, JOBS, rows[-1].job_id))
        rows.sort(key=lambda row: row.job_id)
        data = ResponseDataList(
            job_ids=[row.job_id for row in rows], jobs=[entry_of(row) for row in rows], cursor=cursor
        )
        answer = EncodedJSON(msgspec.json.encode(data))
        kept = generation == self._generation and not self._being_written
        if kept and len(answer.json) < CACHE_BYTES // 8 and len(self._lists) < 8:
            self._lists[query] = answer
        return answer


class _PlannedTest(msgspec.Struct):
    name: str


class _Planned(msgspec.Struct):
    """What a status needs of a plan."""

    runs: int = 0
    tests: tuple[_PlannedTest, ...] | None = None
    """None where they cannot be read."""
    skipped_tests: tuple[str, ...] = ()


def _planned(plan: str | None) -> _Planned:
    try:
        return msgspec.json.decode(plan or "{}", type=_Planned)
    except msgspec.MsgspecError:
        # A job whose plan cannot be read has a status all the same: it says why the job failed.
        return _Planned(runs=1)


def _key(message: EventStatusMsg) -> tuple[object, ...]:
    return message.job_id, message.run, message.test, message.target, message.events


def _raw(pieces: Sequence[Piece]) -> list[Raw]:
    return [Raw(piece.encoded) for piece in pieces]


def _frame(job: Job, runs: Sequence[Any], report: JobReport, *, part: bool = False) -> JobStatus:
    return JobStatus(
        name=job.plan.name,
        state_name=job.state.wire_name,
        state_err_msg="",
        start_time=moment(job.start_time),
        end_time=None,
        run_status=runs[-1] if runs and not part else None,
        run_statuses=list(runs) or None,
        job_report=report,
        flaky=job.flaky,
        waiting=job.waiting,
        retry_of=job.retry_of,
    )


def _encode_status(status: JobStatus) -> bytes:
    # Not put together from pieces: a copy more of a large answer makes the allocator give its pages back each time.
    return msgspec.json.encode(ResponseDataStatus(status=status))


def _stored_frame(row: JobRow, runs: Sequence[Any], report: JobReport, *, part: bool = False) -> JobStatus:
    state = JobState(row.state)
    failed = state in (JobState.FAILED, JobState.CANCELLATION_FAILED)
    return JobStatus(
        name=row.name,
        state_name=state.wire_name,
        state_err_msg=(row.error or "") if failed else "",
        start_time=moment(row.start_time),
        end_time=None if row.end_time is None else moment(row.end_time),
        run_status=runs[-1] if runs and not part else None,
        run_statuses=list(runs) or None,
        job_report=report,
        verdict=row.verdict,
        flaky=row.flaky,
        blame=row.blame,
        retry_of=row.retry_of,
    )


def _without_tests(job_id: int, row: RunRow) -> RunStatus:
    return RunStatus(job_id=job_id, run_id=row.run_id, start_time=moment(row.start_time), test_statuses=[])


def _unpack_and_cut(job_id: int, row: RunRow, message: EventStatusMsg) -> Piece:
    return cut(unpack(job_id, row.run_id, row.status), message)


def _job_report(job_id: int, rows: Sequence[ReportRow], *, shown: int | None = None) -> JobReport:
    ordered = sorted(rows, key=lambda row: (row.run_id, row.position))
    by_run = [
        [_report(job_id, row) for row in group]
        for run_id, group in groupby(ordered, key=lambda row: row.run_id)
        if run_id
    ]
    final = [_report(job_id, row) for row in ordered if not row.run_id]
    kept = by_run if shown is None else by_run[-shown:]
    return JobReport(job_id=job_id, run_reports=kept or None, final_reports=final or None)


def _report(job_id: int, row: ReportRow) -> Report:
    return Report(
        job_id=job_id,
        run_id=row.run_id,
        reporter_name=row.reporter,
        report_time=moment(row.time),
        success=row.success,
        data=Raw(row.data.encode()),
    )


def entry_of(row: JobRow) -> JobEntry:
    """What a list says of a job."""
    return JobEntry(
        job_id=row.job_id,
        name=row.name,
        state_name=JobState(row.state).wire_name,
        verdict=row.verdict,
        flaky=row.flaky,
        requestor=row.requestor,
        principal=row.principal,
        tags=list(row.tags),
        start_time=None if row.start_time is None else moment(row.start_time),
        end_time=None if row.end_time is None else moment(row.end_time),
    )
