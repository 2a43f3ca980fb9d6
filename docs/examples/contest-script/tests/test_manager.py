"""The job manager, held to the contract."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from contest_script.manager import ScriptJobManager

from contest_core import JobManager
from contest_core.testing import JobManagerSuite


class TestScript(JobManagerSuite):
    passes: ClassVar = {"JobName": "short", "Script": "true"}
    fails: ClassVar = {"JobName": "wrong", "Script": "exit 3"}
    lasts: ClassVar = {"JobName": "long", "Script": "sleep 600"}
    refused: ClassVar = {"JobName": "", "Script": "true"}

    def manager(self, directory: Path) -> JobManager:
        return ScriptJobManager(ScriptJobManager.Settings())
