"""Compares answers with exchanges recorded from ConTest's Go server, by the rules under which they are alike.

Times become words (a real time is better than Go's zero time), job IDs the order in which they first appear, the
path of an executable a word; of an error only whether there is one; events of a target are a set, targets go by
their ID; more keys than ConTest sends are fine, fewer are not.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "data"

DEFECTS = {
    "retry/any",
    "locks/target is held/start",
    "locks/target is held/status",
    "list/by states",
    "status/cancelled",
    "stop/again",
}
"""Exchanges of the first recording in which ConTest's answer is a defect."""

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
_ZERO = "0001-01-01T00:00:00Z"
_ERRORS = {"Error", "Msg", "StateErrMsg"}
_JOB_IDS = {"JobID", "NewJobID"}


def recorded(name: str = "contest-http.jsonl") -> list[dict[str, Any]]:
    """All exchanges of a recording, in order."""
    return [json.loads(line) for line in (DATA / name).read_text(encoding="utf-8").splitlines()]


class JobIds:
    """Job IDs as the order of their first appearance, on one side."""

    def __init__(self) -> None:
        self._order: list[int] = []

    def word(self, job_id: int) -> str:
        """The normal form of an ID; 0 stays what it is."""
        if not job_id:
            return "no job"
        if job_id not in self._order:
            self._order.append(job_id)
        return f"job {self._order.index(job_id)}"

    def at(self, index: int) -> int:
        """The ID that appeared as number `index`."""
        return self._order[index]

    def index(self, job_id: int) -> int | None:
        """The number of an ID; None for one that has not appeared."""
        return self._order.index(job_id) if job_id in self._order else None


def differences(expected: Any, actual: Any, theirs: JobIds, ours: JobIds, path: str = "") -> list[str]:
    """What of ConTest's answer is missing or different in ours."""
    key = path.rpartition(".")[2]
    if key in _ERRORS:
        return [] if bool(expected) == bool(actual) else [f"{path}: {expected!r} against {actual!r}"]
    if key in _JOB_IDS or re.fullmatch(r".*\.JobIDs\[\d+\]", path):
        same = theirs.word(expected) == ours.word(actual)
        return [] if same else [f"{path}: job {expected} against {actual}"]
    if isinstance(expected, dict):
        return _objects(expected, actual, theirs, ours, path)
    if isinstance(expected, list):
        return _lists(expected, actual, theirs, ours, path)
    if isinstance(expected, str) and _TIME.fullmatch(expected):
        return _times(expected, actual, path)
    return [] if _word(expected) == _word(actual) else [f"{path}: {expected!r} against {actual!r}"]


def _objects(expected: dict[str, Any], actual: Any, theirs: JobIds, ours: JobIds, path: str) -> list[str]:
    if not isinstance(actual, dict):
        return [f"{path}: an object against {actual!r}"]
    found = []
    for key, value in expected.items():
        if key == "SequenceID":
            continue
        if key not in actual:
            found.append(f"{path}.{key}: missing")
        else:
            found.extend(differences(value, actual[key], theirs, ours, f"{path}.{key}"))
    return found


def _lists(expected: list[Any], actual: Any, theirs: JobIds, ours: JobIds, path: str) -> list[str]:
    if not isinstance(actual, list) or len(actual) != len(expected):
        return [f"{path}: {len(expected)} items against {actual!r:.200}"]
    if path.endswith(("TargetStatuses", ".Events")):
        expected, actual = sorted(expected, key=_rank), sorted(actual, key=_rank)
    pairs = zip(expected, actual, strict=True)
    return [
        difference
        for number, (one, other) in enumerate(pairs)
        for difference in differences(one, other, theirs, ours, f"{path}[{number}]")
    ]


def _rank(item: Any) -> str:
    if not isinstance(item, dict):
        return str(item)
    if "Data" in item:
        # A step may emit events of one name in any order (`variables` does).
        payload = json.dumps(item["Data"]["Payload"], sort_keys=True)
        return f"{item['Data']['EventName']} {item['Data']['Target']} {payload}"
    return str((item.get("Target") or {}).get("ID"))


def _times(expected: str, actual: Any, path: str) -> list[str]:
    if not isinstance(actual, str) or not _TIME.fullmatch(actual):
        return [f"{path}: a time against {actual!r}"]
    if actual == _ZERO and expected != _ZERO:
        return [f"{path}: a time against the zero time"]
    return []


def _word(value: Any) -> Any:
    """An absolute path of an executable as its name."""
    if isinstance(value, str) and re.fullmatch(r"/(\w+/)*bin/\w+", value):
        return value.rpartition("/")[2]
    return value
