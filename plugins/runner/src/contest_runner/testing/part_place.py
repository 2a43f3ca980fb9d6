"""Where a case of a part happens: jobs on a real runner with a real store, with what it leaves looked for."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import pytest

from contest_core import Finding, InvalidDescriptor
from contest_core.job_manager import Termination
from contest_core.testing import Complaints
from contest_runner.testing.lab import Json, Lab, Serving, eventually

PATIENCE = 10.0
"""Seconds to wait for anything that has to happen."""

NAME: Final = "tested"
"""Of the part in jobs; of a step also its label."""


class PartPlace:
    """One case's directory, and the servers that it opens there."""

    def __init__(self, kind: str, part: object, directory: Path, complaints: Complaints) -> None:
        """`kind` is one of `contest_runner.testing.lab.KINDS`."""
        self.directory = directory
        self.lab = Lab(directory / "store")
        self._kind = kind
        self._part = part
        self._complaints = complaints
        self._temporary = directory / "temporary"
        for folder in (self.lab.folder, self._temporary):
            folder.mkdir()

    def expect_errors(self) -> None:
        """What Contest logs as an error in this case is meant to be."""
        self._complaints.expected = True

    @asynccontextmanager
    async def serve(
        self, *, at_exit: Termination = Termination.CANCEL, **settings: Any
    ) -> AsyncIterator[Serving]:
        """A server that knows the part; `settings` are the job manager's. Nothing is left in the temporary folder."""
        with self.lab, self._elsewhere():
            self.lab.add(self._kind, NAME, self._part)
            async with self.lab.server(at_exit=at_exit, **settings) as serving:
                yield serving
        self.lab.forget(self._kind, NAME)
        left = sorted(path.name for path in self._temporary.iterdir())
        assert not left, f"it left in the temporary folder: {', '.join(left)}"

    @contextmanager
    def _elsewhere(self) -> Iterator[None]:
        """Temporary files, of processes too, are made in a folder of this case."""
        temporary = str(self._temporary)
        with patch.dict(os.environ, {"TMPDIR": temporary}), patch.object(tempfile, "tempdir", temporary):
            yield


async def until(holds: Callable[[], Any], what: str) -> None:
    """Waits until something holds."""
    try:
        await eventually(holds, what, seconds=PATIENCE)
    except TimeoutError as error:
        raise AssertionError(f"not within {PATIENCE:g} s: {what}") from error


async def refused_at(serving: Serving, descriptor: Json, where: str, name: str) -> None:
    """The descriptor is refused, with a message at this parameter, which stands in the object `where`."""
    with pytest.raises(InvalidDescriptor) as caught:
        await serving.start(descriptor)
    findings = caught.value.findings
    there = [finding for finding in findings if _is_of(finding, where, name)]
    assert there, f"{name} is refused at its place; found was only {findings}"
    assert all(finding.message.strip() for finding in there), "a refusal says why"


def _is_of(finding: Finding, where: str, name: str) -> bool:
    """Whether a finding is of this parameter, or of them all: one that is missing, or does not go with others."""
    return finding.path.endswith(f"/{where}") or f"/{where}/{name}" in finding.path
