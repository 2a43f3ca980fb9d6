"""One descriptor, from its text to a `Reading`: exactly as the types have it, else by the walk.

Called by the job manager. Reading has two halves, which only calculate and may be done in a thread
(`contest_runner.aside`); between them the fetchers are asked in the loop.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from logging import Logger, LoggerAdapter
from typing import Any, Final, TypeAlias

import msgspec
from msgspec import Struct

from contest_core import Finding, Severity
from contest_runner.aside import Work
from contest_runner.binding import BoundSteps
from contest_runner.catalog import Catalog
from contest_runner.descriptor.desk import Desk
from contest_runner.descriptor.fetching import Fetched, fetch
from contest_runner.descriptor.job import JobReader
from contest_runner.descriptor_fields import MAX_BRACKETS, JobFields
from contest_runner.exact import Inexact, of_text
from contest_runner.plan import Plan
from contest_runner.raw_json import in_order, well_formed
from contest_runner.walk import BAD, Enough, ExactWalk, Walk
from contest_runner.words import in_words

_YAML: Final = re.compile(
    r"""\s*(?: %YAML | --- | \#.* | -\s | \{\s*[A-Za-z_]\w*\s*: | ["']?[A-Za-z_][\w ]*["']?\s*:(?:\s|$) )""",
    re.VERBOSE,
)
_LOOKED_AT: Final = 1000
"""Characters of a text that is no JSON in which it is seen whether it is YAML."""


# Threads read: see `contest_runner.ready`.
_JOB: Final = msgspec.json.Decoder(JobFields, dec_hook=of_text)


class Reading(Struct, frozen=True, kw_only=True):
    """What came of reading a descriptor."""

    plan: Plan | None
    """None where it is refused."""
    findings: tuple[Finding, ...]
    text: str
    """The descriptor as it is kept: well-formed Unicode."""
    bound: BoundSteps = ()
    """The steps of the plan's tests, ready to run."""


async def read_descriptor(
    text: str, catalog: Catalog, *, log: LoggerAdapter[Logger], work: Work | None = None
) -> Reading:
    """Reads a descriptor, one JSON object; fetchers are asked for the steps.

    With `work` of `contest_runner.aside` what takes long is done where that says.
    """
    work = work or Work()
    text = await work.do(well_formed, text)
    if (brackets := text.count("[") + text.count("{")) > MAX_BRACKETS:
        return _too_many(brackets, text)
    attempts = _Attempts(text, catalog, log, work)
    if (exact := await attempts.exactly()) is not None:
        return exact
    return await attempts.walking()


def _too_many(brackets: int, text: str) -> Reading:
    message = f"has {brackets:,} brackets, [ and {{, the limit is {MAX_BRACKETS:,}"
    finding = Finding(severity=Severity.ERROR, code="too_many", path="", message=message)
    return Reading(plan=None, findings=(finding,), text=text)


_Parse: TypeAlias = Callable[[Desk], Any]
"""Gives the fields of the job, or `BAD`."""


class _Attempts:
    """The ways to read one descriptor, which ask the fetchers once."""

    def __init__(self, text: str, catalog: Catalog, log: LoggerAdapter[Logger], work: Work) -> None:
        self._text = text
        self._catalog = catalog
        self._log = log
        self._work = work
        self._fetched: Fetched = {}

    async def exactly(self) -> Reading | None:
        """The reading where all is spelt as the types have it and nothing is to be said: a fifth of the time."""
        try:
            return await self._read(ExactWalk(self._work), _exact)
        except (Inexact, msgspec.MsgspecError, UnicodeError, RecursionError):
            return None

    async def walking(self) -> Reading:
        """The reading with all that is to be said."""
        walk = Walk(self._work)
        reading = await self._read(walk, _walked)
        return await self._read(Walk(self._work), _walked_in_order) if walk.ambiguous else reading

    async def _read(self, walk: Walk, parse: _Parse) -> Reading:
        desk = Desk(walk, self._catalog, self._log, self._text, self._work)
        plan: Plan | None = None
        bound: BoundSteps = ()
        try:
            job = await self._work.do(_begun, desk, parse)
            if job is not None:
                await fetch(job.requests(), self._fetched, self._catalog, self._log)
                plan, bound = await self._work.do(job.finish, self._fetched)
        except Enough:
            plan = None
        return Reading(plan=plan, findings=tuple(walk.findings), text=self._text, bound=bound)


def _begun(desk: Desk, parse: _Parse) -> JobReader | None:
    read = parse(desk)
    return None if read is BAD else JobReader(desk, read)


def _exact(desk: Desk) -> Any:
    return _JOB.decode(desk.text)


def _walked(desk: Desk) -> Any:
    try:
        document = msgspec.json.decode(desk.text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        desk.walk.error("not_json", "", f"the descriptor is no JSON object: {_why_no_json(desk.text, error)}")
        return BAD
    return desk.walk.read({} if document is None else document, JobFields, "")


def _walked_in_order(desk: Desk) -> Any:
    return desk.walk.read(in_order(desk.text), JobFields, "")


def _why_no_json(text: str, error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deep"
    if not text.strip():
        return "it is empty"
    if _YAML.match(text[:_LOOKED_AT]):
        return (
            "it looks like YAML, and a server takes JSON only; the program converts it: `contest start FILE`"
        )
    return in_words(error).removeprefix("it is no JSON: ")
