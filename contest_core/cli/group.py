"""The group of commands: lists them by name and summary, imports the one that is invoked.

The program's own commands are in the table below, those of plugins in their registry. It knows no command's
code. What a command raises is shown by `failures`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

import click

from contest_core.standard_streams import stdout_diverted

if TYPE_CHECKING:
    from contest_core.plugins import Plugins

F = TypeVar("F", bound=Callable[..., Any])


class Own(NamedTuple):
    """One of the program's own commands."""

    place: str
    """`module:object`, as in a registry."""
    summary: str


OWN: dict[str, Own] = {
    "start": Own("contest_core.cli.verbs:start", "Start a job on a server."),
    "validate": Own("contest_core.cli.verbs:validate", "Check a job and run nothing."),
    "status": Own("contest_core.cli.verbs:status", "Show how a job goes, or went."),
    "watch": Own("contest_core.cli.verbs:watch", "Show what happens, as it happens."),
    "report": Own("contest_core.cli.report:report", "Print a job's report as JUnit XML, TAP or Markdown."),
    "list": Own("contest_core.cli.verbs:list_", "List jobs, the newest first."),
    "stop": Own("contest_core.cli.verbs:stop", "Stop a job."),
    "retry": Own("contest_core.cli.verbs:retry", "Run an ended job again, as a new job."),
    "locks": Own("contest_core.cli.verbs:locks", "List locked targets."),
    "version": Own("contest_core.cli.verbs:version", "Show what a server speaks and offers."),
    "serve": Own("contest_core.cli.serve:serve", "Serve jobs until told to stop."),
    "config": Own("contest_core.cli.config:config", "Check a configuration, or show what may stand in one."),
    "plugins": Own("contest_core.cli.plugins:plugins", "List plugins and what they contribute."),
    "new": Own("contest_core.cli.new:new", "Write a plugin to begin with."),
    "openrpc": Own("contest_core.cli.openrpc:openrpc", "Print the OpenRPC document of JSON-RPC."),
    "completion": Own("contest_core.cli.completion:completion", "Print the completion script for a shell."),
}
"""The program's own commands, by name."""

SECTIONS: dict[str, tuple[str, ...]] = {
    "Run jobs": ("run", "start", "retry", "stop", "validate", "schema"),
    "Ask a server": ("status", "watch", "report", "list", "locks", "version"),
    "Operate": ("serve", "config", "plugins", "new", "openapi", "openrpc", "bench", "completion"),
}
"""How `contest --help` arranges the commands, its own and plugins' where they are installed."""


class Group(click.Group):
    """A group that answers an unknown name with the nearest one."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does it, with words of our own for a name that is not there."""
        name = args[0]
        if ctx.resilient_parsing or name.startswith("-") or self.get_command(ctx, name) is not None:
            return super().resolve_command(ctx, args)
        known = self.list_commands(ctx)
        near = nearest(name, known)
        hint = f", did you mean {near!r}?" if near else f"; there are {', '.join(known)}"
        raise click.UsageError(f"no such command {name!r}{hint}{self.why_missing(ctx, name)}", ctx)

    def why_missing(self, ctx: click.Context, name: str) -> str:
        """More about a command that is not there."""
        return ""


class Program(Group):
    """The whole program. A context's `obj` is the loaded `Plugins` once a plugin's command was looked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order of `SECTIONS`, others after them."""
        known = {*OWN, *plugins_of(ctx).commands.names()}
        ordered = [name for names in SECTIONS.values() for name in names if name in known]
        return [*ordered, *sorted(known.difference(ordered))]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """The command of that name, imported now; None where nobody has it."""
        from importlib import import_module

        own = OWN.get(name)
        if own is not None:
            module, _, attribute = own.place.partition(":")
            return cast("click.Command", getattr(import_module(module), attribute))
        plugins = plugins_of(ctx)
        if name not in plugins.commands:
            return None
        entry = plugins.commands.get(name)
        try:
            with stdout_diverted():
                return cast("click.Command", plugins.commands.load(name))
        # The boundary to other people's code: whatever an import raises is theirs.
        except Exception as error:
            from contest_core.cli.failures import Failure

            reason = f"{type(error).__name__}: {error}"
            raise Failure(
                f"the command {name!r} of plugin {entry.plugin!r} cannot be loaded: {reason}"
            ) from error

    def why_missing(self, ctx: click.Context, name: str) -> str:
        """Which plugins failed, since one of them may have had it."""
        failed = [
            f"plugin {info.name!r} failed: {info.failure}" for info in plugins_of(ctx).infos if info.failure
        ]
        return "".join(f"\n{line}" for line in failed)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the commands first: they are what somebody looks for."""
        self.format_commands(ctx, formatter)
        click.Command.format_options(self, ctx, formatter)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the commands in their sections."""
        names = self.list_commands(ctx)
        placed = {name for section in SECTIONS.values() for name in section}
        sections = {
            **{title: [name for name in section if name in names] for title, section in SECTIONS.items()},
            "From plugins": [name for name in names if name not in placed],
        }
        width = max(map(len, names))
        for title, section in sections.items():
            if section:
                with formatter.section(title):
                    formatter.write_dl([(name.ljust(width), self._summary(ctx, name)) for name in section])

    def _summary(self, ctx: click.Context, name: str) -> str:
        return OWN[name].summary if name in OWN else plugins_of(ctx).commands.get(name).summary

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """As click's, which would ask `shutil` for the width: that imports every compressor there is."""
        extra.setdefault("terminal_width", terminal_width())
        return super().make_context(info_name, args, parent, **extra)

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """As click's, but what goes wrong is shown in the program's own way and exits by the table of errors."""
        try:
            status = super().main(
                args,
                prog_name=prog_name,
                complete_var=complete_var,
                standalone_mode=False,
                windows_expand_args=windows_expand_args,
                **extra,
            )
            if not standalone_mode:
                return status
            if sys.stdout is not None:
                sys.stdout.flush()
        # The outermost boundary of the program: what comes here would otherwise exit with 1, a verdict.
        except (Exception, KeyboardInterrupt) as error:
            if not standalone_mode:
                raise
            from contest_core.cli.failures import status_after

            status = status_after(error)
        sys.exit(status if isinstance(status, int) else 0)


def terminal_width() -> int:
    """How wide help is: as the terminal, at most 100 columns, 80 where there is none."""
    columns = os.environ.get("COLUMNS", "")
    if not columns.isdigit():
        try:
            columns = str(os.get_terminal_size(sys.__stdout__.fileno()).columns if sys.__stdout__ else 80)
        except (OSError, ValueError):
            columns = "80"
    return max(min(int(columns), 100) - 2, 50)


def nearest(name: str, known: Sequence[str]) -> str | None:
    """The known name that somebody meant who wrote `name`: one that begins so, else one that looks so."""
    from difflib import get_close_matches  # only where somebody mistyped

    folded = name.lower()
    begun = [each for each in known if len(folded) > 1 and each.startswith(folded)]
    return next(iter(begun or get_close_matches(folded, known, n=1)), None)


def output_option(meaning: str = "Write FILE, whole or not at all; else to stdout.") -> Callable[[F], F]:
    """The option of commands that write a file for others."""
    return click.option("-o", "--output", type=click.Path(), metavar="FILE", help=meaning)


def plugins_of(ctx: click.Context) -> Plugins:
    """The plugins of this invocation, loaded when first asked for: no plugin is switched off here."""
    root = ctx.find_root()
    if root.obj is None:
        from contest_core.plugins import load_plugins

        # Stdout is the command's, whatever a plugin writes while it is imported.
        with stdout_diverted():
            root.obj = load_plugins()
    return cast("Plugins", root.obj)
