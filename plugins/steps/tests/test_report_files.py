"""The reporters `junit` and `tap`: which file they write, and what becomes of one that cannot be written."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from junitparser import JUnitXml
from tap.parser import Parser

from contest_runner.testing import Lab, job_of, one_test, simple, step


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the server was started."""
    where = tmp_path / "started-here"
    where.mkdir()
    monkeypatch.chdir(where)
    return where


def reporting(**reporters: list[dict[str, Any]]) -> dict[str, Any]:
    return {"Reporting": {"RunReporters": [], "FinalReporters": [], **reporters}}


def writes(name: str, file: str) -> dict[str, Any]:
    return {"Name": name, "Parameters": {"File": file}}


FAILS_FOR_BAD = step(
    "cmd", executable="sh", args=["-c", "test {{ .ID }} = good || { echo alas >&2; exit 7; }"]
)


async def test_a_run_and_a_job_are_written_where_the_server_was_started(lab: Lab, folder: Path) -> None:
    job = simple(
        FAILS_FOR_BAD,
        targets=("good", "bad"),
        Runs=2,
        Tags=["nightly"],
        **reporting(
            RunReporters=[writes("junit", "{job}/run-{run}.xml")],
            FinalReporters=[writes("TAP", "all-{job}.tap"), writes("JUnit", str(folder / "all.xml"))],
        ),
    )
    async with lab.server() as serving:
        status = await serving.run(job)
    assert status["Verdict"] == "failed"
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*.*")) == [
        "1/run-1.xml",
        "1/run-2.xml",
        "all-1.tap",
        "all.xml",
    ]
    [suite] = JUnitXml.fromfile(str(folder / "1" / "run-2.xml"))
    assert (suite.name, suite.tests, suite.failures) == ("t (run 2)", 2, 1)
    properties = {each.name: each.value for each in suite.properties()}
    assert properties == {
        "job": "1",
        "name": "job",
        "requestor": "tester",
        "tags": "nightly",
        "run": "2",
    }
    [bad] = [case for case in suite if case.name == "bad"]
    assert bad.system_err == "alas\n"
    assert len(JUnitXml.fromfile(str(folder / "all.xml"))) == 2
    points = [line for line in Parser().parse_file(str(folder / "all-1.tap")) if line.category == "test"]
    assert [point.ok for point in points] == [True, False, True, False]
    [[first], _] = status["JobReport"]["RunReports"]
    assert (first["ReporterName"], first["Success"]) == ("junit", True)
    assert first["Data"] == {
        "File": str(folder / "1" / "run-1.xml"),
        "Tests": 2,
        "Failures": 1,
        "Errors": 0,
        "Skipped": 0,
        "Flaky": 0,
    }


async def test_a_file_that_cannot_be_written_is_said_in_the_report_and_decides_nothing(
    lab: Lab, folder: Path
) -> None:
    (folder / "file").touch()
    job = simple(
        step("echo", text="x"),
        **reporting(
            RunReporters=[writes("junit", "file/report.xml"), writes("tap", "there.tap")],
            FinalReporters=[writes("tap", str(folder))],
        ),
    )
    async with lab.server() as serving:
        status = await serving.run(job)
    assert (status["State"], status["Verdict"]) == ("JobStateCompleted", "passed")
    [[broken, fine]] = status["JobReport"]["RunReports"]
    assert broken["Success"] is False
    assert broken["Data"] == {"File": "file/report.xml", "Error": "Not a directory"}
    assert fine["Success"] is True
    [final] = status["JobReport"]["FinalReports"]
    assert final["Data"] == {"File": str(folder), "Error": "Is a directory"}


async def test_a_test_that_got_no_targets_is_an_error_in_the_file(lab: Lab, folder: Path) -> None:
    job = simple(
        step("echo", text="x"),
        TargetManagerAcquireTimeout="50ms",
        **reporting(RunReporters=[writes("junit", "r.xml")]),
    )
    async with lab.server() as serving:
        holder = await serving.start(job_of(one_test(step("sleep", duration="1h"))))
        await serving.until(holder, lambda status: status["RunStatus"])
        await serving.run(job)
    [suite] = JUnitXml.fromfile(str(folder / "r.xml"))
    [case] = suite
    assert (case.name, [each.type for each in case.result]) == ("t", ["infrastructure"])
    assert (suite.tests, suite.errors) == (1, 1)


@pytest.mark.parametrize(
    ("kind", "file", "words"),
    [
        ("RunReporters", "", "the file has no name"),
        ("RunReporters", "a\0b", "has a NUL character"),
        ("RunReporters", "folder/", "is a folder: name the file in it"),
        ("RunReporters", "{jbo}.xml", "nothing stands for {jbo} in '{jbo}.xml': there is {job} and {run}"),
        ("FinalReporters", "{run}.xml", "nothing stands for {run} in '{run}.xml': there is {job}"),
        ("FinalReporters", "{job.xml", "a brace in '{job.xml' has no other"),
    ],
)
async def test_what_can_be_the_name_of_no_file_is_refused_when_the_job_is_handed_in(
    lab: Lab, kind: str, file: str, words: str
) -> None:
    reading = await lab.read(simple(step("echo", text="x"), **reporting(**{kind: [writes("junit", file)]})))
    assert reading.plan is None
    assert words in reading.findings[0].message
    assert reading.findings[0].path == f"/Reporting/{kind}/0/Parameters"


async def test_a_failed_cleanup_is_told_beside_retries_and_changes_no_count(lab: Lab, folder: Path) -> None:
    script = "test -e mark-{{ .ID }} || { touch mark-{{ .ID }}; exit 1; }"
    off = step("cmd", "off", executable="sh", args=["-c", "echo stuck >&2; exit 3"])
    test = one_test(
        step("cmd", executable="sh", args=["-c", script]),
        targets=("a", "b"),
        RetryParameters={"NumRetries": 2},
        CleanupFetcherName="literal",
        CleanupFetcherFetchParameters={"Steps": [off]},
    )
    reporters = [writes("junit", "all.xml"), writes("tap", "all.tap")]
    async with lab.server() as serving:
        status = await serving.run(job_of(test, **reporting(FinalReporters=reporters)))
    assert (status["Verdict"], status["Flaky"]) == ("passed", True)
    [suite] = JUnitXml.fromfile(str(folder / "all.xml"))
    assert (suite.tests, suite.failures, suite.errors) == (2, 0, 0)
    root = ElementTree.parse(folder / "all.xml").getroot()
    told = root.findtext("testsuite/system-err", "").splitlines()
    assert sum(line.startswith("target ") for line in told) == 2
    assert told.count("  stderr: stuck") == 2
    text = (folder / "all.tap").read_text()
    assert text.count("(flaky)") == 2
    assert text.count("#   stderr: stuck\n") == 2
