"""Cases: how a job manager begins and ends, what it declares, and many who ask at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, Final

import pytest

from contest_core.errors import ContestError
from contest_core.job_manager import Termination
from contest_core.status import JobState, Verdict
from contest_core.testing import manager_world
from contest_core.testing.cases import case
from contest_core.testing.managed import ManagedJobs, text
from contest_core.testing.manager_world import ManagerPlace, ManagerWorld, refusal, result
from contest_core.testing.world import within
from contest_core.verbs import VERBS, Form

OFFERS: Final = {
    parameter.capability: (verb, parameter)
    for verb in VERBS.values()
    for parameter in verb.parameters
    if parameter.capability
}
"""What may be declared beside verbs: for parameters, each with its verb."""

KNOWN: Final = frozenset({*VERBS, *OFFERS} - {"version"})
"""All that may be declared."""

_VALUES: Final = {
    "run": "1",
    "limit": "1",
    "since": "2026-01-01T00:00:00Z",
    "until": "2026-01-01T00:00:00Z",
}
"""What is given for parameters that are neither a word nor true or false."""

_HASTE: Final = ("shutting_down", "interrupted", "unavailable")
"""Codes of what was asked at the end and is not answered."""


class DeclaredCases(ManagedJobs):
    """What it says that it offers."""

    @case
    async def test_constructing_it_does_nothing(self, place: ManagerPlace) -> None:
        """No file is made and nothing runs: a configuration is checked by constructing what it names."""
        before = asyncio.all_tasks()
        place.make()
        assert asyncio.all_tasks() == before, "it has begun something"
        made = [path.name for path in place.directory.iterdir()]
        assert not made, f"it has made {', '.join(made)}"

    @case
    async def test_it_declares_what_there_is(self, place: ManagerPlace) -> None:
        """Verbs, and parameters of verbs that it has; it says the same until it is `ready` anew."""
        async with place.serve() as world:
            strange = sorted(world.offered - KNOWN)
            assert not strange, f"there is no {', '.join(strange)}; known are {', '.join(sorted(KNOWN))}"
            lame = sorted(name for name in world.offered if name.partition(".")[0] not in world.offered)
            assert not lame, f"it declares {', '.join(lame)} without the verb"
            assert world.manager.capabilities() == world.offered, "it has changed its mind without `ready`"

    @case
    async def test_what_it_declares_it_does(self, place: ManagerPlace) -> None:
        """No verb or parameter of it is refused as `unsupported`."""
        async with place.serve() as world:
            job_id = await world.start(text(self.passes))
            await world.ended(job_id)
            for name in sorted(world.offered):
                answer = await _outcome(self._use(world, name, job_id))
                assert answer != "unsupported", f"it declares {name} and does not do it"

    @case
    async def test_what_it_does_not_declare_is_refused_by_name(self, place: ManagerPlace) -> None:
        """And not passed over."""
        async with place.serve() as world:
            for name in sorted(KNOWN - world.manager.capabilities()):
                error = await refusal(self._use(world, name, 1), "unsupported")
                verb = name.partition(".")[0]
                said = OFFERS[name][1].name if verb in world.offered else verb
                assert said in error.message, f"nothing in {error.message!r} says {said}"

    async def _use(self, world: ManagerWorld, capability: str, job_id: int) -> Any:
        """Asks for a verb, or for a verb with a parameter; of a job that there is."""
        verb = OFFERS[capability][0] if capability in OFFERS else VERBS[capability]
        known = {"jobID": str(job_id), "jobDesc": text(self.passes)}
        parameters = Form({each.name: known[each.name] for each in verb.parameters if each.required})
        if capability in OFFERS:
            given = OFFERS[capability][1]
            switch = (
                {True: "false", False: "true"}.get(given.default) if isinstance(given.default, bool) else None
            )
            parameters[given.name] = switch or _VALUES.get(given.name, "x")
        if verb.name == "watch":
            async with world.api.subscribe(world.caller, parameters) as watch:
                return watch
        return await result(world.api.call(world.caller, verb.name, parameters))


class LifeCases(ManagedJobs):
    """Its beginning and its end."""

    @case
    async def test_ready_it_answers_at_once(self, place: ManagerPlace) -> None:
        """`ready` is said when a job can be started, not before."""
        async with place.bare() as bare:
            assert await bare.start(text(self.passes)) > 0

    @pytest.mark.parametrize("how", [Termination.DRAIN, Termination.PAUSE, Termination.CANCEL])
    @case
    async def test_it_ends_soon_where_nothing_runs(self, place: ManagerPlace, how: Termination) -> None:
        """Whatever the word; also where something has run."""
        async with place.serve() as world:
            await world.ended(await world.start(text(self.passes)))
            await world.end(how, manager_world.SOON)

    @case
    async def test_drained_it_waits_for_its_jobs_and_answers_meanwhile(self, place: ManagerPlace) -> None:
        """New jobs are refused; it ends when the last one has."""
        self._runs_jobs(place)
        async with place.serve() as world:
            self.needs(world, "stop")
            job_id = await self._running(world)
            world.server.terminate(Termination.DRAIN)
            await refusal(world.started(text(self.passes)), "shutting_down")
            await asyncio.sleep(0.1)
            assert not (await world.status(job_id)).state.ended, "it did not wait for its job"
            await world.stop(job_id)
            await within(world.server.wait(), "the end of the server")

    @case
    async def test_told_to_cancel_it_ends_its_jobs(self, place: ManagerPlace) -> None:
        """And where they outlive it, they are shown as cancelled."""
        self._runs_jobs(place)
        async with place.serve() as world:
            job_id = await self._running(world)
            await world.end(Termination.CANCEL)
        if self.persistent:
            async with place.serve() as world:
                assert (await world.status(job_id)).verdict == Verdict.CANCELLED

    @case
    async def test_jobs_that_run_elsewhere_go_on_without_it(self, place: ManagerPlace) -> None:
        """Whatever word it is told; the next one has them."""
        if place.make().runs_jobs or not self.persistent:
            pytest.skip("`runs_jobs` is True: its jobs are its own")
        await self._leaves_a_job(place, Termination.CANCEL)

    @case
    async def test_told_to_pause_it_leaves_its_jobs_to_the_next_one(self, place: ManagerPlace) -> None:
        """There they go on."""
        if not self.pauses:
            pytest.skip("`pauses` is False: it does not")
        await self._leaves_a_job(place, Termination.PAUSE)

    @case
    async def test_a_harder_word_overtakes(self, place: ManagerPlace) -> None:
        """It drains, is told to cancel, and ends."""
        self._runs_jobs(place)
        async with place.serve() as world:
            await self._running(world)
            world.server.terminate(Termination.DRAIN)
            await asyncio.sleep(0.05)
            await world.end(Termination.CANCEL)

    @case
    async def test_requests_under_way_at_the_end_are_answered(self, place: ManagerPlace) -> None:
        """Each with its answer, or with a code that says what may have happened; what was promised is kept."""
        async with place.serve() as world:
            asked = [asyncio.ensure_future(_outcome(world.start(self.job(f"kit-{n}")))) for n in range(12)]
            await asyncio.sleep(0.01)
            world.server.terminate(Termination.CANCEL)
            answers = [await within(each, "an answer") for each in asked]
            await within(world.server.wait(), "the end of the server")
        started = [answer for answer in answers if isinstance(answer, int)]
        assert len({*started}) == len(started), "two starts have the same job"
        refused = {answer for answer in answers if not isinstance(answer, int)}
        assert refused <= set(_HASTE), f"refused with {', '.join(map(str, refused))}"
        if self.persistent:
            async with place.serve() as world:
                assert set(started) <= set(await world.ids()), "a job that was promised is lost"

    @case
    async def test_cancelled_it_ends_now(self, place: ManagerPlace) -> None:
        """In the midst of a job; what it had begun and opened is ended and closed."""
        place.expect_errors()
        async with place.bare() as bare:
            await bare.start(text(self.lasts))
            await asyncio.sleep(0.05)
            await bare.cancel()

    @case
    async def test_the_next_one_serves_in_its_place(self, place: ManagerPlace) -> None:
        """What it leaves does not keep another from starting."""
        for _ in range(3):
            async with place.serve() as world:
                assert await world.start(text(self.passes)) > 0

    def _runs_jobs(self, place: ManagerPlace) -> None:
        if not place.make().runs_jobs:
            pytest.skip("`runs_jobs` is False: its jobs go on elsewhere")

    async def _leaves_a_job(self, place: ManagerPlace, word: Termination) -> None:
        """Told this word it ends, and the next one has its job."""
        async with place.serve() as world:
            job_id = await self._running(world)
            await world.end(word)
        async with place.serve() as world:
            await world.runs(job_id)

    async def _running(self, world: ManagerWorld) -> int:
        job_id = await world.start(text(self.lasts))
        await world.runs(job_id)
        return job_id


class CrowdCases(ManagedJobs):
    """Many who ask."""

    @case
    async def test_many_requests_at_once_get_their_own_answers(self, place: ManagerPlace) -> None:
        """Each start its own job, each status that of its job."""
        async with place.serve() as world:
            names = [f"kit-{number}" for number in range(40)]
            started = await within(
                asyncio.gather(*(world.start(self.job(name)) for name in names)), "all answers"
            )
            assert len(set(started)) == len(names), "two starts have the same job"
            statuses = await within(asyncio.gather(*map(world.status, started)), "all answers")
            assert [status.name for status in statuses] == names
            for job_id in started:
                assert (await world.ended(job_id)).verdict == Verdict.PASSED

    @case
    async def test_a_request_that_is_given_up_costs_nobody_else(self, place: ManagerPlace) -> None:
        """What only reads is cancelled in the midst of it."""
        async with place.serve() as world:
            job_id = await world.start(text(self.passes))
            for pause in (0.0, 0.0005, 0.002):
                asked = [asyncio.ensure_future(world.status(job_id)) for _ in range(5)]
                await asyncio.sleep(pause)
                for each in asked:
                    each.cancel()
                await asyncio.wait(asked)
            assert (await world.ended(job_id)).state is JobState.COMPLETED


async def _outcome(work: Awaitable[Any]) -> Any:
    """The answer, or the code of the refusal."""
    try:
        return await work
    except ContestError as error:
        return error.code
