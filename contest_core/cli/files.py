"""Files that commands write for others to read: reports, schemas."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from contest_core.cli.failures import Failure, describe_os_error
from contest_core.cli.output import out_json, say
from contest_core.reports.writing import write_report

NOT_WRITTEN = 3
"""The exit status where the file cannot be written."""


def put(path: str, pieces: Iterable[str]) -> str:
    """Writes a file, whole or not at all; its absolute path. Raises `Failure`, in the words of the system."""
    try:
        return write_report(path, pieces)
    except OSError as error:
        # With the name that was given: that of the file beside it says nothing to a person.
        named = OSError(error.errno, error.strerror, path)
        raise Failure(f"cannot write {describe_os_error(named)}", NOT_WRITTEN) from None


def give(document: Mapping[str, Any], path: str | None, what: str) -> None:
    """Writes a JSON document to a file, and says so; to stdout without a path. Raises `Failure`."""
    encoded = msgspec.json.format(msgspec.json.encode(document), indent=2)
    if path is None or path == "-":
        out_json(encoded)
    else:
        say(f"{put(path, [encoded.decode(), chr(10)])}: {what}")
