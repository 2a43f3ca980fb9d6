"""`contest serve` as a process: where it listens, signals, exit statuses, and what it says when it cannot start."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

Contest = Callable[..., subprocess.CompletedProcess[str]]

CONFIG = """
server: {{on_terminate: {on_terminate}}}
listeners:
  - http: {{port: 0}}
job_manager:
  local: {{store: "sqlite:///jobs.db"}}
"""

SECONDS = 40


class Serving:
    """A running `contest serve`. What it writes to stderr is kept line by line."""

    def __init__(self, folder: Path, config: str, *options: str, prelude: str = "", **more: Any) -> None:
        file = folder / "contest.yaml"
        file.write_text(config)
        code = f"{prelude}\nfrom contest_core.cli import main; main()"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, "serve", "-c", str(file), *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **more,
        )
        self.lines: list[str] = []

    def until(self, words: str) -> str:
        """Reads stderr up to the line with these words; the test's own timeout bounds it."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line.rstrip("\n"))
            if words in line:
                return self.lines[-1]
        raise AssertionError(f"ended without {words!r}: {self.lines}")

    @property
    def address(self) -> str:
        return self.until("listening on ").partition("listening on ")[2]

    def end(self) -> int:
        out, err = self.process.communicate(timeout=SECONDS)
        self.lines += err.splitlines()
        assert out == ""
        return self.process.returncode


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Callable[..., Serving]]:
    begun: list[Serving] = []

    def start(*options: str, on_terminate: str = "cancel", config: str = CONFIG, **more: Any) -> Serving:
        begun.append(Serving(tmp_path, config.format(on_terminate=on_terminate), *options, **more))
        return begun[-1]

    yield start
    for each in begun:
        if each.process.poll() is None:
            each.process.kill()
            each.process.wait(SECONDS)
        for stream in (each.process.stdout, each.process.stderr):
            assert stream is not None
            stream.close()


def ask(address: str, verb: str, **form: object) -> Any:
    body = urllib.parse.urlencode({"requestor": "tests", **form}).encode()
    with urllib.request.urlopen(f"{address}/{verb}", data=body, timeout=SECONDS) as answer:
        return json.load(answer)


def sleeping(seconds: str) -> str:
    """A job of one target that sleeps."""
    return job_of({"name": "sleep", "label": "zzz", "parameters": {"duration": [seconds]}})


def job_of(step: dict[str, Any]) -> str:
    """A job of one target and one step."""
    test = {
        "TargetManagerName": "TargetList",
        "TargetManagerAcquireParameters": {"Targets": [{"ID": "bed"}]},
        "TargetManagerReleaseParameters": {},
        "TestFetcherName": "literal",
        "TestFetcherFetchParameters": {"TestName": "Sleep", "Steps": [step]},
    }
    reporting = {"RunReporters": [{"Name": "noop"}]}
    job = {"JobName": "nap", "Version": "1.0", "Runs": 1, "TestDescriptors": [test], "Reporting": reporting}
    return json.dumps(job)


def state(address: str, job: int) -> str:
    found: str = ask(address, "status", jobID=job)["Data"]["Status"]["State"]
    return found


def test_it_says_where_it_listens_and_answers_there(serving: Callable[..., Serving]) -> None:
    server = serving()
    address = server.address
    assert re.fullmatch(r"http://127\.0\.0\.1:[0-9]+", address)
    assert ask(address, "version")["Data"]["Version"] == 5
    server.process.send_signal(signal.SIGTERM)
    assert server.end() == 0


WITHOUT_UVLOOP = "import sys; sys.modules['uvloop'] = None"


@pytest.mark.parametrize("prelude", ["", WITHOUT_UVLOOP], ids=["uvloop", "asyncio"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_cancels_where_the_configuration_says_so(
    serving: Callable[..., Serving], number: signal.Signals, prelude: str
) -> None:
    server = serving(prelude=prelude)
    address = server.address
    ask(address, "start", jobDesc=sleeping("1h"))
    server.process.send_signal(number)
    assert server.end() == 0
    words = f"{number.name}: cancelling the running jobs and waiting for their steps to end; once more does not wait"
    assert any(words in line for line in server.lines)


def test_a_relay_that_ends_does_not_say_that_it_cancels_jobs(serving: Callable[..., Serving]) -> None:
    config = (
        CONFIG.partition("job_manager:")[0] + "job_manager: {{relay: {{address: 'http://127.0.0.1:1'}}}}\n"
    )
    server = serving(config=config)
    assert server.address
    server.process.send_signal(signal.SIGTERM)
    assert server.end() == 0
    [told] = [line for line in server.lines if "SIGTERM" in line]
    assert told.endswith(
        "SIGTERM: answering what was asked, then the program exits; the jobs run elsewhere and go on; "
        "a third time exits at once"
    )


def test_draining_lets_jobs_finish_and_takes_no_new_ones(
    serving: Callable[..., Serving], tmp_path: Path
) -> None:
    server = serving(on_terminate="drain")
    address = server.address
    ask(address, "start", jobDesc=sleeping("2s"))
    server.process.send_signal(signal.SIGTERM)
    server.until(
        "SIGTERM: no new jobs, the running ones finish, then the program exits; once more cancels them, a third"
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        ask(address, "start", jobDesc=sleeping("1s"))
    assert refused.value.code == 503
    refused.value.close()
    assert server.end() == 0
    assert _stored_state(serving, 1) == "JobStateCompleted"


def test_sigusr1_drains_whatever_the_configuration_says(serving: Callable[..., Serving]) -> None:
    server = serving(on_terminate="cancel")
    address = server.address
    ask(address, "start", jobDesc=sleeping("1s"))
    server.process.send_signal(signal.SIGUSR1)
    assert server.end() == 0
    assert _stored_state(serving, 1) == "JobStateCompleted"


def test_the_second_signal_cancels_what_the_first_left_running(serving: Callable[..., Serving]) -> None:
    server = serving(on_terminate="drain")
    address = server.address
    ask(address, "start", jobDesc=sleeping("1h"))
    server.process.send_signal(signal.SIGINT)
    server.until("once more cancels them")
    assert state(address, 1) == "JobStateStarted"
    server.process.send_signal(signal.SIGTERM)
    assert server.end() == 0
    assert _stored_state(serving, 1) == "JobStateCancelled"


def test_after_the_first_has_cancelled_the_second_signal_does_not_wait_for_a_cleanup(
    serving: Callable[..., Serving],
) -> None:
    server = serving()
    job = json.loads(job_of({"name": "echo", "label": "hello", "parameters": {"text": ["x"]}}))
    nap = {"name": "sleep", "label": "nap", "parameters": {"duration": ["1h"]}}
    job["TestDescriptors"][0] |= {
        "CleanupFetcherName": "literal",
        "CleanupFetcherFetchParameters": {"Steps": [nap]},
    }
    address = server.address
    ask(address, "start", jobDesc=json.dumps(job))
    server.process.send_signal(signal.SIGTERM)
    server.until("once more does not wait for what does not obey")
    assert state(address, 1) == "JobStateCancelling"
    server.process.send_signal(signal.SIGTERM)
    server.until("SIGTERM again: not waiting for what does not obey; once more exits at once")
    assert server.end() == 0
    assert _stored_state(serving, 1) == "JobStateCancelled"


def _stored_state(serving: Callable[..., Serving], job: int) -> str:
    """What the next server on the same store says of a job."""
    server = serving()
    found = state(server.address, job)
    server.process.send_signal(signal.SIGTERM)
    assert server.end() == 0
    return found


HOLD = """
import os, time
from contest_core.lifecycle import Server
def hold(self, how):
    os.write(2, b"held\\n")
    while True:
        time.sleep(0.01)
Server.terminate = hold
"""


@pytest.mark.parametrize("prelude", ["", WITHOUT_UVLOOP], ids=["uvloop", "asyncio"])
def test_the_third_signal_exits_at_once_even_while_something_holds_the_loop(
    serving: Callable[..., Serving], prelude: str
) -> None:
    server = serving(prelude=f"{prelude}\n{HOLD}")
    assert server.address
    server.process.send_signal(signal.SIGTERM)
    server.until("held")
    # Pending signals of two kinds are two; Python takes them by their number.
    server.process.send_signal(signal.SIGINT)
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(SECONDS) == 128 + signal.SIGTERM


def test_the_third_signal_leaves_no_process_of_a_job(serving: Callable[..., Serving], tmp_path: Path) -> None:
    server = serving()
    mark = tmp_path / "pid"
    script = f"trap '' TERM INT; echo $$ > {mark}.new; mv {mark}.new {mark}; while :; do sleep 1; done"
    command = {"name": "cmd", "label": "stays", "parameters": {"executable": ["sh"], "args": ["-c", script]}}
    ask(server.address, "start", jobDesc=job_of(command))
    end = time.monotonic() + SECONDS
    while not mark.exists():
        assert time.monotonic() < end
        time.sleep(0.02)
    for number in (signal.SIGTERM, signal.SIGINT):
        server.process.send_signal(number)
        server.until(number.name)
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(SECONDS) == 128 + signal.SIGTERM
    end = time.monotonic() + SECONDS
    while _lives(int(mark.read_text())):
        assert time.monotonic() < end
        time.sleep(0.02)


def _lives(process: int) -> bool:
    """Whether it runs; one that has ended is gone, or not yet collected by whoever inherited it."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_sighup_is_noted_and_ignored(serving: Callable[..., Serving]) -> None:
    server = serving()
    address = server.address
    server.process.send_signal(signal.SIGHUP)
    server.until("SIGHUP: ignored")
    assert ask(address, "version")["Error"] is None
    server.process.send_signal(signal.SIGTERM)
    assert server.end() == 0


def test_a_busy_port_is_told_with_what_to_do(serving: Callable[..., Serving]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        server = serving(config=CONFIG.replace("port: 0", f"port: {port}"))
        assert server.end() == 3
    text = "\n".join(server.lines)
    assert f"cannot listen on 127.0.0.1:{port}: the address is in use" in text
    assert "Traceback" not in text


def test_a_second_server_on_one_store_gets_a_clear_error(serving: Callable[..., Serving]) -> None:
    first = serving()
    assert first.address
    second = serving()
    assert second.end() == 3
    text = "\n".join(second.lines)
    assert "jobs.db is in use by" in text
    assert "Traceback" not in text
    first.process.send_signal(signal.SIGTERM)
    assert first.end() == 0


def test_all_problems_of_a_configuration_are_shown_and_the_status_is_2(
    serving: Callable[..., Serving],
) -> None:
    server = serving(config="server: {{grce: 1s}}\nlisteners:\n  - htp: {{}}\njob_manager:\n  local: {{}}\n")
    assert server.end() == 2
    first, second = [line.partition("contest.yaml:")[2] for line in server.lines]
    assert first == '1:10: unknown key "grce", did you mean "grace"?'
    assert second == '3:5: unknown listener "htp", did you mean "http"?'


def test_a_configuration_that_is_not_there_is_named(contest: Contest) -> None:
    done = contest("serve", "-c", "nowhere.yaml")
    assert done.returncode == 2
    assert done.stderr == "nowhere.yaml: cannot be read: No such file or directory\n"


BROKEN = """
import contest_http.listener
async def serve(self, api, context):
    raise {raised}
contest_http.listener.HttpListener.serve = serve
"""


def test_a_fault_that_nobody_expected_has_its_traceback_in_the_log(serving: Callable[..., Serving]) -> None:
    server = serving(prelude=BROKEN.format(raised="ZeroDivisionError('oops')"))
    assert server.end() == 3
    text = "\n".join(server.lines)
    assert "listener http: oops" in text
    assert "Traceback" in text


def test_an_error_of_the_system_has_none(serving: Callable[..., Serving]) -> None:
    server = serving(prelude=BROKEN.format(raised="OSError(28, 'No space left on device')"))
    assert server.end() == 3
    assert server.lines == ["contest: listener http: [Errno 28] No space left on device"]


def test_a_plugin_that_fails_is_among_the_reasons(serving: Callable[..., Serving]) -> None:
    prelude = "import sys; sys.modules['contest_http.plugin'] = None"
    server = serving(prelude=prelude)
    assert server.end() == 2
    assert 'unknown listener "http"' in server.lines[0]
    assert any(line.startswith("plugin http: not loaded: ModuleNotFoundError") for line in server.lines)


def test_logs_can_be_json_lines(serving: Callable[..., Serving]) -> None:
    server = serving("--log-format", "json")
    assert json.loads(server.until("listening on"))["message"].startswith("listening on http://")
    server.process.send_signal(signal.SIGTERM)
    assert server.end() == 0
    records = [json.loads(line) for line in server.lines]
    assert all({"time", "level", "logger", "message"} <= set(record) for record in records)


def test_what_a_plugin_prints_while_it_is_imported_does_not_reach_stdout(
    serving: Callable[..., Serving],
) -> None:
    prelude = (
        "import contest_core.config as c\n"
        "resolve = c.resolve\n"
        "import contest_core.cli.embedding as e\n"
        "e.resolve = lambda *a: (print('hello'), resolve(*a))[1]\n"
    )
    server = serving(prelude=prelude)
    assert server.until("hello") == "hello"
    assert server.address
    server.process.send_signal(signal.SIGTERM)
    assert server.end() == 0


def test_a_reader_of_the_log_that_goes_away_or_does_not_read_stops_nothing(
    serving: Callable[..., Serving],
) -> None:
    server = serving("--log-level", "debug")
    address = server.address
    assert server.process.stderr is not None
    for _ in range(3):
        assert ask(address, "version")["Error"] is None
    server.process.stderr.close()
    server.process.send_signal(signal.SIGHUP)
    assert ask(address, "version")["Error"] is None
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(SECONDS) == 0


def test_the_embedded_default_makes_its_own_folder(contest: Contest, tmp_path: Path) -> None:
    # Port 8080 may be taken here; what matters comes before.
    done = contest("config", "check")
    assert done.returncode == 0
    assert done.stdout == "<embedded default>: OK: listeners http; job manager local\n"
    assert not (tmp_path / "state").exists()
    code = (
        "from contest_core.cli import embedding as e\n"
        "configuration, _ = e.read_configuration(None)\n"
        "e.construct_parts(configuration)\n"
    )
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state")}
    subprocess.run([sys.executable, "-c", code], check=True, timeout=SECONDS, env=environment)
    assert (tmp_path / "state" / "contest").is_dir()


def test_a_state_directory_that_cannot_be_made_is_answered_with_what_to_do(
    contest: Contest, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    done = contest("serve", env={**os.environ, "XDG_STATE_HOME": str(tmp_path / "file")})
    assert done.returncode == 3
    assert "set XDG_STATE_HOME, or give a file with -c" in done.stderr
    assert "Traceback" not in done.stderr
