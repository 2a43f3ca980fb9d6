"""Where a case of a job manager happens: a server without listeners around it, or its context alone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from contest_core.api import API
from contest_core.caller import Caller, Principal
from contest_core.errors import ContestError
from contest_core.events import EventStartMsg
from contest_core.job_event import Cursor, Gap, JobEvent
from contest_core.job_manager import JobManager, Termination
from contest_core.responses import EncodedJSON, Response, ResponseDataList, ResponseDataStart
from contest_core.server import ServerOptions, open_server
from contest_core.status import JobEntry, JobQuery, JobState, JobStatus
from contest_core.testing.cases import Complaints
from contest_core.testing.world import PATIENCE, REQUESTOR, SERVER_ID, within
from contest_core.watch import Watch

if TYPE_CHECKING:
    from contest_core.lifecycle import Server
    from contest_core.plugins import Plugins

SOON = 2.0
"""Seconds for what has nothing to wait for."""

UNKNOWN: Final = (4711, 0, -1, 2**63 - 1, -(2**63))
"""Numbers of no job."""


class ManagerPlace:
    """One case's directory, and the managers that serve there, one after the other."""

    def __init__(
        self, manager: Callable[[Path], JobManager], directory: Path, complaints: Complaints
    ) -> None:
        self.directory = directory
        self._manager = manager
        self._complaints = complaints

    def expect_errors(self) -> None:
        """What Contest logs as an error in this case is meant to be."""
        self._complaints.expected = True

    def make(self) -> JobManager:
        """A new manager, that does not serve."""
        return self._manager(self.directory)

    @asynccontextmanager
    async def serve(self, *, at_exit: Termination = Termination.CANCEL) -> AsyncIterator[ManagerWorld]:
        """A server with the manager that is tested."""
        manager = self.make()
        options = ServerOptions(
            server_id=SERVER_ID,
            event_timeout=PATIENCE,
            start_timeout=PATIENCE,
            directory=self.directory,
            at_exit=at_exit,
        )
        async with open_server(manager, options=options) as server:
            yield ManagerWorld(manager, server)

    @asynccontextmanager
    async def bare(self) -> AsyncIterator[BareManager]:
        """The manager alone, with no server around it: it can be cancelled."""
        manager = self.make()
        context = BareManagerContext(self.directory)
        async with asyncio.TaskGroup() as group:
            serving = group.create_task(manager.serve(context))
            waiting = group.create_task(context.is_ready.wait())
            await asyncio.wait([serving, waiting], timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            assert context.is_ready.is_set(), "the job manager was not ready in time"
            try:
                yield BareManager(manager, serving)
            finally:
                serving.cancel()


class ManagerWorld:
    """A job manager that serves, and what one asks it, as a program does."""

    def __init__(self, manager: JobManager, server: Server) -> None:
        self.manager = manager
        self.server = server
        self.api = server.api
        self.caller = self.as_(REQUESTOR)

    @property
    def offered(self) -> frozenset[str]:
        """What it declares."""
        return self.api.capabilities

    def as_(self, requestor: str, principal: str | None = None) -> Caller:
        """Somebody who asks."""
        proven = None if principal is None else Principal(name=principal)
        return self.api.caller(listener="kit", peer="kit", requestor=requestor, principal=proven)

    async def end(self, how: Termination, seconds: float | None = None) -> None:
        """Says the word, and returns when the manager has ended, and all else."""
        self.server.terminate(how)
        try:
            async with asyncio.timeout(seconds or PATIENCE):
                await self.server.wait()
        except TimeoutError as error:
            raise AssertionError(f"told to {how.name.lower()}, it did not end in time") from error

    async def start(self, descriptor: str, **more: Any) -> int:
        """The number of a new job. Raises the refusal."""
        return (await self.started(descriptor, **more)).job_id

    async def started(self, descriptor: str, **more: Any) -> ResponseDataStart:
        """The answer to a start. Raises the refusal."""
        data: ResponseDataStart = await result(self.api.start(self.caller, descriptor, **more))
        return data

    async def stop(self, job_id: int) -> None:
        """Raises the refusal."""
        await result(self.api.stop(self.caller, job_id))

    async def retry(self, job_id: int, **more: Any) -> int:
        """The number of the job that runs it again. Raises the refusal."""
        data = await result(self.api.retry(self.caller, job_id, **more))
        assert data.job_id == job_id, "the answer names the job that is run again"
        new: int = data.new_job_id
        return new

    async def status(self, job_id: int, **more: Any) -> JobStatus:
        """Raises the refusal."""
        status: JobStatus | None = (await result(self.api.status(self.caller, job_id, **more))).status
        assert status is not None, "an answer that is no refusal has a status"
        return status

    async def ended(self, job_id: int) -> JobStatus:
        """The status of the job when it has ended."""
        return await self._when(job_id, lambda status: status.state.ended, "ends")

    async def runs(self, job_id: int) -> None:
        """Returns when the job is seen to run."""
        await self._when(job_id, lambda status: status.state is JobState.STARTED, "runs")

    async def _when(self, job_id: int, holds: Callable[[JobStatus], bool], what: str) -> JobStatus:
        found: list[JobStatus] = []

        async def look() -> bool:
            found[:] = [await self.status(job_id)]
            return holds(found[0])

        await self.until(look, f"job {job_id} {what}")
        return found[0]

    async def until(self, holds: Callable[[], Awaitable[bool]], what: str) -> None:
        """Waits until something holds; asks again and again."""
        ends = asyncio.get_running_loop().time() + PATIENCE
        while not await holds():
            assert asyncio.get_running_loop().time() < ends, f"not within {PATIENCE:g} s: {what}"
            await asyncio.sleep(0.01)

    async def find(self, **query: Any) -> ResponseDataList:
        """The jobs that match. Raises the refusal."""
        data: ResponseDataList = await result(self.api.list(self.caller, JobQuery(**query)))
        return data

    async def ids(self, **query: Any) -> list[int]:
        """Their numbers."""
        return (await self.find(**query)).job_ids or []

    async def entry(self, job_id: int) -> JobEntry:
        """What `list` says of one job."""
        found = [entry for entry in (await self.find()).jobs if entry.job_id == job_id]
        assert len(found) == 1, f"`list` has job {job_id} {len(found)} times"
        return found[0]

    async def events(self, job_id: int, since: str | None = None) -> list[JobEvent]:
        """The events of a job, to its end."""
        cursor = None if since is None else Cursor(since)
        async with self.api.watch(self.caller, job_id=job_id, since=cursor) as watch:
            return await read(watch)


class BareManager:
    """A job manager that serves, and the task that does."""

    def __init__(self, manager: JobManager, serving: asyncio.Task[None]) -> None:
        self.manager = manager
        self.serving = serving

    async def start(self, descriptor: str) -> int:
        """The number of a new job."""
        message = EventStartMsg(requestor=REQUESTOR, job_descriptor=descriptor)
        caller = API().caller(listener="kit", peer="kit", requestor=REQUESTOR)
        data = await within(self.manager.start(message, caller), "the answer to start")
        if isinstance(data, EncodedJSON):
            data = msgspec.json.decode(data.json, type=ResponseDataStart)
        job_id: int = data.job_id
        return job_id

    async def cancel(self) -> None:
        """Ends the manager, now."""
        self.serving.cancel()
        done, _ = await asyncio.wait([self.serving], timeout=SOON)
        assert done, f"a job manager that was cancelled did not end within {SOON:g} s"


class BareManagerContext:
    """What a job manager needs of a server, without one."""

    server_id = SERVER_ID
    plugins: Plugins | None = None
    grace = 1.0
    log = logging.LoggerAdapter(logging.getLogger("contest.job_manager"), {})

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.is_ready = asyncio.Event()

    def ready(self) -> None:
        """It serves."""
        self.is_ready.set()

    def degraded(self, reason: str) -> None:
        """It does not."""

    async def stopping(self) -> Termination:
        """It shall go on."""
        await asyncio.Event().wait()
        return Termination.CANCEL

    async def harder(self) -> Termination:
        """It shall go on."""
        return await self.stopping()


async def result(work: Awaitable[Response[Any]]) -> Any:
    """The data of an answer. Raises the refusal."""
    answer: Response[Any] = await within(work, "the answer")
    return answer.result()


async def refusal(work: Awaitable[Any], *codes: str) -> ContestError:
    """What it is refused with, which has one of these codes and says something."""
    try:
        answer = await within(work, "the refusal")
    except ContestError as error:
        found = error
    else:
        raise AssertionError(f"it was not refused with {' or '.join(codes)}, but answered: {answer}")
    assert found.code in codes, f"refused with {found.code}: {found.message}"
    assert found.message, "a refusal says something"
    return found


async def read(watch: Watch, most: int | None = None) -> list[JobEvent]:
    """The next events of a watch, so many or to its end; each with the cursor that the watch has then."""
    found: list[JobEvent] = []
    while most is None or len(found) < most:
        item = await within(anext(watch, None), "the next event, or the end of the watch")
        if item is None:
            break
        assert not isinstance(item, Gap), f"nothing was pruned, and there is a gap: {item}"
        assert item.cursor == str(watch.cursor), "the watch's cursor is that of the event it gave last"
        found.append(item)
    return found
