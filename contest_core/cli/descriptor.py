"""Job descriptors as people hand them in: a file or stdin, JSON or YAML; and findings shown at their place.

Used by `start`, `validate` and by plugins' commands. What goes to a server is one JSON text; what a server says of
it by JSON pointer is shown by line and column of the file that the person wrote. It knows no rule of descriptors
but ConTest's own client's: a missing `Version` is 1.0.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Final, NamedTuple

from contest_core.cli.failures import Failure, describe_os_error
from contest_core.cli.output import coloured, is_terminal, say, visible
from contest_core.document import Document, DocumentError, read
from contest_core.status import Finding, Severity

MAX_BYTES: Final = 64 * 1024 * 1024
"""What is read of a file at most; a server takes less."""

VERSION: Final = "1.0"
"""The version of ConTest's descriptors."""


class Descriptor(NamedTuple):
    """A descriptor that was read."""

    json: str
    """One JSON object, as servers take it."""
    document: Document
    """Knows the places of everything in the file."""


def read_descriptor(path: str) -> Descriptor:
    """Reads a descriptor from a file, or from stdin where the path is `-`.

    Raises `DocumentError` (with the place) for what is no JSON and no YAML, `Failure` for a file that cannot be read.
    """
    source = "<stdin>" if path == "-" else path
    document = read(_content(path), source=source)
    if not isinstance(document.value, dict):
        what = "it is empty" if document.value is None else f"this is {_kind(document.value)}"
        message = (
            f"a job descriptor is a mapping (JSON: an object) with JobName, TestDescriptors and so on; {what}"
        )
        raise DocumentError(source=source, place=document.position(""), message=message)
    return Descriptor(json=_as_json(document, document.value), document=document)


def _content(path: str) -> bytes:
    if path == "-" and is_terminal(sys.stdin):
        say("reading a job descriptor from the terminal; end it with Ctrl-D")
    try:
        if path == "-":
            if sys.stdin is None:
                raise Failure("stdin is closed, and no file with a job descriptor is named", 2)
            content = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with open(path, "rb") as file:
                content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise Failure(f"{path}: {describe_os_error(OSError(error.errno, error.strerror))}", 2) from None
    if len(content) > MAX_BYTES:
        raise Failure(f"{path}: more than {MAX_BYTES >> 20} MiB: that is no job descriptor", 2)
    return content


def _as_json(document: Document, value: dict[str, object]) -> str:
    version = next((key for key in value if key.lower() == "version"), None)
    if document.syntax == "json":
        # The text as it was written, since a server reports keys that occur twice.
        text = document.text
        if version is None:
            first = text.index("{") + 1
            text = f'{text[:first]}"Version": "{VERSION}"{", " if value else ""}{text[first:]}'
        return text
    if version is not None and isinstance(value[version], int | float):
        written = document.scalar_text(f"/{version}")
        message = f'{version} is text: write "{written}", in quotes'
        raise DocumentError(source=document.source, place=document.position(f"/{version}"), message=message)
    return json.dumps(value if version is not None else {"Version": VERSION, **value}, ensure_ascii=False)


def _kind(value: object) -> str:
    if isinstance(value, list):
        return "a list"
    return "text" if isinstance(value, str) else "a single value"


def finding_line(finding: Finding, document: Document) -> str:
    """A finding as compilers show theirs: `job.yaml:12:7: error: unknown step "ecko", did you mean "echo"?`

    With colours: write it with `say` or `out`, which take them away where none are wanted.
    """
    about_key = finding.code.endswith("_key")
    place = document.key_position(finding.path) if about_key else document.position(finding.path)
    severity = coloured(visible(finding.severity), "red" if finding.severity == Severity.ERROR else "yellow")
    hint = ""
    if finding.nearest and finding.nearest not in finding.message:
        hint = f', did you mean "{visible(finding.nearest)}"?'
    return f"{document.source}:{place.line}:{place.column}: {severity}: {visible(finding.message)}{hint}"


def show_findings(findings: Iterable[Finding], descriptor: Descriptor) -> int:
    """Writes findings to stderr, in the order of the file; gives the number of errors among them."""
    document = descriptor.document
    ordered = sorted(findings, key=lambda finding: document.position(finding.path))
    for finding in ordered:
        say(finding_line(finding, document))
    return sum(finding.severity == Severity.ERROR for finding in ordered)
