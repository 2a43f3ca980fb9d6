"""What is asked of the server when schemathesis tests it, beyond what the document says.

Loaded by `schemathesis.toml`. The document is right about all that is left out here, and cannot say it: what counts
are bytes, what a cursor is only the server knows, and a watch without a job has no end.
"""

from __future__ import annotations

import json
from typing import Any

import schemathesis

MAX_REQUESTOR_BYTES = 32
MAX_START_KEY_BYTES = 256

NEEDED = ("requestor", "jobID", "jobDesc")
"""What no form may leave empty; of all else an empty text is none, on ConTest's wire."""

STEP = {"name": "echo", "label": "say", "parameters": {"text": ["hello"]}}
TEST = {
    "TargetManagerName": "TargetList",
    "TargetManagerAcquireParameters": {"Targets": [{"ID": "a"}]},
    "TargetManagerReleaseParameters": {},
    "TestFetcherName": "literal",
    "TestFetcherFetchParameters": {"TestName": "test", "Steps": [STEP]},
}
JOB = {
    "JobName": "job",
    "Version": "1.0",
    "Runs": 1,
    "TestDescriptors": [TEST],
    "Reporting": {"RunReporters": [{"Name": "noop"}]},
}


@schemathesis.hook
def map_body(context: schemathesis.HookContext, body: Any) -> Any:
    """Half of the descriptors are of a job that runs, half of the numbers a job's: generated ones never are."""
    if not isinstance(body, dict):
        return body
    given = body.get("jobDesc")
    if isinstance(given, dict) and len(given) % 2 == 0:
        body = {**body, "jobDesc": JOB}
    elif isinstance(given, str) and len(given) % 2 == 1:
        body = {**body, "jobDesc": json.dumps(JOB)}
    return _of_a_job(body)


@schemathesis.hook
def map_query(context: schemathesis.HookContext, query: Any) -> Any:
    """As of bodies."""
    return _of_a_job(query) if isinstance(query, dict) else query


def _of_a_job(given: dict[str, Any]) -> dict[str, Any]:
    number = given.get("jobID")
    # What is no number at all is there to be refused, and stays.
    replaced = type(number) is int and number % 2 and -(2**63) <= number < 2**63
    return {**given, "jobID": 1} if replaced else given


@schemathesis.hook
def filter_case(context: schemathesis.HookContext, case: schemathesis.Case) -> bool:
    """Whether this is worth asking."""
    query = case.query or {}
    given = case.body if isinstance(case.body, dict) else query
    if case.path == "/events" and "requestor" in query:
        resumed = "since" in query or (case.headers or {}).get("Last-Event-ID")
        if not query.get("jobID") or resumed:
            return False
    in_form = case.media_type != "application/json"
    return (
        not (in_form and any(value == "" for name, value in given.items() if name not in NEEDED))
        and given.get("cursor") is None
        and _fits(given.get("requestor"), MAX_REQUESTOR_BYTES)
        and _fits(given.get("startKey"), MAX_START_KEY_BYTES)
    )


def _fits(value: Any, limit: int) -> bool:
    """Whether a text that has not too many characters has not too many bytes."""
    return not isinstance(value, str) or len(value) > limit or len(value.encode("utf-8", "replace")) <= limit
