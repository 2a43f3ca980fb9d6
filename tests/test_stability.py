"""`docs/stability.md` is true: what it calls public is there, and the examples need nothing else."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from contest_core.scaffold import LISTENER, Scaffold, render
from contest_runner.scaffold import STEP

DOCS = Path(__file__).parents[1] / "docs"

ROWS = re.findall(
    r"^\| `(contest_\w+(?:\.\w+)*)` \| (.*) \|$", (DOCS / "stability.md").read_text(), re.MULTILINE
)


def names(module: str, told: str) -> list[str]:
    """What a row of the table calls public."""
    if told.startswith("everything in `__all__`"):
        return list(import_module(module).__all__)
    return re.findall(r"`(\w+)`", told.partition(":")[0])


PUBLIC = {module: names(module, told) for module, told in ROWS}


def imports(source: str) -> Iterator[tuple[str, str]]:
    """What a source takes from Contest: module and name."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.module or "", alias.name) for alias in node.names)


def foreign(source: str) -> set[tuple[str, str]]:
    """What it takes from Contest that is not public."""
    ours = {"contest_core", *(module.partition(".")[0] for module in PUBLIC)}
    return {
        (module, name)
        for module, name in imports(source)
        if module.partition(".")[0] in ours and name not in PUBLIC.get(module, ())
    }


@pytest.mark.parametrize("module", PUBLIC)
def test_what_is_public_is_there(module: str) -> None:
    assert PUBLIC[module]
    assert [name for name in PUBLIC[module] if not hasattr(import_module(module), name)] == []


@pytest.mark.parametrize("file", sorted(DOCS.glob("examples/**/*.py")), ids=lambda file: file.name)
def test_an_example_stands_on_public_names_only(file: Path) -> None:
    assert foreign(file.read_text()) == set()


@pytest.mark.parametrize("scaffold", [LISTENER, STEP], ids=["listener", "step"])
def test_what_is_written_for_an_author_stands_on_public_names_only(scaffold: Scaffold) -> None:
    sources = {path: text for path, text in render(scaffold, "x").items() if path.endswith(".py")}
    assert {path: found for path, text in sources.items() if (found := foreign(text))} == {}


def test_the_examples_of_hooks_stand_on_public_names_only() -> None:
    shown = re.findall(
        r"^```python file \S+\n((?:.*\n)*?)```$", (DOCS / "hooks.md").read_text(), re.MULTILINE
    )
    assert shown
    assert [found for source in shown if (found := foreign(source))] == []


def test_a_name_that_is_not_public_would_be_found() -> None:
    assert foreign("from contest_core.lifecycle import Server") == {("contest_core.lifecycle", "Server")}
    assert foreign("import contest_core.api") == {("contest_core.api", "")}
    assert foreign("from contest_core import Registry\nfrom msgspec import Struct") == set()
