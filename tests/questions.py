"""Questions that are the same however they are asked, and what of the answers is; used by tests of wires and of relays.

Whoever asks them has a server that has just started, so numbers of jobs are the same everywhere.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

Question: TypeAlias = tuple[str, dict[str, str]]
Answer: TypeAlias = dict[str, Any]
Ask: TypeAlias = Callable[[str, dict[str, str]], Awaitable[Answer]]

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
BUSY = ("JobStateStarted", "JobStateCancelling")


def job(name: str, *steps: dict[str, Any], targets: tuple[str, ...] = ("a", "b"), **more: Any) -> str:
    """A descriptor with one test."""
    test = {
        "TargetManagerName": "TargetList",
        "TargetManagerAcquireParameters": {"Targets": [{"ID": target} for target in targets]},
        "TargetManagerReleaseParameters": {},
        "TestFetcherName": "literal",
        "TestFetcherFetchParameters": {"TestName": "test", "Steps": steps},
    }
    reporting = {"RunReporters": [{"Name": "TargetSuccess", "Parameters": {"SuccessExpression": "=100%"}}]}
    whole = {"JobName": name, "Version": "1.0", "Runs": 1, "TestDescriptors": [test], "Reporting": reporting}
    return json.dumps({**whole, **more})


def cmd(script: str) -> dict[str, Any]:
    """A step that runs a script."""
    parameters = {"executable": ["sh"], "args": ["-c", script], "emit_stdout": ["true"]}
    return {"name": "cmd", "label": "run", "parameters": parameters}


ECHO = {"name": "echo", "label": "echo", "parameters": {"text": ["hello"]}}
SLEEP = {"name": "sleep", "label": "sleep", "parameters": {"duration": ["60s"]}}

PASSES = job("passes", ECHO, Tags=["one", "both"])
FAILS = job("fails", cmd("echo {{.ID}}; test {{.ID}} = a"), ECHO, Tags=["two", "both"])
LASTS = job("lasts", SLEEP, targets=("c",))

QUESTIONS: list[Question] = [
    ("version", {}),
    ("version", {"requestor": "me", "apiVersion": "5"}),
    ("version", {"apiVersion": "4"}),
    ("version", {"apiVersion": "five"}),
    ("list", {}),
    ("locks", {}),
    ("validate", {"jobDesc": PASSES}),
    ("validate", {"jobDesc": job("x", ECHO, Runs=-1)}),
    ("validate", {"jobDesc": "{"}),
    ("validate", {}),
    ("start", {"jobDesc": PASSES}),
    ("wait", {"jobID": "1"}),
    ("status", {"jobID": "1"}),
    ("status", {"jobID": "1", "events": "false"}),
    ("status", {"jobID": "1", "run": "1", "test": "test", "target": "a"}),
    ("status", {"jobID": "1", "run": "2"}),
    ("status", {"jobID": "1", "run": "x"}),
    ("status", {"jobID": "1", "events": "perhaps"}),
    ("start", {"jobDesc": FAILS, "startKey": "key"}),
    ("start", {"jobDesc": FAILS, "startKey": "key"}),
    ("start", {"jobDesc": PASSES, "startKey": "key"}),
    ("start", {"jobDesc": PASSES, "startKey": "k" * 257}),
    ("wait", {"jobID": "2"}),
    ("status", {"jobID": "2"}),
    ("start", {"jobDesc": PASSES, "strict": "true"}),
    ("start", {"jobDesc": job("x", ECHO, Nope=1), "strict": "1"}),
    ("wait", {"jobID": "3"}),
    ("start", {"jobDesc": LASTS}),
    ("retry", {"jobID": "4"}),
    ("stop", {"jobID": "4"}),
    ("wait", {"jobID": "4"}),
    ("stop", {"jobID": "4"}),
    ("retry", {"jobID": "1"}),
    ("wait", {"jobID": "5"}),
    ("status", {"jobID": "5"}),
    ("retry", {"jobID": "2", "failedOnly": "true"}),
    ("wait", {"jobID": "6"}),
    ("status", {"jobID": "6", "events": "false"}),
    ("retry", {"jobID": "1", "failedOnly": "true"}),
    ("start", {"jobDesc": "{}"}),
    ("start", {"jobDesc": "[]"}),
    ("start", {"jobDesc": job("x")}),
    ("start", {"jobDesc": job("x", {"name": "ecko", "label": "a b"}, Version="2.0", Tags=["_a"])}),
    ("start", {}),
    ("start", {"requestor": "", "jobDesc": PASSES}),
    ("start", {"requestor": "é" * 17, "jobDesc": PASSES}),
    ("start", {"apiVersion": "6", "jobDesc": PASSES}),
    ("list", {}),
    ("list", {"states": "JobStateCompleted,JobStateCancelled", "tags": "both"}),
    ("list", {"states": "JobStateCancelled"}),
    ("list", {"states": "Completed"}),
    ("list", {"states": "JobStateCompleted,"}),
    ("list", {"tags": "one,both"}),
    ("list", {"tags": "a b"}),
    ("list", {"tags": "one,one"}),
    ("list", {"requestors": "me,you", "name": "pass*", "limit": "1"}),
    ("list", {"limit": "0"}),
    ("list", {"limit": "many"}),
    ("list", {"since": "yesterday"}),
    ("list", {"since": "2026-01-01T00:00:00Z", "until": "2026-01-02T00:00:00Z"}),
    ("list", {"cursor": "of nobody"}),
    ("status", {"jobID": "99"}),
    ("status", {"jobID": "-1"}),
    ("status", {"jobID": "0x1"}),
    ("status", {"jobID": "9223372036854775808"}),
    ("status", {}),
    ("stop", {"jobID": "99"}),
    ("stop", {"jobID": "one"}),
    ("stop", {}),
    ("retry", {"jobID": "99"}),
    ("retry", {}),
    ("locks", {}),
    ("nope", {}),
    ("List", {}),
    ("", {}),
]


async def answers(ask: Ask) -> list[Answer]:
    """What is answered to all questions; a `wait` is asked until the job has ended."""
    found = []
    for verb, given in QUESTIONS:
        parameters = given if verb == "version" else {"requestor": "me", **given}
        answer = await ask("status" if verb == "wait" else verb, parameters)
        while verb == "wait" and answer["Data"]["Status"]["State"] in BUSY:
            await asyncio.sleep(0.02)
            answer = await ask("status", parameters)
        found.append(alike(answer))
    return found


def alike(answer: Any) -> Any:
    """The answer without what servers do not have in common: times, stores, and which of two targets was first."""
    if isinstance(answer, dict):
        kept = {key: alike(value) for key, value in answer.items() if key != "SequenceID"}
        return kept | ({"Cursor": "a cursor"} if kept.get("Cursor") else {})
    if isinstance(answer, list):
        return sorted(map(alike, answer), key=_target)
    return TIME.sub("a time", answer) if isinstance(answer, str) else answer


def _target(item: Any) -> str:
    target = item.get("Target") if isinstance(item, dict) else None
    return str(target["ID"] if isinstance(target, dict) else target)


def as_over_http(answer: Answer) -> Answer:
    """A JSON-RPC answer as the object that HTTP has under 200, or under any other status."""
    if "result" in answer:
        result: Answer = answer["result"]
        return result
    error = answer["error"]
    data = dict(error["data"])
    if "Type" not in data:
        return {"Msg": error["message"], "Code": data["Code"]}
    return {**data, "Error": error["message"]}
