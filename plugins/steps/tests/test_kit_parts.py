"""The standard target managers, fetchers and reporters under the conformance kits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar

import pytest

from contest_runner.testing import FetcherSuite, ReporterSuite, TargetManagerSuite, step
from contest_steps.csv_targets import CsvTargets
from contest_steps.junit import JUnit
from contest_steps.literal import Literal
from contest_steps.noop import Noop
from contest_steps.tap import Tap
from contest_steps.target_list import TargetList
from contest_steps.target_success import TargetSuccess
from contest_steps.uri import Uri

STEPS = [step("echo", text="hello")]


class TestTargetList(TargetManagerSuite):
    target_manager = TargetList
    acquires: ClassVar = {"Targets": [{"ID": "a"}, {"ID": "b"}]}
    targets = frozenset({"a", "b"})
    refused: ClassVar = {"Targets": {"Targets": []}}


class TestCsvTargets(TargetManagerSuite):
    target_manager = CsvTargets
    targets = frozenset({"a", "b", "c"})
    refused: ClassVar = {"MaxNumberDevices": {"FileURI": "/hosts.csv", "MaxNumberDevices": "many"}}

    @pytest.fixture(autouse=True)
    def _files(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        folder = tmp_path_factory.mktemp("hosts")
        (folder / "hosts.csv").write_text("a,a.lab,,\nb,b.lab,,\nc,c.lab,,\n")
        self.acquires = {"FileURI": str(folder / "hosts.csv"), "MaxNumberDevices": 2}
        self.fails = {"FileURI": str(folder / "gone.csv")}


class TestLiteral(FetcherSuite):
    fetcher = Literal
    fetches: ClassVar = {"TestName": "t", "Steps": STEPS}
    refused: ClassVar = {"Steps": {"TestName": "t", "Steps": 7}}


class TestUri(FetcherSuite):
    fetcher = Uri
    refused: ClassVar = {"URI": {"TestName": "t", "URI": "ftp://lab/steps"}}

    @pytest.fixture(autouse=True)
    def _file(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        file: Path = tmp_path_factory.mktemp("steps") / "steps.json"
        file.write_text(json.dumps({"Steps": STEPS}))
        self.fetches = {"TestName": "t", "URI": str(file)}
        self.fails = {"TestName": "t", "URI": f"{file}.gone"}


class TestNoop(ReporterSuite):
    reporter = Noop
    run: ClassVar = {}
    final: ClassVar = {}


class TestTargetSuccess(ReporterSuite):
    reporter = TargetSuccess
    run: ClassVar = {"SuccessExpression": ">=0%"}
    final: ClassVar = {"AverageSuccessExpression": ">=0%"}
    says_no: ClassVar = {"SuccessExpression": "<1"}
    refused: ClassVar = {"SuccessExpression": {"SuccessExpression": "all of them"}}


class TestJUnit(ReporterSuite):
    reporter = JUnit
    refused: ClassVar = {"File": {"File": "{nothing}.xml"}}

    @pytest.fixture(autouse=True)
    def _file(self, tmp_path: Path) -> None:
        self.run = {"File": f"{tmp_path}/run.xml"}
        self.final = {"File": f"{tmp_path}/job.xml"}
        (tmp_path / "file").touch()
        self.says_no = {"File": f"{tmp_path}/file/run.xml"}


class TestTap(TestJUnit):
    reporter = Tap
