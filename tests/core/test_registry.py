"""Registries: names to places, and messages that name the plugins."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from contest_core import Registry
from contest_core.registry import RegistrationError, UnknownName


def filled(*, fold: bool = False) -> Registry:
    registry = Registry("step", fold=fold)
    registry.current_plugin = "first"
    registry.add("echo", "json:dumps", summary="Says it again.")
    registry.add("cmd", "json:loads")
    return registry


def test_a_name_gives_its_place_summary_and_plugin() -> None:
    entry = filled().get("echo")
    assert (entry.name, entry.place, entry.summary, entry.plugin) == (
        "echo",
        "json:dumps",
        "Says it again.",
        "first",
    )


def test_names_and_entries_come_sorted() -> None:
    registry = filled()
    assert registry.names() == ["cmd", "echo"]
    assert [entry.name for entry in registry] == ["cmd", "echo"]
    assert "echo" in registry
    assert "nope" not in registry


def test_nothing_is_imported_before_it_is_loaded() -> None:
    registry = Registry("step")
    registry.add("odd", "no_such_module_anywhere:thing")
    with pytest.raises(ModuleNotFoundError, match="no_such_module_anywhere"):
        registry.load("odd")


def test_an_import_that_exits_is_an_import_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "exits_when_imported.py").write_text("raise SystemExit(7)")
    monkeypatch.syspath_prepend(tmp_path)
    registry = Registry("step")
    registry.add("odd", "exits_when_imported:thing")
    with pytest.raises(ImportError, match="exits_when_imported ended with SystemExit: 7"):
        registry.load("odd")


def test_load_gives_the_object() -> None:
    import json

    assert filled().load("echo") is json.dumps


def test_a_name_taken_twice_names_both_plugins() -> None:
    registry = filled()
    registry.current_plugin = "second"
    with pytest.raises(
        RegistrationError, match="step 'echo' of plugin 'second' is already registered by 'first'"
    ):
        registry.add("echo", "json:dumps")
    assert registry.get("echo").plugin == "first"


@pytest.mark.parametrize("name", ["", "Echo", "1a", "a b", "a.b", "é", "-a", "a\n"])
def test_a_name_that_does_not_fit_is_refused(name: str) -> None:
    with pytest.raises(RegistrationError, match="step name"):
        Registry("step").add(name, "json:dumps")


@pytest.mark.parametrize(
    "place", ["", "json", "json.dumps", "json:", ":dumps", "json:dumps:x", "a b:c", "json:du.mps"]
)
def test_a_place_that_is_none_is_refused(place: str) -> None:
    with pytest.raises(RegistrationError, match="not of the form module:object"):
        Registry("step").add("a", place)


def test_template_functions_have_names_of_their_own_form_with_regard_to_case() -> None:
    registry = Registry("template function", pattern=re.compile(r"[A-Za-z][A-Za-z0-9_]*"))
    registry.add("ToUpper", "json:dumps")
    registry.add("toupper", "json:dumps")
    assert registry.names() == ["ToUpper", "toupper"]
    with pytest.raises(UnknownName):
        registry.get("TOUPPER")


def test_a_folding_registry_matches_without_regard_to_case() -> None:
    registry = filled(fold=True)
    assert registry.get("ECHO").name == "echo"
    assert "Echo" in registry
    assert callable(registry.load("eChO"))


def test_an_unknown_name_says_the_nearest_or_all_there_are() -> None:
    registry = filled()
    with pytest.raises(UnknownName, match="unknown step 'ech', did you mean 'echo'") as unknown:
        registry.get("ech")
    assert unknown.value.nearest == "echo"
    with pytest.raises(UnknownName, match="unknown step 'terminal'; there are: cmd, echo"):
        registry.get("terminal")
    with pytest.raises(UnknownName, match="there are: none"):
        Registry("step").get("a")


def test_what_a_plugin_registered_can_be_forgotten() -> None:
    registry = filled()
    registry.current_plugin = "second"
    registry.add("sleep", "json:dumps")
    registry.drop("first")
    assert registry.names() == ["sleep"]
