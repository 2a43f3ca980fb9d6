"""The step `gathercmd`: one command for all targets, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from contest_runner.testing import Lab, eventually, last_statuses, simple, step

SERVE = """
import asyncio, json, sys
from pathlib import Path
from contest_runner.testing import Lab

async def main():
    with Lab(Path(sys.argv[1])) as lab:
        async with lab.server() as serving:
            await serving.start(sys.argv[2])
            await asyncio.sleep(60)

asyncio.run(main())
"""
"""A server that can be killed."""


def gather(script: str, *arguments: str, **more: Any) -> Any:
    return step("GatherCmd", "gather", binary="sh", args=["-c", script, "sh", *arguments], **more)


async def payloads(serving: Any, job: int, name: str) -> list[Any]:
    return [json.loads(row.payload or "null") for row in await serving.events(job) if row.name == name]


async def test_it_runs_once_for_all_targets_when_all_are_there(lab: Lab, tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with lab.server() as serving:
        before = step("cmd", "before", executable="sh", args=["-c", f"echo before >>{log}"])
        after = step("cmd", "after", executable="sh", args=["-c", f"echo after >>{log}"])
        status = await serving.run(
            simple(
                before, gather(f'echo "$1" >>{log}', "{{ `now` | ToUpper }}"), after, targets=("a", "b", "c")
            )
        )
        assert status["Verdict"] == "passed"
        assert log.read_text().split() == ["before"] * 3 + ["NOW"] + ["after"] * 3
        (start,) = await payloads(serving, 1, "GatherCmdStart")
        assert start["Path"].endswith("/sh")
        assert start["Args"] == [start["Path"], "-c", f'echo "$1" >>{log}', "sh", "NOW"]
        assert await payloads(serving, 1, "GatherCmdEnd") == [None]


async def test_targets_that_failed_before_are_not_waited_for(lab: Lab) -> None:
    async with lab.server() as serving:
        only_a = step("cmd", "first", executable="test", args=["{{ .ID }}", "=", "a"])
        status = await serving.run(simple(only_a, gather("true"), targets=("a", "b")))
        assert last_statuses(status)["a"]["Error"] == ""
        assert last_statuses(status)["b"]["TestStepLabel"] == "first"
        nobody = await serving.run(simple(step("cmd", executable="false"), gather("true"), targets=("a",)))
        assert nobody["State"] == "JobStateCompleted"
        assert "GatherCmdStart" not in await serving.names(2)


@pytest.mark.parametrize("more", [{"binary": "true", "args": ["a\0b"]}, {"binary": "/bin/\0"}])
async def test_what_no_command_can_be_given_is_the_tests_fault(lab: Lab, more: dict[str, Any]) -> None:
    async with lab.server() as serving:
        status = await serving.run(simple(step("gathercmd", **more)))
        (end,) = await payloads(serving, 1, "GatherCmdEnd")
    assert status["Verdict"] == "failed"
    assert "invalid argument" in last_statuses(status)["t1"]["Error"]
    assert end["ExitCode"] == 0
    assert end["Err"].startswith("unknown error: fork/exec ")


async def test_a_command_that_fails_fails_every_target_and_lets_none_go_on(lab: Lab) -> None:
    async with lab.server() as serving:
        job = simple(
            gather("echo some; echo reason >&2; exit 4"), step("echo", text="x"), targets=("a", "b", "c")
        )
        status = await serving.run(job)
        assert (status["State"], status["Verdict"]) == ("JobStateCompleted", "failed")
        entries = last_statuses(status)
        assert {entry["Error"] for entry in entries.values()} == {"exit status 4: reason"}
        assert {entry["TestStepLabel"] for entry in entries.values()} == {"gather"}
        assert [entry["Output"]["Stdout"] for entry in entries.values() if entry.get("Output")] == ["some\n"]
        (end,) = await payloads(serving, 1, "GatherCmdEnd")
        assert end == {"ExitCode": 4, "Err": "stdout: some\n\nstderr: reason\n"}


@pytest.mark.parametrize(
    ("script", "error", "code"),
    [("kill -9 $$", "signal: killed", -1), ("yes | head -c 99999; exit 9", "exit status 9: ", 9)],
)
async def test_what_it_says_of_a_failure_is_bounded(lab: Lab, script: str, error: str, code: int) -> None:
    async with lab.server() as serving:
        entry = last_statuses(await serving.run(simple(gather(script))))["t1"]
        assert entry["Error"].startswith(error)
        (end,) = await payloads(serving, 1, "GatherCmdEnd")
        assert end["ExitCode"] == code
        assert len(end["Err"]) <= 10_240
        assert end["Err"].startswith("stdout: ")


async def test_what_cannot_start_says_why(lab: Lab) -> None:
    async with lab.server() as serving:
        status = await serving.run(simple(step("gathercmd", binary="/no/such/program"), targets=("a", "b")))
        reason = "fork/exec /no/such/program: no such file or directory"
        assert {entry["Error"] for entry in last_statuses(status).values()} == {reason}
        assert await payloads(serving, 1, "GatherCmdEnd") == [
            {"ExitCode": 0, "Err": f"unknown error: {reason}"}
        ]


async def test_a_stop_ends_the_command_with_all_that_it_started(lab: Lab, tmp_path: Path) -> None:
    async with lab.server() as serving:
        pid = tmp_path / "pid"
        job = await serving.start(simple(gather(f"sleep 1000 & echo $! >{pid}; wait"), targets=("a", "b")))
        await eventually(lambda: pid.exists() and pid.read_text().strip())
        await serving.stop(job)
        assert (await asyncio.wait_for(serving.ended(job), 8))["State"] == "JobStateCancelled"
        assert "TargetErr" not in await serving.names(job)
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid.read_text()), 0)


@pytest.mark.parametrize(
    ("parameters", "code", "path"),
    [
        ({"binary": "no-such-program"}, "no_executable", "/binary"),
        ({"binary": ""}, "missing_parameter", "/binary"),
        ({"binary": "sh", "args": ["ok", "{{ nonsense"]}, "bad_template", "/args/1"),
        ({"binary": "sh", "args": ['{{ StringVar "a.b" }}']}, "bad_template", "/args/0"),
        ({"binary": "sh", "args": ["{{ .Nope }}"]}, "bad_template", "/args/0"),
    ],
)
async def test_bad_parameters_are_refused_when_the_job_is_handed_in(
    lab: Lab, parameters: dict[str, Any], code: str, path: str
) -> None:
    (finding,) = (await lab.read(simple(step("gathercmd", **parameters)))).findings
    assert (finding.severity.value, finding.code) == ("error", code)
    assert finding.path.endswith(f"/parameters{path}")


async def killed(lab: Lab, job: Any, ready: Path) -> None:
    """Lets a server run the job until the file is there, and kills it."""
    with subprocess.Popen([sys.executable, "-c", SERVE, str(lab.folder), json.dumps(job)]) as server:
        await eventually(ready.exists)
        server.send_signal(signal.SIGKILL)


async def test_a_kill_while_targets_gather_loses_nothing(lab: Lab, tmp_path: Path) -> None:
    ready, log = tmp_path / "ready", tmp_path / "log"
    slow = step(
        "cmd",
        "slow",
        executable="sh",
        args=["-c", f"test $0 = a || {{ touch {ready}; sleep 2; }}", "{{ .ID }}"],
        OnInterrupt="rerun",
    )
    job = simple(slow, gather(f"echo ran >>{log}"), targets=("a", "b"))
    await killed(lab, job, ready)
    async with lab.server() as serving:
        status = await serving.ended(1)
        assert status["Verdict"] == "passed"
        assert log.read_text() == "ran\n"


@pytest.mark.parametrize(
    ("more", "verdict", "runs"), [({}, "error", 1), ({"OnInterrupt": "rerun"}, "passed", 2)]
)
async def test_a_command_that_a_kill_interrupted_runs_again_only_if_the_job_says_so(
    lab: Lab, tmp_path: Path, more: dict[str, Any], verdict: str, runs: int
) -> None:
    log = tmp_path / "log"
    script = f"echo ran >>{log}; test $(wc -l <{log}) = 2 || sleep 1000"
    await killed(lab, simple(gather(script, **more), targets=("a", "b")), log)
    async with lab.server() as serving:
        status = await serving.ended(1)
        assert status["Verdict"] == verdict
        assert log.read_text() == "ran\n" * runs
        errors = {entry["Error"] for entry in last_statuses(status).values()}
        assert errors == ({""} if runs == 2 else {"interrupted: the server was killed while the command ran"})
