"""What the pytest plugin of the kits says at the end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FILE = """
import pytest
from contest_core.testing import DirectClient, DirectListener, ListenerSuite

class TestMine(ListenerSuite):
    def listener(self, directory):
        self.made = DirectListener()
        return self.made

    async def connect(self, address, options):
        return self.made.client(options)

def test_plain():
    pass
"""


def run(directory: Path, *arguments: str) -> str:
    (directory / "test_mine.py").write_text(FILE)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:asyncio", *arguments]
    ended = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=50)
    assert not ended.stderr
    return ended.stdout


def test_it_counts_what_was_kept_broken_and_not_looked_at(tmp_path: Path) -> None:
    chosen = "test_it_asks or told_who_asks or byte_by_byte or test_where_there or plain"
    said = run(tmp_path, "-k", chosen, "-n", "0")
    assert "contest: promises" in said
    assert "TestMine: 1 kept, 1 BROKEN, 2 not looked at" in said
    assert "not looked at, 1: `watches` is True: there is one" in said
    assert "the suite has no `dial` and `request`: raw bytes are not tested" in said


def test_it_says_nothing_where_no_suite_is_used(tmp_path: Path) -> None:
    assert "promises" not in run(tmp_path, "-k", "test_plain", "-n", "0")
