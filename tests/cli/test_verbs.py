"""The commands that ask a server, against one that answers as it is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from contest_core import (
    ConnectionLost,
    ContestError,
    Finding,
    InternalError,
    JobState,
    Lock,
    Overloaded,
    ResponseDataList,
    ResponseDataLocks,
    ResponseDataRetry,
    ResponseDataStart,
    ResponseDataStatus,
    ResponseDataStop,
    ResponseDataValidate,
    StartKeyConflict,
    UnknownJob,
    Unreachable,
    encode,
    repeats,
)

Invoke = Callable[..., Result]

JOB = 'JobName: smoke\nVersion: "1.0"\nTestDescriptors: [{TestFetcherName: literal}]\n'


@pytest.fixture
def job(tmp_path: Path) -> str:
    file = tmp_path / "job.yaml"
    file.write_text(JOB)
    return str(file)


@pytest.fixture
def started(server: Any) -> None:
    server.answers["start"] = [server.answer(ResponseDataStart(job_id=7))]


# --- start


@pytest.mark.usefixtures("started")
def test_start_prints_the_number_of_the_job(invoke: Invoke, server: Any, job: str) -> None:
    result = invoke("start", job)
    assert (result.exit_code, result.stdout) == (0, "7\n")
    (sent,) = server.calls("start")
    assert json.loads(sent["jobDesc"])["JobName"] == "smoke"


@pytest.mark.usefixtures("started")
def test_a_descriptor_is_read_from_stdin_where_no_file_is_given(invoke: Invoke, server: Any) -> None:
    assert invoke("start", stdin='{"JobName": "piped", "Version": "1.0"}').exit_code == 0
    assert invoke("start", "-", stdin="JobName: piped").exit_code == 0
    assert [json.loads(sent["jobDesc"])["JobName"] for sent in server.calls("start")] == ["piped", "piped"]


@pytest.mark.usefixtures("started")
def test_every_start_carries_a_start_key_of_its_own_where_the_server_offers_them(
    invoke: Invoke, server: Any, job: str
) -> None:
    invoke("start", job)
    invoke("start", job)
    keys = [sent["startKey"] for sent in server.calls("start")]
    assert len(set(keys)) == 2
    assert all(len(key) == 32 for key in keys)


@pytest.mark.usefixtures("started")
def test_a_server_without_start_keys_is_sent_none(invoke: Invoke, server: Any, job: str) -> None:
    server.offer("start")
    assert invoke("start", job).exit_code == 0
    assert "startKey" not in server.calls("start")[0]


@pytest.mark.parametrize("option", [("--start-key", "k"), ("--strict",)])
def test_what_a_server_does_not_offer_is_refused_before_it_could_ignore_it(
    invoke: Invoke, server: Any, job: str, option: tuple[str, ...]
) -> None:
    server.offer("start")
    result = invoke("start", job, *option)
    assert result.exit_code == 2
    assert f"{option[0]} is not offered by fake:" in result.stderr
    assert server.calls("start") == []


def test_a_start_whose_answer_was_lost_is_sent_again_with_its_key(
    invoke: Invoke, server: Any, job: str
) -> None:
    lost = ConnectionLost(address="fake:", reason="it went away")
    server.answers["start"] = [lost, Unreachable(address="fake:", reason="not yet"), None]
    server.answers["start"][2] = server.answer(ResponseDataStart(job_id=7))
    result = invoke("start", job)
    assert (result.exit_code, result.stdout) == (0, "7\n")
    assert len({sent["startKey"] for sent in server.calls("start")}) == 1
    assert result.stderr.count("asking again in") == 2


def test_without_a_start_key_a_lost_answer_is_not_asked_for_again(
    invoke: Invoke, server: Any, job: str
) -> None:
    server.offer("start")
    server.answers["start"] = [ConnectionLost(address="fake:", reason="it went away")]
    result = invoke("start", job)
    assert result.exit_code == 3
    assert len(server.calls("start")) == 1


def test_asking_again_ends(invoke: Invoke, server: Any, job: str) -> None:
    server.answers["start"] = [encode(Overloaded(seconds=3))]
    result = invoke("start", job, "--timeout", "0.1")
    assert result.exit_code == 3
    assert len(server.calls("start")) > 4
    assert "it is safe to ask again" in result.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    "error", [Unreachable(address="fake:", reason="refused"), InternalError(request_id="x-1")]
)
def test_a_wrong_address_and_a_fault_are_told_at_once(
    invoke: Invoke, server: Any, job: str, error: ContestError
) -> None:
    server.answers["list"] = [error]
    result = invoke("list")
    assert result.exit_code == 3
    assert len(server.calls("list")) == 1
    assert result.stderr.splitlines()[0] == f"contest: {error.message}"


def test_findings_are_shown_at_their_line_and_column(invoke: Invoke, server: Any, tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text('Version: "1.0"\nTestDescriptors:\n  - steps:\n      - name: ecko\nTgas: [a]\n')
    findings = [
        Finding(severity="warning", code="unknown_key", path="/Tgas", message="unknown key", nearest="Tags"),
        Finding(
            severity="error",
            code="unknown_step",
            path="/TestDescriptors/0/steps/0/name",
            message='unknown step "ecko"',
            nearest="echo",
        ),
    ]
    refused = ContestError("the descriptor is refused", code="invalid_descriptor")
    server.answers["start"] = [server.answer(ResponseDataStart(job_id=0, findings=findings), refused)]
    result = invoke("start", str(file))
    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        f'{file}:4:15: error: unknown step "ecko", did you mean "echo"?',
        f'{file}:5:1: warning: unknown key, did you mean "Tags"?',
        f"contest: {file}: the job is refused: 1 error",
    ]


def test_warnings_are_shown_beside_the_number(invoke: Invoke, server: Any, job: str) -> None:
    warning = Finding(severity="warning", code="odd", path="/JobName", message="an odd name")
    server.answers["start"] = [server.answer(ResponseDataStart(job_id=7, warnings=[warning]))]
    result = invoke("start", job)
    assert (result.exit_code, result.stdout) == (0, "7\n")
    assert result.stderr == f"{job}:1:10: warning: an odd name\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it is empty"),
        ("[1, 2]", "this is a list"),
        ("a: [", "expected"),
        ("Version: 1.0\nJobName: x", 'Version is text: write "1.0", in quotes'),
        ('{"a": }', "expected a value"),
    ],
)
def test_a_file_that_is_no_descriptor_is_refused_here(
    invoke: Invoke, server: Any, text: str, message: str
) -> None:
    result = invoke("start", "-", stdin=text)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.startswith("<stdin>:")
    assert server.asked == []


@pytest.mark.usefixtures("started")
@pytest.mark.parametrize("text", ['{"JobName": "x"}', "JobName: x"])
def test_a_missing_version_is_1_0_as_with_contests_own_client(invoke: Invoke, server: Any, text: str) -> None:
    assert invoke("start", stdin=text).exit_code == 0
    assert json.loads(server.calls("start")[0]["jobDesc"]) == {"Version": "1.0", "JobName": "x"}


@pytest.mark.usefixtures("started")
def test_json_goes_out_as_it_was_written(invoke: Invoke, server: Any) -> None:
    text = '{"version": "1.0", "A": 1, "A": 2}'
    invoke("start", stdin=text)
    assert server.calls("start")[0]["jobDesc"] == text


def test_a_file_that_cannot_be_read_is_named(invoke: Invoke, tmp_path: Path) -> None:
    for path, words in ((tmp_path / "none.yaml", "No such file"), (tmp_path, "directory")):
        result = invoke("start", str(path))
        assert result.exit_code == 2
        assert str(path) in result.stderr
        assert words in result.stderr


def test_validate_asks_a_server_where_nothing_here_knows_jobs(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch, job: str
) -> None:
    monkeypatch.delenv("CONTEST_ADDRESS")
    result = invoke("validate", job)
    assert result.exit_code == 2
    assert "http://localhost:8080: there is no client for http:" in result.stderr


# --- the others


def test_stop_says_that_it_was_accepted(invoke: Invoke, server: Any) -> None:
    server.answers["stop"] = [server.answer(ResponseDataStop())]
    result = invoke("stop", "7")
    assert result.exit_code == 0
    assert "job 7 is being stopped" in result.stdout
    assert server.calls("stop")[0]["jobID"] == 7


def test_retry_prints_the_number_of_the_new_job(invoke: Invoke, server: Any) -> None:
    server.answers["retry"] = [server.answer(ResponseDataRetry(job_id=7, new_job_id=8))]
    result = invoke("retry", "7")
    assert (result.exit_code, result.stdout) == (0, "8\n")


def test_a_refusal_exits_by_the_table(invoke: Invoke, server: Any) -> None:
    server.answers["stop"] = [server.answer(ResponseDataStop(), UnknownJob(job_id=7))]
    result = invoke("stop", "7")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr == f"contest: {UnknownJob(job_id=7).message}\n"


def test_jobs_are_listed_the_newest_first(invoke: Invoke, server: Any) -> None:
    jobs = [server.entry(1), server.entry(2, state_name="JobStateStarted", verdict=None, end_time=None)]
    server.answers["list"] = [server.answer(ResponseDataList(job_ids=[1, 2], jobs=jobs))]
    result = invoke("list")
    header, second, first = result.stdout.splitlines()
    assert header.split() == ["JOB", "NAME", "STATE", "VERDICT", "REQUESTOR", "STARTED", "ENDED"]
    assert second.split()[:5] == ["2", "job-2", "started", "-", "alice"]
    assert first.split()[:5] == ["1", "job-1", "completed", "passed", "alice"]
    assert first.index("passed") == header.index("VERDICT")


def test_a_server_that_lists_numbers_only_is_shown_as_such(invoke: Invoke, server: Any) -> None:
    server.answers["list"] = [server.answer(ResponseDataList(job_ids=[3, 11]))]
    assert invoke("list").stdout.split() == ["JOB", "11", "3"]


def test_no_jobs_leave_stdout_empty(invoke: Invoke, server: Any) -> None:
    server.answers["list"] = [server.answer(ResponseDataList(job_ids=[]))]
    result = invoke("list")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "no jobs\n")


@pytest.mark.parametrize(
    "options",
    [
        ("--state", "completed", "--state", "cancellation-failed"),
        ("--state", "JobStateCompleted,JobStateCancellationFailed"),
        ("--states", "Completed,cancellation_failed"),
    ],
)
def test_states_are_given_in_short_or_by_their_wire_names(
    invoke: Invoke, server: Any, options: tuple[str, ...]
) -> None:
    server.answers["list"] = [server.answer(ResponseDataList(job_ids=[]))]
    assert invoke("list", *options, "--tag", "a,b", "--tag", "c").exit_code == 0
    (sent,) = server.calls("list")
    assert sent["states"] == "JobStateCompleted,JobStateCancellationFailed"
    assert sent["tags"] == "a,b,c"


def test_a_misspelt_state_is_answered_with_the_nearest(invoke: Invoke, server: Any) -> None:
    result = invoke("list", "--state", "complted")
    assert result.exit_code == 2
    assert "no such state 'complted', did you mean 'completed'?" in result.stderr
    assert server.asked == []


def test_locks_are_listed(invoke: Invoke, server: Any) -> None:
    noon = datetime(2026, 1, 2, 12, tzinfo=UTC)
    lock = Lock(target="board-1", job_id=7, since=noon, until=noon, token=3)
    server.answers["locks"] = [server.answer(ResponseDataLocks(locks=[lock]))]
    assert invoke("locks").stdout.splitlines()[1].split()[:2] == ["board-1", "7"]


def test_version_says_who_speaks_what(invoke: Invoke, server: Any) -> None:
    server.offer("list", "start")
    result = invoke("version")
    assert result.stdout.splitlines() == ["server lab at fake:", "API version 5", "offers list, start"]


def test_validate_takes_warnings_for_errors(invoke: Invoke, server: Any, job: str) -> None:
    warning = Finding(severity="warning", code="odd", path="/JobName", message="an odd name")
    server.answers["validate"] = [server.answer(ResponseDataValidate(findings=[]))]
    assert invoke("validate", job).stdout == f"{job}: OK\n"
    server.answers["validate"] = [server.answer(ResponseDataValidate(findings=[warning]))]
    result = invoke("validate", job)
    assert result.exit_code == 2
    assert f"{job}:1:10: warning: an odd name\ncontest: {job}: 1 finding\n" in result.stderr


# --- what they share


@pytest.mark.parametrize("command", [("list",), ("version",), ("locks",), ("status", "7"), ("stop", "7")])
def test_json_prints_what_was_on_the_wire(invoke: Invoke, server: Any, command: tuple[str, ...]) -> None:
    server.answers["list"] = [server.answer(ResponseDataList(job_ids=[1]))]
    server.answers["locks"] = [server.answer(ResponseDataLocks(locks=[]))]
    server.answers["status"] = [server.answer(ResponseDataStatus(status=server.status()))]
    server.answers["stop"] = [server.answer(ResponseDataStop())]
    result = invoke(*command, "--json")
    assert result.exit_code == 0
    assert result.stdout_bytes == server.answers[command[0]][0] + b"\n"


def test_json_prints_a_refusal_too(invoke: Invoke, server: Any) -> None:
    refused = server.answer(ResponseDataStop(), UnknownJob(job_id=7))
    server.answers["stop"] = [refused]
    result = invoke("stop", "7", "--json")
    assert (result.exit_code, result.stdout_bytes) == (2, refused + b"\n")


def test_an_answer_that_is_not_contests_is_an_error(invoke: Invoke, server: Any) -> None:
    server.answers["locks"] = [b"<html>"]
    result = invoke("locks")
    assert result.exit_code == 3
    assert "is not Contest's" in result.stderr


def test_a_read_is_asked_again_and_a_stop_is_not(invoke: Invoke, server: Any) -> None:
    lost = ConnectionLost(address="fake:", reason="it went away")
    server.answers["locks"] = [lost, server.answer(ResponseDataLocks(locks=[]))]
    assert invoke("locks").exit_code == 0
    server.answers["stop"] = [lost, server.answer(ResponseDataStop())]
    assert invoke("stop", "7").exit_code == 3
    assert len(server.calls("stop")) == 1


def test_the_requestor_is_the_user_cut_to_32_bytes(
    invoke: Invoke, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "é" * 20)
    server.answers["locks"] = [server.answer(ResponseDataLocks(locks=[]))]
    invoke("locks")
    invoke("locks", "-r", "bob")
    assert [sent["requestor"] for sent in server.calls("locks")] == ["é" * 16, "bob"]


def test_a_token_comes_from_the_environment_and_the_timeout_from_its_option(
    invoke: Invoke, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONTEST_TOKEN", "hush")
    invoke("version", "--timeout", "2.5")
    (options,) = server.connections
    assert (options.token, options.timeout) == ("hush", 2.5)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("gopher://x", "gopher://x: there is no client for gopher:"),
        ("gopher://x", "an example is http://localhost:8080"),
        ("localhost:8080", "localhost:8080: an address begins with a scheme"),
        ("localhost:8080", "did you mean http://localhost:8080?"),
        ("lab.example", "did you mean http://lab.example?"),
        ("", "the address is empty"),
    ],
)
def test_an_address_without_a_known_scheme_is_wrong_and_told_which_there_are(
    invoke: Invoke, server: Any, address: str, words: str
) -> None:
    result = invoke("version", "-a", address)
    assert result.exit_code == 2
    assert words in result.stderr
    assert "; the schemes are fake:; " in result.stderr
    assert "contest serve" not in result.stderr
    assert server.connections == []


def test_asking_again_takes_no_longer_than_the_timeout(
    invoke: Invoke, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = 0.0

    def answering() -> None:
        nonlocal clock
        clock += 4.0

    monkeypatch.setattr(repeats, "now", lambda: clock)
    server.answers["list"] = [encode(Overloaded(seconds=3))]
    server.then["list"] = answering
    result = invoke("list", "--timeout", "10")
    assert result.exit_code == 3
    assert clock == 12.0


def test_a_server_that_never_has_done_with_its_answer_is_given_up(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def for_ever(self: Any, verb: str, parameters: object) -> bytes:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(repeats, "SLACK", 0.0)
    monkeypatch.setattr("fake_contest_client.FakeClient.call", for_ever)
    result = invoke("list", "--timeout", "0.05")
    assert result.exit_code == 3
    assert result.stderr.splitlines()[-1].startswith("contest: no answer to list within 0.05 s")


def test_a_server_that_is_not_there_is_answered_with_how_to_start_one(invoke: Invoke, server: Any) -> None:
    server.answers["version"] = [Unreachable(address="fake:", reason="refused")]
    assert "`contest serve` starts a server" in invoke("version").stderr


def test_a_conflict_of_start_keys_is_a_wrong_request(invoke: Invoke, server: Any, job: str) -> None:
    conflict = ContestError("the key has another descriptor", code=StartKeyConflict.code)
    server.answers["start"] = [server.answer(ResponseDataStart(job_id=0), conflict)]
    assert invoke("start", job, "--start-key", "k").exit_code == 2


def test_a_fault_of_the_program_is_no_verdict(invoke: Invoke, server: Any) -> None:
    server.answers["locks"] = [ZeroDivisionError("oops")]
    result = invoke("locks")
    assert result.exit_code == 3
    assert "Traceback" in result.stderr
    assert "a fault of the program" in result.stderr


def test_status_asks_for_no_events_where_people_read_it(invoke: Invoke, server: Any) -> None:
    server.answers["status"] = [server.answer(ResponseDataStatus(status=server.status(JobState.STARTED)))]
    invoke("status", "7")
    invoke("status", "7", "--json")
    invoke("status", "7", "--json", "--no-events", "--run", "2")
    assert [sent.get("events") for sent in server.calls("status")] == [False, None, False]
    assert server.calls("status")[2]["run"] == 2
    server.offer("status")
    invoke("status", "7")
    assert "events" not in server.calls("status")[3]


def test_the_filters_of_a_list_are_sent_and_the_next_page_is_told(invoke: Invoke, server: Any) -> None:
    server.offer("list.requestors", "list.name", "list.since", "list.until", "list.limit")
    jobs = [server.entry(1)]
    server.answers["list"] = [server.answer(ResponseDataList(job_ids=[1], jobs=jobs, cursor="c1"))]
    result = invoke(
        "list",
        "--by",
        "ann,bob",
        "--by",
        "eve",
        "--name",
        "n*",
        "--since",
        "2026-11-25T10:00:00+01:00",
        "--limit",
        "1",
    )
    assert result.exit_code == 0, result.stderr
    sent = server.calls("list")[0]
    assert (sent["requestors"], sent["name"], sent["limit"]) == ("ann,bob,eve", "n*", 1)
    assert sent["since"] in ("2026-11-25T09:00:00Z", "2026-11-25T10:00:00+01:00")
    assert result.stderr == "there are older ones: --cursor c1\n"


def test_a_filter_that_the_server_does_not_offer_is_not_sent(invoke: Invoke, server: Any) -> None:
    result = invoke("list", "--name", "x")
    assert result.exit_code == 2
    assert "--name is not offered" in result.stderr
    assert server.calls("list") == []


def test_a_time_may_be_a_day_or_how_long_ago(invoke: Invoke, server: Any) -> None:
    server.offer("list.since", "list.until")
    for given in ("2026-11-25", "36h", "90m"):
        server.answers["list"] = [server.answer(ResponseDataList(job_ids=[]))]
        assert invoke("list", "--since", given).exit_code == 0
    result = invoke("list", "--until", "yesterday")
    assert result.exit_code == 2
    assert "is no time; write one like" in result.stderr
