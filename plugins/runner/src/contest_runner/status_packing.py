"""The status of a run that has ended, in the compact form that the store keeps; packed once, unpacked when asked for.

Called by the runner and by `answers`. It knows the trees of `contest_runner.status_tree`, and no store.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from contest_core import ZERO_TIME, EventData, Header, JobEvent, Output, TargetInfo, TargetStatus
from contest_runner.status_tree import (
    CLEANUP,
    LiveAttempt,
    LiveStep,
    LiveTarget,
    RunTree,
    StepName,
    StepsTree,
    TestTree,
)

_PACKED_FORMAT = 1
_PLAIN, _COMPRESSED = b"p", b"z"
_SMALL = 4096
"""Bytes up to which compressing costs more than it saves."""


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
    step: int = -1
    """The step that it was in, where that is not said elsewhere."""


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


class _PackedAttempt(Struct, array_like=True, frozen=True):
    attempt: int
    start_time: datetime
    end_time: datetime
    targets: list[bytes] = []
    """As JSON,"""
    last: list[_PackedTarget] = []
    """and what became of each."""


class _PackedTest(Struct, array_like=True, frozen=True):
    name: str
    steps: list[_PackedStep]
    targets: list[bytes]
    """The targets as JSON: what a target manager keeps is JSON already."""
    nowhere: list[_PackedTarget]
    """Of targets that entered no step, and of an acquisition that failed."""
    cleanup: list[_PackedStep] = []
    attempt: _PackedAttempt | None = None
    """The last attempt, without its targets,"""
    earlier: list[_PackedAttempt] = []
    """and those before it."""


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
        [_pack_step(step, index) for step in test.cleanup.steps],
        _PackedAttempt(test.attempt.attempt, test.attempt.start_time, test.attempt.end_time),
        [_pack_attempt(attempt, test) for attempt in test.earlier],
    )


def _pack_attempt(attempt: LiveAttempt, test: TestTree) -> _PackedAttempt:
    statuses = attempt.target_statuses or []
    places = {step.test_step_label: place for place, step in enumerate(test.steps)}
    return _PackedAttempt(
        attempt.attempt,
        attempt.start_time,
        attempt.end_time,
        [msgspec.json.encode(status.target) for status in statuses],
        [
            _pack_target(number, status, places.get(status.test_step_label, -1))
            for number, status in enumerate(statuses)
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


def _pack_target(number: int, status: TargetStatus, step: int = -1) -> _PackedTarget:
    events = _pack_events(status.events)
    return _PackedTarget(
        number, status.in_time, status.out_time, status.error, status.blame, status.output, events, step
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
    names, cleanup = (
        [StepName(step.label, step.display) for step in steps] for steps in (packed.steps, packed.cleanup)
    )
    test = TestTree(job_id, run_id, packed.name, names, cleanup)
    infos = [_INFO.decode(info) for info in packed.targets]
    test.last = [test.status_of(info, ZERO_TIME) for info in infos]
    test.cleanup.last = list(test.last)
    for entry in packed.nowhere:
        status = test.status_of(infos[entry.target], entry.in_time)
        _fill(status, entry)
        test.last[entry.target] = status
    _unpack_steps(test, packed.steps, infos, None)
    _unpack_steps(test.cleanup, packed.cleanup, infos, CLEANUP)
    attempt = packed.attempt or _PackedAttempt(0, ZERO_TIME, ZERO_TIME)
    test.restore(_unpack_attempt(test, attempt), [_unpack_attempt(test, each) for each in packed.earlier])
    return test


def _unpack_steps(
    tree: StepsTree, steps: Sequence[_PackedStep], infos: Sequence[TargetInfo | None], phase: str | None
) -> None:
    for number, step in enumerate(steps):
        tree.steps[number].events = _unpack_events(tree.steps[number], step.events, None, phase) or None
        columns = zip(step.targets, step.in_times, step.out_times, strict=True)
        for place, (target, in_time, out_time) in enumerate(columns):
            info = infos[target]
            assert info is not None
            status = tree.enter(number, target, info, in_time)
            status.out_time = out_time
            if (told := step.more.get(place)) is not None:
                _fill(status, told, phase)


def _unpack_attempt(test: TestTree, packed: _PackedAttempt) -> LiveAttempt:
    statuses: list[TargetStatus] = []
    for info, entry in zip(packed.targets, packed.last, strict=True):
        target = _INFO.decode(info)
        status = test.status_of(target, entry.in_time, test.steps[entry.step] if entry.step >= 0 else None)
        _fill(status, entry)
        statuses.append(status)
    return LiveAttempt(
        attempt=packed.attempt,
        start_time=packed.start_time,
        end_time=packed.end_time,
        target_statuses=statuses or None,
    )


def _fill(status: LiveTarget, entry: _PackedTarget, phase: str | None = None) -> None:
    status.out_time = entry.out_time
    status.error = entry.error
    status.blame = entry.blame
    status.output = entry.output
    status.events = _unpack_events(status, entry.events, status.target, phase) or None


def _unpack_events(
    where: LiveTarget | LiveStep,
    events: Sequence[tuple[int, datetime, int, str, Any]],
    target: TargetInfo | None,
    phase: str | None,
) -> list[JobEvent]:
    return [
        JobEvent(
            sequence_id=sequence,
            emit_time=time,
            header=Header(
                job_id=where.job_id,
                run_id=where.run_id,
                test_name=where.test_name,
                test_attempt=attempt,
                test_step_label=where.test_step_label,
            ),
            data=EventData(target=target, event_name=name, payload=None if payload is None else Raw(payload)),
            phase=phase,
        )
        for sequence, time, attempt, name, payload in events
    ]
