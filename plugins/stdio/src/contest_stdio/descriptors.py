"""Takes the standard descriptors away from everybody else, for as long as they carry the protocol.

Called by the listener. While they are taken, descriptor 0 is the null device and descriptor 1 is stderr, for
Python, for C and for every child: nothing but the listener can eat a request or tear an answer. What of that
concerns stdout is the core's, as the program keeps it clean before there is any listener.

A descriptor that was closed when Python started may be anything by now, an event loop's own for example: it is
not touched.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from contest_core.standard_streams import let_go_of_stdout, make_null, private_copy, stdout_diverted

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
        sink = stack.enter_context(stdout_diverted())
        stack.callback(_flush_c)
        source = os.open(os.devnull, os.O_RDONLY)
        stack.callback(os.close, source)
        if sys.__stdin__ is not None:
            source = _divert(stack, 0, source)
        yield source, sink


def let_go_of_standard_streams(source: int) -> None:
    """Closes both for good, before they are put back: nobody will write or read here, and the process lives on.

    Who reads what stdout was sees the end, and who writes to stdin learns that nobody reads. Descriptor 0 stays the
    null device, descriptor 1 stderr.
    """
    make_null(source, os.O_RDONLY)
    let_go_of_stdout()


def _release() -> None:
    global _taken
    _taken = False


def _flush_c() -> None:
    """Writes what C has buffered, an extension's `printf`, before stdout is back."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).fflush(None)


def _divert(stack: ExitStack, descriptor: int, instead: int) -> int:
    """Puts another file in the descriptor's place until the stack ends; gives the original's private copy."""
    private = private_copy(descriptor)
    stack.callback(os.close, private)
    os.dup2(instead, descriptor)
    stack.callback(os.dup2, private, descriptor)
    return private
