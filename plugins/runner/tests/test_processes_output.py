"""What is kept of a stream, and the words for an exit: no process is run."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contest_runner.processes import Output, describe_exit


@given(chunks=st.lists(st.binary(max_size=300), max_size=20), keep=st.integers(0, 500))
def test_the_tail_is_the_last_bytes_of_all_that_was_fed(chunks: list[bytes], keep: int) -> None:
    output = Output(keep=keep, capture=None)
    for chunk in chunks:
        output.feed(chunk)
    everything = b"".join(chunks)
    assert output.tail == everything[len(everything) - min(keep, len(everything)) :]
    assert output.size == len(everything)
    assert output.whole is None


@given(
    chunks=st.lists(st.binary(max_size=300), max_size=20),
    keep=st.integers(0, 500),
    capture=st.integers(0, 3000),
)
def test_a_capture_is_all_or_both_ends_with_a_note(chunks: list[bytes], keep: int, capture: int) -> None:
    output = Output(keep=keep, capture=capture)
    for chunk in chunks:
        output.feed(chunk)
    everything = b"".join(chunks)
    assert output.tail == everything[len(everything) - min(keep, len(everything)) :]
    assert output.whole is not None
    if len(everything) <= capture:
        assert output.whole == everything
    elif output.whole != everything:
        head, note, end = output.whole.partition(b"\n[... ")
        left_out, _, end = end.partition(b" bytes left out ...]\n")
        if b"[..." not in everything:
            assert note
            assert everything.startswith(head)
            assert everything.endswith(end)
            assert len(head) + int(left_out) + len(end) == len(everything)
            assert len(head) + len(end) <= max(capture, capture // 2 + keep)


def test_a_long_stream_is_trimmed_again_and_again_and_stays_small() -> None:
    output = Output(keep=10, capture=None)
    for number in range(100_000):
        output.feed(b"%08d\n" % number)
    assert output.tail == b"\n00099999\n"
    assert output.size == 900_000
    assert output.__sizeof__() < 1000
    assert len(output._end) < 100_000


@pytest.mark.parametrize(
    ("fed", "text"),
    [
        (b"plain", "plain"),
        ("ab€".encode(), "b€"),
        ("€€".encode(), "€"),
        ("€abc".encode(), "abc"),
        (b"12345\xff\0x", "5\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}x"),
        (b"\x80\x80\x80\x80\x80\x80\x80", "\N{REPLACEMENT CHARACTER}" * 4),
    ],
)
def test_text_is_readable_whatever_was_written_and_wherever_it_was_cut(fed: bytes, text: str) -> None:
    output = Output(keep=5 if fed == b"plain" else 4, capture=None)
    output.feed(fed)
    assert output.text() == text


@pytest.mark.parametrize(
    ("returncode", "text"),
    [
        (0, "exit status 0"),
        (3, "exit status 3"),
        (-9, "signal: killed"),
        (-15, "signal: terminated"),
        (-11, "signal: segmentation fault"),
        (-34, "signal: signal 34"),
    ],
)
def test_an_exit_is_described_as_go_does(returncode: int, text: str) -> None:
    assert describe_exit(returncode) == text
