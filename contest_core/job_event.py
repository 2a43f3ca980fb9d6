"""What happened in a job: the events that `watch` gives, and the cursor that says how far one has read.

The shape is ConTest's test event; where ConTest has no field for something it is null. Job states and runs
are events of the same feed, without a test.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from msgspec import Struct

from contest_core.wire_names import wire_name


class TargetInfo(Struct, frozen=True, kw_only=True, omit_defaults=True, rename=wire_name):
    """A target as the wire shows it; members that are unset are left out."""

    id: str
    fqdn: str = ""
    primary_ipv4: str | None = None
    primary_ipv6: str | None = None
    tms: Any = None
    """The target manager's own state, any JSON."""


class Header(Struct, frozen=True, kw_only=True, rename=wire_name):
    """Where in a job an event belongs."""

    job_id: int
    run_id: int | None
    test_name: str | None
    test_attempt: int | None
    test_step_label: str | None


class EventData(Struct, frozen=True, kw_only=True, rename=wire_name):
    """What happened, to whom."""

    target: TargetInfo | None
    event_name: str
    payload: Any
    """Any JSON."""


class Cursor(Struct, frozen=True):
    """How far a reader has come: opaque, valid across restarts and transports, of one store only."""

    text: str

    def __str__(self) -> str:
        return self.text


class JobEvent(Struct, frozen=True, kw_only=True, omit_defaults=True, rename=wire_name):
    """One event of a job."""

    sequence_id: int
    """Dense from 1 in each job."""
    emit_time: datetime
    header: Header
    data: EventData
    phase: str | None = None
    """`test` or `cleanup`."""
    cursor: str | None = None
    """Where a watch that saw this event resumes; only in feeds."""


class Gap(Struct, frozen=True, kw_only=True, rename=wire_name):
    """Events that a reader will not see: they were pruned, or it was too slow."""

    missed: int | None
    """How many; null in the feed of all jobs, where it is not known. 0 is none: it says where the watch begins."""
    cursor: str
    """Where a watch that saw this gap resumes; empty where a client does not know, who saw nothing before a loss."""
