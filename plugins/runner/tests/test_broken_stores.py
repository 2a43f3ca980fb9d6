"""Every case of the stores' kit can fail: for each, a store is spoilt that way when it is opened."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from contest_runner.store import REFUSED_NAME, Created, Held, LeaseLost, StoreClosed
from contest_runner.store.rows import Lease
from contest_runner.testing.store_feed import StoredFeedCases
from contest_runner.testing.store_jobs import StoredJobCases

from .spoiling import Spoilt, after, cases, does_nothing, fails, given, instead, spoils

SPOILT: list[Spoilt] = []

breaks = partial(spoils, SPOILT, "store")


# --- jobs


@breaks("a_job_comes_back_as_it_was_handed_in")
def forgets_tags(store: Any) -> None:
    after(store, "job", lambda row: replace(row, tags=()))


@breaks("a_number_of_no_job_gives_nothing")
def makes_an_error_of_nothing(store: Any) -> None:
    def found(row: Any) -> Any:
        if row is None:
            raise KeyError("job")
        return row

    after(store, "job", found)


@breaks(
    "the_same_start_key_and_digest_give_the_same_job",
    "two_starts_with_one_key_in_one_batch_make_one_job",
    "start_keys_and_job_numbers_outlive_the_process",
)
def keeps_no_keys(store: Any) -> None:
    given(store, "create_job", lambda job, **more: ((replace(job, start_key=None),), more))


@breaks("a_start_key_with_another_descriptor_names_the_job_that_has_it", words="DID NOT RAISE")
def compares_no_digests(store: Any) -> None:
    given(store, "create_job", lambda job, **more: ((replace(job, start_digest="d"),), more))


@breaks("a_job_may_be_claimed_as_it_is_made")
def claims_nothing(store: Any) -> None:
    after(store, "create_job", lambda made: Created(job_id=made.job_id, existing=made.existing))


@breaks("a_claimed_job_is_held_until_the_lease_runs_out")
def leases_for_nothing(store: Any) -> None:
    given(store, "claim", lambda job_id, owner, seconds: ((job_id, owner, -1), {}))


@breaks("writes_under_a_lost_lease_write_nothing", words="DID NOT RAISE")
def says_nothing_of_lost_leases(store: Any) -> None:
    def make(real: Any) -> Any:
        async def changed(*arguments: Any, **named: Any) -> Any:
            try:
                return await real(*arguments, **named)
            except LeaseLost:
                return None

        return changed

    instead(store, "set_state", make)


@breaks("a_lost_lease_harms_no_other_write_of_its_batch")
def fails_a_whole_batch(store: Any) -> None:
    def make(real: Any) -> Any:
        async def changed(lease: Any, *arguments: Any, **named: Any) -> Any:
            await real(lease, *arguments, **named)
            raise LeaseLost(lease.job_id)

        return changed

    instead(store, "set_state", make)


@breaks("renewing_names_the_leases_that_are_gone")
def names_no_lost_leases(store: Any) -> None:
    after(store, "renew", lambda lost: [])


@breaks("an_ended_job_cannot_be_claimed_or_written")
def claims_what_has_ended(store: Any) -> None:
    lease = Lease(job_id=1, owner="me", token=9, until=0)
    after(store, "claim", lambda found: lease if isinstance(found, Held) else found)


@breaks("a_restart_takes_the_jobs_on_at_once")
def minds_old_leases(store: Any) -> None:
    def make(real: Any) -> Any:
        async def changed(job_id: int, owner: str, seconds: float) -> Any:
            if owner == "me":
                return await real(job_id, owner, seconds)
            return Held(job_id=job_id, owner="me", until=0)

        return changed

    instead(store, "claim", make)


@breaks("the_end_of_a_job_is_one_with_its_last_events_reports_and_intents")
def ends_without_reports(store: Any) -> None:
    given(store, "finish_job", lambda lease, end, reports, **more: ((lease, end, []), more))


@breaks("the_last_run_is_stored_with_the_end_of_its_job_or_neither_is")
def ends_before_the_run(store: Any) -> None:
    def make(real: Any) -> Any:
        async def changed(lease: Any, end: Any, reports: Any, *, run: Any = None) -> None:
            await real(lease, end, reports)
            if run is not None:
                await store.finish_run(lease, run, [])

        return changed

    instead(store, "finish_job", make)


@breaks("unfinished_jobs_come_with_plan_and_open_intents")
def forgets_intents(store: Any) -> None:
    after(store, "unfinished", lambda rows: [replace(row, intents=()) for row in rows])


@breaks("a_start_time_once_set_stays")
def starts_again(store: Any) -> None:
    given(
        store,
        "set_state",
        lambda lease, state, start_time=None: ((lease, state), {"start_time": start_time or 1}),
    )


@breaks("a_runs_status_is_made_once_and_comes_back_byte_by_byte", words="[1, 1] == [1]")
def makes_statuses_twice(store: Any) -> None:
    def twice(lease: Any, run: Any, reports: Any) -> Any:
        if callable(run.status):
            run.status()
        return (lease, run, reports), {}

    given(store, "finish_run", twice)


@breaks("a_status_that_cannot_be_made_fails_its_run_alone")
def hides_what_cannot_be_made(store: Any) -> None:
    does_nothing(store, "finish_run")


@breaks("what_a_step_saved_is_there_until_its_run_ends")
def keeps_no_states(store: Any) -> None:
    does_nothing(store, "saved_states", [])


@breaks("the_last_acquisition_of_an_attempt_is_the_one_that_is_known")
def knows_the_first_acquisition(store: Any) -> None:
    after(store, "acquisitions", lambda rows: [replace(row, token=7) for row in rows])


@breaks("jobs_are_found_by_state_tags_requestor_and_page")
def finds_any_state(store: Any) -> None:
    given(store, "jobs", lambda **query: ((), {**query, "states": ()}))


@breaks("an_operation_that_raises_undoes_its_own_part_and_no_more")
def swallows_what_is_raised(store: Any) -> None:
    def make(real: Any) -> Any:
        def careful(operation: Any) -> Any:
            def run(connection: Any) -> Any:
                try:
                    return operation(connection)
                except KeyError:
                    return None

            return run

        return lambda operation: real(careful(operation))

    instead(store, "write", make)


# --- the feed


def events(store: Any, change: Callable[[list[Any]], list[Any]]) -> None:
    after(store, "events", change)


@breaks("an_event_comes_back_as_it_was_appended")
@breaks("what_most_rows_lack_comes_back_in_the_rows_that_have_it")
def forgets_payloads(store: Any) -> None:
    events(store, lambda rows: [replace(row, payload=None) for row in rows])


@breaks("what_is_not_committed_is_not_read")
def is_ahead_of_the_disk(store: Any) -> None:
    instead(store, "position", lambda real: lambda: real() + 1)


@breaks("positions_go_on_after_a_restart")
def counts_by_job(store: Any) -> None:
    events(store, lambda rows: [replace(row, position=row.sequence) for row in rows])


@breaks("a_jobs_events_are_found_among_thousands_of_others")
def finds_any_job(store: Any) -> None:
    given(store, "events", lambda **query: ((), {**query, "job_id": None}))


@breaks("a_feed_is_paged_by_position")
def begins_at_the_beginning(store: Any) -> None:
    given(store, "events", lambda **query: ((), {**query, "after": 0}))


@breaks(
    "an_event_that_is_not_storable_is_replaced_and_spoils_no_other",
    "many_refused_events_leave_all_others",
)
def leaves_holes(store: Any) -> None:
    events(store, lambda rows: [row for row in rows if row.name != REFUSED_NAME])


@breaks("an_operation_sees_the_events_appended_before_it")
def writes_beside_the_batch(store: Any) -> None:
    does_nothing(store, "write", 0)


@breaks("a_cancelled_waiter_disturbs_no_other")
def has_one_future_for_all(store: Any) -> None:
    made: list[Any] = []

    def make(real: Any) -> Any:
        def committed() -> Any:
            if not made:
                made.append(real())
            return made[0]

        return committed

    instead(store, "committed", make)


@breaks("who_has_appended_all_of_it_waits_for_no_turn_of_the_loop", words="not handed over")
def hands_nothing_over(store: Any) -> None:
    store.written = store.committed


@breaks("committed_covers_what_is_under_way", words="did not happen")
def forgets_who_waits(store: Any) -> None:
    def make(real: Any) -> Any:
        def committed() -> Any:
            real().add_done_callback(lambda future: None)
            return asyncio.get_running_loop().create_future()

        return committed

    instead(store, "committed", make)


class _Changes:
    """Changes that are waited for otherwise."""

    def __init__(self, changes: Any) -> None:
        self.changes = changes
        self.waits = 0

    def __enter__(self) -> Any:
        self.changes.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.changes.__exit__(*error)

    async def wait(self, after: int) -> int:
        self.waits += 1
        found: int = await self.changes.wait(after)
        return found


def changes(store: Any, kind: type[_Changes]) -> None:
    instead(store, "changes", lambda real: lambda job_id=None: kind(real(job_id)))


@breaks("a_watcher_wakes_for_its_own_job_only")
def wakes_everybody(store: Any) -> None:
    instead(store, "changes", lambda real: lambda job_id=None: real())


@breaks("a_watcher_misses_nothing_between_two_waits")
def drops_the_first_of_a_page(store: Any) -> None:
    events(store, lambda rows: rows[1:] if len(rows) > 1 else rows)


@breaks("a_wait_that_was_cancelled_can_be_done_again", words="once")
def waits_once(store: Any) -> None:
    class Once(_Changes):
        async def wait(self, after: int) -> int:
            assert not self.waits, "once"
            return await super().wait(after)

    changes(store, Once)


@breaks("closing_ends_a_watch")
def says_nothing_of_the_end(store: Any) -> None:
    class Endless(_Changes):
        async def wait(self, after: int) -> int:
            try:
                return await super().wait(after)
            except StoreClosed:
                return after

    changes(store, Endless)


@pytest.mark.parametrize("spoilt", SPOILT, ids=lambda spoilt: f"{spoilt.spoil.__name__}-{spoilt.case[5:40]}")
def test_a_spoilt_store_fails_its_case(
    spoilt: Spoilt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails(spoilt, tmp_path, monkeypatch)


def test_every_case_has_a_store_that_is_spoilt_so() -> None:
    assert sorted({spoilt.case for spoilt in SPOILT}) == cases(StoredJobCases, StoredFeedCases)
