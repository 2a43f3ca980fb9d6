"""What findings say: in the words of who wrote the descriptor, with names as they are spelt, never of Python."""

from __future__ import annotations

import datetime
import json
import re
import uuid
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, ClassVar, Literal

import msgspec
import pytest
from msgspec import Meta, Struct

from contest_core import Severity
from contest_core.settings import dec_hook
from contest_runner.binding import convert_text
from contest_runner.parts import Reporter, TargetManager
from contest_runner.step import Step, ThreadStep
from contest_runner.testing import Lab, one_test, simple, step
from contest_runner.walk import Walk
from contest_runner.words import in_words

ECHO = step("echo", text="x")
T = "/TestDescriptors/0"
S = f"{T}/TestFetcherFetchParameters/Steps/0"


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Size(Struct, forbid_unknown_fields=True):
    width: int


WORDS: list[tuple[Any, Any, str]] = [
    ("x", int, "must be a whole number, is a text"),
    (1.5, int, "must be a whole number, is a number with a point"),
    (1, str, "must be a text, is a whole number"),
    (True, str, "must be a text, is a truth value"),
    ("x", float, "must be a number, is a text"),
    ("yes", bool, "must be true or false, is a text"),
    (None, int, "must be a whole number, is null"),
    ([], dict, "must be an object, is a list"),
    ({}, list, "must be a list, is an object"),
    ("x", int | None, "must be a whole number or null, is a text"),
    ([], int | str, "must be a whole number or a text, is a list"),
    (1, Annotated[int, Meta(ge=2)], "must be a whole number, at least 2"),
    (3, Annotated[float, Meta(lt=2)], "must be a number, less than 2.0"),
    (3, Annotated[int, Meta(multiple_of=2)], "must be a multiple of 2"),
    ("abc", Annotated[str, Meta(max_length=2)], "must have at most 2 characters"),
    ([1], Annotated[list[int], Meta(min_length=2)], "must have at least 2 entries"),
    ([1, 2, 3], tuple[int, int], "must have 2 entries, has 3"),
    ("abc", Annotated[str, Meta(pattern="^x")], "must match '^x'"),
    ("green", Colour, "must be one of red, blue; is 'green'"),
    ("c", Literal["a", "b"], "must be one of a, b; is 'c'"),
    ({}, Size, "'width' is missing"),
    ({"width": 1, "w": 2}, Size, "unknown key 'w'"),
    ({"width": "x"}, Size, "must be a whole number, is a text (at width)"),
    ([[1], ["x"]], list[list[int]], "must be a whole number, is a text (at [1][0])"),
    ({"a": "x"}, dict[str, int], "must be a whole number, is a text (at *)"),
    ({"a": 1}, dict[int, int], "must be a whole number, is a text (a key)"),
    ("x", datetime.datetime, "must be a time like 2006-01-02T15:04:05Z"),
    ("x", datetime.date, "must be a date like 2006-01-02"),
    ("x", datetime.timedelta, "must be a duration in ISO 8601, like PT1H"),
    ("x", uuid.UUID, "must be a UUID"),
    ("x", Decimal, "must be a decimal number"),
    ("!", bytes, "must be a text in base64"),
]


@pytest.mark.parametrize(("value", "kind", "words"), WORDS, ids=[words for *_, words in WORDS])
def test_msgspecs_messages_are_said_in_the_words_of_a_descriptor(value: Any, kind: Any, words: str) -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert(value, kind, dec_hook=dec_hook)
    assert in_words(caught.value, kind) == words


@pytest.mark.parametrize(
    ("value", "kind"), [(value, kind) for value, kind, _ in WORDS], ids=[words for *_, words in WORDS]
)
def test_nothing_that_the_walk_says_is_python(value: Any, kind: Any) -> None:
    walk = Walk()
    walk.read(value, kind, "")
    said = " ".join(finding.message for finding in walk.findings)
    assert said
    assert not re.search(r"`|\bExpected|\bstr\b|\bint\b|\bdict\b|\barray\b|None", said), said


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("1,5", float, "'1,5' is not a number"),
        ("1_000", float, "'1_000' is not a number"),
        ("green", Colour, "must be one of red, blue; is 'green'"),
        ("x", dict[str, int], "must be an object; it is no JSON: invalid character (byte 0)"),
        ('{"a":"b"}', dict[str, int], "must be a whole number, is a text (at *)"),
        ("[1", list[int], "must be a list; it ends too early: something is not closed"),
        ("[" * 100_000, dict[str, Any], "must be an object"),
    ],
)
def test_a_parameter_that_is_wrong_is_told_in_such_words(text: str, kind: Any, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        convert_text(text, kind)


@pytest.mark.parametrize("text", ["1", "-1.5", ".5", "1.", "1e3", "inf", "NaN"])
def test_numbers_are_read_as_go_reads_them(text: str) -> None:
    assert isinstance(convert_text(text, float), float)


async def test_a_wrong_type_in_a_descriptor_is_told_in_its_words(lab: Lab) -> None:
    reading = await lab.read(simple(ECHO) | {"Runs": "1", "Tags": {}, "RunInterval": 3})
    assert {finding.path: finding.message for finding in reading.findings} == {
        "/Runs": "must be a whole number, is a text",
        "/Tags": "must be a list, is an object",
        "/RunInterval": "must be a text, is a whole number",
    }


# --- names


@pytest.mark.parametrize("wrong", ["TargetSucess", "targetsucess"])
async def test_the_nearest_name_is_spelt_as_people_know_it(lab: Lab, wrong: str) -> None:
    job = simple(ECHO, Reporting={"RunReporters": [{"Name": wrong}]})
    job["TestDescriptors"] += [one_test(ECHO, name="other", TargetManagerName="targetlits")]
    findings = (await lab.read(job)).findings
    assert {finding.nearest for finding in findings} == {"TargetSuccess", "TargetList"}
    assert any("did you mean 'TargetSuccess'?" in finding.message for finding in findings)


async def test_without_a_near_name_all_are_told_as_they_are_spelt(lab: Lab) -> None:
    [finding] = (await lab.read(simple(ECHO, Reporting={"RunReporters": [{"Name": "zzz"}]}))).findings
    assert finding.message.startswith("unknown reporter 'zzz'; there are: TargetSuccess, ")


async def test_a_wrong_parameter_has_its_nearest_in_the_message(lab: Lab) -> None:
    [finding] = (await lab.read(simple(step("echo", text="x", txt="y")))).findings
    assert finding.message == "step echo has no parameter 'txt', did you mean 'text'?"


# --- keys


@pytest.mark.parametrize(("one", "two"), [("Runs", "runs"), ("runs", "Runs"), ("RUNS", "runs")])
async def test_a_key_in_two_spellings_is_a_warning_that_says_which_counts(
    lab: Lab, one: str, two: str
) -> None:
    text = json.dumps(simple(ECHO)).replace('"Runs": 1', f'"{one}": 2, "{two}": 3')
    reading = await lab.read(text)
    assert reading.plan is not None
    assert reading.plan.runs == 3
    [finding] = reading.findings
    assert (finding.severity, finding.code, finding.path) == (Severity.WARNING, "duplicate_key", f"/{one}")
    assert finding.message == f"{one!r} and {two!r} are one key, and the later one counts: {two!r}"


async def test_two_spellings_are_seen_in_parameters_of_parts_as_well(lab: Lab) -> None:
    text = json.dumps(simple(ECHO)).replace('{"ID": "t1"}', '{"ID": "t1", "id": "t2"}')
    [finding] = (await lab.read(text)).findings
    assert finding.path == f"{T}/TargetManagerAcquireParameters/Targets/0/ID"


# --- YAML


@pytest.mark.parametrize(
    "text",
    [
        "JobName: x\nRuns: 1\n",
        "---\nJobName: x\n",
        "# a job\nJobName: x",
        "{JobName: x}",
        "'JobName': x",
        "\n- a",
    ],
)
async def test_yaml_that_is_handed_in_is_recognised(lab: Lab, text: str) -> None:
    [finding] = (await lab.read(text)).findings
    assert finding.code == "not_json"
    assert "it looks like YAML, and a server takes JSON only" in finding.message
    assert "`contest start FILE`" in finding.message


@pytest.mark.parametrize("text", ['{"JobName": x}', "nonsense", "", "<job/>", '{"a": 1', "[1, 2", "http://x"])
async def test_what_is_neither_json_nor_yaml_is_not_called_yaml(lab: Lab, text: str) -> None:
    [finding] = (await lab.read(text)).findings
    assert finding.code == "not_json"
    assert "YAML" not in finding.message


# --- classes of parts


class Nothing(Struct, frozen=True):
    """No parameters."""


class Bare(Step[Any]):
    """Lacks its parameters."""

    display_name = "Bare"

    async def run(self, target: Any, parameters: Any, context: Any) -> None: ...


class NoStruct(Bare):
    """Has parameters that are none."""

    Parameters: ClassVar[Any] = dict


class Nameless(Step[Any]):
    """Has no name."""

    Parameters: ClassVar[type[Struct]] = Nothing

    async def run(self, target: Any, parameters: Any, context: Any) -> None: ...


class Idle(ThreadStep[Any]):
    """Does nothing."""

    Parameters: ClassVar[type[Struct]] = Nothing
    display_name = "Idle"


class Stranger:
    """No step."""


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (Bare, "Bare declares no 'Parameters': declare a frozen msgspec.Struct, `Parameters = ...`"),
        (NoStruct, "NoStruct has a 'Parameters' that is none: declare a frozen msgspec.Struct"),
        (Nameless, "Nameless declares no 'display_name': declare a str, `display_name = ...`"),
        (Idle, "Idle does not define run"),
        (Stranger, "Stranger does not derive from Step or ThreadStep or AllTargetsStep"),
        (Bare(), "is no class; register a class that derives from Step"),
    ],
    ids=["no parameters", "no struct", "no name", "no run", "no step", "no class"],
)
async def test_a_step_class_that_is_wrong_is_named_with_what_it_lacks(
    lab: Lab, caplog: pytest.LogCaptureFixture, part: object, words: str
) -> None:
    lab.step("made", part)
    [finding] = (await lab.read(simple(step("made")))).findings
    assert (finding.path, finding.code) == (f"{S}/name", "broken_plugin")
    assert words in finding.message
    assert "step 'made' of plugin 'made-up' cannot be used" in finding.message
    assert words in caplog.text
    assert "Traceback" not in caplog.text


async def test_other_parts_that_lack_their_parameters_are_named_too(lab: Lab) -> None:
    class Manager(TargetManager[Any, Any]):
        AcquireParameters = Nothing

        async def acquire(self, parameters: Any, context: Any) -> Any: ...
        async def release(self, targets: Any, parameters: Any, context: Any) -> None: ...

    class Judge(Reporter[Any, Any]):
        RunParameters = FinalParameters = Nothing

        async def run_report(self, status: Any, parameters: Any, context: Any) -> Any: ...
        async def final_report(self, status: Any, parameters: Any, context: Any) -> Any: ...

    lab.add("target_managers", "made", Manager)
    lab.add("reporters", "judge", Judge)
    job = simple(ECHO, Reporting={"RunReporters": [{"Name": "judge"}]})
    job["TestDescriptors"][0]["TargetManagerName"] = "made"
    said = " ".join(finding.message for finding in (await lab.read(job)).findings)
    assert "Manager declares no 'ReleaseParameters'" in said
    assert "Judge declares no 'judges': declare a bool" in said
