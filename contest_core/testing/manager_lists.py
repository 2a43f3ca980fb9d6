"""Cases: `list`, its filters and its pages."""

from __future__ import annotations

import asyncio

from contest_core.status import JobState, Verdict
from contest_core.testing.cases import case
from contest_core.testing.managed import ManagedJobs, text
from contest_core.testing.manager_world import ManagerPlace, ManagerWorld, refusal
from contest_core.testing.world import REQUESTOR


class ListCases(ManagedJobs):
    """Finding jobs."""

    @case
    async def test_a_list_has_every_job_with_what_is_known_of_it(self, place: ManagerPlace) -> None:
        """Numbers ascend; who asked is there, as declared and as proven."""
        async with place.serve() as world:
            assert (await world.find()).job_ids == [], "without jobs the list is empty"
            world.caller = world.as_(REQUESTOR, "ada")
            jobs = [await world.start(self.job(f"kit-{number}", "a", f"n{number}")) for number in range(3)]
            for job_id in jobs:
                await world.ended(job_id)
            data = await world.find()
            assert data.job_ids == [entry.job_id for entry in data.jobs] == jobs
            for number, entry in enumerate(data.jobs):
                assert (entry.name, sorted(entry.tags)) == (f"kit-{number}", ["a", f"n{number}"])
                assert (entry.state, entry.verdict) == (JobState.COMPLETED, Verdict.PASSED)
                assert entry.requestor == REQUESTOR
                assert entry.principal == "ada" or not self.principals, "who has proven to have asked is kept"
                assert entry.start_time is not None
                assert entry.end_time is not None
            world.caller = world.as_(REQUESTOR)
            entry = await world.entry(await world.start(self.job("kit-3")))
            assert entry.principal is None, f"nobody has proven to be {entry.principal!r}"

    @case
    async def test_a_running_job_is_in_the_list(self, place: ManagerPlace) -> None:
        """Without a verdict and an end."""
        async with place.serve() as world:
            job_id = await world.start(text(self.lasts))
            await world.runs(job_id)
            entry = await world.entry(job_id)
            assert (entry.state, entry.verdict, entry.end_time) == (JobState.STARTED, None, None)

    @case
    async def test_jobs_are_found_by_state(self, place: ManagerPlace) -> None:
        """In any of those that are asked for."""
        async with place.serve() as world:
            ended = await world.start(text(self.passes))
            await world.ended(ended)
            running = await world.start(text(self.lasts))
            await world.runs(running)
            assert await world.ids(states=(JobState.COMPLETED,)) == [ended]
            assert await world.ids(states=(JobState.STARTED,)) == [running]
            assert await world.ids(states=(JobState.STARTED, JobState.COMPLETED)) == [ended, running]
            assert await world.ids(states=(JobState.FAILED,)) == []

    @case
    async def test_jobs_are_found_by_tags(self, place: ManagerPlace) -> None:
        """Those that have all of them."""
        async with place.serve() as world:
            one, two, three = await self._jobs(world)
            assert await world.ids(tags=("a",)) == [one, two, three]
            assert await world.ids(tags=("b",)) == [two]
            assert await world.ids(tags=("c", "a")) == [three]
            assert await world.ids(tags=("b", "c")) == []

    @case
    async def test_jobs_are_found_by_name(self, place: ManagerPlace) -> None:
        """`*` and `?` are wildcards; then case does not matter."""
        async with place.serve() as world:
            self.needs(world, "list.name")
            one, two, three = await self._jobs(world)
            assert await world.ids(name="kit-2") == [two]
            assert await world.ids(name="kit") == []
            assert await world.ids(name="KIT-?") == [one, two, three]
            assert await world.ids(name="*3") == [three]

    @case
    async def test_jobs_are_found_by_requestor(self, place: ManagerPlace) -> None:
        """Of any of those that are asked for."""
        async with place.serve() as world:
            self.needs(world, "list.requestors")
            one, two, three = await self._jobs(world)
            world.caller = world.as_("somebody")
            four = await world.start(self.job("kit-4"))
            assert await world.ids(requestors=("somebody",)) == [four]
            assert await world.ids(requestors=(REQUESTOR,)) == [one, two, three]
            assert await world.ids(requestors=("nobody", "somebody")) == [four]

    @case
    async def test_jobs_are_found_by_the_time_they_began(self, place: ManagerPlace) -> None:
        """From `since` on, and before `until`."""
        async with place.serve() as world:
            self.needs(world, "list.since", "list.until")
            one, two, three = await self._jobs(world)
            moment = (await world.entry(two)).start_time
            assert await world.ids(since=moment) == [two, three]
            assert await world.ids(until=moment) == [one]

    @case
    async def test_a_list_is_paged_from_the_newest(self, place: ManagerPlace) -> None:
        """Numbers ascend within a page; the last one has no cursor."""
        async with place.serve() as world:
            self.needs(world, "list.limit", "list.cursor")
            jobs = await self._jobs(world) + await self._jobs(world)
            first = await world.find(limit=4)
            assert first.job_ids == jobs[2:]
            assert first.cursor, "there are more, and no cursor"
            await world.start(self.job("kit-new"))
            second = await world.find(limit=4, cursor=first.cursor)
            assert second.job_ids == jobs[:2]
            assert second.cursor is None
            assert (await world.find(limit=100)).cursor is None

    @case
    async def test_a_page_that_cannot_be_meant_is_refused(self, place: ManagerPlace) -> None:
        """A cursor that is none of its own, a limit of nothing."""
        async with place.serve() as world:
            self.needs(world, "list.limit", "list.cursor")
            await self._jobs(world)
            for query in ({"limit": 0}, {"limit": -1}, {"cursor": "of another", "limit": 1}):
                await refusal(world.find(**query), "invalid_parameters")

    async def _jobs(self, world: ManagerWorld) -> list[int]:
        """Three that have ended, one after the other."""
        jobs = []
        for number, tags in ((1, ["a"]), (2, ["a", "b"]), (3, ["a", "c"])):
            jobs.append(await world.start(self.job(f"kit-{number}", *tags)))
            await world.ended(jobs[-1])
            await asyncio.sleep(0.002)  # the next one begins later
        return jobs
