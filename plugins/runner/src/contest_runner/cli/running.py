"""One `contest run`: an embedded server without a socket, one job in it, and its report.

Made by the command `run`. It asks the server as any listener does, and the job manager for what only a program that
embeds it may have. Stdout is the report's or the events' alone: what steps print themselves goes to stderr.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Struct

from contest_core import (
    Duration,
    InvalidDescriptor,
    JobEnded,
    JobEvent,
    JobQuery,
    JobState,
    JobStatus,
    ServerOptions,
    Termination,
    open_server,
)
from contest_core.cli.asking import user_name
from contest_core.cli.descriptor import Descriptor, show_findings
from contest_core.cli.failures import Failure, describe_os_error
from contest_core.cli.output import count, out, say, visible
from contest_core.cli.signals import Signals
from contest_core.cli.status_text import MAX_RUNS
from contest_core.cli.waiting import exit_by_verdict
from contest_core.standard_streams import stdout_diverted
from contest_runner.cli.following import REFRESH, Following
from contest_runner.cli.report import report_lines, verdict_line
from contest_runner.cli.stdout import LineWriter
from contest_runner.manager import LocalJobManager
from contest_runner.settings import LocalSettings

if TYPE_CHECKING:
    from contest_core.caller import Caller
    from contest_core.cli.logs import Log
    from contest_core.lifecycle import Server
    from contest_core.plugins import Plugins

REFUSED: Final = 2
"""The exit status where the file or the request is wrong."""

CANCELLED: Final = 4
"""The exit status of what was cancelled."""

_ANSWER: Final = 3600.0
"""Seconds for an answer: nobody else asks, so only a store that does not take anything makes it long."""

_LAST_READ: Final = 5.0
"""Seconds that the reader of stdout has for the last events of a job that was cancelled."""

_UNENDED: Final = (JobState.STARTED, JobState.CANCELLING)


class Options(Struct, frozen=True, kw_only=True):
    """What the command line says."""

    as_json: bool
    strict: bool
    stop_grace: Duration
    requestor: str | None
    quiet: bool


class RunStore(Struct, frozen=True):
    """Where the job is kept."""

    path: Path
    folder: Path | None
    """What goes when the program does; None where the file is to stay."""


@contextmanager
def store_of(kept: str | None) -> Iterator[RunStore]:
    """The store's place; of one that nobody wants to keep, for as long as it is needed."""
    if kept is not None:
        yield RunStore(Path(kept).absolute(), None)
        return
    with tempfile.TemporaryDirectory(prefix="contest-run-", ignore_cleanup_errors=True) as folder:
        yield RunStore(Path(folder) / "run.db", Path(folder))


class Running:
    """One run of the program."""

    def __init__(
        self, descriptor: Descriptor, store: RunStore, plugins: Plugins, log: Log, options: Options
    ) -> None:
        self._descriptor = descriptor
        self._store = store
        self._plugins = plugins
        self._log = log
        self._options = options
        self._following = Following(name=str(_field(descriptor, "jobname") or "job"), quiet=options.quiet)
        settings = LocalSettings(store=f"sqlite:///{store.path}", stop_grace=options.stop_grace)
        self._manager = LocalJobManager(settings)
        self._cancelled = asyncio.Event()
        self._server: Server
        self._ended = False
        """The job has: what comes now concerns the server, and what else runs on its store."""

    async def whole(self) -> int:
        """From the start of the embedded server to its end; gives the exit status."""
        self._following.take(self._log)
        signals = Signals(first=Termination.CANCEL, say=self._following.tell, flush=self._last_moment)
        # A job that was interrupted and goes on in a kept store is waited for, too.
        options = ServerOptions(plugins=self._plugins, event_timeout=_ANSWER, at_exit=Termination.DRAIN)
        with signals, ExitStack() as stdout:
            descriptor = stdout.enter_context(stdout_diverted(to_the_end=self._options.as_json))
            try:
                async with open_server(self._manager, options=options) as self._server:
                    signals.attach(self._terminate)
                    return await self._one_job(descriptor, stdout)
            except asyncio.CancelledError:
                if not signals.interrupted:
                    raise
                raise Failure("stopped before the job began", CANCELLED) from None
            finally:
                self._following.close()

    def _terminate(self, how: Termination) -> None:
        # The server goes on until the report has been shown: it is the job that ends.
        if self._ended:
            self._server.terminate(how)
        elif how is Termination.DRAIN:
            self._manager.drain()
        elif self._cancelled.is_set():
            self._manager.hurry()
        else:
            self._cancelled.set()

    def _last_moment(self) -> None:
        """Before the program exits at once: nothing of the job lives on, nothing is left on the disk."""
        # In a signal's handler, so anything may be half done; the exit must come all the same.
        with suppress(Exception):
            self._following.close()
        with suppress(Exception):
            self._manager.kill()
        if self._store.folder is not None:
            shutil.rmtree(self._store.folder, ignore_errors=True)
        self._log.flush()

    async def _one_job(self, descriptor: int, stdout: ExitStack) -> int:
        try:
            caller = self._server.api.caller(
                listener="run", peer="this program", requestor=self._options.requestor or user_name()
            )
            if self._store.folder is None:
                await self._tell_others(caller)
            job_id = await self._start(caller)
            if job_id is None:
                return REFUSED
            await self._to_its_end(caller, job_id, descriptor)
            status = await self._manager.ended(job_id, last=MAX_RUNS)
        except BaseException:
            self._server.terminate(Termination.CANCEL)
            raise
        self._ended = True
        if self._cancelled.is_set():
            self._server.terminate(Termination.CANCEL)
        self._following.close()
        stdout.close()
        self._report(job_id, status)
        return exit_by_verdict(status)

    def _report(self, job_id: int, status: JobStatus) -> None:
        if not self._options.as_json:
            for line in report_lines(job_id, status):
                if not out(line):
                    break
        elif not self._options.quiet:
            say(verdict_line(status))

    async def _tell_others(self, caller: Caller) -> None:
        """A kept store may have jobs that were interrupted: they go on beside this one."""
        listed = (await self._server.api.list(caller, JobQuery(states=_UNENDED))).result()
        for entry in listed.jobs:
            name = f"job {entry.job_id} ({visible(entry.name)})"
            self._following.tell(f"{name} was interrupted and goes on: this program waits for it, too")

    async def _start(self, caller: Caller) -> int | None:
        response = await self._server.api.start(caller, self._descriptor.json, strict=self._options.strict)
        if isinstance(response.error, InvalidDescriptor):
            errors = show_findings(response.error.findings, self._descriptor)
            reason = count(errors, "error") if errors else "--strict takes warnings for errors"
            say(f"{self._descriptor.document.source}: the job is refused: {reason}")
            return None
        data = response.result()
        show_findings(data.warnings, self._descriptor)
        if not self._options.quiet and not self._runs:
            self._following.tell(
                "the job says no number of Runs, so it has no end: Ctrl-C cancels it, SIGUSR1 ends it after a run"
            )
        return data.job_id

    async def _to_its_end(self, caller: Caller, job_id: int, descriptor: int) -> None:
        lines = LineWriter(descriptor)
        async with asyncio.TaskGroup() as group:
            beside = [
                group.create_task(lines.run()),
                group.create_task(self._look(job_id, lines)),
                group.create_task(self._stop_when_cancelled(caller, job_id)),
                group.create_task(self._cancel_when_unread(lines)),
            ]
            await self._follow(caller, job_id, lines)
            if self._options.as_json:
                await self._finish(lines)
            for task in beside:
                task.cancel()
        if lines.error is not None and not isinstance(lines.error, BrokenPipeError):
            raise Failure(_unwritten(lines.error))

    async def _follow(self, caller: Caller, job_id: int, lines: LineWriter) -> None:
        """Reads the job's events to its end."""
        async with self._server.api.watch(caller, job_id=job_id) as watch:
            async for event in watch:
                if isinstance(event, JobEvent):
                    self._following.happened(event, self._runs)
                if self._options.as_json:
                    await lines.write(msgspec.json.encode(event))

    async def _finish(self, lines: LineWriter) -> None:
        """Waits for the reader of stdout; not for long where the job was cancelled."""
        writing = asyncio.ensure_future(lines.finish())
        cancelled = asyncio.ensure_future(self._cancelled.wait())
        try:
            await asyncio.wait([writing, cancelled], return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait([writing], timeout=_LAST_READ)
        finally:
            lines.give_up()
            writing.cancel()
            cancelled.cancel()

    async def _cancel_when_unread(self, lines: LineWriter) -> None:
        """The next event, whose writing would fail, may come in hours."""
        error = await lines.failed()
        if not self._cancelled.is_set():
            self._following.tell(f"{_unwritten(error)}: cancelling the job")
            self._cancelled.set()

    async def _stop_when_cancelled(self, caller: Caller, job_id: int) -> None:
        await self._cancelled.wait()
        with suppress(JobEnded):
            (await self._server.api.stop(caller, job_id)).result()

    async def _look(self, job_id: int, lines: LineWriter) -> None:
        while True:
            self._following.look(self._manager.running(job_id), self._server.readiness())
            if self._options.as_json:
                await lines.look()
            await asyncio.sleep(REFRESH)

    @property
    def _runs(self) -> int:
        """How many runs the job has; 0 is without end."""
        runs = _field(self._descriptor, "runs")
        return runs if isinstance(runs, int) else 0


def _field(descriptor: Descriptor, key: str) -> Any:
    """A field of the descriptor, whose keys match without regard to case."""
    document = descriptor.document.value
    found = (
        [value for name, value in document.items() if name.lower() == key]
        if isinstance(document, dict)
        else []
    )
    return found[-1] if found else None


def _unwritten(error: OSError) -> str:
    if isinstance(error, BrokenPipeError):
        return "nobody reads stdout any more"
    return f"cannot write to stdout: {describe_os_error(error)}"
