"""The job manager `local` under the conformance kit."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from contest_core import JobManager
from contest_core.settings import Duration
from contest_core.testing import JobManagerSuite
from contest_runner.manager import LocalJobManager
from contest_runner.settings import LocalSettings
from contest_runner.testing import simple, step


class TestLocal(JobManagerSuite):
    passes: ClassVar = simple(step("echo", text="hello"), targets=("t1", "t2"))
    fails: ClassVar = simple(step("cmd", executable="false"), targets=("t3", "t4"))
    lasts: ClassVar = simple(step("sleep", duration="10m"), targets=("t5", "t6"))
    warned: ClassVar = simple(step("echo", text="{{ .Nobody }}"), targets=("t7",))
    refused: ClassVar = simple(step("echo"))
    locked = frozenset({"t5", "t6"})
    persistent = True

    def manager(self, directory: Path) -> JobManager:
        return LocalJobManager(LocalSettings(stop_grace=Duration("2s"), synchronous="normal"))
