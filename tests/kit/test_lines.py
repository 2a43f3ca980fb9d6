"""The transport that is broken elsewhere keeps every promise as long as it is whole."""

from __future__ import annotations

import asyncio
from pathlib import Path

from contest_core.testing import Complaints, PlayedJobManager
from contest_core.testing.world import Place

from .lines import LineSuite


class TestLines(LineSuite):
    """Whole."""


async def test_a_watch_that_nobody_reads_is_not_sent_the_rest_for_nothing(tmp_path: Path) -> None:
    async with Place(LineSuite(), tmp_path, Complaints()).serve() as world:
        await world.jobs(1)
        client = await world.client()
        async with client.watch({"requestor": "me", "jobID": 1}) as items:
            await anext(items)
            for _ in range(20_000):
                world.manager.emit(1, "step")
            world.manager.finish(1)
            await _left(world.manager)
            assert 1000 < world.manager.given_out < 15_000
            assert len([item async for item in items]) == 20_001


async def _left(manager: PlayedJobManager) -> None:
    async with asyncio.timeout(10):
        while manager.watches:
            await asyncio.sleep(0.01)
