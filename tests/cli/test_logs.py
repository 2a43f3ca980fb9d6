"""Logs on stderr: their two forms, and readers that are slow or gone."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterator

import pytest

from contest_core.cli.logs import Log, LogStream


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for end in (reader, writer):
        try:
            os.close(end)
        except OSError:
            continue


def record(message: str, *arguments: object, error: bool = False) -> logging.LogRecord:
    info = None
    if error:
        try:
            raise ValueError("oops")
        except ValueError as raised:
            info = (ValueError, raised, raised.__traceback__)
    return logging.LogRecord("contest.x", logging.WARNING, "f.py", 1, message, arguments, info)


def written(form: str, pipe: tuple[int, int], *records: logging.LogRecord) -> list[str]:
    reader, writer = pipe
    log = Log(LogStream(writer), form=form)
    for each in records:
        log.emit(each)
    log.flush()
    os.close(writer)
    with os.fdopen(os.dup(reader)) as file:
        return file.read().splitlines()


def test_text_is_one_record_a_line_and_no_message_can_forge_one(pipe: tuple[int, int]) -> None:
    first, forged, *_ = written("text", pipe, record("a\n2026-01-01 CRITICAL contest: %s", "b"))
    assert re.fullmatch(r"[-0-9]+T[:0-9]+\.[0-9]{3}[-+][0-9]{4} WARNING contest\.x: a", first)
    assert forged == "    2026-01-01 CRITICAL contest: b"


def test_a_line_of_the_log_can_do_nothing_to_a_terminal(pipe: tuple[int, int]) -> None:
    (line,) = written("text", pipe, record("%s", "a\x1b[2Jb\rc\u202ed\u2028e\tf"))
    assert line.endswith(": a\\x1b[2Jb\\rc\\u202ed\\u2028e\tf")


def test_json_is_one_object_a_line_with_the_traceback_in_it(pipe: tuple[int, int]) -> None:
    (line,) = written("json", pipe, record("a\n%s", "é", error=True))
    entry = json.loads(line)
    assert (entry["level"], entry["logger"], entry["message"]) == ("warning", "contest.x", "a\né")
    assert "ValueError: oops" in entry["error"]


def test_an_announcement_is_bare_text_or_a_json_record(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    for form in ("text", "json"):
        log = Log(LogStream(writer), form=form)
        log.announce("listening on x")
        log.flush()
    text, entry = os.read(reader, 4096).decode().splitlines()
    assert text == "listening on x"
    assert json.loads(entry)["message"] == "listening on x"


def test_a_reader_that_does_not_read_holds_nobody_up_and_is_told_what_it_missed(
    pipe: tuple[int, int],
) -> None:
    reader, writer = pipe
    stream = LogStream(writer, limit=10)
    for _ in range(5000):
        stream.write("x" * 1000)
    stream.close(0.05)
    text = b""
    while b"were dropped: nobody read them in time" not in text:
        text += os.read(reader, 1 << 20)
    assert re.search(rb"[0-9]+ lines of the log were dropped", text)
    stream.close(5)


def test_a_reader_that_is_gone_is_no_error(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.close(reader)
    stream = LogStream(writer)
    stream.write("into the void")
    stream.close(5)
