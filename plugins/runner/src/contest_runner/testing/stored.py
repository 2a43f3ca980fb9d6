"""What the author of a dialect of the store gives to be held to the contract:

from contest_runner.testing import StoreSuite

class TestPostgres(StoreSuite):
    def url(self, directory):
        return f"postgresql://localhost/{database_of(directory)}"
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from contest_core.testing import Complaints, Suite
from contest_runner.store import Store
from contest_runner.store.database import find
from contest_runner.store.locker import Locker
from contest_runner.testing.store_place import LOG, Clock, StorePlace


class StoredJobs(Suite, ABC):
    """A store that is tested. What is declared here is what it promises beyond the contract, or does not have."""

    persistent: ClassVar[bool] = True
    """It is there again when it is opened again."""

    opens_with: ClassVar[Mapping[str, Any]] = {}
    """More arguments for `Store.open`."""

    @abstractmethod
    def url(self, directory: Path) -> str:
        """The address of a database: this case's alone, empty the first time, the same for the same directory."""

    async def locker(self, store: Store, **more: Any) -> Locker:
        """A locker over the store, opened; `more` are the arguments of `Locker`."""
        made = Locker(store, **more)
        await made.open()
        return made

    def place(self, directory: Path, complaints: Complaints) -> StorePlace:
        """Where a case happens."""

        async def open_store(directory: Path, clock: Clock) -> Store:
            url = self.url(directory)
            return await Store.open(url, directory=directory, log=LOG, clock=clock, **self.opens_with)

        return StorePlace(open_store, self.locker, directory, complaints)

    # --- for the cases

    def _outlives_its_process(self) -> None:
        if not self.persistent:
            pytest.skip("`persistent` is False: it is gone when it is closed")

    def _has_one_server(self, directory: Path) -> None:
        if not find(self.url(directory))[0].one_server:
            pytest.skip("several servers may share it: leases outlive the one that has them")
