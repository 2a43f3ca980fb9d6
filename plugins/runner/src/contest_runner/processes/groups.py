"""The account where there is no /proc: a job's processes are the groups that it has led.

What leaves its group is not found, and neither is what a killed server has left.
"""

from __future__ import annotations

import os

from contest_runner.processes.account import Survivor


class Groups:
    """Keeps the groups of running commands, and those that outlived their leaders."""

    def __init__(self) -> None:
        self._running: dict[int, int] = {}
        self._outlived: dict[int, int] = {}

    def started(self, pid: int, job_id: int) -> None:
        """See `Account`."""
        self._running[pid] = job_id

    def ended(self, pid: int) -> None:
        """See `Account`: the number stays taken while its group has a member."""
        job_id = self._running.pop(pid)
        if signal_group(pid, 0):
            self._outlived[pid] = job_id

    @property
    def restless(self) -> bool:
        """See `Account`."""
        return bool(self._outlived)

    def look(self) -> int:
        """See `Account`: orphans are buried by the system here."""
        self._outlived = {group: job_id for group, job_id in self._outlived.items() if signal_group(group, 0)}
        return 0

    def survivors(self, job_id: int | None, *, adopting: bool) -> list[Survivor]:
        """See `Account`: a group each."""
        self.look()
        return [
            Survivor(pid=group, job_id=job, command=f"process group {group}", started=0)
            for group, job in (self._running | self._outlived).items()
            if job_id is None or job == job_id
        ]

    def signal(self, survivor: Survivor, number: int) -> None:
        """See `Account`."""
        signal_group(survivor.pid, number)


def signal_group(group: int, number: int) -> bool:
    """Signal all of a group; whether there was anybody to signal."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):  # macOS says EPERM of zombies
        return False
    return True
