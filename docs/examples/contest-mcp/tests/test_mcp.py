"""The server as a host has it: `contest serve`, spawned and asked by the client of the `mcp` package."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mcp", reason="the package `mcp` is not installed")

from jsonschema import Draft202012Validator
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

CONFIGURATION = "listeners: [mcp: ]\njob_manager: {local: {store: 'sqlite:///jobs.db'}}\n"
COMMAND = [sys.executable, "-c", "from contest_core.cli import main; main()", "serve", "-c", "mcp.yaml"]

JOB = {
    "JobName": "from a model",
    "Version": "1.0",
    "Runs": 1,
    "TestDescriptors": [
        {
            "TargetManagerName": "TargetList",
            "TargetManagerAcquireParameters": {"Targets": [{"ID": "t1"}]},
            "TargetManagerReleaseParameters": {},
            "TestFetcherName": "literal",
            "TestFetcherFetchParameters": {
                "TestName": "t",
                "Steps": [
                    {"name": "cmd", "label": "c", "parameters": {"executable": ["echo"], "args": ["hello"]}}
                ],
            },
        }
    ],
    "Reporting": {"RunReporters": [{"Name": "noop"}]},
}


@asynccontextmanager
async def host(folder: Path) -> AsyncIterator[Client]:
    """A host that has spawned the server."""
    (folder / "mcp.yaml").write_text(CONFIGURATION)
    server = StdioServerParameters(command=COMMAND[0], args=COMMAND[1:], env=dict(os.environ), cwd=folder)
    with open(folder / "stderr", "w") as errors:
        async with asyncio.timeout(50), Client(stdio_client(server, errlog=errors)) as client:
            yield client


Ask = Callable[[Callable[[Client], Coroutine[Any, Any, Any]]], Any]


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """Runs something with a client of the one server that all tests share."""
    loop = asyncio.new_event_loop()
    serving: asyncio.Future[Client] = loop.create_future()
    over = asyncio.Event()

    async def serve() -> None:
        async with host(tmp_path_factory.mktemp("host")) as client:
            serving.set_result(client)
            await over.wait()

    task = loop.create_task(serve())
    loop.run_until_complete(asyncio.wait([task, serving], return_when=asyncio.FIRST_COMPLETED))
    yield lambda what: loop.run_until_complete(what(serving.result()))
    over.set()
    loop.run_until_complete(task)
    loop.close()


async def ended(client: Client, job_id: int) -> dict[str, Any]:
    async with asyncio.timeout(20):
        while True:
            status = (await client.call_tool("status", {"jobID": job_id})).structured_content["Data"][
                "Status"
            ]
            if status["EndTime"]:
                return dict(status)
            await asyncio.sleep(0.05)


def test_the_tools_are_the_verbs_with_schemas_that_are_right(ask: Ask) -> None:
    async def test(client: Client) -> None:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert set(tools) == {"start", "stop", "status", "retry", "list", "version", "validate", "locks"}
        for tool in tools.values():
            Draft202012Validator.check_schema(tool.input_schema)
            assert tool.description
        assert tools["start"].input_schema["required"] == ["jobDesc"]
        assert tools["list"].annotations is not None
        assert tools["list"].annotations.read_only_hint is True

    ask(test)


def test_a_model_takes_a_job_from_its_check_to_its_retry(ask: Ask) -> None:
    async def test(client: Client) -> None:
        checked = await client.call_tool("validate", {"jobDesc": JOB})
        assert not checked.is_error
        started = await client.call_tool("start", {"jobDesc": JOB, "startKey": "once"})
        assert json.loads(started.content[0].text) == started.structured_content  # type: ignore[union-attr]
        job_id = started.structured_content["Data"]["JobID"]
        assert (await ended(client, job_id))["Verdict"] == "passed"
        listed = await client.call_tool("list", {"states": ["JobStateCompleted"]})
        assert [(job["JobID"], job["Requestor"]) for job in listed.structured_content["Data"]["Jobs"]] == [
            (job_id, "mcp")
        ]
        again = await client.call_tool("retry", {"jobID": job_id})
        assert again.structured_content["Data"]["NewJobID"] == job_id + 1
        await ended(client, job_id + 1)
        assert (await client.call_tool("locks")).structured_content["Data"]["Locks"] == []
        assert (await client.call_tool("version", {})).structured_content["Data"]["Version"] == 5

    ask(test)


@pytest.mark.parametrize(
    ("tool", "arguments", "code"),
    [
        ("start", {}, "invalid_parameters"),
        ("start", {"jobDesc": {}}, "invalid_descriptor"),
        ("start", {"jobDesc": JOB, "colour": "red"}, "invalid_parameters"),
        ("stop", {"jobID": 77}, "unknown_job"),
        ("status", {"jobID": "seven"}, "invalid_parameters"),
        ("status", {"jobID": 77}, "unknown_job"),
        ("retry", {"jobID": 77}, "unknown_job"),
        ("list", {"states": ["JobStateLost"]}, "invalid_parameters"),
        ("validate", {"jobDesc": 7}, "invalid_parameters"),
        ("locks", {"all": True}, "invalid_parameters"),
        ("version", {"apiVersion": 4}, "incompatible_version"),
        ("watch", {}, "unknown_verb"),
        ("launch", {}, "unknown_verb"),
    ],
)
def test_what_is_refused_is_an_error_of_the_tool_that_says_why(
    ask: Ask, tool: str, arguments: Any, code: str
) -> None:
    result = ask(lambda client: client.call_tool(tool, arguments))
    assert result.is_error
    assert result.structured_content["Code"] == code
    assert result.structured_content.get("Msg") or result.structured_content["Error"]


def test_stdout_carries_nothing_but_the_protocol_and_the_end_is_a_good_one(tmp_path: Path) -> None:
    # As a host of before July 2026 asks; the client above asks as new ones do.
    (tmp_path / "mcp.yaml").write_text(CONFIGURATION)
    hello = {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    }
    said = [
        {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "version", "arguments": {}}},
    ]

    async def exchange() -> tuple[bytes, bytes, int | None]:
        process = await asyncio.create_subprocess_exec(*COMMAND, cwd=tmp_path, stdin=-1, stdout=-1, stderr=-1)
        sent = "".join(json.dumps(message) + "\n" for message in said).encode()
        async with asyncio.timeout(30):
            out, err = await process.communicate(b"rubbish\n" + sent)
        return out, err, process.returncode

    out, err, status = asyncio.run(exchange())
    answered = [json.loads(line) for line in out.splitlines()]
    assert [answer["id"] for answer in answered if answer.get("id")] == [1, 2], err
    assert answered[-1]["result"]["structuredContent"]["Data"]["Version"] == 5
    assert status == 0
