"""The relay under the conformance kit for job managers: what it hands on is as good as what it asks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from contest_core import JobManager
from contest_core.testing import JobManagerSuite
from contest_runner.testing import simple, step

from .conftest import relay
from .far_server import FarServers


@pytest.fixture(scope="module")
def far_servers() -> Iterator[FarServers]:
    with FarServers() as servers:
        yield servers


class TestRelay(JobManagerSuite):
    """To a server behind HTTP."""

    scheme: ClassVar[str] = "http"
    passes: ClassVar = simple(step("echo", text="hello"), targets=("t1", "t2"))
    fails: ClassVar = simple(step("cmd", executable="false"), targets=("t3", "t4"))
    lasts: ClassVar = simple(step("sleep", duration="10m"), targets=("t5", "t6"))
    warned: ClassVar = simple(step("echo", text="{{ .Nobody }}"), targets=("t7",))
    refused: ClassVar = simple(step("echo"))
    locked = frozenset({"t5", "t6"})
    persistent = True
    principals = False

    @pytest.fixture(autouse=True)
    def _far(self, far_servers: FarServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
        self.address = far_servers.open(self.scheme, tmp_path_factory.mktemp("far"))
        yield
        far_servers.close()

    def manager(self, directory: Path) -> JobManager:
        return relay(self.address)


class TestRelayOverWebsocket(TestRelay):
    scheme = "ws"
