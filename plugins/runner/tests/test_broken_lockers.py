"""Every case of the stores' kit about locks can fail: for each, a locker is spoilt that way when it is opened."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from contest_runner.store import AcquireTimeout, LockLost, StoreClosed
from contest_runner.store.rows import Locked
from contest_runner.testing.store_locks import StoredLockCases

from .spoiling import Spoilt, after, cases, does_nothing, fails, given, instead, spoils

SPOILT: list[Spoilt] = []

breaks = partial(spoils, SPOILT, "locker")


def acquire(locker: Any, make: Callable[[Any], Any]) -> None:
    """Another way to acquire; `make` is given the real one."""
    instead(locker, "acquire", make)


@breaks("locked_targets_are_on_disk_in_the_order_given")
def sorts_targets(locker: Any) -> None:
    after(locker, "acquire", lambda got: replace(got, targets=tuple(sorted(got.targets))))


@breaks("a_release_frees_targets_in_memory_and_on_disk", "a_large_set_is_taken_and_freed_whole")
def releases_nothing(locker: Any) -> None:
    does_nothing(locker, "release")


@breaks(
    "tokens_grow_also_over_a_restart_without_locks",
    "targets_that_move_under_a_new_token_do_so_on_disk_too",
)
def begins_tokens_anew(locker: Any) -> None:
    locker._queue.token = 0


@breaks("a_held_target_is_waited_for_and_the_wait_explained")
def waits_silently(locker: Any) -> None:
    def silent(*arguments: Any, **named: Any) -> Any:
        named.pop("on_waiting", None)
        return arguments, named

    given(locker, "acquire", silent)


@breaks("a_job_that_waits_holds_nothing_meanwhile_but_its_turn")
def takes_one_after_the_other(locker: Any) -> None:
    def make(real: Any) -> Any:
        async def acquire(job_id: int, targets: Any, **named: Any) -> Any:
            got = [await real(job_id, [target], **named) for target in reversed(targets)]
            return Locked(token=got[-1].token, targets=tuple(targets), until=got[-1].until)

        return acquire

    acquire(locker, make)


@breaks(
    "who_is_next_is_named_where_nobody_holds_the_target",
    "a_deadline_names_the_holders_and_leaves_the_turn_to_others",
)
def names_nobody(locker: Any) -> None:
    def make(real: Any) -> Any:
        async def acquire(*arguments: Any, **named: Any) -> Any:
            try:
                return await real(*arguments, **named)
            except AcquireTimeout:
                raise AcquireTimeout([]) from None

        return acquire

    acquire(locker, make)


@breaks("a_passed_deadline_takes_what_is_free_and_waits_for_nothing")
def takes_nothing_without_time(locker: Any) -> None:
    def make(real: Any) -> Any:
        async def acquire(*arguments: Any, deadline: float | None = None, **named: Any) -> Any:
            if deadline == 0:
                raise AcquireTimeout([])
            return await real(*arguments, deadline=deadline, **named)

        return acquire

    acquire(locker, make)


@breaks(
    "a_cancelled_wait_leaves_the_queue",
    "an_acquire_cancelled_while_its_rows_are_written_gives_them_back",
)
def goes_on_though_cancelled(locker: Any) -> None:
    def make(real: Any) -> Any:
        async def acquire(*arguments: Any, **named: Any) -> Any:
            return await asyncio.shield(asyncio.ensure_future(real(*arguments, **named)))

        return acquire

    acquire(locker, make)


@breaks("its_own_targets_stay_a_jobs_own", "no_targets_are_no_lock")
@breaks("what_a_job_gives_up_while_it_waits_for_more_it_gets_back_with_it")
def always_has_a_new_token(locker: Any) -> None:
    after(locker, "acquire", lambda got: replace(got, token=got.token + 1))


@breaks("a_job_passes_those_who_wait_for_what_it_holds")
def queues_for_its_own(locker: Any) -> None:
    def make(real: Any) -> Any:
        async def acquire(job_id: int, *arguments: Any, **named: Any) -> Any:
            locker.release_soon(job_id, None)
            return await real(job_id, *arguments, **named)

        return acquire

    acquire(locker, make)


@breaks("a_pool_gives_as_many_as_are_asked_for", "what_a_pool_leaves_over_goes_to_the_next")
def takes_the_whole_pool(locker: Any) -> None:
    def whole(job_id: int, targets: Any, **named: Any) -> Any:
        return (job_id, targets), {**named, "count": None}

    given(locker, "acquire", whole)


@breaks(
    "a_lock_that_ran_out_goes_to_who_waits_and_its_owner_is_told",
    "a_lock_that_ran_out_is_taken_without_waiting",
)
def tells_nobody(locker: Any) -> None:
    locker._on_lost = lambda *lost: None


@breaks("a_lock_that_ran_out_is_still_its_owners_to_take_again", words="LockLost")
def gives_up_what_ran_out(locker: Any) -> None:
    def make(real: Any) -> Any:
        async def acquire(job_id: int, *arguments: Any, **named: Any) -> Any:
            now = locker._store.now()
            if any(row.job_id == job_id and row.until < now for row in locker.locks()):
                raise LockLost(job_id, ())
            return await real(job_id, *arguments, **named)

        return acquire

    acquire(locker, make)


@breaks("the_end_of_a_lock_wakes_by_a_timer", words="did not happen")
def has_no_timer(locker: Any) -> None:
    locker._arm = lambda: None


@breaks("renewed_locks_do_not_run_out_and_kept_ones_do")
def renews_nothing(locker: Any) -> None:
    does_nothing(locker, "renew_all")


@breaks("locks_of_jobs_that_go_on_outlive_a_restart_and_others_do_not")
def shows_no_locks(locker: Any) -> None:
    locker.locks = list


@breaks(
    "the_end_of_a_job_frees_its_locks_in_the_same_transaction",
    "a_freed_target_is_granted_in_the_same_batch",
    words="did not happen",
)
def frees_nothing_soon(locker: Any) -> None:
    locker.release_soon = lambda *arguments: None


@breaks("what_cannot_be_meant_is_refused", "a_name_that_cannot_be_stored_locks_nothing")
@breaks("a_closed_store_locks_nothing")
def refuses_nothing(locker: Any) -> None:
    def make(real: Any) -> Any:
        async def acquire(*arguments: Any, **named: Any) -> Any:
            try:
                return await real(*arguments, **named)
            except (ValueError, StoreClosed):
                return Locked(token=0, targets=(), until=0)

        return acquire

    acquire(locker, make)


@breaks("a_lock_is_ensured_for_as_long_as_is_asked_and_renewing_does_not_shorten_it")
def ensures_no_longer(locker: Any) -> None:
    given(locker, "extend", lambda job_id, token, seconds=0: ((job_id, token), {}))


@pytest.mark.parametrize("spoilt", SPOILT, ids=lambda spoilt: f"{spoilt.spoil.__name__}-{spoilt.case[5:40]}")
def test_a_spoilt_locker_fails_its_case(
    spoilt: Spoilt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails(spoilt, tmp_path, monkeypatch)


def test_every_case_has_a_locker_that_is_spoilt_so() -> None:
    assert sorted({spoilt.case for spoilt in SPOILT}) == cases(StoredLockCases)
