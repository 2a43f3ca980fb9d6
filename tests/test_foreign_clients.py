"""JSON-RPC clients that nobody here wrote, in three languages, talk to both of our JSON-RPC transports.

Those of Python are among the tools of the tests. Those of Go and node are asked where the language is installed and
the packages are there: CONTRIBUTING.md has the command that fetches them, and no test does. Each holds the same
conversation, with what its library can do of it: `foreign/` has their side.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import jsonrpc_base
import jsonrpc_websocket
import jsonrpcclient
import pytest

from contest_core import VERBS

Said: TypeAlias = dict[str, Any]

FOREIGN = Path(__file__).parent / "foreign"
CONTEST = [sys.executable, "-c", "from contest_core.cli import main; main()"]
PATIENCE = 40
MISSING = 1_000_000
METHODS = len(VERBS) + 1
"""All verbs, and `unwatch`."""


def job(**parameters: list[str]) -> str:
    """A job of one step, `sleep` with a duration."""
    test = {
        "TargetManagerName": "TargetList",
        "TargetManagerAcquireParameters": {"Targets": [{"ID": f"for {parameters['duration'][0]}"}]},
        "TargetManagerReleaseParameters": {},
        "TestFetcherName": "literal",
        "TestFetcherFetchParameters": {
            "TestName": "test",
            "Steps": [{"name": "sleep", "label": "sleep", "parameters": parameters}],
        },
    }
    whole = {"JobName": "job", "Version": "1.0", "Runs": 1, "TestDescriptors": [test]}
    return json.dumps({**whole, "Reporting": {"RunReporters": [{"Name": "noop"}]}})


JOB = job(duration=["1ms"])
LONG_JOB = job(duration=["1h"])


def configured(folder: Path, listener: str) -> list[str]:
    """The command of a server with this listener."""
    (folder / "contest.yaml").write_text(
        f"listeners: [{listener}]\njob_manager: {{local: {{store: 'sqlite:///contest.db'}}}}\n"
    )
    return [*CONTEST, "serve", "-c", str(folder / "contest.yaml"), "--log-level", "error"]


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """A server with a websocket; its address."""
    command = configured(folder, "websocket: {port: 0}")
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            line = process.stderr.readline()
            assert line.startswith("listening on ws://"), line
            yield line.split()[-1]
            process.terminate()
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()


def check(said: Said) -> None:
    """What came is what was meant."""
    assert (said["version"], said["methods"]) == (5, METHODS)
    assert (said["events"][0], said["events"][-1]) == ("JobStateStarted", "JobStateCompleted")
    assert {"TargetIn", "TargetOut"} <= set(said["events"])
    assert said["cursor"]
    assert (said["unknown"], said["refused"], said["invalid"]) == (-32601, -32011, -32602)
    assert said["state"] == "JobStateCancelled"


# --- other languages


def ran(command: list[str], folder: Path) -> Said:
    """What a program of another language has printed."""
    environment = {**os.environ, "JOB": JOB, "LONG_JOB": LONG_JOB}
    done = subprocess.run(
        command, cwd=folder, env=environment, check=False, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
    said: Said = json.loads(done.stdout)
    return said


@pytest.fixture(scope="module")
def go_program(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[str]]:
    """Gives the command of a program in Go, built from modules that are here."""
    go = shutil.which("go")
    if go is None:
        pytest.skip("go is not installed")
    folder = tmp_path_factory.mktemp("go")
    offline = {**os.environ, "GOPROXY": "off", "GOFLAGS": "-mod=readonly", "GOTOOLCHAIN": "local"}
    build = [go, "build", "-o", f"{folder}/", "./lines", "./websocket"]
    built = subprocess.run(
        build, cwd=FOREIGN / "go", env=offline, check=False, capture_output=True, text=True, timeout=PATIENCE
    )
    if "GOPROXY=off" in built.stderr or "go.mod requires go" in built.stderr:
        pytest.skip(f"CONTRIBUTING.md says how to fetch the modules: {built.stderr.splitlines()[0]}")
    assert built.returncode == 0, built.stderr
    return lambda name: [str(folder / name)]


@pytest.fixture
def node_program() -> Callable[[str], list[str]]:
    """Gives the command of a program for node."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    if not (FOREIGN / "node" / "node_modules").is_dir():
        pytest.skip("the packages for node are not here; CONTRIBUTING.md says how to fetch them")
    return lambda name: [node, str(FOREIGN / "node" / f"{name}.mjs")]


def test_a_go_client_speaks_json_lines(tmp_path: Path, go_program: Callable[[str], list[str]]) -> None:
    """github.com/creachadair/jrpc2; it starts the server, and fails unless that ends well."""
    said = ran([*go_program("lines"), *configured(tmp_path, "stdio: {}")], tmp_path)
    check(said)
    assert said["batch"] == ["ResponseTypeVersion", "error code -32011", "ResponseTypeList"]


def test_a_go_client_speaks_websocket(tmp_path: Path, go_program: Callable[[str], list[str]]) -> None:
    """github.com/sourcegraph/jsonrpc2, which has no batches."""
    with served(tmp_path) as address:
        check(ran([*go_program("websocket"), address], tmp_path))


BATCH_OF_NODE = [["one", "ResponseTypeVersion"], ["two", -32011], ["three", "ResponseTypeList"]]


def test_a_node_client_speaks_json_lines(tmp_path: Path, node_program: Callable[[str], list[str]]) -> None:
    """json-rpc-2.0; it starts the server, and fails unless that ends well."""
    said = ran([*node_program("lines"), *configured(tmp_path, "stdio: {}")], tmp_path)
    check(said)
    assert said["batch"] == BATCH_OF_NODE


def test_a_node_client_speaks_websocket(tmp_path: Path, node_program: Callable[[str], list[str]]) -> None:
    """json-rpc-2.0 over ws."""
    with served(tmp_path) as address:
        said = ran([*node_program("websocket"), address], tmp_path)
    check(said)
    assert said["batch"] == BATCH_OF_NODE


# --- Python


async def test_a_python_client_speaks_websocket(tmp_path: Path) -> None:
    """jsonrpc-websocket, which has no batches, and takes notifications as calls of its own methods."""
    with served(tmp_path) as address:
        async with asyncio.timeout(PATIENCE):
            check(await over_jsonrpc_websocket(address))


async def over_jsonrpc_websocket(address: str) -> Said:
    server = jsonrpc_websocket.Server(address)
    reading = await server.ws_connect()
    events: list[str] = []
    ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    server.event = lambda Subscription, Event: events.append(Event["Data"]["EventName"])
    server.watchEnded = lambda Subscription, Cursor: ended.set_result(Cursor)

    async def refused(method: str, *positional: Any, **named: Any) -> int:
        with pytest.raises(jsonrpc_base.ProtocolError) as error:
            await getattr(server, method)(*positional, **named)
        code: int = error.value.args[0]
        return code

    me = {"requestor": "me"}
    try:
        version = await server.version()
        methods = (await server.rpc.discover())["methods"]
        started = await server.start(**me, jobDesc=json.loads(JOB))
        await server.watch(**me, jobID=started["Data"]["JobID"])
        cursor = await ended
        long = (await server.start(**me, jobDesc=json.loads(LONG_JOB)))["Data"]["JobID"]
        await server.stop(**me, jobID=long, _notification=True)
        state = ""
        while state != "JobStateCancelled":
            state = (await server.status(**me, jobID=long))["Data"]["Status"]["State"]
        return {
            "version": version["Data"]["Version"],
            "methods": len(methods),
            "events": events,
            "cursor": cursor,
            "unknown": await refused("nope"),
            "refused": await refused("status", **me, jobID=MISSING),
            "invalid": await refused("status", 1),
            "state": state,
        }
    finally:
        await server.close()
        await reading


async def test_a_python_client_speaks_json_lines(tmp_path: Path) -> None:
    """jsonrpcclient, which makes messages and reads answers, and leaves the transport to its user."""
    pipe = asyncio.subprocess.PIPE
    command = configured(tmp_path, "stdio: {}")
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, limit=2**20)
    try:
        async with asyncio.timeout(PATIENCE):
            said = await over_jsonrpcclient(process)
            assert process.stdin is not None
            process.stdin.close()
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    check(said)
    assert said["batch"] == ["ResponseTypeVersion", -32011, "ResponseTypeList"]


async def over_jsonrpcclient(process: asyncio.subprocess.Process) -> Said:
    assert process.stdin is not None
    assert process.stdout is not None
    writer, reader = process.stdin, process.stdout

    def send(message: Any) -> None:
        writer.write(json.dumps(message).encode() + b"\n")

    async def read() -> Any:
        return json.loads(await reader.readline())

    async def ask(method: str, params: Any = None) -> Any:
        send(jsonrpcclient.request(method, params))
        return jsonrpcclient.parse(await read())

    async def call(method: str, params: Any = None) -> Any:
        answer = await ask(method, params)
        assert isinstance(answer, jsonrpcclient.Ok), answer
        return answer.result

    me = {"requestor": "me"}
    version = await call("version")
    methods = (await call("rpc.discover"))["methods"]
    started = await call("start", {**me, "jobDesc": json.loads(JOB)})
    await call("watch", {**me, "jobID": started["Data"]["JobID"]})
    events = []
    while (message := await read())["method"] == "event":
        events.append(message["params"]["Event"]["Data"]["EventName"])
    long = (await call("start", {**me, "jobDesc": json.loads(LONG_JOB)}))["Data"]["JobID"]
    send(
        [
            jsonrpcclient.request("version"),
            jsonrpcclient.notification("stop", {**me, "jobID": long}),
            jsonrpcclient.request("status", {**me, "jobID": MISSING}),
            jsonrpcclient.request("list", me),
        ]
    )
    batch = list(jsonrpcclient.parse(await read()))
    send(jsonrpcclient.notification("stop", {**me, "jobID": long}))
    state = ""
    while state != "JobStateCancelled":
        state = (await call("status", {**me, "jobID": long}))["Data"]["Status"]["State"]
    return {
        "version": version["Data"]["Version"],
        "methods": len(methods),
        "events": events,
        "cursor": message["params"]["Cursor"],
        "unknown": (await ask("nope")).code,
        "refused": (await ask("status", {**me, "jobID": MISSING})).code,
        "invalid": (await ask("status", [1])).code,
        "batch": [each.result["Type"] if isinstance(each, jsonrpcclient.Ok) else each.code for each in batch],
        "state": state,
    }
