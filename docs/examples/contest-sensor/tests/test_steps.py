"""The steps of this distribution, held to the contract, and in jobs on a server without a socket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from contest_sensor.settle import Settle
from contest_sensor.soak import Soak

from contest_runner.testing import Lab, StepSuite, last_statuses, simple, step

COOL = {"command": ["echo", "20"], "times": 2, "pause": "1ms"}


class TestSoak(StepSuite):
    step = Soak
    passes: ClassVar = COOL
    fails: ClassVar = {"command": ["echo", "99"], "limit": 90}
    refused: ClassVar = {"times": {"command": ["true"], "times": 0}}
    lasts: ClassVar = {"command": ["echo", "20"], "pause": "10m"}


class TestSettle(StepSuite):
    step = Settle
    passes: ClassVar = {"duration": "1ms"}
    refused: ClassVar = {"duration": {"duration": "soon"}}
    lasts: ClassVar = {"duration": "10m"}


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with Lab(tmp_path) as made:
        made.step("soak", Soak)
        yield made


async def test_every_reading_is_an_event_and_the_highest_a_variable(lab: Lab) -> None:
    told = step("echo", text='{{ StringVar "soak.highest" }}')
    async with lab.server() as serving:
        job_id = await serving.start(simple(step("soak", **COOL), told))
        assert (await serving.ended(job_id))["Verdict"] == "passed"
        assert (await serving.names(job_id)).count("SensorRead") == 2


async def test_a_hot_target_fails_and_says_how_hot_it_is(lab: Lab) -> None:
    hot = step("soak", command=["echo", "{{ len .ID }}9"], times=1, limit="{{ 90 }}")
    async with lab.server() as serving:
        status = await serving.run(simple(hot, targets=("oven", "overheated")))
    assert last_statuses(status)["overheated"]["Error"] == "overheated has 109 degrees, the limit is 90"
    assert last_statuses(status)["oven"]["Error"] == ""
