"""Every configuration in `configs` is right, serves over each door that it opens, and ends in good order."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from contest_core.client import connect_sync
from contest_core.config import Configuration, check, load
from contest_core.document import read
from contest_core.plugins import Plugins, load_plugins
from contest_core.status import JobQuery

CONFIGS = Path(__file__).parents[1] / "configs"
PROGRAM = [sys.executable, "-c", "from contest_core.cli import main; main()"]
SECONDS = 50

HTTP = ("default.yaml", "http.yaml", "http-and-stdio.yaml", "all-doors.yaml")
STDIO = ("stdio.yaml", "http-and-stdio.yaml", "all-doors.yaml", "relay.yaml")
WEBSOCKET = ("websocket.yaml", "all-doors.yaml")
DOORS = {"http": HTTP, "stdio": STDIO, "websocket": WEBSOCKET}


@pytest.fixture(scope="module")
def plugins() -> Plugins:
    return load_plugins()


@contextmanager
def serving(name: str, folder: Path, **environ: str) -> Iterator[subprocess.Popen[str]]:
    """A server with a copy of the configuration, on a port that the system chooses."""
    file = folder / name
    file.write_text(re.sub(r"port: 808\d", "port: 0", (CONFIGS / name).read_text()))
    environment = {**os.environ, "CONTEST_PORT": "0", **environ}
    command = [*PROGRAM, "serve", "-c", str(file), "--log-level", "error"]
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(command, env=environment, text=True, **pipes) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def addresses(process: subprocess.Popen[str], name: str) -> list[str]:
    """Where a server says that it listens."""
    assert process.stderr is not None
    lines = [process.stderr.readline() for names in DOORS.values() if name in names]
    return [line.strip().removeprefix("listening on ") for line in lines]


def post(address: str, verb: str, **form: str) -> Any:
    body = urllib.parse.urlencode({"requestor": "tests", **form}).encode()
    with urllib.request.urlopen(f"{address}/{verb}", data=body, timeout=SECONDS) as answer:
        return json.load(answer)


def call(process: subprocess.Popen[str], method: str, **params: Any) -> Any:
    assert process.stdin is not None
    assert process.stdout is not None
    request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {"requestor": "tests", **params}}
    process.stdin.write(json.dumps(request) + "\n")
    process.stdin.flush()
    return json.loads(process.stdout.readline())["result"]


def end(process: subprocess.Popen[str]) -> tuple[int, str]:
    """The exit status after SIGTERM, and what had been written to stderr meanwhile."""
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=SECONDS)
    return process.returncode, err


def hello() -> dict[str, Any]:
    job = read((CONFIGS / "jobs" / "hello.yaml").read_text(), source="hello.yaml").value
    assert isinstance(job, dict)
    return job


def meaning(configuration: Configuration) -> Any:
    """What a configuration says, without where it says it."""
    listeners = [{**msgspec.structs.asdict(listener), "place": None} for listener in configuration.listeners]
    manager = {**msgspec.structs.asdict(configuration.job_manager), "place": None}
    return configuration.server, listeners, manager, configuration.authentication, configuration.plugins


def test_every_file_is_right_and_opens_the_doors_that_are_tried_here(
    plugins: Plugins, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CONTEST_PORT", raising=False)
    files = sorted(CONFIGS.glob("*.yaml"))
    assert {file.name for file in files} == {*HTTP, *STDIO, *WEBSOCKET}
    for file in files:
        assert not check(file, plugins=plugins)
        assert file.read_text().startswith("# "), f"{file.name} begins with no comment"
        kinds = {listener.kind for listener in load(file, plugins=plugins).listeners}
        assert kinds == {kind for kind, names in DOORS.items() if file.name in names}


def test_the_default_that_is_shown_is_the_embedded_one(plugins: Plugins) -> None:
    shown = load(CONFIGS / "default.yaml", plugins=plugins)
    assert meaning(shown) == meaning(load(None, plugins=plugins))


def test_a_port_is_taken_from_the_environment(plugins: Plugins) -> None:
    for environ, port in (({}, 8080), ({"CONTEST_PORT": "9000"}, 9000)):
        (listener,) = load(CONFIGS / "http.yaml", plugins=plugins, environ=environ).listeners
        assert getattr(listener.settings, "port", None) == port


@pytest.mark.parametrize("name", HTTP)
def test_a_job_is_started_over_http(name: str, tmp_path: Path) -> None:
    with serving(name, tmp_path) as process:
        (address,) = [each for each in addresses(process, name) if each.startswith("http:")]
        assert post(address, "version")["Data"]["Version"] == 5
        assert post(address, "start", jobDesc=json.dumps(hello()))["Data"] == {"JobID": 1}
        assert post(address, "list")["Data"]["JobIDs"] == [1]
        if name in STDIO:
            assert call(process, "list")["Data"]["JobIDs"] == [1]
            # The end of the input ends the pipe alone.
            assert process.stdin is not None
            process.stdin.close()
            process.stdin = None
            while not (entry := post(address, "list")["Data"]["Jobs"][0])["Verdict"]:
                time.sleep(0.02)
            assert entry["Verdict"] == "passed"
        status, err = end(process)
    assert (status, err.count("\n")) == (0, 1), err
    assert list(tmp_path.glob("contest*.db"))


@pytest.mark.parametrize("name", WEBSOCKET)
def test_a_job_is_started_over_a_websocket(name: str, tmp_path: Path) -> None:
    with serving(name, tmp_path) as process:
        (address,) = [each for each in addresses(process, name) if each.startswith("ws:")]
        with connect_sync(address) as contest:
            assert contest.start(json.dumps(hello())).result().job_id == 1
            assert contest.list(JobQuery()).result().job_ids == [1]
        status, err = end(process)
    assert (status, err.count("\n")) == (0, 1), err


def test_a_pipe_that_stays_open_is_ended_by_a_signal(tmp_path: Path) -> None:
    with serving("stdio.yaml", tmp_path) as process:
        assert addresses(process, "stdio.yaml") == ["stdio"]
        assert call(process, "start", jobDesc=hello())["Data"] == {"JobID": 1}
        assert end(process)[0] == 0


def test_a_pipe_leads_to_a_lab(tmp_path: Path) -> None:
    with serving("http.yaml", tmp_path) as lab:
        (address,) = addresses(lab, "http.yaml")
        with serving("relay.yaml", tmp_path, CONTEST_LAB=address) as relay:
            out, err = relay.communicate((CONFIGS / "requests.jsonl").read_text(), timeout=SECONDS)
        assert (relay.returncode, err) == (0, "listening on stdio\n")
        version, started, listed = sorted(map(json.loads, out.splitlines()), key=lambda answer: answer["id"])
        assert "watch" in version["result"]["Data"]["Capabilities"]
        assert started["result"]["Data"] == {"JobID": 1}
        assert listed["result"]["Type"] == "ResponseTypeList"
        # The job has outlived the relay.
        while not (entry := post(address, "list")["Data"]["Jobs"][0])["Verdict"]:
            time.sleep(0.02)
        assert entry["Verdict"] == "passed"
        assert end(lab)[0] == 0


def test_requests_from_a_file_are_answered_and_the_end_of_input_ends_the_server(tmp_path: Path) -> None:
    with serving("stdio.yaml", tmp_path) as process:
        out, err = process.communicate((CONFIGS / "requests.jsonl").read_text(), timeout=SECONDS)
    assert process.returncode == 0, err
    answers = [json.loads(line) for line in out.splitlines()]
    assert [(answer["jsonrpc"], answer["id"]) for answer in answers] == [("2.0", n) for n in (1, 2, 3)]
    assert [sorted(answer["result"]["Data"]) for answer in answers] == [
        ["Capabilities", "Version"],
        ["JobID"],
        ["JobIDs", "Jobs"],
    ]
    assert answers[2]["result"]["Data"]["JobIDs"] == [1]
