"""Faults of plugin code, made fit to be shown and stored, whatever was raised.

Used where plugin code is called: an exception may refuse to be printed, its text may have what no store keeps, and
it may be of a kind (`SystemExit`, `StopIteration`, `CancelledError`) that means something else to a loop.
"""

from __future__ import annotations

import traceback
from typing import Final

FAULTS: Final = (Exception, SystemExit)
"""What plugin code that is called and returns may raise: whatever it is must not end the program."""

MAX_MESSAGE: Final = 65_536
"""Characters of an error that are kept; what is longer is cut."""

MAX_TRACEBACK: Final = 16_384
"""Characters of the end of a traceback that are kept."""


def storable(value: object, limit: int = MAX_MESSAGE) -> str:
    """The text of a value without what no store or wire takes (NUL, lone surrogates), cut to the limit."""
    text = _shown(value)
    if len(text) > limit:
        text = f"{text[:limit]}... ({len(text):,} characters)"
    if "\0" in text:
        text = text.replace("\0", "\N{REPLACEMENT CHARACTER}")
    return (
        text if text.isascii() else text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    )


def describe(error: BaseException) -> str:
    """The class and the text of an exception, in that form in which an event has it."""
    said = _shown(error)
    kind = type(error).__name__
    return storable(f"{kind}: {said}" if said else kind)


def trace_of(error: BaseException) -> str:
    """The end of the traceback."""
    try:
        text = "".join(traceback.format_exception(error))
    # The exception's own code runs here, and it is somebody else's.
    except BaseException as another:
        text = f"the traceback of {type(error).__name__} could not be made: {type(another).__name__}"
    return storable(text[-MAX_TRACEBACK:])


def raised_as_error(error: BaseException) -> RuntimeError:
    """An ordinary error in place of an exception that a loop or a future would take for its own."""
    instead = RuntimeError(f"raised {describe(error)}")
    instead.__cause__ = error
    return instead


def _shown(value: object) -> str:
    try:
        return str(value)
    # The exception's own code runs here, and it is somebody else's.
    except BaseException as another:
        return f"(its text cannot be made: {type(another).__name__})"
