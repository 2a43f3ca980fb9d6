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

_let_go = False
"""What stdout was is closed: it never comes back."""

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
                stack.callback(_put_back, private)
        stack.enter_context(_known(private))
        stack.enter_context(_replaced(put_back=put_back))
        yield private


def let_go_of_stdout() -> None:
    """Closes what stdout was, for good: who reads it sees its end, though the process lives on.

    Called by the owner of the private descriptor, which is the null device's from now on. Descriptor 1 and `sys.stdout`
    stay stderr, also after the end of `stdout_diverted`.
    """
    global _let_go
    if _original is not None:
        make_null(_original, os.O_WRONLY)
        _let_go = True


def make_null(descriptor: int, flags: int) -> None:
    """Puts the null device in a private descriptor's place, without a moment in which the number is free."""
    null = os.open(os.devnull, flags)
    os.dup2(null, descriptor, inheritable=False)
    os.close(null)


def private_copy(descriptor: int) -> int:
    """A copy that no child inherits, never in the place of a standard descriptor that is closed."""
    copy = os.dup(descriptor)
    if copy > 2:
        return copy
    try:
        return private_copy(descriptor)
    finally:
        os.close(copy)


def _put_back(private: int) -> None:
    if not _let_go:
        os.dup2(private, 1)


def _put_stderr_in_its_place() -> None:
    instead = os.open(os.devnull, os.O_WRONLY) if sys.__stderr__ is None else private_copy(2)
    try:
        _flush(sys.stdout, sys.__stdout__)
        os.dup2(instead, 1)
    finally:
        os.close(instead)


@contextmanager
def _known(private: int) -> Iterator[None]:
    global _let_go, _original
    _original, _let_go = private, False
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
        if put_back and not _let_go:
            sys.stdout = before
        _flush(before, sys.__stdout__)


def _flush(*streams: TextIO | None) -> None:
    for stream in streams:
        if stream is not None:
            with suppress(OSError, ValueError):
                stream.flush()
