from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contest_core import settings as settings_module
from contest_core.settings import (
    ByteSize,
    Duration,
    Secret,
    dec_hook,
    enc_hook,
    format_duration,
    parse_duration,
    schema_hook,
)

DATA = Path(__file__).parents[1] / "data"
# The second table is answers of Go 1.26's time package, to texts written by hand and by chance.
GO = [
    json.loads(line)
    for name in ("durations.jsonl", "durations-more.jsonl")
    for line in (DATA / name).read_text("utf-8").rstrip("\n").split("\n")
]
INT64 = st.integers(min_value=-(1 << 63), max_value=(1 << 63) - 1)


class Example(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    wait: Duration = Duration("3s")
    most: ByteSize = ByteSize("16MiB")
    token: Secret | None = None


def convert(**values: object) -> Example:
    return msgspec.convert(values, Example, dec_hook=dec_hook)


@pytest.mark.parametrize("row", GO, ids=lambda row: repr(row["text"]))
def test_a_duration_is_read_and_written_as_go_does_it(row: dict[str, Any]) -> None:
    if row.get("error"):
        with pytest.raises(ValueError, match="duration"):
            parse_duration(row["text"])
    else:
        assert parse_duration(row["text"]) == row["nanoseconds"]
        assert format_duration(row["nanoseconds"]) == row["canonical"]


@pytest.mark.parametrize("text", ["9223372036854775808ns", "9" * 5000 + "h", "-2562047h47m16.854775809s"])
def test_a_duration_beyond_64_bits_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="292 years"):
        parse_duration(text)


def test_a_duration_without_a_unit_is_told_about_units() -> None:
    with pytest.raises(ValueError, match="needs a unit"):
        parse_duration("10")


@given(INT64)
def test_every_duration_survives_being_written_and_read(nanoseconds: int) -> None:
    assert parse_duration(format_duration(nanoseconds)) == nanoseconds


@settings(max_examples=300)
@given(st.one_of(st.text(max_size=40), st.text(alphabet="0123456789.+-nuµmsh ", max_size=40)))
def test_any_text_is_a_duration_or_a_value_error(text: str) -> None:
    try:
        nanoseconds = parse_duration(text)
    except ValueError:
        return
    assert -(1 << 63) <= nanoseconds < 1 << 63
    assert parse_duration(format_duration(nanoseconds)) == nanoseconds


def test_a_duration_is_exact_ordered_and_no_number() -> None:
    long, short = Duration("2562047h47m16.854775807s"), Duration("100ms")
    assert long.nanoseconds == (1 << 63) - 1
    assert short.seconds == 0.1
    assert short < long
    assert Duration.from_seconds(0.1) == short
    assert {short, Duration(100_000_000)} == {short}
    assert (str(short), repr(short), bool(Duration("0"))) == ("100ms", "Duration('100ms')", False)
    assert pickle.loads(pickle.dumps(short)) == copy.deepcopy(short) == short
    assert not isinstance(short, int | float)
    with pytest.raises(TypeError):
        assert short < 1
    with pytest.raises(AttributeError):
        short.nanoseconds = 1


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("16MiB", 16 << 20),
        ("1KB", 1000),
        ("1kb", 1000),
        ("1.5GiB", 3 << 29),
        ("4096", 4096),
        ("7 B", 7),
        ("0", 0),
    ],
)
def test_a_size_is_read_in_1000s_and_1024s(text: str, size: int) -> None:
    assert ByteSize(text) == size


@pytest.mark.parametrize("text", ["", "MiB", "-1", "1.5", "1XB", "1.0001KiB", "\uff11KB", "1e3"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="size"):
        ByteSize(text)


@given(st.integers(min_value=0, max_value=1 << 60))
def test_every_size_survives_being_written_and_read(size: int) -> None:
    assert ByteSize(str(ByteSize(size))) == size


def test_a_secret_is_shown_by_nothing_but_reveal() -> None:
    secret = Secret("hunter2")
    shown = [str(secret), repr(secret), f"{secret}", "%s" % secret, repr(convert(token="hunter2"))]  # noqa: UP031
    encoded = msgspec.json.encode(Example(token=secret), enc_hook=enc_hook).decode()
    assert not [text for text in (*shown, encoded) if "hunter2" in text]
    assert secret.reveal() == copy.deepcopy(secret).reveal() == "hunter2"
    assert secret == Secret("hunter2") != Secret("other")
    with pytest.raises(TypeError, match="in clear"):
        pickle.dumps(secret)


def test_settings_are_made_of_what_a_document_holds() -> None:
    example = convert(wait="1m", most=4096, token="x")
    assert (example.wait.seconds, example.most) == (60, 4096)
    assert convert(wait=0).wait == Duration()


@pytest.mark.parametrize(
    "values",
    [
        {"wait": 3},
        {"wait": 1.5},
        {"wait": True},
        {"wait": False},
        {"most": 1.5},
        {"most": True},
        {"token": 12345},
    ],
)
def test_a_value_of_the_wrong_kind_is_refused_without_showing_it(values: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        convert(**values)
    assert "12345" not in str(caught.value)


def test_the_three_types_have_a_json_schema() -> None:
    for kind in (Duration, ByteSize, Secret):
        assert msgspec.json.schema(kind, schema_hook=schema_hook)


def test_the_module_imports_nothing_slow() -> None:
    # By its path: importing the package would bring in its other modules.
    code = "import runpy, sys; before = {*sys.modules}; runpy.run_path(sys.argv[1]); print(*{*sys.modules} - before)"
    loaded = subprocess.run(
        [sys.executable, "-c", code, str(settings_module.__file__)],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert not {"yaml", "inspect", "asyncio", "difflib", "logging"} & set(loaded.stdout.split())
