"""`contest plugins`: what is installed, what each plugin contributes, and why one does not work.

It knows the core's registries, and of those that plugins add (the runner's steps) that their hooks look alike.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from inspect import signature
from typing import Any

import click
import msgspec
from click.shell_completion import CompletionItem

from contest_core.cli.failures import Failure
from contest_core.cli.group import OWN, plugins_of
from contest_core.cli.output import coloured, out, out_json, say, visible
from contest_core.plugins import CORE_HOOKS, PluginInfo, Plugins
from contest_core.registry import Entry, Registry

_REGISTERS = "contest_register_"
_ANY_NAME = re.compile(r"\S+")


def _complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    infos = plugins_of(ctx).infos
    return [CompletionItem(info.name) for info in infos if info.name.startswith(incomplete)]


@click.command(short_help=OWN["plugins"].summary)
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=_complete)
@click.option("-c", "--config", "path", type=click.Path(), help="Leave out what this configuration disables.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list.")
@click.pass_context
def plugins(ctx: click.Context, names: Sequence[str], path: str | None, as_json: bool) -> None:
    """List plugins: their versions, what each contributes, and why one does not work.

    NAME is a plugin's; without one, all are listed.
    """
    loaded = plugins_of(ctx) if path is None else _loaded(path)
    contributions = _called(loaded, contributed(loaded))
    infos = _named(loaded, names)
    if as_json:
        out_json(msgspec.json.encode([_as_object(info, contributions) for info in infos]))
        return
    if not infos:
        say("no plugin is installed; `pip install 'contest-core[standard]'` brings the standard ones")
    for info in infos:
        for line in _lines(info, contributions):
            out(line)
        if loaded.implements_nothing(info) and not info.failure:
            out("  implements no hook, so it adds nothing")


def _loaded(path: str) -> Plugins:
    from contest_core.config import parse
    from contest_core.plugins import load_plugins

    return load_plugins(disabled=parse(path).disabled)


def _named(loaded: Plugins, names: Sequence[str]) -> list[PluginInfo]:
    known = {info.name for info in loaded.infos}
    for name in names:
        if name not in known:
            raise Failure(f"no plugin is called {name!r}; there are {', '.join(sorted(known)) or 'none'}", 2)
    return [info for info in loaded.infos if not names or info.name in names]


def contributed(loaded: Plugins) -> list[tuple[str, Entry]]:
    """Everything that plugins registered, with the kind of each: the core's kinds, then those that plugins add."""
    core = (
        loaded.listeners,
        loaded.job_managers,
        loaded.authenticators,
        loaded.clients,
        loaded.commands,
        loaded.scaffolds,
    )
    found = [(registry.kind, entry) for registry in core for entry in registry]
    for hook in _added_hooks(loaded):
        kind = hook.removeprefix(_REGISTERS).removesuffix("s").replace("_", " ")
        registry = Registry(kind, pattern=_ANY_NAME)
        loaded.call(hook, "registry", registry)
        found += [(kind, entry) for entry in registry]
    return found


def _called(loaded: Plugins, contributions: Sequence[tuple[str, Entry]]) -> list[tuple[str, Entry]]:
    """Without the commands that nobody can call, whose plugins are told of."""
    infos = {info.name: info for info in loaded.infos}
    hidden = [entry for entry in loaded.commands if entry.name in OWN and entry.plugin in infos]
    for entry in hidden:
        infos[entry.plugin].failed(
            f"the command {entry.name!r} is the program's own: that of this plugin is never called"
        )
    return [(kind, entry) for kind, entry in contributions if entry not in hidden]


def _added_hooks(loaded: Plugins) -> list[str]:
    """Hooks that plugins specify and that are given a registry, as all of the core's are."""
    specified = [hook for hook in vars(loaded.manager.hook) if hook.startswith(_REGISTERS)]
    callers = {hook: getattr(loaded.manager.hook, hook) for hook in specified if hook not in CORE_HOOKS}
    return [
        hook
        for hook, caller in callers.items()
        if caller.has_spec() and list(signature(caller.spec.function).parameters) == ["registry"]
    ]


def _as_object(info: PluginInfo, contributions: Sequence[tuple[str, Entry]]) -> dict[str, Any]:
    return {
        "Name": info.name,
        "Distribution": info.distribution,
        "Version": info.version,
        "Module": info.module,
        "Disabled": info.disabled,
        "Failure": info.failure,
        "Contributes": [
            {"Kind": kind, "Name": entry.name, "Summary": entry.summary, "Place": entry.place}
            for kind, entry in contributions
            if entry.plugin == info.name
        ],
    }


def _lines(info: PluginInfo, contributions: Sequence[tuple[str, Entry]]) -> list[str]:
    state = coloured("  disabled", "yellow") if info.disabled else ""
    lines = [f"{info.name}  ({info.distribution} {info.version}){state}"]
    if info.failure:
        lines.append(f"  {coloured('failed', 'red')}: {visible(info.failure)}")
    own = [(kind, entry) for kind, entry in contributions if entry.plugin == info.name]
    kinds = list(dict.fromkeys(kind for kind, _ in own))
    for kind in kinds:
        entries = [entry for of, entry in own if of == kind]
        if all(entry.summary for entry in entries):
            lines += [f"  {kind} {entry.name}: {visible(entry.summary)}" for entry in entries]
        else:
            lines.append(f"  {kind} {', '.join(entry.name for entry in entries)}")
    return lines
