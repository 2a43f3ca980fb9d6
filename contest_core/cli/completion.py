"""`contest completion`: the script with which a shell completes the program's commands and options."""

from __future__ import annotations

import click
from click.shell_completion import ShellComplete, get_completion_class

from contest_core.cli.failures import Failure
from contest_core.cli.group import OWN
from contest_core.cli.output import out

_SHELLS = ("bash", "zsh", "fish")


@click.command(short_help=OWN["completion"].summary)
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script for SHELL.

    \b
    bash: add to ~/.bashrc   eval "$(contest completion bash)"
    zsh:  add to ~/.zshrc    eval "$(contest completion zsh)"
    fish: contest completion fish > ~/.config/fish/completions/contest.fish
    """
    kind = get_completion_class(shell)
    program = ctx.find_root().command
    if kind is None:
        raise Failure(f"this version of click completes nothing in {shell}")
    # Of the base class: bash's own asks the bash that is first in the path for its version.
    out(ShellComplete.source(kind(program, {}, "contest", "_CONTEST_COMPLETE")).rstrip("\n"))
