"""Reading a descriptor: all that is wrong at once, each with its place as it is spelt; what is right becomes a plan."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Struct

from contest_core import Duration, Finding, Secret, Severity
from contest_runner.parts import Fetcher, TargetManager
from contest_runner.step import Expanded, Step
from contest_runner.testing import Lab, job_of, one_test, simple, step

ECHO = step("echo", text="x")


def errors(findings: Iterable[Finding]) -> dict[str, str]:
    return {finding.path: finding.code for finding in findings if finding.severity == Severity.ERROR}


def warnings(findings: Iterable[Finding]) -> dict[str, str]:
    return {finding.path: finding.code for finding in findings if finding.severity != Severity.ERROR}


def changed(path: str, value: Any, *steps: Any) -> Any:
    """A good descriptor, but for one place."""
    job: Any = json.loads(json.dumps(simple(*(steps or [ECHO]))))
    *way, last = path.strip("/").split("/")
    found = job
    for token in way:
        found = found[int(token)] if isinstance(found, list) else found[token]
    if isinstance(found, list):
        found[int(last)] = value
    elif value is ...:
        del found[last]
    else:
        found[last] = value
    return job


T = "/TestDescriptors/0"
S = f"{T}/TestFetcherFetchParameters/Steps/0"

REFUSED: dict[str, tuple[Any, str, str]] = {
    "no name": (changed("/JobName", ""), "/JobName", "missing"),
    "no name at all": (changed("/JobName", ...), "", "missing"),
    "long name": (changed("/JobName", "é" * 33), "/JobName", "too_long"),
    "NUL in the name": (changed("/JobName", "a\0b"), "/JobName", "invalid"),
    "no version": (changed("/Version", ...), "", "version"),
    "version 1": (changed("/Version", "1"), "/Version", "version"),
    "version 1.0.0": (changed("/Version", "1.0.0"), "/Version", "version"),
    "version 1.1": (changed("/Version", "1.1"), "/Version", "version"),
    "version 2.0": (changed("/Version", "2.0"), "/Version", "version"),
    "version with a space": (changed("/Version", " 1.0"), "/Version", "version"),
    "version as number": (changed("/Version", 1.0), "/Version", "wrong_type"),
    "version of many digits": (changed("/Version", "1." + "9" * 5000), "/Version", "version"),
    "bad tag": (changed("/Tags", ["ok", "no no"]), "/Tags/1", "bad_tag"),
    "internal tag": (changed("/Tags", ["_x"]), "/Tags/0", "bad_tag"),
    "tag twice": (changed("/Tags", ["a", "A", "a"]), "/Tags/2", "duplicate"),
    "null tag": (changed("/Tags", [None]), "/Tags/0", "wrong_type"),
    "negative runs": (changed("/Runs", -1), "/Runs", "out_of_range"),
    "half a run": (changed("/Runs", 1.5), "/Runs", "wrong_type"),
    "runs as text": (changed("/Runs", "1"), "/Runs", "wrong_type"),
    "very many runs": (changed("/Runs", 10**30), "/Runs", "*"),
    "negative interval": (changed("/RunInterval", "-1s"), "/RunInterval", "out_of_range"),
    "interval as number": (changed("/RunInterval", 3), "/RunInterval", "wrong_type"),
    "null interval": (changed("/RunInterval", None), "/RunInterval", "wrong_type"),
    "interval without unit": (changed("/RunInterval", "3"), "/RunInterval", "wrong_type"),
    "no tests": (changed("/TestDescriptors", []), "/TestDescriptors", "missing"),
    "null test": (changed("/TestDescriptors", [None]), "/TestDescriptors/0", "wrong_type"),
    "no reporter": (changed("/Reporting", {}), "/Reporting", "missing"),
    "null reporter": (
        changed("/Reporting", {"RunReporters": [None]}),
        "/Reporting/RunReporters/0",
        "wrong_type",
    ),
    "unknown reporter": (
        changed("/Reporting", {"RunReporters": [{"Name": "nop"}]}),
        "/Reporting/RunReporters/0/Name",
        "unknown_reporter",
    ),
    "bad expression": (
        changed(
            "/Reporting",
            {
                "FinalReporters": [
                    {"Name": "TargetSuccess", "Parameters": {"AverageSuccessExpression": "80%"}}
                ]
            },
        ),
        "/Reporting/FinalReporters/0/Parameters",
        "invalid",
    ),
    "disabled": (changed(f"{T}/Disabled", True), "/TestDescriptors", "nothing_to_run"),
    "disabled as text": (changed(f"{T}/Disabled", "yes"), f"{T}/Disabled", "wrong_type"),
    "unknown manager": (
        changed(f"{T}/TargetManagerName", "TargetLits"),
        f"{T}/TargetManagerName",
        "unknown_target_manager",
    ),
    "no manager": (changed(f"{T}/TargetManagerName", ...), T, "missing"),
    "no acquire parameters": (changed(f"{T}/TargetManagerAcquireParameters", ...), T, "missing"),
    "no release parameters": (changed(f"{T}/TargetManagerReleaseParameters", ...), T, "missing"),
    "no targets": (
        changed(f"{T}/TargetManagerAcquireParameters", {"Targets": []}),
        f"{T}/TargetManagerAcquireParameters",
        "invalid",
    ),
    "target with too long an ID": (
        changed(f"{T}/TargetManagerAcquireParameters", {"Targets": [{"ID": "ä" * 32}, {"ID": "ä" * 33}]}),
        f"{T}/TargetManagerAcquireParameters/Targets/1",
        "invalid",
    ),
    "null target": (
        changed(f"{T}/TargetManagerAcquireParameters", {"TARGETS": [None]}),
        f"{T}/TargetManagerAcquireParameters/TARGETS/0",
        "wrong_type",
    ),
    "blank target": (
        changed(f"{T}/TargetManagerAcquireParameters", {"targets": [{"id": " "}]}),
        f"{T}/TargetManagerAcquireParameters/targets/0",
        "invalid",
    ),
    "bad address": (
        changed(f"{T}/TargetManagerAcquireParameters", {"Targets": [{"ID": "a", "PrimaryIPv4": "1.2.3"}]}),
        f"{T}/TargetManagerAcquireParameters/Targets/0",
        "invalid",
    ),
    "unknown fetcher": (
        changed(f"{T}/TestFetcherName", "litteral"),
        f"{T}/TestFetcherName",
        "unknown_fetcher",
    ),
    "no steps": (
        changed(f"{T}/TestFetcherFetchParameters/Steps", []),
        f"{T}/TestFetcherFetchParameters/Steps",
        "missing",
    ),
    "null step": (changed(S, None), S, "wrong_type"),
    "no test name": (
        changed(f"{T}/TestFetcherFetchParameters/TestName", ""),
        f"{T}/TestFetcherFetchParameters/TestName",
        "missing",
    ),
    "long test name": (
        changed(f"{T}/TestFetcherFetchParameters/TestName", "x" * 33),
        f"{T}/TestFetcherFetchParameters/TestName",
        "too_long",
    ),
    "unknown step": (changed(f"{S}/name", "ecko"), f"{S}/name", "unknown_step"),
    "no label": (changed(f"{S}/label", ""), f"{S}/label", "missing"),
    "bad label": (changed(f"{S}/label", "a-b"), f"{S}/label", "bad_label"),
    "accented label": (changed(f"{S}/label", "é"), f"{S}/label", "bad_label"),
    "long label": (changed(f"{S}/label", "x" * 33), f"{S}/label", "too_long"),
    "parameter that is no list": (
        changed(f"{S}/parameters", {"text": "x"}),
        f"{S}/parameters/text",
        "wrong_type",
    ),
    "missing parameter": (changed(f"{S}/parameters", {}), f"{S}/parameters", "missing_parameter"),
    "OnInterrupt": (changed(f"{S}/OnInterrupt", "hope"), f"{S}/OnInterrupt", "invalid"),
    "bad duration": (
        changed(S, step("sleep", duration="soon")),
        f"{S}/parameters/duration",
        "bad_parameter",
    ),
    "no executable": (
        changed(S, step("cmd", executable="no-such-program-anywhere")),
        f"{S}/parameters/executable",
        "no_executable",
    ),
    "label twice": (
        job_of(one_test(ECHO, ECHO)),
        f"{T}/TestFetcherFetchParameters/Steps/1/label",
        "duplicate",
    ),
    "test twice": (job_of(one_test(ECHO), one_test(ECHO)), "/TestDescriptors/1", "duplicate"),
    "retries": (
        changed(f"{T}/RetryParameters", {"NumRetries": -1}),
        f"{T}/RetryParameters/NumRetries",
        "out_of_range",
    ),
    "cleanup of nothing": (changed(f"{T}/CleanupFetcherName", "literal"), T, "missing"),
    "cleanup by nobody": (
        changed(f"{T}/CleanupFetcherName", "litteral"),
        f"{T}/CleanupFetcherName",
        "unknown_fetcher",
    ),
    "cleanup in no time": (changed(f"{T}/CleanupTimeout", "-1s"), f"{T}/CleanupTimeout", "out_of_range"),
    "CleanupTimeout of a job": (changed("/CleanupTimeout", "1s"), "/CleanupTimeout", "unsupported"),
    "Timeout of a job": (changed("/timeout", "1s"), "/timeout", "unsupported"),
    "Timeout of a step": (changed(f"{S}/Timeout", "1s"), f"{S}/Timeout", "unsupported"),
    "MaxTargets": (changed(f"{T}/MaxTargets", 3), f"{T}/MaxTargets", "unsupported"),
    "Queue": (changed("/Queue", "q"), "/Queue", "unsupported"),
    "list": ([], "", "wrong_type"),
    "null": (None, "", "version"),
    "text": ('"x"', "", "wrong_type"),
    "nothing": ("", "", "not_json"),
    "trailing text": (json.dumps(simple(ECHO)) + "x", "", "not_json"),
    "huge exponent": (json.dumps(simple(ECHO)).replace('"Runs": 1', '"Runs": 1e400'), "*", "*"),
    "deep": ("[" * 100_000, "", "not_json"),
    "deep object": ('{"Reporting":' * 5000 + "1" + "}" * 5000, "*", "*"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_what_is_wrong_is_refused_with_its_place(lab: Lab, name: str) -> None:
    descriptor, path, code = REFUSED[name]
    reading = await lab.read(descriptor)
    assert reading.plan is None
    found = [(one.path, one.code) for one in reading.findings if one.severity == Severity.ERROR]
    if path != "*":
        assert any(one[0] == path and code in ("*", one[1]) for one in found), found
    assert all(finding.message for finding in reading.findings)


@pytest.mark.parametrize("version", ["1.0", "+1.0", "01.00", "1.-5"])
async def test_contests_odd_versions_pass(lab: Lab, version: str) -> None:
    assert (await lab.read(changed("/Version", version))).plan is not None


async def test_everything_that_is_wrong_is_said_at_once(lab: Lab) -> None:
    job = changed("/JobName", "")
    job["Runs"] = -1
    job["Tags"] = ["no no", "_x"]
    job["TestDescriptors"].append(None)
    job["TestDescriptors"].append(one_test(step("ecko", "1x"), name="", targets=()))
    found = errors((await lab.read(job)).findings)
    more = "/TestDescriptors/2/TestFetcherFetchParameters"
    assert "/TestDescriptors/1" in found
    job["TestDescriptors"].pop(1)
    found = errors((await lab.read(job)).findings)
    more = more.replace("/2/", "/1/")
    wanted = {"/JobName", "/Runs", "/Tags/0", "/Tags/1", f"{more}/TestName", f"{more}/Steps/0/name"}
    assert wanted | {f"{more}/Steps/0/label"} <= found.keys()
    assert "/TestDescriptors/1/TargetManagerAcquireParameters" in found


async def test_keys_match_without_regard_to_case_and_the_later_one_counts(lab: Lab) -> None:
    text = json.dumps(simple(ECHO)).replace(
        '"JobName": "job"', '"jObNaMe": "one", "JOBNAME": "two", "JobName": "three"'
    )
    plan = (await lab.read(text)).plan
    assert plan is not None
    assert plan.name == "three"
    text = (
        text.replace('"Runs": 1', '"RUNS": 7').replace('"Targets": [', '"tArGeTs": [').replace('"ID"', '"id"')
    )
    plan = (await lab.read(text)).plan
    assert plan is not None
    assert plan.runs == 7


async def test_null_leaves_the_default(lab: Lab) -> None:
    job = changed("/Tags", None)
    job["TargetManagerAcquireTimeout"] = None
    job["TestDescriptors"][0]["RetryParameters"] = None
    job["TestDescriptors"][0]["TargetManagerReleaseParameters"] = None
    plan = (await lab.read(job)).plan
    assert plan is not None
    assert plan.tags == ()
    assert plan.acquire_timeout == 300_000_000_000


async def test_unknown_keys_and_templates_that_do_not_parse_are_warnings(lab: Lab) -> None:
    job = simple(step("echo", text="{{ .ID", txt="y"))
    job["RunIntervall"] = 1
    job["Reporting"]["a/b~c"] = 1
    reading = await lab.read(job)
    assert reading.plan is not None
    assert warnings(reading.findings) == {
        "/RunIntervall": "unknown_key",
        "/Reporting/a~1b~0c": "unknown_key",
        f"{S}/parameters/text/0": "bad_template",
        f"{S}/parameters/txt": "unknown_key",
    }
    nearest = {finding.path: finding.nearest for finding in reading.findings}
    assert nearest["/RunIntervall"] == "RunInterval"
    assert nearest[f"{S}/parameters/txt"] == "text"


async def test_names_have_a_nearest(lab: Lab) -> None:
    reading = await lab.read(simple(step("ecko")))
    [finding] = reading.findings
    assert finding.nearest == "echo"
    assert "did you mean 'echo'" in finding.message


class Colour(StrEnum):
    RED = "red"


class Everything(Struct, frozen=True, kw_only=True):
    """All kinds of parameters."""

    number: Expanded[int] = 0
    many: list[Expanded[str]] = []
    flag: bool = False
    colour: Colour = Colour.RED
    word: Literal["a", "b"] = "a"
    pause: Duration = Duration(0)
    optional: str | None = None
    thing: dict[str, int] = {}
    secret: Secret = Secret("")


def everything(seen: list[Everything]) -> type[Step[Any]]:
    class Made(Step[Everything]):
        Parameters = Everything
        display_name = "Made"

        async def run(self, target: Any, parameters: Everything, context: Any) -> None:
            seen.append(parameters)

    return Made


async def test_parameters_are_bound_by_contests_rules(lab: Lab) -> None:
    seen: list[Everything] = []
    lab.step("made", everything(seen))
    parameters: dict[str, Any] = {
        "number": ["{{ .ID }}", 5],
        "many": [1, None, {"a": 1.50}, "{{ .ID }}"],
        "flag": ["T"],
        "colour": ["red"],
        "word": ["b"],
        "pause": ["1m"],
        "thing": [{"x": 1}],
        "secret": ["s3"],
    }
    async with lab.server() as serving:
        status = await serving.run(simple(step("made", **parameters), targets=("42", "x")))
        assert len(seen) == 1
        assert seen[0].number == 42
        assert seen[0].many == ["1", "", '{"a": 1.5}', "42"]
        assert (seen[0].flag, seen[0].colour, seen[0].word) == (True, Colour.RED, "b")
        assert (seen[0].pause.seconds, seen[0].thing, seen[0].optional) == (60, {"x": 1}, None)
        assert seen[0].secret.reveal() == "s3"
        failed = [
            target
            for target in status["RunStatus"]["TestStatuses"][0]["TargetStatuses"]
            if target.get("Error")
        ]
        assert "'x' is not a whole number" in failed[0]["Error"]
        assert failed[0]["Blame"] == "test"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("number", 5.0), ("number", "1_0"), ("number", "9" * 30), ("number", 2**63), ("flag", "yes"),
        ("colour", "blue"), ("word", "c"), ("pause", "5"), ("thing", "x"), ("thing", {"x": "y"}),
    ],
)  # fmt: skip
async def test_literals_are_checked_when_the_job_is_handed_in(lab: Lab, key: str, value: Any) -> None:
    lab.step("made", everything([]))
    given: dict[str, Any] = {key: [value]}
    reading = await lab.read(simple(step("made", **given)))
    assert errors(reading.findings) == {f"{S}/parameters/{key}": "bad_parameter"}


async def test_the_faults_of_plugins_refuse_the_descriptor_and_name_them(lab: Lab) -> None:
    class Checks(everything([])):  # type: ignore[misc]
        def check(self, parameters: Any) -> Any:
            raise RuntimeError("in check")

    class Fetches(Fetcher[Everything]):
        Parameters = Everything

        async def fetch(self, parameters: Any, context: Any) -> Any:
            raise SystemExit("in fetch")

    lab.step("checks", Checks)
    lab.add("fetchers", "fetches", Fetches)
    found = (await lab.read(simple(step("checks")))).findings
    assert [(finding.path, finding.code) for finding in found] == [(S, "broken_plugin")]
    assert "in check" in found[0].message
    found = (await lab.read(changed(f"{T}/TestFetcherName", "fetches"))).findings
    assert any("in fetch" in finding.message for finding in found)


async def test_secrets_and_durations_of_other_parts_reach_them(lab: Lab) -> None:
    seen: list[Any] = []

    class Made(TargetManager[Everything, Everything]):
        AcquireParameters = Everything
        ReleaseParameters = Everything

        async def acquire(self, parameters: Any, context: Any) -> Any:
            seen.append((parameters.secret.reveal(), parameters.pause.seconds))
            return []

        async def release(self, targets: Any, parameters: Any, context: Any) -> None:
            seen.append(parameters.secret.reveal())

    lab.add("target_managers", "made", Made)
    job = changed(f"{T}/TargetManagerName", "made")
    job["TestDescriptors"][0]["TargetManagerAcquireParameters"] = {"SECRET": "hush", "pause": "2s"}
    job["TestDescriptors"][0]["TargetManagerReleaseParameters"] = {"secret": "psst"}
    async with lab.server() as serving:
        await serving.run(job)
    assert seen == [("hush", 2.0), "psst"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
PLACES = sorted({path for _, path, _ in REFUSED.values() if path.count("/") > 0})


@settings(max_examples=150, deadline=2000, suppress_health_check=list(HealthCheck))
@given(place=st.sampled_from(PLACES), value=JSON)
def test_any_value_anywhere_gives_findings_or_a_plan(place: str, value: Any, tmp_path_factory: Any) -> None:
    try:
        job = changed(place, value)
    except (LookupError, TypeError, ValueError):
        job = value
    text = json.dumps(job)
    with Lab(Path()) as lab:
        reading = asyncio.run(_read(lab, text))
    assert reading.plan is not None or errors(reading.findings)


async def _read(lab: Lab, text: str) -> Any:
    return await lab.read(text)


@settings(max_examples=100, deadline=2000, suppress_health_check=list(HealthCheck))
@given(text=st.text(max_size=60) | JSON.map(json.dumps))
def test_any_text_gives_findings(text: str) -> None:
    with Lab(Path()) as lab:
        reading = asyncio.run(_read(lab, text))
    assert errors(reading.findings)


TWENTY = {
    "JobNam": "twenty",
    "Version": "2.0",
    "Runs": "many",
    "RunInterval": "5 parsecs",
    "Tags": ["ok", "ok", "bad tag", 5],
    "Colour": "red",
    "TestDescriptors": [
        {
            "TargetManagerName": "TargetLisst",
            "TargetManagerReleaseParameters": {},
            "Disabled": "no",
            "TestFetcherName": "literal",
            "TestFetcherFetchParameters": {
                "TestName": "",
                "Steps": [
                    {"name": "cmdd", "label": "one", "parameters": {}},
                    {
                        "name": "cmd",
                        "label": "1two",
                        "parameters": {"executabel": ["x"], "emit_stdout": ["maybe"]},
                    },
                    {
                        "name": "sleep",
                        "label": "three",
                        "OnInterrupt": "panic",
                        "parameters": {"duration": ["5 m"]},
                    },
                    {"name": "echo", "label": "three", "parameters": {"text": ["{{ .ID "]}},
                    {"name": "echo", "label": "four", "parameters": {"text": "no list", "tex": ["x"]}},
                    {"name": "echo", "label": "five", "parameters": {"text": ['{{ StringVar "nope.x" }}']}},
                    {"label": "six"},
                    "seven",
                ],
            },
        },
        7,
    ],
    "Reporting": {
        "RunReporters": [{"Name": "TargetSucces"}, {"Name": "TargetSuccess", "Parameters": {}}, None]
    },
}

TWENTY_PLACES = {
    "": "missing",
    "/JobNam": "unknown_key",
    "/Version": "version",
    "/Runs": "wrong_type",
    "/RunInterval": "wrong_type",
    "/Tags/1": "duplicate",
    "/Tags/2": "bad_tag",
    "/Tags/3": "wrong_type",
    "/Colour": "unknown_key",
    f"{T}/TargetManagerName": "unknown_target_manager",
    f"{T}/Disabled": "wrong_type",
    f"{T}/TestFetcherFetchParameters/TestName": "missing",
    f"{T}/TestFetcherFetchParameters/Steps/0/name": "unknown_step",
    f"{T}/TestFetcherFetchParameters/Steps/1/label": "bad_label",
    f"{T}/TestFetcherFetchParameters/Steps/1/parameters": "missing_parameter",
    f"{T}/TestFetcherFetchParameters/Steps/1/parameters/executabel": "unknown_key",
    f"{T}/TestFetcherFetchParameters/Steps/1/parameters/emit_stdout": "bad_parameter",
    f"{T}/TestFetcherFetchParameters/Steps/2/OnInterrupt": "invalid",
    f"{T}/TestFetcherFetchParameters/Steps/2/parameters/duration": "bad_parameter",
    f"{T}/TestFetcherFetchParameters/Steps/3/label": "duplicate",
    f"{T}/TestFetcherFetchParameters/Steps/3/parameters/text/0": "bad_template",
    f"{T}/TestFetcherFetchParameters/Steps/4/parameters/text": "wrong_type",
    f"{T}/TestFetcherFetchParameters/Steps/4/parameters/tex": "unknown_key",
    f"{T}/TestFetcherFetchParameters/Steps/5/parameters/text/0": "unknown_variable",
    f"{T}/TestFetcherFetchParameters/Steps/6": "missing",
    f"{T}/TestFetcherFetchParameters/Steps/7": "wrong_type",
    "/TestDescriptors/1": "wrong_type",
    "/Reporting/RunReporters/0/Name": "unknown_reporter",
    "/Reporting/RunReporters/1/Parameters": "missing",
    "/Reporting/RunReporters/2": "wrong_type",
}


async def test_a_job_with_many_mistakes_is_told_each_at_its_place_and_none_that_follows_from_another(
    lab: Lab,
) -> None:
    reading = await lab.read(TWENTY)
    assert reading.plan is None
    assert {finding.path: finding.code for finding in reading.findings} == TWENTY_PLACES
    assert len(reading.findings) == len(TWENTY_PLACES)
