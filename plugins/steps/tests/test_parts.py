"""The small standard parts: echo, sleep, TargetList, literal, TargetSuccess, noop."""

from __future__ import annotations

import asyncio
import logging
import math
from typing import Any

import pytest

from contest_runner.testing import Lab, job_of, last_statuses, one_test, simple, step
from contest_steps.expression import parse


async def test_echo_writes_its_expanded_text_to_the_log(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with lab.server() as serving:
        await serving.run(simple(step("echo", text="I am {{ .ID | ToUpper }}"), targets=("a", "b")))
    assert "I am A" in caplog.text
    assert "I am B" in caplog.text


@pytest.mark.parametrize("duration", ["0s", "-5m", "0", "20ms"])
async def test_sleep_takes_gos_durations(lab: Lab, duration: str) -> None:
    async with lab.server() as serving:
        assert (await asyncio.wait_for(serving.run(simple(step("sleep", duration=duration))), 5))[
            "Verdict"
        ] == "passed"


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("2001:0DB8:0:0::1", "2001:db8::1"),
        ("::ffff:1.2.3.4", "1.2.3.4"),
        ("::", "::"),
    ],
)
async def test_targets_have_their_addresses_as_go_writes_them(lab: Lab, written: str, shown: str) -> None:
    target = {"ID": "a", "FQDN": "a.example", "PrimaryIPv6": written, "TMS": {"x": [1]}}
    async with lab.server() as serving:
        test = one_test(
            step("cmd", executable="test", args=["{{ .PrimaryIPv6 }}", "=", shown]), targets=(target,)
        )
        status = await serving.run(job_of(test))
        assert status["Verdict"] == "passed"
        found = last_statuses(status)["a"]["Target"]
        assert found == {"ID": "a", "FQDN": "a.example", "PrimaryIPv6": shown, "TMS": {"x": [1]}}


@pytest.mark.parametrize(
    ("text", "successes", "total", "holds", "words"),
    [
        (">=80%", 4, 5, True, "80.00% >= 80.00%"),
        (">80%", 4, 5, False, "80.00% is not > 80.00%"),
        ("=100%", 1, 1, True, "100.00% = 100.00%"),
        ("<=2", 2, 9, True, "2.00 <= 2.00"),
        ("<1e2", 3, 9, True, "3.00 < 100.00"),
        (">inf", 3, 9, False, "3.00 is not > +Inf"),
        ("==100%", 1, 1, True, "100.00% = 100.00%"),
        (">80%%", 1, 1, True, "100.00% > 80.00%"),
        (">5>", 6, 9, True, "6.00 > 5.00"),
        ("<0x1p4", 6, 9, True, "6.00 < 16.00"),
        ("=0X_1.8p+2%", 6, 100, True, "6.00% = 6.00%"),
        (">=-0x.8p-1_0", 0, 1, True, "0.00 >= -0.00"),
    ],
)
def test_expressions_are_judged_in_contests_words(
    text: str, successes: float, total: float, holds: bool, words: str
) -> None:
    assert parse(text).judge(successes, total) == (holds, words)


@pytest.mark.parametrize(
    "text",
    [
        ">= 80%",
        ">=80 %",
        "80%",
        "=>5",
        "<0x10",
        ">",
        "",
        "%",
        "abc",
        "> 5",
        ">five",
        ">\uff11",
        "<0x1p99999",
        "<0x_.8p1",
        "<0x1_p4",
        "<0xp4",
        "<0x1",
    ],
)
def test_what_is_no_expression_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no success expression"):
        parse(text)


def test_not_a_number_compares_false() -> None:
    assert math.isnan(parse(">NaN").number)
    assert parse(">NaN").judge(5, 5)[0] is False


async def test_targets_that_never_came_to_a_step_are_no_success(lab: Lab) -> None:
    parameters = {"SuccessExpression": ">0%"}
    reporting = {"RunReporters": [{"Name": "targetSUCCESS", "Parameters": parameters}]}
    async with lab.server() as serving:
        job: Any = simple(step("echo", text="x"), Reporting=reporting, TargetManagerAcquireTimeout="50ms")
        holder = await serving.start(simple(step("sleep", duration="1h")))
        await serving.until(holder, lambda status: status["RunStatus"])
        status = await serving.run(job)
        [[report]] = status["JobReport"]["RunReports"]
        assert report["ReporterName"] == "TargetSuccess"
        assert report["Success"] is False
        assert report["Data"] == ["Test t does not pass success criteria: 0.00% is not > 0.00%"]


async def test_noop_says_contests_words(lab: Lab) -> None:
    reporting = {"RunReporters": [{"Name": "noop"}], "FinalReporters": [{"Name": "NOOP", "Parameters": [1]}]}
    async with lab.server() as serving:
        report = (await serving.run(simple(step("echo", text="x"), Reporting=reporting)))["JobReport"]
        assert report["RunReports"][0][0]["Data"] == "I did nothing"
        assert report["FinalReports"][0]["Data"] == "I did nothing at the end, all good"
