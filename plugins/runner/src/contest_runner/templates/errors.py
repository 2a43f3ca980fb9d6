"""What can go wrong with a template, and where in its text.

Raised by the lexer, the parser and the compiled closures of this package; the step layer catches it, puts its own
prefix before the text and decides whose fault it is. It knows nothing of steps, targets or jobs.
"""

from __future__ import annotations

from typing import Literal

from contest_runner.templates.quoting import quote

_LONGEST = 1000


def clip(text: str) -> str:
    """The text, cut where it is too long for an error that people read."""
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


class TemplateError(Exception):
    """A template that does not parse, or that could not be rendered for one target.

    `str()` is what Go's text/template says of the same mistake.
    """

    kind: Literal["parse", "exec"]
    """When it was found: `parse` by `compile`, `exec` by `Template.render`."""
    message: str
    """The reason alone, without the place."""
    line: int
    """From 1."""
    column: int
    """From 1, in characters."""

    def __init__(
        self, *, kind: Literal["parse", "exec"], message: str, line: int = 1, column: int = 1, text: str = ""
    ) -> None:
        super().__init__(text or message)
        self.kind = kind
        self.message = message
        self.line = line
        self.column = column


class Refused(Exception):
    """A function of the language that cannot do what it is asked; becomes `error calling NAME: REASON`."""


def _place(source: str, position: int) -> tuple[int, int, int]:
    start = source.rfind("\n", 0, position) + 1
    before = source[start:position].encode("utf-8", "surrogatepass")
    return source.count("\n", 0, position) + 1, position - start + 1, len(before)


def parse_error(source: str, position: int, message: str) -> TemplateError:
    """A parse error at a position of the source; Go names the line only."""
    line, column, _ = _place(source, position)
    message = clip(message)
    return TemplateError(
        kind="parse", message=message, line=line, column=column, text=f"template: :{line}: {message}"
    )


def exec_error(source: str, position: int, name: str, context: str, message: str) -> TemplateError:
    """An execution error in the definition `name`, at the node that prints as `context`."""
    line, column, offset = _place(source, position)
    message = clip(message)
    return TemplateError(
        kind="exec",
        message=message,
        line=line,
        column=column,
        text=f"template: :{line}:{offset}: executing {quote(name)} at <{clip(context)}>: {message}",
    )
