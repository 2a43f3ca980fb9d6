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


def test_a_plugin_without_a_hook_is_listed_as_such() -> None:
    made = Plugins()
    info = PluginInfo(name="empty", module="empty", distribution="contest-empty", version="1.2")
    made.register(ModuleType("empty"), info)
    result = CliRunner().invoke(program, ["plugins"], obj=made)
    assert result.stdout.splitlines() == [
        "empty  (contest-empty 1.2)",
        "  implements no hook, so it adds nothing",
    ]


def test_a_command_with_the_name_of_one_of_ours_is_told_and_ours_stays() -> None:
    class Commands:
        @hookimpl
        def contest_register_commands(self, registry: Registry) -> None:
            registry.add("version", "m:version", summary="Another one.")
            registry.add("pigeons", "m:pigeons", summary="Count them.")

    made = Plugins()
    made.register(
        Commands(), PluginInfo(name="birds", module="b", distribution="contest-birds", version="1.0")
    )
    made.call("contest_register_commands", "registry", made.commands)
    result = CliRunner().invoke(program, ["plugins"], obj=made)
    assert result.stdout.splitlines() == [
        "birds  (contest-birds 1.0)",
        "  failed: the command 'version' is the program's own: that of this plugin is never called",
        "  command pigeons: Count them.",
    ]
    assert "Show what a server speaks" in CliRunner().invoke(program, ["version", "--help"], obj=made).stdout


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
    assert [kind for kind, _ in contributed(made)] == ["scaffold"]  # the core's own


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


ABSURD = """\
server: {event_timeout: 0s, grace: -1s, in_flight: 0}
listeners:
  - http: {host: 0.0.0.0, port: 70000, idle_timeout: 1000h}
  - http: {name: open, host: 0.0.0.0}
  - stdio: {max_request: 0}
job_manager:
  local: {store: mysql://me:secret@host/x, stop_grace: 0s, lock_duration: 0s, synchronous: fulll}
plugins: {disabled: [setps]}
"""


@pytest.mark.parametrize("command", [("config", "check"), ("serve",)])
def test_values_that_cannot_be_are_told_all_at_once_before_anything_starts(
    contest: Contest, tmp_path: Path, command: tuple[str, ...]
) -> None:
    path = tmp_path / "contest.yaml"
    path.write_text(ABSURD)
    done = contest(*command, "-c", str(path))
    assert done.returncode == 2
    assert [line.removeprefix(f"{path}:") for line in done.stderr.splitlines()] == [
        '1:25: "event_timeout" has to be at least 1ms',
        "1:36: a duration here cannot be negative",
        "1:52: expected a whole number >= 1",
        "3:18: listener 'http' would take anonymous requests on 0.0.0.0, not a loopback: configure "
        "`authentication:`, bind to loopback, or set `allow_anonymous: true`",
        "3:33: expected a whole number <= 65535",
        '3:54: "idle_timeout" may be 24h at the most',
        "4:30: listener 'open' would take anonymous requests on 0.0.0.0, not a loopback: configure "
        "`authentication:`, bind to loopback, or set `allow_anonymous: true`",
        '5:26: "max_request" has to be at least 1B',
        "7:18: no store of the kind 'mysql'; there is: sqlite",
        '7:56: "stop_grace" has to be at least 1ms',
        '7:75: "lock_duration" has to be at least 1s',
        '7:92: "fulll" is none of: full, normal, did you mean "full"?',
        '8:22: unknown plugin "setps", did you mean "steps"?',
    ]
    assert [each.name for each in tmp_path.iterdir()] == ["contest.yaml"]


def test_two_listeners_at_one_place_are_told_before_anything_starts(contest: Contest, tmp_path: Path) -> None:
    path = tmp_path / "contest.yaml"
    path.write_text(
        "listeners:\n"
        "  - http: {port: 8099}\n"
        "  - websocket: {port: 8099}\n"
        "  - http: {name: free, port: 0}\n"
        "  - http: {name: also, port: 0}\n"
        "  - websocket: {name: other, host: '::1', port: 8099}\n"
        "job_manager: {local: {}}\n"
    )
    done = contest("config", "check", "-c", str(path))
    assert done.returncode == 2
    assert done.stderr == (
        f"{path}:3:23: 127.0.0.1:8099 is taken already, by /listeners/0/http; choose another"
        " (0 finds a free port)\n"
    )


@pytest.mark.parametrize("store", ["sqlite://", "sqlite:///", "sqlite:///:memory:"])
def test_a_server_needs_a_store_that_outlives_it(contest: Contest, tmp_path: Path, store: str) -> None:
    path = tmp_path / "contest.yaml"
    path.write_text(f'listeners: [{{http: {{port: 0}}}}]\njob_manager: {{local: {{store: "{store}"}}}}\n')
    done = contest("config", "check", "-c", str(path))
    assert done.returncode == 2
    assert done.stderr == (
        f"{path}:2:30: a server keeps its jobs in a file: write sqlite:///FILE, and name one\n"
    )


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
