"""Times between their three forms: microseconds in the store, `datetime` in statuses, the loop's seconds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from contest_core import ZERO_TIME


def moment(microseconds: int | None) -> datetime:
    """The UTC time of so many microseconds since the epoch; ConTest's zero time for None."""
    return ZERO_TIME if microseconds is None else datetime.fromtimestamp(microseconds / 1e6, UTC)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def microseconds(time: datetime) -> int:
    """Microseconds since the epoch: the reverse of `moment`."""
    return (time - _EPOCH) // _MICROSECOND


def seconds(nanoseconds: int) -> float:
    """A duration of a descriptor in seconds."""
    return nanoseconds / 1e9
