"""The steps of chance: `randecho` and `example`."""

from __future__ import annotations

from typing import Any

import pytest

from contest_runner.testing import Lab, last_statuses, simple, step

MANY = [f"t{number}" for number in range(64)]


def said(entry: Any) -> list[str]:
    return [event["Data"]["EventName"] for event in entry["Events"] or ()]


async def test_randecho_passes_some_and_fails_some_and_says_which(lab: Lab) -> None:
    async with lab.server() as serving:
        status = await serving.run(simple(step("RandEcho", text="{{ is no template"), targets=MANY))
        entries = last_statuses(status).values()
        assert {entry["Error"] for entry in entries} == {"", "target randomly failed"}
        for entry in entries:
            assert said(entry) == ["TargetFailed" if entry["Error"] else "TargetSucceeded"]
        assert status["State"] == "JobStateCompleted"


@pytest.mark.parametrize("parameters", [{}, {"text": ""}, {"text": []}])
async def test_randecho_wants_a_text(lab: Lab, parameters: dict[str, Any]) -> None:
    reading = await lab.read(simple(step("randecho", **parameters)))
    assert [finding.code for finding in reading.findings] == ["missing_parameter"]


@pytest.mark.parametrize(
    ("parameters", "errors"),
    [
        ({}, {""}),
        ({"FailPct": 0}, {""}),
        ({"FailPct": ""}, {""}),
        ({"FailPct": "100"}, {"target failed"}),
        ({"FailPct": 50}, {"", "target failed"}),
    ],
)
async def test_example_fails_so_many_of_a_hundred(
    lab: Lab, parameters: dict[str, Any], errors: set[str]
) -> None:
    async with lab.server() as serving:
        status = await serving.run(simple(step("example", **parameters), targets=MANY))
        entries = last_statuses(status).values()
        assert {entry["Error"] for entry in entries} == errors
        for entry in entries:
            end = "ExampleFailedEvent" if entry["Error"] else "ExampleFinishedEvent"
            assert said(entry) == ["ExampleStartedEvent", end]


@pytest.mark.parametrize(
    ("percentage", "severity", "words"),
    [
        (101, "warning", "with 101 every target fails"),
        (-1, "warning", "with -1 no target fails"),
        ("five", "error", "'five' is not a whole number"),
        (5.0, "error", "'5.0' is not a whole number"),
    ],
)
async def test_what_is_no_percentage_is_told(lab: Lab, percentage: Any, severity: str, words: str) -> None:
    reading = await lab.read(simple(step("example", FailPct=percentage)))
    (finding,) = reading.findings
    assert finding.severity.value == severity
    assert finding.path.endswith("/parameters/FailPct")
    assert words in finding.message
