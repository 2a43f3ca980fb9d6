"""Takes the standard descriptors away from everybody else, for as long as they carry the protocol.

Called by the listener. While they are taken, descriptor 0 is the null device and descriptor 1 is stderr, for
Python, for C and for every child: nothing but the listener can eat a request or tear an answer.

A descriptor that was closed when Python started may be anything by now, an event loop's own for example: it is
not touched.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import TextIO

_taken = False


@contextmanager
def take_standard_streams() -> Iterator[tuple[int, int]]:
    """Gives private descriptors of what stdin and stdout were, and puts everything back at the end.

    A closed stdin reads as an empty one. Raises `OSError` where stdout is closed or both are taken already.
    """
    global _taken
    if _taken:
        raise OSError("stdin and stdout are in use by another stdio listener of this program")
    if sys.__stdout__ is None:
        raise OSError("stdout is closed, and a stdio listener has nowhere to answer")
    with ExitStack() as stack:
        _taken = True
        stack.callback(_release)
        sink = _divert(stack, 1, _open_stderr())
        stack.enter_context(_replace_stdout())
        source = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        if sys.__stdin__ is None:
            stack.callback(os.close, source)
        else:
            source = _divert(stack, 0, source)
        yield source, sink


def _release() -> None:
    global _taken
    _taken = False


def _open_stderr() -> int:
    if sys.__stderr__ is None:
        return os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    return os.dup(2)


def _divert(stack: ExitStack, descriptor: int, instead: int) -> int:
    """Puts another file in the descriptor's place until the stack ends; gives the original's private copy."""
    try:
        # Above the standard ones, of which some may be closed.
        private = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)
        stack.callback(os.close, private)
        os.dup2(instead, descriptor)
        stack.callback(os.dup2, private, descriptor)
    finally:
        os.close(instead)
    return private


@contextmanager
def _replace_stdout() -> Iterator[None]:
    """Makes `sys.stdout` stderr. What anybody has buffered for stdout is written before stdout is back."""
    before = sys.stdout
    sys.stdout = sys.stderr
    try:
        _flush(before, sys.__stdout__)
        yield
    finally:
        sys.stdout = before
        _flush(before, sys.__stdout__)
        # And what C has buffered: an extension's printf.
        with suppress(AttributeError, OSError):
            ctypes.CDLL(None).fflush(None)


def _flush(*streams: TextIO | None) -> None:
    for stream in streams:
        if stream is not None:
            with suppress(OSError, ValueError):
                stream.flush()
