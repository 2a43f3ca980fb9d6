"""Steps that jobs have in common are read once, and each job has its own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import Any, ClassVar

from msgspec import Struct

from contest_core import Finding
from contest_runner.context import StepContext
from contest_runner.step import Expanded, Step
from contest_runner.target import Target
from contest_runner.testing import Lab, simple, step


class Words(Struct, frozen=True):
    text: Expanded[str]


async def test_two_jobs_that_say_the_same_have_steps_of_their_own(lab: Lab) -> None:
    runs: list[tuple[int, str, str]] = []

    class Remembers(Step[Words]):
        display_name = "made"
        Parameters: ClassVar[type[Struct]] = Words

        def __init__(self) -> None:
            self.seen = 0

        async def run(self, target: Target, parameters: Words, context: StepContext) -> None:
            self.seen += 1
            runs.append((self.seen, target.id, parameters.text))

    lab.step("remembers", Remembers)
    job = simple(step("remembers", text="for {{ .ID }}"), targets=["a"])
    async with lab.server() as serving:
        for _ in range(2):
            await serving.run(job)
        await serving.run(simple(step("remembers", text="other {{ .ID }}"), targets=["a"]))
    assert runs == [(1, "a", "for a"), (1, "a", "for a"), (1, "a", "other a")]


async def test_what_a_step_checks_itself_is_checked_for_each_job(lab: Lab) -> None:
    checked: list[str] = []

    class Checks(Step[Words]):
        display_name = "made"
        Parameters: ClassVar[type[Struct]] = Words

        def check(self, parameters: Words) -> Iterable[Finding]:
            checked.append(parameters.text)
            return ()

        async def run(self, target: Target, parameters: Words, context: StepContext) -> None:
            await asyncio.sleep(0)

    lab.step("checks", Checks)
    async with lab.server() as serving:
        for _ in range(2):
            found: Any = await serving.api.validate(
                serving.caller, json.dumps(simple(step("checks", text="x")))
            )
            assert found.result().findings == []
    assert checked == ["x", "x"]
