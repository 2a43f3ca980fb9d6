"""No template costs more than a bounded time and a bounded memory, and none breaks the engine."""

from __future__ import annotations

import re
import sys
import time
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct

from contest_runner.templates import DEFAULT_LIMITS, Limits, TemplateError, compile


class Target(Struct, frozen=True):
    id: str
    fqdn: str = ""
    primary_ipv4: str | None = None
    primary_ipv6: str | None = None
    state: bytes | None = None


MIB = 1024 * 1024
TARGET = Target(id="T-1", fqdn="h.example", primary_ipv4="192.0.2.7", state=b'{"a": 1}')
LARGE = Target(id="x" * 16 * MIB, fqdn="ü" * 4 * MIB, state=b"1" * 16 * MIB)
SMALL = Limits(tokens=2_000, nesting=10, depth=20, output=1_000, steps=2_000)
VARIABLES = {"v": {"s": b'"hello"', "i": b"42"}}


def refusal(template: str, target: Target = TARGET, limits: Limits = DEFAULT_LIMITS) -> str:
    """What a template is refused with, whenever."""
    begun = time.process_time()
    with pytest.raises(TemplateError) as caught:
        compile(template, limits=limits).render(target)
    assert time.process_time() - begun < 20, "a bound is to be reached in about a second"
    return caught.value.message


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{.ID}}" * MIB, "more than 100000 tokens"),
        ("{{/**/}}" * MIB, "more than 100000 tokens"),
        ("{{" + "(" * MIB, "nested more than 50 deep"),
        ("{{if .ID}}" * MIB, "nested more than 50 deep"),
        ("{{if 0}}" + "{{else if 0}}" * MIB, "more than 100000 tokens"),
        ("{{.ID" + " | print" * MIB + "}}", "more than 100000 tokens"),
        ('{{"' + "a\\" * MIB, "unterminated quoted string"),
        ("{{" + "1" * MIB + "}}", "illegal number syntax"),
        ("{{" + "a" * MIB + "}}", 'function "aaa'),
    ],
)
def test_a_template_that_is_too_large_is_refused_when_it_is_compiled(template: str, reason: str) -> None:
    assert refusal(template).startswith(reason)


@pytest.mark.parametrize(
    "template",
    [
        "{{range 1000000000}}{{end}}",
        "{{range 100000}}{{range 100000}}x{{end}}{{end}}",
        '{{define "a"}}{{template "b"}}{{template "b"}}{{end}}'
        + '{{define "b"}}{{range 9}}{{range 9}}{{range 9}}{{range 9}}{{end}}{{end}}{{end}}{{end}}{{end}}'
        + '{{range 99}}{{template "a"}}{{end}}',
        '{{$x := "0123456789"}}{{range 100}}{{$x = print $x $x}}{{end}}',
        '{{$x := "0123456789"}}{{range 100}}{{$x = printf "%q%x" $x $x}}{{end}}',
        '{{range 1000000}}{{$x := printf "%1000000d" 1}}{{end}}',
        "{{range 1000000}}{{$x := len $.FQDN}}{{end}}",
        "{{range 1000000}}{{$x := ToUpper $.FQDN}}{{end}}",
        "{{range 1000000}}{{$x := slice $.TargetManagerState 1}}{{end}}",
        "{{range 1000000}}{{$x := $.String}}{{end}}",
        "{{range 1000000}}{{$x := eq $.ID $.ID}}{{end}}",
        f'{{{{range 1000000}}}}{{{{$x := printf "{"%d" * 30}"}}}}{{{{end}}}}',
        "{{js .ID}}",
    ],
)
def test_work_without_end_is_stopped(template: str) -> None:
    assert refusal(template, LARGE) == "takes more than 250000 steps"


@pytest.mark.parametrize(
    "template",
    [
        "{{range 100000}}" + "x" * 1000 + "{{end}}",
        "{{.ID}}{{.ID}}",
        "{{.ID}}" * 100,
        "{{.TargetManagerState}}{{.ID}}",
        "{{.}}",
    ],
)
def test_output_without_end_is_stopped(template: str) -> None:
    assert "is longer than 16777216 characters" in refusal(template, LARGE)


def test_one_function_makes_no_text_beyond_the_limit() -> None:
    wide = '{{printf "%1000000d' + "%1000000d" * 30 + '"' + " 1" * 31 + "}}"
    assert refusal(wide) == "error calling printf: the result is longer than 16777216 characters"
    template = compile("{{F}}", {"F": lambda: "x" * 17 * MIB})
    with pytest.raises(TemplateError, match="error calling F: the result is longer than 16777216"):
        template.render(TARGET)


def test_templates_that_invoke_each_other_end() -> None:
    template = (
        '{{define "a"}}{{if 1}}{{template "b" .}}{{end}}{{end}}{{define "b"}}{{template "a" .}}{{end}}'
        '{{template "a"}}'
    )
    assert refusal(template) == "exceeded maximum template depth (100)"
    assert refusal('{{template ""}}') == "exceeded maximum template depth (100)"


@pytest.mark.parametrize(
    "template",
    [
        "{{" + "print (len (" * 24 + ".ID" + "))" * 24 + "}}",
        "{{if .ID}}" * 49 + "x" + "{{end}}" * 49,
        '{{define "a"}}{{if 1}}{{template "a" .}}{{end}}{{end}}{{template "a" .}}',
    ],
)
@pytest.mark.parametrize("left", [60, 150, 300, 600])
def test_a_caller_deep_in_the_stack_gets_an_answer_or_an_error(template: str, left: int) -> None:
    def at(depth: int) -> None:
        if depth:
            at(depth - 1)
            return
        message = _error_message(template)
        assert message is None or "deep" in message or "depth" in message

    frame, used = sys._getframe(), 0
    while frame is not None:
        frame, used = frame.f_back, used + 1  # type: ignore[assignment]
    at(max(0, sys.getrecursionlimit() - used - left))


def test_what_is_allowed_is_enough_for_real_templates() -> None:
    steps = "".join([f'{{{{if eq .ID "t{number}"}}}}{number}{{{{end}}}}' for number in range(2000)])
    assert compile(steps).render(Target(id="t7")) == "7"
    assert len(compile('{{range 10000}}{{printf "%05d" .}}\n{{end}}').render(TARGET)) == 60_000
    assert compile("{{if .ID}}" * 50 + "x" + "{{end}}" * 50).render(TARGET) == "x"


_PIECES = [
    *"{{ }} {{- -}} /* */ ( ) | , := = $ $x $y . .ID .FQDN .PrimaryIPv4 .PrimaryIPv6 .String .Nope".split(),
    *"if else end range with define template block break continue nil true false".split(),
    *"print printf println len index slice html js urlquery call eq ne lt le gt ge and or not".split(),
    *'ToUpper Title StringVar IntVar do_nothing nope 0 1 -1 2.5 1e9 0x1F \'a\' "t" `r` "v.s" "%05d%v"'.split(),
    *(" ", "\n", "é", '"%[2]*.[1]*f"', '"%!"', "\\", '"', "1i", ".TargetManagerState", "\ud800"),
]
_TEXT = st.lists(st.sampled_from(_PIECES), max_size=30).map(" ".join) | st.lists(
    st.sampled_from(_PIECES), max_size=30
).map("".join)
_ARGUMENT = st.sampled_from(
    [
        *'1 2.5 1i "é" true nil . .ID .PrimaryIPv4 .PrimaryIPv6 .TargetManagerState $x "%08.3[1]*q|%x"'.split(),
        *("(len .ID)", "(index .ID 0)", "(or nil)", "-7", '"\\xff"'),
    ]
)
_FUNCTION = st.sampled_from(
    "print printf println len index slice html js urlquery call eq ne lt le gt ge and or not "
    "ToUpper ToLower Title StringVar IntVar do_nothing".split()
)
_CALL = st.builds(
    lambda name, arguments: " ".join([name, *arguments]), _FUNCTION, st.lists(_ARGUMENT, max_size=4)
)
_PIPE = st.lists(_CALL, min_size=1, max_size=3).map(" | ".join)


def _nested(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    body = st.lists(inner, max_size=3).map("".join)
    opening = st.sampled_from(
        ["if {}", "with {}", "range {}", "range $i, $x := {}", "range $x = {}", "with $x := {}"]
    )
    return st.builds(
        lambda begin, pipe, first, rest: f"{{{{{begin.format(pipe)}}}}}{first}{{{{else}}}}{rest}{{{{end}}}}",
        opening,
        _PIPE | _ARGUMENT | st.just("1000000"),
        body,
        body,
    )


_STATEMENT = st.recursive(
    st.just("text ")
    | _PIPE.map(lambda pipe: f"{{{{{pipe}}}}}")
    | _PIPE.map(lambda pipe: f"{{{{$x = {pipe}}}}}"),
    _nested,
    max_leaves=12,
)


def _error_message(template: str, limits: Limits = DEFAULT_LIMITS, **functions: Any) -> str | None:
    try:
        compile(template, functions, limits=limits).render(TARGET)
    except TemplateError as error:
        return error.message
    return None


def _survives(template: str, limits: Limits) -> None:
    try:
        compiled = compile(template, limits=limits)
        text = compiled.render(TARGET, VARIABLES)
    except TemplateError:
        return
    text.encode()
    assert len(text) <= max(limits.output, len(template))
    assert compiled.literal in (None, text)


@given(_TEXT)
@settings(deadline=None, max_examples=400)
def test_any_text_is_a_template_or_an_error(template: str) -> None:
    _survives(template, SMALL)


@given(st.text(max_size=200))
@settings(deadline=None, max_examples=200)
def test_any_characters_are_a_template_or_an_error(text: str) -> None:
    _survives(text, SMALL)
    _survives("{{" + text + "}}", SMALL)
    _survives("{{printf `" + text.replace("`", "") + "` .ID 1 2.5 .}}", SMALL)


@given(st.lists(_STATEMENT, max_size=4).map("".join))
@settings(deadline=None, max_examples=100)
def test_any_program_ends(template: str) -> None:
    _survives("{{$x := 1}}" + template, SMALL)


_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(_VALUES, st.text("%+-# 0123456789.*[]vTtbcdoOqxXUeEfFgGsp", max_size=12))
@settings(deadline=None, max_examples=300)
def test_any_value_prints_under_any_verb(value: Any, verb: str) -> None:
    template = compile(
        "{{printf Format Value 1}}{{Value}}{{print Value}}{{html Value}}{{if Value}}{{end}}",
        {"Value": lambda: value, "Format": lambda: verb},
        limits=Limits(output=10_000_000),
    )
    template.render(TARGET).encode()


_OF_GO = {"ID", "FQDN", "PrimaryIPv4", "PrimaryIPv6", "TargetManagerState"}
_OBJECTS: list[object] = [TARGET, "", b"", 1, 1.5, True, 1j, [], {}, compile, compile("{{.ID}}")]
_OF_PYTHON = sorted(
    {name for value in _OBJECTS for name in dir(value)}
    | {"__globals__", "__code__", "__builtins__", "__mro__", "gi_frame", "f_back", "data", "capacity", "part"}
)
_BASES = st.sampled_from(
    [
        *". $ $x .ID .PrimaryIPv4 .PrimaryIPv4.To4 .PrimaryIPv4.DefaultMask .PrimaryIPv4.MarshalText".split(),
        *'.TargetManagerState|.String|(len .ID)|(index .ID 0)|(eq 1 1)|("a")|(1)|(1.5)|(1i)|(List)'.split(
            "|"
        ),
    ]
)


def _give_list() -> object:
    return [1, "a"]


@given(_BASES, st.sampled_from(_OF_PYTHON), st.sampled_from(["", ' "x"', " 1 .", " | print", ".x"]))
@settings(deadline=None, max_examples=400)
def test_no_template_reaches_into_python(base: str, name: str, rest: str) -> None:
    for field in dict.fromkeys((name, name.title(), name.upper())):
        if field in _OF_GO:
            continue
        template = f"{{{{$x := .}}}}{{{{{base.rstrip('.')}.{field}{rest}}}}}"
        message = _error_message(template, List=_give_list)
        assert message is not None, template
        assert re.match("can't evaluate field|bad number|bad character|unexpected", message), template


_WIDE = st.sampled_from(
    ["%999999999d", "%1000000d", "%.1000000f", "%-999999s|", "%0999999d", "%*d", "%.*e", "%[1]*[1]d"]
)
_HUNGRY = st.sampled_from(
    [
        "{{$x = print $x $x}}",
        "{{$x = printf `%q%q` $x $x}}",
        "{{$x = js (html (urlquery $x))}}",
        "{{$x = printf `%x% #x` $x $x}}",
        "{{$x = .String}}",
        '{{template "again" $x}}',
        '{{template "twice" .}}',
        '{{template ""}}',
        "{{$x}}",
        "{{range 1000000}}",
        "{{range $i := 999999999}}",
        "{{range $.PrimaryIPv4}}",
        "{{with $x}}",
        "{{if $x}}",
        "{{end}}",
    ]
) | _WIDE.map(lambda verb: f'{{{{$x = printf "{verb}" 999999 1}}}}')
_AGAIN = (
    '{{define "again"}}{{$y := print . .}}{{template "again" $y}}{{end}}'
    '{{define "twice"}}{{template "twice" .}}{{template "twice" .}}{{end}}{{$x := "0123456789"}}'
)
_CLOSE = re.compile(r"\{\{(?:(range|with|if)|(end))\b")


def _balanced(pieces: list[str]) -> str:
    text, opened = [], 0
    for piece in pieces:
        match = _CLOSE.match(piece)
        if match and match[2] and not opened:
            continue
        opened += 0 if match is None else -1 if match[2] else 1
        text.append(piece)
    return _AGAIN + "".join(text) + "{{end}}" * opened


@given(st.lists(_HUNGRY, min_size=1, max_size=9).map(_balanced))
@settings(deadline=None, max_examples=150)
def test_no_template_eats_time_or_memory(template: str) -> None:
    limits = Limits(output=100_000, steps=5_000)
    begun = time.process_time()
    tracemalloc.start()
    message = _error_message(template, limits)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    if message is not None:
        assert re.search("takes more than|is longer than|template depth|can't iterate|can't eval", message)
    assert peak < 16 * MIB
    assert time.process_time() - begun < 10
