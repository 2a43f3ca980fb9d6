"""The one table of verbs, and how a wire's parameters become arguments."""

from __future__ import annotations

import inspect
import json

import pytest

from contest_core import (
    API,
    CURRENT_API_VERSION,
    VERBS,
    Contest,
    EventType,
    Form,
    InvalidParameters,
    JobManager,
    JobQuery,
    JobState,
    ResponseType,
    Verb,
    events,
)
from contest_core.verbs import arguments

CONTEST = ["start", "stop", "status", "retry", "list", "version"]


def parameters_of(function: object) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(function).parameters)  # type: ignore[arg-type]


def test_contests_verbs_come_first_and_ours_behind_them() -> None:
    assert list(VERBS) == [*CONTEST, "validate", "locks", "watch"]
    assert CURRENT_API_VERSION == 5


def test_contests_verbs_have_no_parameter_more_that_a_job_manager_need_not_declare() -> None:
    known = {"jobID", "jobDesc", "states", "tags"}
    for name in CONTEST:
        for parameter in VERBS[name].parameters:
            assert (parameter.capability is None) == (parameter.name in known)


@pytest.mark.parametrize("verb", VERBS.values(), ids=lambda verb: verb.name)
def test_a_verb_is_a_method_of_the_api_with_its_parameters_as_arguments(verb: Verb) -> None:
    method = parameters_of(getattr(API, verb.name))
    if verb.name == "list":
        assert {parameter.argument for parameter in verb.parameters} == set(JobQuery.__struct_fields__)
        assert "query" in method
        return
    for parameter in verb.parameters:
        argument = method[parameter.argument]
        required = argument.default is inspect.Parameter.empty
        assert required == (parameter.required is not None)
        assert required or argument.default == parameter.default
    for name in set(method) - {"self", "caller", "job_id", "since"}:
        assert name in {parameter.argument for parameter in verb.parameters}


@pytest.mark.parametrize("verb", VERBS.values(), ids=lambda verb: verb.name)
def test_a_verb_is_a_method_of_the_client_and_but_for_version_of_the_job_manager(verb: Verb) -> None:
    assert inspect.isfunction(getattr(Contest, verb.name))
    assert hasattr(JobManager, verb.name) == (verb.name != "version")
    api, client = (parameters_of(getattr(kind, verb.name)) for kind in (API, Contest))
    assert set(api) - {"caller"} == set(client)


@pytest.mark.parametrize("verb", VERBS.values(), ids=lambda verb: verb.name)
def test_a_verbs_event_answer_and_message_go_by_its_name(verb: Verb) -> None:
    assert verb.response is ResponseType[verb.name.upper()]
    assert verb.permission == verb.name
    if verb.name == "version":
        assert verb.event is None
        assert not verb.needs_requestor
        return
    assert verb.event is EventType[verb.name.upper()]
    assert verb.needs_requestor
    message = getattr(events, f"Event{verb.name.capitalize()}Msg")
    assert "requestor" in message.__struct_fields__
    if verb.name != "list":
        assert {parameter.argument for parameter in verb.parameters} <= set(message.__struct_fields__)


def test_what_changes_nothing_is_marked_as_reading() -> None:
    changing = {name for name, verb in VERBS.items() if not verb.reads}
    assert changing == {"start", "stop", "retry"}


@pytest.mark.parametrize("verb", VERBS.values(), ids=lambda verb: verb.name)
def test_a_capability_is_the_verb_and_the_argument(verb: Verb) -> None:
    for parameter in verb.parameters:
        assert parameter.capability in (None, f"{verb.name}.{parameter.argument}")


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (7, 7),
        ("7", 7),
        ("+5", 5),
        ("-1", -1),
        (-1, -1),
        ("007", 7),
        ("0" * 100 + "7", 7),
        (2**63 - 1, 2**63 - 1),
        (str(2**63 - 1), 2**63 - 1),
        (-(2**63), -(2**63)),
        (str(-(2**63)), -(2**63)),
    ],
)
def test_a_job_id_is_a_number_or_its_decimal_text(given: object, meant: int) -> None:
    for parameters in ({"jobID": given}, Form(jobID=str(given))):
        assert arguments(VERBS["status"], parameters) == {"job_id": meant}


def test_a_whole_number_with_a_point_is_a_number_as_json_schema_has_it() -> None:
    (found,) = arguments(VERBS["status"], {"jobID": 7.0}).values()
    assert (found, type(found)) == (7, int)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("x", "'x' is not a decimal number"),
        ("", "cannot be empty"),
        (None, "cannot be empty"),
        (" 7", "not a decimal number"),
        ("7 ", "not a decimal number"),
        ("1_000", "not a decimal number"),
        ("٣", "not a decimal number"),
        ("²", "not a decimal number"),
        ("0x10", "not a decimal number"),
        ("+", "not a decimal number"),
        ("+-5", "not a decimal number"),
        ("5.0", "not a decimal number"),
        (5.5, "5.5 is not a decimal number"),
        (1e300, "out of range"),
        (True, "True is not a decimal number"),
        ([7], "a list is not a decimal number"),
        ({"a": 1}, "a dict is not a decimal number"),
        (2**63, "out of range"),
        (-(2**63) - 1, "out of range"),
        (str(2**63), "out of range"),
        (str(-(2**63) - 1), "out of range"),
        ("9" * 10_000, "out of range"),
        pytest.param(10**5_000, "out of range", id="very long"),
    ],
)
def test_what_is_no_job_id_is_refused_in_words(given: object, words: str) -> None:
    with pytest.raises(InvalidParameters, match=words) as refused:
        arguments(VERBS["status"], {"jobID": given})
    assert refused.value.parameter == "jobID"
    assert refused.value.verb == "Status"
    assert refused.value.message.startswith("Status failed: ")
    assert len(refused.value.message) < 200


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("JobStateStarted", (JobState.STARTED,)),
        ("JobStateCompleted,JobStateFailed", (JobState.COMPLETED, JobState.FAILED)),
        (["JobStateCompleted", "JobStateFailed"], (JobState.COMPLETED, JobState.FAILED)),
        ([], ()),
    ],
)
def test_states_are_a_list_or_a_text_with_commas(given: object, meant: tuple[JobState, ...]) -> None:
    assert arguments(VERBS["list"], {"states": given}) == {"states": meant}


@pytest.mark.parametrize(
    ("given", "meant"),
    [("a", ("a",)), ("a,b", ("a", "b")), (["a", "b"], ("a", "b")), ("a, b", ("a", " b")), ("", ()), ([], ())],
)
def test_tags_are_a_list_or_a_text_with_commas_that_is_not_trimmed(given: object, meant: object) -> None:
    assert arguments(VERBS["list"], {"tags": given}) == {"tags": meant}


@pytest.mark.parametrize(
    "given", [7, True, {"a": 1}, ["a", 7], [["a"]], "Nope", "Unknown", "jobstatestarted", ","]
)
def test_what_is_no_list_of_states_is_refused(given: object) -> None:
    with pytest.raises(InvalidParameters, match="List failed: states: ") as refused:
        arguments(VERBS["list"], {"states": given})
    if isinstance(given, str):
        assert "JobStateCancelled" in refused.value.message


@pytest.mark.parametrize(
    ("given", "meant"), [(True, True), (False, False), ("true", True), ("1", True), ("0", False)]
)
def test_a_flag_is_a_boolean_or_its_text(given: object, meant: bool) -> None:
    assert arguments(VERBS["retry"], {"jobID": 1, "failedOnly": given})["failed_only"] is meant


@pytest.mark.parametrize("given", ["yes", "", 1, 0, 1.0, [], {}])
def test_what_is_no_flag_is_refused(given: object) -> None:
    with pytest.raises(InvalidParameters, match="failedOnly"):
        arguments(VERBS["retry"], {"jobID": 1, "failedOnly": given})


def test_a_descriptor_is_a_text_or_an_object_that_becomes_one() -> None:
    assert arguments(VERBS["start"], {"jobDesc": "{}"}) == {"job_descriptor": "{}"}
    given = {"JobName": "ü", "Runs": 1, "f": 1.5, "n": None}
    assert json.loads(arguments(VERBS["start"], {"jobDesc": given})["job_descriptor"]) == given


@pytest.mark.parametrize("given", [None, "", [], 7, True])
def test_a_descriptor_cannot_be_missing(given: object) -> None:
    with pytest.raises(InvalidParameters, match=r"job desc|jobDesc"):
        arguments(VERBS["start"], {"jobDesc": given})


def test_in_a_form_an_empty_text_is_none() -> None:
    form = Form(jobDesc="{}", startKey="", strict="")
    assert arguments(VERBS["start"], form) == {"job_descriptor": "{}"}
    assert arguments(VERBS["list"], Form(states="", tags="")) == {}
    with pytest.raises(InvalidParameters, match="Stop failed: job ID cannot be empty"):
        arguments(VERBS["stop"], Form(jobID=""))


def test_a_name_that_the_verb_does_not_have_is_ignored_in_a_form_and_refused_in_json() -> None:
    assert arguments(VERBS["stop"], Form(jobID="1", color="red")) == {"job_id": 1}
    with pytest.raises(InvalidParameters, match="no parameter 'color'; there are jobID") as refused:
        arguments(VERBS["stop"], {"jobID": 1, "color": "red"})
    assert refused.value.parameter == "color"


def test_what_every_verb_may_have_is_refused_nowhere() -> None:
    for verb in VERBS.values():
        given = {"requestor": "me", "apiVersion": 5, "jobID": 1, "jobDesc": "{}"}
        own = {name: given[name] for name in given if name in {p.name for p in verb.parameters}}
        arguments(verb, {"requestor": "me", "apiVersion": 5, **own})
