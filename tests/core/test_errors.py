"""The one table of errors, and the classes that are made from it."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest

from contest_core import (
    ERRORS,
    AnswerTimeout,
    ConnectionLost,
    ContestError,
    Denied,
    Exposed,
    Finding,
    IncompatibleVersion,
    InternalError,
    Interrupted,
    InvalidDescriptor,
    InvalidMessage,
    InvalidParameters,
    JobEnded,
    JobRunning,
    Overloaded,
    Refusal,
    Refused,
    Repeat,
    RequestError,
    ServerError,
    ShuttingDown,
    StartKeyConflict,
    TooLarge,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
    UnknownJob,
    UnknownVerb,
    Unreachable,
    Unsupported,
    errors,
)
from contest_core.errors import error_from_wire

# The table of the contract, as it is written there: code, repeat, HTTP, JSON-RPC, exit.
TABLE = """
| `invalid_message` | no | 400 | -32700, -32600 | 2 |
| `unknown_verb` | no | 400 | -32601 | 2 |
| `invalid_parameters` | no | 400 | -32602 | 2 |
| `incompatible_version` | no | 400 | -32001 | 2 |
| `invalid_descriptor` | no | 200 | -32010 | 2 |
| `unknown_job` | no | 200 | -32011 | 2 |
| `job_running` | no | 200 | -32012 | 2 |
| `job_ended` | no | 200 | -32013 | 2 |
| `start_key_conflict` | no | 200 | -32014 | 2 |
| `unsupported` | no | 200 | -32015 | 2 |
| `refused` | no | 200 | -32016 | 2 |
| `unauthenticated` | no | 401 | -32020 | 2 |
| `denied` | no | 403 | -32021 | 2 |
| `too_large` | no | 413 | -32022 | 2 |
| `too_many_requests` | yes | 429 | -32023 | 3 |
| `overloaded` | yes | 503 | -32030 | 3 |
| `shutting_down` | yes | 503 | -32031 | 3 |
| `unavailable` | yes | 503 | -32032 | 3 |
| `timeout` | with a start key | 504 | -32033 | 3 |
| `interrupted` | with a start key | 503 | -32034 | 3 |
| `internal` | with a start key | 500 | -32603 | 3 |
"""
ROWS = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in TABLE.split("\n") if line]

FINDING = Finding(severity="error", code="unknown_step", path="/a", message="no step nope")

SAMPLES: dict[type[ContestError], Callable[[], ContestError]] = {
    InvalidMessage: lambda: InvalidMessage(reason="it is empty"),
    UnknownVerb: lambda: UnknownVerb(verb="statuz", known=["status"], nearest="status"),
    InvalidParameters: lambda: InvalidParameters(reason="jobID: no", parameter="jobID", verb="Status"),
    IncompatibleVersion: lambda: IncompatibleVersion(asked=6, spoken=5),
    Unauthenticated: Unauthenticated,
    Denied: lambda: Denied(principal="ci", verb="stop"),
    TooLarge: lambda: TooLarge(what="the answer", limit=1000, size=2000, hint="ask for a run"),
    TooManyRequests: lambda: TooManyRequests(reason="too fast", retry_after=1.5),
    InvalidDescriptor: lambda: InvalidDescriptor(findings=[FINDING]),
    UnknownJob: lambda: UnknownJob(job_id=7),
    JobRunning: lambda: JobRunning(job_id=7, state="JobStateStarted"),
    JobEnded: lambda: JobEnded(job_id=7, state="JobStateCompleted"),
    StartKeyConflict: lambda: StartKeyConflict(start_key="k", job_id=7, difference="Runs: 1, not 2"),
    Unsupported: lambda: Unsupported(what="watch", by="this wire"),
    Refused: lambda: Refused("Not implemented"),
    Overloaded: lambda: Overloaded(seconds=3.0),
    ShuttingDown: ShuttingDown,
    Unavailable: lambda: Unavailable(reason="the disk is full"),
    AnswerTimeout: lambda: AnswerTimeout(seconds=3.0, verb="start"),
    Interrupted: Interrupted,
    InternalError: lambda: InternalError(request_id="a-1"),
    Unreachable: lambda: Unreachable(address="http://x", reason="refused"),
    ConnectionLost: lambda: ConnectionLost(address="http://x", reason="reset"),
}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_row_says_what_the_contract_says(row: list[str]) -> None:
    code, repeat, http, rpc, status = row
    found = ERRORS[code]
    assert found.repeat.value == repeat
    assert found.http == int(http)
    assert found.rpc == int(rpc.split(",")[-1])
    assert found.exit == int(status)


def test_the_table_has_the_contracts_rows_in_its_order_and_then_the_clients_own() -> None:
    assert list(ERRORS) == [row[0] for row in ROWS] + ["unreachable", "connection_lost"]
    assert ERRORS["unreachable"].repeat is Repeat.YES
    assert ERRORS["connection_lost"].repeat is Repeat.WITH_START_KEY
    assert all(ERRORS[code].http is None and ERRORS[code].exit == 3 for code in list(ERRORS)[-2:])


def test_no_two_rows_have_one_number_in_json_rpc() -> None:
    numbers = [row.rpc for row in ERRORS.values()]
    assert len(set(numbers)) == len(numbers)


def test_every_code_has_one_class() -> None:
    assert {kind.code for kind in SAMPLES} == set(ERRORS)
    assert {kind.__name__ for kind in SAMPLES} <= set(dir(errors))


def test_the_tree_at_the_head_of_the_module_is_the_tree() -> None:
    drawn: dict[str, list[str]] = {}
    root = ""
    for line in (errors.__doc__ or "").splitlines():
        branch, _, rest = line.partition("── ")
        if rest and len(branch) == len("    ├"):
            root = rest.split()[0]
        elif rest:
            drawn.setdefault(root, []).append(rest.split()[0])
    real = {
        root.__name__: [kind.__name__ for kind in root.__subclasses__() if kind.__module__ == errors.__name__]
        for root in (RequestError, Refusal, ServerError)
    }
    assert drawn == real


@pytest.mark.parametrize("kind", SAMPLES, ids=lambda kind: kind.code)
def test_the_root_of_a_class_says_whose_fault_it_is(kind: type[ContestError]) -> None:
    row = ERRORS[kind.code]
    refused = row.http == 200
    assert issubclass(kind, Refusal) == refused
    assert issubclass(kind, ServerError) == (row.http is None or row.http >= 500)
    assert issubclass(kind, RequestError) == (not refused and not issubclass(kind, ServerError))


@pytest.mark.parametrize("kind", SAMPLES, ids=lambda kind: kind.code)
def test_an_error_knows_its_row(kind: type[ContestError]) -> None:
    error = SAMPLES[kind]()
    assert error.row == ERRORS[kind.code]
    assert error.exit_code == error.row.exit
    assert error.safe_to_repeat == (error.row.repeat is Repeat.YES)
    assert str(error) == error.message != ""


@pytest.mark.parametrize("kind", SAMPLES, ids=lambda kind: kind.code)
def test_an_error_survives_pickling_and_copying_with_its_facts(kind: type[ContestError]) -> None:
    error = SAMPLES[kind]()
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(other) is kind
        assert other.message == error.message
        assert vars(other) == vars(error)


@pytest.mark.parametrize("kind", SAMPLES, ids=lambda kind: kind.code)
def test_an_error_from_a_wire_is_of_its_class_with_the_servers_words_and_no_facts(
    kind: type[ContestError],
) -> None:
    error = error_from_wire(kind.code, "so it is")
    assert type(error) is kind
    assert error.message == str(error) == "so it is"
    facts = {name for name in vars(SAMPLES[kind]()) if name != "message"}
    assert all(not getattr(error, name) for name in facts)


def test_a_code_that_this_program_does_not_know_stays_and_counts_as_internal() -> None:
    error = error_from_wire("quota_exceeded", "no")
    assert type(error) is ContestError
    assert error.code == "quota_exceeded"
    assert error.row == ERRORS["internal"]
    assert error_from_wire(None, "no").code == "internal"


@pytest.mark.parametrize("code", ["invalid_parameters", "quota_exceeded", None])
def test_a_refusal_is_an_answer_whatever_its_code(code: str | None) -> None:
    refusal = Refusal("no", code=code)
    assert refusal.row == ERRORS.get(code or "", ERRORS["internal"])._replace(http=200)


def test_bytes_that_are_no_json_have_the_number_of_a_parse_error() -> None:
    assert InvalidMessage(reason="x", parse=True).row.rpc == -32700
    assert InvalidMessage(reason="x").row.rpc == -32600


def test_a_timeout_of_a_start_says_that_a_start_key_makes_it_safe_to_ask_again() -> None:
    words = AnswerTimeout(seconds=3.0, verb="start").message
    assert "the job may exist" in words
    assert "`list`" in words
    assert "start key" in words
    assert "start key" in Interrupted(verb="start").message


def test_a_timeout_of_what_only_reads_does_not_frighten() -> None:
    assert "may have happened" not in AnswerTimeout(seconds=3.0, verb="list", reads=True).message
    assert "may have happened" in AnswerTimeout(seconds=3.0, verb="stop").message


def test_what_nothing_happened_says_so() -> None:
    for error in (Overloaded(seconds=3.0), ShuttingDown()):
        assert "nothing happened" in error.message


def test_a_refused_descriptor_shows_its_first_findings_and_keeps_all() -> None:
    findings = [Finding(severity="error", code="x", path=f"/{n}", message=f"wrong {n}") for n in range(5)]
    error = InvalidDescriptor(findings=findings)
    assert "/0: wrong 0" in error.message
    assert "/3" not in error.message
    assert "(and 2 more)" in error.message
    assert error.findings == tuple(findings)


def test_an_unknown_verb_is_shown_escaped_and_cut() -> None:
    error = UnknownVerb(verb="\x1b[31m" + "x" * 10_000)
    assert "\x1b" not in error.message
    assert len(error.message) < 200


def test_an_exposed_listener_is_told_what_it_can_do() -> None:
    error = Exposed(listener="http", where="0.0.0.0")
    assert "http" in error.message
    assert "allow_anonymous" in error.message
    assert error.exit_code == 2


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            TooLarge(what="the request", limit=16 << 20, size=20_000_000, setting="max_request"),
            "the request has 20,000,000 bytes, the limit is 16,777,216 (16 MiB); the setting 'max_request' raises it",
        ),
        (
            TooLarge(what="the answer", limit=1000, hint="ask for a run"),
            "the answer has more bytes than the limit, 1,000; ask for a run",
        ),
        (
            TooLarge(what="the batch", limit=1000, size=1001, unit="requests"),
            "the batch has 1,001 requests, the limit is 1,000",
        ),
    ],
)
def test_what_is_too_large_says_its_size_the_limit_and_the_setting(error: TooLarge, message: str) -> None:
    assert error.message == message
