"""Threads that decode the same types for the first time at once; each in a process, which dies where that fails."""

from __future__ import annotations

import subprocess
import sys

import pytest

AT_ONCE = """
import sys
from threading import Barrier, Thread
{before}
sys.setswitchinterval(1e-6)
begin = Barrier(8)
failed = []
def work():
    begin.wait()
    try:
        {call}
    except Exception as error:
        failed.append(error)
threads = [Thread(target=work) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert not failed, failed
"""

UNPACK = """
from datetime import UTC, datetime
from contest_core import TargetInfo
from contest_runner.status_packing import pack, unpack
from contest_runner.status_tree import RunTree, StepName, TestTree
now = datetime(2026, 1, 1, tzinfo=UTC)
test = TestTree(1, 1, "t", [StepName("s", "S")])
test.acquired([TargetInfo(id="a")], 0, now)
test.enter(0, 0, TargetInfo(id="a"), now)
packed = pack(RunTree(1, 1, [test], [], now))
"""

PART = """
from msgspec import Raw, Struct
from contest_runner.parts import decode_part
Inner = type("Inner", (Struct,), {"__annotations__": {f"field{number}": "int" for number in range(200)}})
Part = type("Part", (Struct,), {"__annotations__": {"inner": Inner}})
raw = Raw(b'{"inner": {' + b", ".join(b'"field%d": 1' % number for number in range(200)) + b"}}")
"""

EXACT = (
    PART.replace("raw = Raw(", "raw = (")
    + """
import msgspec
from contest_runner.exact import exactly
value = msgspec.json.decode(raw)
"""
)


@pytest.mark.parametrize(
    ("before", "call"),
    [(UNPACK, "unpack(1, 1, packed)"), (PART, "decode_part(raw, Part)"), (EXACT, "exactly(value, Part)")],
    ids=["status", "part", "descriptor"],
)
def test_threads_may_decode_a_type_for_the_first_time_at_once(before: str, call: str) -> None:
    for _ in range(5):
        script = AT_ONCE.format(before=before, call=call)
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=50)
        assert done.returncode == 0, (done.returncode, done.stderr)
