"""`docs/hooks.md` is true: it has every hook with its signature, in the order of the calls, and its examples work.

Each example is a distribution that is installed in a folder of its own, and found as any other is.
"""

from __future__ import annotations

import builtins
import inspect
import json
import os
import pwd
import re
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner

from contest_core import (
    Authenticator,
    Client,
    JobManager,
    JobQuery,
    Listener,
    Registry,
    ServerOptions,
    UnixPeer,
    hookspecs,
    open_server,
)
from contest_core.cli.new import new
from contest_core.cli.plugins import contributed
from contest_core.client import connect
from contest_core.config import construct, parse, resolve
from contest_core.plugins import Plugins, load_plugins
from contest_core.testing.memory import MemoryJobManager
from contest_runner import hookspecs as runner_hookspecs
from contest_runner.catalog import Catalog
from contest_runner.manager import LocalJobManager
from contest_runner.parts import Fetcher, Reporter, TargetManager
from contest_runner.settings import LocalSettings
from contest_runner.step import BaseStep
from contest_runner.testing import Serving

PAGE = Path(__file__).parents[1] / "docs" / "hooks.md"

Install = Callable[[str, dict[str, str]], None]


def specified(module: ModuleType) -> list[str]:
    return [name for name in vars(module) if name.startswith("contest_")]


CORE = specified(hookspecs)
RUNNER = specified(runner_hookspecs)
HOOKS = [*CORE, *RUNNER]
SPECIFICATIONS: dict[str, Any] = {**vars(hookspecs), **vars(runner_hookspecs)}

EXAMPLES = {
    "contest_add_hookspecs": ("command", "boards", None),
    "contest_register_listeners": ("listener", "quiet", Listener),
    "contest_register_job_managers": ("job manager", "idle", JobManager),
    "contest_register_authenticators": ("authenticator", "accounts", Authenticator),
    "contest_register_clients": ("client", "canned", Client),
    "contest_register_commands": ("command", "greet", None),
    "contest_register_scaffolds": ("scaffold", "ledger", None),
    "contest_register_steps": ("step", "refuse", BaseStep),
    "contest_register_target_managers": ("target manager", "OneTarget", TargetManager),
    "contest_register_fetchers": ("fetcher", "smoke", Fetcher),
    "contest_register_reporters": ("reporter", "CountTests", Reporter),
    "contest_register_template_functions": ("template function", "Shout", None),
}
"""By hook, what the example on the page registers, and the contract of it."""


def sections() -> dict[str, str]:
    """The text of the page below each hook's heading, in the order of the page."""
    parts = re.split(r"^### `(\w+)`$", PAGE.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def signatures(text: str) -> list[str]:
    return re.findall(r"^```python hook\n(.*\n)```$", text, re.MULTILINE)


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Puts a distribution with these files where plugins are looked for."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)

    def installed(package: str, files: dict[str, str]) -> None:
        for name, source in files.items():
            file = tmp_path / package / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(source)
        info = tmp_path / f"{package}-1.0.dist-info"
        info.mkdir()
        head = f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\nRequires-Dist: contest-core>=0.1\n"
        (info / "METADATA").write_text(head)
        point = f"{package.removeprefix('contest_')} = {package}.plugin\n"
        (info / "entry_points.txt").write_text(f"[contest]\n{point}")

    yield installed
    for module in set(sys.modules) - before:
        if str(getattr(sys.modules[module], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[module]


@pytest.fixture
def examples(install: Install) -> Plugins:
    """The loaded plugins, those of the page among them."""
    files: dict[str, dict[str, str]] = {}
    for package, name, source in re.findall(
        r"^```\w+ file (\w+)/(\S+)\n((?:.*\n)*?)```$", PAGE.read_text(), re.MULTILINE
    ):
        files.setdefault(package, {})[name] = source
    assert len(files) == len(HOOKS)
    for package, own in files.items():
        install(package, own)
    plugins = load_plugins()
    assert {info.name: info.failure for info in plugins.infos if info.failure} == {}
    return plugins


# --- the page


def test_the_page_has_every_hook_in_the_order_of_the_calls() -> None:
    assert list(sections()) == HOOKS == list(EXAMPLES)


@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_is_on_the_page_with_its_exact_signature(hook: str) -> None:
    real = inspect.signature(SPECIFICATIONS[hook])
    assert signatures(sections()[hook]) == [f"def {hook}{real}: ...\n".replace("'", "")]


def test_what_every_hook_calls_is_on_the_page_with_its_exact_signature() -> None:
    real = str(inspect.signature(Registry.add)).replace("self, ", "").replace("'", "").replace('""', "''")
    shown = signatures(PAGE.read_text().partition("\n### ")[0])
    assert [line.replace('""', "") for line in shown] == [f"def add{real}: ...\n"]


@pytest.mark.parametrize("hook", HOOKS)
def test_the_example_of_a_hook_registers_what_is_there_and_keeps_the_contract(
    hook: str, examples: Plugins
) -> None:
    kind, name, contract = EXAMPLES[hook]
    assert f'registry.add("{name}"' in sections()[hook]
    found = [entry for of, entry in contributed(examples) if (of, entry.name) == (kind, name)]
    assert len(found) == 1
    module, _, attribute = found[0].place.partition(":")
    made = getattr(import_module(module), attribute)
    assert contract is None or issubclass(made, contract)
    assert not getattr(made, "__abstractmethods__", ())


# --- the examples


def test_a_plugin_may_add_a_hook_that_another_implements(examples: Plugins, install: Install) -> None:
    uses = "@hookimpl\ndef contest_register_boards(registry):\n"
    place = "    registry.add('mule', 'json:dumps', summary='Carries.')\n"
    install("contest_mule", {"plugin.py": f"from contest_core import hookimpl\n{uses}{place}"})
    plugins = load_plugins()
    assert CliRunner().invoke(plugins.commands.load("boards"), obj=plugins).output == "mule: Carries.\n"  # type: ignore[arg-type]


def test_a_command_is_given_the_plugins(examples: Plugins) -> None:
    shown = CliRunner().invoke(examples.commands.load("greet"), obj=examples).output  # type: ignore[arg-type]
    assert {"greeting", "http", "runner"} <= set(shown.strip().split(", "))


def test_a_scaffold_is_what_contest_new_can_write(examples: Plugins, tmp_path: Path) -> None:
    target = tmp_path / "written"
    arguments = ["ledger", "my-ledger", "--directory", str(target)]
    assert CliRunner().invoke(new, arguments, obj=examples).exit_code == 0
    assert (target / "README.md").read_text() == "# contest-my-ledger, a ledger\n"


async def test_a_configuration_names_listener_job_manager_and_authenticator(
    examples: Plugins, tmp_path: Path
) -> None:
    file = tmp_path / "served.yaml"
    file.write_text("listeners: [quiet: ]\njob_manager: {idle: }\nauthentication: [accounts: ]\n")
    parts = construct(resolve(parse(file, environ={}), examples))
    async with open_server(
        parts.job_manager, listeners=parts.listeners, authenticators=parts.authenticators
    ) as server:
        peer = UnixPeer(uid=os.getuid(), gid=os.getgid(), pid=os.getpid())
        principal = await server.api.authenticate(peer, listener="quiet", peer="me")
        assert principal is not None
        assert principal.name == pwd.getpwuid(os.getuid()).pw_name
        caller = server.api.caller(listener="quiet", peer="me", principal=principal, requestor="me")
        assert (await server.api.list(caller, JobQuery())).result().job_ids == []
        assert (await server.api.call(caller, "list", {"states": "JobStateStarted"})).error is None


async def test_a_scheme_is_a_client(examples: Plugins, tmp_path: Path) -> None:
    answer = {"ServerID": "me", "Type": "ResponseTypeVersion", "Data": {"Version": 5}, "Error": None}
    (tmp_path / "version.json").write_text(json.dumps(answer))
    async with connect(f"canned:{tmp_path}", plugins=examples) as contest:
        assert (await contest.version()).result().version == 5


async def test_a_job_names_the_parts(examples: Plugins, tmp_path: Path) -> None:
    manager = LocalJobManager(LocalSettings(store="sqlite:///jobs.db", synchronous="normal"))
    refuse = {"name": "Refuse", "label": "refuse", "parameters": {"reason": ["{{ Shout .ID }}"]}}
    test = {
        "TargetManagerName": "onetarget",
        "TargetManagerAcquireParameters": {"id": "t1"},
        "TargetManagerReleaseParameters": {},
    }
    own = {"TestFetcherName": "literal", "TestFetcherFetchParameters": {"TestName": "t", "Steps": [refuse]}}
    smoke = {"TestFetcherName": "smoke", "TestFetcherFetchParameters": {}}
    job = {
        "JobName": "parts",
        "Version": "1.0",
        "Runs": 1,
        "TestDescriptors": [test | smoke, test | own],
        "Reporting": {"RunReporters": [{"Name": "CountTests"}]},
    }
    async with open_server(manager, options=ServerOptions(directory=tmp_path, plugins=examples)) as server:
        status = await Serving(server, manager).run(job)
    (first,), (second,) = (each["TargetStatuses"] for each in status["RunStatus"]["TestStatuses"])
    assert not first["Error"]
    assert second["Error"] == "T1!"
    assert status["JobReport"]["RunReports"][0][0]["Data"] == 2


# --- the rules


def implementing(hook: str, body: str) -> str:
    argument = "plugin_manager" if hook == "contest_add_hookspecs" else "registry"
    return f"@hookimpl\ndef {hook}({argument}):\n    {body}\n"


def test_all_hooks_are_called_in_the_order_of_the_page_plugin_by_plugin(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, str]] = []
    monkeypatch.setattr(builtins, "calls", calls, raising=False)
    source = "".join(implementing(hook, f"calls.append(({hook!r}, __package__))") for hook in HOOKS)
    for name in ("contest_zebra", "contest_ape"):
        install(name, {"plugin.py": f"from contest_core import hookimpl\n{source}"})
    plugins = load_plugins()
    assert {hook for hook, _ in calls} == set(CORE)
    Catalog(plugins)
    assert calls == [(hook, name) for hook in sections() for name in ("contest_ape", "contest_zebra")]


@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_that_raises_is_told_and_neither_stops_the_others_nor_leaves_half_of_itself(
    install: Install, hook: str
) -> None:
    add = "" if hook == "contest_add_hookspecs" else "registry.add('half', 'json:dumps'); "
    bad = implementing(hook, f"{add}raise OSError('out of hay')")
    others = [other for other in HOOKS[1:] if other != hook]
    bad += "".join(implementing(other, "registry.add('whole', 'json:dumps')") for other in others)
    good = "" if not add else implementing(hook, "registry.add('good', 'json:dumps')")
    install("contest_bad", {"plugin.py": f"from contest_core import hookimpl\n{bad}"})
    install("contest_good", {"plugin.py": f"from contest_core import hookimpl\n{good}"})
    plugins = load_plugins()
    entries = [entry.name for _, entry in contributed(plugins) if entry.plugin in ("bad", "good")]
    assert sorted(entries) == sorted([*["whole"] * len(others), *["good"] * bool(add)])
    failures = {info.name: info.failure for info in plugins.infos if info.failure}
    assert list(failures) == ["bad"]
    assert failures["bad"].startswith(f"{hook}: OSError: out of hay")


async def test_the_runners_hooks_are_called_when_its_job_manager_starts(
    install: Install, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls: list[str] = []
    monkeypatch.setattr(builtins, "calls", calls, raising=False)
    source = "".join(implementing(hook, f"calls.append({hook!r})") for hook in RUNNER)
    install("contest_ape", {"plugin.py": f"from contest_core import hookimpl\n{source}"})
    plugins = load_plugins()
    async with open_server(MemoryJobManager(), options=ServerOptions(plugins=plugins)):
        assert calls == []
    manager = LocalJobManager(LocalSettings(store="sqlite:///jobs.db"))
    async with open_server(manager, options=ServerOptions(directory=tmp_path, plugins=plugins)):
        assert calls == RUNNER
