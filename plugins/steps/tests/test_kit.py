"""The standard steps under the conformance kit."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from typing import ClassVar

import pytest

from contest_runner.testing import StepSuite
from contest_steps.cmd import Cmd
from contest_steps.echo import Echo
from contest_steps.example import Example
from contest_steps.gathercmd import GatherCmd
from contest_steps.randecho import RandEcho
from contest_steps.sleep import Sleep
from contest_steps.variables import VariablesStep
from contest_steps.waitport import WaitPort


class TestEcho(StepSuite):
    step = Echo
    passes: ClassVar = {"text": "hello"}
    fails: ClassVar = {"text": "{{ .Nobody }}"}
    refused: ClassVar = {"text": {}}


class TestSleep(StepSuite):
    step = Sleep
    passes: ClassVar = {"duration": "1ms"}
    refused: ClassVar = {"duration": {"duration": "soon"}}
    lasts: ClassVar = {"duration": "10m"}


class TestCmd(StepSuite):
    step = Cmd
    passes: ClassVar = {"executable": "true", "args": ["a", "b"], "emit_stdout": True}
    fails: ClassVar = {"executable": "false"}
    refused: ClassVar = {"executable": {"executable": ""}}
    lasts: ClassVar = {"executable": "sleep", "args": "600"}


class TestGatherCmd(StepSuite):
    step = GatherCmd
    passes: ClassVar = {"binary": "true"}
    fails: ClassVar = {"binary": "false"}
    refused: ClassVar = {"args": {"binary": "true", "args": "{{ .Nobody"}}
    lasts: ClassVar = {"binary": "sleep", "args": "600"}


class TestExample(StepSuite):
    step = Example
    passes: ClassVar = {"FailPct": 0}
    fails: ClassVar = {"FailPct": 100}
    refused: ClassVar = {"FailPct": {"FailPct": "many"}}


class TestRandEcho(StepSuite):
    step = RandEcho
    passes: ClassVar = {"text": "heads"}
    refused: ClassVar = {"text": {}}

    @pytest.fixture(autouse=True)
    def _heads(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(random, "random", lambda: 0.7)


class TestVariables(StepSuite):
    step = VariablesStep
    passes: ClassVar = {"colour": "red", "sizes": {"a": 1}}
    refused: ClassVar = {"a-b": {"a-b": "x"}}


class TestWaitPort(StepSuite):
    step = WaitPort
    fails: ClassVar = {
        "target": "127.0.0.1",
        "port": 1,
        "protocol": "tcp",
        "timeout": "0s",
        "check_interval": "1s",
    }
    refused: ClassVar = {"protocol": {**fails, "protocol": "sctp"}, "port": {**fails, "port": 0}}
    lasts: ClassVar = {**fails, "timeout": "10m"}

    @pytest.fixture(autouse=True)
    def _port(self) -> Iterator[None]:
        with socket.create_server(("127.0.0.1", 0)) as there:
            self.passes = {**self.fails, "port": there.getsockname()[1], "timeout": "10s"}
            yield
