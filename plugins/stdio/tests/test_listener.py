"""The listener on the descriptors of a real process: whatever they are, and whoever else would use them."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jsonrpcclient
import pytest

from contest_core.testing.terminals import pseudo_terminal

SERVED = Path(__file__).with_name("served.py")
PATIENCE = 30
LOOPS = ["asyncio"] if find_spec("uvloop") is None else ["asyncio", "uvloop"]
VERSION = b'{"jsonrpc":"2.0","id":1,"method":"version"}\n'


@pytest.fixture(autouse=True)
def _buffered(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept in buffers is half of the trouble."""
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)


def command(**options: Any) -> list[str]:
    return [sys.executable, str(SERVED), json.dumps(options)]


def line(method: str, identity: Any = 1, **params: Any) -> bytes:
    request = {"jsonrpc": "2.0", "id": identity, "method": method, "params": {"requestor": "me", **params}}
    return json.dumps(request).encode() + b"\n"


def start(python: str = "", identity: Any = 1, sleep: float = 0) -> bytes:
    return line("start", identity, jobDesc={"python": python, "sleep": sleep})


def answers(output: bytes) -> list[dict[str, Any]]:
    """The answers; the last line is what the program prints when stdout is its own again."""
    lines = output.splitlines()
    assert lines.pop() == b"after"
    return [json.loads(one) for one in lines]


def run(given: bytes, **options: Any) -> tuple[list[dict[str, Any]], str]:
    """Answers and stderr of a server whose input is this, and ends."""
    done = subprocess.run(command(**options), input=given, capture_output=True, timeout=PATIENCE)
    said = done.stderr.decode()
    assert done.returncode == 0, said
    assert "Traceback" not in said
    return answers(done.stdout), said


@contextmanager
def process(
    arguments: list[str], *, stdin: Any = subprocess.PIPE, stdout: Any = subprocess.PIPE
) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(arguments, bufsize=0, stdin=stdin, stdout=stdout, stderr=subprocess.PIPE) as child:
        try:
            yield child
        finally:
            child.kill()


def wait_for(child: subprocess.Popen[bytes], words: bytes) -> bytes:
    """Its stderr up to these words."""
    assert child.stderr is not None
    said = b""
    deadline = time.monotonic() + PATIENCE
    while words not in said:
        ready, _, _ = select.select([child.stderr], [], [], max(0, deadline - time.monotonic()))
        assert ready, f"no {words!r} in {said!r}"
        chunk = os.read(child.stderr.fileno(), 65536)
        assert chunk, f"no {words!r} in {said!r}"
        said += chunk
    return said


def read_line(child: subprocess.Popen[bytes]) -> Any:
    assert child.stdout is not None
    ready, _, _ = select.select([child.stdout], [], [], PATIENCE)
    assert ready
    return json.loads(child.stdout.readline())


# --- the ends of the input


def test_requests_are_answered_in_order_and_the_end_of_input_ends_the_server_well() -> None:
    found, said = run(start(identity="a", sleep=0.2) + line("version", "b") + line("list", "c"))
    assert [answer["id"] for answer in found] == ["a", "b", "c"]
    assert found[2]["result"]["Data"]["JobIDs"] == [1]
    assert f"start 1 by me of pid {os.getpid()}" in said
    assert "told to DRAIN" in said


def test_a_last_line_without_a_newline_counts() -> None:
    found, _ = run(VERSION.rstrip())
    assert [answer["id"] for answer in found] == [1]


def test_empty_lines_are_skipped_and_a_carriage_return_is_part_of_the_newline() -> None:
    found, _ = run(b"\n  \r\n\r\n" + VERSION.replace(b"\n", b"\r\n") + b"\n")
    assert [answer["id"] for answer in found] == [1]


def test_what_was_asked_before_the_end_of_input_is_answered_whatever_is_refused_after() -> None:
    given = b"".join(start(identity=number, sleep=0.2) for number in range(6))
    found, said = run(given, settings={"concurrency": 10})
    assert sorted(answer["id"] for answer in found if "result" in answer) == list(range(6))
    assert said.rindex("done") < said.index("told to DRAIN")


def test_a_file_is_read_to_its_end(tmp_path: Path) -> None:
    requests = tmp_path / "requests.jsonl"
    requests.write_bytes(VERSION * 5000)
    with requests.open("rb") as stdin:
        done = subprocess.run(command(), stdin=stdin, capture_output=True, timeout=PATIENCE)
    assert done.returncode == 0
    assert len(answers(done.stdout)) == 5000


def test_a_file_takes_the_answers(tmp_path: Path) -> None:
    output = tmp_path / "answers.jsonl"
    given = VERSION * 100 + line("status", 2, jobID=3_000_000) + VERSION
    with output.open("wb") as stdout:
        done = subprocess.run(command(), input=given, stdout=stdout, stderr=subprocess.PIPE, timeout=PATIENCE)
    assert done.returncode == 0
    found = answers(output.read_bytes())
    assert len(found) == 102
    assert len(found[100]["result"]["Data"]["Status"]) == 3_000_000


def test_the_null_device_is_an_empty_input() -> None:
    done = subprocess.run(command(), stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout) == (0, b"after\n")


def test_a_closed_stdin_is_an_empty_input() -> None:
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" <&-', "sh", *command()], capture_output=True, timeout=PATIENCE
    )
    assert (done.returncode, done.stdout) == (0, b"after\n"), done.stderr


def test_an_input_that_cannot_be_read_is_an_error_that_says_so(tmp_path: Path) -> None:
    with (tmp_path / "only written").open("wb") as stdin:
        done = subprocess.run(command(), stdin=stdin, capture_output=True, timeout=PATIENCE)
    assert done.returncode != 0
    assert b"Bad file descriptor" in done.stderr
    assert b"while reading stdin" in done.stderr


# --- the ends of the output


def test_a_closed_stdout_is_an_error_at_the_start() -> None:
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *command()], input=VERSION, capture_output=True, timeout=PATIENCE
    )
    assert done.returncode != 0
    assert b"stdout is closed" in done.stderr


def test_a_full_disk_ends_the_server_in_order_and_with_an_error() -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command(), input=VERSION, stdout=full, stderr=subprocess.PIPE, timeout=PATIENCE)
    assert done.returncode != 0
    assert b"told to DRAIN" in done.stderr
    assert b"No space left on device" in done.stderr


@pytest.mark.parametrize("loop", LOOPS)
def test_a_reader_that_goes_away_between_answers_is_the_end_of_input(loop: str) -> None:
    with process(command(loop=loop)) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(VERSION)
        assert read_line(child)["id"] == 1
        child.stdout.close()
        said = wait_for(child, b"told to DRAIN")
        assert child.wait(PATIENCE) == 0
    assert b"Traceback" not in said


def test_a_reader_that_goes_away_in_the_flood_is_the_end_of_input() -> None:
    pipeline = f'yes \'{VERSION.decode().strip()}\' | {{ "$@"; echo "status $?" >&2; }} | head -1'
    done = subprocess.run(["sh", "-c", pipeline, "sh", *command()], capture_output=True, timeout=PATIENCE)
    assert json.loads(done.stdout)["id"] == 1
    assert b"status 0" in done.stderr
    assert b"Traceback" not in done.stderr
    assert b"BrokenPipe" not in done.stderr


def test_a_reader_that_goes_away_cancels_what_it_waits_for() -> None:
    with process(command()) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(start(sleep=3600))
        wait_for(child, b"start 1")
        child.stdout.close()
        wait_for(child, b"told to DRAIN")


# --- nobody else can reach the wire

WRITERS = {
    "print": "print('stray', flush=True)",
    "print that is not flushed": "print('stray')",
    "a descriptor": "import os; os.write(1, b'stray\\n')",
    "the first stdout": "import sys; sys.__stdout__.write('stray\\n')",
    "a stdout that was kept": "EARLY_STDOUT.write('stray\\n')",
    "a child": "import subprocess; subprocess.run(['echo', 'stray'])",
    "a shell": "import os; os.system('echo stray')",
    "C": "import ctypes; ctypes.CDLL(None).puts(b'stray')",
}


@pytest.mark.parametrize("python", WRITERS.values(), ids=WRITERS.keys())
def test_what_others_write_to_stdout_goes_to_stderr(python: str) -> None:
    found, said = run(start(python) + VERSION)
    assert [set(answer) for answer in found] == [{"jsonrpc", "id", "result"}] * 2
    assert said.count("stray") == 1


def test_a_child_cannot_eat_requests() -> None:
    python = "import subprocess; assert subprocess.run(['cat'], capture_output=True).stdout == b''"
    found, _ = run(start(python) + VERSION * 3)
    assert ["result" in answer for answer in found] == [True] * 4


def test_a_child_that_lives_on_does_not_keep_the_wire_open() -> None:
    python = "import subprocess; print('pid', subprocess.Popen(['sleep', '60'], stderr=-3, stdout=-3).pid, 'lives')"
    with process(command()) as child:
        output, said = child.communicate(start(python), timeout=PATIENCE)
    words = said.split()
    os.kill(int(words[words.index(b"lives") - 1]), signal.SIGKILL)
    assert len(answers(output)) == 1


def test_descriptors_that_others_share_stay_as_they_are() -> None:
    (source, requests), (results, sink) = os.pipe(), os.pipe()
    with process(command(), stdin=source, stdout=sink) as child:
        os.write(requests, VERSION)
        assert os.read(results, 65536)
        assert os.get_blocking(source)
        assert os.get_blocking(sink)
        os.close(requests)
        assert child.wait(PATIENCE) == 0
    for descriptor in (source, results, sink):
        os.close(descriptor)


def test_two_listeners_cannot_share_the_standard_streams() -> None:
    done = subprocess.run(command(twice=True), input=VERSION, capture_output=True, timeout=PATIENCE)
    assert done.returncode != 0
    assert b"in use by another stdio listener" in done.stderr


# --- other kinds of descriptors


@pytest.mark.parametrize("loop", LOOPS)
def test_one_socket_may_be_both_ends(loop: str) -> None:
    ours, theirs = socket.socketpair()
    ours.settimeout(PATIENCE)
    with process(command(loop=loop), stdin=theirs, stdout=theirs) as child:
        theirs.close()
        ours.sendall(VERSION + line("status", 2, jobID=1_000_000))
        ours.shutdown(socket.SHUT_WR)
        output = b"".join(iter(lambda: ours.recv(65536), b""))
        assert child.wait(PATIENCE) == 0
    assert [answer["id"] for answer in answers(output)] == [1, 2]
    ours.close()


def test_a_terminal_may_be_both_ends() -> None:
    ours, theirs = pseudo_terminal()
    with process(command(), stdin=theirs, stdout=theirs) as child:
        os.close(theirs)
        os.write(ours, VERSION)
        output = b""
        while b'"result"' not in output:
            assert select.select([ours], [], [], PATIENCE)[0]
            output += os.read(ours, 65536)
        os.write(ours, b"\x04")
        assert child.wait(PATIENCE) == 0
    os.close(ours)


# --- limits and settings


def test_a_line_over_the_limit_is_refused_and_the_next_is_served() -> None:
    long = line("start", 1, jobDesc="x" * 5000)
    found, _ = run(VERSION + long + VERSION + long.rstrip(), settings={"max_request": "1KB"})
    assert [answer["id"] for answer in found] == [1, None, 1, None]
    assert [answer.get("error", {}).get("code") for answer in found] == [None, -32022, None, -32022]
    assert "1,000" in found[1]["error"]["message"]


def test_a_line_without_end_takes_no_memory() -> None:
    with process(command(settings={"max_request": "64KiB"})) as child:
        assert child.stdin is not None
        child.stdin.write(VERSION)
        assert read_line(child)["id"] == 1
        before = resident(child.pid)
        block = b"x" * (1 << 20)
        for _ in range(100):
            child.stdin.write(block)
        child.stdin.write(b"\n" + VERSION)
        assert read_line(child)["error"]["code"] == -32022
        assert read_line(child)["id"] == 1
        assert resident(child.pid) - before < 20 << 20


def test_an_answer_over_the_limit_is_refused_and_the_next_is_served() -> None:
    given = line("status", 1, jobID=3000) + line("status", 2, jobID=100)
    found, _ = run(given, settings={"max_answer": "2KB"})
    assert (found[0]["id"], found[0]["error"]["code"]) == (1, -32022)
    assert found[1]["result"]["Data"]["Status"] == "x" * 100


def test_what_is_no_utf8_is_a_parse_error() -> None:
    found, _ = run(b'{"jsonrpc":"2.0","id":"\xff","method":"version"}\n' + VERSION)
    assert [answer.get("error", {}).get("code") for answer in found] == [-32700, None]


def test_with_concurrency_a_slow_request_does_not_hold_up_the_next() -> None:
    with process(command(settings={"concurrency": 2})) as child:
        assert child.stdin is not None
        child.stdin.write(start(identity="slow", sleep=3600) + line("list", "quick"))
        assert read_line(child)["id"] == "quick"


def test_the_requestor_may_be_a_setting() -> None:
    request = b'{"jsonrpc":"2.0","id":1,"method":"start","params":{"jobDesc":{}}}\n'
    found, said = run(request + start(), settings={"requestor": "robot"})
    assert ["result" in answer for answer in found] == [True, True]
    assert said.count("by robot of") == 2


def test_where_authentication_is_configured_a_pipe_is_not_exempt() -> None:
    found, _ = run(VERSION + line("list", 2), authenticated=True)
    assert [answer["error"]["code"] for answer in found] == [-32020, -32020]


# --- beside others


def resident(pid: int) -> int:
    """Bytes of memory that a process has."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_slow_reader_stops_its_own_requests_only_and_costs_no_memory() -> None:
    size, count = 4_000_000, 40
    with process(command(ticker=True)) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        wait_for(child, b"tick")
        before = resident(child.pid)
        child.stdin.write(b"".join(line("status", number, jobID=size) for number in range(count)))
        assert select.select([child.stdout], [], [], PATIENCE)[0]
        for _ in range(10):
            wait_for(child, b"tick")
        assert resident(child.pid) - before < 6 * size
        child.stdin.close()
        reader = os.fdopen(os.dup(child.stdout.fileno()), "rb")
        for number in range(count):
            answer = json.loads(reader.readline())
            assert (answer["id"], len(answer["result"]["Data"]["Status"])) == (number, size)
        reader.close()


def test_beside_another_listener_the_end_of_input_ends_nothing_else() -> None:
    with process(command(ticker=True)) as child:
        assert child.stdin is not None
        child.stdin.write(VERSION)
        assert read_line(child)["id"] == 1
        child.stdin.close()
        for _ in range(10):
            assert b"told to" not in wait_for(child, b"tick")
        child.send_signal(signal.SIGTERM)
        wait_for(child, b"told to CANCEL")


def test_a_server_that_ends_answers_what_is_in_flight() -> None:
    with process(command()) as child:
        assert child.stdin is not None
        wait_for(child, b"serving")
        child.stdin.write(start(sleep=0.5) + VERSION)
        wait_for(child, b"start 1")
        child.send_signal(signal.SIGTERM)
        assert read_line(child)["result"]["Data"]["JobID"] == 1
        assert child.wait(PATIENCE) == 0


def test_answers_flow_while_the_server_drains() -> None:
    with process(command(drain=3600, settings={"concurrency": 2})) as child:
        assert child.stdin is not None
        child.stdin.write(start(sleep=0.3) + VERSION)
        child.stdin.close()
        wait_for(child, b"told to DRAIN")
        assert [read_line(child)["jsonrpc"] for _ in range(2)] == ["2.0"] * 2


# --- a client that nobody here wrote


def test_jsonrpcclient_talks_to_it() -> None:
    with process(command()) as child:
        assert child.stdin is not None

        def ask(request: str) -> Any:
            assert child.stdin is not None
            child.stdin.write(request.encode() + b"\n")
            return jsonrpcclient.parse(read_line(child))

        version = ask(jsonrpcclient.request_json("version"))
        assert version.result["Data"]["Version"] == 5
        unknown = ask(jsonrpcclient.request_json("versoin"))
        assert unknown.code == -32601
        started = ask(jsonrpcclient.request_json("start", {"requestor": "me", "jobDesc": "{}"}))
        assert started.result["Data"]["JobID"] == 1
