"""The steps of this distribution, in jobs on a server without a socket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from contest_sensor.settle import Settle
from contest_sensor.soak import Soak

from contest_runner.testing import Lab, last_statuses, simple, step


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with Lab(tmp_path) as made:
        made.step("soak", Soak)
        made.step("settle", Settle)
        yield made


async def test_a_cool_target_passes_and_every_reading_is_an_event(lab: Lab) -> None:
    soak = step("soak", command=["echo", "{{ len .ID }}"], times=2, pause="1ms")
    async with lab.server() as serving:
        job_id = await serving.start(simple(soak, targets=("cool",)))
        assert (await serving.ended(job_id))["Verdict"] == "passed"
        assert (await serving.names(job_id)).count("SensorRead") == 2


async def test_a_hot_target_fails_and_says_why(lab: Lab) -> None:
    async with lab.server() as serving:
        status = await serving.run(simple(step("soak", command=["echo", "99"], limit="{{ 90 }}")))
    assert status["Verdict"] == "failed"
    assert last_statuses(status)["t1"]["Error"] == "t1 has 99 degrees, the limit is 90"


async def test_a_wrong_parameter_is_found_when_the_job_is_handed_in(lab: Lab) -> None:
    reading = await lab.read(simple(step("soak", command=["true"], times=0)))
    assert [finding.message for finding in reading.findings] == ["times has to be at least 1"]


async def test_a_stop_is_obeyed_while_it_waits(lab: Lab) -> None:
    async with lab.server() as serving:
        job_id = await serving.start(simple(step("settle", duration="1h")))
        await serving.until(job_id, last_statuses, "the step")
        await serving.stop(job_id)
        assert (await serving.ended(job_id))["State"] == "JobStateCancelled"
