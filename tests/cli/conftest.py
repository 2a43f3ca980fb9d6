"""What the tests of the program share: a server that answers as it is told, and two ways to run the program."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any, Self

import pytest
from click.testing import CliRunner, Result

from contest_core import (
    Client,
    ClientOptions,
    JobEntry,
    JobReport,
    JobState,
    JobStatus,
    Response,
    ResponseDataVersion,
    ResponseType,
    encode,
    repeats,
)
from contest_core.cli import program
from contest_core.plugins import Plugins

CAPABILITIES = ("list", "start", "start.start_key", "start.strict", "status", "status.events", "status.run")
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


class FakeServer:
    """Answers from lists, one a verb, whose last entry stays; an exception in a list is raised.

    Of `watch` an answer is what one subscription gives, which may end with an exception.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.connections: list[ClientOptions] = []
        self.answers: dict[str, list[Any]] = defaultdict(list)
        self.then: dict[str, Callable[[], None]] = {}
        """What happens before a verb is answered."""
        self.offer(*CAPABILITIES)

    def offer(self, *capabilities: str) -> None:
        data = ResponseDataVersion(version=5, capabilities=list(capabilities))
        self.answers["version"] = [self.answer(data)]

    def calls(self, verb: str) -> list[dict[str, Any]]:
        return [parameters for asked, parameters in self.asked if asked == verb]

    def next(self, verb: str, parameters: Mapping[str, object]) -> Any:
        self.asked.append((verb, dict(parameters)))
        self.then.get(verb, lambda: None)()
        answers = self.answers[verb]
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(found, BaseException):
            raise found
        return found

    @staticmethod
    def answer(data: Any, error: Any = None) -> bytes:
        """The wire's object."""
        return encode(Response(server_id="lab", type=ResponseType(data.type), data=data, error=error))

    @staticmethod
    def status(state: JobState = JobState.COMPLETED, **fields: Any) -> JobStatus:
        given: dict[str, Any] = {
            "name": "smoke",
            "state_name": state.wire_name,
            "state_err_msg": "",
            "start_time": NOON,
            "end_time": NOON if state.ended else None,
            "run_status": None,
            "run_statuses": None,
            "job_report": JobReport(job_id=7, run_reports=None, final_reports=None),
        }
        return JobStatus(**{**given, **fields})

    @staticmethod
    def entry(job_id: int, **fields: Any) -> JobEntry:
        given: dict[str, Any] = {
            "job_id": job_id,
            "name": f"job-{job_id}",
            "state_name": JobState.COMPLETED.wire_name,
            "verdict": "passed",
            "flaky": False,
            "requestor": "alice",
            "principal": None,
            "tags": [],
            "start_time": NOON,
            "end_time": NOON,
        }
        return JobEntry(**{**given, **fields})


class FakeClient(Client):
    server: FakeServer

    @classmethod
    async def connect(cls, address: str, options: ClientOptions) -> Self:
        cls.server.connections.append(options)
        return cls()

    async def call(self, verb: str, parameters: Mapping[str, object]) -> bytes:
        answer = self.server.next(verb, parameters)
        assert isinstance(answer, bytes)
        return answer

    @asynccontextmanager
    async def watch(self, parameters: Mapping[str, object]) -> AsyncIterator[AsyncIterator[bytes]]:
        found = self.server.next("watch", parameters)

        async def items() -> AsyncIterator[bytes]:
            for item in found:
                if isinstance(item, BaseException):
                    raise item
                yield item

        yield items()

    async def aclose(self) -> None:
        return


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> FakeServer:
    fake = FakeServer()
    module = ModuleType("fake_contest_client")
    FakeClient.server = fake
    module.__dict__["FakeClient"] = FakeClient
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(repeats, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(repeats, "LONGEST_PAUSE", 0.001)
    return fake


@pytest.fixture
def invoke(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs the program in this process, with nothing installed but the fake client."""
    for name in ("CONTEST_ADDRESS", "CONTEST_REQUESTOR", "CONTEST_TOKEN", "NO_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CONTEST_ADDRESS", "fake:")

    def run(*arguments: str, stdin: str | None = None) -> Result:
        plugins = Plugins()
        plugins.clients.add("fake", "fake_contest_client:FakeClient")
        return CliRunner().invoke(program, arguments, input=stdin, obj=plugins, prog_name="contest")

    return run


@pytest.fixture
def contest(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the installed program as a process of its own, in an empty folder."""

    def run(*arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
        options: dict[str, Any] = {"capture_output": True, "text": True, "timeout": 40, "cwd": tmp_path}
        return subprocess.run([*command(), *arguments], **{**options, "env": environment(tmp_path), **more})

    return run


def command() -> list[str]:
    return [sys.executable, "-c", "from contest_core.cli import main; main()"]


def environment(home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CONTEST_")}
    return {**kept, "HOME": str(home), "XDG_STATE_HOME": str(home / "state")}
