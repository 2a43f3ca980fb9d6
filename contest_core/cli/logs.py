"""Where logs go: to stderr, as text for people or as JSON lines for machines.

Set up by `serve`, and by plugins' commands that run a server. Lines are written by a thread of its own through a
bounded queue: a reader of stderr that does not read, or a disk that is full, must not hold up the event loop. What
does not fit is dropped, counted and told.
"""

from __future__ import annotations

import logging
import os
import select
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from contest_core.cli.output import visible

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("text", "json")

MAX_QUEUED = 10_000
"""Lines that wait for the reader of stderr."""


class LogStream:
    """Writes lines to a file descriptor from a thread of its own; `close` waits a bounded time for it."""

    def __init__(self, descriptor: int, *, limit: int = MAX_QUEUED) -> None:
        self._descriptor = descriptor
        self._limit = limit
        self._lines: deque[str] = deque()
        self._dropped = 0
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="contest log", daemon=True)
        self._thread.start()

    def write(self, line: str) -> None:
        """Hands over a line; never waits."""
        with self._changed:
            if len(self._lines) >= self._limit:
                self._dropped += 1
            else:
                self._lines.append(line)
            self._changed.notify()

    def close(self, seconds: float = 1.0) -> None:
        """Writes what there is, if the reader takes it within the time."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(seconds)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._lines and not self._closed:
                    self._changed.wait()
                if not self._lines:
                    return
                text = "\n".join(self._lines) + "\n"
                self._lines.clear()
                if self._dropped:
                    text += f"{self._dropped} lines of the log were dropped: nobody read them in time\n"
                    self._dropped = 0
            _write_all(self._descriptor, text.encode("utf-8", "backslashreplace"))


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:
            # Somebody who shares the terminal or the pipe made it non-blocking.
            select.select([], [descriptor], [])
        except OSError:
            # Nobody reads stderr any more, or its disk is full: a log is no reason to stop a server.
            return


class _Lines(logging.Formatter):
    """One record a line; what belongs to it stands indented below, so that no message can forge a record."""

    def format(self, record: logging.LogRecord) -> str:
        return (
            _stamp(record)
            + f" {record.levelname:7} {record.name}: "
            + visible(super().format(record), lines=True).replace("\n", "\n    ")
        )


class _Objects(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": _stamp(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["error"] = self.formatException(record.exc_info)
        return msgspec.json.encode(entry).decode()


def _stamp(record: logging.LogRecord) -> str:
    local = time.localtime(record.created)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', local)}.{int(record.msecs):03}{time.strftime('%z', local)}"


class Log(logging.Handler):
    """The handler of every record; also writes what is no record."""

    def __init__(self, stream: LogStream, *, form: str) -> None:
        super().__init__()
        self.stream = stream
        self.setFormatter(_Objects() if form == "json" else _Lines())

    def emit(self, record: logging.LogRecord) -> None:
        """Formats a record and hands it over."""
        try:
            self.stream.write(self.format(record))
        # As the standard handlers do it: a record with wrong arguments is the fault of whoever logs.
        except Exception:
            self.handleError(record)

    def announce(self, text: str) -> None:
        """A line that is there whatever the level: bare as text, a record as JSON."""
        if isinstance(self.formatter, _Objects):
            self.emit(logging.LogRecord("contest", logging.INFO, "", 0, text, None, None))
        else:
            self.stream.write(visible(text, lines=True))

    def flush(self) -> None:
        """Writes what there is within a second, if the reader takes it; nothing is written after that."""
        self.stream.close()


@contextmanager
def logging_to_stderr(*, level: str = "info", form: str = "text") -> Iterator[Log]:
    """Sends all logs of the process to stderr while entered, and flushes them at the end."""
    # Where stderr was closed the program has opened the null device in its place.
    log = Log(LogStream(2 if sys.stderr is None else sys.stderr.fileno()), form=form)
    root = logging.getLogger()
    before = root.level
    root.setLevel(level.upper())
    root.addHandler(log)
    try:
        yield log
    finally:
        root.removeHandler(log)
        root.setLevel(before)
        log.flush()
