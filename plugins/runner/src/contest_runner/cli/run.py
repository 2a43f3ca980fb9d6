"""`contest run`: the command. What it does is in `running`, what it tells in `following`, its report in `report`."""

from __future__ import annotations

from typing import Any

import click

from contest_core import Duration
from contest_core.cli.descriptor import read_descriptor
from contest_core.cli.group import plugins_of
from contest_core.cli.logs import LEVELS, logging_to_stderr
from contest_core.cli.loop import run_async


def _grace(ctx: click.Context, param: click.Parameter, given: str) -> Duration:
    """A duration, written as in the configuration."""
    try:
        grace = Duration(given)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    if grace.nanoseconds <= 0:
        raise click.BadParameter("it has to be positive")
    return grace


@click.command(short_help="Run a job here and show its report.")
@click.argument("file", default="-", metavar="[FILE]", type=click.Path())
@click.option(
    "--json", "as_json", is_flag=True, help="Write the job's events to stdout, a JSON object a line."
)
@click.option("--strict", is_flag=True, help="Take warnings about the job for errors.")
@click.option(
    "--store", type=click.Path(), metavar="FILE", help="Keep the job in this file; else nothing is."
)
@click.option(
    "--stop-grace",
    callback=_grace,
    default="30s",
    show_default=True,
    metavar="DURATION",
    help="What the steps of a stopped job have.",
)
@click.option(
    "-r", "--requestor", envvar="CONTEST_REQUESTOR", metavar="NAME", help="Who runs it; you, where not given."
)
@click.option("-q", "--quiet", is_flag=True, help="No progress on stderr.")
@click.option("--log-level", type=click.Choice(LEVELS), default="warning", show_default=True)
@click.pass_context
def run(ctx: click.Context, /, file: str, log_level: str, **options: Any) -> None:
    """Run the job in FILE, JSON or YAML, here and now; `-`, or no FILE, is stdin.

    No server is needed and no port is opened. The report goes to stdout, or with --json the job's events as they are
    written down; progress and logs go to stderr.

    \b
    Ctrl-C, SIGTERM   cancel the job, wait for its steps and show the report; the second
                      cancels what has not obeyed, the third exits at once
    SIGUSR1           end a job that has no end after the run that goes on

    Exit status: 0 passed, 1 failed, 2 the file is wrong, 3 error, 4 cancelled.
    """
    descriptor = read_descriptor(file)
    from contest_runner.cli.running import Options, Running, store_of  # the store brings SQLAlchemy

    with logging_to_stderr(level=log_level) as log, store_of(options.pop("store")) as store:
        running = Running(descriptor, store, plugins_of(ctx), log, Options(**options))
        status = run_async(running.whole(), serving=True)
    ctx.exit(status)
