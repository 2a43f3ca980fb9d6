"""What the author of a job manager gives to be held to the contract. The smallest whole test file of one:

    from contest_core.testing import JobManagerSuite

    class TestPigeons(JobManagerSuite):
        passes = {"JobName": "short"}
        lasts = {"JobName": "long"}
        refused = {"JobName": ""}

        def manager(self, directory):
            return PigeonJobManager(PigeonJobManager.Settings(loft=str(directory)))

Which cases apply is what `capabilities()` declares, and what is declared here.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import pytest

from contest_core.job_manager import JobManager
from contest_core.testing.cases import Complaints, Suite
from contest_core.testing.manager_world import ManagerPlace, ManagerWorld

Descriptor: TypeAlias = Mapping[str, Any]
"""A job descriptor, as JSON reads it. Where a case needs them it puts a `JobName` and `Tags` of its own into one."""


class ManagedJobs(Suite, ABC):
    """A job manager that is tested. What is declared here is what it promises beyond the contract, or does not have."""

    passes: ClassVar[Descriptor]
    """A job that passes, soon; also several times at once."""

    lasts: ClassVar[Descriptor]
    """A job that goes on until it is stopped."""

    refused: ClassVar[Descriptor]
    """A descriptor that is refused."""

    fails: ClassVar[Descriptor | None] = None
    """A job that fails, soon; None: none can."""

    warned: ClassVar[Descriptor | None] = None
    """As `passes`, and the manager has a warning for it; None: it never has."""

    locked: ClassVar[Set[str]] = frozenset()
    """The targets that `lasts` locks."""

    persistent: ClassVar[bool] = False
    """Jobs outlive it: the next one in the same directory has them."""

    pauses: ClassVar[bool] = False
    """Told to pause, it leaves its jobs for the next one to go on with."""

    principals: ClassVar[bool] = True
    """It keeps who has proven to have asked."""

    @abstractmethod
    def manager(self, directory: Path) -> JobManager:
        """A new job manager, that does not serve yet. The directory is empty the first time, and this case's alone.

        It is called again in the same directory when the manager that had it has ended.
        """

    def place(self, directory: Path, complaints: Complaints) -> ManagerPlace:
        """Where a case happens."""
        return ManagerPlace(self.manager, directory, complaints)

    # --- for the cases

    def job(self, name: str, *tags: str) -> str:
        """The text of a job that passes, with this name and tags."""
        return text({**self.passes, "JobName": name, "Tags": list(tags)})

    def needs(self, world: ManagerWorld, *capabilities: str) -> None:
        """Skips the case where one of them is not declared."""
        for capability in capabilities:
            if capability not in world.offered:
                pytest.skip(f"it does not declare `{capability}`")


def text(descriptor: Descriptor) -> str:
    """As a client sends it."""
    return json.dumps(descriptor)
