"""Answers and their envelopes, held against what ConTest's own server was recorded to say."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from contest_core import (
    RESPONSE_TYPE_TO_NAME,
    EncodedJSON,
    Finding,
    InvalidDescriptor,
    InvalidParameters,
    JobEntry,
    Lock,
    Response,
    ResponseDataList,
    ResponseDataLocks,
    ResponseDataRetry,
    ResponseDataStart,
    ResponseDataStatus,
    ResponseDataStop,
    ResponseDataValidate,
    ResponseDataVersion,
    ResponseType,
    UnknownJob,
    encode,
)
from contest_core.responses import ZERO_DATA

NAMES = ["Start", "Stop", "Status", "Retry", "Version", "List"]


def answer(kind: ResponseType, data: Any, **more: Any) -> Response[Any]:
    return Response(server_id="contest-go", type=kind, data=data, **more)


# Lines of the recording, each with what makes the like of it here. Of errors the words are ours.
RECORDED = [
    (
        '{"ServerID": "contest-go", "Type": "ResponseTypeVersion", "Data": {"Version": 5}, "Error": null}',
        answer(ResponseType.VERSION, ResponseDataVersion(version=5)),
    ),
    (
        '{"ServerID": "contest-go", "Type": "ResponseTypeList", "Data": {"JobIDs": []}, "Error": null}',
        answer(ResponseType.LIST, ResponseDataList(job_ids=[])),
    ),
    (
        '{"ServerID": "contest-go", "Type": "ResponseTypeList", "Data": {"JobIDs": [1, 2]}, "Error": null}',
        answer(ResponseType.LIST, ResponseDataList(job_ids=[1, 2])),
    ),
    (
        '{"ServerID": "contest-go", "Type": "ResponseTypeStart", "Data": {"JobID": 13}, "Error": null}',
        answer(ResponseType.START, ResponseDataStart(job_id=13)),
    ),
    (
        '{"ServerID": "contest-go", "Type": "ResponseTypeStop", "Data": {}, "Error": null}',
        answer(ResponseType.STOP, ResponseDataStop()),
    ),
    (
        '{"ServerID": "contest-go", "Type": "ResponseTypeRetry", "Data": {"JobID": 1, "NewJobID": 0}, "Error": null}',
        answer(ResponseType.RETRY, ResponseDataRetry(job_id=1, new_job_id=0)),
    ),
    (
        '{"ServerID": "contest-go", "Type": "ResponseTypeStatus", "Data": {"Status": null}, '
        '"Error": "there is no job 999999", "Code": "unknown_job"}',
        answer(ResponseType.STATUS, ZERO_DATA[ResponseType.STATUS], error=UnknownJob(job_id=999999)),
    ),
]


def test_contests_types_have_contests_numbers_and_wire_names() -> None:
    wire = [RESPONSE_TYPE_TO_NAME[ResponseType(number)] for number in range(6)]
    assert wire == [f"ResponseType{name}" for name in NAMES]
    assert set(RESPONSE_TYPE_TO_NAME) == set(ResponseType)


@pytest.mark.parametrize(("recorded", "ours"), RECORDED)
def test_an_answer_is_encoded_as_contest_encodes_it_to_the_order_of_its_keys(
    recorded: str, ours: Response[Any]
) -> None:
    assert list(json.loads(encode(ours)).items()) == list(json.loads(recorded).items())


def test_a_request_that_reached_nobody_is_encoded_as_contest_does() -> None:
    error = InvalidParameters(reason="job ID cannot be empty", verb="Status")
    assert encode(error) == b'{"Msg":"Status failed: job ID cannot be empty","Code":"invalid_parameters"}'


def test_every_type_of_answer_has_zero_values_beside_an_error() -> None:
    zeros = {kind: json.loads(encode(answer(kind, ZERO_DATA[kind])))["Data"] for kind in ZERO_DATA}
    assert zeros == {
        ResponseType.START: {"JobID": 0},
        ResponseType.STOP: {},
        ResponseType.STATUS: {"Status": None},
        ResponseType.RETRY: {"JobID": 0, "NewJobID": 0},
        ResponseType.VERSION: {"Version": 0},
        ResponseType.LIST: {"JobIDs": None},
        ResponseType.VALIDATE: {"Findings": None},
        ResponseType.LOCKS: {"Locks": None},
    }


def test_data_knows_the_type_of_its_answer() -> None:
    assert all(type(data).type is kind for kind, data in ZERO_DATA.items())


def test_encoded_data_is_copied_through_byte_for_byte() -> None:
    data = EncodedJSON(b'{"Status":  {"Name":"\xc3\xbc" } }')
    assert b'"Data":' + data.json + b',"Error":null}' in encode(answer(ResponseType.STATUS, data))


def test_what_contest_adds_is_left_out_where_it_says_nothing() -> None:
    finding = Finding(
        severity="warning", code="unknown_key", path="/Foo", message="who is Foo?", nearest="Runs"
    )
    start = ResponseDataStart(job_id=1, warnings=[finding])
    shown = json.loads(encode(answer(ResponseType.START, start)))["Data"]
    assert shown == {
        "JobID": 1,
        "Warnings": [
            {
                "Severity": "warning",
                "Code": "unknown_key",
                "Path": "/Foo",
                "Message": "who is Foo?",
                "Nearest": "Runs",
            }
        ],
    }
    validate = ResponseDataValidate(findings=[finding])
    assert list(json.loads(encode(answer(ResponseType.VALIDATE, validate)))["Data"]) == ["Findings"]


def test_lists_and_locks_have_the_fields_of_the_design() -> None:
    then = datetime(2026, 11, 23, 22, 55, 1, 265103, UTC)
    entry = JobEntry(
        job_id=1,
        name="n",
        state_name="JobStateStarted",
        verdict=None,
        flaky=False,
        requestor="me",
        principal=None,
        tags=["a"],
        start_time=then,
        end_time=None,
    )
    lock = Lock(target="T1", job_id=1, since=then, until=then, token=7)
    jobs = json.loads(encode(answer(ResponseType.LIST, ResponseDataList(job_ids=[1], jobs=[entry]))))
    names = [
        "JobID",
        "Name",
        "State",
        "Verdict",
        "Flaky",
        "Requestor",
        "Principal",
        "Tags",
        "StartTime",
        "EndTime",
    ]
    assert list(jobs["Data"]["Jobs"][0]) == names
    assert jobs["Data"]["Jobs"][0]["StartTime"] == "2026-11-23T22:55:01.265103Z"
    locks = json.loads(encode(answer(ResponseType.LOCKS, ResponseDataLocks(locks=[lock]))))
    assert list(locks["Data"]["Locks"][0]) == ["Target", "JobID", "Since", "Until", "Token"]


def test_capabilities_stand_beside_the_version() -> None:
    data = ResponseDataVersion(version=5, capabilities=["list", "start"])
    shown = json.loads(encode(answer(ResponseType.VERSION, data)))["Data"]
    assert shown == {"Version": 5, "Capabilities": ["list", "start"]}


def test_html_is_not_escaped_and_what_utf8_cannot_say_is() -> None:
    finding = Finding(severity="error", code="x", path="", message="a <b> & \udcff")
    shown = json.loads(encode(InvalidDescriptor(findings=[finding])))
    assert shown["Msg"].endswith("a <b> & \\udcff")
    assert b"<b>" in encode(InvalidDescriptor(findings=[finding]))


def test_a_result_is_the_data_or_raises_the_error() -> None:
    data = ResponseDataStart(job_id=1)
    assert answer(ResponseType.START, data).result() is data
    error = UnknownJob(job_id=1)
    with pytest.raises(UnknownJob) as raised:
        answer(ResponseType.STATUS, ResponseDataStatus(status=None), error=error).result()
    assert raised.value is error
