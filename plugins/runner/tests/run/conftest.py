"""What the tests of `contest run` share: the program as a process of its own, in a folder of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

SECONDS = 40

PLUGIN = """
import asyncio
import os
import threading
from msgspec import Struct
from contest_core import hookimpl
from contest_runner.step import Step, ThreadStep


class Nothing(Struct, frozen=True):
    pass


class Loud(Step[Nothing]):
    Parameters = Nothing
    display_name = "Loud"

    async def run(self, target, parameters, context):
        print("printed")
        os.write(1, b"written\\n")


class Broken(Step[Nothing]):
    Parameters = Nothing
    display_name = "Broken"

    async def run(self, target, parameters, context):
        raise RuntimeError("this plugin is broken")


class Swallowing(Step[Nothing]):
    Parameters = Nothing
    display_name = "Swallowing"

    async def run(self, target, parameters, context):
        while True:
            try:
                await asyncio.sleep(600)
            except asyncio.CancelledError:
                pass


class Deaf(ThreadStep[Nothing]):
    Parameters = Nothing
    display_name = "Deaf"

    def run(self, target, parameters, context):
        threading.Event().wait(600)


@hookimpl
def contest_register_steps(registry):
    registry.add("loud", "contest_loud:Loud")
    registry.add("broken", "contest_loud:Broken")
    registry.add("deaf", "contest_loud:Deaf")
    registry.add("swallowing", "contest_loud:Swallowing")
"""


class Program:
    """Runs `contest run`; nothing but what the test keeps may be left in its folders."""

    command = (sys.executable, "-c", "from contest_core.cli import main; main()", "run")

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.temporary = folder / "temporary"
        self.temporary.mkdir()
        kept = {name: value for name, value in os.environ.items() if not name.startswith("CONTEST_")}
        self.environment = {**kept, "TMPDIR": str(self.temporary), "HOME": str(folder), "COLUMNS": "100"}
        self.environment.pop("NO_COLOR", None)
        self.begun: list[subprocess.Popen[str]] = []

    def job(self, *steps: tuple[str, dict[str, list[Any]]], name: str = "job", **more: Any) -> str:
        """Writes a descriptor of targets `a` and `b`, and gives the file's name."""
        targets = more.pop("targets", ["a", "b"])
        test = {
            "TargetManagerName": "TargetList",
            "TargetManagerAcquireParameters": {"Targets": [{"ID": each} for each in targets]},
            "TargetManagerReleaseParameters": {},
            "TestFetcherName": "literal",
            "TestFetcherFetchParameters": {
                "TestName": "the test",
                "Steps": [
                    {"name": step, "label": f"step_{number}", "parameters": parameters}
                    for number, (step, parameters) in enumerate(steps, 1)
                ],
            },
        }
        reporter = {"Name": "TargetSuccess", "Parameters": {"SuccessExpression": "=100%"}}
        descriptor = {
            "JobName": name,
            "Version": "1.0",
            "Runs": 1,
            "TestDescriptors": [test],
            "Reporting": {"RunReporters": [reporter]},
            **more,
        }
        (self.folder / f"{name}.json").write_text(json.dumps(descriptor, indent=1))
        return f"{name}.json"

    def run(self, *arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
        """Runs it to its end."""
        options = {"capture_output": True, "text": True, "timeout": SECONDS, "cwd": self.folder}
        return subprocess.run([*self.command, *arguments], **{**options, "env": self.environment, **more})

    def begin(self, *arguments: str, **more: Any) -> subprocess.Popen[str]:
        """Starts it."""
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": self.folder}
        process = subprocess.Popen(
            [*self.command, *arguments], **{**options, "env": self.environment, **more}
        )
        self.begun.append(process)
        return process

    def install(self) -> None:
        """Adds a plugin with steps: `loud` prints, `broken` raises, `deaf` and `swallowing` stay."""
        site = self.folder / "site"
        found = site / "contest_loud-1.0.dist-info"
        found.mkdir(parents=True)
        (site / "contest_loud.py").write_text(PLUGIN)
        (found / "METADATA").write_text("Metadata-Version: 2.1\nName: contest-loud\nVersion: 1.0\n")
        (found / "entry_points.txt").write_text("[contest]\nloud = contest_loud\n")
        self.environment["PYTHONPATH"] = os.pathsep.join(
            [str(site), *filter(None, [os.environ.get("PYTHONPATH")])]
        )

    def leftovers(self) -> list[str]:
        """What is left in the folder for temporary files."""
        return os.listdir(self.temporary)


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    made = Program(tmp_path)
    yield made
    for process in made.begun:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=SECONDS)


@pytest.fixture
def until() -> Callable[..., None]:
    """Waits until something is true."""

    def wait(condition: Callable[[], object], what: str = "it") -> None:
        end = time.monotonic() + SECONDS
        while not condition():
            assert time.monotonic() < end, f"{what} did not come"
            time.sleep(0.02)

    return wait
