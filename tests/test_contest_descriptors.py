"""Descriptors are accepted, refused and run as by ConTest's Go server, whose outcomes `tests/data` has.

Each line of the file has a descriptor, the files that it wants and the ones to look at when the job has ended, and what
came of it: times, identifiers of jobs and words of errors are left out, and so is all in which ConTest's answer is a
defect. `%OUT%` is a folder of the case's own, `%OPEN%` a port that is open, `%CLOSED%` one that is not; targets of
one case are in no other, so that all can run at once.
"""

from __future__ import annotations

import asyncio
import copy
import json
import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from contest_core import InvalidDescriptor
from contest_runner.testing import Lab, Serving

Json: TypeAlias = dict[str, Any]

RECORDED = [
    json.loads(line)
    for line in (Path(__file__).parent / "data" / "contest-descriptors.jsonl").read_text().splitlines()
]

_EXECUTABLE = re.compile(r"/(?:\w+/)*bin/(\w+)")


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Json]:
    """By case, what came of it on our server."""
    folder = tmp_path_factory.mktemp("descriptors")
    with Lab(folder) as lab, _ports() as ports:
        return asyncio.run(_outcomes(lab, ports))


async def _outcomes(lab: Lab, ports: Mapping[str, str]) -> dict[str, Json]:
    jobs: dict[str, int | None] = {}
    async with lab.server() as serving:
        for number, case in enumerate(RECORDED):
            folder = lab.folder / str(number)
            folder.mkdir()
            jobs[case["case"]] = await _start(serving, case, {**ports, "%OUT%": str(folder)})
        return {
            case["case"]: await _outcome(serving, jobs[case["case"]], lab.folder / str(number), case)
            for number, case in enumerate(RECORDED)
        }


@contextmanager
def _ports() -> Iterator[dict[str, str]]:
    with socket.create_server(("127.0.0.1", 0)) as opened, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        yield {"%OPEN%": str(opened.getsockname()[1]), "%CLOSED%": str(closed.getsockname()[1])}


async def _start(serving: Serving, case: Json, words: Mapping[str, str]) -> int | None:
    """The number of the job; None where it is refused."""
    for name, text in case.get("files", {}).items():
        (Path(words["%OUT%"]) / name).write_text(_put(text, words))
    try:
        return await serving.start(_put(case["descriptor"], words))
    except InvalidDescriptor:
        return None


def _put(text: str, words: Mapping[str, str]) -> str:
    for word, value in words.items():
        text = text.replace(word, value)
    return text


# --- an outcome, in the form in which ConTest's are kept


async def _outcome(serving: Serving, job_id: int | None, folder: Path, case: Json) -> Json:
    if job_id is None:
        return {"accepted": False}
    status = await serving.ended(job_id)
    report = status["JobReport"]
    written = {name: folder / name for name in case.get("check", ())}
    return {
        "accepted": True,
        "name": status["Name"],
        "state": status["State"],
        "runs": [
            [_test(test, str(folder)) for test in run["TestStatuses"] or ()]
            for run in status["RunStatuses"] or ()
        ],
        "run reports": [_reports(reports) for reports in report["RunReports"] or ()],
        "final reports": _reports(report["FinalReports"]),
        **{
            f"file {name}": sorted(file.read_text().splitlines()) if file.exists() else None
            for name, file in written.items()
        },
    }


def _reports(reports: list[Json] | None) -> list[Any]:
    """Sorted: in ConTest's memory they have no order."""
    return sorted(([each["ReporterName"], each["Success"], each["Data"]] for each in reports or ()), key=str)


def _test(test: Json, folder: str) -> Json:
    steps = [
        {
            "label": step["TestStepLabel"],
            "step": step["TestStepName"],
            "events": [event["Data"]["EventName"] for event in step["Events"] or ()],
            "targets": {_id(entry): _target(entry, folder) for entry in step["TargetStatuses"] or ()},
        }
        for step in test["TestStepStatuses"]
    ]
    last = {
        _id(entry): [entry["TestStepLabel"], bool(entry["Error"])] for entry in test["TargetStatuses"] or ()
    }
    return {"name": test["TestName"], "steps": steps, "targets": last}


def _id(entry: Json) -> str:
    return str(entry["Target"]["ID"]) if entry["Target"] else "none"


def _target(entry: Json, folder: str) -> Json:
    return {
        "target": entry["Target"],
        "error": bool(entry["Error"]),
        "in": not entry["InTime"].startswith("0001"),
        "out": not entry["OutTime"].startswith("0001"),
        "label": entry["TestStepLabel"],
        "step": entry["TestStepName"],
        "events": _events(entry["Events"] or (), folder),
    }


def _events(events: Any, folder: str) -> list[Any]:
    found = []
    for event in events:
        name, payload = event["Data"]["EventName"], _normal(event["Data"]["Payload"], folder)
        if name == "waitportStart":
            # A number that the system chose, and one that ConTest loses.
            del payload["Port"], payload["CheckInterval"]
        found.append([name, payload])
    # ConTest emits the variables of a step in random order.
    return sorted(found, key=json.dumps) if any(name == "VariableEmitted" for name, _ in found) else found


def _normal(value: Any, folder: str) -> Any:
    if isinstance(value, str):
        return (
            _EXECUTABLE.sub(r"\1", value) if _EXECUTABLE.fullmatch(value) else value.replace(folder, "%OUT%")
        )
    if isinstance(value, list):
        return [_normal(item, folder) for item in value]
    if isinstance(value, dict):
        return {key: _normal(item, folder) for key, item in value.items()}
    return value


# --- the tests


@pytest.mark.parametrize("case", RECORDED, ids=lambda case: case["case"])
def test_a_descriptor_has_the_outcome_that_it_has_with_contest(case: Json, outcomes: dict[str, Json]) -> None:
    assert outcomes[case["case"]] == case["outcome"]


def test_there_are_many_descriptors_of_both_kinds() -> None:
    accepted = [case["outcome"]["accepted"] for case in RECORDED]
    assert accepted.count(True) > 50
    assert accepted.count(False) > 20
    assert len({case["case"] for case in RECORDED}) == len(RECORDED)


def test_an_event_that_is_turned_around_is_noticed(outcomes: dict[str, Json]) -> None:
    (case,) = [case for case in RECORDED if case["case"] == "failing with output"]
    turned = copy.deepcopy(case["outcome"])
    (target,) = turned["runs"][0][0]["steps"][0]["targets"].values()
    assert target["events"].pop() == ["CmdStdout", {"Msg": "out\n"}]
    assert outcomes[case["case"]] == case["outcome"] != turned
