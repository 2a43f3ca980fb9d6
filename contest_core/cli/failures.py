"""How the program shows what went wrong, and the status with which it exits.

Called by the group around every command, and by `serve`. A `ContestError` exits as the table of errors says;
what nobody expected is shown with its traceback and exits with 3, so that it is never taken for a verdict.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from contest_core.cli.output import let_go, say, visible
from contest_core.document_tree import DocumentError
from contest_core.errors import ContestError
from contest_core.server import StartError

FAULT = 3
"""The exit status of a fault: not a wrong request, not a verdict."""

_WHERE = "`contest serve` starts a server; --address, or CONTEST_ADDRESS, says where one is"

INTERRUPTED = 130
"""The exit status after Ctrl-C: 128 and the number of SIGINT."""


class Failure(Exception):
    """What a command ends with where no other error fits: a message and an exit status."""

    def __init__(self, message: str, exit_code: int = FAULT) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def status_after(error: BaseException) -> int:
    """Shows what a command has raised; gives the exit status of the process."""
    if isinstance(error, click.Abort | KeyboardInterrupt):
        return INTERRUPTED
    if isinstance(error, BrokenPipeError):
        let_go(sys.stdout)
        return 0
    return show(error)


def show(error: BaseException) -> int:
    """Writes to stderr what a person needs to know of an error; gives the exit status."""
    lines = describe(error)
    if lines is None:
        import traceback

        lines = [
            "".join(traceback.format_exception(error)).rstrip(),
            f"contest: a fault of the program: {error!r}",
        ]
    for line in lines:
        say(line)
    return exit_code(error)


def exit_code(error: BaseException) -> int:
    """The exit status that an error stands for; never 1, click's own default, which is a verdict here."""
    code = getattr(error, "exit_code", FAULT)
    return code if isinstance(code, int) and code != 1 else FAULT


def describe(error: BaseException) -> Sequence[str] | None:
    """The lines that explain an expected error; None for one that nobody expected."""
    if isinstance(error, click.UsageError):
        return _usage(error)
    if isinstance(error, click.ClickException):
        return [_told(error.format_message())]
    if isinstance(error, DocumentError):
        return [f"{error.source}:{error.line}:{error.column}: error: {_in_lines(error.message)}"]
    if isinstance(error, StartError):
        expected = error.__cause__ is None or describe(error.__cause__) is not None
        return [_told(error)] if expected else None
    problems = getattr(error, "problems", None)
    if problems is not None:
        return [_in_lines(problem) for problem in problems]
    if isinstance(error, OSError) and not isinstance(error, ContestError):
        return [_told(describe_os_error(error))]
    if isinstance(error, ContestError) and error.code == "unreachable":
        return [_told(error), _WHERE]
    if isinstance(error, ContestError) or hasattr(error, "exit_code"):
        return [_told(error)]
    return None


def _told(what: object) -> str:
    return f"contest: {_in_lines(what)}"


def _in_lines(what: object) -> str:
    """Where it has several lines, those behind the first are indented: none can be taken for a message of ours."""
    return visible(str(what), lines=True).replace("\n", "\n    ")


def _usage(error: click.UsageError) -> Sequence[str]:
    message = error.format_message()
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        return [message]
    path = error.ctx.command_path if error.ctx is not None else "contest"
    return [f"contest: {message[:1].lower()}{message[1:].removesuffix('.')}", f"try '{path} --help'"]


def describe_os_error(error: OSError) -> str:
    """An error of the operating system in its words, with the file where it names one."""
    words = error.strerror or (os.strerror(error.errno) if error.errno else str(error))
    named = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
    return f"{named}{words}"
