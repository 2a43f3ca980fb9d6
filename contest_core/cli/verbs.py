"""The commands that ask a server, one a verb.

They know the verbs by the typed client; `start --wait` asks again and again (`waiting`). What to show of a status is
in `status_text`. A test holds this file to the table of verbs.
"""

from __future__ import annotations

import sys
from asyncio import CancelledError
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from contest_core.cli.asking import Asker, asks, asks_here
from contest_core.cli.descriptor import Descriptor, read_descriptor, show_findings
from contest_core.cli.failures import FAULT, Failure
from contest_core.cli.group import OWN, nearest
from contest_core.cli.large_status import TOO_LARGE, outline, outline_lines
from contest_core.cli.output import (
    coloured,
    count,
    is_terminal,
    out,
    out_json,
    say,
    state_word,
    table,
    time_text,
    visible,
)
from contest_core.cli.plan_text import plan_lines
from contest_core.cli.status_text import status_lines
from contest_core.cli.waiting import wait_for_end
from contest_core.cli.watch_text import event_line
from contest_core.errors import ContestError
from contest_core.job_event import Cursor
from contest_core.responses import ResponseDataList, ResponseDataStart, encode
from contest_core.status import JobEntry, JobQuery, JobState
from contest_core.verbs import VERBS

if TYPE_CHECKING:
    from datetime import datetime

REQUEST_WRONG = 2
"""The exit status where a descriptor is refused."""

BY_VERDICT = "Exit status with --wait: 0 passed, 1 failed, 2 request or file wrong, 3 error, 4 cancelled."

_job = click.argument("job", type=int)
_file = click.argument("file", type=click.Path(), default="-")
_wait = click.option("-w", "--wait", is_flag=True, help="Wait for the end and exit by the verdict.")


def _states(ctx: click.Context, param: click.Parameter, given: Sequence[str]) -> tuple[JobState, ...]:
    """States by their wire names or in short (`completed`), several in one value with commas between."""
    return tuple(_state(name) for each in given for name in each.split(","))


def _time(ctx: click.Context, param: click.Parameter, given: str | None) -> datetime | None:
    """A time, a day, or how long ago. What has no zone is meant here."""
    from datetime import datetime, timedelta

    from contest_core.settings import Duration

    if given is None:
        return None
    try:
        return datetime.fromisoformat(given).astimezone()
    except (ValueError, OverflowError):
        pass
    try:
        return datetime.now().astimezone() - timedelta(seconds=Duration(given).seconds)
    except (ValueError, OverflowError):
        hint = "write one like 2026-11-25T10:00:00Z, 2026-11-25, or how long ago, 36h"
        raise click.BadParameter(f"{given!r} is no time; {hint}") from None


def _state(name: str) -> JobState:
    folded = name.strip().lower().removeprefix("jobstate").replace("_", "").replace("-", "")
    known = {short.replace("-", ""): short for short in _short_states()}
    if folded in known:
        return _short_states()[known[folded]]
    near = nearest(folded, list(known))
    hint = f", did you mean {known[near]!r}?" if near else f"; there are {', '.join(_short_states())}"
    raise click.BadParameter(f"no such state {name!r}{hint}")


def _complete_state(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    before, comma, last = incomplete.rpartition(",")
    short = [name for name in _short_states() if name.startswith(last.lower())]
    return [CompletionItem(f"{before}{comma}{name}") for name in short]


def _short_states() -> dict[str, JobState]:
    return {state.name.lower().replace("_", "-"): state for state in JobState if state}


@click.command(short_help=OWN["start"].summary, epilog=BY_VERDICT)
@_file
@_wait
@click.option("--start-key", metavar="KEY", help="Asking again with this key gives the same job.")
@click.option("--strict", is_flag=True, help="Refuse the job where the server would only warn.")
@asks
async def start(asker: Asker, file: str, wait: bool, start_key: str | None, strict: bool) -> int | None:
    """Start a job on a server.

    FILE is a job descriptor in JSON or YAML; `-`, or none, is stdin. The number of the job is printed.

    Where the server offers start keys the request carries one, so that it can be sent again when its answer was lost.
    """
    descriptor = read_descriptor(file)
    if strict:
        await asker.need("start.strict", "--strict")
    if start_key == "":
        raise click.UsageError("--start-key is empty, which is no key: was a variable of your shell not set?")
    if start_key is not None:
        await asker.need("start.start_key", "--start-key")
    data = await _started(asker, descriptor, start_key, strict)
    return await _follow(asker, data.job_id, wait=wait)


async def _started(
    asker: Asker, descriptor: Descriptor, start_key: str | None, strict: bool
) -> ResponseDataStart:
    asked = asker.contest.start(descriptor.json, start_key=start_key, strict=strict)
    try:
        response = await asker.answer(asked)
    except CancelledError:
        say(
            "contest: interrupted before the answer came: the job may have been started, `contest list` shows it"
        )
        raise
    errors = show_findings([*response.data.warnings, *response.data.findings], descriptor)
    if response.error is not None and errors:
        # The server's message repeats the first finding.
        source = descriptor.document.source
        raise Failure(f"{source}: the job is refused: {count(errors, 'error')}", response.error.exit_code)
    return response.result()


async def _follow(asker: Asker, job_id: int, *, wait: bool) -> int | None:
    """After a start: waits for the end, or says which job it is: the bare number where a program reads it."""
    if wait:
        return await wait_for_end(asker, job_id)
    if not asker.as_json:
        hint = f"job {job_id} started; `contest status {job_id}` shows how it goes"
        out(hint if is_terminal(sys.stdout) else str(job_id))
    return None


@click.command(short_help=OWN["validate"].summary)
@_file
@click.option("--plan", is_flag=True, help="Show what would be done, and what each target would be given.")
@click.option(
    "--strict/--no-strict",
    default=True,
    help="Whether a warning is an error, too; it is, unless you say --no-strict, as `start` does.",
)
@asks_here
async def validate(asker: Asker, file: str, plan: bool, strict: bool) -> int | None:
    """Check a job and run nothing.

    Everything that is to be said of FILE (`-`, or none, is stdin) is shown at its line and column. Without an address
    it is checked here, with the plugins that are installed; a server checks with its own.

    Exit status: 0 nothing is wrong, 2 something is, or warned of, 3 the server cannot be asked.
    """
    descriptor = read_descriptor(file)
    if plan:
        await asker.need("validate.plan", "--plan")
    data = await asker.result(asker.contest.validate(descriptor.json, plan=plan))
    findings = data.findings or []
    errors = show_findings(findings, descriptor)
    if data.plan is not None and not asker.as_json:
        for line in plan_lines(data.plan):
            if not out(line):
                break
    if errors or (strict and findings):
        raise Failure(f"{descriptor.document.source}: {count(len(findings), 'finding')}", REQUEST_WRONG)
    if not asker.as_json and not plan:
        out(f"{descriptor.document.source}: OK")
    return None


@click.command(short_help=OWN["stop"].summary)
@_job
@asks
async def stop(asker: Asker, job: int) -> None:
    """Stop JOB, a number.

    Answered when the stop is accepted: its status is `cancelling` until its steps have returned and their processes
    are gone.
    """
    await asker.result(asker.contest.stop(job))
    if not asker.as_json:
        out(f"job {job} is being stopped; `contest status {job}` shows when it is cancelled")


@click.command(short_help=OWN["status"].summary)
@_job
@click.option("--run", type=int, metavar="N", help="Only this run.")
@click.option("--test", metavar="NAME", help="Only this test.")
@click.option("--target", metavar="ID", help="Only this target.")
@click.option("--no-events", is_flag=True, help="Without what steps emitted (with --json).")
@asks
async def status(
    asker: Asker, job: int, run: int | None, test: str | None, target: str | None, no_events: bool
) -> None:
    """Show how JOB, a number, goes or went."""
    for name, given in {"run": run, "test": test, "target": target}.items():
        if given is not None:
            await asker.need(f"status.{name}", f"--{name}")
    if no_events:
        await asker.need("status.events", "--no-events")
    # People are not shown events, and they can be most of an answer.
    without = no_events or (not asker.as_json and await asker.contest.offers("status.events"))
    asked = asker.contest.status(job, run=run, test=test, target=target, events=not without)
    try:
        data = await asker.result(asked)
    except ContestError as error:
        if error.code not in TOO_LARGE or asker.as_json or target is not None:
            raise
        async for line in outline_lines(asker, job, await outline(asker, job, run=run)):
            out(line)
        return
    if data.status is None:
        raise ContestError(f"{asker.address} has answered without a status")
    if not asker.as_json:
        for line in status_lines(job, data.status):
            if not out(line):
                break


@click.command(short_help=OWN["retry"].summary, epilog=BY_VERDICT)
@_job
@_wait
@click.option("--failed-only", is_flag=True, help="Only the targets that did not pass, and tests with such.")
@asks
async def retry(asker: Asker, job: int, wait: bool, failed_only: bool) -> int | None:
    """Run JOB, which has ended, again as a new job. The number of the new job is printed."""
    if failed_only:
        await asker.need("retry.failed_only", "--failed-only")
    data = await asker.result(asker.contest.retry(job, failed_only=failed_only))
    return await _follow(asker, data.new_job_id, wait=wait)


@click.command("list", short_help=OWN["list"].summary)
@click.option(
    "--state",
    "--states",
    "states",
    multiple=True,
    callback=_states,
    shell_complete=_complete_state,
    metavar="STATE",
    help="In any of these states: started, completed, failed, cancelled and so on.",
)
@click.option("--tag", "--tags", "tags", multiple=True, metavar="TAG", help="With all of these tags.")
@click.option(
    "--by", "requestors", multiple=True, metavar="REQUESTOR", help="Of any of these, who had them started."
)
@click.option("--name", metavar="NAME", help="Of this name; * and ? are wildcards.")
@click.option("--since", callback=_time, metavar="TIME", help="Begun then or later.")
@click.option("--until", callback=_time, metavar="TIME", help="Begun before.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="At most N, the newest.")
@click.option("--cursor", metavar="CURSOR", help="Behind those of an earlier page: the older ones.")
@asks
async def list_(
    asker: Asker, states: Sequence[JobState], tags: Sequence[str], requestors: Sequence[str], **more: Any
) -> None:
    """List jobs, the newest first.

    --state, --tag and --by may be given several times, or with commas between. A TIME is one like
    2026-11-25T10:00:00Z, a day like 2026-11-25, or how long ago: 90m, 36h.
    """
    query = JobQuery(states=tuple(states), tags=_split(tags), requestors=_split(requestors), **more)
    for each in VERBS["list"].parameters:
        # ConTest's own servers would ignore it.
        if each.capability is not None and getattr(query, each.argument):
            await asker.need(each.capability, "--by" if each.name == "requestors" else f"--{each.name}")
    data = await asker.result(asker.contest.list(query))
    if not asker.as_json:
        _show_jobs(data)
        if data.cursor is not None:
            say(f"there are older ones: --cursor {data.cursor}")


def _split(given: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for names in given for name in names.split(",") if name)


def _show_jobs(data: ResponseDataList) -> None:
    if data.jobs:
        header = ("JOB", "NAME", "STATE", "VERDICT", "REQUESTOR", "STARTED", "ENDED")
        newest_first = sorted(data.jobs, key=lambda entry: entry.job_id, reverse=True)
        out("\n".join(table(header, map(_job_row, newest_first))))
    elif data.job_ids:
        # A server of ConTest's own, which lists numbers only.
        out("\n".join(table(("JOB",), ([str(job_id)] for job_id in sorted(data.job_ids, reverse=True)))))
    else:
        say("no jobs")


def _job_row(entry: JobEntry) -> Sequence[str]:
    verdict = coloured(visible(entry.verdict)) if entry.verdict else "-"
    return (
        str(entry.job_id),
        visible(entry.name),
        coloured(state_word(entry.state_name)),
        f"{verdict} (flaky)" if entry.flaky else verdict,
        visible(entry.principal or entry.requestor),
        time_text(entry.start_time),
        time_text(entry.end_time),
    )


@click.command(short_help=OWN["watch"].summary)
@click.argument("job", type=int, required=False)
@click.option("--since", metavar="CURSOR", help="Go on behind this cursor, of an event that was seen.")
@asks
async def watch(asker: Asker, job: int | None, since: str | None) -> None:
    """Show what happens in JOB, a number, to its end; or in all jobs from now on.

    With --json it is an object a line, `{"Event": ...}` or `{"Gap": ...}`, with the cursor from which --since goes on.
    A server that goes away is waited for, and what happened meanwhile is shown when it is back.
    """
    await asker.need("watch", "watch")
    asker.wait_for_server()
    try:
        async with asker.contest.watch(job_id=job, since=None if since is None else Cursor(since)) as events:
            async for item in events:
                since = item.cursor or since
                if asker.as_json:
                    read = out_json(encode(item))
                else:
                    read = out(event_line(item))
                if not read:
                    break
    except ContestError as error:
        if error.exit_code == FAULT and since is not None:
            of = "" if job is None else f" {job}"
            say(f"contest: `contest watch{of} --since {visible(since)}` goes on from there")
        raise


@click.command(short_help=OWN["locks"].summary)
@asks
async def locks(asker: Asker) -> None:
    """List locked targets: by which job, since when, until when."""
    data = await asker.result(asker.contest.locks())
    if asker.as_json:
        return
    header = ("TARGET", "JOB", "SINCE", "UNTIL")
    rows = [
        (visible(lock.target), str(lock.job_id), time_text(lock.since), time_text(lock.until))
        for lock in data.locks or []
    ]
    if rows:
        out("\n".join(table(header, rows)))
    else:
        say("no target is locked")


@click.command(short_help=OWN["version"].summary)
@asks
async def version(asker: Asker) -> None:
    """Show what a server speaks and offers. `contest --version` is the version of this program."""
    response = await asker.answer(asker.contest.version())
    data = response.result()
    if not asker.as_json:
        out(f"server {visible(response.server_id)} at {asker.address}\nAPI version {data.version}")
        if data.capabilities:
            out(f"offers {', '.join(map(visible, data.capabilities))}")
