"""Reports as other tools read them: JUnit XML, TAP and Markdown, read by programs that nobody here wrote."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, xunit2
from tap.parser import Parser

from contest_core import (
    ZERO_TIME,
    AttemptStatus,
    JobEntry,
    JobReport,
    JobState,
    JobStatus,
    Output,
    Report,
    ResponseDataStatus,
    RunStatus,
    TargetInfo,
    TargetStatus,
    TestStatus,
    TestStepStatus,
)
from contest_core.reports import Format, render
from contest_core.reports.markdown import MAX_ROWS
from contest_core.reports.results import Outcome, Results, of_job, of_run
from contest_core.reports.writing import write_report

TestCase.__test__ = False

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
XMLLINT = shutil.which("xmllint")
RECORDED = Path(__file__).parents[1] / "data" / "contest-http.jsonl"

ENTRY = JobEntry(
    job_id=7,
    name="smoke",
    state_name="JobStateCompleted",
    verdict="failed",
    flaky=False,
    requestor="alice",
    principal=None,
    tags=["nightly", "x86"],
    start_time=NOON,
    end_time=NOON,
)


def attempts_of(*failed: list[TargetStatus], first: int = 0) -> list[AttemptStatus]:
    """Attempts with these targets, and one more, which a test tells of itself."""
    return [
        AttemptStatus(attempt=number, start_time=NOON, end_time=NOON, target_statuses=targets)
        for number, targets in enumerate([*failed, None], first)
    ]


def target(
    name: str, step: str = "last", *, after: float = 1.0, left: bool = True, **more: Any
) -> TargetStatus:
    """A target that is in a step since noon, or has left it so many seconds later."""
    return TargetStatus(
        **{
            "job_id": 7,
            "run_id": 1,
            "test_name": "Boot",
            "test_step_name": step,
            "test_step_label": step,
            "target": TargetInfo(id=name),
            "in_time": NOON,
            "out_time": NOON + timedelta(seconds=after) if left else ZERO_TIME,
            "error": "",
            "events": None,
            **more,
        }
    )


def failing(name: str, words: str = "exit status 7: no answer", **more: Any) -> TargetStatus:
    return target(name, "first", error=words, blame="test", **more)


def boot(*targets: TargetStatus, name: str = "Boot", attempts: Sequence[AttemptStatus] = ()) -> TestStatus:
    steps = [
        TestStepStatus(
            job_id=7,
            run_id=1,
            test_name=name,
            test_step_name=label,
            test_step_label=label,
            events=None,
            target_statuses=[each for each in targets if each.test_step_label == label] or None,
        )
        for label in ("first", "last")
    ]
    return TestStatus(
        job_id=7,
        run_id=1,
        test_name=name,
        test_step_statuses=steps,
        target_statuses=list(targets) or None,
        attempts=list(attempts) or None,
    )


def cleaned(test: TestStatus, *targets: TargetStatus) -> TestStatus:
    """The test with a cleanup step `off`."""
    step = msgspec.structs.replace(
        test.test_step_statuses[0], test_step_label="off", target_statuses=list(targets)
    )
    return msgspec.structs.replace(test, cleanup_step_statuses=[step])


def run_of(*tests: TestStatus, run_id: int = 1, skipped: Sequence[str] = ()) -> RunStatus:
    return RunStatus(
        job_id=7, run_id=run_id, start_time=NOON, test_statuses=list(tests), skipped_tests=list(skipped)
    )


def job_of(*runs: RunStatus, state: JobState = JobState.COMPLETED, **more: Any) -> JobStatus:
    return JobStatus(
        **{
            "name": "smoke",
            "state_name": state.wire_name,
            "state_err_msg": "",
            "start_time": NOON,
            "end_time": NOON if state.ended else None,
            "run_status": runs[-1] if runs else None,
            "run_statuses": list(runs) or None,
            "job_report": JobReport(job_id=7, run_reports=None, final_reports=None),
            **more,
        }
    )


def written(results: Results, kind: Format) -> str:
    return "".join(render(results, kind))


def read_junit(results: Results) -> JUnitXml:
    return JUnitXml.fromstring(written(results, Format.JUNIT).encode())


def kind_of(case: TestCase) -> str:
    kinds: dict[type, str] = {Failure: "failed", Error: "error", Skipped: "skipped"}
    return next((kinds[type(each)] for each in case.result if type(each) in kinds), "passed")


def read_tap(results: Results) -> list[Any]:
    return list(Parser().parse_text(written(results, Format.TAP)))


def points(results: Results) -> list[Any]:
    return [line for line in read_tap(results) if line.category == "test"]


MIXED = job_of(
    run_of(
        boot(
            target("good", after=2.5),
            failing(
                "bad", output=Output(stdout="abc\n", stdout_size=4, stderr="the end\n", stderr_size=9000)
            ),
            target("broken", "first", error="AttributeError: x", blame="plugin"),
            target("inside", left=False),
        ),
        boot(name="Never"),
        skipped=["Off"],
    ),
    state_err_msg="the store is full",
    verdict="error",
    blame="plugin",
)
MIXED_OUTCOMES = {
    "good": "passed",
    "bad": "failed",
    "broken": "error",
    "inside": "error",
    "Never": "error",
    "Off": "skipped",
}


# --- JUnit


def test_a_junit_reader_finds_a_suite_for_each_test_and_a_case_for_each_target() -> None:
    found = read_junit(of_job(7, MIXED, ENTRY))
    assert [suite.name for suite in found] == ["Boot", "Never", "Off"]
    assert {case.name: kind_of(case) for suite in found for case in suite} == MIXED_OUTCOMES
    first = next(iter(found))
    assert (first.tests, first.failures, first.errors, first.skipped) == (4, 1, 2, 0)
    assert (found.tests, found.failures, found.errors) == (6, 1, 3)
    assert {case.classname for case in first} == {"smoke.Boot"}


def test_a_failure_has_its_step_its_words_whose_fault_it_is_and_the_end_of_the_output() -> None:
    cases = {case.name: case for suite in read_junit(of_job(7, MIXED)) for case in suite}
    [failure] = cases["bad"].result
    assert failure.message == "step first: exit status 7: no answer"
    assert failure.type == "test"
    assert cases["bad"].system_out == "abc\n"
    assert cases["bad"].system_err == "[the end of 9000 bytes]\nthe end\n"
    [error] = cases["broken"].result
    assert (error.message, error.type) == ("step first: AttributeError: x", "plugin")
    [cut_off] = cases["inside"].result
    assert cut_off.message == "the test ended when the target was in step last: the store is full"
    [never] = cases["Never"].result
    assert never.message == "the test never had its targets: the store is full"


def test_times_are_those_of_the_targets() -> None:
    [suite] = read_junit(of_run(run_of(boot(target("a", after=2.5), target("b", after=0.25)))))
    assert [case.time for case in suite] == [2.5, 0.25]
    assert (suite.time, suite.timestamp) == (2.5, "2026-01-02T12:00:00.000")


def test_a_targets_time_begins_with_its_first_step() -> None:
    test = boot(target("a", "first"), target("a", "last", in_time=NOON + timedelta(seconds=3), after=4))
    one = msgspec.structs.replace(test, target_statuses=[test.target_statuses[-1]])  # type: ignore[index]
    [suite] = read_junit(of_run(run_of(one)))
    assert [case.time for case in suite] == [4.0]


def test_properties_say_job_requestor_tags_verdict_and_reports() -> None:
    data = ["Test Boot passes", "and more"]
    reports = [
        Report(job_id=7, run_id=1, reporter_name="TargetSuccess", report_time=NOON, success=True, data=data),
        Report(
            job_id=7, run_id=1, reporter_name="TargetSuccess", report_time=NOON, success=False, data={"a": 1}
        ),
    ]
    final = [Report(job_id=7, reporter_name="noop", report_time=NOON, success=True, data=None)]
    report = JobReport(job_id=7, run_reports=[reports], final_reports=final)
    status = job_of(run_of(boot(target("a"))), job_report=report, verdict="passed", retry_of=3)
    [suite] = read_junit(of_job(7, status, ENTRY))
    assert {each.name: each.value for each in suite.properties()} == {
        "job": "7",
        "name": "smoke",
        "requestor": "alice",
        "tags": "nightly,x86",
        "state": "completed",
        "verdict": "passed",
        "retry of": "3",
        "run": "1",
        "report TargetSuccess": "success: Test Boot passes; and more",
        "report TargetSuccess 2": 'failure: {"a":1}',
        "final report noop": "success",
    }


def test_runs_are_told_apart() -> None:
    runs = [run_of(boot(target("a")), run_id=number) for number in (1, 2)]
    assert [suite.name for suite in read_junit(of_job(7, job_of(*runs)))] == ["Boot (run 1)", "Boot (run 2)"]
    assert [suite.name for suite in read_junit(of_run(runs[1]))] == ["Boot (run 2)"]


def test_a_flaky_pass_is_marked_in_the_way_that_junits_readers_know() -> None:
    attempts = attempts_of([failing("a"), failing("b"), target("c")])
    results = of_job(
        7, job_of(run_of(boot(target("a"), failing("b"), target("c"), attempts=attempts)), flaky=True)
    )
    assert results.flaky == 1
    text = written(results, Format.JUNIT)
    found = xunit2.JUnitXml.fromstring(text.encode())
    cases = {case.name: case for suite in found for case in suite}
    assert [each.message for each in cases["a"].flaky_failures()] == [
        "attempt 1: step first: exit status 7: no answer"
    ]
    assert cases["a"].is_passed
    assert [each.type for each in cases["b"].rerun_failures()] == ["test"]
    assert not cases["c"].flaky_failures()
    assert (found.tests, found.failures) == (3, 1)
    assert "flaky: true" in written(results, Format.TAP)
    assert "passed, flaky" in written(results, Format.MARKDOWN)


def test_attempts_have_their_numbers_though_the_first_ones_are_not_kept() -> None:
    test = boot(target("a"), failing("b"), attempts=attempts_of([failing("a")], [failing("a")], first=4900))
    [suite] = of_run(run_of(test)).suites
    assert [[each.attempt for each in case.earlier] for case in suite.cases] == [[4901, 4902], []]
    assert [case.failure.attempt for case in suite.cases if case.failure] == [4903]


@pytest.mark.parametrize(
    ("state", "over", "outcome", "words"),
    [
        (JobState.STARTED, False, Outcome.SKIPPED, "not done yet: the target is in step last"),
        (JobState.STARTED, True, Outcome.ERROR, "the test ended when the target was in step last"),
        (
            JobState.CANCELLED,
            False,
            Outcome.SKIPPED,
            "the job was cancelled when the target was in step last",
        ),
        (JobState.FAILED, False, Outcome.ERROR, "the test ended when the target was in step last"),
    ],
)
def test_a_target_that_came_to_no_end_is_told_by_what_became_of_the_job(
    state: JobState, over: bool, outcome: Outcome, words: str
) -> None:
    [suite] = of_job(7, job_of(run_of(boot(target("a", left=False))), state=state), over=over).suites
    assert [(case.outcome, case.words) for case in suite.cases] == [(outcome, words)]


def test_a_target_that_never_began_and_one_between_steps_are_not_passed() -> None:
    waiting = target("a", "", in_time=ZERO_TIME, left=False)
    results = of_job(7, job_of(run_of(boot(waiting, target("b", "first"))), state=JobState.CANCELLED))
    assert [(case.outcome, case.words.partition("was ")[2]) for case in results.suites[0].cases] == [
        (Outcome.SKIPPED, "cancelled when the target was not in a step yet"),
        (Outcome.SKIPPED, "cancelled when the target was behind step first"),
    ]


def test_an_acquisition_that_failed_is_an_error_of_its_test() -> None:
    nobody = target("", "", target=None, error="targets were not free")
    [suite] = of_run(run_of(boot(nobody))).suites
    [case] = suite.cases
    assert (case.name, case.outcome, case.words) == ("Boot", Outcome.ERROR, "targets were not free")


def test_only_the_last_run_of_a_job_that_goes_on_is_not_over() -> None:
    run = run_of(boot())
    status = job_of(run, msgspec.structs.replace(run, run_id=2), state=JobState.STARTED)
    assert [suite.cases[0].outcome for suite in of_job(7, status).suites] == [Outcome.ERROR, Outcome.SKIPPED]


def recorded() -> list[tuple[str, int, JobStatus]]:
    """The statuses that ConTest's own server has answered with."""
    found = []
    for line in RECORDED.read_text().splitlines():
        exchange = json.loads(line)
        answer = exchange["response"].get("json") or {}
        if exchange["request"]["path"] == "/status" and answer.get("Data", {}).get("Status"):
            data = msgspec.convert(answer["Data"], ResponseDataStatus)
            assert data.status is not None
            found.append((exchange["case"], int(exchange["request"]["form"]["jobID"]), data.status))
    assert found
    return found


@pytest.mark.parametrize(
    ("case", "job_id", "status"), [pytest.param(*each, id=each[0]) for each in recorded()]
)
def test_statuses_of_contests_own_server_are_reported_alike_in_all_formats(
    case: str, job_id: int, status: JobStatus
) -> None:
    results = of_job(job_id, status)
    run = status.run_statuses or [status.run_status]  # type: ignore[list-item]
    targets = [
        each for one in run if one for test in one.test_statuses for each in test.target_statuses or ()
    ]
    outcomes = Counter(kind_of(each) for suite in read_junit(results) for each in suite)
    assert outcomes["failed"] == sum(bool(each.error) and each.target is not None for each in targets)
    taps = Counter("skipped" if p.skip else "passed" if p.ok else "failed" for p in points(results))
    assert taps["passed"] == outcomes["passed"]
    assert taps["failed"] == outcomes["failed"] + outcomes["error"]
    assert written(results, Format.MARKDOWN).startswith(f"# job {job_id}: ")


def check_with_xmllint(text: str) -> None:
    assert XMLLINT is not None
    done = subprocess.run([XMLLINT, "--noout", "-"], input=text.encode(), capture_output=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, b"")


NASTY = "a\x00\x1b[31m\x7f\x85\r\n\t<&>\"'--> ]]> \ud800 \ufffe \u202e \U0001f600"


@pytest.mark.skipif(XMLLINT is None, reason="xmllint is not installed")
def test_xmllint_accepts_the_document_whatever_a_device_writes() -> None:
    output = Output(stdout=NASTY, stdout_size=1, stderr=NASTY, stderr_size=99999)
    attempts = attempts_of([failing("b", NASTY, output=output)])
    test = boot(failing(NASTY, NASTY, output=output), target("b"), name=NASTY, attempts=attempts)
    status = job_of(run_of(test, skipped=[NASTY]), name=NASTY, state_err_msg=NASTY)
    check_with_xmllint(written(of_job(7, status, ENTRY), Format.JUNIT))
    check_with_xmllint(written(of_job(7, MIXED, ENTRY), Format.JUNIT))
    check_with_xmllint(written(of_job(7, job_of()), Format.JUNIT))


@given(st.text(), st.text(), st.text(alphabet=st.characters(exclude_categories=())))
def test_any_text_makes_a_document_that_says_it_again(name: str, words: str, out: str) -> None:
    output = Output(stdout=out, stdout_size=0, stderr="", stderr_size=0)
    text = written(of_run(run_of(boot(failing(name, words or "x", output=output)))), Format.JUNIT)
    root = ElementTree.fromstring(text.encode())
    [case] = root.iter("testcase")
    kept = all(each in "\t\n\r" or " " <= each < "\ud800" or "\ue000" <= each < "\ufffe" for each in name)
    assert case.get("name") == name or not kept
    assert len(case.findall("failure")) == 1


def test_what_xml_forbids_is_replaced_and_all_else_is_kept() -> None:
    output = Output(stdout="\x1b[1mok\x00\tä\r\n", stdout_size=0, stderr="", stderr_size=0)
    [suite] = read_junit(of_run(run_of(boot(failing("a\nb", output=output)))))
    [case] = suite
    assert case.name == "a\nb"
    assert case.system_out == "\ufffd[1mok\ufffd\tä\r\n"


# --- TAP


def test_a_tap_reader_counts_the_same_results() -> None:
    results = of_job(7, MIXED, ENTRY)
    lines = read_tap(results)
    assert [line.category for line in lines[:2]] == ["version", "plan"]
    assert lines[1].expected_tests == 6
    found = points(results)
    assert [each.number for each in found] == [1, 2, 3, 4, 5, 6]
    assert [(each.ok, each.skip) for each in found] == [
        (True, False),
        (False, False),
        (False, False),
        (False, False),
        (False, False),
        (True, True),
    ]
    assert found[1].description == "- Boot: bad"
    assert found[1].yaml_block == {
        "message": "exit status 7: no answer",
        "severity": "fail",
        "test": "Boot",
        "run": 1,
        "target": "bad",
        "step": "first",
        "duration_ms": 1000,
        "blame": "test",
        "stdout": ["abc"],
        "stderr": ["the end"],
    }


def test_a_job_without_tests_is_a_plan_without_tests() -> None:
    [version, plan, *_] = read_tap(of_job(7, job_of()))
    assert (version.category, plan.expected_tests, plan.skip) == ("version", 0, True)


@pytest.mark.parametrize(
    "name", ["a # SKIP b", "a #todo", "a\\# skip", "#3", "a\nok 2 - b", "a\n1..9", "\n...\n"]
)
def test_no_name_of_a_target_makes_something_else_of_its_failure(name: str) -> None:
    results = of_job(7, job_of(run_of(boot(failing(name, f"{name}\n  ...\nok 9")))))
    [found] = points(results)
    assert (found.ok, found.skip, found.todo) == (False, False, False)
    assert found.yaml_block["target"] == name


@given(st.text(), st.text(), st.text())
def test_any_text_makes_a_point_and_a_block_that_can_be_read(name: str, words: str, out: str) -> None:
    output = Output(stdout=out, stdout_size=0, stderr="", stderr_size=0)
    results = of_run(run_of(boot(failing(name, words or "x", output=output), target("b"))))
    assert len(written(results, Format.TAP).split("\n  ---\n")) == 2
    assert [each.ok for each in points(results)] == [False, True]
    assert points(results)[0].yaml_block["target"] == name


# --- Markdown


def test_markdown_shows_what_has_not_passed_first_and_the_output_of_failures() -> None:
    text = written(of_job(7, MIXED, ENTRY), Format.MARKDOWN)
    assert text.startswith("# job 7: smoke: error\n\n- requestor: alice\n- tags: nightly,x86\n")
    assert "## Boot: 1 failed, 2 error, 1 passed\n" in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert rows[1] == "| bad | **failed** | first | 1.00 s | exit status 7: no answer |"
    assert rows[4] == "| good | passed | last | 2.50 s |  |"
    assert "bad, stderr:\n\n```text\nthe end\n```\n" in text


def test_markdown_of_many_targets_is_short_and_their_names_mean_nothing_but_themselves() -> None:
    targets = [target(f"t|{number}") for number in range(MAX_ROWS + 5)]
    output = Output(stdout="", stdout_size=0, stderr="````\n# no heading\n", stderr_size=0)
    text = written(of_run(run_of(boot(*targets, failing("<b>*x*\n#", output=output)))), Format.MARKDOWN)
    assert "| \\<b\\>\\*x\\* \\# | **failed**" in text
    assert text.count("| t\\|") == MAX_ROWS - 1
    assert "and 6 more\n" in text
    assert "`````text\n````\n# no heading\n`````\n" in text


# --- the cleanup

DIRTY_OUTPUT = Output(stdout="", stdout_size=0, stderr="port 3 is stuck\n", stderr_size=16)
DIRTY = [
    target("a", "off", error="exit status 1", blame="test", output=DIRTY_OUTPUT),
    target("b", "off"),
    target("c", "off", error="KeyError: 'c'", blame="plugin"),
    target("d", "off", left=False),
]
DIRTY_LINES = [
    "cleanup of Boot: 3 failed, which decides nothing",
    "target a, step off: exit status 1 (blame: test)",
    "  stderr: port 3 is stuck",
    "target c, step off: KeyError: 'c' (blame: plugin)",
    "target d, step off: the cleanup ended when the target was in the step",
]


def test_what_failed_in_a_cleanup_is_told_in_all_formats_and_counted_in_none() -> None:
    clean = boot(*(target(name) for name in "abcd"))
    results = of_job(7, job_of(run_of(cleaned(clean, *DIRTY))), ENTRY)
    assert [each.target for each in results.suites[0].cleanup] == ["a", "c", "d"]
    found = read_junit(results)
    [suite] = found
    [told] = ElementTree.fromstring(written(results, Format.JUNIT)).findall("testsuite/system-err")
    assert (told.text or "").splitlines() == DIRTY_LINES
    assert (suite.tests, suite.failures, suite.errors, suite.skipped) == (4, 0, 0, 0)
    assert (found.tests, found.failures, found.errors) == (4, 0, 0)
    lines = read_tap(results)
    assert [line.ok for line in lines if line.category == "test"] == [True] * 4
    assert [line.text for line in lines[-5:]] == [f"# {line}" for line in DIRTY_LINES]
    assert (
        "| cleanup of | step | why |\n|---|---|---|\n| a | off | exit status 1 |\n"
        "| c | off | KeyError: 'c' (blame: plugin) |\n"
        "| d | off | the cleanup ended when the target was in the step |\n\n"
    ) in written(results, Format.MARKDOWN)


def test_nothing_is_said_of_a_cleanup_in_which_nothing_failed_or_that_goes_on() -> None:
    for entries, state in ((DIRTY[1:2], JobState.COMPLETED), (DIRTY[3:], JobState.STARTED)):
        results = of_job(7, job_of(run_of(cleaned(boot(target("d")), *entries)), state=state))
        assert not any("cleanup" in written(results, kind) for kind in Format)
        assert "system-err" not in written(results, Format.JUNIT)


def test_a_cleanup_that_failed_for_many_targets_is_cut_and_stays_readable() -> None:
    long = "\U0001f600 & " * 1_000
    output = Output(stdout=long * 2, stdout_size=1, stderr="x\n" * 60_000, stderr_size=1)
    many = [target(f"{long}{n}", "off", error=long, blame="test", output=output) for n in range(1500)]
    results = of_job(7, job_of(run_of(cleaned(boot(target("a")), *many), cleaned(boot(), DIRTY[0]))))
    text = written(results, Format.JUNIT)
    if XMLLINT is not None:
        check_with_xmllint(text)
    assert "and 500 more" in text
    assert len(written(results, Format.TAP)) < 4_000_000
    assert "and 1450 more" in written(results, Format.MARKDOWN)


@pytest.mark.skipif(XMLLINT is None, reason="xmllint is not installed")
def test_xmllint_accepts_whatever_a_device_writes_when_it_is_cleaned_up_after_retries() -> None:
    output = Output(stdout=NASTY, stdout_size=1, stderr=NASTY, stderr_size=99999)
    attempts = attempts_of([failing("a", NASTY, output=output)])
    dirty = target(NASTY, "off", error=NASTY, blame=NASTY, output=output)
    results = of_job(7, job_of(run_of(cleaned(boot(target("a"), attempts=attempts), dirty)), flaky=True))
    check_with_xmllint(written(results, Format.JUNIT))
    assert [line.ok for line in read_tap(results) if line.category == "test"] == [True]


# --- the file


def test_a_report_is_put_in_place_whole_with_its_folders_and_as_the_umask_says(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "report.xml"
    assert write_report(str(path), ["a", "ä\n"]) == str(path)
    assert path.read_bytes() == "aä\n".encode()
    plain = tmp_path / "plain"
    plain.touch()
    assert path.stat().st_mode == plain.stat().st_mode
    assert [each.name for each in path.parent.iterdir()] == ["report.xml"]


def test_a_report_that_breaks_off_leaves_the_old_one_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "report.xml"
    path.write_text("old")

    def pieces() -> Any:
        yield "new"
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_report(str(path), pieces())
    assert path.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["report.xml"]


def test_what_is_no_regular_file_is_never_replaced_and_a_link_stays(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        write_report(str(tmp_path), ["x"])
    with pytest.raises(OSError, match="no regular file"):
        write_report("/dev/null", ["x"])
    link = tmp_path / "link"
    (tmp_path / "folder").mkdir()
    link.symlink_to("folder/report")
    write_report(str(link), ["x"])
    assert link.is_symlink()
    assert (tmp_path / "folder" / "report").read_text() == "x"


def test_a_report_of_many_targets_takes_moments() -> None:
    targets = [failing(f"t{number}") for number in range(20_000)]
    results = of_run(run_of(boot(*targets)))
    for kind in Format:
        began = time.process_time()
        assert sum(map(len, render(results, kind))) > 1000
        assert time.process_time() - began < 5
