"""Every case of the job managers' kit can fail: for each there is a manager that is broken that way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from contest_core import (
    ContestError,
    InvalidDescriptor,
    InvalidParameters,
    JobQuery,
    JobState,
    ResponseDataList,
    ResponseDataLocks,
    ResponseDataRetry,
    ResponseDataStop,
    Termination,
    UnknownJob,
    Unsupported,
    Verdict,
    Watch,
)
from contest_core.testing import cases as running
from contest_core.testing import manager_world, world
from contest_core.testing.cases import run_case
from contest_core.testing.memory import MemoryJob

from .kept import KeptJobManager, KeptSuite

CASES = {name: getattr(KeptSuite, name) for name in dir(KeptSuite) if name.startswith("test_")}


class TestKept(KeptSuite):
    """What is broken below is not broken by itself."""


class Broken(NamedTuple):
    """A manager that breaks a promise, and a part of what the case says of it."""

    case: str
    manager: type
    words: str
    arguments: dict[str, Any]


BROKEN: list[Broken] = []


def breaks(case: str, words: str, **arguments: Any) -> Callable[[type], type]:
    """The class below does; `arguments` are those of the case."""

    def register(manager: type) -> type:
        BROKEN.append(Broken(f"test_{case}", manager, words, arguments))
        return manager

    return register


# --- what it declares


@breaks("constructing_it_does_nothing", "it has made jobs.db")
class OpensWhenMade(KeptJobManager):
    def __init__(self, directory: Path, kept: Any) -> None:
        super().__init__(directory, kept)
        (directory / "jobs.db").touch()


@breaks("constructing_it_does_nothing", "it has begun something")
class BeginsWhenMade(KeptJobManager):
    def __init__(self, directory: Path, kept: Any) -> None:
        super().__init__(directory, kept)
        self.task = asyncio.ensure_future(asyncio.sleep(0.01))


@breaks("it_declares_what_there_is", "there is no strat")
class DeclaresWhatIsNot(KeptJobManager):
    def capabilities(self) -> frozenset[str]:
        return super().capabilities() | {"strat"}


@breaks("it_declares_what_there_is", "without the verb")
class DeclaresAParameterAlone(KeptJobManager):
    def capabilities(self) -> frozenset[str]:
        return super().capabilities() - {"retry"}


@breaks("what_it_declares_it_does", "it declares locks and does not do it")
class DeclaresTooMuch(KeptJobManager):
    async def locks(self, message: Any, caller: Any) -> ResponseDataLocks:
        raise Unsupported(what="locks", by="me")


@breaks("it_declares_what_there_is", "changed its mind")
@breaks("what_it_does_not_declare_is_refused_by_name", "not refused")
class DeclaresLessLater(KeptJobManager):
    looks = 0

    def capabilities(self) -> frozenset[str]:
        self.looks += 1
        return super().capabilities() - ({"locks"} if self.looks > 1 else set())


# --- its life


@breaks("ready_it_answers_at_once", "opened")
class SaysReadyTooEarly(KeptJobManager):
    opened = False

    async def serve(self, context: Any) -> None:
        context.ready()
        await asyncio.sleep(0.1)
        self.opened = True
        await super().serve(context)

    async def start(self, message: Any, caller: Any) -> Any:
        assert self.opened, "it is not opened"
        return await super().start(message, caller)


@breaks("it_ends_soon_where_nothing_runs", "did not end in time", how=Termination.DRAIN)
class EndsSlowly(KeptJobManager):
    async def serve(self, context: Any) -> None:
        await super().serve(context)
        await asyncio.sleep(0.6)


class Says:
    """A context with another word."""

    def __init__(self, context: Any, word: Callable[[Termination], Termination]) -> None:
        self.context = context
        self.word = word

    def __getattr__(self, name: str) -> Any:
        return getattr(self.context, name)

    async def stopping(self) -> Termination:
        return self.word(await self.context.stopping())


@breaks("drained_it_waits_for_its_jobs_and_answers_meanwhile", "shutting down")
class CancelsInsteadOfDraining(KeptJobManager):
    async def serve(self, context: Any) -> None:
        await super().serve(Says(context, lambda how: Termination.CANCEL))


@breaks("drained_it_waits_for_its_jobs_and_answers_meanwhile", "shutting down")
class GoesAtOnce(KeptJobManager):
    async def serve(self, context: Any) -> None:
        context.ready()
        await context.stopping()


@breaks("told_to_cancel_it_ends_its_jobs", "did not end in time")
class DrainsInsteadOfCancelling(KeptJobManager):
    async def serve(self, context: Any) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(1):
                await super().serve(Says(context, lambda how: Termination.DRAIN))


@breaks("jobs_that_run_elsewhere_go_on_without_it", "runs")
class TakesThemAlong(KeptJobManager):
    runs_jobs = False


@breaks("told_to_pause_it_leaves_its_jobs_to_the_next_one", "runs")
class CancelsInsteadOfPausing(KeptJobManager):
    async def serve(self, context: Any) -> None:
        await super().serve(Says(context, lambda how: Termination.CANCEL))


@breaks("a_harder_word_overtakes", "did not end in time")
class HearsOneWord(KeptJobManager):
    async def _end_jobs(self, how: Termination, context: Any) -> None:
        if how is Termination.DRAIN:
            await asyncio.sleep(1)
        await super()._end_jobs(Termination.CANCEL, context)


@breaks("requests_under_way_at_the_end_are_answered", "is lost")
class LosesTheLast(KeptJobManager):
    async def serve(self, context: Any) -> None:
        await super().serve(context)
        self.jobs.popitem()


@breaks("requests_under_way_at_the_end_are_answered", "refused with internal")
class FailsAtTheEnd(KeptJobManager):
    async def start(self, message: Any, caller: Any) -> Any:
        await asyncio.sleep(0.05)
        if self.ended or not self._running():
            raise RuntimeError("it is over")
        return await super().start(message, caller)


@breaks("cancelled_it_ends_now", "did not end within")
class TakesItsTime(KeptJobManager):
    async def serve(self, context: Any) -> None:
        try:
            await super().serve(context)
        finally:
            await asyncio.sleep(0.6)


@breaks("cancelled_it_ends_now", "tasks behind")
class LeavesATask(KeptJobManager):
    async def serve(self, context: Any) -> None:
        self.task = asyncio.ensure_future(asyncio.sleep(60))
        await super().serve(context)


@breaks("the_next_one_serves_in_its_place", "somebody is here")
class LeavesAMark(KeptJobManager):
    async def serve(self, context: Any) -> None:
        mark = self.directory / "here"
        if mark.exists():
            raise RuntimeError("somebody is here")
        mark.touch()
        await super().serve(context)


# --- many who ask


@breaks("many_requests_at_once_get_their_own_answers", "same job")
class CountsToo(KeptJobManager):
    """Reads the number, waits, and writes."""

    async def start(self, message: Any, caller: Any) -> Any:
        number = len(self.jobs) + 1
        await asyncio.sleep(0)
        data = await super().start(message, caller)
        return msgspec.structs.replace(data, job_id=number)


@breaks("a_request_that_is_given_up_costs_nobody_else", "")
class MindsBeingCancelled(KeptJobManager):
    async def status(self, message: Any, caller: Any) -> Any:
        try:
            await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            self.jobs[message.job_id].state = JobState.FAILED
            raise
        return await super().status(message, caller)


# --- jobs


@breaks("numbers_of_jobs_grow_and_are_never_used_again", "have the numbers")
class CountsFromOneAgain(KeptJobManager):
    async def start(self, message: Any, caller: Any) -> Any:
        data = await super().start(message, caller)
        first = self.__dict__.setdefault("first", data.job_id)
        return msgspec.structs.replace(data, job_id=data.job_id - first + 1)


@breaks("a_job_ends_with_a_verdict", "at no time")
class EndsAtNoTime(KeptJobManager):
    async def status(self, message: Any, caller: Any) -> Any:
        answer = await super().status(message, caller)
        status = msgspec.structs.replace(answer.status, end_time=None)
        return msgspec.structs.replace(answer, status=status)


class Judges(KeptJobManager):
    """Has a verdict of its own."""

    def verdict(self, job: MemoryJob) -> Verdict | None:
        return job.verdict

    async def status(self, message: Any, caller: Any) -> Any:
        answer = await super().status(message, caller)
        verdict = self.verdict(self.jobs[message.job_id])
        return msgspec.structs.replace(answer, status=msgspec.structs.replace(answer.status, verdict=verdict))


@breaks("a_job_ends_with_a_verdict", "it has not ended")
@breaks("a_job_that_fails_says_so", "the verdict is passed")
class PassesAll(Judges):
    def verdict(self, job: MemoryJob) -> Verdict | None:
        return Verdict.PASSED


@breaks("a_job_that_is_stopped_is_cancelled", "")
class FailsWhatIsStopped(Judges):
    def verdict(self, job: MemoryJob) -> Verdict | None:
        return Verdict.ERROR if job.state is JobState.CANCELLED else job.verdict


@breaks("jobs_outlive_it", "")
class ForgetsWhoAsked(KeptJobManager):
    async def serve(self, context: Any) -> None:
        for job in self.jobs.values():
            job.requestor = "?"
        await super().serve(context)


@breaks("a_wrong_descriptor_is_refused_with_findings_and_makes_no_job", "nothing is said to be wrong")
class RefusesWithoutFindings(KeptJobManager):
    async def start(self, message: Any, caller: Any) -> Any:
        try:
            return await super().start(message, caller)
        except InvalidDescriptor:
            raise InvalidDescriptor(findings=[]) from None


@breaks("a_wrong_descriptor_is_refused_with_findings_and_makes_no_job", "refused with internal")
class ReadsCarelessly(KeptJobManager):
    async def start(self, message: Any, caller: Any) -> Any:
        msgspec.json.decode(message.job_descriptor)
        return await super().start(message, caller)


@breaks("a_job_that_there_is_not_is_unknown", "refused with invalid_parameters", verb="status")
class CallsItInvalid(KeptJobManager):
    async def status(self, message: Any, caller: Any) -> Any:
        try:
            return await super().status(message, caller)
        except UnknownJob:
            raise InvalidParameters(reason="no", parameter="jobID") from None


@breaks("a_job_that_has_ended_is_not_stopped", "but answered")
class StopsAnything(KeptJobManager):
    async def stop(self, message: Any, caller: Any) -> Any:
        if message.job_id in self.jobs and self.jobs[message.job_id].state.ended:
            return ResponseDataStop()
        return await super().stop(message, caller)


@breaks("a_retry_is_a_new_job_linked_to_the_old_one", "")
@breaks("a_retry_may_be_of_what_failed_only", "")
class LinksNothing(KeptJobManager):
    async def retry(self, message: Any, caller: Any) -> Any:
        data = await super().retry(message, caller)
        self.jobs[data.new_job_id].retry_of = None
        return data


@breaks("a_job_that_runs_is_not_retried", "but answered")
class RetriesAnything(KeptJobManager):
    async def retry(self, message: Any, caller: Any) -> Any:
        job = self.jobs[message.job_id]
        new = self._add(job.descriptor, message.requestor, caller)
        return ResponseDataRetry(job_id=job.job_id, new_job_id=new.job_id)


@breaks("a_part_of_a_status_is_that_part", "")
class LosesTheRun(KeptJobManager):
    async def status(self, message: Any, caller: Any) -> Any:
        run = None if message.run is None else 7
        return await super().status(msgspec.structs.replace(message, run=run), caller)


# --- starts


@breaks("validating_says_what_starting_would_and_runs_nothing", "it has run something")
class RunsWhatItValidates(KeptJobManager):
    async def validate(self, message: Any, caller: Any) -> Any:
        answer = await super().validate(message, caller)
        if not answer.findings:
            self._add(msgspec.json.decode(message.job_descriptor), message.requestor, caller)
        return answer


@breaks("validating_says_what_starting_would_and_runs_nothing", "")
class ValidatesNothing(KeptJobManager):
    async def validate(self, message: Any, caller: Any) -> Any:
        answer = await super().validate(message, caller)
        return msgspec.structs.replace(answer, findings=[])


@breaks("strict_takes_warnings_for_errors", "not refused")
class IsNeverStrict(KeptJobManager):
    async def start(self, message: Any, caller: Any) -> Any:
        return await super().start(msgspec.structs.replace(message, strict=False), caller)


@breaks("one_start_key_is_one_job", "used by the jobs")
class KeepsNoKeys(KeptJobManager):
    async def start(self, message: Any, caller: Any) -> Any:
        return await super().start(msgspec.structs.replace(message, start_key=None), caller)


@breaks("one_start_key_is_one_job", "")
class ForgetsKeys(KeptJobManager):
    async def serve(self, context: Any) -> None:
        self.kept.keys.clear()
        await super().serve(context)


@breaks("a_start_key_with_another_descriptor_is_a_conflict", "not refused")
class LooksAtTheKeyOnly(KeptJobManager):
    async def start(self, message: Any, caller: Any) -> Any:
        known = self.kept.keys.get(message.start_key or "")
        if known is not None:
            descriptor = msgspec.json.encode(self.jobs[known].descriptor).decode()
            message = msgspec.structs.replace(message, job_descriptor=descriptor)
        return await super().start(message, caller)


# --- locks


@breaks("locks_are_shown_while_they_are_held", "and its targets are locked")
class UnlocksNothing(KeptJobManager):
    def unlock(self, job_id: int) -> None:
        pass


@breaks("locks_are_shown_while_they_are_held", "tokens grow")
class HasOneToken(KeptJobManager):
    async def locks(self, message: Any, caller: Any) -> Any:
        answer = await super().locks(message, caller)
        return ResponseDataLocks(locks=[msgspec.structs.replace(lock, token=1) for lock in answer.locks])


@breaks("without_jobs_nothing_is_locked", "None == []")
class SaysNothingOfNothing(KeptJobManager):
    async def locks(self, message: Any, caller: Any) -> Any:
        answer = await super().locks(message, caller)
        return answer if answer.locks else ResponseDataLocks(locks=None)


# --- lists


class Lists(KeptJobManager):
    """Another query than is asked for."""

    def query(self, query: JobQuery) -> JobQuery:
        return query

    async def list(self, message: Any, caller: Any) -> ResponseDataList:
        return await super().list(msgspec.structs.replace(message, query=self.query(message.query)), caller)


@breaks("a_list_has_every_job_with_what_is_known_of_it", "who has proven")
class ForgetsPrincipals(KeptJobManager):
    def _add(self, descriptor: Any, requestor: str, caller: Any) -> MemoryJob:
        job = super()._add(descriptor, requestor, caller)
        job.principal = None
        return job


@breaks("a_list_has_every_job_with_what_is_known_of_it", "nobody has proven")
class BelievesWhatIsDeclared(KeptJobManager):
    def _add(self, descriptor: Any, requestor: str, caller: Any) -> MemoryJob:
        job = super()._add(descriptor, requestor, caller)
        job.principal = job.principal or requestor
        return job


@breaks("a_list_has_every_job_with_what_is_known_of_it", "")
class ListsTheNewestFirst(KeptJobManager):
    async def list(self, message: Any, caller: Any) -> ResponseDataList:
        data = await super().list(message, caller)
        return msgspec.structs.replace(data, job_ids=data.job_ids[::-1], jobs=data.jobs[::-1])


@breaks("a_running_job_is_in_the_list", "0 times")
class ListsWhatHasEnded(Lists):
    def query(self, query: JobQuery) -> JobQuery:
        return msgspec.structs.replace(query, states=(JobState.COMPLETED,))


@breaks("jobs_are_found_by_state", "")
class ListsAnyState(Lists):
    def query(self, query: JobQuery) -> JobQuery:
        return msgspec.structs.replace(query, states=())


@breaks("jobs_are_found_by_tags", "")
class LooksAtOneTag(Lists):
    def query(self, query: JobQuery) -> JobQuery:
        return msgspec.structs.replace(query, tags=query.tags[-1:])


@breaks("jobs_are_found_by_name", "")
class MindsCase(KeptJobManager):
    def is_named(self, name: str, pattern: str) -> bool:
        return super().is_named(name, pattern) and (name[0] == pattern[0] or pattern[0] == "*")


@breaks("jobs_are_found_by_requestor", "")
class ListsAnybodys(Lists):
    def query(self, query: JobQuery) -> JobQuery:
        return msgspec.structs.replace(query, requestors=())


@breaks("jobs_are_found_by_the_time_they_began", "")
class ListsUpToAndWith(KeptJobManager):
    def matches(self, entry: Any, query: JobQuery) -> bool:
        return super().matches(entry, query) or entry.start_time == query.until


@breaks("a_list_is_paged_from_the_newest", "")
class CountsPages(KeptJobManager):
    """Its cursor is how many were shown: where a job begins between two pages one comes twice."""

    def page(self, query: JobQuery) -> tuple[int, int]:
        limit, _ = super().page(query)
        return limit, len(self.jobs) + 1 - (4 if query.cursor else 0)


@breaks("a_page_that_cannot_be_meant_is_refused", "not refused")
class TakesAnyLimit(Lists):
    def query(self, query: JobQuery) -> JobQuery:
        return msgspec.structs.replace(query, limit=None) if query.limit == 0 else query


# --- watches


class Through(Watch):
    """A watch of another."""

    def __init__(self, watch: Any, manager: Any, message: Any) -> None:
        self.watch = watch
        self.manager = manager
        self.message = message

    def __getattr__(self, name: str) -> Any:
        return getattr(self.watch, name)

    async def __anext__(self) -> Any:
        return await anext(self.watch)


class Watches(KeptJobManager):
    """Its watches are somehow else."""

    through: type[Through] = Through

    def watch(self, message: Any, caller: Any) -> AbstractAsyncContextManager[Watch]:
        return self._through(message, caller)

    @asynccontextmanager
    async def _through(self, message: Any, caller: Any) -> AsyncIterator[Watch]:
        async with super().watch(message, caller) as watch:
            yield self.through(watch, self, message)


@breaks("a_watch_gives_a_jobs_events_from_the_first_to_its_end", "")
class SkipsTheFirst(Watches):
    class through(Through):
        async def __anext__(self) -> Any:
            event = await anext(self.watch)
            return event if event.sequence_id > 1 else await anext(self.watch)


@breaks("a_watch_gives_a_jobs_events_from_the_first_to_its_end", "that of the event")
class MakesCursorsTooEarly(Watches):
    class through(Through):
        cursor = "0"


@breaks("events_are_given_while_the_job_runs", "did not happen")
class TellsAtTheEnd(Watches):
    class through(Through):
        async def __anext__(self) -> Any:
            while not self.manager.jobs[self.message.job_id].state.ended:
                await asyncio.sleep(0.01)
            return await anext(self.watch)


@breaks("a_cursor_goes_on_behind_its_event", "")
class BeginsWithTheCursor(Watches):
    def watch(self, message: Any, caller: Any) -> Any:
        if message.since is not None and message.since.text not in ("", "0") and message.since.text.isdigit():
            since = type(message.since)(str(int(message.since.text) - 1))
            message = msgspec.structs.replace(message, since=since)
        return super().watch(message, caller)


@breaks("a_wait_that_is_cancelled_loses_nothing", "")
class LosesWhatNobodyWaitsFor(Watches):
    class through(Through):
        async def __anext__(self) -> Any:
            event = await anext(self.watch)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            return event


@breaks("what_cannot_be_watched_is_refused_when_it_is_entered", "")
class RefusesLater(Watches):
    @asynccontextmanager
    async def _through(self, message: Any, caller: Any) -> AsyncIterator[Watch]:
        try:
            async with KeptJobManager.watch(self, message, caller) as watch:
                yield watch
        except ContestError:
            yield Through(None, self, message)


@breaks("a_watch_of_all_jobs_has_them_in_one_order", "")
class TurnsEventsRound(Watches):
    class through(Through):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self.here: list[Any] = []
            self.cursor = self.watch.cursor

        async def __anext__(self) -> Any:
            most = 1 if self.message.job_id is not None else 6
            while not self.here:
                self.here = [await anext(self.watch) for _ in range(most)]
            event = self.here.pop()
            self.cursor = event.cursor
            return event


@breaks("a_watch_that_is_left_is_over", "tasks")
class WatchesOn(Watches):
    @asynccontextmanager
    async def _through(self, message: Any, caller: Any) -> AsyncIterator[Watch]:
        self.__dict__.setdefault("tasks", []).append(asyncio.ensure_future(asyncio.sleep(60)))
        async with KeptJobManager.watch(self, message, caller) as watch:
            yield watch


@breaks("watches_end_when_it_does", "did not happen")
class NeverEndsAWatch(Watches):
    class through(Through):
        async def __anext__(self) -> Any:
            try:
                return await anext(self.watch)
            except StopAsyncIteration:
                return await asyncio.Event().wait()


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.manager.__name__)
@pytest.mark.filterwarnings("ignore")
def test_a_broken_job_manager_fails_its_case(
    broken: Broken, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "_AWAY", 0.2)
    for module in (world, manager_world):
        monkeypatch.setattr(module, "PATIENCE", 0.7)
    monkeypatch.setattr(manager_world, "SOON", 0.4)
    suite = type("Held", (KeptSuite,), {"manager_class": broken.manager})()
    with pytest.raises((AssertionError, Exception, pytest.fail.Exception)) as caught:
        run_case(suite, CASES[broken.case].body, tmp_path, **broken.arguments)
    assert broken.words in repr(caught.value) + str(caught.value)


def test_every_case_has_a_job_manager_that_breaks_it() -> None:
    assert sorted({broken.case for broken in BROKEN}) == sorted(CASES)
