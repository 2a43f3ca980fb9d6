"""What can go wrong with the store and the locker. The engine turns these into the core's errors.

StoreError                 the store cannot be used as asked: a sentence for the operator
├── StoreLocked                another process holds the file
├── StoreTooNew                a newer program wrote the file
├── StoreUnwell                the database takes nothing just now (a full disk): nothing happened
├── StoreClosed                asked after `aclose`
└── StoreFailed                the database is damaged: nothing more can be written
    └── StoreGivenUp               it was not well at the end, and nobody waits any longer
LeaseLost                  a write under a lease that is gone: nothing was written
StartKeyTaken              the start key belongs to a job with another descriptor
AcquireTimeout             the targets were not to be had by the deadline
LockLost                   a lock ran out and another job took the target
"""

from __future__ import annotations

from collections.abc import Sequence

from contest_runner.store.rows import Blocker


class StoreError(Exception):
    """The store cannot be used as asked. The message is one sentence for an operator."""

    exit_code = 3
    """The exit status of a program that it ends; it also says that the error was expected and needs no traceback."""


class StoreLocked(StoreError):
    """Another process serves from this file."""

    def __init__(self, file: str, pid: int | None) -> None:
        by = f"process {pid}" if pid is not None else "another process"
        super().__init__(
            f"the store {file} is in use by {by}: one server at a time; stop that one or name another file"
        )
        self.file = file
        self.pid = pid


class StoreTooNew(StoreError):
    """The file was written by a newer program."""

    def __init__(self, file: str, found: int, known: int) -> None:
        super().__init__(
            f"the store {file} has schema version {found}, this program knows up to {known}: "
            "use the newer program, or another file"
        )
        self.file = file
        self.found = found
        self.known = known


class StoreUnwell(StoreError):
    """The database takes nothing just now, and may later; what was asked for has not happened."""


class StoreClosed(StoreError):
    """The store was closed before or while it was asked."""

    def __init__(self) -> None:
        super().__init__("the store is closed")


class StoreFailed(StoreError):
    """The database is damaged: what was waiting is not on disk, and nothing more can be written."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the store failed: {reason}")
        self.reason = reason


class StoreGivenUp(StoreFailed):
    """The database did not take what was waiting before the end."""

    def __init__(self, reason: str) -> None:
        StoreError.__init__(
            self,
            f"the end did not wait any longer for the store: {reason}; "
            "nothing that was answered is lost, and the next start takes the jobs on",
        )
        self.reason = reason


class LeaseLost(Exception):
    """The job belongs to somebody else now, or has ended; nothing was written."""

    def __init__(self, job_id: int) -> None:
        super().__init__(f"the lease of job {job_id} is gone")
        self.job_id = job_id


class StartKeyTaken(Exception):
    """The start key belongs to a job that was started with another descriptor."""

    def __init__(self, start_key: str, job_id: int, descriptor: str) -> None:
        super().__init__(f"start key {start_key!r} belongs to job {job_id}, which has another descriptor")
        self.start_key = start_key
        self.job_id = job_id
        self.descriptor = descriptor
        """The descriptor of that job, so that the caller can say what differs."""


class AcquireTimeout(Exception):
    """The targets were not to be had by the deadline; nothing is held."""

    def __init__(self, blockers: Sequence[Blocker]) -> None:
        shown = "; ".join(
            f"{each.target!r} {'is awaited by' if each.queued else 'is held by'} job {each.held_by}"
            for each in blockers[:5]
        )
        more = f" and {len(blockers) - 5} more" if len(blockers) > 5 else ""
        super().__init__(f"targets were not free by the deadline: {shown}{more}")
        self.blockers = tuple(blockers)


class LockLost(Exception):
    """The lock ran out without being renewed, and another job has the target now."""

    def __init__(self, job_id: int, targets: Sequence[str]) -> None:
        named = ", ".join(repr(target) for target in targets[:5])
        more = f" and {len(targets) - 5} more" if len(targets) > 5 else ""
        super().__init__(f"job {job_id} no longer holds {named or 'this lock'}{more}")
        self.job_id = job_id
        self.targets = tuple(targets)
