"""`contest plugins` and `contest config`."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner, Result

from contest_core import Registry, hookimpl, hookspec
from contest_core.cli import program
from contest_core.cli.plugins import contributed
from contest_core.plugins import PluginInfo, Plugins

Invoke = Callable[..., Result]
Contest = Callable[..., subprocess.CompletedProcess[str]]


class _Specifications:
    @hookspec
    def contest_register_pigeon_lofts(self, registry: Registry) -> None:
        """Add lofts."""


class _Lofts:
    @hookimpl
    def contest_register_pigeon_lofts(self, registry: Registry) -> None:
        registry.add("Roof", "m:Roof", summary="Above all.")


@pytest.fixture
def plugins() -> Plugins:
    made = Plugins()
    made.manager.add_hookspecs(_Specifications())
    for name, plugin in (("lofts", _Lofts()), ("broken", ModuleType("broken"))):
        info = PluginInfo(name=name, module=name, distribution=f"contest-{name}", version="1.2")
        made.register(plugin, info)
    made.infos[1].failure = "ModuleNotFoundError: no module 'x'"
    made.infos.append(
        PluginInfo(name="quiet", module="q", distribution="contest-quiet", version="0.1", disabled=True)
    )
    made.listeners.current_plugin = "lofts"
    made.listeners.add("pigeon", "m:Pigeon")
    return made


def test_plugins_are_listed_with_what_they_contribute_and_why_they_failed(plugins: Plugins) -> None:
    result = CliRunner().invoke(program, ["plugins"], obj=plugins)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "lofts  (contest-lofts 1.2)",
        "  listener pigeon",
        "  pigeon loft Roof: Above all.",
        "broken  (contest-broken 1.2)",
        "  failed: ModuleNotFoundError: no module 'x'",
        "quiet  (contest-quiet 0.1)  disabled",
    ]


def test_plugins_are_listed_as_json(plugins: Plugins) -> None:
    result = CliRunner().invoke(program, ["plugins", "--json", "lofts", "broken"], obj=plugins)
    first, second = json.loads(result.stdout)
    assert first["Contributes"][1] == {
        "Kind": "pigeon loft",
        "Name": "Roof",
        "Summary": "Above all.",
        "Place": "m:Roof",
    }
    assert second["Failure"] == "ModuleNotFoundError: no module 'x'"


def test_a_plugin_that_is_not_there_is_answered_with_those_that_are(plugins: Plugins) -> None:
    result = CliRunner().invoke(program, ["plugins", "loft"], obj=plugins)
    assert result.exit_code == 2
    assert "no plugin is called 'loft'; there are broken, lofts, quiet" in result.stderr


def test_nothing_installed_is_answered_with_what_to_install() -> None:
    result = CliRunner().invoke(program, ["plugins"], obj=Plugins())
    assert "contest-core[standard]" in result.stderr


def test_hooks_that_take_something_else_are_not_called() -> None:
    class Odd:
        @hookspec
        def contest_register_odd_things(self, registry: Registry, more: str) -> None:
            """Takes more than a registry."""

    made = Plugins()
    made.manager.add_hookspecs(Odd())
    assert contributed(made) == []


def test_the_installed_plugins_all_work_and_show_the_parts_of_jobs(contest: Contest) -> None:
    done = contest("plugins", "--json")
    listed = {plugin["Name"]: plugin for plugin in json.loads(done.stdout)}
    assert {"http", "runner", "stdio", "steps"} <= set(listed)
    assert [plugin["Failure"] for plugin in listed.values()] == [None] * len(listed)
    contributed = {(each["Kind"], each["Name"].lower()) for each in listed["steps"]["Contributes"]}
    assert {("step", "cmd"), ("target manager", "targetlist"), ("reporter", "targetsuccess")} <= contributed


def test_a_configuration_can_switch_plugins_off(contest: Contest, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("plugins: {disabled: [steps]}\n")
    assert "steps  (contest-steps 0.1.0)  disabled" in contest("plugins", "-c", "c.yaml").stdout


def test_config_check_shows_all_problems_and_exits_with_2(contest: Contest, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("listeners:\n  - http: {prot: 1}\njob_manger: {}\n")
    done = contest("config", "check", "-c", "c.yaml")
    assert done.returncode == 2
    assert done.stdout == ""
    assert [line.split(": ")[0] for line in done.stderr.splitlines()] == ["c.yaml:2:12", "c.yaml:3:1"]
    assert 'did you mean "port"?' in done.stderr


def test_config_check_says_what_a_good_file_would_run_and_starts_nothing(
    contest: Contest, tmp_path: Path
) -> None:
    (tmp_path / "c.yaml").write_text(
        "listeners:\n  - http: {name: lab, port: 0}\n  - stdio: {}\njob_manager:\n  local: {}\n"
    )
    done = contest("config", "check", "-c", "c.yaml")
    assert done.returncode == 0
    assert done.stdout == "c.yaml: OK: listeners lab (http), stdio; job manager local\n"
    assert [file.name for file in tmp_path.iterdir()] == ["c.yaml"]


def test_the_schema_is_json_and_knows_what_is_installed(contest: Contest) -> None:
    done = contest("config", "schema")
    assert done.returncode == 0
    schema = json.loads(done.stdout)
    assert set(schema["properties"]) == {"server", "listeners", "job_manager", "authentication", "plugins"}
    assert "stop_grace" in done.stdout


def test_the_default_is_a_configuration_that_is_right(contest: Contest, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(contest("config", "default").stdout)
    assert contest("config", "check", "-c", "c.yaml").returncode == 0
