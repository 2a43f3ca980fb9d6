"""`contest report`: the report of a job in a format that other tools read, made of what a server says of the job.

It asks with `status` and `list` and needs nothing else, so it works with any server, ConTest's own as well. Where a
status is larger than an answer may be it is asked for test by test, of a server that can cut it up.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import timedelta

import click
import msgspec
from click.core import ParameterSource

from contest_core.cli.asking import Asker, asks
from contest_core.cli.files import put
from contest_core.cli.group import OWN, output_option
from contest_core.cli.large_status import TOO_LARGE, outline
from contest_core.cli.output import is_terminal, out, out_json, say
from contest_core.errors import ContestError
from contest_core.reports import Format, render
from contest_core.reports.results import of_job, runs_of
from contest_core.status import ZERO_TIME, JobEntry, JobQuery, JobStatus, RunStatus, TestStatus


@click.command(short_help=OWN["report"].summary)
@click.argument("job", type=int)
@click.option(
    "-f",
    "--format",
    "kind",
    type=click.Choice([str(each) for each in Format]),
    default=str(Format.MARKDOWN),
    show_default=True,
    help="junit for a CI, tap for a TAP harness, markdown for people.",
)
@output_option("Write FILE, whole or not at all, and the folders it needs; else to stdout.")
@click.option("--run", type=int, metavar="N", help="Only this run.")
@asks
async def report(asker: Asker, job: int, kind: str, output: str | None, run: int | None) -> None:
    """Print the report of JOB, a number, in a format that other tools read.

    A test of a run is a test suite, each of its targets a test case: with the step in which it failed, the error and
    the end of what it wrote. A target that passed at a second attempt is marked flaky. Targets that a cancelled job did
    not come to are skipped; in a job that goes on, so are those that are not done yet.

    \b
      contest report 7                                  Markdown, to paste
      contest report 7 --format junit -o results.xml    for Jenkins, GitLab and so on
      contest report 7 --format tap -o results.tap      for `prove -e cat results.tap` and so on

    Exit status: 0 when there is a report, whatever the verdict; `start --wait` and `run` exit by that. With --json the
    status that it is made of is printed instead.
    """
    _check_usage(asker)
    if run is not None:
        await asker.need("status.run", "--run")
    status = await _status(asker, job, run)
    if asker.as_json:
        return
    results = of_job(job, status, await _entry(asker, job, status))
    pieces = render(results, Format(kind))
    if output is None or output == "-":
        text = "".join(pieces)
        # A terminal is spared what its text could do to it; a program gets UTF-8 whatever the locale.
        _ = out(text.rstrip("\n")) if is_terminal(sys.stdout) else out_json(_utf8(text))
        return
    say(f"{put(output, pieces)}: {results.title}")


def _check_usage(asker: Asker) -> None:
    ctx = click.get_current_context()
    given = [
        option
        for option, name in (("--format", "kind"), ("--output", "output"))
        if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE
    ]
    if asker.as_json and given:
        raise click.UsageError(f"--json prints the status as it is on the wire: it goes without {given[0]}")


def _utf8(text: str) -> bytes:
    return text.rstrip("\n").encode("utf-8", "replace")


async def _status(asker: Asker, job_id: int, run: int | None) -> JobStatus:
    # Reports show no events, and they can be most of an answer.
    events = asker.as_json or not await asker.contest.offers("status.events")
    try:
        data = await asker.result(asker.contest.status(job_id, run=run, events=events))
    except ContestError as error:
        if error.code not in TOO_LARGE or asker.as_json:
            raise
        return await _in_parts(asker, job_id, run, error)
    if data.status is None:
        raise ContestError(f"{asker.address} has answered without a status")
    return data.status


async def _in_parts(asker: Asker, job_id: int, run: int | None, too_large: ContestError) -> JobStatus:
    """A status put together of those of its tests. Raises the error where the server cannot cut it up."""
    if not (await asker.contest.offers("status.run") and await asker.contest.offers("status.test")):
        raise too_large
    whole = await outline(asker, job_id, run=run)
    if isinstance(whole, JobEntry):
        raise too_large
    runs: list[RunStatus] = []
    for each in runs_of(whole):
        tests: list[TestStatus] = []
        for test in each.test_statuses:
            asked = asker.contest.status(job_id, run=each.run_id, test=test.test_name, events=False)
            part = (await asked).result().status
            tests.extend(_tests_of(part))
        runs.append(msgspec.structs.replace(each, test_statuses=tests))
    return msgspec.structs.replace(whole, run_status=None, run_statuses=runs)


def _tests_of(part: JobStatus | None) -> Sequence[TestStatus]:
    return [test for run in runs_of(part) for test in run.test_statuses] if part is not None else []


async def _entry(asker: Asker, job_id: int, status: JobStatus) -> JobEntry | None:
    """What the list says of the job: it knows its requestor and its tags. None where it knows only its number."""
    for query in await _queries(asker, status):
        try:
            data = (await asker.contest.list(query)).result()
        except ContestError as error:
            if error.code in TOO_LARGE or error.code == "unsupported":
                continue
            raise
        for entry in data.jobs:
            if entry.job_id == job_id:
                return entry
    return None


async def _queries(asker: Asker, status: JobStatus) -> Sequence[JobQuery]:
    """How to find the job in a list that may be long: by when it began, else by its state."""
    queries = [JobQuery(states=(status.state,) if status.state else ())]
    if status.start_time != ZERO_TIME and await asker.contest.offers("list.since"):
        until = status.start_time + timedelta(milliseconds=1)
        queries.insert(0, JobQuery(since=status.start_time, until=until))
    return queries
