"""The suite that the author of a dialect of the store subclasses: every case is a promise of the store."""

from __future__ import annotations

from contest_runner.testing.store_feed import StoredFeedCases
from contest_runner.testing.store_jobs import StoredJobCases
from contest_runner.testing.store_locks import StoredLockCases


class StoreSuite(StoredJobCases, StoredFeedCases, StoredLockCases):
    """Holds a store, and the locker over it, to what the runner relies on."""
