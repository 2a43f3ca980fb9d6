"""What came out of a row: medians over its rounds, and whether it reaches what it shall.

Made for the command, from samples of `contest_runner.bench.row`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median

from msgspec import Struct

from contest_runner.bench.row import Row, RowFailed, Sample

_MIB = 1 << 20


class Result(Struct, frozen=True, kw_only=True):
    """A row, measured."""

    row: str
    what: str
    unit: str
    yardstick_is: str
    wanted: str
    trouble: str | None = None
    """Why it was not measured; the figures are null then."""
    ours: float | None = None
    yardstick: float | None = None
    ratio: float | None = None
    """The median of the rounds' ratios."""
    ratios: list[float] = []
    """Round by round."""
    reached: bool | None = None
    cpu_microseconds: float | None = None
    """Of our processor time, a thing."""
    yardstick_cpu_microseconds: float | None = None
    """Of the yardstick's."""
    peak_bytes: int | None = None
    """The highest of all rounds."""
    beside: str | None = None
    """What went on beside it."""


def measure(row: Row, *, rounds: int, scale: float, told: Callable[[str], None]) -> Result:
    """Takes a row, ours and its yardstick in turn; `scale` below 1 makes it smaller than it is meant."""
    missing = row.missing()
    if missing:
        return _untaken(row, f"skipped: {', '.join(missing)} is not installed")
    samples = []
    for number in range(1, rounds + 1):
        told(f"{row.name}: round {number} of {rounds}")
        try:
            samples.append(row.sample(scale))
        except RowFailed as error:
            return _untaken(row, f"failed: {error}")
    return _result(row, samples)


def _untaken(row: Row, trouble: str) -> Result:
    return Result(
        row=row.name,
        what=row.what,
        unit=row.unit,
        yardstick_is=row.yardstick,
        wanted=_wanted(row),
        trouble=trouble,
    )


def _result(row: Row, samples: Sequence[Sample]) -> Result:
    ours = median(sample.ours for sample in samples)
    held = [sample.yardstick for sample in samples if sample.yardstick is not None]
    ratios = [sample.ours / sample.yardstick for sample in samples if sample.yardstick is not None]
    ratio = median(ratios) if ratios else None
    cpus = [sample.cpu for sample in samples if sample.cpu is not None]
    held_cpus = [sample.yardstick_cpu for sample in samples if sample.yardstick_cpu is not None]
    besides = [sample.beside for sample in samples if sample.beside is not None]
    peak = max(sample.peak for sample in samples)
    return Result(
        row=row.name,
        what=row.what,
        unit=row.unit,
        yardstick_is=row.yardstick,
        wanted=_wanted(row),
        ours=ours,
        yardstick=median(held) if held else None,
        ratio=ratio,
        ratios=ratios,
        reached=_reached(row, ours if ratio is None else ratio, peak),
        cpu_microseconds=median(cpus) if cpus else None,
        yardstick_cpu_microseconds=median(held_cpus) if held_cpus else None,
        peak_bytes=peak or None,
        beside=f"{median(besides):,.0f} {row.beside}" if besides else None,
    )


def _reached(row: Row, value: float, peak: int) -> bool | None:
    if row.at_least is None and row.at_most is None:
        return None
    if row.at_least is not None and value < row.at_least:
        return False
    if row.at_most is not None and value > row.at_most:
        return False
    return row.peak_below is None or peak < row.peak_below


def _wanted(row: Row) -> str:
    if row.at_least is not None:
        return f">= {row.at_least:g}" + (f", < {row.peak_below // _MIB} MiB" if row.peak_below else "")
    if row.at_most is None:
        return ""
    return f"< {row.at_most / _MIB:g} MiB" if row.unit == "bytes" else f"<= {row.at_most:g}"
