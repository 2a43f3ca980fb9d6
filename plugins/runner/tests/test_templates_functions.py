"""The functions of templates: those of ConTest, those that plugins bring, and how variables are read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec import Struct

from contest_runner.templates import (
    STANDARD,
    Function,
    Rendering,
    TemplateError,
    check_reference,
    compile,
    describe,
    needs_variables,
    title,
    to_lower,
    to_upper,
)


class Target(Struct, frozen=True):
    id: str
    fqdn: str = ""
    primary_ipv4: str | None = None
    primary_ipv6: str | None = None
    state: bytes | None = None


TARGET = Target(id="T-1", fqdn="h.example", primary_ipv4="192.0.2.7", state=b"[1]")


def render(template: str, variables: dict[str, dict[str, bytes]] | None = None, **functions: Any) -> str:
    return compile(template, {**STANDARD, **functions}).render(TARGET, variables or {})


def failure(template: str, variables: dict[str, dict[str, bytes]] | None = None, **functions: Any) -> str:
    template_of = compile(template, {**STANDARD, **functions})
    with pytest.raises(TemplateError) as caught:
        template_of.render(TARGET, variables or {})
    assert caught.value.kind == "exec"
    return caught.value.message


@pytest.mark.parametrize(
    ("function", "text", "result"),
    [
        (to_upper, "straße ŉ ᾳ ǆ", "STRAßE ŉ ᾼ Ǆ"),
        (to_lower, "ΑΣ İ ẞ", "\u03b1\u03c3 i ß"),
        (title, "hello WORLD foo-bar it's ☃x éa a_b 1c", "Hello WORLD Foo-Bar It'S ☃x Éa A_b 1c"),
        (title, "hello a_b it's", "Hello A_b It'S"),
    ],
)
def test_letters_change_one_by_one(function: Callable[[str], str], text: str, result: str) -> None:
    assert function(text) == result


def test_a_plugin_adds_a_function() -> None:
    def repeat(text: str, times: int = 2) -> str:
        return text * times

    assert render("{{Repeat .ID}}", Repeat=repeat) == "T-1T-1"
    assert render("{{3 | Repeat .ID}}", Repeat=repeat) == "T-1T-1T-1"
    assert failure("{{Repeat}}", Repeat=repeat) == "wrong number of args for Repeat: want at least 1 got 0"
    assert (
        failure("{{Repeat .ID 1 2}}", Repeat=repeat)
        == "wrong number of args for Repeat: want at most 2 got 3"
    )
    assert failure('{{Repeat .ID "x"}}', Repeat=repeat) == 'expected integer; found "x"'
    assert failure("{{Repeat 1}}", Repeat=repeat) == "expected string; found 1"
    assert failure("{{Repeat (len .ID)}}", Repeat=repeat) == "wrong type for value; expected string; got int"
    assert failure("{{Repeat .PrimaryIPv4}}", Repeat=repeat).endswith("expected string; got net.IP")
    assert failure("{{Repeat nil}}", Repeat=repeat) == "cannot assign nil to string"


def test_constants_become_what_a_function_wants() -> None:
    def show(*values: object) -> str:
        return repr(values)

    def integer(value: int) -> str:
        return show(value)

    def real(value: float) -> str:
        return show(value)

    def truth(value: bool) -> str:
        return show(value)

    functions: dict[str, Any] = {"Integer": integer, "Real": real, "Truth": truth}
    assert render("{{Integer 1e3}} {{Integer 'a'}}", **functions) == "(1000,) (97,)"
    assert render("{{Real 1}}", **functions) == "(1.0,)"
    assert render("{{Truth true}}", **functions) == "(True,)"
    assert failure("{{Integer 1.5}}", **functions) == "expected integer; found 1.5"
    assert failure("{{Truth 1}}", **functions) == "expected bool; found 1"


def test_a_function_without_annotations_gets_plain_values() -> None:
    seen: list[object] = []

    def see(*values):  # type: ignore[no-untyped-def]
        seen.extend(values)
        return ""

    render("{{See .ID .PrimaryIPv4 .PrimaryIPv6 .TargetManagerState . nil 1.5 (index .ID 0)}}", See=see)
    assert seen == ["T-1", "192.0.2.7", None, b"[1]", TARGET, None, 1.5, 84]
    assert type(seen[-1]) is int


def test_what_a_function_raises_fails_the_rendering_with_its_reason() -> None:
    def broken(text: str) -> str:
        raise KeyError

    def reasonable() -> str:
        raise ValueError("no such slot")

    assert failure("{{Broken .ID}}", Broken=broken) == "error calling Broken: KeyError"
    assert failure("{{Reasonable}}", Reasonable=reasonable) == "error calling Reasonable: no such slot"
    with pytest.raises(TemplateError) as caught:
        render("{{Broken .ID | ToUpper}}", Broken=broken)
    assert isinstance(caught.value.__cause__, KeyError)


def test_what_a_function_returns_is_printed_as_go_would() -> None:
    def give(value: object) -> Callable[[], object]:
        return lambda: value

    assert render("{{F}}", F=give(12)) == "12"
    assert render("{{F}}", F=give(None)) == "<no value>"
    assert render("{{F}}", F=give([1, "a", True])) == "[1 a true]"
    assert render("{{F.b}} {{F}} {{(F).nope}}", F=give({"b": 1, "a": (2,)})) == "1 map[a:[2] b:1] <no value>"
    assert render("{{range $k, $v := F}}{{$k}}={{$v}};{{end}}", F=give({"b": 1, "a": 2})) == "a=2;b=1;"
    assert render("{{range F}}{{.}},{{else}}none{{end}}", F=give([])) == "none"
    assert render('{{len F}} {{index F "b"}}', F=give({"b": 1})) == "1 1"
    assert render('{{printf "%T %v" F F}}', F=give(1.5)) == "float64 1.5"
    assert failure("{{F}}", F=give(object())) == "error calling F: the result is of type object"
    circle: list[object] = []
    circle.append(circle)
    assert failure("{{F}}", F=give(circle)) == "error calling F: the result is nested too deep"


def test_a_secret_is_revealed_by_who_knows_it() -> None:
    class Secret:
        def __init__(self, value: str) -> None:
            self.value = value

    masked: list[str] = []

    def reveal(value: object) -> object:
        if isinstance(value, Secret):
            masked.append(value.value)
            return value.value
        return value

    template = compile("{{Password .ID}}", {"Password": lambda name: Secret(f"pw-{name}")}, reveal=reveal)
    assert template.render(TARGET) == "pw-T-1"
    assert masked == ["pw-T-1"]
    with pytest.raises(TemplateError, match="the result is of type Secret"):
        compile("{{Password}}", {"Password": lambda: Secret("x")}).render(TARGET)


def test_a_plugin_does_not_replace_what_the_language_has() -> None:
    assert render("{{len .ID}}", len=lambda text: "mine") == "3"


def test_a_function_may_be_described_once_and_used_often() -> None:
    function = describe(to_upper)
    assert isinstance(function, Function)
    assert compile("{{Up .ID}}", {"Up": function}).render(Target(id="x")) == "X"
    assert describe(max).least == 0  # says nothing about itself: takes anything


def test_a_function_that_needs_variables_gets_the_rendering() -> None:
    @needs_variables
    def count(rendering: Rendering, label: str) -> str:
        return f"{rendering.target.id}:{len(rendering.variables.get(label, {}))}"

    assert render('{{Count "a"}}', {"a": {"x": b"1", "y": b"2"}}, Count=count) == "T-1:2"
    with pytest.raises(TemplateError, match='function "Count" not defined'):
        compile('{{Count "a"}}', {"Count": count}, variables=False)
    assert compile('{{Count "a.b"}}', {"Count": count}).references == ("a.b",)


@pytest.mark.parametrize(
    ("function", "raw", "reason"),
    [
        ("StringVar", b"1", "json: cannot unmarshal number into Go value of type string"),
        ("StringVar", b"true", "json: cannot unmarshal bool into Go value of type string"),
        ("StringVar", b" [1]", "json: cannot unmarshal array into Go value of type string"),
        ("StringVar", b'{"a":1}', "json: cannot unmarshal object into Go value of type string"),
        ("IntVar", b"1.5", "json: cannot unmarshal number 1.5 into Go value of type int"),
        ("IntVar", b"1e2", "json: cannot unmarshal number 1e2 into Go value of type int"),
        ("IntVar", b'"1"', "json: cannot unmarshal string into Go value of type int"),
        ("IntVar", b"false", "json: cannot unmarshal bool into Go value of type int"),
        (
            "IntVar",
            b"9223372036854775808",
            "json: cannot unmarshal number 9223372036854775808 into Go value of type int",
        ),
        ("IntVar", b"{}", "json: cannot unmarshal object into Go value of type int"),
    ],
)
def test_a_variable_of_another_type_is_refused(function: str, raw: bytes, reason: str) -> None:
    message = failure(f'{{{{{function} "a.b"}}}}', {"a": {"b": raw}})
    assert message == f"error calling {function}: {reason}"


@pytest.mark.parametrize(
    ("function", "raw", "output"),
    [
        ("StringVar", b' "x"\n', "x"),
        ("StringVar", b"null", ""),
        ("StringVar", b'"\\ud83d\\ude00 \\ud800"', "\U0001f600 \ufffd"),
        ("IntVar", b" null ", "0"),
        ("IntVar", b"-9223372036854775808", "-9223372036854775808"),
        ("IntVar", b"-0", "0"),
    ],
)
def test_a_variable_is_read(function: str, raw: bytes, output: str) -> None:
    assert render(f'{{{{{function} "a.b"}}}}', {"a": {"b": raw}}) == output


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        ("nodot", "not 'label.variable' format of 'nodot'"),
        ("", "not 'label.variable' format of ''"),
        ("1a.b", "invalid step label: '1a': "),
        ("_a.b", "invalid step label: '_a': "),
        (".b", "invalid step label: '': "),
        ("a.", "invalid variable name: '': "),
        ("a.b.c", "invalid variable name: 'b.c': "),
        ("a.é", "invalid variable name: 'é': "),
        ("x.b", "step 'x' didn't emit any variables yet"),
        ("a.x", "step 'a' didn't emit variable 'x' yet for target 'T-1'"),
    ],
)
def test_a_reference_that_leads_nowhere_says_why(reference: str, reason: str) -> None:
    message = failure(f'{{{{StringVar "{reference}"}}}}', {"a": {"b": b"1"}})
    assert message.startswith(f"error calling StringVar: {reason}")


def test_a_reference_can_be_checked_before() -> None:
    assert check_reference("label.name_1") == ("label", "name_1")
    with pytest.raises(ValueError, match="invalid variable name"):
        check_reference("a.b.c")
