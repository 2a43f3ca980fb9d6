"""Where a case of a step happens: jobs on a real runner with a real store, with what it leaves looked for."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

from contest_core.job_manager import Termination
from contest_core.testing import Complaints
from contest_runner.step import BaseStep
from contest_runner.store import EventRow
from contest_runner.testing.lab import Json, Serving, simple, step
from contest_runner.testing.part_place import NAME, PartPlace, until
from contest_runner.testing.watched import Notes, watched

RUNNER_EVENTS: Final = frozenset({"TargetIn", "TargetOut", "TargetErr", "VariableEmitted"})
"""Events of a target that the runner makes."""


class StepPlace(PartPlace):
    """One case's directory, and the servers that it opens there."""

    def __init__(self, tested: type[BaseStep[Any]], directory: Path, complaints: Complaints) -> None:
        self.notes = Notes()
        super().__init__("steps", watched(tested, self.notes), directory, complaints)

    @asynccontextmanager
    async def serve(
        self, *, at_exit: Termination = Termination.CANCEL, **settings: Any
    ) -> AsyncIterator[Serving]:
        """A server that knows the step; `settings` are the job manager's."""
        with self.notes.of_saved():
            async with super().serve(at_exit=at_exit, **settings) as serving:
                yield serving

    def job(
        self, parameters: Mapping[str, Any], targets: Iterable[str | Json] = ("t1",), **more: Any
    ) -> Json:
        """A job of the step alone, with parameters as a job has them: a value that is no list is made one."""
        return simple(step(NAME, **parameters), targets=targets, **more)

    async def inside(self, serving: Serving, parameters: Mapping[str, Any], targets: Iterable[str]) -> int:
        """The number of a job that has begun, all of whose targets are in the step."""
        names = list(targets)
        job_id = await serving.start(self.job(parameters, names))
        await until(lambda: len(self.notes.entered) >= len(names), "the targets are in the step")
        await asyncio.sleep(0.1)  # in the midst of what it does
        return job_id

    async def kill(self, serving: Serving) -> None:
        """From now on `serve` finds what a server finds whose predecessor was killed at this moment."""
        await serving.store.committed()
        after = self.lab.folder.parent / "after"
        after.mkdir()
        for file in self.lab.folder.glob("jobs.db*"):
            shutil.copy(file, after)
        self.lab.folder = after

    async def emitted(self, serving: Serving, job_id: int) -> list[EventRow]:
        """The events that the step emitted."""
        return [row for row in await serving.events(job_id) if row.step and row.name not in RUNNER_EVENTS]

    async def variables(self, serving: Serving, job_id: int) -> list[EventRow]:
        """The events that tell of variables."""
        return [row for row in await serving.events(job_id) if row.name == "VariableEmitted"]


@contextmanager
def heartbeat() -> Iterator[list[float]]:
    """When the loop came to do something else, while the context is entered."""
    loop = asyncio.get_running_loop()
    beats = [loop.time()]
    timer: asyncio.Handle | None = None

    def beat() -> None:
        nonlocal timer
        beats.append(loop.time())
        timer = loop.call_later(0.02, beat)

    beat()
    try:
        yield beats
    finally:
        beats.append(loop.time())
        if timer is not None:
            timer.cancel()
