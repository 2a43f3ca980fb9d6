"""What all tests share: nothing is left behind, and time need not pass."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from contest_core.testing.clock import VirtualClock

_DESCRIPTORS = Path("/proc/self/fd")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """For `-n auto`: one more than there are processors, as many tests wait for processes and timeouts."""
    return (os.cpu_count() or 1) + 1


class _Complaints(logging.Handler):
    """What asyncio logs and nobody sees: exceptions that were never retrieved, tasks that were destroyed."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.words: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.words.append(self.format(record))


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Every test ends with the threads, sockets and pipes it began with, and without complaints of the loop."""
    threads = set(threading.enumerate())
    handles = _handles()
    complaints = _Complaints()
    logging.getLogger("asyncio").addHandler(complaints)
    yield
    logging.getLogger("asyncio").removeHandler(complaints)
    assert not complaints.words
    left = set(threading.enumerate()) - threads
    for thread in left:
        thread.join(1)  # what waits for a process ends a moment after the loop has heard of it
    assert not [thread.name for thread in left if thread.is_alive()]
    assert not _handles() - handles


def _handles() -> set[str]:
    """The sockets, pipes and pollers of this process; none where the system does not tell."""
    found = set()
    for name in os.listdir(_DESCRIPTORS) if _DESCRIPTORS.exists() else ():
        try:
            target = os.readlink(_DESCRIPTORS / name)
        except FileNotFoundError:
            continue
        if target.startswith(("socket:", "pipe:", "anon_inode:")):
            found.add(f"{name} {target}")
    return found


@pytest_asyncio.fixture
async def clock() -> AsyncIterator[VirtualClock]:
    """Virtual time for the test's loop: timeouts of seconds pass at once, and to the instant."""
    with VirtualClock() as clock:
        yield clock
