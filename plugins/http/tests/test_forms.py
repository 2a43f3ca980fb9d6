"""Bodies become parameters as in ConTest; what is malformed is refused with a reason."""

from __future__ import annotations

from contextlib import suppress
from urllib.parse import parse_qsl, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contest_core.errors import InvalidMessage, RequestError, TooLarge
from contest_core.verbs import Form
from contest_http.forms import MAX_FIELDS, read_parameters

FORM = b"application/x-www-form-urlencoded"


def multipart(*parts: tuple[str, str], boundary: str = "b") -> bytes:
    whole = "".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in parts
    )
    return f"{whole}--{boundary}--\r\n".encode()


@given(
    st.dictionaries(st.text(st.characters(codec="utf-8"), min_size=1), st.text(st.characters(codec="utf-8")))
)
def test_a_form_is_read_as_the_standard_library_writes_it(fields: dict[str, str]) -> None:
    assert read_parameters(FORM, urlencode(fields).encode()) == fields


@given(st.binary(max_size=200))
def test_any_bytes_are_a_form_or_refused(body: bytes) -> None:
    with suppress(RequestError):
        found = read_parameters(FORM, body)
        expected: dict[str, str] = {}
        for name, value in parse_qsl(body.decode(), keep_blank_values=True, errors="strict"):
            expected.setdefault(name, value)
        assert found == expected


@given(st.binary(max_size=300))
def test_any_bytes_are_a_multipart_form_or_refused(tail: bytes) -> None:
    for body in (tail, b"--b\r\n" + tail, multipart(("a", "1"))[:-6] + tail):
        with suppress(RequestError):
            assert isinstance(read_parameters(b"multipart/form-data; boundary=b", body), Form)


@given(st.text(st.characters(codec="utf-8")))
def test_a_part_keeps_its_content_to_the_byte(value: str) -> None:
    boundary = "a-boundary-that-hypothesis-does-not-find"
    body = multipart(("jobDesc", value), ("requestor", "me"), boundary=boundary)
    found = read_parameters(f'multipart/form-data; boundary="{boundary}"'.encode(), body)
    assert found == {"jobDesc": value, "requestor": "me"}


@pytest.mark.parametrize(
    ("written", "meant"),
    [("a\\", "a\\"), ('a\\"b', 'a"b'), ("a\\\\b", "a\\b"), ("", "")],
    ids=["as browsers write it", "a quote, as curl does", "a backslash, as curl does", "none"],
)
def test_a_backslash_in_a_name_is_read_as_browsers_and_as_curl_write_it(written: str, meant: str) -> None:
    body = multipart((written, "1"), ("requestor", "me"))
    assert read_parameters(b"multipart/form-data; boundary=b", body) == {meant: "1", "requestor": "me"}


def test_the_first_value_of_a_name_counts() -> None:
    assert read_parameters(FORM, b"jobID=1&jobID=2&requestor=&requestor=me") == {
        "jobID": "1",
        "requestor": "",
    }
    two = multipart(("jobID", "1"), ("jobID", "2"))
    assert read_parameters(b"multipart/form-data; boundary=b", two) == {"jobID": "1"}


def test_a_content_type_may_have_parameters_and_capitals() -> None:
    assert read_parameters(b"Application/X-WWW-Form-URLencoded; charset=UTF-8", b"a=1") == {"a": "1"}


def test_a_part_without_a_line_end_before_its_delimiter_is_empty() -> None:
    body = b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n--b--'
    assert read_parameters(b"multipart/form-data; boundary=b", body) == {"a": ""}


def test_no_body_is_an_empty_form_whatever_its_type() -> None:
    for kind in (None, b"", FORM, b"application/json", b"text/plain"):
        assert read_parameters(kind, b"") == {}


@pytest.mark.parametrize(
    "value", ["", "x--b", "x\r\n--bb", "x\r\n --b--", "x\r\n--b c", "x\n--b--", "\r\n", "x\r\n"]
)
def test_what_only_looks_like_a_delimiter_is_content(value: str) -> None:
    body = multipart(("a", value), ("c", "2"))
    assert read_parameters(b"multipart/form-data; boundary=b", body) == {"a": value, "c": "2"}


@pytest.mark.parametrize(
    ("kind", "body", "words"),
    [
        (FORM, b"a=%zz", "no escape, at byte 2"),
        (FORM, b"a=%", "no escape"),
        (FORM, b"a=%ff", "not UTF-8"),
        (FORM, b"a=\xff", "not UTF-8"),
        (b"text/plain", b"a=1", "'text/plain' is not read"),
        (None, b"a=1", "without a content type"),
        (b"application/json", b"{", "no JSON"),
        (b"application/json", b"[1]", "but a list"),
        (b"application/json", b'"\xff"', "no JSON"),
        (b"application/json", b"[" * 100_000, "no JSON"),
        (b"multipart/form-data", b"--b--", "does not say its boundary"),
        (b"multipart/form-data; boundary=b", b"--b\r\n\r\nx", "ends in the middle"),
        (b"multipart/form-data; boundary=b", b"nothing", "ends in the middle"),
        (b"multipart/form-data; boundary=b", b"--b\r\nx\r\n--b--", "no end of its headers"),
        (b"multipart/form-data; boundary=b", b"--b\r\nA: b\r\n\r\nx\r\n--b--", "has no name"),
        (
            b"multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: attachment; name="a"\r\n\r\nx\r\n--b--',
            "has no name",
        ),
    ],
)
def test_what_is_malformed_is_refused_with_a_reason(kind: bytes | None, body: bytes, words: str) -> None:
    with pytest.raises(InvalidMessage, match=words):
        read_parameters(kind, body)


def test_too_many_fields_are_refused() -> None:
    with pytest.raises(TooLarge, match="fields"):
        read_parameters(FORM, b"a&" * (MAX_FIELDS + 1))
    with pytest.raises(TooLarge, match="fields"):
        read_parameters(b"multipart/form-data; boundary=b", multipart(*[("a", "1")] * (MAX_FIELDS + 2)))


def test_an_encoded_part_is_refused() -> None:
    part = b'--b\r\nContent-Disposition: form-data; name="a"\r\nContent-Transfer-Encoding: base64\r\n\r\nx\r\n--b--'
    with pytest.raises(InvalidMessage, match="is encoded"):
        read_parameters(b"multipart/form-data; boundary=b", part)
