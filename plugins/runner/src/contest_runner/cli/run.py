"""`contest run`: runs one job here and now, in an embedded server without a socket, and exits by its verdict.

The report goes to stdout, everything on the way to stderr: one live line on a terminal, else a line a change.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from contest_core import (
    InvalidDescriptor,
    JobEnded,
    JobEvent,
    JobStatus,
    ServerOptions,
    Termination,
    open_server,
)
from contest_core.caller import Caller
from contest_core.cli.asking import user_name
from contest_core.cli.descriptor import Descriptor, read_descriptor, show_findings
from contest_core.cli.failures import Failure
from contest_core.cli.logs import LEVELS, Log, logging_to_stderr
from contest_core.cli.loop import run_async
from contest_core.cli.output import out, out_json, say
from contest_core.cli.signals import Signals
from contest_core.cli.status_text import status_lines
from contest_core.cli.waiting import exit_by_verdict
from contest_core.lifecycle import Server
from contest_core.plugins import Plugins
from contest_runner.cli.following import Following
from contest_runner.manager import LocalJobManager
from contest_runner.settings import LocalSettings

REFUSED: Final = 2
"""The exit status where the file or the request is wrong."""

_ANSWER: Final = 3600.0
"""Seconds for an answer: nobody else asks, so only a store that does not take anything makes it long."""


@click.command(short_help="Run a job here and show its report.")
@click.argument("file", default="-", metavar="[FILE]")
@click.option(
    "--json", "as_json", is_flag=True, help="Write the job's events to stdout, a JSON object a line."
)
@click.option("--strict", is_flag=True, help="Take warnings about the job for errors.")
@click.option("--store", metavar="FILE", help="Keep the job in this file; without it, nothing is kept.")
@click.option("--stop-grace", default="30s", show_default=True, help="What the steps of a stopped job have.")
@click.option("-r", "--requestor", help="Who runs it; you, where not given.")
@click.option("-q", "--quiet", is_flag=True, help="No progress on stderr.")
@click.option("--log-level", type=click.Choice(LEVELS), default="warning", show_default=True)
@click.pass_context
def run(ctx: click.Context, /, file: str, **options: Any) -> None:
    """Run the job in FILE, JSON or YAML, here and now; `-`, or no FILE, is stdin.

    No server is needed and no port is opened. The report goes to stdout, progress and logs to stderr.

    \b
    Ctrl-C cancels the job and waits for its steps; the third exits at once.

    Exit status: 0 passed, 1 failed, 2 the file is wrong, 3 error, 4 cancelled.
    """
    descriptor = read_descriptor(file)
    plugins = ctx.obj
    with logging_to_stderr(level=options["log_level"]) as log, _store(options["store"]) as store:
        settings = _settings(store, options["stop_grace"])
        status = run_async(_Run(descriptor, settings, plugins, log, options).whole(), serving=True)
    ctx.exit(status)


def _settings(store: str, stop_grace: str) -> LocalSettings:
    try:
        return msgspec.convert(
            {"store": store, "stop_grace": stop_grace}, LocalSettings, dec_hook=_hook(), strict=True
        )
    except msgspec.ValidationError as error:
        raise click.BadParameter(str(error), param_hint="--stop-grace") from None


def _hook() -> Any:
    from contest_core.settings import dec_hook

    return dec_hook


@contextmanager
def _store(kept: str | None) -> Iterator[str]:
    """The store's URL; of one that nobody wants to keep, for as long as it is needed."""
    if kept is not None:
        yield f"sqlite:///{Path(kept).absolute()}"
        return
    with tempfile.TemporaryDirectory(prefix="contest-run-") as folder:
        yield f"sqlite:///{Path(folder) / 'run.db'}"


class _Run:
    """One run of the program."""

    def __init__(
        self,
        descriptor: Descriptor,
        settings: LocalSettings,
        plugins: Plugins,
        log: Log,
        options: dict[str, Any],
    ) -> None:
        self._descriptor = descriptor
        self._plugins = plugins
        self._log = log
        self._as_json: bool = options["as_json"]
        self._strict: bool = options["strict"]
        self._requestor = options["requestor"] or user_name()
        self._quiet: bool = options["quiet"]
        self._following = Following(quiet=self._quiet)
        self._manager = LocalJobManager(settings)
        self._cancelled = asyncio.Event()
        self._unread = False

    async def whole(self) -> int:
        """From the start of the embedded server to its end; gives the exit status."""
        signals = Signals(first=Termination.CANCEL, say=self._following.tell, flush=self._log.flush)
        options = ServerOptions(plugins=self._plugins, event_timeout=_ANSWER)
        with signals:
            try:
                async with open_server(self._manager, options=options) as server:
                    signals.attach(self._terminate)
                    return await self._job(server)
            except asyncio.CancelledError:
                if not signals.interrupted:
                    raise
                raise Failure("stopped before the job began", 4) from None
            finally:
                self._following.close()

    def _terminate(self, how: Termination) -> None:
        # The server goes on until the report has been shown: it is the job that ends.
        if how is Termination.DRAIN:
            self._manager.drain()
        else:
            self._cancelled.set()

    async def _job(self, server: Server) -> int:
        caller = server.api.caller(listener="run", peer="this program", requestor=self._requestor)
        job_id = await self._start(server, caller)
        if job_id is None:
            return REFUSED
        self._following.began(job_id)
        async with asyncio.TaskGroup() as group:
            beside = [
                group.create_task(self._show_progress(server, caller, job_id)),
                group.create_task(self._stop_when_cancelled(server, caller, job_id)),
            ]
            await self._follow(server, caller, job_id)
            for task in beside:
                task.cancel()
        status = await self._status(server, caller, job_id)
        self._following.close()
        if not self._as_json:
            for line in status_lines(job_id, status):
                out(line)
        return exit_by_verdict(status)

    async def _start(self, server: Server, caller: Caller) -> int | None:
        response = await server.api.start(caller, self._descriptor.json, strict=self._strict)
        if isinstance(response.error, InvalidDescriptor):
            errors = show_findings(response.error.findings, self._descriptor)
            say(f"contest: the job is refused{'' if errors else ': --strict takes warnings for errors'}")
            return None
        data = response.result()
        show_findings(data.warnings, self._descriptor)
        if not self._quiet and _endless(self._descriptor.json):
            say(
                "the job says no number of Runs, so it has no end: Ctrl-C cancels it, SIGUSR1 ends it after a run"
            )
        return data.job_id

    async def _follow(self, server: Server, caller: Caller, job_id: int) -> None:
        """Reads the job's events to its end."""
        async with server.api.watch(caller, job_id=job_id) as watch:
            async for event in watch:
                if isinstance(event, JobEvent):
                    self._following.happened(event)
                if self._as_json and not self._unread and not out_json(msgspec.json.encode(event)):
                    self._following.tell("nobody reads the events any more: cancelling the job")
                    self._unread = True
                    self._cancelled.set()

    async def _stop_when_cancelled(self, server: Server, caller: Caller, job_id: int) -> None:
        await self._cancelled.wait()
        try:
            (await server.api.stop(caller, job_id)).result()
        except JobEnded:
            return

    async def _show_progress(self, server: Server, caller: Caller, job_id: int) -> None:
        if not self._following.live:
            return
        while True:
            status = (await server.api.status(caller, job_id, events=False)).result().status
            if status is not None:
                self._following.show(job_id, status)
            await asyncio.sleep(self._following.pause)

    async def _status(self, server: Server, caller: Caller, job_id: int) -> JobStatus:
        status = (await server.api.status(caller, job_id, events=False)).result().status
        assert status is not None
        return status


def _endless(descriptor: str) -> bool:
    runs = [value for key, value in msgspec.json.decode(descriptor).items() if key.lower() == "runs"]
    return not runs or not runs[-1]
