"""What people see of a status, and what never reaches their terminal."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import click
from click.testing import Result
from msgspec import structs

from contest_core import (
    ZERO_TIME,
    AttemptStatus,
    ContestError,
    JobReport,
    JobState,
    Output,
    Report,
    ResponseDataList,
    ResponseDataStatus,
    ResponseDataStop,
    RunStatus,
    TargetInfo,
    TargetStatus,
    TestStatus,
    TestStepStatus,
    TooLarge,
    Waiting,
    WaitingTarget,
    encode,
)
from contest_core.cli.output import printable, span_text, state_word, table, time_text, visible
from contest_core.cli.status_text import MAX_RUNS, MAX_TARGETS, progress_text, status_lines

Invoke = Callable[..., Result]

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


def target(name: str, step: str = "b", *, left: bool = True, error: str = "", **more: Any) -> TargetStatus:
    return TargetStatus(
        job_id=7,
        run_id=1,
        test_name="Boot",
        test_step_name=step,
        test_step_label=step,
        target=TargetInfo(id=name),
        in_time=NOON,
        out_time=NOON if left else ZERO_TIME,
        error=error,
        events=None,
        **more,
    )


def boot(*targets: TargetStatus, name: str = "Boot") -> TestStatus:
    steps = [
        TestStepStatus(
            job_id=7,
            run_id=1,
            test_name=name,
            test_step_name=label,
            test_step_label=label,
            events=None,
            target_statuses=None,
        )
        for label in ("a", "b")
    ]
    return TestStatus(
        job_id=7, run_id=1, test_name=name, test_step_statuses=steps, target_statuses=list(targets) or None
    )


def run(*tests: TestStatus, run_id: int = 1, **more: Any) -> RunStatus:
    return RunStatus(job_id=7, run_id=run_id, start_time=NOON, test_statuses=list(tests), **more)


def text(status: Any) -> str:
    return click.unstyle("\n".join(status_lines(7, status)))


def test_a_status_shows_state_verdict_and_times(server: Any) -> None:
    status = server.status(verdict="failed", flaky=True, end_time=NOON + timedelta(seconds=90), retry_of=3)
    first, second, third = text(status).splitlines()
    assert first == "job 7  smoke  completed  failed  flaky"
    assert second.endswith("took 1m30s")
    assert third == "  a retry of job 3"


def test_targets_stand_in_a_table_with_those_that_failed_first(server: Any) -> None:
    failed = target("t3", "a", error="exit status 3: oops\nmore", blame="test")
    tests = boot(target("t1"), target("t2", left=False), failed, target("t4", "a"))
    lines = text(
        server.status(JobState.STARTED, run_statuses=[run(tests, skipped_tests=["Old"])])
    ).splitlines()
    assert "  test Boot: 1 passed, 1 between steps, 1 running, 1 failed" in lines
    assert "    TARGET  STATE          STEP     TOOK   ERROR" in lines
    assert "    t3      failed         a (1/2)  0.00s  exit status 3: oops (blame: test)" in lines
    assert "    t2      running        b (2/2)" in lines
    assert "    t4      between steps  a (1/2)  0.00s" in lines
    assert "    t1      passed         b (2/2)  0.00s" in lines
    assert lines[-1] == "  not run: Old"


def test_a_target_took_as_long_as_all_its_steps(server: Any) -> None:
    def entry(label: str, begin: float, end: float) -> TargetStatus:
        times = {"in_time": NOON + timedelta(seconds=begin), "out_time": NOON + timedelta(seconds=end)}
        return structs.replace(target("t1", label), **times)

    both = [entry("a", 0, 2), entry("b", 2.5, 4)]
    tests = boot(both[-1])
    for step, each in enumerate(both):
        tests.test_step_statuses[step] = structs.replace(
            tests.test_step_statuses[step], target_statuses=[each]
        )
    assert "    t1      passed  b (2/2)  4.00s" in text(server.status(run_statuses=[run(tests)]))


def test_what_was_under_way_when_the_job_ended_is_cut_off(server: Any) -> None:
    status = server.status(JobState.CANCELLED, run_statuses=[run(boot(target("t1", left=False)))])
    assert "cut off" in text(status)


def test_the_end_of_a_failed_commands_output_is_shown(server: Any) -> None:
    output = Output(stderr="".join(f"line {n}\n" for n in range(30)), stderr_size=99999)
    status = server.status(run_statuses=[run(boot(target("t1", error="exit status 1", output=output)))])
    shown = text(status)
    assert "t1: the end of stderr (99999 bytes)" in shown
    assert "      line 29" in shown
    assert "line 19" not in shown
    assert "stdout" not in shown


def test_earlier_attempts_and_the_cleanup_stand_below_the_targets(server: Any) -> None:
    tested = boot(target("t1"), target("t2"))
    earlier = AttemptStatus(
        attempt=0,
        start_time=NOON,
        end_time=NOON + timedelta(seconds=3),
        target_statuses=[target("t1"), target("t2", "a", error="cold\nvery \x1b[2J")],
    )
    last = AttemptStatus(attempt=1, start_time=NOON, end_time=NOON, target_statuses=tested.target_statuses)
    wiped = structs.replace(
        tested.test_step_statuses[0],
        test_step_label="wipe",
        target_statuses=[target("t1", "wipe"), target("t2", "wipe", error="no")],
    )
    tested = structs.replace(tested, attempts=[earlier, last], cleanup_step_statuses=[wiped])
    shown = text(server.status(run_statuses=[run(tested)]))
    assert "test Boot: 2 passed, attempt 2" in shown
    assert "    attempt 1: 1 passed, 1 failed, took 3.00s" in shown
    assert "      t2: a: cold" in shown.splitlines()
    assert "    cleanup: 1 passed, 1 failed\n      t2: wipe: no" in shown
    unbegun = structs.replace(tested, cleanup_step_statuses=[structs.replace(wiped, target_statuses=None)])
    assert "cleanup" not in text(server.status(run_statuses=[run(unbegun)]))


def test_reports_stand_with_their_run_and_final_ones_at_the_end(server: Any) -> None:
    def report(run_id: int, data: Any, success: bool) -> Report:
        return Report(
            job_id=7, run_id=run_id, reporter_name="Judge", report_time=NOON, success=success, data=data
        )

    reports = JobReport(
        job_id=7,
        run_reports=[[report(1, "well", True)], [report(2, ["a", "b"], False), report(2, {"a": 1}, False)]],
        final_reports=[report(0, None, True)],
    )
    lines = text(server.status(run_statuses=[run(), run(run_id=2)], job_report=reports)).splitlines()
    assert lines[3] == "report Judge: success  well"
    assert lines[5] == "report Judge: failure  a; b"
    assert lines[6] == 'report Judge: failure  {"a":1}'
    assert lines[7] == "final report Judge: success"


def test_waiting_says_for_what_and_who_holds_it(server: Any) -> None:
    held = WaitingTarget(id="board-1", held_by=5, since=NOON, until=NOON)
    status = server.status(JobState.STARTED, waiting=Waiting(since=NOON, targets=[held]))
    assert "waiting for targets since" in text(status)
    assert "board-1: held by job 5 since" in text(status)
    assert "waiting for board-1, held by job 5" in click.unstyle(progress_text(7, status))


def test_many_targets_and_runs_are_cut_and_it_is_said_how_to_see_them(server: Any) -> None:
    many = boot(*(target(f"t{n}") for n in range(MAX_TARGETS + 60)))
    runs = [run(run_id=n) for n in range(1, MAX_RUNS + 3)]
    shown = text(server.status(run_statuses=[*runs, run(many, run_id=99)]))
    assert "and 60 more targets: --target ID shows one" in shown
    assert "runs 1 to 3 are not shown: --run N shows one" in shown
    assert "100 passed" in shown


def test_a_server_that_shows_the_last_run_only_is_taken_at_its_word(server: Any) -> None:
    assert "test Boot: 1 passed" in text(server.status(run_status=run(boot(target("t1")))))


def test_progress_is_one_line(server: Any) -> None:
    tests = [boot(target("t1")), boot(target("t2", left=False), name="Flash"), boot(name="Last")]
    line = click.unstyle(progress_text(7, server.status(JobState.STARTED, run_statuses=[run(*tests)])))
    assert line == "job 7 smoke: started, run 1, test 2 of 3, Flash: 1 running"


def test_the_command_prints_it(invoke: Invoke, server: Any) -> None:
    status = server.status(verdict="passed", run_statuses=[run(boot(target("t1")))])
    server.answers["status"] = [server.answer(ResponseDataStatus(status=status))]
    result = invoke("status", "7")
    assert result.exit_code == 0
    assert result.stdout == text(status) + "\n"


def test_control_characters_do_not_reach_a_terminal_but_our_colours_do() -> None:
    assert printable("a\x1b[2Jb\x07c\x9b31m\td\n") == "a\\x1b[2Jb\\x07c\\x9b31m\td\n"
    assert printable(click.style("ok", fg="green")) == click.style("ok", fg="green")
    assert printable("\x1b]0;title\x07") == "\\x1b]0;title\\x07"


HOSTILE = (
    "a\x1b]0;title\x07b\x1b[8mc\x1b[2K\rd\x9b1Ae\x7ff\u202eg\u2066h\u2028i\u2029j\x85k\x0bl\nforged\u200b"
)


def test_what_orders_hides_or_breaks_text_is_written_out_and_scripts_stay_whole() -> None:
    assert visible("\x1b[8m\u202e\u2028\u200b\n\t\x85") == "\\x1b[8m\\u202e\\u2028\\u200b\\n\\t\\x85"
    assert visible("a\n\tb\r", lines=True) == "a\n\tb\\r"
    for text in ("試験", "é", "👩\u200d💻", "\u0645\u06cc\u200c\u062e\u0648"):
        assert visible(text) == text
    assert printable("\x1b[8mhidden\x1b[0m") == "\\x1b[8mhidden\x1b[0m"
    assert printable("\x1b[32mleft on") == "\x1b[32mleft on\x1b[0m"


def test_no_text_of_a_job_can_do_anything_to_a_terminal(invoke: Invoke, server: Any) -> None:
    output = Output(stdout="", stdout_size=0, stderr=f"{HOSTILE}\n\ttail", stderr_size=99)
    failed = target(HOSTILE, HOSTILE, error=HOSTILE, blame=HOSTILE, output=output)
    report = Report(job_id=7, run_id=1, reporter_name=HOSTILE, report_time=NOON, success=False, data=HOSTILE)
    status = server.status(
        name=HOSTILE,
        state_name=HOSTILE,
        state_err_msg=HOSTILE,
        verdict=HOSTILE,
        blame=HOSTILE,
        run_statuses=[run(boot(failed, name=HOSTILE), skipped_tests=[HOSTILE])],
        job_report=JobReport(job_id=7, run_reports=[[report]], final_reports=[report]),
        waiting=Waiting(
            what=HOSTILE, since=NOON, targets=[WaitingTarget(id=HOSTILE, held_by=1, since=NOON, until=NOON)]
        ),
    )
    server.answers["status"] = [server.answer(ResponseDataStatus(status=status))]
    entry = server.entry(7, name=HOSTILE, requestor=HOSTILE, verdict=HOSTILE, state_name=HOSTILE)
    server.answers["list"] = [server.answer(ResponseDataList(job_ids=[7], jobs=[entry]))]
    server.answers["stop"] = [server.answer(ResponseDataStop(), ContestError(HOSTILE))]
    for arguments in (("status", "7"), ("list",), ("stop", "7")):
        result = invoke(*arguments)
        shown = result.stdout + result.stderr
        assert "\\x1b" in shown
        assert not [
            letter for letter in HOSTILE if letter in shown and not letter.isprintable() and letter != "\n"
        ]
        assert not [line for line in shown.splitlines() if line.startswith("forged")]
    assert "\n" not in progress_text(7, status)
    assert "\t" in invoke("status", "7").stdout


def test_json_for_programs_has_every_character_as_it_is(invoke: Invoke, server: Any) -> None:
    server.answers["status"] = [server.answer(ResponseDataStatus(status=server.status(name=HOSTILE)))]
    assert json.loads(invoke("status", "7", "--json").stdout)["Data"]["Status"]["Name"] == HOSTILE


def test_columns_are_aligned_for_wide_characters_and_colours() -> None:
    rows = [("試験", "x"), (click.style("ab", fg="red"), "y"), ("a\nb", "z")]
    lines = [click.unstyle(line) for line in table(("N", "V"), rows)]
    assert lines == ["N     V", "試験  x", "ab    y", "a b   z"]
    assert table(("N",), []) == []


def test_words_for_states_times_and_spans() -> None:
    assert state_word("JobStateCancellationFailed") == "cancellation failed"
    assert state_word("JobStateOfAffairs") == "JobStateOfAffairs"
    assert state_word("") == "not begun"
    assert time_text(None) == time_text(ZERO_TIME) == "-"
    assert [span_text(each) for each in (0.254, 12.34, 245, 7380, 273600)] == [
        "0.25s",
        "12.3s",
        "4m05s",
        "2h03m",
        "3d04h",
    ]


# --- what is too large


def too_large(server: Any, *parts: Any) -> None:
    """The whole status is refused, then come these parts of it."""
    server.offer("status", "status.run", "status.test", "status.target", "status.events")
    server.answers["status"] = [
        encode(TooLarge(what="the status", limit=1)),
        *(
            part if isinstance(part, bytes) else server.answer(ResponseDataStatus(status=part))
            for part in parts
        ),
    ]


def test_a_status_that_is_too_large_is_shown_without_its_targets_but_with_their_counts(
    invoke: Invoke, server: Any
) -> None:
    report = Report(
        job_id=7, run_id=1, reporter_name="R", report_time=NOON, success=False, data="1 of 2 passed"
    )
    reports = JobReport(job_id=7, run_reports=[[report]], final_reports=None)
    skeleton = server.status(
        verdict="failed", run_statuses=[run(boot(), boot(name="Flash"))], job_report=reports
    )
    part = server.status(run_statuses=[run(boot(target("t1"), target("t2", error="no")))])
    too_large(server, skeleton, part, encode(TooLarge(what="the status", limit=1)))
    result = invoke("status", "7")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "job 7  smoke  completed  failed"
    assert lines[3:] == [
        "  test Boot: 1 passed, 1 failed",
        "  test Flash: too many targets to be counted",
        "report R: failure  1 of 2 passed",
        "targets are not shown: the status is too large to be answered; --target ID shows one",
    ]
    asked = [
        (sent.get("run"), sent.get("test"), sent.get("target"), sent["events"])
        for sent in server.calls("status")
    ]
    assert asked == [
        (None, None, None, False),
        (None, None, " ", False),
        (1, "Boot", None, False),
        (1, "Flash", None, False),
    ]


def test_of_a_server_that_cannot_cut_a_status_up_the_list_is_shown(invoke: Invoke, server: Any) -> None:
    server.offer()
    server.answers["status"] = [TooLarge(what="the answer", limit=1)]
    server.answers["list"] = [server.answer(ResponseDataList(job_ids=[7]))]
    result = invoke("status", "7")
    assert (result.exit_code, result.stdout.splitlines()[0]) == (0, "job 7  started")


def test_a_program_gets_the_refusal_of_a_status_that_is_too_large(invoke: Invoke, server: Any) -> None:
    too_large(server)
    result = invoke("status", "7", "--json")
    assert result.exit_code == 2
    assert '"Code":"too_large"' in result.stdout
    assert len(server.calls("status")) == 1
