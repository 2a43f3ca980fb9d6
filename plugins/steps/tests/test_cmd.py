"""The step `cmd`: what it runs, what it says of it, and what is left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from contest_runner.testing import Lab, last_statuses, simple, step


def sh(script: str, *arguments: str, **more: Any) -> Any:
    return step("cmd", executable="sh", args=["-c", script, "sh", *arguments], **more)


def events(entry: Any) -> dict[str, Any]:
    return {event["Data"]["EventName"]: event["Data"]["Payload"] for event in entry["Events"]}


async def test_it_runs_once_a_target_with_expanded_arguments_and_says_so(lab: Lab, tmp_path: Path) -> None:
    async with lab.server() as serving:
        job = simple(
            sh('echo "$1 $PWD"', "{{ .ID }}", dir=str(tmp_path), emit_stdout="true", emit_stderr=[1]),
            targets=("a", "b"),
        )
        status = await serving.run(job)
        assert status["Verdict"] == "passed"
        for target, entry in last_statuses(status).items():
            said = events(entry)
            assert list(said) == ["CmdStart", "CmdEnd", "CmdStdout", "CmdStderr"]
            assert said["CmdStart"]["Path"].endswith("/sh")
            assert said["CmdStart"]["Args"][0] == said["CmdStart"]["Path"]
            assert said["CmdStart"]["Args"][-1] == target
            assert said["CmdStart"]["Dir"] == str(tmp_path)
            assert said["CmdEnd"] is None
            assert said["CmdStdout"] == {"Msg": f"{target} {tmp_path}\n"}
            assert said["CmdStderr"] == {"Msg": ""}


async def test_a_failure_has_the_end_of_what_it_wrote_and_the_sizes(lab: Lab) -> None:
    async with lab.server() as serving:
        script = "yes x | head -c 20000; echo the reason >&2; exit 3"
        status = await serving.run(simple(sh(script)))
        entry = last_statuses(status)["t1"]
        assert entry["Error"] == "exit status 3: the reason"
        assert entry["Blame"] == "test"
        output = entry["Output"]
        assert (output["StdoutSize"], output["StderrSize"]) == (20000, 11)
        assert len(output["Stdout"]) == 8192
        assert status["Verdict"] == "failed"


@pytest.mark.parametrize(
    ("descriptor", "error"),
    [
        (step("cmd", executable="/no/such/program"), "fork/exec /no/such/program: no such file or directory"),
        (sh("kill -9 $$"), "signal: killed"),
        (step("cmd", executable="true", dir="/no/such/folder"), "/no/such/folder"),
        (step("cmd", executable="true", args=["a\0b"]), ""),
    ],
)
async def test_what_cannot_run_fails_the_target_and_says_why(lab: Lab, descriptor: Any, error: str) -> None:
    async with lab.server() as serving:
        entry = last_statuses(await serving.run(simple(descriptor)))["t1"]
        assert error in entry["Error"]
        assert entry["Error"]


async def test_what_cannot_be_started_has_an_end_and_empty_output_too(lab: Lab) -> None:
    async with lab.server() as serving:
        job = simple(
            step("cmd", executable="true", dir="/no/such/folder", emit_stdout=True, emit_stderr=True)
        )
        said = events(last_statuses(await serving.run(job))["t1"])
    assert list(said) == ["CmdStart", "CmdEnd", "CmdStdout", "CmdStderr"]
    assert said["CmdStdout"] == said["CmdStderr"] == {"Msg": ""}


@pytest.mark.parametrize("more", [{"args": ["a\0b"]}, {"args": ['{{ printf "%c" 0 }}']}, {"dir": "/a\0b"}])
async def test_what_no_command_can_be_given_is_the_tests_fault(lab: Lab, more: dict[str, Any]) -> None:
    async with lab.server() as serving:
        status = await serving.run(simple(step("cmd", executable="true", **more)))
        entry = last_statuses(status)["t1"]
    assert status["Verdict"] == "failed"
    assert "invalid argument" in entry["Error"]
    assert list(events(entry)) == ["CmdStart", "CmdEnd"]


async def test_output_that_is_large_binary_or_all_control_characters_is_kept_within_bounds(lab: Lab) -> None:
    async with lab.server() as serving:
        script = "head -c 9000000 /dev/zero | tr '\\0' '\\001'; head -c 100 /dev/urandom; printf 'a\\0b'"
        status = await serving.run(simple(sh(script, emit_stdout=True)))
        assert status["Verdict"] == "passed"
        rows = [row for row in await serving.events(1) if row.name == "CmdStdout"]
        assert 7_000_000 < len(rows[0].payload) < 8_400_000
        assert json.loads(rows[0].payload)["Msg"].endswith("a\N{REPLACEMENT CHARACTER}b")
        assert "EventRefused" not in await serving.names(1)


async def test_a_command_that_leaves_something_in_the_background_is_not_waited_for(lab: Lab) -> None:
    async with lab.server() as serving:
        status = await serving.run(
            simple(sh("sleep 1000 & setsid sleep 1000 & echo done"), step("echo", text="x"))
        )
        assert status["Verdict"] == "passed"
        assert serving.manager._runner._supervisor.survivors(None) == []
