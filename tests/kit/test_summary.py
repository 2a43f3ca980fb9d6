"""What the pytest plugin of the kits says at the end."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from contest_core.testing import TransportSuite

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


def run(directory: Path, *arguments: str, file: str = FILE) -> str:
    (directory / "test_mine.py").write_text(file)
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


def test_a_suite_that_is_not_whole_is_refused_and_not_passed_over(tmp_path: Path) -> None:
    said = run(tmp_path, file=FILE.replace("def listener", "def listner"))
    assert "TestMine is a suite of Contest's and has no listener" in said
    assert "1 error" in said


@pytest.mark.parametrize(
    ("attribute", "value", "words"),
    [
        ("max_requests", 5, "TestMine.max_requests means nothing, did you mean max_request?"),
        ("max_request", "5MiB", "TestMine.max_request is '5MiB', and has to be int | None"),
        ("tokens", "no", "TestMine.tokens is 'no', and has to be bool"),
    ],
)
def test_a_misspelt_attribute_or_one_of_another_type_is_refused(
    attribute: str, value: object, words: str
) -> None:
    with pytest.raises(TypeError, match=re.escape(words)):
        type("TestMine", (TransportSuite,), {attribute: value})


def test_a_case_that_the_author_replaces_is_not_counted_as_a_promise(tmp_path: Path) -> None:
    own = "    def test_a_token_becomes_a_principal(self):\n        pass\n\n    def listener"
    said = run(tmp_path, "-k", "token_becomes or told_who_asks", file=FILE.replace("    def listener", own))
    assert "2 passed" in said
    assert "TestMine: 1 kept" in said
