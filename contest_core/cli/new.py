"""`contest new`: writes a plugin to begin with. What it can write comes from plugins, as everything does."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from contest_core.cli.failures import Failure, describe_os_error
from contest_core.cli.group import OWN, Group, plugins_of
from contest_core.cli.output import count, out, say
from contest_core.cli.plugins import contributed
from contest_core.scaffold import BadName, Scaffold, render, write

if TYPE_CHECKING:
    from contest_core.plugins import Plugins


class _Kinds(Group):
    """One command for each kind that is registered."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return plugins_of(ctx).scaffolds.names()

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        scaffolds = plugins_of(ctx).scaffolds
        if name not in scaffolds:
            return None
        target = click.Option(
            ["--directory"],
            type=click.Path(path_type=Path),
            help="Where to write it, instead of contest-NAME.",
        )
        return click.Command(
            name,
            params=[click.Argument(["name"]), target],
            callback=click.pass_context(partial(_new, kind=name)),
            help=f"{scaffolds.get(name).summary}\n\nNAME is what it is called in a configuration or a job.",
            short_help=scaffolds.get(name).summary,
        )


@click.group(cls=_Kinds, short_help=OWN["new"].summary)
def new() -> None:
    """Write a plugin to begin with: a whole distribution, which works and is tested."""


def _new(ctx: click.Context, name: str, directory: Path | None, kind: str) -> None:
    plugins = plugins_of(ctx)
    scaffold = cast("Scaffold", plugins.scaffolds.load(kind))
    target = directory or Path(f"contest-{name}")
    try:
        made = render(scaffold, name)
        for warning in _taken(plugins, name, scaffold.kinds):
            say(f"warning: {warning}")
        write(made, target)
    except BadName as error:
        raise click.UsageError(str(error), ctx) from None
    except FileExistsError as error:
        raise Failure(f"{target} is there already: choose another name, or --directory", 2) from error
    except OSError as error:
        raise Failure(f"cannot write {target}: {describe_os_error(error)}") from error
    out(f"wrote {target}: {count(len(made), 'file')}, a {kind} that works. Next:")
    for line in _next_steps(target, name):
        out(f"  {line}")


def _taken(plugins: Plugins, name: str, kinds: Sequence[str]) -> list[str]:
    """Who has this name already: the two cannot both work in one place."""
    owners = {info.name: f"{info.distribution} {info.version}" for info in plugins.infos}
    if name in owners:
        return [f"{owners[name]} is a plugin of that name: only one of them can be installed"]
    return [
        f"the {kind} {name!r} of {owners[entry.plugin]} has that name: choose another in plugin.py"
        for kind, entry in contributed(plugins)
        if entry.plugin in owners and kind in kinds and entry.name.lower() == name
    ]


def _next_steps(target: Path, name: str) -> list[str]:
    tests = "" if find_spec("pytest") else "  # first: pip install pytest"
    return [
        f"cd {shlex.quote(str(target))}",
        "pip install -e .",
        f"pytest{tests}",
        f"contest plugins {name}",
        "README.md says what is where",
    ]
