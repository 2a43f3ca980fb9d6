"""`contest serve`: runs the server that a configuration describes until a signal or the end of input ends it.

Nothing but a listener writes to stdout here, from the first moment to the last: it may be a protocol's. What a person
is told goes to stderr.
"""

from __future__ import annotations

import asyncio
import logging

import click

from contest_core.cli.embedding import (
    construct_parts,
    failed_plugins,
    on_terminate,
    open_configured,
    read_configuration,
)
from contest_core.cli.failures import describe, exit_code
from contest_core.cli.group import OWN
from contest_core.cli.logs import FORMATS, LEVELS, Log, logging_to_stderr
from contest_core.cli.loop import run_async
from contest_core.cli.signals import Signals
from contest_core.config import Configuration, Parts
from contest_core.plugins import Plugins
from contest_core.standard_streams import stdout_diverted

_log = logging.getLogger("contest.program")


@click.command(short_help=OWN["serve"].summary)
@click.option(
    "-c", "--config", "path", type=click.Path(), metavar="FILE", help="The configuration, a YAML file."
)
@click.option("--log-level", type=click.Choice(LEVELS), default="info", show_default=True)
@click.option("--log-format", type=click.Choice(FORMATS), default="text", show_default=True)
@click.pass_context
def serve(ctx: click.Context, path: str | None, log_level: str, log_format: str) -> None:
    """Serve jobs until told to stop.

    Without a FILE: HTTP on http://127.0.0.1:8080, with its store in your state directory. Where it listens, and its
    log, is written to stderr.

    \b
    SIGTERM, Ctrl-C   end as `server: {on_terminate: …}` says; the second cancels the
                      jobs, or hurries where they are; the third exits at once
    SIGUSR1           take no new jobs, let the running ones finish, exit

    Exit status: 0 ended in good order, 2 the configuration is wrong, 3 a fault.
    """
    with stdout_diverted(to_the_end=True):
        status = _configure_and_serve(path, log_level, log_format)
    ctx.exit(status)


def _configure_and_serve(path: str | None, log_level: str, log_format: str) -> int:
    configuration, plugins = read_configuration(path)
    with logging_to_stderr(level=log_level, form=log_format) as log:
        for failed in failed_plugins(plugins):
            _log.warning("%s", failed)
        try:
            parts = construct_parts(configuration)
            return run_async(_serve(configuration, parts, plugins, log), serving=True)
        # The boundary around the whole server: whatever ended it is explained in the log, in its form.
        except Exception as error:
            return _explain(error, log)


async def _serve(configuration: Configuration, parts: Parts, plugins: Plugins, log: Log) -> int:
    signals = Signals(first=on_terminate(configuration), say=log.announce, flush=log.flush)
    with signals:
        try:
            async with open_configured(configuration, parts, plugins) as server:
                manager = server.manager
                signals.attach(server.terminate, manager.kill, runs_jobs=manager.runs_jobs)
                for name, addresses in server.addresses.items():
                    for address in addresses or (name,):
                        log.announce(f"listening on {address}")
                await server.wait()
        except asyncio.CancelledError:
            if not signals.interrupted:
                raise
    return 0


def _explain(error: Exception, log: Log) -> int:
    lines = describe(error)
    if lines is None:
        _log.critical("the server ended with an unexpected error: %r", error, exc_info=error)
    for line in lines or ():
        log.announce(line)
    return exit_code(error)
