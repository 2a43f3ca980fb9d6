"""Events of jobs as lines for people. Used by `contest watch`."""

from __future__ import annotations

import msgspec

from contest_core.cli.output import count, visible
from contest_core.job_event import Gap, JobEvent


def event_line(item: JobEvent | Gap) -> str:
    """`12:00:00.250  job 7  run 1  self test/check  board-1  TargetErr  {"Error":"exit status 1"}`"""
    if isinstance(item, Gap):
        missed = "some events" if item.missed is None else count(item.missed, "event")
        return f"missed {missed}, which are not kept any more"
    header = item.header
    where = [f"job {header.job_id}"]
    if header.run_id is not None:
        where.append(f"run {header.run_id}")
    if header.test_name:
        step = f"/{header.test_step_label}" if header.test_step_label else ""
        again = f" (attempt {header.test_attempt + 1})" if header.test_attempt else ""
        where.append(visible(f"{header.test_name}{step}{again}"))
    if item.data.target is not None:
        where.append(visible(item.data.target.id))
    payload = [] if item.data.payload is None else [visible(msgspec.json.encode(item.data.payload).decode())]
    time = item.emit_time.astimezone().strftime("%H:%M:%S.%f")[:-3]
    return "  ".join([time, *where, visible(item.data.event_name), *payload])
