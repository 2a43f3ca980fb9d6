"""The progress of something that takes a while, on stderr: one live line on a terminal, else a line a change.

Used by `start --wait`, and by plugins' commands. It knows no jobs.
"""

from __future__ import annotations

import shutil
import sys

import click

from contest_core.cli.output import has_colour, is_terminal, printable, say

_TO_LINE_START = "\r\x1b[K"


class Progress:
    """Shows where something is. Close it before writing anything else."""

    def __init__(self) -> None:
        self._live = is_terminal(sys.stderr)
        self._shown = ""

    def show(self, live: str, *, line: str | None = None) -> None:
        """`live` replaces what a terminal shows; where there is none, `line` is written when it is another one."""
        if self._live:
            width = shutil.get_terminal_size().columns - 1
            if live != self._shown:
                self._put(_TO_LINE_START + _cut(printable(live), width))
                self._shown = live
        elif line is not None and line != self._shown:
            say(line)
            self._shown = line

    def tell(self, text: str) -> None:
        """A line that stays; the live line goes on below it."""
        shown, self._shown = self._shown, ""
        self._clear(shown)
        say(text)
        if self._live and shown:
            self.show(shown)

    def close(self) -> None:
        """Takes the live line away."""
        self._clear(self._shown)
        self._shown = ""

    def _clear(self, shown: str) -> None:
        if self._live and shown:
            self._put(_TO_LINE_START)

    def _put(self, text: str) -> None:
        try:
            click.echo(text, nl=False, err=True, color=True if has_colour(sys.stderr) else None)
        except OSError:
            self._live = False


def _cut(text: str, width: int) -> str:
    plain = click.unstyle(text)
    return text if len(plain) <= width else plain[: max(width - 1, 0)] + "…"
