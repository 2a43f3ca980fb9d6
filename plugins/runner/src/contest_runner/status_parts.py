"""The part of a job that a status is asked for: a run, a test or a target of it, or all without the events of steps.

Called by `answers`. It cuts runs to that part, and refuses names that the job does not have: an empty answer would
look like a test or a target of which there is nothing to say.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, Final, NamedTuple

import msgspec

from contest_core import RunStatus, TargetStatus, TestStatus, TestStepStatus, TooLarge
from contest_core.client import MAX_ANSWER_BYTES
from contest_core.events import EventStatusMsg
from contest_runner.refusals import InvalidQuery
from contest_runner.status_tree import RunTree

_FEW: Final = 10
"""Names that are told where none is near."""

_LONGEST: Final = 64
"""Characters of a name that are repeated in a refusal."""


class Piece(NamedTuple):
    """A run, as far as it was asked for."""

    run_id: int
    encoded: bytes
    missed: Sequence[str] | None = None
    """Where a target was asked for and is not in it: those that are."""
    settled: bool = True
    """All its tests that were asked for have their targets."""
    quiet: int | None = None
    """Its bytes without events, where they were counted: in a large one,"""
    widest: int | None = None
    """and those of its largest test."""


def is_whole(message: EventStatusMsg) -> bool:
    """Whether the status is asked for as ConTest's clients do."""
    return is_run(message) and message.run is None


def is_run(message: EventStatusMsg) -> bool:
    """Whether nothing is left out of a run."""
    return message.test is None and message.target is None and message.events


def cut(tree: RunTree, message: EventStatusMsg) -> Piece:
    """The part of a run."""
    run = tree.status
    part = run if is_run(message) else select(run, message.test, message.target, events=message.events)
    piece = Piece(run.run_id, msgspec.json.encode(part))
    if len(piece.encoded) > MAX_ANSWER_BYTES // 2:
        quiet = select(part, None, None, events=False)
        tests = [len(msgspec.json.encode(test)) for test in part.test_statuses]
        piece = piece._replace(quiet=len(msgspec.json.encode(quiet)), widest=max(tests, default=0))
    if message.target is None or any(_entries(test) for test in part.test_statuses):
        return piece
    tests_asked = [test for test in run.test_statuses if message.test in (None, test.test_name)]
    entries = [entry for test in tests_asked for entry in _entries(test)]
    names = dict.fromkeys(entry.target.id for entry in entries if entry.target is not None)
    settled = all(test.target_statuses is not None for test in tests_asked)
    return piece._replace(missed=list(names), settled=settled)


def _entries(test: TestStatus) -> Sequence[TargetStatus]:
    """Of all targets, also of those that only an earlier attempt had."""
    return [
        *(test.target_statuses or ()),
        *(entry for attempt in test.attempts or () for entry in attempt.target_statuses or ()),
    ]


def select(run: RunStatus, test: str | None, target: str | None, *, events: bool) -> RunStatus:
    """A part of a run: one test, one target, or everything without the events of steps."""
    replace = msgspec.structs.replace

    def targets(statuses: Sequence[TargetStatus] | None) -> Any:
        chosen: Sequence[TargetStatus] = statuses or ()
        if target is not None:
            chosen = [status for status in chosen if status.target is not None and status.target.id == target]
        if not events:
            chosen = [status if status.events is None else replace(status, events=None) for status in chosen]
        return chosen or None

    def steps(statuses: Sequence[TestStepStatus]) -> Any:
        return [
            replace(
                step,
                target_statuses=targets(step.target_statuses),
                events=step.events if events else None,
            )
            for step in statuses
        ]

    tests = [
        replace(
            each,
            test_step_statuses=steps(each.test_step_statuses),
            target_statuses=targets(each.target_statuses),
            cleanup_step_statuses=steps(each.cleanup_step_statuses or ()) or None,
            attempts=[
                replace(attempt, target_statuses=targets(attempt.target_statuses))
                for attempt in each.attempts or ()
            ]
            or None,
        )
        for each in run.test_statuses
        if test is None or each.test_name == test
    ]
    return replace(run, test_statuses=tests)


def check_test(message: EventStatusMsg, tests: Sequence[str]) -> None:
    """Raises `InvalidQuery` where the job has no such test; `tests` are all of its tests, disabled ones too."""
    if message.test is not None and message.test not in tests:
        raise _unknown(f"job {message.job_id}", "test", message.test, tests)


def check_run(message: EventStatusMsg, *, last: int, to_come: int = 0) -> None:
    """Raises `InvalidQuery` where the job has no such run: `last` has begun, `to_come` is the last one planned."""
    if message.run is None or 1 <= message.run <= max(last, to_come):
        return
    there = "none" if not last else "run 1" if last == 1 else f"runs 1 to {last}"
    raise InvalidQuery(f"job {message.job_id} has no run {message.run}; it has {there}")


def check_target(message: EventStatusMsg, pieces: Sequence[Piece], *, ended: bool) -> None:
    """Raises `InvalidQuery` where the job has no such target. It may take a while: it looks for the nearest name.

    Of a job that goes on nothing is said before its last run has all its targets. A blank target is nobody's: with it
    a status is asked for without any.
    """
    if message.target is None or not message.target.strip() or any(piece.missed is None for piece in pieces):
        return
    if not ended and not (pieces and pieces[-1].settled):
        return
    where = f"job {message.job_id}"
    if message.run is not None:
        where = f"run {message.run} of {where}"
    if message.test is not None:
        where = f"test {message.test!r} of {where}"
    names = dict.fromkeys(name for piece in pieces for name in piece.missed or ())
    raise _unknown(where, "target", message.target, list(names))


def check_size(message: EventStatusMsg, pieces: Sequence[Piece]) -> None:
    """Raises `TooLarge` where these runs make more of an answer than anybody takes, and says what would do."""
    size = sum(len(piece.encoded) for piece in pieces)
    again = len(pieces[-1].encoded) if pieces and is_whole(message) else 0
    if size + again > MAX_ANSWER_BYTES:
        raise TooLarge(
            what="the status", limit=MAX_ANSWER_BYTES, size=size + again, hint=_hint(message, pieces)
        )


def _hint(message: EventStatusMsg, pieces: Sequence[Piece]) -> str:
    """What may be asked for instead: nothing that would be too large again, but for a target with many events."""
    sizes = [len(piece.encoded) for piece in pieces]
    quiet = [size if piece.quiet is None else piece.quiet for piece, size in zip(pieces, sizes, strict=True)]
    widest = [
        size if piece.widest is None else piece.widest for piece, size in zip(pieces, sizes, strict=True)
    ]
    narrower = [
        name
        for name, helps in (
            ("`run`", message.run is None and max(sizes) <= MAX_ANSWER_BYTES),
            ("`test`", message.test is None and sum(widest) <= MAX_ANSWER_BYTES),
            ("`target`", message.target is None),
        )
        if helps
    ]
    silence = message.events and sum(quiet) <= MAX_ANSWER_BYTES
    if not narrower:
        return "ask without `events`" if silence else "there is no smaller part"
    one = f"{', '.join(narrower[:-1])} or {narrower[-1]}" if narrower[1:] else narrower[0]
    return f"ask for one {one}{', or without `events`' if silence else ''}"


def _unknown(where: str, what: str, name: str, known: Sequence[str]) -> InvalidQuery:
    shown = name[:_LONGEST]
    near = get_close_matches(shown, known, n=1)
    hint = ""
    if near:
        hint = f", did you mean {near[0]!r}?"
    elif 0 < len(known) <= _FEW:
        hint = f"; there {'is' if len(known) == 1 else 'are'} {', '.join(map(repr, known))}"
    return InvalidQuery(f"{where} has no {what} {shown!r}{hint}")
