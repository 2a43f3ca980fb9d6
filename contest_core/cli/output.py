"""What the program writes: results to stdout, everything else to stderr; tables, times, colours.

Used by every command, plugins' too. A reader of stdout that goes away is no error: what would have been written is
dropped, and a command exits as it would have.

Text that comes from jobs, targets and servers can do nothing to a terminal. `visible` makes it safe where a line is
put together: a name stays on its line, and has no colours of its own. What is written to a terminal goes through
`printable`, too, which lets nothing pass but text, line ends, tabs and the colours of `coloured`.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import IO, Any, TextIO

import click

from contest_core.status import ZERO_TIME, JobState, Verdict

_COLOURS = {
    Verdict.PASSED.value: "green",
    "completed": "green",
    Verdict.FAILED.value: "red",
    "cancellation failed": "red",
    Verdict.ERROR.value: "magenta",
    "warning": "yellow",
    Verdict.CANCELLED.value: "yellow",
    "cancelling": "yellow",
    "started": "cyan",
    "running": "cyan",
}
_HARMFUL = (
    *range(0x20),
    *range(0x7F, 0xA0),
    0x061C,  # from here on, what orders text in two directions: it can show a line as another one
    0x200E,
    0x200F,
    *range(0x202A, 0x202F),
    *range(0x2066, 0x206A),
    0x2028,  # ends of lines
    0x2029,
    0x200B,  # and what nobody sees, but for the joiners that scripts and emoji need
    *range(0x2060, 0x2065),
    *range(0x206A, 0x2070),
    0xFEFF,
    *range(0xFFF9, 0xFFFC),
    0xE0001,
)
_SHOWN = {code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" for code in _HARMFUL} | {
    ord("\n"): "\\n",
    ord("\r"): "\\r",
    ord("\t"): "\\t",
    0xE0001: "\\U000e0001",
}
_SHOWN_IN_LINES = {code: shown for code, shown in _SHOWN.items() if chr(code) not in "\n\t"}
_OUR_COLOURS = re.compile("\x1b\\[(?:0|3[1-6])m")
_END_OF_COLOUR = "\x1b[0m"


def out(text: str) -> bool:
    """Writes a line to stdout; false once nobody reads it any more."""
    return _write(lambda: _echo(text, sys.stdout))


def out_json(encoded: bytes) -> bool:
    """Writes an encoded JSON value and the end of its line to stdout, whatever stdout's encoding is."""
    return _write(lambda: click.echo(encoded))


def say(text: str) -> None:
    """Writes a line to stderr. Nobody is told where that cannot be done: there is no other place."""
    try:
        _echo(text, sys.stderr)
    except OSError:
        let_go(sys.stderr)


def let_go(stream: IO[Any] | None) -> None:
    """Sends what is still written to a stream nowhere, so that the end of the process does not fail over it."""
    if stream is None:
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, stream.fileno())
    finally:
        os.close(nowhere)


def _echo(text: str, stream: TextIO | None) -> None:
    if stream is None:
        return  # closed by whoever started the program
    shown = printable(text) if is_terminal(stream) else text
    if not shown.isascii():
        encoding = stream.encoding or "utf-8"
        shown = shown.encode(encoding, "backslashreplace").decode(encoding)
    click.echo(shown, file=stream, color=has_colour(stream))


def _write(write: Callable[[], None]) -> bool:
    try:
        write()
    except BrokenPipeError:
        let_go(sys.stdout)
        return False
    except OSError as error:
        from contest_core.cli.failures import Failure, describe_os_error

        let_go(sys.stdout)
        raise Failure(f"cannot write to stdout: {describe_os_error(error)}") from None
    return True


def is_terminal(stream: IO[Any] | None) -> bool:
    """Whether a person looks at it."""
    return stream is not None and stream.isatty()


def has_colour(stream: IO[Any] | None) -> bool:
    """Whether colours may be used there: a terminal that has some, and no `NO_COLOR` (https://no-color.org)."""
    wanted = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return wanted and is_terminal(stream)


def visible(text: str, *, lines: bool = False) -> str:
    """The text with everything written out that does something instead of being seen: `\\x1b`, `\\n`, `\\u202e`.

    It is one line then. With `lines`, line ends and tabs stay: for the ends of what a command wrote.
    """
    if text.isascii() and text.isprintable():
        return text
    return text.translate(_SHOWN_IN_LINES if lines else _SHOWN)


def printable(text: str) -> str:
    """Several lines, as `visible` makes them, with our own colours, which end with the text."""
    if "\x1b" not in text:
        return visible(text, lines=True)
    kept, place, colour = "", 0, _END_OF_COLOUR
    for found in _OUR_COLOURS.finditer(text):
        kept += visible(text[place : found.start()], lines=True) + found[0]
        place, colour = found.end(), found[0]
    kept += visible(text[place:], lines=True)
    return kept if colour == _END_OF_COLOUR else kept + _END_OF_COLOUR


def coloured(word: str, colour: str | None = None) -> str:
    """A state, verdict or severity in its colour; `out` and `say` take the colour away where none is wanted."""
    foreground = colour or _COLOURS.get(word)
    return click.style(word, fg=foreground) if foreground else word


def state_word(name: str) -> str:
    """A job state as people say it: `JobStateCancellationFailed` is `cancellation failed`."""
    state = JobState.from_wire(name)
    if state is JobState.UNKNOWN:
        return "not begun" if name in ("", JobState.UNKNOWN.wire_name) else visible(name)
    return state.name.lower().replace("_", " ")


def time_text(moment: datetime | None) -> str:
    """A time on this machine's clock, to the second; `-` where it has not come."""
    if moment is None or moment == ZERO_TIME:
        return "-"
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def span_text(seconds: float) -> str:
    """A length of time for a person: `0.25s`, `12.3s`, `4m05s`, `2h03m`, `3d04h`."""
    if seconds < 10:
        return f"{max(seconds, 0):.2f}s"
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days}d{hour:02}h"
    return f"{hours}h{minute:02}m" if hours else f"{minutes}m{second:02}s"


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, indent: str = "") -> list[str]:
    """The lines of a table with aligned columns; in a cell a line end becomes a space. No rows, no lines."""
    cells = [[printable(cell).replace("\n", " ").replace("\t", " ") for cell in row] for row in rows]
    if not cells:
        return []
    lines = [list(header), *cells]
    widths = [max(map(_width, column)) for column in zip(*lines, strict=True)]
    return [indent + "  ".join(map(_pad, line, widths)).rstrip() for line in lines]


def _pad(cell: str, width: int) -> str:
    return cell + " " * (width - _width(cell))


def _width(cell: str) -> int:
    plain = click.unstyle(cell)
    if plain.isascii():
        return len(plain)
    from unicodedata import combining, east_asian_width

    return sum((east_asian_width(each) in "WF") + 1 for each in plain if not combining(each))


def count(number: int, noun: str) -> str:
    """`1 job`, `2 jobs`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
