"""Reads a job descriptor: everything that is to be said of it, and the plan of the job where it is accepted.

The rules are ConTest's (field for field); beyond them it refuses what ConTest hangs on or merges: no targets, all
tests disabled, two tests of one name. Nothing is run.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from functools import lru_cache
from logging import Logger, LoggerAdapter
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw, Struct

from contest_core import Finding, Registry
from contest_runner.binding import BoundStep, BoundSteps, bind_step
from contest_runner.bounded import guarded
from contest_runner.catalog import Catalog
from contest_runner.descriptor_fields import JobFields, ReporterFields, StepFields, TestFields
from contest_runner.exact import Inexact, of_text
from contest_runner.faults import describe
from contest_runner.parts import FetchContext, FetchedTest, FetchFailed, decode_part, encode_part
from contest_runner.plan import Plan, ReporterPlan, StepPlan, TestPlan
from contest_runner.raw_json import RawTexts, in_order, well_formed
from contest_runner.step import OnInterrupt
from contest_runner.walk import BAD, ExactWalk, Walk, pointer

MAX_JOB_NAME_BYTES: Final = 64
MAX_TEST_NAME_BYTES: Final = 32
MAX_LABEL_BYTES: Final = 32
MAX_REPORTER_NAME_BYTES: Final = 32
TAG: Final = r"[a-zA-Z0-9_-]+"

_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]*", re.ASCII)
_ATOI = re.compile(r"[+-]?[0-9]{1,100}", re.ASCII)
_VERSION = (1, 0)
_LATER = ("Timeout", "CleanupTimeout", "MaxTargets", "Queue", "Priority")
"""Names of ours that mean something, and nothing yet: a job that has them is refused, never run without."""


class Reading(Struct, frozen=True, kw_only=True):
    """What came of reading a descriptor."""

    plan: Plan | None
    """None where it is refused."""
    findings: tuple[Finding, ...]
    text: str
    """The descriptor as it is kept: well-formed Unicode."""
    bound: BoundSteps = ()
    """The steps of the plan's tests, ready to run."""


async def read_descriptor(text: str, catalog: Catalog, *, log: LoggerAdapter[Logger]) -> Reading:
    """Reads a descriptor, one JSON object; fetchers are asked for the steps."""
    text = well_formed(text)
    fetched: _Fetched = {}
    if (exact := await _read_exactly(_Reader(ExactWalk(), catalog, log, text, fetched), text)) is not None:
        return exact
    walk = Walk()
    try:
        document = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        walk.error("not_json", "", f"the descriptor is no JSON object: {str(error) or 'nested too deep'}")
        return Reading(plan=None, findings=tuple(walk.findings), text=text)
    reading = await _Reader(walk, catalog, log, text, fetched).document(document)
    if walk.ambiguous:
        reading = await _Reader(Walk(), catalog, log, text, fetched).document(in_order(text))
    return reading


async def _read_exactly(reader: _Reader, text: str) -> Reading | None:
    """The reading where everything is spelt as the types have it and nothing is to be said: a fifth of the time."""
    try:
        return await reader.job(msgspec.json.decode(text, type=JobFields, dec_hook=of_text))
    except (Inexact, msgspec.MsgspecError, UnicodeError, RecursionError):
        return None


class _ReadTest(Struct, frozen=True):
    plan: TestPlan
    bound: tuple[BoundStep, ...]


_Fetched = dict[tuple[str, bytes], FetchedTest | str]
"""By name and parameters of a fetcher what came of asking it, or why nothing did: nobody is asked twice."""


class _Reader:
    def __init__(
        self, walk: Walk, catalog: Catalog, log: LoggerAdapter[Logger], text: str, fetched: _Fetched
    ) -> None:
        self._walk = walk
        self._text = text
        self._texts = RawTexts(text)
        self._catalog = catalog
        self._log = log
        self._outcomes = fetched

    async def document(self, document: Any) -> Reading:
        """Reads the parsed descriptor."""
        read = self._walk.read({} if document is None else document, JobFields, "")
        return self._reading(None) if read is BAD else await self.job(read)

    async def job(self, read: JobFields) -> Reading:
        """Checks what was read and makes the plan."""
        self._job_fields(read)
        self._later(read, "")
        tests = [await self._test(test, number) for number, test in enumerate(read.test_descriptors)]
        self._together(read, tests)
        run_reporters = self._reporters(read.reporting.run_reporters, "RunReporters")
        final_reporters = self._reporters(read.reporting.final_reporters, "FinalReporters")
        if self._walk.refused:
            return self._reading(None)
        enabled = [test for test, disabled in tests if test and not disabled]
        plan = Plan(
            name=read.job_name,
            tags=tuple(read.tags),
            runs=read.runs,
            run_interval=read.run_interval.nanoseconds,
            tests=tuple(test.plan for test in enabled),
            skipped_tests=tuple(test.plan.name for test, disabled in tests if test and disabled),
            run_reporters=run_reporters,
            final_reporters=final_reporters,
        )
        timeouts = {
            name: value.nanoseconds
            for name, value in (
                ("acquire_timeout", read.target_manager_acquire_timeout),
                ("release_timeout", read.target_manager_release_timeout),
            )
            if value is not None
        }
        if timeouts:
            plan = msgspec.structs.replace(plan, **timeouts)
        return self._reading(plan, tuple(test.bound for test in enabled))

    def _reading(self, plan: Plan | None, bound: BoundSteps = ()) -> Reading:
        return Reading(plan=plan, findings=tuple(self._walk.findings), text=self._text, bound=bound)

    # --- the job

    def _job_fields(self, read: JobFields) -> None:
        walk = self._walk
        if reason := _version_reason(read.version):
            walk.error("version", walk.place("", "Version"), reason)
        self._tags(read.tags)
        where = walk.place("", "JobName")
        if not read.job_name:
            walk.error("missing", where, "'JobName' is missing or empty")
        self._length(read.job_name, MAX_JOB_NAME_BYTES, "the job's name", where)
        if not 0 <= read.runs < 2**32:
            walk.error("out_of_range", walk.place("", "Runs"), f"must be from 0 to {2**32 - 1}")
        if read.run_interval.nanoseconds < 0:
            walk.error("out_of_range", walk.place("", "RunInterval"), "must not be negative")
        if not read.test_descriptors:
            walk.error("missing", walk.place("", "TestDescriptors"), "there has to be at least one test")
        if not read.reporting.run_reporters and not read.reporting.final_reporters:
            walk.error("missing", walk.place("", "Reporting"), "there has to be at least one reporter")

    def _tags(self, tags: list[str]) -> None:
        where = self._walk.place("", "Tags")
        seen: set[str] = set()
        for number, tag in enumerate(tags):
            place = f"{where}/{number}"
            if not re.fullmatch(TAG, tag):
                self._walk.error(
                    "bad_tag", place, f"{tag[:64]!r} is not a valid tag: letters, digits, _ and -"
                )
            elif tag.startswith("_"):
                self._walk.error("bad_tag", place, f"{tag!r} is an internal tag and is not allowed")
            elif tag in seen:
                self._walk.error("duplicate", place, f"duplicate tag {tag[:64]!r}")
            seen.add(tag)

    def _together(self, read: JobFields, tests: list[tuple[_ReadTest | None, bool]]) -> None:
        where = self._walk.place("", "TestDescriptors")
        if tests and all(disabled for _, disabled in tests):
            self._walk.error("nothing_to_run", where, "all tests are disabled")
        seen: set[str] = set()
        for number, (test, disabled) in enumerate(tests):
            if test is None or disabled:
                continue
            name = test.plan.name
            if name in seen:
                self._walk.error("duplicate", f"{where}/{number}", f"a second test is named {name!r}")
            seen.add(name)

    def _later(self, read: Struct, path: str) -> None:
        for name, key in _later_fields(type(read)):
            if getattr(read, name) is not UNSET:
                self._walk.error("unsupported", self._walk.place(path, key), f"{key!r} is not supported yet")

    def _length(self, text: str, limit: int, what: str, path: str) -> None:
        size = len(text.encode("utf-8", "surrogatepass"))
        if "\0" in text:
            self._walk.error("invalid", path, f"{what} has a NUL character, which no store keeps")
        if size > limit:
            self._walk.error("too_long", path, f"{what} is too long: {size} > {limit} bytes")

    # --- a test

    async def _test(self, test: TestFields, number: int) -> tuple[_ReadTest | None, bool]:
        path = f"{self._walk.place('', 'TestDescriptors')}/{number}"
        self._not_yet(test, path)
        self._later(test, path)
        name, steps = await self._fetched(test, path)
        acquire, release = self._target_manager(test, path)
        if name is None or steps is None or acquire is None or release is None:
            return None, test.disabled
        plan = TestPlan(
            name=name,
            target_manager=test.target_manager_name.lower(),
            acquire_parameters=acquire,
            release_parameters=release,
            steps=tuple(step.plan for step in steps),
        )
        return _ReadTest(plan, steps), test.disabled

    def _not_yet(self, test: TestFields, path: str) -> None:
        walk = self._walk
        if test.retry_parameters is not None and test.retry_parameters.num_retries != 0:
            place = walk.place(walk.place(path, "RetryParameters"), "NumRetries")
            if not 0 < test.retry_parameters.num_retries < 2**32:
                walk.error("out_of_range", place, f"must be from 0 to {2**32 - 1}")
            walk.error("unsupported", place, "retries of a test are not supported yet")
        if test.cleanup_fetcher_name:
            place = walk.place(path, "CleanupFetcherName")
            walk.error("unsupported", place, "cleanup steps are not supported yet")

    def _target_manager(self, test: TestFields, path: str) -> tuple[Raw | None, Raw | None]:
        where = self._walk.place(path, "TargetManagerName")
        name = self._known(
            self._catalog.target_managers, test.target_manager_name, "TargetManagerName", where
        )
        if name is None:
            return None, None
        manager = self._catalog.target_manager(name)
        return (
            self._parameters(
                test.target_manager_acquire_parameters,
                manager.AcquireParameters,
                path,
                "TargetManagerAcquireParameters",
            ),
            self._parameters(
                test.target_manager_release_parameters,
                manager.ReleaseParameters,
                path,
                "TargetManagerReleaseParameters",
            ),
        )

    def _parameters(self, value: Any, kind: type[Struct], path: str, key: str) -> Raw | None:
        """A plugin's parameter object, checked, in its canonical spelling."""
        if value is UNSET:
            self._walk.error("missing", path, f"{key!r} is missing")
            return None
        read = self._walk.read({} if value is None else value, kind, self._walk.place(path, key))
        return None if read is BAD else encode_part(read)

    def _known(self, registry: Registry, name: str, key: str, path: str) -> str | None:
        """The name in lower case, where it is registered."""
        if not name.strip():
            self._walk.error("missing", path, f"{key!r} is missing or empty")
            return None
        if name in registry:
            return name.lower() if self._loads(registry, name, path) else None
        near = get_close_matches(name.lower()[:64], registry.names(), n=1)
        known = "" if near else f"; there are: {', '.join(registry.names()) or 'none'}"
        code = f"unknown_{registry.kind.replace(' ', '_')}"
        self._walk.error(
            code, path, f"unknown {registry.kind} {name[:64]!r}{known}", nearest=near[0] if near else None
        )
        return None

    def _loads(self, registry: Registry, name: str, path: str) -> bool:
        try:
            registry.load(name)
        # The boundary to a plugin's import: its fault refuses this descriptor and no more.
        except Exception as error:
            message = f"{registry.kind} {name[:64]!r} cannot be loaded: {describe(error)}"
            self._walk.error("broken_plugin", path, message)
            self._log.exception("%s %s cannot be loaded", registry.kind, name)
            return False
        return True

    # --- its steps

    async def _fetched(self, test: TestFields, path: str) -> tuple[str | None, tuple[BoundStep, ...] | None]:
        where = self._walk.place(path, "TestFetcherName")
        name = self._known(self._catalog.fetchers, test.test_fetcher_name, "TestFetcherName", where)
        if name is None:
            return None, None
        key = "TestFetcherFetchParameters"
        raw = self._parameters(
            test.test_fetcher_fetch_parameters, self._catalog.fetcher(name).Parameters, path, key
        )
        if raw is None:
            return None, None
        where = self._walk.place(path, key)
        fetched = await self._fetch(name, raw, where)
        if fetched is None:
            return None, None
        place = self._walk.place(where, "TestName")
        if not fetched.name:
            self._walk.error("missing", place, "the test has no name")
        self._length(fetched.name, MAX_TEST_NAME_BYTES, "the test's name", place)
        return fetched.name, self._steps(fetched, where)

    async def _fetch(self, name: str, raw: Raw, path: str) -> FetchedTest | None:
        key = (name, bytes(raw))
        if key not in self._outcomes:
            self._outcomes[key] = await self._ask(name, raw)
        outcome = self._outcomes[key]
        if isinstance(outcome, str):
            self._walk.error("fetch_failed", path, outcome)
            return None
        return outcome

    async def _ask(self, name: str, raw: Raw) -> FetchedTest | str:
        try:
            fetcher = self._catalog.fetcher(name)()
            parameters = decode_part(raw, fetcher.Parameters)
            return await guarded(lambda: fetcher.fetch(parameters, FetchContext(log=self._log)))
        except FetchFailed as error:
            return str(error)
        # The boundary to a fetcher's code: its fault refuses this descriptor and no more.
        except Exception as error:
            self._log.exception("fetcher %s failed", name)
            return f"fetcher {name} failed: {describe(error)}"

    def _steps(self, fetched: FetchedTest, path: str) -> tuple[BoundStep, ...] | None:
        where = path
        for token in fetched.path.split("/")[1:]:
            where = self._walk.place(where, token)
        read = self._walk.read(fetched.steps, list[StepFields], where)
        if read is BAD:
            return None
        if not read:
            self._walk.error("missing", where, "at least one step is required per test")
        steps = [self._step(step, f"{where}/{number}", number) for number, step in enumerate(read)]
        seen: set[str] = set()
        for number, step in enumerate(read):
            if step.label and step.label in seen:
                place = self._walk.place(f"{where}/{number}", "label")
                self._walk.error("duplicate", place, f"a second step is labelled {step.label[:64]!r}")
            seen.add(step.label)
        return None if None in steps else tuple(step for step in steps if step)

    def _step(self, step: StepFields, path: str, position: int) -> BoundStep | None:
        self._later(step, path)
        self._label(step, path)
        place = self._walk.place(path, "OnInterrupt")
        if step.on_interrupt is not None and step.on_interrupt not in OnInterrupt.__members__.values():
            self._walk.error("invalid", place, f"must be one of {', '.join(OnInterrupt)}")
            return None
        name = self._known(self._catalog.steps, step.name, "name", self._walk.place(path, "name"))
        if name is None:
            return None
        parameters = self._as_written(step.parameters, self._walk.place(path, "parameters"))
        plan = StepPlan(name=name, label=step.label, parameters=parameters, on_interrupt=step.on_interrupt)
        code = self._catalog.step(name)
        place = self._walk.place(path, "parameters")
        found: list[Finding] = []
        try:
            bound = bind_step(plan, code, position, self._catalog.template, found, place)
        # The boundary to a step's own checks: their fault refuses this descriptor and no more.
        except Exception as error:
            self._walk.error("broken_plugin", path, f"step {name} cannot be checked: {describe(error)}")
            self._log.exception("step %s failed to check its parameters", name)
            bound = None
        for finding in found:
            self._walk.add(finding)
        return bound

    def _as_written(self, parameters: dict[str, list[Any]], path: str) -> dict[str, list[Any]]:
        """The parameters with objects, lists and fractions as the JSON text that stands in the descriptor.

        That text is what a step gets of them, and their template; encoding them anew would change it.
        """
        return {
            key: [
                self._texts.at(f"{path}/{pointer(key)}/{number}")
                if isinstance(value, dict | list | float)
                else value
                for number, value in enumerate(values)
            ]
            for key, values in parameters.items()
        }

    def _label(self, step: StepFields, path: str) -> None:
        place = self._walk.place(path, "label")
        if not step.label:
            self._walk.error("missing", place, "the step has no label, and it is mandatory")
            return
        self._length(step.label, MAX_LABEL_BYTES, "the step's label", place)
        if not _IDENTIFIER.fullmatch(step.label):
            message = f"{step.label[:64]!r} is no label: a letter, then letters, digits and underscores"
            self._walk.error("bad_label", place, message)

    # --- reporters

    def _reporters(self, reporters: list[ReporterFields], key: str) -> tuple[ReporterPlan, ...]:
        where = self._walk.place(self._walk.place("", "Reporting"), key)
        plans = [
            self._reporter(reporter, f"{where}/{number}", final=key == "FinalReporters")
            for number, reporter in enumerate(reporters)
        ]
        return tuple(plan for plan in plans if plan is not None)

    def _reporter(self, reporter: ReporterFields, path: str, *, final: bool) -> ReporterPlan | None:
        place = self._walk.place(path, "Name")
        self._length(reporter.name, MAX_REPORTER_NAME_BYTES, "the reporter's name", place)
        name = self._known(self._catalog.reporters, reporter.name, "Name", place)
        if name is None:
            return None
        code = self._catalog.reporter(name)
        kind = code.FinalParameters if final else code.RunParameters
        given = {} if reporter.parameters is UNSET else reporter.parameters
        raw = self._parameters(given, kind, path, "Parameters")
        return None if raw is None else ReporterPlan(name=name, parameters=raw)


@lru_cache(maxsize=8)
def _later_fields(kind: type[Struct]) -> tuple[tuple[str, str], ...]:
    fields = msgspec.structs.fields(kind)
    return tuple((field.name, field.encode_name) for field in fields if field.encode_name in _LATER)


def _version_reason(version: str) -> str | None:
    """Why the version is refused; ConTest's rule."""
    if not version:
        return "'Version' is missing or empty: write \"1.0\""
    parts = version.split(".")
    if len(parts) != 2 or not all(_ATOI.fullmatch(part) for part in parts):
        return f'{version[:64]!r} is not a version: write "1.0"'
    major, minor = map(int, parts)
    if major != _VERSION[0] or minor > _VERSION[1]:
        return f"version {version} is not compatible with this server, which reads 1.0"
    return None
