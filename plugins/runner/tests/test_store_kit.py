"""SQLite under the conformance kit for stores."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from contest_runner.testing import StoreSuite


class TestSQLite(StoreSuite):
    opens_with: ClassVar = {"synchronous": "off"}

    def url(self, directory: Path) -> str:
        return "sqlite:///store.db"


class TestPrivateSQLite(StoreSuite):
    persistent = False

    def url(self, directory: Path) -> str:
        return "sqlite://"
