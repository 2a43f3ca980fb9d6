"""The exchanges recorded from ConTest's Go server are answered alike by a real server over HTTP.

Two recordings, in the order in which they were made, each of a server that had just started: `contest-http.jsonl`, some
of whose answers are defects, and `contest-http-more.jsonl`, whose every answer is compared.
"""

from __future__ import annotations

import asyncio
import copy
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import httpx2
import pytest

from contest_core import ServerOptions, open_server
from contest_http.listener import HttpListener
from contest_runner.manager import LocalJobManager
from contest_runner.settings import LocalSettings

_spec = importlib.util.spec_from_file_location(
    "wire_comparison", Path(__file__).parent / "wire_comparison.py"
)
assert _spec is not None
assert _spec.loader is not None
wire = importlib.util.module_from_spec(_spec)
sys.modules["wire_comparison"] = wire
_spec.loader.exec_module(wire)

Answers: TypeAlias = list[tuple[dict[str, Any], Any, list[str]]]

ENDED = ("JobStateCompleted", "JobStateFailed", "JobStateCancelled", "JobStateCancellationFailed")


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """Every exchange with our answer and what is different in it, of a server that has just started."""
    return asyncio.run(_replay("contest-http.jsonl", tmp_path_factory.mktemp("parity")))


@pytest.fixture(scope="module")
def more_answers(tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """The same of the second recording."""
    return asyncio.run(_replay("contest-http-more.jsonl", tmp_path_factory.mktemp("parity-more")))


async def _replay(recording: str, directory: Path) -> Answers:
    manager = LocalJobManager(LocalSettings(store="sqlite:///contest.db"))
    listener = HttpListener(HttpListener.Settings(port=0))
    options = ServerOptions(directory=directory, server_id="contest-go")
    async with open_server(manager, listeners={"http": listener}, options=options) as server:
        (address,) = server.addresses["http"]
        async with httpx2.AsyncClient(base_url=address, timeout=30) as client:
            return await _answers(client, recording)


async def _answers(client: httpx2.AsyncClient, recording: str) -> Answers:
    theirs, ours = wire.JobIds(), wire.JobIds()
    found = []
    for exchange in wire.recorded(recording):
        answer = await _ask(client, exchange, theirs, ours)
        found.append((exchange, answer, _compare(exchange, answer, theirs, ours)))
    return found


async def _ask(client: httpx2.AsyncClient, exchange: dict[str, Any], theirs: Any, ours: Any) -> Any:
    request = exchange["request"]
    form = dict(request["form"] or {})
    job_id = form.get("jobID", "")
    if job_id.isdigit() and (index := theirs.index(int(job_id))) is not None:
        form["jobID"] = str(ours.at(index))
        if exchange["case"].endswith("/status") and not exchange["case"].startswith(("status/", "stop/")):
            await _wait_for(client, form["jobID"], lambda status: status["State"] in ENDED)
        elif exchange["case"] == "status/running":
            inside = _targets_inside(exchange["response"]["json"]["Data"]["Status"])
            await _wait_for(client, form["jobID"], lambda status: _targets_inside(status) >= inside)
    path = str(client.base_url).rstrip("/") + request["path"]
    response = await client.request(request["method"], path, data=form)
    wanted = exchange["response"]
    return {
        "status": response.status_code,
        "json": response.json() if wanted["json"] is not None else None,
        "text": response.text if wanted["json"] is None else None,
    }


async def _wait_for(
    client: httpx2.AsyncClient, job_id: str, reached: Callable[[dict[str, Any]], bool]
) -> None:
    async with asyncio.timeout(20):
        while True:
            answer = await client.post("/status", data={"requestor": "recorder", "jobID": job_id})
            if reached(answer.json()["Data"]["Status"]):
                return
            await asyncio.sleep(0.02)


def _compare(exchange: dict[str, Any], answer: dict[str, Any], theirs: Any, ours: Any) -> list[str]:
    wanted = exchange["response"]
    found = (
        []
        if wanted["status"] == answer["status"]
        else [f"HTTP {wanted['status']} against {answer['status']}"]
    )
    if wanted["json"] is None:
        same = wanted["text"].strip() == (answer["text"] or "").strip()
        return found if same else [*found, f"{wanted['text']!r} against {answer['text']!r}"]
    unlike: list[str] = wire.differences(wanted["json"], answer["json"], theirs, ours)
    return found + unlike


def _targets_inside(status: dict[str, Any]) -> int:
    """How often a target has entered a step."""
    run = status["RunStatus"]
    steps = [step for test in run["TestStatuses"] for step in test["TestStepStatuses"]] if run else []
    return sum(len(step["TargetStatuses"] or ()) for step in steps)


def test_the_recorded_exchanges_are_answered_alike(answers: Answers) -> None:
    compared = [
        (exchange["case"], found) for exchange, _, found in answers if exchange["case"] not in wire.DEFECTS
    ]
    assert not {case: found for case, found in compared if found}
    assert len(compared) == 80


def test_more_recorded_exchanges_are_answered_alike(more_answers: Answers) -> None:
    assert not {exchange["case"]: found for exchange, _, found in more_answers if found}
    assert len(more_answers) == 100


def test_a_success_that_is_turned_around_is_noticed(answers: Answers) -> None:
    ((exchange, answer, found),) = [each for each in answers if each[0]["case"] == "a target fails/status"]
    assert not found
    turned = copy.deepcopy(exchange)
    report = turned["response"]["json"]["Data"]["Status"]["JobReport"]["RunReports"][0][0]
    report["Success"] = not report["Success"]
    assert len(_compare(turned, answer, wire.JobIds(), wire.JobIds())) == 1


def test_a_target_that_is_held_is_waited_for(answers: Answers) -> None:
    ((_, answer, _),) = [each for each in answers if each[0]["case"] == "locks/target is held/status"]
    status = answer["json"]["Data"]["Status"]
    assert status["Verdict"] == "passed"
    assert status["JobReport"]["RunReports"][0][0]["Success"] is True
