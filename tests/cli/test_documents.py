"""`contest openapi` and `contest openrpc` print the contracts for machines, without a server."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from contest_core import VERBS

Contest: TypeAlias = Callable[..., Any]


@pytest.mark.parametrize("command", ["openapi", "openrpc"])
def test_a_document_has_everything_and_goes_to_stdout_or_to_a_file(
    contest: Contest, tmp_path: Path, command: str
) -> None:
    printed = contest(command)
    assert (printed.returncode, printed.stderr) == (0, "")
    document = json.loads(printed.stdout)
    assert document[command].startswith(("3.1", "1.3"))
    named = (
        {path.strip("/") for path in document["paths"]} | {"watch"}
        if command == "openapi"
        else {method["name"] for method in document["methods"]}
    )
    assert set(VERBS) <= named
    file = tmp_path / "document.json"
    written = contest(command, "--output", str(file))
    assert (written.returncode, written.stdout) == (0, "")
    assert f"{file}: the Open" in written.stderr
    assert file.read_text() == printed.stdout


def test_a_document_that_cannot_be_written_says_so(contest: Contest, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = contest("openrpc", "--output", str(tmp_path / "file" / "such.json"))
    assert done.returncode == 3
    assert "cannot write" in done.stderr
    assert "Traceback" not in done.stderr
