"""What a case of a suite is: an async method that pytest runs as a plain test, on a loop of its own.

`case` is put on each case by the suites, so that authors need no plugin for async tests. Around it is looked for
what a test must not leave: tasks, threads, open files and sockets, children, sockets and pipes in its directory,
complaints in the log.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import logging
import os
import socket
import stat
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from types import NoneType
from typing import Any, ClassVar, Final, Self

CASE_TIMEOUT: Final = 45.0
"""Seconds for one case."""

STUBBORN: Final = 2.0
"""Seconds that a task has to end when it is cancelled; then it is left behind, and said so."""

_AWAY: Final = 3.0
"""Seconds for what ends by itself: a thread that is told to, a process that is reaped."""


class Suite:
    """A class with cases. What a case gets first, its place, the suite makes with `place`."""

    contest_suite: ClassVar[bool] = True
    """For the pytest plugin: its cases are counted as promises."""

    def __init_subclass__(cls, **given: Any) -> None:
        """Raises `TypeError` where an attribute is misspelt, or of another type than is declared."""
        super().__init_subclass__(**given)
        declared = _declared(cls)
        for name, value in vars(cls).items():
            kinds = _KINDS.get(declared.get(name, ""))
            if kinds is not None and type(value) not in kinds:
                raise TypeError(f"{cls.__name__}.{name} is {value!r}, and has to be {declared[name]}")
            known = name in declared or name.startswith("_") or callable(value) or hasattr(Suite, name)
            if not known and (near := get_close_matches(name, declared, 1, 0.8)):
                raise TypeError(f"{cls.__name__}.{name} means nothing, did you mean {near[0]}?")

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        """The event loop of a case, asyncio's own. Subclass twice to test on two."""
        return asyncio.new_event_loop()


_KINDS: Final[Mapping[str, tuple[type, ...]]] = {
    "bool": (bool,),
    "int | None": (int, NoneType),
    "float | None": (int, float, NoneType),
}
"""The types that the values of an attribute may have, by how it is declared."""


def _declared(cls: type[Suite]) -> dict[str, str]:
    """The attributes that the kits' classes declare, and their types."""
    return {
        name: annotation.removeprefix("ClassVar[").removesuffix("]")
        for base in cls.__mro__
        if ".testing." in base.__module__ and issubclass(base, Suite)
        for name, annotation in inspect.get_annotations(base).items()
        if isinstance(annotation, str)
    }


def case(body: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Makes a test of a case. The test takes `tmp_path`, and what `parametrize` gives the case."""

    def test(self: Suite, tmp_path: Path, **arguments: Any) -> None:
        run_case(self, body, tmp_path, **arguments)

    given = list(inspect.signature(body).parameters.values())
    place = inspect.Parameter("tmp_path", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    # pytest asks the signature which fixtures and parameters a test wants.
    test.__signature__ = inspect.Signature([given[0], place, *given[2:]])  # type: ignore[attr-defined]
    test.__name__, test.__qualname__, test.__doc__ = body.__name__, body.__qualname__, body.__doc__
    test.__module__ = body.__module__
    test.body = body  # type: ignore[attr-defined]
    return test


def run_case(suite: Any, body: Callable[..., Awaitable[None]], directory: Path, **arguments: Any) -> None:
    """Runs one case. Raises `AssertionError` where a promise is broken, or something is left."""
    complaints = Complaints()
    _warm_up(suite.new_event_loop())
    before = _Open.now()
    root = logging.getLogger()
    root.addHandler(complaints)
    gc.freeze()  # what there was before the case is not gone through again at its end
    try:
        with asyncio.Runner(loop_factory=suite.new_event_loop) as runner:
            runner.run(_bounded(body(suite, suite.place(directory, complaints), **arguments)))
        left = before.left(directory)
        gc.collect()  # a task that failed and that nobody asked complains only now
    finally:
        gc.unfreeze()
        root.removeHandler(complaints)
    assert not left, "it left behind: " + ", ".join(left)
    assert not complaints.heard, "it was complained in the log: " + "; ".join(complaints.heard)


def _warm_up(loop: asyncio.AbstractEventLoop) -> None:
    """Opens what a library keeps open for all of its loops, as uvloop does a pipe for signals."""
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()


async def _bounded(work: Awaitable[None]) -> None:
    running = asyncio.ensure_future(work)
    try:
        await asyncio.wait([running], timeout=CASE_TIMEOUT)
        if running.done():
            running.result()
            tasks = await _tasks_left()
            assert not tasks, "it left tasks behind: " + ", ".join(_described(tasks))
    finally:
        ended, others = running.done(), _described(_others() - {running})
        stubborn = await _end(_others())
    if not ended:
        why = f"; these went on: {', '.join(others)}" if others else ""
        why += f"; cancelled, these go on: {', '.join(_described(stubborn))}" if stubborn else ""
        raise AssertionError(f"the case did not end within {CASE_TIMEOUT:g} s{why}")


def _others() -> set[asyncio.Task[Any]]:
    return {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}


async def _tasks_left() -> set[asyncio.Task[Any]]:
    """What still runs. A task that was cancelled has a few turns of the loop to go."""
    for _ in range(100):
        if not (others := _others()):
            break
        await asyncio.sleep(0.01)
    return others


async def _end(tasks: set[asyncio.Task[Any]]) -> set[asyncio.Task[Any]]:
    """Cancels them; gives those that swallow it, for which the loop does not wait when it is closed."""
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=STUBBORN)
    left = _others()
    for task in left:
        asyncio.tasks._unregister_task(task)
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    return left


def _described(tasks: set[asyncio.Task[Any]]) -> list[str]:
    return sorted(repr(task.get_coro()) for task in tasks)


class Complaints(logging.Handler):
    """Keeps what was logged as an error while a case ran: by asyncio, whatever it is; by Contest, unless `expected`."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.heard: list[str] = []
        self.expected = False

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith("contest") and self.expected:
            return
        cause = f" ({record.exc_info[1]!r})" if record.exc_info and record.exc_info[1] else ""
        self.heard.append(f"{record.name}: {record.getMessage()[:500]}{cause}")


class Heard(logging.Handler):
    """Keeps every line of the log from a level on while it is entered."""

    def __init__(self, level: int = logging.DEBUG) -> None:
        super().__init__(level)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))

    def __enter__(self) -> Self:
        root = logging.getLogger()
        self._before = root.level
        root.addHandler(self)
        root.setLevel(self.level)
        return self

    def __exit__(self, *error: object) -> None:
        root = logging.getLogger()
        root.setLevel(self._before)
        root.removeHandler(self)


class _Open:
    """What a process has open at one moment."""

    def __init__(self, threads: set[threading.Thread], files: dict[str, str], children: set[str]) -> None:
        self.threads = threads
        self.files = files
        self.children = children

    @classmethod
    def now(cls) -> _Open:
        return cls(set(threading.enumerate()), open_files(), _children())

    def left(self, directory: Path) -> list[str]:
        """What was not there before, after what ends by itself had its time; names in a directory do not."""
        ends = time.monotonic() + _AWAY
        while (found := self._more()) and time.monotonic() < ends:
            gc.collect()
            time.sleep(0.02)
        return found + [f"{path.name} in its directory" for path in _rendezvous(directory)]

    def _more(self) -> list[str]:
        now = self.now()
        threads = [f"thread {thread.name}" for thread in now.threads - self.threads if thread.is_alive()]
        files = [f"file {what}" for number, what in now.files.items() if self.files.get(number) != what]
        children = [f"process {child}" for child in now.children - self.children]
        return threads + files + children


def open_files() -> dict[str, str]:
    """Open descriptors, on systems that tell."""
    found = {}
    for number in _listed("/proc/self/fd"):
        try:
            what = os.readlink(f"/proc/self/fd/{number}")
        except OSError:
            continue  # the one that listed them
        found[number] = what
    return found


def listening_sockets() -> set[str]:
    """Those of this process at which somebody may connect, on systems that tell."""
    found = set()
    for number, what in open_files().items():
        if what.startswith("socket:"):
            with suppress(OSError), socket.socket(fileno=os.dup(int(number))) as opened:
                if opened.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    found.add(what)
    return found


def _children() -> set[str]:
    try:
        return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())
    except OSError:
        return set()


def _listed(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []


def _rendezvous(directory: Path) -> list[Path]:
    """Sockets and pipes that a listener made in its directory."""
    kinds = (stat.S_ISSOCK, stat.S_ISFIFO)
    return [path for path in directory.rglob("*") if any(kind(path.lstat().st_mode) for kind in kinds)]
