"""Loading plugins: one that fails is listed with its reason and stops nobody else."""

from __future__ import annotations

import builtins
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from contest_core import CORE_VERSION, Registry, hookspecs
from contest_core.distributions import EntryPoint
from contest_core.plugins import CORE_HOOKS, PluginInfo, Plugins, load_plugins

Write = Callable[..., EntryPoint]

HEAD = "from contest_core import hookimpl, hookspec\n"


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes a plugin's module and gives its entry point."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)

    def written(name: str, source: str, **more: object) -> EntryPoint:
        module = f"written_plugin_{name}_{more.get('distribution', 'own')}".replace("-", "_")
        (tmp_path / f"{module}.py").write_text(HEAD + source)
        given = {"name": name, "module": module, "distribution": f"contest-{name}", "version": "1.0", **more}
        return EntryPoint(**given)  # type: ignore[arg-type]

    yield written
    for module in set(sys.modules) - before:
        if module.startswith("written_plugin_"):
            del sys.modules[module]


def load(*points: EntryPoint, disabled: tuple[str, ...] = ()) -> Plugins:
    return load_plugins(found=lambda: points, disabled=disabled)


def failures(plugins: Plugins) -> dict[str, str | None]:
    return {info.name: info.failure for info in plugins.infos}


def registers(kind: str, *names: str) -> str:
    lines = [f"    registry.add({name!r}, 'json:dumps')" for name in names]
    return "\n".join(["@hookimpl", f"def contest_register_{kind}(registry):", *lines, ""])


def test_a_plugin_fills_the_registries(write: Write) -> None:
    plugins = load(write("carrier", registers("listeners", "carrier") + registers("clients", "carrier")))
    assert plugins.listeners.get("carrier").plugin == "carrier"
    assert plugins.clients.names() == ["carrier"]
    assert plugins.infos == [
        PluginInfo(
            name="carrier", module="written_plugin_carrier_own", distribution="contest-carrier", version="1.0"
        )
    ]


def test_loading_is_no_side_effect_of_an_import(write: Write) -> None:
    point = write("a", registers("listeners", "a"))
    assert load(point).listeners is not load(point).listeners
    assert Plugins().infos == []


def test_all_hooks_are_called_in_the_order_of_the_page_and_plugins_in_the_order_of_their_names(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = "".join(
        f"@hookimpl\ndef {hook}({argument}):\n    calls.append(({hook!r}, __name__))\n"
        for hook, argument in [("contest_add_hookspecs", "plugin_manager")]
        + [(hook, "registry") for hook in CORE_HOOKS]
    )
    calls: list[tuple[str, str]] = []
    monkeypatch.setattr(builtins, "calls", calls, raising=False)
    load(write("b", source), write("a", source))
    specified = [name for name in vars(hookspecs) if name.startswith("contest_")]
    assert specified == ["contest_add_hookspecs", *CORE_HOOKS]
    modules = ["written_plugin_a_own", "written_plugin_b_own"]
    assert calls == [(hook, module) for hook in specified for module in modules]


def test_a_broken_import_is_listed_with_its_place_and_stops_nobody_else(write: Write) -> None:
    plugins = load(
        write("bad", "x = 1\nimport no_such_module\n"), write("good", registers("listeners", "good"))
    )
    failure = failures(plugins)["bad"] or ""
    assert "ModuleNotFoundError: No module named 'no_such_module'" in failure
    assert failure.endswith("written_plugin_bad_own.py, line 3)")
    assert failures(plugins)["good"] is None
    assert plugins.listeners.names() == ["good"]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("def (:", "SyntaxError"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("1 / 0", "ZeroDivisionError"),
        ("from contest_core import NoSuchThing", "ImportError"),
    ],
)
def test_whatever_an_import_does_is_a_line_in_the_list(write: Write, source: str, words: str) -> None:
    failure = failures(load(write("bad", source)))["bad"] or ""
    assert words in failure
    assert "\n" not in failure


def test_a_module_that_is_not_there_is_a_line_in_the_list(write: Write) -> None:
    point = EntryPoint(name="gone", module="written_plugin_gone", distribution="contest-gone", version="1")
    assert "No module named 'written_plugin_gone'" in (failures(load(point))["gone"] or "")


def test_of_a_hook_that_raises_what_it_registered_is_forgotten_and_other_hooks_stand(write: Write) -> None:
    broken = registers("clients", "one", "two") + "    1 / 0\n"
    plugins = load(
        write("bad", registers("listeners", "fine") + broken + registers("commands", "also-fine")),
        write("good", registers("clients", "one")),
    )
    failure = failures(plugins)["bad"] or ""
    assert failure.startswith("contest_register_clients: ZeroDivisionError: division by zero (")
    assert plugins.listeners.names() == ["fine"]
    assert plugins.commands.names() == ["also-fine"]
    assert [(entry.name, entry.plugin) for entry in plugins.clients] == [("one", "good")]
    assert failures(plugins)["good"] is None


def test_a_name_taken_twice_fails_in_the_second_plugins_own_call_and_names_both(write: Write) -> None:
    plugins = load(
        write("a", registers("listeners", "carrier")), write("b", registers("listeners", "mine", "carrier"))
    )
    assert failures(plugins)["a"] is None
    assert failures(plugins)["b"] == (
        "contest_register_listeners: listener 'carrier' of plugin 'b' is already registered by 'a' (contest-a 1.0): "
        "of contest-b 1.0 this hook is left out"
    )
    assert [(entry.name, entry.plugin) for entry in plugins.listeners] == [("carrier", "a")]


def test_a_bad_name_or_place_is_the_plugins_failure(write: Write) -> None:
    plugins = load(
        write("bad", "@hookimpl\ndef contest_register_listeners(registry):\n    registry.add('A B', 'x:y')\n")
    )
    assert "listener name 'A B' does not match" in (failures(plugins)["bad"] or "")


def test_two_distributions_with_one_entry_point_name_both_fail_and_are_named(write: Write) -> None:
    one = write("carrier", registers("listeners", "one"), distribution="carrier-pigeon")
    two = write("carrier", registers("listeners", "two"), distribution="contest-carrier")
    plugins = load(one, two, write("good", registers("listeners", "good")))
    claimed = "entry point 'carrier' is claimed by carrier-pigeon and contest-carrier"
    assert [(info.distribution, info.failure) for info in plugins.infos] == [
        ("carrier-pigeon", claimed),
        ("contest-carrier", claimed),
        ("contest-good", None),
    ]
    assert plugins.listeners.names() == ["good"]


def test_one_module_under_two_names_is_one_plugin(write: Write) -> None:
    one = write("a", registers("listeners", "a"))
    plugins = load(one, EntryPoint(name="b", module=one.module, distribution="contest-b", version="1.0"))
    assert failures(plugins) == {"a": None, "b": "its module is plugin 'a' already"}
    assert plugins.listeners.names() == ["a"]


def test_any_plugin_can_be_off_by_its_name_and_is_not_even_imported(write: Write) -> None:
    plugins = load(write("bad", "1 / 0"), write("good", registers("listeners", "good")), disabled=("bad",))
    assert [(info.name, info.disabled, info.failure) for info in plugins.infos] == [
        ("bad", True, None),
        ("good", False, None),
    ]
    assert "written_plugin_bad_own" not in sys.modules


@pytest.mark.parametrize(
    ("requires", "met"),
    [
        ([], True),
        ([f"contest-core=={CORE_VERSION}"], True),
        (["contest-core>=0.1,<0.2"], True),
        (["Contest_Core[standard] (>=0.1)"], True),
        (["contest-core"], True),
        (["contest-core~=0.1"], True),
        (["contest-core @ file:///somewhere"], True),
        (["contest-core-extras>=9", "other>=9"], True),
        (["contest-core>=9; extra == 'new'"], True),
        (["contest-core>=9; python_version < '3'"], True),
        (["contest-core>=9"], False),
        (["other", "contest-core<0.1"], False),
        (["contest-core>=9; python_version >= '3'"], False),
        (["contest-core!=0.1.0"], False),
    ],
)
def test_a_plugins_own_requirement_is_held_against_the_core_before_it_is_imported(
    write: Write, requires: list[str], met: bool
) -> None:
    plugins = load(write("a", registers("listeners", "a"), requires=tuple(requires)))
    assert ("written_plugin_a_own" in sys.modules) == met
    failure = failures(plugins)["a"]
    if met:
        assert failure is None
    else:
        assert failure is not None
        assert failure.startswith("contest-a 1.0 needs contest-core ")
        assert failure.endswith(f", this is {CORE_VERSION}")


def test_a_requirement_that_nobody_can_read_is_a_line_in_the_list(write: Write) -> None:
    failure = failures(load(write("a", "", requires=("contest-core>=>1",))))["a"] or ""
    assert "InvalidSpecifier" in failure


def test_a_hook_that_nobody_specifies_is_flagged_and_stops_nothing(write: Write) -> None:
    source = "@hookimpl\ndef contest_register_brooms(registry):\n    pass\n"
    plugins = load(write("a", source + registers("listeners", "a")))
    assert failures(plugins)["a"] == "it implements contest_register_brooms, which no plugin here specifies"
    assert plugins.listeners.names() == ["a"]


def test_an_optional_hook_that_nobody_specifies_is_fine(write: Write) -> None:
    source = "@hookimpl(optionalhook=True)\ndef contest_register_brooms(registry):\n    pass\n"
    assert failures(load(write("a", source)))["a"] is None


def test_a_forgotten_marker_is_flagged(write: Write) -> None:
    source = registers("listeners", "a").replace("@hookimpl\n", "")
    plugins = load(write("a", source))
    assert failures(plugins)["a"] == "contest_register_listeners is not marked with @hookimpl"


def test_a_hook_with_an_argument_that_does_not_exist_takes_its_plugin_out_and_no_other(write: Write) -> None:
    source = "@hookimpl\ndef contest_register_listeners(registry, color):\n    pass\n"
    plugins = load(
        write("bad", registers("clients", "c") + source), write("good", registers("listeners", "good"))
    )
    failure = failures(plugins)["bad"] or ""
    assert "color" in failure
    assert "\n" not in failure
    assert plugins.clients.names() == []
    assert plugins.listeners.names() == ["good"]


def test_an_argument_may_be_left_out_and_an_implementation_have_another_name(write: Write) -> None:
    source = (
        "@hookimpl\ndef contest_register_listeners():\n    pass\n"
        "@hookimpl(specname='contest_register_clients')\ndef mine(registry):\n    registry.add('c', 'x:y')\n"
    )
    plugins = load(write("a", source))
    assert failures(plugins)["a"] is None
    assert plugins.clients.names() == ["c"]


SPECIFIES = """
class Specs:
    @hookspec
    def contest_register_brooms(self, registry): ...

@hookimpl
def contest_add_hookspecs(plugin_manager):
    plugin_manager.add_hookspecs(Specs)
"""


@pytest.mark.parametrize(("specifying", "implementing"), [("a", "b"), ("b", "a")])
def test_a_plugin_may_specify_hooks_that_others_implement_whatever_their_names(
    write: Write, specifying: str, implementing: str
) -> None:
    plugins = load(
        write(specifying, SPECIFIES + registers("brooms", "own")),
        write(implementing, registers("brooms", "new")),
    )
    assert failures(plugins) == {"a": None, "b": None}
    brooms = Registry("broom")
    plugins.call("contest_register_brooms", "registry", brooms)
    assert {(entry.name, entry.plugin) for entry in brooms} == {("own", specifying), ("new", implementing)}
    assert brooms.current_plugin == "contest_core"


@pytest.mark.parametrize(("specifying", "implementing"), [("a", "b"), ("b", "a")])
def test_a_wrong_implementation_of_a_plugins_hook_is_the_fault_of_who_wrote_it(
    write: Write, specifying: str, implementing: str
) -> None:
    wrong = "@hookimpl\ndef contest_register_brooms(registry, color):\n    pass\n"
    plugins = load(write(specifying, SPECIFIES), write(implementing, wrong))
    assert failures(plugins)[specifying] is None
    assert "color" in (failures(plugins)[implementing] or "")


def test_a_failure_in_an_added_hook_is_its_plugins_alone_and_told_once(write: Write) -> None:
    bad = registers("brooms", "one") + "    1 / 0\n"
    plugins = load(write("a", SPECIFIES), write("b", bad), write("c", registers("brooms", "one")))
    for _ in range(2):
        brooms = Registry("broom")
        plugins.call("contest_register_brooms", "registry", brooms)
        assert [(entry.name, entry.plugin) for entry in brooms] == [("one", "c")]
    failure = failures(plugins)["b"] or ""
    assert failure.startswith("contest_register_brooms: ZeroDivisionError")
    assert failure.count("ZeroDivisionError") == 1


def test_two_plugins_that_specify_one_hook_are_a_failure_of_the_second(write: Write) -> None:
    plugins = load(write("a", SPECIFIES), write("b", SPECIFIES))
    assert failures(plugins)["a"] is None
    assert (failures(plugins)["b"] or "").startswith(
        "contest_add_hookspecs: ValueError: Hook 'contest_register_brooms'"
    )


def test_without_the_plugin_that_specifies_it_a_hook_is_flagged(write: Write) -> None:
    plugins = load(write("a", SPECIFIES), write("b", registers("brooms", "x")), disabled=("a",))
    assert failures(plugins)["b"] == "it implements contest_register_brooms, which no plugin here specifies"


def test_a_hook_that_nobody_knows_may_be_called(write: Write) -> None:
    brooms = Registry("broom")
    load(write("a", registers("listeners", "a"))).call("contest_register_brooms", "registry", brooms)
    assert brooms.names() == []


def test_a_hook_that_nobody_specified_yet_reaches_who_implements_it(write: Write) -> None:
    plugins = load(write("a", registers("brooms", "x")), write("b", registers("brooms", "y")))
    brooms = Registry("broom")
    plugins.call("contest_register_brooms", "registry", brooms)
    assert {(entry.name, entry.plugin) for entry in brooms} == {("x", "a"), ("y", "b")}


def test_a_value_that_is_no_registry_is_passed_as_it_is(write: Write) -> None:
    plugins = load(write("a", "@hookimpl\ndef contest_collect(found):\n    found.append(__name__)\n"))
    found: list[str] = []
    plugins.call("contest_collect", "found", found)
    assert found == ["written_plugin_a_own"]


def test_our_own_plugins_come_by_entry_points_like_anybodys() -> None:
    plugins = load_plugins()
    assert {"http", "runner", "stdio", "steps"} <= {info.name for info in plugins.infos}
    assert failures(plugins) == dict.fromkeys(failures(plugins))
    assert {"http", "stdio", "websocket"} <= set(plugins.listeners.names())
    assert "local" in plugins.job_managers
    assert {entry.plugin for entry in plugins.clients} >= {"http", "stdio", "websocket"}
