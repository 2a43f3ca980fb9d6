"""Starts that are open when a whole server ends: each is answered, refused, or told that it may have happened."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

SECONDS = 40

MANY = 400

CONFIG = """
server: {on_terminate: cancel}
listeners: [{stdio: {concurrency: 100}}]
job_manager: {local: {store: "sqlite:///jobs.db"}}
"""

NOTHING_HAPPENED = {"shutting_down", "unavailable", "overloaded"}

JOB = {
    "JobName": "short",
    "Version": "1.0",
    "Runs": 1,
    "TestDescriptors": [
        {
            "TargetManagerName": "TargetList",
            "TargetManagerAcquireParameters": {"Targets": [{"ID": "board"}]},
            "TargetManagerReleaseParameters": {},
            "TestFetcherName": "literal",
            "TestFetcherFetchParameters": {
                "TestName": "short",
                "Steps": [{"name": "echo", "label": "say", "parameters": {"text": ["x"]}}],
            },
        }
    ],
    "Reporting": {"RunReporters": [{"Name": "noop"}]},
}


def starts() -> bytes:
    requests = [
        {"jsonrpc": "2.0", "id": n, "method": "start", "params": {"requestor": "me", "jobDesc": JOB}}
        for n in range(MANY)
    ]
    return b"".join(json.dumps(request).encode() + b"\n" for request in requests)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A server whose input is a file of many starts."""
    (tmp_path / "contest.yaml").write_text(CONFIG)
    (tmp_path / "starts").write_bytes(starts())
    code = "from contest_core.cli import main; main()"
    with (tmp_path / "starts").open("rb") as given, (tmp_path / "stderr").open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, "-c", code, "serve", "-c", "contest.yaml"],
            stdin=given,
            stdout=subprocess.PIPE,
            stderr=said,
            cwd=tmp_path,
        )
    yield process
    process.kill()
    process.communicate(timeout=SECONDS)


def ended_well(server: subprocess.Popen[bytes], folder: Path) -> None:
    said = (folder / "stderr").read_text()
    assert server.wait(SECONDS) == 0, said
    assert "Traceback" not in said


def jobs(folder: Path) -> dict[int, bool]:
    """All jobs that are written down, and whether they have ended."""
    with closing(sqlite3.connect(folder / "jobs.db")) as store:
        return {job: end is not None for job, end in store.execute("SELECT job_id, end_time FROM jobs")}


def test_a_reader_that_vanishes_leaves_no_job_behind_that_has_not_ended(
    server: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    assert server.stdout is not None
    assert b'"JobID"' in server.stdout.readline()
    server.stdout.close()
    ended_well(server, tmp_path)
    written = jobs(tmp_path)
    assert written
    assert all(written.values())


def test_what_is_open_when_the_server_is_told_to_end_is_answered_by_what_became_of_it(
    server: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    assert server.stdout is not None
    lines = [server.stdout.readline()]
    os.kill(server.pid, signal.SIGTERM)
    lines += server.stdout.readlines()
    ended_well(server, tmp_path)
    answers: list[dict[str, Any]] = [json.loads(line) for line in lines]
    started = {answer["result"]["Data"]["JobID"] for answer in answers if "result" in answer}
    codes = [answer["error"]["data"]["Code"] for answer in answers if "error" in answer]
    may_have_happened = sum(code not in NOTHING_HAPPENED for code in codes)
    written = jobs(tmp_path)
    assert len({answer["id"] for answer in answers}) == len(answers)
    assert started <= set(written)
    assert len(written) <= len(started) + may_have_happened
    assert set(codes) <= {*NOTHING_HAPPENED, "interrupted"}
    assert sum(not ended for ended in written.values()) <= may_have_happened
