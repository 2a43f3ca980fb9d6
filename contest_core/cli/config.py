"""`contest config`: checks a configuration without starting anything, or prints the schema of one."""

from __future__ import annotations

import click
import msgspec

from contest_core.cli.embedding import construct_parts, read_configuration
from contest_core.cli.group import OWN, Group, plugins_of
from contest_core.cli.output import out, out_json
from contest_core.config import EMBEDDED


@click.group(cls=Group, short_help=OWN["config"].summary)
def config() -> None:
    """Check a configuration, or show what may stand in one."""


@config.command()
@click.option("-c", "--config", "path", type=click.Path(), metavar="FILE", help="The configuration to check.")
def check(path: str | None) -> None:
    """Check a configuration and start nothing.

    Every problem is shown with its line and column. Without a FILE the embedded default is checked. Exit status 2 if
    anything is wrong.
    """
    configuration, _ = read_configuration(path)
    if configuration.source != EMBEDDED:
        construct_parts(configuration)
    listeners = ", ".join(
        listener.kind if listener.name == listener.kind else f"{listener.name} ({listener.kind})"
        for listener in configuration.listeners
    )
    out(f"{configuration.source}: OK: listeners {listeners}; job manager {configuration.job_manager.kind}")


@config.command()
@click.pass_context
def schema(ctx: click.Context) -> None:
    """Print the JSON Schema of a configuration, with the settings of all that is installed."""
    from contest_core.config_schema import schema as make

    out_json(msgspec.json.format(msgspec.json.encode(make(plugins_of(ctx))), indent=2))


@config.command()
def default() -> None:
    """Print the configuration that is used where none is given, to begin a file with."""
    from contest_core.config import default_text

    out(default_text().rstrip("\n"))
