"""A laboratory of made-up and installed parts, and servers that run jobs with them.

Used by the suites, by the runner's own tests, by those of the standard parts, and by whoever writes a part: `Lab.step`
adds one, `Lab.server` is a server that knows it, `Serving` is what one does with that. It has no listeners.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Final, Self, TypeAlias

import msgspec

from contest_core import JobQuery, Registry, encode, hookimpl
from contest_core.job_manager import Termination
from contest_core.lifecycle import Server
from contest_core.plugins import PluginInfo, Plugins, load_plugins
from contest_core.server import ServerOptions, open_server
from contest_core.settings import dec_hook
from contest_runner.catalog import Catalog
from contest_runner.descriptor import Reading, read_descriptor
from contest_runner.manager import LocalJobManager
from contest_runner.settings import LocalSettings

MODULE: Final = "contest_made_up_parts"
"""The module that made-up parts are found in."""

SECONDS: Final = 20.0
"""No wait is longer."""

KINDS: Final = ("steps", "target_managers", "fetchers", "reporters", "template_functions")
"""Of parts, as in the names of the runner's hooks."""

Json: TypeAlias = dict[str, Any]


class Serving:
    """A running server, and what one does with it."""

    def __init__(self, server: Server, manager: LocalJobManager) -> None:
        self.server = server
        self.manager = manager
        self.api = server.api
        self.caller = server.api.caller(listener="test", peer="test", requestor="tester")

    @property
    def store(self) -> Any:
        """The store of the job manager."""
        return self.manager._store

    async def start(self, descriptor: Mapping[str, Any] | str, **more: Any) -> int:
        """Starts a job. Raises the refusal."""
        text = descriptor if isinstance(descriptor, str) else json.dumps(descriptor)
        return (await self.api.start(self.caller, text, **more)).result().job_id

    async def status(self, job_id: int, **more: Any) -> Json:
        """The status as the wire has it."""
        answer = json.loads(encode(await self.api.status(self.caller, job_id, **more)))
        assert answer["Error"] is None, answer
        status: Json = answer["Data"]["Status"]
        return status

    async def stop(self, job_id: int) -> str | None:
        """The error's code, if any."""
        error = (await self.api.stop(self.caller, job_id)).error
        return None if error is None else error.code

    async def ended(self, job_id: int) -> Json:
        """The status of the job when it has ended."""

        async def over() -> bool:
            return (await self.entry(job_id))["Verdict"] is not None

        await eventually(over, f"the end of job {job_id}")
        return await self.status(job_id)

    async def run(self, descriptor: Mapping[str, Any]) -> Json:
        """The status of the job at its end."""
        return await self.ended(await self.start(descriptor))

    async def entry(self, job_id: int) -> Json:
        """The job's entry in the list."""
        answer = json.loads(encode(await self.api.list(self.caller, JobQuery())))
        return next(entry for entry in answer["Data"]["Jobs"] if entry["JobID"] == job_id)

    async def until(self, job_id: int, condition: Callable[[Json], Any], what: str = "it") -> Json:
        """The status of the job when the condition holds for it."""
        found: Json = {}

        async def holds() -> bool:
            found.update(await self.status(job_id))
            return bool(condition(found))

        await eventually(holds, what)
        return found

    async def locks(self) -> dict[str, int]:
        """By target, the job that has it."""
        answer = json.loads(encode(await self.api.locks(self.caller)))
        return {lock["Target"]: lock["JobID"] for lock in answer["Data"]["Locks"]}

    async def events(self, job_id: int) -> list[Any]:
        """The rows of all events of a job."""
        rows: list[Any] = []
        while page := await self.store.events(
            job_id=job_id, after=rows[-1].position if rows else 0, limit=1000
        ):
            rows.extend(page)
        return rows

    async def names(self, job_id: int) -> list[str]:
        """The names of all events of a job."""
        return [row.name for row in await self.events(job_id)]


class Lab:
    """Parts by name, and servers that know them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        """Where stores are."""
        self._module = ModuleType(MODULE)
        self._parts: dict[str, dict[str, str]] = {kind: {} for kind in KINDS}

    def __enter__(self) -> Self:
        sys.modules[MODULE] = self._module
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del sys.modules[MODULE]

    # --- parts

    def add(self, kind: str, name: str, part: object) -> None:
        """Adds a part of one of `KINDS`."""
        attribute = f"part_{len(vars(self._module))}"
        setattr(self._module, attribute, part)
        self._parts[kind][name] = f"{MODULE}:{attribute}"

    def step(self, name: str, part: object) -> None:
        """Adds a step's class."""
        self.add("steps", name, part)

    def forget(self, kind: str, name: str) -> None:
        """From the next server on there is no such part."""
        del self._parts[kind][name]

    def plugins(self) -> Plugins:
        """All installed plugins, and one that has the made-up parts."""
        plugins = load_plugins()
        hooks: dict[str, Any] = {}
        for kind in KINDS:
            hooks[f"contest_register_{kind}"] = self._hook(kind)
        info = PluginInfo(name="made-up", module=MODULE, distribution="made-up", version="1")
        plugin = ModuleType("contest_made_up_plugin")
        vars(plugin).update(hooks)
        plugins.register(plugin, info)
        assert info.failure is None
        return plugins

    def _hook(self, kind: str) -> Any:
        @hookimpl
        def register(registry: Registry) -> None:
            for name, place in self._parts[kind].items():
                registry.add(name, place)

        return register

    @asynccontextmanager
    async def server(
        self, *, at_exit: Termination = Termination.CANCEL, **settings: Any
    ) -> AsyncIterator[Serving]:
        """A server over the store of this laboratory; `settings` are the job manager's."""
        given = {"store": "sqlite:///jobs.db", "synchronous": "normal", "stop_grace": "5s", **settings}
        manager = LocalJobManager(msgspec.convert(given, LocalSettings, dec_hook=dec_hook))
        options = ServerOptions(
            directory=self.folder,
            plugins=self.plugins(),
            at_exit=at_exit,
            server_id="lab",
            event_timeout=SECONDS,
        )
        async with open_server(manager, options=options) as server:
            yield Serving(server, manager)

    async def read(self, descriptor: object) -> Reading:
        """What a server would say of a descriptor."""
        text = descriptor if isinstance(descriptor, str) else json.dumps(descriptor)
        log = logging.LoggerAdapter(logging.getLogger("test"), {})
        return await read_descriptor(text, Catalog(self.plugins()), log=log)


async def eventually(condition: Callable[[], Any], what: str = "it", seconds: float = SECONDS) -> None:
    """Waits until it holds; asks again and again."""
    async with asyncio.timeout(seconds):
        while True:
            found = condition()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return
            await asyncio.sleep(0.005)


def step(name: str, label: str | None = None, **parameters: Any) -> Json:
    """A step's descriptor; a value that is no list is made one."""
    more = {key: parameters.pop(key) for key in ("OnInterrupt",) if key in parameters}
    values = {key: value if isinstance(value, list) else [value] for key, value in parameters.items()}
    return {"name": name, "label": label or name.replace("-", "_"), "parameters": values, **more}


def one_test(*steps: Json, name: str = "t", targets: Iterable[str | Json] = ("t1",), **more: Any) -> Json:
    """A test's descriptor."""
    entries = [{"ID": target} if isinstance(target, str) else target for target in targets]
    return {
        "TargetManagerName": "TargetList",
        "TargetManagerAcquireParameters": {"Targets": entries},
        "TargetManagerReleaseParameters": {},
        "TestFetcherName": "literal",
        "TestFetcherFetchParameters": {"TestName": name, "Steps": list(steps)},
        **more,
    }


def job_of(*tests: Json, **more: Any) -> Json:
    """A job's descriptor."""
    return {
        "JobName": "job",
        "Version": "1.0",
        "Runs": 1,
        "TestDescriptors": list(tests),
        "Reporting": {"RunReporters": [{"Name": "noop"}]},
        **more,
    }


def simple(*steps: Json, targets: Iterable[str | Json] = ("t1",), **more: Any) -> Json:
    """A job of one test."""
    return job_of(one_test(*steps, targets=targets), **more)


def last_statuses(status: Json, test: int = 0) -> dict[str | None, Json]:
    """By target, its status in the last step of a test."""
    found = status["RunStatus"]["TestStatuses"][test]["TargetStatuses"]
    return {entry["Target"]["ID"] if entry["Target"] else None: entry for entry in found or ()}
