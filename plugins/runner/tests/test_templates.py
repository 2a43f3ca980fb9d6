"""Templates: what Go's text/template answers, what is an error and how it reads, what is known before rendering."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from contest_runner.templates import (
    TARGET_FIELDS,
    Template,
    TemplateError,
    compile,
)

DATA = Path(__file__).parent / "data"


class Target(Struct, frozen=True):
    """A target as the engine wants one; not the runner's, which it need not know."""

    id: str
    fqdn: str = ""
    primary_ipv4: str | None = None
    primary_ipv6: str | None = None
    state: bytes | None = None


def rows(name: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    header, *lines = (DATA / name).read_text(encoding="utf-8").rstrip("\n").split("\n")
    return json.loads(header), [json.loads(line) for line in lines]


def of_json(target: dict[str, str]) -> Target:
    return Target(
        id=target["ID"],
        fqdn=target.get("FQDN", ""),
        primary_ipv4=target.get("PrimaryIPv4"),
        primary_ipv6=target.get("PrimaryIPv6"),
        state=target["TMS"].encode() if "TMS" in target else None,
    )


ORACLE, ORACLE_ROWS = rows("templates.jsonl")
MORE, MORE_ROWS = rows("templates-more.jsonl")
_, FAMILY_ROWS = rows("templates-families.jsonl")
"""Answers of Go 1.26's text/template to templates made by chance, some of each family: see the file's first line."""
TARGET = of_json(ORACLE["target"])
OTHER = of_json(MORE["other"])
VARIABLES = {
    label: {name: raw.encode() for name, raw in of_step.items()}
    for label, of_step in ORACLE["variables"].items()
}


def outcome(template: str, target: Target = TARGET) -> dict[str, str]:
    """What the rows of the tables say, of our own engine."""
    try:
        return {"output": compile(template).render(target, VARIABLES)}
    except TemplateError as error:
        return {"error": error.kind, "text": str(error)}


def numbered(given: list[dict[str, Any]]) -> list[Any]:
    return [pytest.param(row, id=f"line{number}") for number, row in enumerate(given, 2)]


@pytest.mark.parametrize("row", numbered(ORACLE_ROWS))
def test_a_template_of_the_oracle_is_answered_as_go_answers_it(row: dict[str, Any]) -> None:
    answer = outcome(row["template"])
    assert answer.get("output") == row.get("output")
    assert answer.get("error") == row.get("error")


def test_the_oracle_is_all_there() -> None:
    assert len(ORACLE_ROWS) == 147


def test_more_templates_are_answered_as_go_answers_them() -> None:
    wrong = []
    for row in MORE_ROWS:
        answer = outcome(row["template"], OTHER if row.get("other") else TARGET)
        if (answer.get("output"), answer.get("error")) != (row.get("output"), row.get("error")):
            wrong.append((row, answer))
    assert not wrong
    assert len(MORE_ROWS) > 1000


@pytest.mark.parametrize("row", numbered([row for row in ORACLE_ROWS if "error" in row]))
def test_errors_read_as_in_go(row: dict[str, Any]) -> None:
    text = row["text"].replace("*main.Target", "*target.Target")
    if "didn't emit variable" in text:
        text += (
            " for target 'T-1'"  # ConTest says so; the program that made the table did not know the target
        )
    assert outcome(row["template"])["text"] == text


def test_families_of_templates_are_answered_to_the_letter() -> None:
    wrong = []
    for row in FAMILY_ROWS:
        expected = {key: row[key] for key in ("output", "error", "text") if key in row}
        answer = outcome(row["template"], OTHER if row.get("other") else TARGET)
        if answer != expected:
            wrong.append((row, answer))
    assert not wrong
    assert len(FAMILY_ROWS) > 700


def test_parse_errors_read_as_in_go() -> None:
    wrong = [
        (row["text"], outcome(row["template"]))
        for row in MORE_ROWS
        if row.get("error") == "parse" and outcome(row["template"])["text"] != row["text"]
    ]
    assert not wrong


def test_an_error_says_when_why_and_where() -> None:
    with pytest.raises(TemplateError) as caught:
        compile("first\nsecönd {{ nope .ID }}")
    error = caught.value
    assert (error.kind, error.line, error.column) == ("parse", 2, 11)
    assert error.message == 'function "nope" not defined'
    template = compile("first\nsecönd {{ .Nope }}")
    with pytest.raises(TemplateError) as caught:
        template.render(TARGET)
    error = caught.value
    assert (error.kind, error.line, error.column) == ("exec", 2, 11)
    assert error.message == "can't evaluate field Nope in type *target.Target"
    assert str(error).startswith('template: :2:11: executing "" at <.Nope>: ')


def test_an_error_in_a_definition_names_the_definition() -> None:
    template = compile('{{define "inner"}}{{.Nope}}{{end}}{{template "inner" .}}')
    with pytest.raises(TemplateError, match=r'executing "inner" at <\.Nope>'):
        template.render(TARGET)


def test_an_error_does_not_quote_a_template_at_any_length() -> None:
    with pytest.raises(TemplateError) as caught:
        compile("{{" + "a" * 100_000 + "}}")
    assert len(str(caught.value)) < 2000
    with pytest.raises(TemplateError) as caught:
        compile(f'{{{{range "{"b" * 100_000}"}}}}{{{{end}}}}').render(TARGET)
    assert len(str(caught.value)) < 3000


@pytest.mark.parametrize(
    ("template", "literal"),
    [
        ("", ""),
        ("plain text }} {", "plain text }} {"),
        ("a{{/* nothing */}}b", "ab"),
        ("  {{- /* nothing */ -}}  ", ""),
        ('{{"{{"}} .ID }}', "{{ .ID }}"),
        ("{{`raw`}} {{3}} {{true}} {{1.50}}", "raw 3 true 1.5"),
        ('{{define "unused"}}{{.ID}}{{end}}x', "x"),
        ('{{"\\xff"}}', "\ufffd"),
        ("{{.ID}}", None),
        ("{{print 1}}", None),
        ("{{if true}}x{{end}}", None),
        ("{{$x := 1}}", None),
        ("{{18446744073709551615}}", None),
    ],
)
def test_a_template_that_is_the_same_for_every_target_is_a_literal(
    template: str, literal: str | None
) -> None:
    compiled = compile(template)
    assert compiled.literal == literal
    if literal is not None:
        assert compiled.render(TARGET) == compiled.render(OTHER) == literal


@pytest.mark.parametrize(
    "template",
    [
        "{{.ID}}",
        "<{{.ID}}",
        "{{.FQDN}}>",
        "<{{.PrimaryIPv4}}>",
        "{{.PrimaryIPv6}}",
        "100%{{.ID}}%s{{.FQDN}}%%{{.PrimaryIPv4}}{{.PrimaryIPv6}}",
        "{{.ID}}{{.ID}}{{.ID}}{{.ID}}{{.ID}}{{.ID}}{{.ID}}{{.ID}}{{.ID}}",
    ],
)
@pytest.mark.parametrize("target", [TARGET, OTHER])
def test_the_short_ways_and_the_long_way_print_the_same(template: str, target: Target) -> None:
    long_way = compile(template + "{{if false}}{{end}}")
    assert compile(template).render(target) == long_way.render(target)


def facts(template: Template) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    return template.fields, template.functions, template.references


def test_the_names_in_a_template_are_known_without_rendering_it() -> None:
    template = compile(
        '{{if eq .ID "x"}}{{.Nope | ToUpper}}{{else}}{{StringVar "a.b"}}{{end}}'
        '{{with .FQDN}}{{.Inner}}{{$.PrimaryIPv4}}{{IntVar "c.d" | print (StringVar "e.f")}}{{end}}'
        '{{"g.h" | StringVar}}{{StringVar .ID}}{{StringVar (print "i" ".j")}}{{(.TargetManagerState).X}}'
    )
    fields, functions, references = facts(template)
    assert fields == ("ID", "Nope", "FQDN", "PrimaryIPv4", "TargetManagerState")
    assert set(fields) - set(TARGET_FIELDS) == {"Nope"}
    assert functions == ("eq", "ToUpper", "StringVar", "IntVar", "print")
    assert references == ("a.b", "c.d", "e.f", "g.h")


def test_names_that_may_not_be_the_targets_are_not_listed() -> None:
    template = compile(
        '{{define "t"}}{{.A}}{{$.B}}{{ToLower .C}}{{end}}'
        "{{range .PrimaryIPv4}}{{.D}}{{else}}{{.ID}}{{end}}{{with .FQDN}}{{.E}}{{else}}{{.Here}}{{end}}"
    )
    assert facts(template) == (("PrimaryIPv4", "ID", "FQDN", "Here"), ("ToLower",), ())


def test_a_template_that_invokes_itself_may_not_run_on_the_target() -> None:
    template = compile('{{.A}}{{$.B}}{{if .FQDN}}{{template "" .FQDN}}{{end}}')
    assert facts(template) == ((), (), ())
    with pytest.raises(TemplateError, match="can't evaluate field FQDN in type string"):
        compile('{{if .FQDN}}{{template "" .FQDN}}{{end}}').render(TARGET)


def test_text_has_no_names() -> None:
    assert facts(compile("text")) == ((), (), ())


def test_variables_are_undefined_functions_where_there_are_none() -> None:
    for name in ("StringVar", "IntVar"):
        with pytest.raises(TemplateError, match=f'function "{name}" not defined') as caught:
            compile(f'{{{{{name} "a.b"}}}}', variables=False)
        assert caught.value.kind == "parse"
    assert compile("{{ToUpper .ID}}", variables=False).render(TARGET) == "T-1"


def test_a_template_keeps_nothing_of_a_rendering() -> None:
    template = compile("{{$x := .ID}}{{range 3}}{{$x = print $x .}}{{end}}{{$x}}")
    assert [template.render(TARGET), template.render(OTHER), template.render(TARGET)] == [
        "T-1012",
        'tä"x012',
        "T-1012",
    ]


@pytest.mark.parametrize(
    ("template", "output"),
    [
        ('{{slice "grün" 0 3}}', "gr\ufffd"),
        ('{{print (slice "grün" 0 3) (slice "grün" 3)}}', "grün"),
        ('{{slice "grün" 0 3}}{{slice "grün" 3}}', "grün"),
        ('{{"\\xc3"}}{{.ID}}', "\ufffdT-1"),
        ("a\ud800b", "a\ufffdb"),
        ("a\udc80b{{.ID}}", "a\ufffdbT-1"),
    ],
)
def test_what_is_rendered_can_always_be_encoded(template: str, output: str) -> None:
    rendered = compile(template).render(TARGET)
    rendered.encode()
    assert rendered == output


def test_an_address_that_is_none_still_prints() -> None:
    target = Target(id="x", primary_ipv4="no address")
    assert compile("{{.PrimaryIPv4}} {{print .PrimaryIPv4}}").render(target) == "no address no address"
    for template in (
        "{{index .PrimaryIPv4 0}}",
        "{{range .PrimaryIPv4}}{{end}}",
        '{{printf "%d" .PrimaryIPv4}}',
    ):
        with pytest.raises(TemplateError, match="invalid IP address: no address"):
            compile(template).render(target)
