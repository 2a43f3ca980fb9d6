"""Who waits for targets, in memory. What the locker promises is in `StoreSuite`."""

from __future__ import annotations

from contest_runner.store.lock_queue import LockQueue, Request


def test_handing_many_targets_over_takes_each_request_once() -> None:
    granted: list[int] = []
    queue = LockQueue(
        clock=lambda: 0,
        duration=10,
        on_grant=lambda request: granted.append(request.job_id),
        on_lapse=lambda grant, targets: None,
    )
    targets = tuple(f"t{number:06}" for number in range(100_000))
    first = Request(1, targets, len(targets), 0)
    queue.enter(first)
    for job_id in (2, 3):
        queue.enter(Request(job_id, targets, len(targets), 0))
    assert first.grant is not None
    # Quadratic, this took minutes.
    queue.free(first.grant)
    assert granted == [1, 2]
