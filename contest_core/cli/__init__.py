"""The program `contest`: what talks to a server, and `serve`.

`main` is the console script. This package knows the core only; `run` and `bench` come from a plugin like any
other command. Nothing here imports a command before it is invoked: `contest --help` is click, the core and
the plugins' `plugin.py`.
"""

from __future__ import annotations

import os
import sys

import click

from contest_core.cli.group import Program
from contest_core.core_version import CORE_VERSION
from contest_core.standard_streams import end_process_with_program

__all__ = ["main", "program"]


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(CORE_VERSION, prog_name="contest", message="%(prog)s %(version)s")
def program() -> None:
    """A test-job server: it takes the targets that a job names through the steps of its tests.

    \b
      contest run job.yaml             run a job here and now; exits by its verdict
      contest serve                    serve jobs on http://localhost:8080
      contest start job.yaml --wait    hand a job to that server and wait for its verdict
      contest status 1                 ask how a job goes

    A job is a file in JSON or YAML. `contest COMMAND --help` says more about a command.
    """


def main() -> None:
    """The console script: runs the program with the arguments of the process and exits."""
    _fill_standard_descriptors()
    end_process_with_program()
    try:
        program.main(prog_name="contest")
    except SystemExit as end:
        # Where no event loop was needed (help, a wrong option) nothing is open: taking the interpreter's modules
        # apart would be a sixth of the time that `contest --help` takes.
        if "asyncio" not in sys.modules and isinstance(end.code, int):
            if sys.stderr is not None:
                sys.stderr.flush()
            os._exit(end.code)
        raise


def _fill_standard_descriptors() -> None:
    """Opens the null device where whoever started the program has closed stdin, stdout or stderr.

    Else the next file that is opened takes that number: an event loop's own (uvloop aborts over it), or a store that
    somebody then prints into.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
