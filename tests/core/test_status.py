"""What a job's status is: ConTest's names, numbers and shape, read from what ConTest's server was recorded to say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from contest_core import (
    ZERO_TIME,
    Finding,
    JobEvent,
    JobState,
    JobStatus,
    Output,
    TargetInfo,
    Waiting,
    WaitingTarget,
)
from contest_core.wire_names import wire_name

RECORDING = Path(__file__).parents[1] / "data" / "contest-http.jsonl"

# ConTest's names, with its numbers.
STATES = [
    "Unknown",
    "JobStateStarted",
    "JobStateCompleted",
    "JobStateFailed",
    "JobStatePaused",
    "JobStatePauseFailed",
    "JobStateCancelling",
    "JobStateCancelled",
    "JobStateCancellationFailed",
]


def recorded_statuses() -> dict[str, Any]:
    lines = [json.loads(line) for line in RECORDING.read_text("utf-8").splitlines()]
    return {
        line["case"]: line["response"]["json"]["Data"]["Status"]
        for line in lines
        if line["request"]["path"] == "/status"
        and (line["response"].get("json") or {}).get("Data", {}).get("Status")
    }


STATUSES = recorded_statuses()


def test_states_have_contests_numbers_and_names() -> None:
    assert [state.wire_name for state in JobState] == STATES
    assert [int(state) for state in JobState] == list(range(9))
    assert [JobState.from_wire(name) for name in STATES] == list(JobState)


def test_a_state_of_a_newer_server_is_unknown_and_no_error() -> None:
    assert JobState.from_wire("JobStateQueued") is JobState.UNKNOWN


def test_a_job_that_ended_stays_so() -> None:
    ended = {state.name for state in JobState if state.ended}
    assert ended == {"COMPLETED", "FAILED", "CANCELLED", "CANCELLATION_FAILED"}


def test_wire_names_are_gos() -> None:
    names = {
        "job_id": "JobID",
        "job_ids": "JobIDs",
        "id": "ID",
        "fqdn": "FQDN",
        "primary_ipv4": "PrimaryIPv4",
        "primary_ipv6": "PrimaryIPv6",
        "tms": "TMS",
        "state_err_msg": "StateErrMsg",
        "test_step_statuses": "TestStepStatuses",
    }
    assert {name: wire_name(name) for name in names} == names


@pytest.mark.parametrize("case", STATUSES)
def test_a_recorded_status_is_read_and_written_again_as_it_was(case: str) -> None:
    recorded = STATUSES[case]
    status = msgspec.convert(recorded, JobStatus, strict=False)
    written = json.loads(msgspec.json.encode(status))
    assert _without_times(written) == _without_times(recorded)


def _without_times(value: Any) -> Any:
    """Times here have microseconds and there nanoseconds, so that only their presence can be compared."""
    if isinstance(value, dict):
        return {
            key: "time" if isinstance(item, str) and key.endswith("Time") else _without_times(item)
            for key, item in value.items()
        }
    return [_without_times(item) for item in value] if isinstance(value, list) else value


def test_gos_zero_time_is_written_as_go_writes_it() -> None:
    assert msgspec.json.encode(ZERO_TIME) == b'"0001-01-01T00:00:00Z"'


def test_a_target_shows_only_what_is_set() -> None:
    assert msgspec.json.encode(TargetInfo(id="T1")) == b'{"ID":"T1"}'
    full = TargetInfo(id="T1", fqdn="t1.lab", primary_ipv4="10.0.0.1", primary_ipv6="::1", tms={"a": 1})
    assert list(json.loads(msgspec.json.encode(full))) == ["ID", "FQDN", "PrimaryIPv4", "PrimaryIPv6", "TMS"]


def test_what_a_job_waits_for_has_the_fields_of_the_design() -> None:
    target = WaitingTarget(id="T1", held_by=3, since=ZERO_TIME, until=ZERO_TIME)
    shown = json.loads(msgspec.json.encode(Waiting(since=ZERO_TIME, targets=[target])))
    assert shown["For"] == "targets"
    assert list(shown) == ["For", "Since", "Targets"]
    assert list(shown["Targets"][0]) == ["ID", "HeldBy", "Since", "Until"]


def test_an_output_has_its_ends_and_its_sizes() -> None:
    assert list(json.loads(msgspec.json.encode(Output()))) == ["Stdout", "StdoutSize", "Stderr", "StderrSize"]


def test_kinds_of_findings_and_of_events_that_a_client_does_not_know_are_passed_on() -> None:
    finding = {"Severity": "fatal", "Code": "unheard_of", "Path": "", "Message": "m", "More": 1}
    assert msgspec.convert(finding, Finding).severity == "fatal"
    event = {
        "SequenceID": 1,
        "EmitTime": "2026-11-23T22:55:01Z",
        "Header": {"JobID": 1, "RunID": None, "TestName": None, "TestAttempt": None, "TestStepLabel": None},
        "Data": {"Target": None, "EventName": "UnheardOf", "Payload": [1]},
        "Phase": "teardown",
    }
    assert msgspec.json.decode(json.dumps(event), type=JobEvent).phase == "teardown"
