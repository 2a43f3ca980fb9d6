"""Descriptors from files, and findings at their places: what plugins' commands use, too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click import unstyle

from contest_core import Finding
from contest_core.cli import descriptor as descriptors
from contest_core.cli.descriptor import finding_line, read_descriptor, show_findings
from contest_core.cli.failures import Failure


def write(folder: Path, text: str, name: str = "job.yaml") -> str:
    file = folder / name
    file.write_text(text)
    return str(file)


def test_yaml_becomes_one_json_object_with_its_text_kept(tmp_path: Path) -> None:
    path = write(tmp_path, 'Version: "1.0"\nJobName: Prüfung\nRuns: 2\nTags: [yes, on]\n')
    made = json.loads(read_descriptor(path).json)
    assert made == {"Version": "1.0", "JobName": "Prüfung", "Runs": 2, "Tags": ["yes", "on"]}


@pytest.mark.parametrize(
    ("text", "made"), [("{}", {"Version": "1.0"}), (' { "a": 1}', {"Version": "1.0", "a": 1})]
)
def test_the_version_is_put_into_json_without_touching_the_rest(
    tmp_path: Path, text: str, made: object
) -> None:
    assert json.loads(read_descriptor(write(tmp_path, text, "job.json")).json) == made


def test_a_version_in_any_case_is_a_version(tmp_path: Path) -> None:
    path = write(tmp_path, '{"VERSION": "1.0"}', "job.json")
    assert read_descriptor(path).json == '{"VERSION": "1.0"}'


def test_more_than_a_descriptor_can_be_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(descriptors, "MAX_BYTES", 8)
    with pytest.raises(Failure, match="that is no job descriptor") as refused:
        read_descriptor(write(tmp_path, "JobName: long"))
    assert refused.value.exit_code == 2


def test_findings_stand_in_the_order_of_the_file_and_errors_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    read = read_descriptor(write(tmp_path, 'Version: "1.0"\nA: {b: 1}\nC: 2\n'))

    def finding(path: str, severity: str = "error", **more: str) -> Finding:
        return Finding(severity=severity, path=path, **{"code": "odd", "message": "odd", **more})

    findings = [finding("/C"), finding("/A/b"), finding("/A", code="unknown_key"), finding("/Z/9", "warning")]
    assert show_findings(findings, read) == 3
    places = [line.removeprefix(read.document.source) for line in capsys.readouterr().err.splitlines()]
    assert places == [":1:1: warning: odd", ":2:1: error: odd", ":2:8: error: odd", ":3:4: error: odd"]


def test_the_nearest_name_is_told_once(tmp_path: Path) -> None:
    read = read_descriptor(write(tmp_path, "A: 1\n"))
    first = Finding(severity="error", code="x", path="/A", message="unknown", nearest="B")
    assert unstyle(finding_line(first, read.document)).endswith('1:4: error: unknown, did you mean "B"?')
    second = Finding(severity="error", code="x", path="/A", message="unknown, perhaps B", nearest="B")
    assert finding_line(second, read.document).endswith("unknown, perhaps B")
