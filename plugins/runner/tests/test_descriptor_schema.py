"""The JSON Schema of a job: it takes what the reader takes, flags what an editor should, and is up to date."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from jsonschema import Draft7Validator  # type: ignore[import-untyped]

from contest_core.cli import program
from contest_core.document import read
from contest_core.plugins import load_plugins
from contest_runner.catalog import Catalog
from contest_runner.descriptor_schema import DESCRIPTIONS, descriptor_schema, known_fields
from contest_runner.step import Expanded, OnInterrupt, Rest, Step
from contest_runner.testing import Lab, one_test, simple, step

ROOT = Path(__file__).parents[3]
CONFIGS = ROOT / "configs"
RECORDED = ROOT / "tests" / "data" / "contest-http.jsonl"

in_workspace = pytest.mark.skipif(not CONFIGS.is_dir(), reason="the tests run apart from the workspace")


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    made = descriptor_schema(Catalog(load_plugins()))
    Draft7Validator.check_schema(made)
    return made


def said(schema: dict[str, Any], job: Any) -> list[str]:
    """What an editor would say of a job, each with its place."""
    return [f"{error.json_path}: {error.message}" for error in Draft7Validator(schema).iter_errors(job)]


@in_workspace
@pytest.mark.parametrize("file", sorted(CONFIGS.glob("jobs/*")), ids=lambda file: str(file.name))
def test_every_job_of_ours_is_right_by_the_schema(schema: dict[str, Any], file: Path) -> None:
    assert said(schema, read(file.read_bytes(), source=file.name).value) == []


def recorded() -> list[tuple[str, Any]]:
    """The descriptors that ConTest's own server has accepted."""
    found = []
    for line in RECORDED.read_text().splitlines() if RECORDED.exists() else ():
        exchange = json.loads(line)
        answer = exchange["response"].get("json") or {}
        if exchange["request"]["path"] == "/start" and "Data" in answer and answer["Error"] is None:
            found.append((exchange["case"], json.loads(exchange["request"]["form"]["jobDesc"])))
    return found


@pytest.mark.parametrize(("case", "job"), [pytest.param(*each, id=each[0]) for each in recorded()])
def test_what_contest_has_accepted_is_right_by_the_schema(
    schema: dict[str, Any], case: str, job: Any
) -> None:
    assert said(schema, job) == []


@in_workspace
def test_the_file_beside_our_jobs_is_what_the_command_prints() -> None:
    done = CliRunner().invoke(program, ["schema"], prog_name="contest")
    assert done.exit_code == 0
    hint = "contest schema --output configs/job.schema.json"
    assert (CONFIGS / "job.schema.json").read_text() == done.stdout, f"`{hint}` writes it anew"


@in_workspace
def test_a_job_names_the_schema_in_its_first_line_as_editors_look_for_it() -> None:
    job = CONFIGS / "jobs" / "hello.yaml"
    first, _, _ = job.read_text().partition("\n")
    head, _, file = first.partition("=")
    assert head == "# yaml-language-server: $schema"
    assert (job.parent / file).resolve() == CONFIGS / "job.schema.json"


def test_the_command_writes_a_file_and_names_one_that_it_cannot_write(tmp_path: Path) -> None:
    path = tmp_path / "new" / "job.schema.json"
    done = CliRunner().invoke(program, ["schema", "--output", str(path)], prog_name="contest")
    assert (done.exit_code, done.stdout) == (0, "")
    assert json.loads(path.read_text())["type"] == "object"
    done = CliRunner().invoke(program, ["schema", "--output", str(tmp_path)], prog_name="contest")
    assert done.exit_code == 3
    assert f"cannot write {tmp_path}: Is a directory" in done.stderr


def without(key: str) -> Callable[[Any], None]:
    return lambda job: job["TestDescriptors"][0].pop(key)


def acquire(**more: Any) -> Callable[[Any], None]:
    return lambda job: job["TestDescriptors"][0]["TargetManagerAcquireParameters"].update(more)


def fetch(**more: Any) -> Callable[[Any], None]:
    return lambda job: job["TestDescriptors"][0]["TestFetcherFetchParameters"].update(more)


def first_step(**more: Any) -> Callable[[Any], None]:
    return lambda job: job["TestDescriptors"][0]["TestFetcherFetchParameters"]["Steps"][0].update(more)


def reporter(when: str, **more: Any) -> Callable[[Any], None]:
    return lambda job: job["Reporting"].update({when: [more]})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda job: job.update(JobNmae="x"), "'JobNmae' was unexpected"),
        (lambda job: job.update(Version=1.0), "1.0 is not of type 'string'"),
        (lambda job: job.update(RunInterval="3 seconds"), "does not match"),
        (lambda job: job.update(Tags=["_internal"]), "does not match"),
        (lambda job: job.update(TestDescriptors=[]), "[] should be non-empty"),
        (lambda job: job.pop("JobName"), "'JobName' is a required property"),
        (without("TargetManagerReleaseParameters"), "'TargetManagerReleaseParameters' is a required"),
        (lambda job: job["TestDescriptors"][0].update(TargetManagerName="TargetLst"), "is not one of"),
        (
            lambda job: job["TestDescriptors"][0]["TargetManagerAcquireParameters"].update(Target=[]),
            "'Target' was unexpected",
        ),
        (
            lambda job: job["TestDescriptors"][0]["TargetManagerAcquireParameters"]["Targets"][0].pop("ID"),
            "'ID' is a required property",
        ),
        (
            lambda job: job["TestDescriptors"][0].update(TargetManagerAcquireParameters={}),
            "'Targets' is a required",
        ),
        (acquire(Targets=[]), "[] should be non-empty"),
        (fetch(TestName=""), "'' should be non-empty"),
        (fetch(TestName="x" * 33), "is too long"),
        (fetch(Steps=[]), "[] should be non-empty"),
        (fetch(Steps=None), "None is not of type 'array'"),
        (
            lambda job: job["TestDescriptors"][0].update(TestFetcherFetchParameters={}),
            "'TestName' is a required",
        ),
        (
            lambda job: job["TestDescriptors"][0].update(TestFetcherFetchParameters=None),
            "is not of type 'object'",
        ),
        (
            lambda job: job["TestDescriptors"][0].update(CleanupFetcherName="literal"),
            "'CleanupFetcherFetchParameters' is a required",
        ),
        (first_step(name="cmdd"), "'cmdd' is not one of"),
        (first_step(label="1st"), "'1st' does not match"),
        (first_step(OnInterrupt="again"), "'again' is not one of"),
        (first_step(parameters={"executabel": ["sh"]}), "'executabel' was unexpected"),
        (first_step(parameters={}), "'executable' is a required property"),
        (first_step(parameters={"executable": "sh"}), "'sh' is not of type 'array'"),
        (first_step(parameters={"executable": ["sh"], "args": [{"{.ID}": None}]}), "is not of type"),
        (first_step(parameters={"executable": ["sh"], "emit_stdout": ["maybe"]}), "'maybe' is not valid"),
        (first_step(name="sleep", parameters={"duration": ["3 s"]}), "'3 s' does not match"),
        (reporter("RunReporters", Name="TargetSuccess"), "'Parameters' is a required property"),
        (
            reporter("RunReporters", Name="TargetSuccess", Parameters={"AverageSuccessExpression": "=100%"}),
            "'AverageSuccessExpression' was unexpected",
        ),
        (
            reporter("FinalReporters", Name="TargetSuccess", Parameters={"SuccessExpression": "=100%"}),
            "'SuccessExpression' was unexpected",
        ),
    ],
)
def test_what_is_wrong_is_flagged(schema: dict[str, Any], change: Callable[[Any], None], words: str) -> None:
    job = simple(step("cmd", executable="sh", args=["-c", "echo {{ .ID }}"], emit_stdout=True))
    assert said(schema, job) == []
    change(job)
    assert any(words in each for each in said(schema, job)), said(schema, job)


def test_values_are_taken_as_the_reader_takes_them(schema: dict[str, Any]) -> None:
    job = simple(
        step("cmd", executable="sh", args=["-c", 5, True, None], emit_stdout=["true"], dir="{{ .ID }}")
    )
    job["TestDescriptors"][0]["TargetManagerReleaseParameters"] = None
    job["TestDescriptors"][0]["Disabled"] = None
    assert said(schema, job) == []


async def test_what_go_writes_for_what_is_not_there_is_taken(schema: dict[str, Any], lab: Lab) -> None:
    job = simple({**step("echo", text="x"), "OnInterrupt": None}, targets=[{"ID": "a", "PrimaryIPv4": None}])
    more = {"RetryParameters": None, "CleanupFetcherName": "", "CleanupFetcherFetchParameters": None}
    job["TestDescriptors"][0].update(more)
    assert said(schema, job) == []
    assert not (await lab.read(job)).findings


@pytest.mark.parametrize("given", [{"Steps": []}, {"Steps": None}, {}, {"TestName": "x", "Steps": []}])
async def test_of_cleanup_steps_there_may_be_none(
    schema: dict[str, Any], lab: Lab, given: dict[str, Any]
) -> None:
    job = simple(step("echo", text="x"))
    job["TestDescriptors"][0].update(CleanupFetcherName="literal", CleanupFetcherFetchParameters=given)
    assert said(schema, job) == []
    assert not (await lab.read(job)).findings


class EveryKind(msgspec.Struct, frozen=True, kw_only=True):
    number: Expanded[int] = 0
    """How many."""
    plain: int = 0
    others: Rest = msgspec.field(default_factory=dict)


class EveryStep(Step[EveryKind]):
    Parameters = EveryKind
    display_name = "Every"
    on_interrupt = OnInterrupt.RERUN

    async def run(self, target: Any, parameters: EveryKind, context: Any) -> None:
        return


async def test_a_step_of_somebody_else_has_its_parameters_where_templates_may_stand(lab: Lab) -> None:
    lab.step("every", EveryStep)
    made = descriptor_schema(Catalog(lab.plugins()))
    assert (
        made["$defs"]["step.every"]["properties"]["number"]["description"] == "How many. May be a template."
    )
    assert said(made, simple(step("every", number="{{ .ID }}", plain="7", more=[{"any": 1}]))) == []
    assert len(said(made, simple(step("every", plain="{{ .ID }}")))) == 1


async def test_a_part_that_is_broken_spoils_no_other(lab: Lab) -> None:
    lab.step("broken", object())
    made = descriptor_schema(Catalog(lab.plugins()))
    assert "cannot be described: AttributeError" in made["$defs"]["step.broken"]["description"]
    assert said(made, simple(step("broken", anything=1))) == []
    assert said(made, simple(step("echo", txt="x"))) != []


async def test_what_is_right_by_the_schema_is_accepted_in_one_reading(lab: Lab) -> None:
    made = descriptor_schema(Catalog(lab.plugins()))
    job = simple(step("echo", text="x"))
    job["TestDescriptors"].append(one_test(step("sleep", duration="1s"), name="second"))
    assert said(made, job) == []
    assert (await lab.read(job)).findings == ()


@pytest.mark.parametrize("kind", list(DESCRIPTIONS), ids=lambda kind: str(kind.__name__))
def test_every_key_of_a_descriptor_is_described(kind: type[msgspec.Struct]) -> None:
    assert sorted(field.encode_name for field in known_fields(kind)) == sorted(DESCRIPTIONS[kind])
