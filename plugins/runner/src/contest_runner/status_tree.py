"""The status of a run while it goes: the wire's own structs, thawed, so that answering is only encoding.

The runner changes the tree as things happen and encodes it when somebody asks. When a run has ended the tree is
packed into a compact form for the store, and unpacked when somebody asks for it later.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from contest_core import (
    ZERO_TIME,
    EventData,
    Header,
    JobEvent,
    Output,
    RunStatus,
    TargetInfo,
    TargetStatus,
    TestStatus,
    TestStepStatus,
)

_PACKED_FORMAT = 1
_PLAIN, _COMPRESSED = b"p", b"z"
_SMALL = 4096
"""Bytes up to which compressing costs more than it saves."""


class LiveTarget(TargetStatus, frozen=False, kw_only=True, gc=False):  # type: ignore[misc]  # msgspec can thaw what mypy cannot
    """One target in one step, as it goes. Nothing in it leads back to it, so the collector need not look."""

    # Declared again, so that a type checker knows them as thawed.
    out_time: datetime
    error: str
    events: list[JobEvent] | None
    blame: str | None = None
    output: Output | None = None


class LiveStep(TestStepStatus, frozen=False, kw_only=True):  # type: ignore[misc]  # msgspec can thaw what mypy cannot
    """One step of a test, as it goes."""

    __test__ = False

    events: list[JobEvent] | None
    target_statuses: list[TargetStatus] | None


class LiveTest(TestStatus, frozen=False, kw_only=True):  # type: ignore[misc]  # msgspec can thaw what mypy cannot
    """One test, as it goes."""

    __test__ = False

    target_statuses: list[TargetStatus] | None


class LiveRun(RunStatus, frozen=False, kw_only=True):  # type: ignore[misc]  # msgspec can thaw what mypy cannot
    """One run, as it goes."""


class StepName(Struct, frozen=True):
    """How a step is shown."""

    label: str
    display: str


class TestTree:
    """The latest attempt of one test in one run."""

    __test__ = False

    def __init__(self, job_id: int, run_id: int, name: str, steps: Sequence[StepName]) -> None:
        self.name = name
        self.steps = [
            LiveStep(
                job_id=job_id,
                run_id=run_id,
                test_name=name,
                test_step_name=step.display,
                test_step_label=step.label,
                events=None,
                target_statuses=None,
            )
            for step in steps
        ]
        self.status = LiveTest(
            job_id=job_id,
            run_id=run_id,
            test_name=name,
            test_step_statuses=list(self.steps),
            target_statuses=None,
        )
        self.targets: Sequence[TargetInfo] = ()
        """Those that the attempt works on."""
        self.last: list[TargetStatus] = []
        """By target, its status in the last step that it entered."""

    def acquired(self, targets: Sequence[TargetInfo]) -> None:
        """The attempt works on these targets."""
        self.targets = targets
        self.last = [self._nowhere(info, ZERO_TIME) for info in targets]
        self.status.target_statuses = self.last

    def acquire_failed(self, event: JobEvent, error: str) -> None:
        """The targets could not be had: ConTest's entry without a target."""
        entry = self._nowhere(None, event.emit_time)
        entry.out_time = event.emit_time
        entry.error = error
        entry.events = [event]
        self.last = [*self.last, entry]
        self.status.target_statuses = self.last

    def enter(self, step: int, target: int, info: TargetInfo, time: datetime) -> LiveTarget:
        """A target enters a step."""
        place = self.steps[step]
        status = LiveTarget(
            job_id=place.job_id,
            run_id=place.run_id,
            test_name=self.name,
            test_step_name=place.test_step_name,
            test_step_label=place.test_step_label,
            target=info,
            in_time=time,
            out_time=ZERO_TIME,
            error="",
            events=None,
        )
        if place.target_statuses is None:
            place.target_statuses = [status]
        else:
            place.target_statuses.append(status)
        self.last[target] = status
        return status

    def _nowhere(self, info: TargetInfo | None, time: datetime) -> LiveTarget:
        return LiveTarget(
            job_id=self.status.job_id,
            run_id=self.status.run_id,
            test_name=self.name,
            test_step_name="",
            test_step_label="",
            target=info,
            in_time=time,
            out_time=ZERO_TIME,
            error="",
            events=None,
        )


class RunTree:
    """The status of one run."""

    def __init__(
        self, job_id: int, run_id: int, tests: Sequence[TestTree], skipped: Sequence[str], start: datetime
    ):
        self.tests = list(tests)
        self.status = LiveRun(
            job_id=job_id,
            run_id=run_id,
            start_time=start,
            test_statuses=[test.status for test in tests],
            skipped_tests=list(skipped),
        )


# --- the compact form


class _PackedTarget(Struct, array_like=True, frozen=True):
    """A target that has more to tell than its times."""

    target: int
    in_time: datetime
    out_time: datetime
    error: str = ""
    blame: str | None = None
    output: Output | None = None
    events: list[tuple[int, datetime, int, str, Any]] = []
    """Sequence, time, attempt, name, payload."""


class _PackedStep(Struct, array_like=True, frozen=True):
    label: str
    display: str
    events: list[tuple[int, datetime, int, str, Any]]
    targets: list[int]
    """The columns of the targets in this step, in the order in which they entered: their numbers,"""
    in_times: list[datetime]
    """when they entered,"""
    out_times: list[datetime]
    """and when they left."""
    more: dict[int, _PackedTarget]
    """By place in the columns, those that have more to tell."""


class _PackedTest(Struct, array_like=True, frozen=True):
    name: str
    steps: list[_PackedStep]
    targets: list[bytes]
    """The targets as JSON: what a target manager keeps is JSON already."""
    nowhere: list[_PackedTarget]
    """Of targets that entered no step, and of an acquisition that failed."""


class _PackedRun(Struct, array_like=True, frozen=True):
    format: int
    start_time: datetime
    skipped: list[str]
    tests: list[_PackedTest]


# Threads unpack: see `contest_runner.ready`.
_RUN: Final = msgspec.msgpack.Decoder(_PackedRun)
_INFO: Final[msgspec.json.Decoder[TargetInfo | None]] = msgspec.json.Decoder(TargetInfo | None)


def pack(tree: RunTree) -> bytes:
    """The run in the store's form. May be called in another thread once the run has ended."""
    packed = _PackedRun(
        _PACKED_FORMAT,
        tree.status.start_time,
        tree.status.skipped_tests,
        [_pack_test(test) for test in tree.tests],
    )
    plain = msgspec.msgpack.encode(packed)
    return _PLAIN + plain if len(plain) < _SMALL else _COMPRESSED + zlib.compress(plain, 1)


def unpack(job_id: int, run_id: int, data: bytes) -> RunTree:
    """The run from the store's form. Raises `ValueError` for a form that this program does not know."""
    plain = zlib.decompress(data[1:]) if data[:1] == _COMPRESSED else data[1:]
    packed = _RUN.decode(plain)
    if packed.format != _PACKED_FORMAT:
        raise ValueError(f"the status of job {job_id}, run {run_id} has the unknown form {packed.format}")
    tests = [_unpack_test(job_id, run_id, test) for test in packed.tests]
    return RunTree(job_id, run_id, tests, packed.skipped, packed.start_time)


def _pack_test(test: TestTree) -> _PackedTest:
    index = {status.target.id: number for number, status in enumerate(test.last) if status.target is not None}
    return _PackedTest(
        test.name,
        [_pack_step(step, index) for step in test.steps],
        [msgspec.json.encode(status.target) for status in test.last],
        [
            _pack_target(number, status)
            for number, status in enumerate(test.last)
            if not status.test_step_label
        ],
    )


def _pack_step(step: LiveStep, index: Mapping[str, int]) -> _PackedStep:
    statuses = step.target_statuses or []
    return _PackedStep(
        step.test_step_label,
        step.test_step_name,
        _pack_events(step.events),
        [index[status.target.id] for status in statuses if status.target is not None],
        [status.in_time for status in statuses],
        [status.out_time for status in statuses],
        {
            place: _pack_target(place, status)
            for place, status in enumerate(statuses)
            if status.error or status.events
        },
    )


def _pack_target(number: int, status: TargetStatus) -> _PackedTarget:
    events = _pack_events(status.events)
    return _PackedTarget(
        number, status.in_time, status.out_time, status.error, status.blame, status.output, events
    )


def _pack_events(events: Sequence[JobEvent] | None) -> list[tuple[int, datetime, int, str, Any]]:
    return [
        (
            event.sequence_id,
            event.emit_time,
            event.header.test_attempt or 0,
            event.data.event_name,
            bytes(event.data.payload) if isinstance(event.data.payload, Raw) else None,
        )
        for event in events or ()
    ]


def _unpack_test(job_id: int, run_id: int, packed: _PackedTest) -> TestTree:
    names = [StepName(step.label, step.display) for step in packed.steps]
    test = TestTree(job_id, run_id, packed.name, names)
    infos = [_INFO.decode(info) for info in packed.targets]
    test.last = [test._nowhere(info, ZERO_TIME) for info in infos]
    if test.last:
        test.status.target_statuses = test.last
    for entry in packed.nowhere:
        status = test._nowhere(infos[entry.target], entry.in_time)
        _fill(test, status, entry, "")
        test.last[entry.target] = status
    for number, step in enumerate(packed.steps):
        test.steps[number].events = _unpack_events(test, step.events, None, step.label) or None
        columns = zip(step.targets, step.in_times, step.out_times, strict=True)
        for place, (target, in_time, out_time) in enumerate(columns):
            info = infos[target]
            assert info is not None
            status = test.enter(number, target, info, in_time)
            status.out_time = out_time
            if (told := step.more.get(place)) is not None:
                _fill(test, status, told, step.label)
    return test


def _fill(test: TestTree, status: LiveTarget, entry: _PackedTarget, label: str) -> None:
    status.out_time = entry.out_time
    status.error = entry.error
    status.blame = entry.blame
    status.output = entry.output
    status.events = _unpack_events(test, entry.events, status.target, label) or None


def _unpack_events(
    test: TestTree,
    events: Sequence[tuple[int, datetime, int, str, Any]],
    target: TargetInfo | None,
    label: str,
) -> list[JobEvent]:
    return [
        JobEvent(
            sequence_id=sequence,
            emit_time=time,
            header=Header(
                job_id=test.status.job_id,
                run_id=test.status.run_id,
                test_name=test.name,
                test_attempt=attempt,
                test_step_label=label,
            ),
            data=EventData(target=target, event_name=name, payload=None if payload is None else Raw(payload)),
        )
        for sequence, time, attempt, name, payload in events
    ]
