"""What the runner's tests share."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from contest_runner.testing import Lab


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """Nothing of it is left at the end of a test but threads of steps that nobody can end."""
    threads = set(threading.enumerate())
    handles = _handles()
    with Lab(tmp_path) as made:
        yield made
    left = [thread.name for thread in set(threading.enumerate()) - threads if thread.is_alive()]
    assert not [name for name in left if not name.startswith(("step for", "asyncio_"))]
    assert not _handles() - handles


def _handles() -> set[str]:
    """The files, sockets, pipes and pollers of this process."""
    found = set()
    for name in os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd") else ():
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue
        if target.startswith(("socket:", "pipe:", "anon_inode:")) or target.endswith((".db", "-wal", "-shm")):
            found.add(f"{name} {target}")
    return found
