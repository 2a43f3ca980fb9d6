"""The job manager `relay`: hands every verb on to another server, and its answers back.

It runs nothing and keeps nothing: jobs, their numbers and cursors are the other server's. What is asked goes along
whole or is refused; answers are copied through. The end of this server ends no job, whatever word it is told with.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import ClassVar, Final

from msgspec import Struct

from contest_core import (
    VERBS,
    AnswerTimeout,
    Caller,
    EncodedJSON,
    EventLocksMsg,
    EventMsg,
    EventRetryMsg,
    EventStartMsg,
    EventStatusMsg,
    EventStopMsg,
    EventValidateMsg,
    EventWatchMsg,
    JobManager,
    JobManagerContext,
    ShuttingDown,
    Unavailable,
    UnknownJob,
    Watch,
)
from contest_core.errors import ConnectionLost, ContestError, Unreachable
from contest_core.events import EventListMsg
from contest_relay.answered import read, told
from contest_relay.asked import parameters_of
from contest_relay.depth import note_depth
from contest_relay.far import EVERYTHING, Far
from contest_relay.settings import RelaySettings
from contest_relay.watching import FarWatch

START_SECONDS: Final = 5.0
"""How long the start waits for the other server's first answer before it goes on without."""


class RelayJobManager(JobManager):
    """Asks another server."""

    Settings: ClassVar[type[Struct]] = RelaySettings
    settings: RelaySettings
    runs_jobs: ClassVar[bool] = False

    def __init__(self, settings: RelaySettings) -> None:
        super().__init__(settings)
        self._far: Far | None = None
        """None before it serves, and when it ends."""
        self._watches: set[FarWatch] = set()
        self._asking = 0
        self._changed = asyncio.Event()

    def capabilities(self) -> frozenset[str]:
        """What the other server offers, of what is known here; everything until it has said so."""
        return EVERYTHING if self._far is None else self._far.capabilities

    async def serve(self, context: JobManagerContext) -> None:
        """Finds the other server, and serves until told to end; then what is asked is answered, within the grace."""
        note_depth()
        async with asyncio.TaskGroup() as group:
            self._far = far = Far(self.settings, context, group)
            try:
                await far.open(START_SECONDS)
                looking = group.create_task(far.look_after(), name="looking after the other server")
                await context.stopping()
                self._far = None
                for watch in self._watches:
                    watch.end()
                answered = group.create_task(self._answered(), name="answering")
                harder = group.create_task(_harder(context), name="a harder word")
                ends = (answered, harder)
                await asyncio.wait(ends, timeout=context.grace, return_when=asyncio.FIRST_COMPLETED)
                for task in (looking, *ends):
                    task.cancel()
            finally:
                self._far = None
                await far.aclose()

    async def _answered(self) -> None:
        """Returns when nothing is asked any more."""
        while self._asking:
            self._changed.clear()
            await self._changed.wait()

    # --- the verbs

    async def start(self, message: EventStartMsg, caller: Caller) -> EncodedJSON:
        """Has the job started over there."""
        return await self._ask("start", message, caller, harmless=message.start_key is not None)

    async def stop(self, message: EventStopMsg, caller: Caller) -> EncodedJSON:
        """Has the job stopped over there."""
        return await self._ask("stop", message, caller)

    async def status(self, message: EventStatusMsg, caller: Caller) -> EncodedJSON:
        """The status as it came: not even a large one is decoded."""
        if self._far is not None and self._far.is_sought(message.job_id):
            raise UnknownJob(job_id=message.job_id)
        return await self._ask("status", message, caller, harmless=True)

    async def retry(self, message: EventRetryMsg, caller: Caller) -> EncodedJSON:
        """Has the job run again over there."""
        return await self._ask("retry", message, caller)

    async def list(self, message: EventListMsg, caller: Caller) -> EncodedJSON:
        """The jobs over there."""
        return await self._ask("list", message, caller, harmless=True)

    async def validate(self, message: EventValidateMsg, caller: Caller) -> EncodedJSON:
        """What the other server has to say of a descriptor."""
        return await self._ask("validate", message, caller, harmless=True)

    async def locks(self, message: EventLocksMsg, caller: Caller) -> EncodedJSON:
        """The locks over there."""
        return await self._ask("locks", message, caller, harmless=True)

    def watch(self, message: EventWatchMsg, caller: Caller) -> AbstractAsyncContextManager[Watch]:
        """Follows the other server's feed."""
        return self._watch(message)

    @asynccontextmanager
    async def _watch(self, message: EventWatchMsg) -> AsyncIterator[Watch]:
        watch = FarWatch(self._present(), message)
        try:
            async with watch:
                self._watches.add(watch)
                yield watch
        finally:
            self._watches.discard(watch)

    # --- asking

    def _present(self) -> Far:
        if self._far is None:
            raise ShuttingDown
        return self._far

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self._asking += 1
        try:
            yield
        finally:
            self._asking -= 1
            self._changed.set()

    async def _ask(
        self, verb: str, message: EventMsg, caller: Caller, *, harmless: bool = False
    ) -> EncodedJSON:
        """The data of the answer. Raises the refusal, and what became of a question without one.

        The caller's time bounds it. What was lost on its way is asked once more, where that is `harmless`.
        """
        far = self._present()
        seconds = self.settings.timeout.seconds
        if caller.timeout is not None:
            seconds = min(seconds, caller.timeout)
        question = _Question(verb, message, asyncio.get_running_loop().time() + seconds, harmless=harmless)
        with self._counted():
            try:
                answer = read(await question.put_to(far), verb=verb, address=far.address)
                if error := answer.unread():
                    raise error
            except TimeoutError:
                raise AnswerTimeout(seconds=seconds, verb=verb, reads=VERBS[verb].reads) from None
            except ContestError as error:
                if error.code == "unauthenticated":
                    far.lost(error)
                raise told(error, verb=verb, address=far.address) from error
        if refusal := answer.refusal():
            raise refusal
        return EncodedJSON(bytes(answer.data))


async def _harder(context: JobManagerContext) -> None:
    await context.harder()


class _Question:
    """One question and what is known of its fate. `end` is when nobody waits for its answer any more."""

    def __init__(self, verb: str, message: EventMsg, end: float, *, harmless: bool) -> None:
        self._verb = verb
        self._message = message
        self._end = end
        self._harmless = harmless

    async def put_to(self, far: Far) -> bytes:
        """The answer. Raises what the client does, `Unavailable`, `Unsupported`, and `TimeoutError` at the end."""
        lost: ContestError
        try:
            return await self._once(far)
        except Unreachable as error:
            lost = error
        except ConnectionLost as error:
            if not self._harmless:
                raise
            lost = error
        try:
            return await self._once(far)
        except ContestError:
            if isinstance(lost, ConnectionLost) and not VERBS[self._verb].reads:
                # It may have happened the first time, whatever became of the second.
                raise lost from None
            raise

    async def _once(self, far: Far) -> bytes:
        try:
            async with asyncio.timeout_at(self._end):
                offer = await far.offer()
        except TimeoutError:
            raise Unavailable(what=far.address, reason="it does not answer") from None
        if refused := offer.lacks(self._verb, self._message):
            raise refused
        try:
            async with asyncio.timeout_at(self._end):
                return await far.client.call(self._verb, parameters_of(self._verb, self._message))
        except (ConnectionLost, Unreachable) as error:
            far.lost(error)
            raise
