"""What this distribution contributes to Contest."""

from __future__ import annotations

from contest_core import Registry, hookimpl


@hookimpl
def contest_register_steps(registry: Registry) -> None:
    registry.add("cmd", "contest_steps.cmd:Cmd", summary="Runs a command on the server, once a target.")
    registry.add("gathercmd", "contest_steps.gathercmd:GatherCmd", summary="One command for all targets.")
    registry.add("echo", "contest_steps.echo:Echo", summary="Writes a text to the log.")
    registry.add("randecho", "contest_steps.randecho:RandEcho", summary="Passes or fails by chance.")
    registry.add("example", "contest_steps.example:Example", summary="Emits events; fails some by chance.")
    registry.add("sleep", "contest_steps.sleep:Sleep", summary="Waits.")
    registry.add("waitport", "contest_steps.waitport:WaitPort", summary="Waits until a port is open.")
    registry.add("variables", "contest_steps.variables:VariablesStep", summary="Sets variables.")


@hookimpl
def contest_register_target_managers(registry: Registry) -> None:
    registry.add("CSVFileTargetManager", "contest_steps.csv_targets:CsvTargets", summary="Targets of a file.")
    registry.add("TargetList", "contest_steps.target_list:TargetList", summary="Targets stand in the job.")


@hookimpl
def contest_register_fetchers(registry: Registry) -> None:
    registry.add("URI", "contest_steps.uri:Uri", summary="The steps stand in a file, or on the web.")
    registry.add("literal", "contest_steps.literal:Literal", summary="The steps stand in the job.")


@hookimpl
def contest_register_reporters(registry: Registry) -> None:
    registry.add("noop", "contest_steps.noop:Noop", summary="Says that all is good.")
    registry.add("TargetSuccess", "contest_steps.target_success:TargetSuccess", summary="Counts successes.")
    registry.add("junit", "contest_steps.junit:JUnit", summary="Writes JUnit XML to a file.")
    registry.add("tap", "contest_steps.tap:Tap", summary="Writes TAP to a file.")
