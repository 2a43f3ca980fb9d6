from __future__ import annotations

import json
import time
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from contest_core.document import MAX_ALIASED, MAX_DEPTH, DocumentError, Place, join, read, split
from contest_core.document_tree import Text
from contest_core.document_yaml import read_yaml

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=15,
)
LOADERS = [loader for loader in (getattr(yaml, "CSafeLoader", None), yaml.SafeLoader) if loader is not None]


def value(text: str | bytes, source: str = "file.yaml") -> Any:
    return read(text, source=source).value


def refusal(text: str | bytes, source: str = "file.yaml") -> DocumentError:
    with pytest.raises(DocumentError) as caught:
        read(text, source=source)
    return caught.value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("true", True),
        ("false", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("5", 5),
        ("-5", -5),
        ("+5", 5),
        ("0x1f", 31),
        ("0o17", 15),
        ("1.0", 1.0),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("'5'", "5"),
        ("!!str 5", "5"),
        ("! 5", "5"),
        ("!!int 5", 5),
        ("|\n  5\n", "5\n"),
    ],
)
def test_a_scalar_is_what_json_knows(text: str, expected: object) -> None:
    found = value(f"a: {text}")["a"]
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize(
    "text",
    [
        *("yes", "no", "on", "off", "True", "FALSE", "y", "Null", "=", "+", ".inf", ".nan", "1.2.3"),
        *("2024-01-01", "2024-01-01T10:00:00Z", "1:30", "190:20:30", "0123", "1_000", "0b1"),
    ],
)
def test_what_only_looks_like_a_boolean_a_date_or_a_number_stays_text(text: str) -> None:
    assert value(f"a: {text}") == {"a": text}


def test_a_number_keeps_how_it_was_written() -> None:
    document = read("Version: 1.0\nquoted: '1.0'\nlist: [1.10]\n", source="job.yaml")
    assert document.value["Version"] == 1.0  # type: ignore[index]
    assert (document.scalar_text("/Version"), document.is_plain("/Version")) == ("1.0", True)
    assert (document.scalar_text("/quoted"), document.is_plain("/quoted")) == ("1.0", False)
    assert document.scalar_text("/list/0") == "1.10"
    assert document.scalar_text("/list") is document.scalar_text("/nothing") is None
    as_json = read('{"Version": 1.10, "text": "\\u00e9"}', source="job.json")
    assert (as_json.scalar_text("/Version"), as_json.is_plain("/Version")) == ("1.10", True)
    assert (as_json.scalar_text("/text"), as_json.is_plain("/text")) == ("é", False)


def test_every_value_and_key_of_yaml_has_its_place() -> None:
    text = "é: x\nlisteners:\n  - http: {port: 8080, host: h}\n  - stdio:\n"
    document = read(text, source="file.yaml")
    assert document.position("/listeners/0/http/port") == Place(3, 18)
    assert document.key_position("/listeners/0/http/port") == Place(3, 12)
    assert document.key_position("/listeners/1/stdio") == Place(4, 5)
    assert document.position("/listeners/1") == document.key_position("/listeners/1") == Place(4, 5)
    assert document.position("/é") == Place(1, 4)
    assert document.position("") == Place(1, 1)


def test_what_is_not_there_has_the_place_of_what_should_hold_it() -> None:
    document = read("a:\n  b: [1]\n", source="file.yaml")
    for pointer in ("/a/b/7", "/a/b/x", "/a/b/0/c", "/a/b/-"):
        assert document.position(pointer).line == 2
    assert document.key_position("/a/nothing") == document.position("/a")


def test_json_is_read_with_places_whatever_it_is_indented_with() -> None:
    document = read('{\n\t"a/b": {"~": [1,\n\t\t{"x": "é"}]}\n}', source="<stdin>")
    assert document.syntax == "json"
    assert document.value == {"a/b": {"~": [1, {"x": "é"}]}}
    assert document.position("/a~1b/~0/1/x") == Place(3, 9)
    assert document.key_position("/a~1b/~0/1/x") == Place(3, 4)
    assert document.key_position("/a~1b") == Place(2, 2)


def test_the_last_of_repeated_json_keys_holds_and_the_repetition_is_noted() -> None:
    document = read('{"a": 1, "A": 2,\n "a": [{"b": 1, "b": 3}]}', source="job.json")
    assert document.value == {"A": 2, "a": [{"b": 3}]}
    assert list(document.value) == ["A", "a"]
    assert document.duplicates == [("/a", Place(2, 2)), ("/a/0/b", Place(2, 17))]
    assert document.position("/a/0/b") == Place(2, 22)
    assert read('{"a": 1}', source="job.json").duplicates == []


def test_a_repeated_yaml_key_is_refused_with_both_places() -> None:
    error = refusal("a: 1\nb:\n  c: 1\n  c: 2\n")
    assert str(error) == "file.yaml:4:3: the key 'c' is already in line 3, column 3"
    assert (error.source, error.line, error.column, error.exit_code) == ("file.yaml", 4, 3, 2)
    refusal("1: a\n'1': b")


@pytest.mark.parametrize(
    ("text", "line", "column", "says"),
    [
        ("a:\n\tb: 1", 2, 1, "not with tabs"),
        ("a: [1\nb: 2", 2, 2, "did not find expected|expected ',' or"),
        ("{a: ${PORT}}", 1, 6, "quotes around \\$"),
        ("a: b: c", 1, 5, "quotes around a text with"),
        ("a: @x", 1, 4, "begins with @"),
        ("--- 1\n--- 2", 2, 1, "a file holds one"),
        ("a: *hunter2", 1, 4, "begins with \\*"),
        ("a: !hunter2", 1, 4, "begins with !"),
        ("a: !!int x", 1, 4, "tag"),
        ("a: !hunter2 [1]", 1, 4, "begins with !"),
        ("a: &a [*a]", 1, 8, "alias within"),
        ("? [1]\n: 2", 1, 3, "a key is plain text"),
        ("a: &a 1\n? *a\n: 2", 2, 3, "a key is plain text"),
        ("?\n: 1", 1, 2, "expected a key"),
        ("a: 1\nb: 1e999", 2, 4, "too large"),
        ("a: " + "9" * 5000, 1, 4, "too large"),
        ("é: \x01", 1, 4, "U\\+0001"),
        ("a:\n  <<: 5", 2, 7, "merges"),
        ("a: \ud800", 1, 4, "surrogate"),
        (b"a: 1\nb: \xff", 2, 4, "UTF-8"),
        ('{"a": 1,\n "b": nope}', 2, 7, "expected a value"),
        ('{"a": 1 "b"}', 1, 9, "expected ','"),
        ('{"a": 1, 2}', 1, 10, "expected a key"),
        ('{"a": "\t"}', 1, 8, "control character"),
        ('{"a": 1} x', 1, 10, "expected the end"),
        ('{"a": NaN}', 1, 7, "NaN"),
        ('{"a": -Infinity}', 1, 7, "Infinity"),
        ('{"a": 1e999}', 1, 7, "too large"),
        ('{"a": ' + "9" * 5000 + "}", 1, 7, "too large"),
        ('{"a": "\\ud800"}', 1, 7, "surrogate"),
    ],
)
def test_what_is_no_document_is_refused_with_its_place(
    text: str | bytes, line: int, column: int, says: str
) -> None:
    error = refusal(text)
    assert (error.line, error.column) == (line, column)
    assert "hunter2" not in str(error)
    with pytest.raises(DocumentError, match=says):
        raise error


@pytest.mark.parametrize(
    "text", ["[" * 5000, "{" * 5000, "- " * 5000, '{"a":' * 5000, '{"a":' * 300 + "1" + "}" * 300]
)
def test_deep_nesting_is_refused_with_a_place(text: str) -> None:
    error = refusal(text)
    assert "nest" in error.message
    assert (error.line, error.column > 1) == (1, True)


@pytest.mark.parametrize("loader", LOADERS)
def test_nesting_within_the_limit_is_read_by_either_loader(loader: Any) -> None:
    for text in ("[" * MAX_DEPTH + "]" * MAX_DEPTH, "- " * MAX_DEPTH):
        read_yaml(Text(text, "x"), loader=loader)
    for text in ("[" * 5000, "- " * 5000):
        with pytest.raises(DocumentError, match="nest"):
            read_yaml(Text(text, "x"), loader=loader)


def test_an_alias_stands_for_its_value_at_a_place_of_its_own() -> None:
    document = read("a: &a {x: [1]}\nb: *a\n", source="file.yaml")
    assert document.value == {"a": {"x": [1]}, "b": {"x": [1]}}
    assert document.position("/b") == Place(2, 4)
    assert document.position("/b/x/0") == Place(1, 12)


def test_a_merge_key_fills_in_what_the_mapping_has_not() -> None:
    text = "a: &a {x: 1, y: 2}\nb: &b {y: 3, z: 4}\nc:\n  <<: [*a, *b]\n  x: 9\n"
    document = read(text, source="file.yaml")
    assert document.value["c"] == {"x": 9, "y": 2, "z": 4}  # type: ignore[index]
    assert document.key_position("/c/y") == Place(1, 14)
    assert value('a: {"<<": 1}') == {"a": {"<<": 1}}


def test_what_aliases_stand_for_is_bounded_in_number_and_depth() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    assert str(MAX_ALIASED) in refusal("\n".join(lines)).message
    half = MAX_DEPTH // 2
    deep = ["a0: &a0 []"]
    deep += [f"a{n}: &a{n} {'[' * half}*a{n - 1}{']' * half}" for n in range(1, 4)]
    assert "nest" in refusal("\n".join(deep)).message


def test_three_thousand_lines_are_read_and_placed_well_within_a_second() -> None:
    text = "".join(f"- name: 't{n}'\n  steps: [a, {{x: {n}}}]\n" for n in range(1500))
    as_json = json.dumps(value(text), indent=1)
    for content in (text, f'{{"x": {as_json}}}'):
        begun = time.process_time()
        document = read(content, source="x")
        for n in range(0, 1500, 100):
            document.position(f"/{n}/steps/1/x")
        assert time.process_time() - begun < 1


@settings(max_examples=150, deadline=None)
@given(JSON_VALUES)
def test_json_means_the_same_read_as_json_and_as_yaml(found: object) -> None:
    text = json.dumps({"": found}, indent=2)
    document = read(text, source="x.json")
    assert document.value == {"": found}
    pairs: list[tuple[str, Any]] = [("", document.value)]
    while pairs:
        pointer, each = pairs.pop()
        inner = each.items() if isinstance(each, dict) else enumerate(each) if isinstance(each, list) else ()
        pairs += [(join(pointer, str(key)), below) for key, below in inner]
        place, first = document.position(pointer), json.dumps(each)[0]
        assert text.splitlines()[place.line - 1][place.column - 1] == first


@settings(max_examples=400, deadline=2000)
@given(
    st.one_of(
        st.text(max_size=60),
        st.text(alphabet="{}[]:,-?&*!|>'\"%@#~<\\ \n\tab1.ue$", max_size=60),
        st.text(alphabet='{}[]:,"\\ \n1.-eutrfalsn', max_size=60).map('{"'.__add__),
        st.binary(max_size=60),
    )
)
def test_any_text_is_a_document_or_a_document_error(text: str | bytes) -> None:
    for source in ("x.json", "x.yaml"):
        try:
            document = read(text, source=source)
        except DocumentError as error:
            place = Place(error.line, error.column)
        else:
            json.dumps(document.value, allow_nan=False).encode()
            place = document.position("")
        assert min(place) >= 1


@settings(max_examples=300, deadline=2000)
@given(st.text(alphabet="{}[]:,-?&*!|>'\"%@#~<\\ \n\tab1.uxU0D8eF$", max_size=60))
def test_the_slow_loader_gives_no_other_error_either(text: str) -> None:
    for loader in LOADERS:
        try:
            read_yaml(Text(text, "x"), loader=loader)
        except DocumentError:
            continue


@given(st.text(max_size=20), st.text(max_size=20))
def test_pointers_are_joined_and_split(first: str, second: str) -> None:
    assert split(join(join("", first), second)) == [first, second]
    assert split("") == []
