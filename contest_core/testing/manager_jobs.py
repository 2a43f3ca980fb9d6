"""Cases: jobs from their start to their end, and what is said of them."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from contest_core.errors import InvalidDescriptor, JobEnded
from contest_core.responses import ResponseDataValidate
from contest_core.status import Finding, JobState, Lock, Severity, Verdict
from contest_core.testing.cases import case
from contest_core.testing.managed import ManagedJobs, text
from contest_core.testing.manager_world import UNKNOWN, ManagerPlace, ManagerWorld, refusal, result
from contest_core.testing.world import within


class JobCases(ManagedJobs):
    """`start`, `stop`, `status` and `retry`."""

    @case
    async def test_numbers_of_jobs_grow_and_are_never_used_again(self, place: ManagerPlace) -> None:
        """They are positive; after a restart, too, if jobs outlive it."""
        numbers = [0]
        for _ in range(2 if self.persistent else 1):
            async with place.serve() as world:
                for _ in range(3):
                    numbers.append(await world.start(text(self.passes)))
                    await world.ended(numbers[-1])
        assert numbers == sorted(set(numbers)), f"the jobs have the numbers {numbers[1:]}"

    @case
    async def test_a_job_ends_with_a_verdict(self, place: ManagerPlace) -> None:
        """Its status says when it began and when it ended; there is neither verdict nor end before."""
        async with place.serve() as world:
            status = await world.status(await self._running(world))
            assert (status.verdict, status.end_time) == (None, None), "it has not ended"
            job_id = await world.start(self.job("kit"))
            status = await world.ended(job_id)
            assert status.name == "kit"
            assert (status.state, status.verdict) == (JobState.COMPLETED, Verdict.PASSED), (
                status.state_err_msg
            )
            assert status.end_time is not None, "it has ended, at no time"
            assert status.start_time <= status.end_time
            assert status.job_report.job_id == job_id

    @case
    async def test_a_job_that_fails_says_so(self, place: ManagerPlace) -> None:
        """By its verdict: it has been run to its end."""
        if self.fails is None:
            pytest.skip("the suite has no `fails`")
        async with place.serve() as world:
            status = await world.ended(await world.start(text(self.fails)))
            assert status.verdict in (Verdict.FAILED, Verdict.ERROR), f"the verdict is {status.verdict}"

    @case
    async def test_jobs_outlive_it(self, place: ManagerPlace) -> None:
        """The next one says the same of them."""
        if not self.persistent:
            pytest.skip("`persistent` is False: its jobs end with it")
        async with place.serve() as world:
            jobs = [await world.start(self.job(f"kit-{number}")) for number in range(3)]
            before = [await world.ended(job_id) for job_id in jobs], await world.find()
        async with place.serve() as world:
            assert ([await world.status(job_id) for job_id in jobs], await world.find()) == before

    @case
    async def test_a_wrong_descriptor_is_refused_with_findings_and_makes_no_job(
        self, place: ManagerPlace
    ) -> None:
        """Each finding says what is wrong; whatever comes, it is no fault of the manager."""
        wrong = [text(self.refused), "{", "[]", "null", '"job"', "7", '{"JobName": 7}', "[" * 50_000]
        async with place.serve() as world:
            for descriptor in wrong:
                error = await refusal(world.started(descriptor), "invalid_descriptor")
                assert isinstance(error, InvalidDescriptor)
                assert _errors(error.findings), f"nothing is said to be wrong with {descriptor[:60]}"
            assert await world.ids() == [], "a job was made"

    @pytest.mark.parametrize("verb", ["status", "stop", "retry"])
    @case
    async def test_a_job_that_there_is_not_is_unknown(self, place: ManagerPlace, verb: str) -> None:
        """Whatever number it is."""
        async with place.serve() as world:
            self.needs(world, verb)
            await world.start(text(self.passes))
            for number in UNKNOWN:
                await refusal(getattr(world, verb)(number), "unknown_job")

    @case
    async def test_a_job_that_is_stopped_is_cancelled(self, place: ManagerPlace) -> None:
        """The answer is that it will be; a second stop is no fault."""
        async with place.serve() as world:
            self.needs(world, "stop")
            job_id = await self._running(world)
            await world.stop(job_id)
            with suppress(JobEnded):
                await world.stop(job_id)
            status = await world.ended(job_id)
            assert (status.state, status.verdict) == (JobState.CANCELLED, Verdict.CANCELLED)

    @case
    async def test_a_job_that_has_ended_is_not_stopped(self, place: ManagerPlace) -> None:
        """And stays what it was."""
        async with place.serve() as world:
            self.needs(world, "stop")
            job_id = await world.start(text(self.passes))
            before = await world.ended(job_id)
            await refusal(world.stop(job_id), "job_ended")
            assert await world.status(job_id) == before

    @case
    async def test_a_retry_is_a_new_job_linked_to_the_old_one(self, place: ManagerPlace) -> None:
        """Which stays what it was."""
        async with place.serve() as world:
            self.needs(world, "retry")
            job_id = await world.start(self.job("kit"))
            before = await world.ended(job_id)
            again = await world.retry(job_id)
            assert again > job_id
            status = await world.ended(again)
            assert (status.name, status.verdict, status.retry_of) == ("kit", Verdict.PASSED, job_id)
            assert await world.status(job_id) == before

    @case
    async def test_a_job_that_runs_is_not_retried(self, place: ManagerPlace) -> None:
        """It is told so, and no job is made."""
        async with place.serve() as world:
            self.needs(world, "retry")
            job_id = await self._running(world)
            await refusal(world.retry(job_id), "job_running")
            assert await world.ids() == [job_id]

    @case
    async def test_a_retry_may_be_of_what_failed_only(self, place: ManagerPlace) -> None:
        """As any other it is a new job."""
        if self.fails is None:
            pytest.skip("the suite has no `fails`")
        async with place.serve() as world:
            self.needs(world, "retry.failed_only")
            job_id = await world.start(text(self.fails))
            await world.ended(job_id)
            status = await world.ended(await world.retry(job_id, failed_only=True))
            assert status.retry_of == job_id

    @case
    async def test_a_part_of_a_status_is_that_part(self, place: ManagerPlace) -> None:
        """A run, a test, a target, or all without the steps' events: as in the whole one."""
        async with place.serve() as world:
            job_id = await world.start(text(self.passes))
            whole = await world.ended(job_id)
            if not whole.run_statuses:
                pytest.skip("its jobs have no runs")
            if "status.run" in world.offered:
                part = await world.status(job_id, run=whole.run_statuses[0].run_id)
                assert part.run_statuses == whole.run_statuses[:1]
            for name, value in _parts(whole).items():
                if f"status.{name}" in world.offered:
                    assert value in str(part := await world.status(job_id, **{name: value}))
                    assert (part.name, part.state) == (whole.name, whole.state)
            if "status.events" in world.offered:
                assert (await world.status(job_id, events=False)).verdict == whole.verdict

    async def _running(self, world: ManagerWorld) -> int:
        job_id = await world.start(text(self.lasts))
        await world.runs(job_id)
        return job_id


class StartCases(ManagedJobs):
    """`validate`, `strict` and start keys."""

    @case
    async def test_validating_says_what_starting_would_and_runs_nothing(self, place: ManagerPlace) -> None:
        """The same findings, of what is refused and of what is taken."""
        async with place.serve() as world:
            self.needs(world, "validate")
            error = await refusal(world.started(text(self.refused)), "invalid_descriptor")
            assert isinstance(error, InvalidDescriptor)
            assert await _validated(world, text(self.refused)) == list(error.findings)
            assert _errors(await _validated(world, text(self.passes))) == []
            assert await world.ids() == [], "it has run something"
            if self.warned is not None:
                warnings = await _validated(world, text(self.warned))
                assert (await world.started(text(self.warned))).warnings == warnings

    @case
    async def test_strict_takes_warnings_for_errors(self, place: ManagerPlace) -> None:
        """Else they come with the answer."""
        async with place.serve() as world:
            self.needs(world, "start.strict")
            assert (await world.started(text(self.passes), strict=True)).warnings == []
            if self.warned is None:
                return
            before = await world.ids()
            error = await refusal(world.started(text(self.warned), strict=True), "invalid_descriptor")
            assert isinstance(error, InvalidDescriptor)
            assert await world.ids() == before, "a job was made"
            warnings = (await world.started(text(self.warned))).warnings
            assert [finding.severity for finding in warnings] == [Severity.WARNING] * len(warnings)
            assert warnings == list(error.findings)

    @case
    async def test_one_start_key_is_one_job(self, place: ManagerPlace) -> None:
        """However often, and at once; keys are compared as JSON, whatever the order of its members."""
        async with place.serve() as world:
            self.needs(world, "start.start_key")
            turned = text(dict(reversed([*self.passes.items()])))
            asked = [world.start(each, start_key="kit") for each in (text(self.passes), turned) * 3]
            started = set(await within(asyncio.gather(*asked), "all answers"))
            assert len(started) == 1, f"the key was used by the jobs {started}"
            assert await world.start(text(self.passes), start_key="another") not in started
        if self.persistent:
            async with place.serve() as world:
                assert {await world.start(text(self.passes), start_key="kit")} == started

    @case
    async def test_a_start_key_with_another_descriptor_is_a_conflict(self, place: ManagerPlace) -> None:
        """No job is made; the message names the job that has the key."""
        async with place.serve() as world:
            self.needs(world, "start.start_key")
            job_id = await world.start(self.job("one"), start_key="kit")
            error = await refusal(world.started(self.job("two"), start_key="kit"), "start_key_conflict")
            assert str(job_id) in error.message, "it does not say which job has the key"
            assert await world.ids() == [job_id]


class LockCases(ManagedJobs):
    """`locks`."""

    @case
    async def test_locks_are_shown_while_they_are_held(self, place: ManagerPlace) -> None:
        """By which job, since when and until when; they end with the job."""
        async with place.serve() as world:
            self.needs(world, "locks")
            if not self.locked:
                pytest.skip("`locked` is empty: `lasts` locks nothing")
            first = await self._held(world)
            assert await _locks(world) == [], "the job has ended, and its targets are locked"
            second = await self._held(world)
            newest = max(lock.token for lock in first)
            assert newest < min(lock.token for lock in second), "tokens grow with every lock"

    @case
    async def test_without_jobs_nothing_is_locked(self, place: ManagerPlace) -> None:
        """The answer is an empty list."""
        async with place.serve() as world:
            self.needs(world, "locks")
            await world.ended(await world.start(text(self.passes)))
            assert (await result(world.api.locks(world.caller))).locks == []

    async def _held(self, world: ManagerWorld) -> list[Lock]:
        """The locks of a job that lasts, which is stopped then."""
        job_id = await world.start(text(self.lasts))
        held: list[Lock] = []

        async def all_held() -> bool:
            held[:] = await _locks(world)
            return {lock.target for lock in held} == set(self.locked)

        await world.until(all_held, f"the targets {', '.join(sorted(self.locked))} are locked")
        assert {lock.job_id for lock in held} == {job_id}
        assert all(lock.since < lock.until and lock.token > 0 for lock in held)
        await world.stop(job_id)
        await world.ended(job_id)
        return held


async def _locks(world: ManagerWorld) -> list[Lock]:
    locks: list[Lock] = (await result(world.api.locks(world.caller))).locks
    return locks


async def _validated(world: ManagerWorld, descriptor: str) -> list[Finding]:
    """The findings, as an answer or as a refusal."""
    try:
        data: ResponseDataValidate = await result(world.api.validate(world.caller, descriptor))
    except InvalidDescriptor as error:
        return list(error.findings)
    return data.findings or []


def _errors(findings: Any) -> list[Finding]:
    return [finding for finding in findings if finding.severity == Severity.ERROR and finding.message]


def _parts(status: Any) -> dict[str, str]:
    """A test and a target that there are in a status."""
    tests = [test for run in status.run_statuses for test in run.test_statuses]
    targets = [each.target for test in tests for each in test.target_statuses or () if each.target]
    found = {"test": tests[0].test_name} if tests else {}
    return found | ({"target": targets[0].id} if targets else {})
