"""Variables: the step that sets them, and what is said of those that templates read, when a job is handed in."""

from __future__ import annotations

import json
from typing import Any

import pytest

from contest_core import Severity
from contest_runner.testing import Lab, simple, step


def reads(text: str, label: str = "reads") -> dict[str, Any]:
    made: dict[str, Any] = {"name": "echo", "label": label, "parameters": {"text": [text]}}
    return made


async def test_every_parameter_becomes_a_variable_as_it_is_written(lab: Lab) -> None:
    values = """{"text": ["a\\u00e9"], "number": [1.50], "object": [{"b": [1,  2]}],
        "nothing": [null], "brackets": ["[1]"]}"""
    job = json.dumps(simple({"name": "variables", "label": "v", "parameters": "PARAMETERS"}, targets=("a",)))
    async with lab.server() as serving:
        job_id = await serving.start(job.replace('"PARAMETERS"', values))
        await serving.manager.idle()
        events = await serving.store.events(job_id=job_id, limit=100)
    payloads = [json.loads(event.payload or "") for event in events if event.name == "VariableEmitted"]
    assert [(each["Name"], each["Value"]) for each in payloads] == [
        ("text", '"a\\u00e9"'),
        ("number", "1.50"),
        ("object", '{"b": [1,  2]}'),
        ("nothing", "null"),
        ("brackets", '"[1]"'),
    ]


async def test_nothing_is_expanded_and_no_parameters_are_fine(lab: Lab) -> None:
    async with lab.server() as serving:
        job = simple(
            step("variables", label="none"),
            step("variables", label="v", text="{{ .ID }}"),
            step(
                "cmd",
                label="c",
                executable="test",
                args=['{{ StringVar "v.text" }}', "=", '{{ "{{" }} .ID {{ "}}" }}'],
            ),
        )
        status = await serving.run(job)
    assert status["Verdict"] == "passed", status


@pytest.mark.parametrize(
    ("parameters", "path"),
    [
        ({"a-b": [1]}, "/a-b"),
        ({"_a": [1]}, "/_a"),
        ({"a/b": [1]}, "/a~1b"),
        ({"a": []}, "/a"),
        ({"a": [1, 2]}, "/a"),
        ({"a": ["x\0"]}, "/a"),
        ({"a": [{"\0": 1}]}, "/a"),
    ],
)
async def test_what_is_no_variable_is_refused_at_its_place(
    lab: Lab, parameters: dict[str, Any], path: str
) -> None:
    job = simple({"name": "variables", "label": "v", "parameters": parameters})
    reading = await lab.read(job)
    place = "/TestDescriptors/0/TestFetcherFetchParameters/Steps/0/parameters"
    assert [(each.severity, each.path) for each in reading.findings] == [(Severity.ERROR, place + path)]


@pytest.mark.parametrize(
    ("template", "words", "nearest"),
    [
        ('{{ StringVar "nope.x" }}', "there is no step 'nope' before", None),
        ('{{ StringVar "var.image" }}', "there is no step 'var' before", "vars.image"),
        ('{{ IntVar "vars.imag" }}', "step 'vars' sets image", "vars.image"),
        ('{{ IntVar "reads.x" }}', "of the step itself", None),
        ('{{ "later.x" | StringVar }}', "set by a later step", None),
        ('{{ StringVar "vars" }}', "is no variable", None),
    ],
)
async def test_a_variable_that_no_step_before_sets_is_a_warning(
    lab: Lab, template: str, words: str, nearest: str | None
) -> None:
    job = simple(
        step("variables", label="vars", image="x"), reads(template), step("variables", label="later", x=1)
    )
    (finding,) = (reading := await lab.read(job)).findings
    assert reading.plan is not None
    assert (finding.severity, finding.code) == (Severity.WARNING, "unknown_variable")
    assert finding.path == "/TestDescriptors/0/TestFetcherFetchParameters/Steps/1/parameters/text/0"
    assert words in finding.message
    assert finding.nearest == nearest
    # What was read before is judged again: it depends on the steps around it.
    assert (await lab.read(job)).findings == reading.findings


async def test_what_can_resolve_is_not_told(lab: Lab) -> None:
    texts = ['{{ StringVar "vars.image" }}', '{{ StringVar (printf "%s.%s" .ID "x") }}']
    for text in texts:
        assert (
            await lab.read(simple(step("variables", label="vars", image="x"), reads(text)))
        ).findings == ()


@pytest.mark.parametrize(
    ("template", "field", "nearest"),
    [
        ("{{ .FQND }}", "FQND", "FQDN"),
        ("{{ if .Id }}x{{ end }}", "Id", "ID"),
        ("{{ $.Colour }}", "Colour", None),
    ],
)
async def test_a_field_that_no_target_has_is_a_warning(
    lab: Lab, template: str, field: str, nearest: str | None
) -> None:
    (finding,) = (reading := await lab.read(simple(reads(template)))).findings
    assert reading.plan is not None
    assert (finding.severity, finding.code, finding.nearest) == (Severity.WARNING, "unknown_field", nearest)
    assert f"no field {field!r}" in finding.message
    assert finding.path.endswith("/parameters/text/0")


async def test_fields_of_a_target_are_known(lab: Lab) -> None:
    job = simple(
        reads("{{.ID}}{{.FQDN}}{{.PrimaryIPv4}}{{.PrimaryIPv6}}{{.TargetManagerState}}{{.String}}{{.}}")
    )
    assert not (await lab.read(job)).findings
