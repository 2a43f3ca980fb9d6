"""How a descriptor is spelt: what Go's decoder, which ConTest reads with, makes of keys, nulls and numbers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from contest_core import Severity
from contest_runner.testing import Lab, simple, step

ECHO = step("echo", text="x")


def spelt(**more: Any) -> str:
    """A job, with these members at its end."""
    return json.dumps(simple(ECHO))[:-1] + ", " + json.dumps(more)[1:]


async def test_null_in_another_spelling_leaves_what_the_first_one_said(lab: Lab) -> None:
    reading = await lab.read(spelt(runs=None, jobname=None))
    assert reading.plan is not None
    assert (reading.plan.runs, reading.plan.name) == (1, "job")
    assert {finding.code for finding in reading.findings} == {"duplicate_key"}


async def test_null_in_another_spelling_is_the_default_of_what_may_be_null(lab: Lab) -> None:
    reading = await lab.read(
        spelt(TargetManagerAcquireTimeout="1s", targetmanageracquiretimeout=None, tags=None)
    )
    assert reading.plan is not None
    default = await lab.read(simple(ECHO))
    assert default.plan is not None
    assert reading.plan.acquire_timeout == default.plan.acquire_timeout


async def test_null_is_no_duration_in_any_spelling(lab: Lab) -> None:
    reading = await lab.read(spelt(RunInterval="1s", runinterval=None))
    assert reading.plan is None


@pytest.mark.parametrize("value", [None, "b"])
async def test_a_mapped_variable_may_be_null(lab: Lab, value: str | None) -> None:
    reading = await lab.read(simple({**ECHO, "VariablesMapping": {"a": value}}))
    assert reading.plan is not None
    assert reading.findings == ()


async def test_a_mapped_variable_is_a_text(lab: Lab) -> None:
    (finding,) = (await lab.read(simple({**ECHO, "VariablesMapping": {"a": 5}}))).findings
    assert (finding.severity, finding.message) == (Severity.ERROR, "must be a text, is a whole number")
    assert finding.path.endswith("/Steps/0/VariablesMapping/a")


async def test_numbers_reach_a_step_as_they_are_written(lab: Lab) -> None:
    text = json.dumps(simple(step("echo", text=["NUMBERS"]))).replace('"NUMBERS"', "-0, 0, 0e0, 1e5, false")
    reading = await lab.read(text)
    assert reading.plan is not None
    assert reading.plan.tests[0].steps[0].parameters["text"] == ["-0", "0", "0e0", "1e5", False]
