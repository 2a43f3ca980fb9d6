"""What a listener owns of the process: claimed before anything runs, and given back after everything has ended."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Self

import pytest
from msgspec import Struct

from contest_core import (
    API,
    Authenticator,
    Caller,
    EventStartMsg,
    JobManager,
    JobManagerContext,
    Listener,
    ListenerContext,
    Principal,
    ResponseDataStart,
    StartError,
    open_server,
)


class Nothing(Struct):
    """No settings."""


class Manager(JobManager):
    Settings = Nothing

    def __init__(self, log: list[str], *, fails: bool = False) -> None:
        super().__init__(None)
        self.log = log
        self.fails = fails

    def capabilities(self) -> frozenset[str]:
        return frozenset({"start"})

    async def serve(self, context: JobManagerContext) -> None:
        self.log.append("manager begins")
        if self.fails:
            raise RuntimeError("no store")
        context.ready()
        await context.stopping()
        self.log.append("manager ends")

    async def start(self, message: EventStartMsg, caller: Caller) -> ResponseDataStart:
        return ResponseDataStart(job_id=1)


class Claiming(Listener):
    Settings = Nothing

    def __init__(self, log: list[str], name: str, *, refused: Exception | None = None) -> None:
        super().__init__(None)
        self.log = log
        self.name = name
        self.refused = refused

    def claim(self) -> AbstractContextManager[None]:
        return self._claim()

    @contextmanager
    def _claim(self) -> Iterator[None]:
        if self.refused is not None:
            raise self.refused
        self.log.append(f"{self.name} claims")
        try:
            yield
        finally:
            self.log.append(f"{self.name} gives back")

    async def serve(self, api: API, context: ListenerContext) -> None:
        self.log.append(f"{self.name} serves")
        context.ready()
        await context.stopping()


class Door(Authenticator):
    """Writes down when it is there."""

    def __init__(self, log: list[str]) -> None:
        super().__init__(None)
        self.log = log

    async def __aenter__(self) -> Self:
        self.log.append("authenticator begins")
        return self

    async def authenticate(self, credentials: Any, peer: str) -> Principal | None:
        return None


async def test_a_claim_is_made_before_the_job_manager_begins_and_ends_after_everything() -> None:
    log: list[str] = []
    listeners = {"one": Claiming(log, "one"), "two": Claiming(log, "two")}
    async with open_server(Manager(log), listeners=listeners, authenticators=[Door(log)]):
        assert log == [
            "one claims",
            "two claims",
            "authenticator begins",
            "manager begins",
            "one serves",
            "two serves",
        ]
    assert log[6:] == ["manager ends", "two gives back", "one gives back"]


async def test_a_claim_that_is_refused_fails_the_start_names_the_listener_and_gives_the_others_back() -> None:
    log: list[str] = []
    refused = OSError("stdout is closed")
    listeners = {"one": Claiming(log, "one"), "pipe": Claiming(log, "pipe", refused=refused)}
    with pytest.raises(StartError, match="listener pipe: stdout is closed") as failed:
        async with open_server(Manager(log), listeners=listeners):
            pass
    assert failed.value.__cause__ is refused
    assert log == ["one claims", "one gives back"]


async def test_a_start_that_fails_gives_everything_back() -> None:
    log: list[str] = []
    with pytest.raises(RuntimeError, match="no store"):
        async with open_server(Manager(log, fails=True), listeners={"one": Claiming(log, "one")}):
            pass
    assert log == ["one claims", "manager begins", "one gives back"]


def test_a_listener_that_says_nothing_claims_nothing() -> None:
    class Plain(Listener):
        Settings = Nothing

        async def serve(self, api: API, context: ListenerContext) -> None:
            return

    with Plain(None).claim() as claimed:
        assert claimed is None
