"""What `contest_core` exports: one sorted list, complete, and the page that maps ConTest's names to it."""

from __future__ import annotations

import ast
import inspect
import re
from importlib import import_module
from pathlib import Path

import pytest

import contest_core

TESTS = Path(__file__).parents[1]
PAGE = TESTS / "data" / "contest-api-v1.0.1.txt"
OURS = TESTS.parent / "docs" / "api.md"

exported = [
    name for name in contest_core.__all__ if not isinstance(getattr(contest_core, name), str | int | float)
]


def test_the_list_is_sorted_constants_then_classes_then_functions() -> None:
    def key(name: str) -> tuple[int, str]:
        return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)

    assert contest_core.__all__ == sorted(set(contest_core.__all__), key=key)


def test_the_list_is_all_that_the_module_imports_and_the_module_does_nothing_else() -> None:
    tree = ast.parse(inspect.getsource(contest_core))
    imported = {
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert imported == set(contest_core.__all__)
    others = [node for node in tree.body if not isinstance(node, ast.ImportFrom)]
    assert [type(node) for node in others] == [ast.Expr, ast.Assign]


@pytest.mark.parametrize("name", exported)
def test_an_exported_object_is_where_it_says_it_is(name: str) -> None:
    thing = getattr(contest_core, name)
    if not (inspect.isclass(thing) or inspect.isfunction(thing)):
        return
    # Its real module, since there msgspec looks up the names in its annotations, and the schema its docstrings.
    assert thing.__module__.startswith("contest_core.")
    assert getattr(import_module(thing.__module__), thing.__name__) is thing


@pytest.mark.parametrize("name", exported)
def test_an_exported_class_or_function_and_its_methods_say_what_they_are(name: str) -> None:
    thing = getattr(contest_core, name)
    if not (inspect.isclass(thing) or inspect.isfunction(thing)):
        return
    assert inspect.getdoc(thing)
    if not inspect.isclass(thing):
        return
    for member, value in vars(thing).items():
        if inspect.isfunction(value) and not member.startswith("_"):
            assert value.__doc__, f"{name}.{member}"


def test_what_contracts_name_elsewhere_is_there() -> None:
    from contest_core.client import connect
    from contest_core.rpc import Session

    assert callable(connect)
    assert inspect.isclass(Session)


# --- ConTest's names


def contests_names() -> set[str]:
    """Every exported constant, variable, type, field, method and enumeration value of the page."""
    text = PAGE.read_text("utf-8")
    text = text[text.index("\nConstants\n") :]
    names = set(re.findall(r"^(?:const|var|type) ([A-Z]\w*)", text, re.M))
    names |= {"New"} if re.search(r"^func New\(", text, re.M) else set()
    names |= {
        f"{kind}.{method}"
        for kind, method in re.findall(r"^func \((?:\w+ )?\*?(\w+)\) ([A-Z]\w*)", text, re.M)
    }
    for kind, body in re.findall(r"^type (\w+) (?:struct|interface) \{\n(.*?)^\}", text, re.M | re.S):
        names |= {f"{kind}.{field}" for field in re.findall(r"^\t([A-Z]\w*)\b", body, re.M)}
    for body in re.findall(r"^const \(\n(.*?)^\)", text, re.M | re.S):
        names |= set(re.findall(r"^\t([A-Z]\w*)", body, re.M))
    return names


def rows() -> list[list[str]]:
    lines = [line for line in OURS.read_text("utf-8").splitlines() if line.startswith(("| `", "| - "))]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_page_is_understood() -> None:
    names = contests_names()
    assert {
        "CurrentAPIVersion",
        "DefaultEventTimeout",
        "ResponseTypeToName",
        "New",
        "API",
        "API.SendEvent",
    } <= names
    assert {"EventTypeList", "ResponseTypeList", "Event.RespCh", "EventResponse.Err", "ServerIDFunc"} <= names
    assert {"ResponseDataVersion.Type", "Listener.Serve", "Option.Apply", "EventMsg.Requestor"} <= names
    assert len(names) > 100


def test_docs_api_maps_every_exported_name_of_contests_page_once_and_no_other() -> None:
    mapped = [row[0].strip("`") for row in rows() if row[0] != "-"]
    assert sorted(mapped) == sorted(contests_names())
    assert all(row[1] for row in rows())


def test_every_name_of_ours_in_docs_api_exists() -> None:
    for row in rows():
        for name in re.findall(r"`([^`]+)`", row[1]):
            assert _exists(name), f"{row[0]} is mapped to {name}"


def _exists(path: str) -> bool:
    """Whether `Caller.requestor`, `API(event_timeout=)`, `START_KEY` or `contest_core.client.connect` is there."""
    call = re.fullmatch(r"([\w.]+)\((\w+)=\)", path)
    if call:
        return call[2] in inspect.signature(_find(call[1])).parameters  # type: ignore[arg-type]
    return _find(path.removesuffix("()")) is not None


def _find(path: str) -> object:
    if path.startswith("contest_core."):
        module, _, name = path.rpartition(".")
        return getattr(import_module(module), name, None)
    thing: object = contest_core
    for part in path.split("."):
        fields = getattr(thing, "__struct_fields__", ()) + tuple(getattr(thing, "__annotations__", ()))
        if part in fields:
            return part
        if not hasattr(thing, part):
            # Attributes that a constructor sets have no trace in the class but its source.
            source = inspect.getsource(thing) if inspect.isclass(thing) else ""
            return part if f"self.{part} = " in source else None
        thing = getattr(thing, part)
    return thing


def test_what_we_add_is_all_there_is_beside_contests_names() -> None:
    shown = {
        name.partition(".")[0].partition("(")[0]
        for row in rows()
        for name in re.findall(r"`([^`]+)`", row[1])
    }
    missing = set(contest_core.__all__) - shown
    assert not missing
