"""`contest validate`: a job is checked here or by a server, and its plan shown; by the installed program."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PROGRAM = (sys.executable, "-c", "from contest_core.cli import main; main()")

Contest = Callable[..., subprocess.CompletedProcess[str]]

MISTAKES = """\
JobName: many mistakes
Version: "2.0"
Runs: -1
RunInterval: 5 minutes
Colour: blue
Tags: [good, good, "no tag", _internal]
TestDescriptors:
  - TargetManagerName: TargetLis
    TargetManagerAcquireParameters: {Targets: [{ID: a}]}
    TargetManagerReleaseParameters: {}
    TestFetcherName: literal
    TestFetcherFetchParameters:
      TestName: first
      Steps:
        - name: ecko
          label: one
          parameters: {text: [x]}
        - name: echo
          label: two words
          parameters: {text: ["{{ .ID"]}
        - name: cmd
          label: three
          parameters:
            executabel: [ls]
            emit_stdout: [maybe]
        - name: sleep
          label: three
          parameters: {duration: [soon]}
  - TargetManagerName: TargetList
    TargetManagerAcquireParameters: {Targets: [{ID: a}, {ID: a}]}
    TargetManagerReleaseParameters: {}
    TestFetcherName: literal
    TestFetcherFetchParameters:
      Steps:
        - name: echo
          label: four
          parameters: {text: ['{{ StringVar "nobody.name" }} {{ .FQND }}']}
Reporting:
  RunReporters:
    - Name: TargetSuccess
      Parameters: {SuccessExpression: "80%"}
    - Name: noob
"""

PLACES = {
    "2:10": "version 2.0",
    "3:7": "must be from 0",
    "4:14": "a duration has no unit",
    "5:1": "unknown key 'Colour'",
    "6:14": "duplicate tag",
    "6:20": "'no tag'",
    "6:30": "'_internal'",
    "8:24": "did you mean 'TargetList'?",
    "15:17": "did you mean 'echo'?",
    "19:18": "'two words' is no label",
    "20:31": "the template does not parse",
    "24:13": "did you mean 'executable'?",
    "25:26": "'maybe' is neither true nor false",
    "27:18": "a second step is labelled 'three'",
    "28:34": "not a duration",
    "30:37": "target 'a' is there twice",
    "34:7": "the test has no name",
    "37:31": "did you mean 'FQDN'?",
    "41:19": "no success expression",
    "42:13": "did you mean 'noop'?",
}
"""Lines and columns, and a word of what is said there."""


def test_twenty_mistakes_are_twenty_findings_each_at_its_place(contest: Contest, tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(MISTAKES)
    done = contest("validate", "job.yaml")
    assert done.returncode == 2
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    for place, words in PLACES.items():
        assert [line for line in lines if line.startswith(f"job.yaml:{place}: ") and words in line], place
    assert lines[-1] == "contest: job.yaml: 22 findings"
    assert len(lines) == 23


def test_a_job_is_checked_here_and_nothing_is_left(contest: Contest, tmp_path: Path, hello: str) -> None:
    before = sorted(tmp_path.rglob("*"))
    done = contest("validate", input=hello)
    assert (done.returncode, done.stdout, done.stderr) == (0, "<stdin>: OK\n", "")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.fixture
def hello() -> str:
    steps = [{"name": "echo", "label": "say", "parameters": {"text": ["hello {{ .ID }}"]}}]
    test = {
        "TargetManagerName": "TargetList",
        "TargetManagerAcquireParameters": {"Targets": [{"ID": "a"}, {"ID": "b"}]},
        "TargetManagerReleaseParameters": {},
        "TestFetcherName": "literal",
        "TestFetcherFetchParameters": {"TestName": "greet", "Steps": steps},
    }
    reporting = {"RunReporters": [{"Name": "noop"}]}
    return json.dumps({"JobName": "hello", "Runs": 1, "TestDescriptors": [test], "Reporting": reporting})


def test_the_plan_shows_what_each_target_would_be_given(contest: Contest, hello: str) -> None:
    done = contest("validate", "--plan", input=hello)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "job hello: 1 run",
        "  test greet",
        "    targets: a, b  (TargetList)",
        "    1. echo say",
        "         text: hello {{ .ID }}",
        "           a  text: hello a",
        "           b  text: hello b",
        "  after each run: noop",
    ]


def test_the_plan_says_how_many_targets_it_does_not_show(contest: Contest, hello: str) -> None:
    job = json.loads(hello)
    job["TestDescriptors"][0]["TargetManagerAcquireParameters"]["Targets"] = [
        {"ID": f"t{n}"} for n in range(5000)
    ]
    done = contest("validate", "--plan", input=json.dumps(job))
    lines = done.stdout.splitlines()
    assert lines[2].endswith("t9 and 4,990 more  (TargetList)")
    assert lines[-3].split() == ["t99", "text:", "hello", "t99"]
    assert lines[-2].strip() == "4900 more targets not shown"


def test_the_plan_as_json_is_the_answer_of_the_wire(contest: Contest, hello: str) -> None:
    done = contest("validate", "--plan", "--json", input=hello)
    answer = json.loads(done.stdout)
    assert answer["Type"] == "ResponseTypeValidate"
    assert answer["Data"]["Plan"]["Tests"][0]["Steps"][0]["Targets"][1]["Parameters"] == {"text": "hello b"}


LOUD = """
import os
from contest_core import hookimpl

print("printed")
os.write(1, b"written")


@hookimpl
def contest_register_template_functions(registry):
    registry.add("loud", "contest_loud:loud")


def loud():
    print("printed")
    os.write(1, b"written")
    return "noise"
"""


def test_what_a_plugin_prints_does_not_reach_stdout(
    contest: Contest, hello: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = tmp_path / "contest_loud-1.0.dist-info"
    found.mkdir()
    (tmp_path / "contest_loud.py").write_text(LOUD)
    (found / "METADATA").write_text("Metadata-Version: 2.1\nName: contest-loud\nVersion: 1.0\n")
    (found / "entry_points.txt").write_text("[contest]\nloud = contest_loud\n")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    monkeypatch.setenv("PYTHONPATH", path)
    done = contest("validate", "--plan", "--json", input=hello.replace("{{ .ID }}", "{{ loud }}"))
    answer = json.loads(done.stdout)
    assert answer["Data"]["Plan"]["Tests"][0]["Steps"][0]["Targets"][0]["Parameters"] == {
        "text": "hello noise"
    }
    assert done.stderr.count("printed") > 1


@pytest.mark.parametrize(("option", "status"), [((), 2), (("--strict",), 2), (("--no-strict",), 0)])
def test_a_warning_is_an_error_unless_it_is_not_to_be(
    contest: Contest, hello: str, option: tuple[str, ...], status: int
) -> None:
    odd = hello.replace('"Runs"', '"Colour": 1, "Runs"')
    done = contest("validate", *option, input=odd)
    assert done.returncode == status
    assert "warning: unknown key 'Colour'" in done.stderr
    assert ("1 finding" in done.stderr) == bool(status)


def test_an_address_has_a_server_check_it(contest: Contest, hello: str, tmp_path: Path) -> None:
    nobody = contest("validate", "--address", "http://127.0.0.1:9", input=hello)
    assert nobody.returncode == 3
    there: dict[str, Any] = {"input": hello}
    (tmp_path / "pipe.yaml").write_text(
        "listeners: [stdio: {}]\njob_manager: {local: {store: 'sqlite:///s.db'}}\n"
    )
    done = contest(
        "validate",
        "--plan",
        "--address",
        f"stdio:{shlex.join([*PROGRAM, 'serve', '-c', 'pipe.yaml'])}",
        **there,
    )
    assert done.returncode == 0, done.stderr
    assert "b  text: hello b" in done.stdout


def test_here_is_an_address_that_can_do_no_more(contest: Contest, hello: str) -> None:
    done = contest("start", "--address", "here:", input=hello)
    assert done.returncode == 2
    assert "start is not offered by" in done.stderr
