"""What was acknowledged survives kill -9; what shares the loop with a flood still gets to the disk."""

from __future__ import annotations

import asyncio
import logging
import random
import subprocess
import sys
import time
from pathlib import Path

from contest_runner.interpreter import tuned_interpreter
from contest_runner.store import Store

LOG = logging.getLogger("test")

WRITER = """
import asyncio, logging, sys
from pathlib import Path
from contest_runner.store import NewJob, Store

async def job(store: Store, number: int) -> None:
    made = await store.create_job(NewJob(
        name="crash", requestor="test", server_id="s", request_time=1, state=1,
        descriptor="{}", plan="{}", plan_format=1,
    ))
    sequence = 0
    while True:
        for _ in range(3):
            sequence += 1
            store.append(made.job_id, sequence, 1, "t", "test", 0, "s", "board", "TargetIn", 1, None, 1)
        await store.committed()
        sys.stdout.write(f"{made.job_id} {sequence}\\n")
        sys.stdout.flush()

async def main() -> None:
    store = await Store.open("sqlite:///s.db", directory=Path(sys.argv[1]), log=logging.getLogger())
    async with asyncio.TaskGroup() as group:
        for number in range(20):
            group.create_task(job(store, number))

asyncio.run(main())
"""


def write_until_killed(directory: Path, acknowledged: dict[int, int], lines: int) -> None:
    """Let a process write, kill it in the middle, and note what it said was on disk."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, directory], stdout=subprocess.PIPE, text=True
    ) as child:
        try:
            assert child.stdout is not None
            for number, line in enumerate(child.stdout):
                if number == lines:
                    child.kill()
                if line.endswith("\n"):
                    job_id, sequence = map(int, line.split())
                    acknowledged[job_id] = sequence
        finally:
            child.kill()


async def test_every_acknowledged_event_is_there_after_each_kill(tmp_path: Path) -> None:
    chance = random.Random(7)
    acknowledged: dict[int, int] = {}
    for _ in range(4):
        write_until_killed(tmp_path, acknowledged, chance.randrange(20, 400))
        store = await Store.open("sqlite:///s.db", directory=tmp_path, log=LOG)
        found = await store.events(limit=1_000_000)
        jobs = await store.jobs()
        await store.aclose()
        assert [event.position for event in found] == list(range(1, len(found) + 1))
        by_job: dict[int, list[int]] = {}
        for event in found:
            by_job.setdefault(event.job_id, []).append(event.sequence)
        for job_id, last in acknowledged.items():
            assert by_job[job_id] == list(range(1, len(by_job[job_id]) + 1))
            assert len(by_job[job_id]) >= last
            assert len(by_job[job_id]) % 3 == 0, "a batch is whole or absent"
        assert {row.job_id for row in jobs} >= set(acknowledged)


def spin(microseconds: float) -> None:
    end = time.perf_counter() + microseconds / 1_000_000
    while time.perf_counter() < end:
        pass


async def test_a_job_gets_to_the_disk_beside_a_loop_that_never_rests(tmp_path: Path) -> None:
    store = await Store.open("sqlite:///s.db", directory=tmp_path, log=LOG)
    loop = asyncio.get_running_loop()
    going = True

    def flood(pause: float) -> None:
        spin(pause)
        if going:
            loop.call_soon(flood, pause)

    async def job() -> None:
        for sequence in range(100):
            store.append(1, sequence, 1, "t", "test", 0, "s", "board", "TargetIn", 1, None, 1)
            await store.committed()

    with tuned_interpreter:
        for pause in (50, 200, 1_000):
            going = True
            loop.call_soon(flood, pause)
            await asyncio.wait_for(job(), 20)
            going = False
            await asyncio.sleep(0.01)
    await store.aclose()
