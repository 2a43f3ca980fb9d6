"""`contest watch`: what it shows of events, of gaps, and of a server that goes away."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import Result

from contest_core import ConnectionLost, InternalError, Unreachable
from contest_core.cli import asking

Invoke = Callable[..., Result]

LOST = ConnectionLost(address="fake:", reason="it went away")
AWAY = Unreachable(address="fake:", reason="not yet")


@pytest.fixture(autouse=True)
def offered(server: Any) -> None:
    server.offer("watch")


def event(number: int, name: str) -> bytes:
    header = {"JobID": 7, "RunID": None, "TestName": None, "TestAttempt": None, "TestStepLabel": None}
    data = {"Target": None, "EventName": name, "Payload": None}
    made = {"SequenceID": number, "EmitTime": "2026-11-23T22:55:01Z", "Header": header, "Data": data}
    return json.dumps({"Event": {**made, "Cursor": f"c{number}"}}).encode()


STARTED, ENDED = event(1, "JobStateStarted"), event(2, "JobStateCompleted")


def names(result: Result) -> list[str]:
    return [line.split("  ", 1)[1] for line in result.stdout.splitlines()]


def test_a_server_that_goes_away_is_waited_for_and_nothing_is_shown_twice(
    invoke: Invoke, server: Any
) -> None:
    server.answers["watch"] = [[STARTED, LOST], AWAY, [ENDED]]
    result = invoke("watch", "7")
    assert (result.exit_code, names(result)) == (0, ["job 7  JobStateStarted", "job 7  JobStateCompleted"])
    told = result.stderr.splitlines()
    assert [line.rpartition("; asking again in ")[0] for line in told] == [
        f"contest: {LOST.message}",
        f"contest: {AWAY.message}",
    ]
    assert [sent.get("since") for sent in server.calls("watch")] == [None, "c1", "c1"]


def test_a_server_that_stays_away_ends_it_and_says_how_to_go_on(
    invoke: Invoke, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "PATIENCE", 0.05)
    server.answers["watch"] = [[STARTED, LOST], AWAY]
    for arguments, of in ((("7",), " 7"), ((), "")):
        server.answers["watch"] = [[STARTED, LOST], AWAY]
        result = invoke("watch", *arguments)
        assert (result.exit_code, names(result)) == (3, ["job 7  JobStateStarted"])
        hint = f"contest: `contest watch{of} --since c1` goes on from there"
        assert hint in result.stderr.splitlines()


def test_a_server_that_is_not_there_is_told_at_once(invoke: Invoke, server: Any) -> None:
    server.answers["version"] = [AWAY]
    result = invoke("watch")
    assert result.exit_code == 3
    assert result.stderr.startswith(f"contest: {AWAY.message}\n")
    assert "asking again" not in result.stderr


def test_a_fault_ends_it(invoke: Invoke, server: Any) -> None:
    server.answers["watch"] = [[STARTED, InternalError(request_id="x")]]
    result = invoke("watch", "7", "--json")
    assert result.exit_code == 3
    assert json.loads(result.stdout) == json.loads(STARTED)
    assert len(server.calls("watch")) == 1


def test_a_gap_is_a_line(invoke: Invoke, server: Any) -> None:
    server.answers["watch"] = [[b'{"Gap":{"Missed":3,"Cursor":"c0"}}', ENDED]]
    assert invoke("watch", "7").stdout.splitlines()[0] == "missed 3 events, which are not kept any more"
