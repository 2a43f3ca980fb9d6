"""The program's face: help, usage errors, completion, and what it does not import."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from contest_core import VERBS
from contest_core.cli import program
from contest_core.cli.group import OWN, SECTIONS, nearest
from contest_core.plugins import PluginInfo, Plugins

Invoke = Callable[..., Result]
Contest = Callable[..., subprocess.CompletedProcess[str]]


def test_help_names_every_command_in_a_section(invoke: Invoke) -> None:
    result = invoke("--help")
    assert result.exit_code == 0
    for section in ("Run jobs:", "Ask a server:", "Operate:"):
        assert section in result.stdout
    for name, own in OWN.items():
        assert f"  {name} " in result.stdout
        assert own.summary in result.stdout


def test_every_verb_is_a_command() -> None:
    assert set(VERBS) <= set(OWN)


@pytest.mark.parametrize("name", sorted(OWN))
def test_a_command_is_where_the_table_says_and_its_summary_is_the_tables(invoke: Invoke, name: str) -> None:
    command = program.get_command(program.make_context("contest", [name, "--help"]), name)
    assert command is not None
    assert command.get_short_help_str(200).rstrip(".") == OWN[name].summary.rstrip(".")
    assert invoke(name, "--help").exit_code == 0


def test_sections_name_only_commands_that_exist_or_that_our_plugins_bring() -> None:
    named = {name for section in SECTIONS.values() for name in section}
    assert named == set(OWN) | {"run", "schema", "bench", "openapi"}


def test_help_imports_no_plugins_code_but_its_plugin_module(contest: Contest) -> None:
    code = (
        "import sys\n"
        "from contest_core.cli import program\n"
        "try:\n    program.main(['--help'], prog_name='contest')\n"
        "except SystemExit:\n    pass\n"
        "heavy = {'asyncio', 'sqlalchemy', 'uvicorn', 'yaml', 'rich', 'logging', 'pathlib', 'shutil', 'json'}\n"
        "found = heavy & set(sys.modules)\n"
        "ours = [n for n in sys.modules if n.startswith('contest_') and not n.startswith('contest_core')]\n"
        "found |= {n for n in ours if n.count('.') > 0 and n.rsplit('.')[-1] not in ('plugin', 'hookspecs')}\n"
        "print(sorted(found), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=40)
    assert done.stderr.strip().splitlines()[-1] == "[]"


def test_an_unknown_command_is_answered_with_the_nearest(invoke: Invoke) -> None:
    result = invoke("stat")
    assert result.exit_code == 2
    assert "contest: no such command 'stat', did you mean 'status'?" in result.stderr
    assert "try 'contest --help'" in result.stderr


def test_an_unknown_command_that_resembles_nothing_is_answered_with_all(invoke: Invoke) -> None:
    result = invoke("qqqqqq")
    assert result.exit_code == 2
    assert "there are " in result.stderr
    assert "status" in result.stderr


def test_a_subcommand_is_answered_with_its_nearest_too(invoke: Invoke) -> None:
    result = invoke("config", "chek")
    assert result.exit_code == 2
    assert "did you mean 'check'?" in result.stderr
    assert "try 'contest config --help'" in result.stderr


@pytest.mark.parametrize(
    "arguments", [("stop",), ("stop", "seven"), ("list", "--jsn"), ("status", "1", "--run", "x")]
)
def test_wrong_usage_exits_with_2_and_points_to_the_help(invoke: Invoke, arguments: tuple[str, ...]) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("contest: ")
    assert f"try 'contest {arguments[0]} --help'" in result.stderr


def test_an_unknown_command_is_blamed_on_a_plugin_that_failed() -> None:
    plugins = Plugins()
    plugins.infos.append(
        PluginInfo(
            name="runner", module="m", distribution="contest-runner", version="1", failure="no module x"
        )
    )
    result = CliRunner().invoke(program, ["run"], obj=plugins, prog_name="contest")
    assert result.exit_code == 2
    assert "plugin 'runner' failed: no module x" in result.stderr


def test_a_plugins_command_that_cannot_be_imported_names_the_plugin() -> None:
    plugins = Plugins()
    plugins.commands.current_plugin = "pigeon"
    plugins.commands.add("coo", "contest_no_such_module:coo", summary="Coo.")
    runner = CliRunner()
    assert "coo         Coo." in runner.invoke(program, ["--help"], obj=plugins).stdout
    result = runner.invoke(program, ["coo"], obj=plugins, prog_name="contest")
    assert result.exit_code == 3
    assert "the command 'coo' of plugin 'pigeon' cannot be loaded: ModuleNotFoundError" in result.stderr


def test_a_plugins_command_is_given_the_plugins_and_its_errors_never_look_like_a_verdict(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    @click.command()
    @click.pass_obj
    def coo(plugins: Plugins) -> None:
        raise click.ClickException(f"no loft among {plugins.commands.names()}")

    module = ModuleType("contest_pigeon_command")
    module.__dict__["coo"] = coo
    monkeypatch.setitem(sys.modules, module.__name__, module)
    plugins = Plugins()
    plugins.commands.add("coo", "contest_pigeon_command:coo")
    result = CliRunner().invoke(program, ["coo"], obj=plugins, prog_name="contest")
    assert result.exit_code == 3
    assert result.stderr == "contest: no loft among ['coo']\n"


def test_nearest_prefers_what_begins_as_it_was_written() -> None:
    assert nearest("stat", ["start", "status"]) == "status"
    assert nearest("sttus", ["start", "status"]) == "status"
    assert nearest("x", ["start", "status"]) is None


def test_the_version_of_the_program_is_printed(contest: Contest) -> None:
    done = contest("--version")
    assert done.returncode == 0
    assert done.stdout.startswith("contest 0.")


def test_no_arguments_show_the_help_and_are_a_wrong_use(contest: Contest) -> None:
    done = contest()
    assert done.returncode == 2
    assert "Run jobs:" in done.stderr
    assert done.stdout == ""


def test_help_into_a_full_disk_says_so(contest: Contest) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with open("/dev/full", "w") as full:
        done = contest("--help", capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 3
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_printed(invoke: Invoke, shell: str) -> None:
    result = invoke("completion", shell)
    assert result.exit_code == 0
    assert "_CONTEST_COMPLETE" in result.stdout


def complete(contest: Contest, line: str, **more: Any) -> list[str]:
    words = line.split(" ")
    variables = {"_CONTEST_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    done = contest(env={"PATH": "/usr/bin:/bin", **variables, **more})
    return [each.partition(",")[2] for each in done.stdout.split("\n") if each]


def test_commands_options_states_and_plugins_are_completed(contest: Contest) -> None:
    assert complete(contest, "contest sta") == ["start", "status"]
    assert complete(contest, "contest start --start") == ["--start-key"]
    assert complete(contest, "contest list --state can") == ["cancelling", "cancelled", "cancellation-failed"]
    assert complete(contest, "contest list --state failed,ca")[0] == "failed,cancelling"
    assert complete(contest, "contest plugins ht") == ["http"]
    assert complete(contest, "contest config che") == ["check"]
    assert complete(contest, "contest completion f") == ["fish"]


def test_file_names_are_left_to_the_shell(contest: Contest) -> None:
    words = {"_CONTEST_COMPLETE": "bash_complete", "COMP_WORDS": "contest start jo", "COMP_CWORD": "2"}
    assert contest(env={"PATH": "/usr/bin:/bin", **words}).stdout.startswith("file,")
