"""How bytes become lines, whatever pieces they come in."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from contest_stdio.lines import LineSplitter, Overlong


def split(limit: int, *chunks: bytes) -> list[bytes]:
    splitter = LineSplitter(limit)
    return [line for chunk in chunks for line in splitter.feed(chunk)] + splitter.end()


def test_lines_come_without_their_newlines() -> None:
    assert split(10, b"a\nb\n\nc") == [b"a", b"b", b"", b"c"]


def test_a_line_of_just_the_limit_is_a_line() -> None:
    assert split(3, b"abc\n") == [b"abc"]
    assert not isinstance(split(3, b"abc\n")[0], Overlong)


def test_a_longer_line_is_given_out_once_before_it_ends() -> None:
    splitter = LineSplitter(3)
    found = splitter.feed(b"abcd")
    assert found == [b"abcd"]
    assert isinstance(found[0], Overlong)
    assert splitter.feed(b"efgh") == []
    assert splitter.feed(b"i\nj\n") == [b"j"]


def test_of_a_longer_line_only_the_beginning_is_kept() -> None:
    (line,) = split(1000, b"x" * 100_000)
    assert isinstance(line, Overlong)
    assert len(line) < 1000


def test_a_longer_line_that_ends_the_stream_leaves_nothing() -> None:
    assert split(3, b"abc", b"d") == [b"abcd"]


@given(data=st.binary(max_size=60), cuts=st.lists(st.integers(0, 60)), limit=st.integers(1, 12))
def test_the_pieces_do_not_matter(data: bytes, cuts: list[int], limit: int) -> None:
    data = data.replace(b"\x00", b"\n")
    bounds = [0, *sorted(cuts), len(data)]
    pieces = [data[start:end] for start, end in pairwise(bounds)]
    expected = [min(len(line), limit + 1) for line in data.split(b"\n")]
    if not data.split(b"\n")[-1]:
        expected.pop()
    found = split(limit, *pieces)
    assert [limit + 1 if isinstance(line, Overlong) else len(line) for line in found] == expected
    for line, original in zip(found, data.split(b"\n"), strict=False):
        assert original.startswith(line) if isinstance(line, Overlong) else original == line
