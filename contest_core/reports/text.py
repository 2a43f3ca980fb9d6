"""Text that comes from jobs and devices, made fit for a report."""

from __future__ import annotations

import re
from typing import Final

_JOINERS: Final = "\u200c\u200d"
"""Not printable by themselves, and needed by scripts and emoji."""

_NO_XML: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What no XML 1.0 document may have, written out or not (https://www.w3.org/TR/xml/#charsets)."""


def xml_text(text: str) -> str:
    """The text with a replacement character for everything that XML forbids."""
    return _NO_XML.sub("\N{REPLACEMENT CHARACTER}", text)


def one_line(text: str) -> str:
    """The text on one line, with a replacement character for everything that does something instead of being seen."""
    line = " ".join(text.split())
    if line.isprintable():
        return line
    return "".join(
        each if each.isprintable() or each in _JOINERS else "\N{REPLACEMENT CHARACTER}" for each in line
    )


def lines_of(text: str) -> list[str]:
    """The lines of what a command wrote, each as it can be shown; its spaces are kept."""
    return [
        "".join(
            each
            if each.isprintable() or each in _JOINERS
            else " " * 4
            if each == "\t"
            else "\N{REPLACEMENT CHARACTER}"
            for each in line
        )
        for line in text.rstrip("\r\n").splitlines()
    ]


def first_line(text: str) -> str:
    """The first line that says something, on one line."""
    return one_line(next((line for line in text.splitlines() if line.strip()), ""))
