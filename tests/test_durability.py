"""Answered means durable: the sync of a start precedes its answer, seen in the system's own calls."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

SECONDS = 40.0
TRACE = "fsync,fdatasync,write,writev,sendto,sendmsg"

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")

PROGRAM = [sys.executable, "-c", "from contest_core.cli import main; main()"]
STORE = 'job_manager:\n  local: {store: "sqlite:///jobs.db"}\n'


def descriptor() -> str:
    test = {
        "TargetManagerName": "TargetList",
        "TargetManagerAcquireParameters": {"Targets": [{"ID": "board"}]},
        "TargetManagerReleaseParameters": {},
        "TestFetcherName": "literal",
        "TestFetcherFetchParameters": {
            "TestName": "t",
            "Steps": [{"name": "sleep", "label": "nap", "parameters": {"duration": ["1h"]}}],
        },
    }
    reporting = {"RunReporters": [{"Name": "noop"}]}
    return json.dumps(
        {"JobName": "durable", "Version": "1.0", "Runs": 1, "TestDescriptors": [test], "Reporting": reporting}
    )


def traced(folder: Path, config: str, **more: object) -> subprocess.Popen[bytes]:
    (folder / "contest.yaml").write_text(config + STORE)
    command = ["strace", "-f", "-s", "4096", "-y", "-e", f"trace={TRACE}", "-o", "trace", *PROGRAM]
    with (folder / "stderr").open("wb") as stderr:
        options = {"cwd": folder, "stderr": stderr, **more}
        return subprocess.Popen([*command, "serve", "-c", "contest.yaml"], **options)  # type: ignore[call-overload, no-any-return]


def end(process: subprocess.Popen[bytes]) -> None:
    # strace hands the signal of a terminal on to nobody: the server is its child.
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    for child in children:
        subprocess.run(["kill", f"-{int(signal.SIGTERM)}", child], check=True)
    process.wait(SECONDS)


def test_over_http_a_start_is_synced_before_it_is_answered(tmp_path: Path) -> None:
    process = traced(tmp_path, "listeners:\n  - http: {port: 0}\n", stdin=subprocess.DEVNULL)
    try:
        limit = time.monotonic() + SECONDS
        while not (found := re.search(r"listening on (\S+)", (tmp_path / "stderr").read_text())):
            assert time.monotonic() < limit
            assert process.poll() is None
            time.sleep(0.02)
        mark = len((tmp_path / "trace").read_text(errors="replace").splitlines())
        body = urllib.parse.urlencode({"requestor": "t", "jobDesc": descriptor()}).encode()
        with urllib.request.urlopen(f"{found[1]}/start", data=body, timeout=SECONDS) as answer:
            assert json.load(answer)["Data"]["JobID"] == 1
    finally:
        end(process)
    check(tmp_path, mark, r"ResponseTypeStart")


def test_over_json_lines_a_start_is_synced_before_it_is_answered(tmp_path: Path) -> None:
    process = traced(tmp_path, "listeners:\n  - stdio: {}\n", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        ask(process, "version", {})
        mark = len((tmp_path / "trace").read_text(errors="replace").splitlines())
        found = ask(process, "start", {"requestor": "t", "jobDesc": json.loads(descriptor())})
        assert found["result"]["Data"]["JobID"] == 1
    finally:
        end(process)
        process.stdin.close()
        process.stdout.close()
    check(tmp_path, mark, r"ResponseTypeStart")


def ask(
    process: subprocess.Popen[bytes], method: str, parameters: dict[str, object]
) -> dict[str, dict[str, dict[str, int]]]:
    assert process.stdin is not None
    assert process.stdout is not None
    line = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters})
    process.stdin.write(line.encode() + b"\n")
    process.stdin.flush()
    answer: dict[str, dict[str, dict[str, int]]] = json.loads(process.stdout.readline())
    return answer


def check(folder: Path, mark: int, answer: str) -> None:
    """Behind the mark, a sync of the store is over before the answer is sent."""
    lines = (folder / "trace").read_text(errors="replace").splitlines()[mark:]
    sent = next(number for number, line in enumerate(lines) if re.search(answer, line))
    pending: set[str] = set()
    synced = []
    for number, line in enumerate(lines[:sent]):
        thread = line.split()[0]
        if re.search(r"f(data)?sync\(\d+<[^>]*jobs\.db", line):
            if "unfinished" in line:
                pending.add(thread)
            elif line.rstrip().endswith("= 0"):
                synced.append(number)
        elif re.search(r"f(data)?sync resumed", line) and thread in pending:
            pending.discard(thread)
            synced.append(number)
    assert synced, "the answer went out before the store was synced"
