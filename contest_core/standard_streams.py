"""Keeps descriptor 1 of the process clean while it carries a protocol, events or a report.

Used by whoever owns stdout for a while: `contest serve` and the loading of plugins, a stdio listener, `contest run`.
It knows none of them. A `print`, an `os.write(1, ...)`, C and every child write to stderr instead.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import TextIO

_original: int | None = None
"""A private descriptor of what stdout was, while it is diverted."""

_process_ends_with_program = False


def end_process_with_program() -> None:
    """Says that this process is the program and nothing else: it ends when the command has."""
    global _process_ends_with_program
    _process_ends_with_program = True


@contextmanager
def stdout_diverted(*, to_the_end: bool = False) -> Iterator[int]:
    """Until the end, descriptor 1 and `sys.stdout` are stderr; gives a private descriptor of what stdout was.

    Within another one, which has to end later, it gives the same descriptor and changes nothing: so there is no
    moment between two owners. `to_the_end` is for a command that has nothing to write afterwards: in a process that
    ends with the program stdout then stays diverted, for the threads and exit handlers that are left. Where the
    process was started with stdout closed the descriptor is the null device's. Raises `OSError` where no more files
    can be opened.
    """
    if _original is not None:
        yield _original
        return
    with ExitStack() as stack:
        if sys.__stdout__ is None:
            # Descriptor 1 may be anything by now, an event loop's own for example: it is not touched.
            private = os.open(os.devnull, os.O_WRONLY)
        else:
            private = private_copy(1)
        stack.callback(os.close, private)
        put_back = not (to_the_end and _process_ends_with_program)
        if sys.__stdout__ is not None:
            _put_stderr_in_its_place()
            if put_back:
                stack.callback(os.dup2, private, 1)
        stack.enter_context(_known(private))
        stack.enter_context(_replaced(put_back=put_back))
        yield private


def private_copy(descriptor: int) -> int:
    """A copy that no child inherits, never in the place of a standard descriptor that is closed."""
    copy = os.dup(descriptor)
    if copy > 2:
        return copy
    try:
        return private_copy(descriptor)
    finally:
        os.close(copy)


def _put_stderr_in_its_place() -> None:
    instead = os.open(os.devnull, os.O_WRONLY) if sys.__stderr__ is None else private_copy(2)
    try:
        _flush(sys.stdout, sys.__stdout__)
        os.dup2(instead, 1)
    finally:
        os.close(instead)


@contextmanager
def _known(private: int) -> Iterator[None]:
    global _original
    _original = private
    try:
        yield
    finally:
        _original = None


@contextmanager
def _replaced(*, put_back: bool) -> Iterator[None]:
    """Makes `sys.stdout` stderr. What anybody has buffered for stdout is written before stdout is back."""
    before = sys.stdout
    sys.stdout = sys.stderr
    try:
        yield
    finally:
        if put_back:
            sys.stdout = before
        _flush(before, sys.__stdout__)


def _flush(*streams: TextIO | None) -> None:
    for stream in streams:
        if stream is not None:
            with suppress(OSError, ValueError):
                stream.flush()
