"""A compiled template: made once a job, rendered for every target in every step.

Most templates are text with a few fields of the target; those need no state, no output and no counting, and are
rendered by one expression. The rest run the closures of `compiler`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any, Final, Protocol

from contest_runner.templates.builtins import built_ins
from contest_runner.templates.calls import Reveal
from contest_runner.templates.compiler import Run, compile_definitions, fold
from contest_runner.templates.errors import TemplateError
from contest_runner.templates.facts import Facts, find
from contest_runner.templates.functions import STANDARD, Function, Variables, describe, reads_variables
from contest_runner.templates.limits import DEFAULT_LIMITS, Limits
from contest_runner.templates.nodes import ROOT, Action, Block, Command, Field, Pipe, Text
from contest_runner.templates.parser import parse
from contest_runner.templates.quoting import printable, without_surrogates
from contest_runner.templates.state import Scope, State
from contest_runner.templates.values import ADDRESS_FIELDS, STRING_FIELDS, TargetData

_NO_VARIABLES: Final[Variables] = {}
_MOST_FIELDS: Final = 8
"""So many fields are joined before anybody counts: what that may cost is bounded."""


class Renderer(Protocol):
    """Renders a template for one target. Raises TemplateError of the kind `exec`."""

    def __call__(self, target: TargetData, variables: Variables = ..., /) -> str: ...


class Template:
    """A template that has been compiled. It keeps nothing of a rendering: any number may go on at once."""

    __slots__ = ("facts", "literal", "render", "source")

    source: str
    """The text that was compiled."""
    literal: str | None
    """What it renders to for any target, where that is certain."""
    facts: Facts
    """The names in it."""
    render: Renderer
    """`render(target, variables)`: the text for one target. Raises TemplateError of the kind `exec`."""

    def __init__(self, source: str, *, literal: str | None, found: Facts, render: Renderer) -> None:
        self.source = source
        self.literal = literal
        self.facts = found
        self.render = render

    @property
    def fields(self) -> tuple[str, ...]:
        """Fields of the target that are surely asked for; `TARGET_FIELDS` has those that exist."""
        return self.facts.fields

    @property
    def functions(self) -> tuple[str, ...]:
        """Functions in it, those of the language included."""
        return self.facts.functions

    @property
    def references(self) -> tuple[str, ...]:
        """`label.variable` wherever it is written out as the argument of a function that reads variables."""
        return self.facts.references

    def __repr__(self) -> str:
        return f"Template({self.source!r})"


def compile(
    source: str,
    functions: Mapping[str, Callable[..., object] | Function] = STANDARD,
    *,
    variables: bool = True,
    reveal: Reveal | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> Template:
    """Compiles the text of a template.

    `functions` are those beside Go's own. Where there are no `variables`, those that read them are not defined.
    `reveal` is asked about what a function returned and what is no plain value: it gives the value of a secret.

    Raises TemplateError of the kind `parse`.
    """
    text = without_surrogates(source)
    if "{{" not in text:
        return _literal(source, text)
    known = _Functions(functions, limits, variables=variables)
    try:
        return _compile(source, text, known, limits, reveal)
    except RecursionError:  # as in `_general`
        raise TemplateError(kind="parse", message="nested too deep for the stack that is left") from None


def _compile(source: str, text: str, known: _Functions, limits: Limits, reveal: Reveal | None) -> Template:
    definitions = parse(text, known, limits)
    found = find(definitions, known)
    body = fold(definitions[ROOT])
    if all(isinstance(statement, Text) for statement in body):
        return _literal(source, printable("".join([s.value for s in body if isinstance(s, Text)])), found)
    render = _of_fields(body, limits)
    if render is None:
        render = _general(*compile_definitions(text, definitions, known, limits, reveal))
    return Template(source, literal=None, found=found, render=render)


class _Functions(dict[str, Function]):
    """Functions by name; what a callable takes is looked up when a template names it."""

    def __init__(
        self, given: Mapping[str, Callable[..., object] | Function], limits: Limits, *, variables: bool
    ) -> None:
        super().__init__(built_ins(limits.output))
        self._given = given
        self._variables = variables

    def __contains__(self, name: object) -> bool:
        if super().__contains__(name):
            return True
        given = self._given.get(name) if isinstance(name, str) else None
        return given is not None and (self._variables or not reads_variables(given))

    def __missing__(self, name: str) -> Function:
        given = self._given[name]
        function = self[name] = given if isinstance(given, Function) else describe(given)
        return function


def _literal(source: str, text: str, found: Facts | None = None) -> Template:
    def render(target: TargetData, variables: Variables = _NO_VARIABLES, /) -> str:
        return text

    return Template(source, literal=text, found=found or Facts(), render=render)


def _general(run: Run, needs_scope: bool) -> Renderer:
    def render(target: TargetData, variables: Variables = _NO_VARIABLES, /) -> str:
        state = State(target, variables)
        if needs_scope:
            state.scope = Scope(target)
        try:
            run(state, target)
        except RecursionError:  # the caller has used up the stack: the template itself is bounded
            raise TemplateError(kind="exec", message="nested too deep for the stack that is left") from None
        text = "".join(state.output)
        return text if text.isascii() else printable(text)

    return render


def _of_fields(body: Block, limits: Limits) -> Renderer | None:
    """The renderer of a template that is texts and a few fields that print as they are; None of any other."""
    texts: list[str] = [""]
    attributes: list[str] = []
    for statement in body:
        if isinstance(statement, Text):
            texts[-1] += statement.value
            continue
        attribute = _plain_field(statement)
        if attribute is None:
            return None
        attributes.append(attribute)
        texts.append("")
    if len(attributes) > _MOST_FIELDS:
        return None
    texts = [printable(text) for text in texts]
    return _joining(texts, attributes, limits) if len(attributes) > 1 else _around(texts, attributes[0])


def _plain_field(statement: object) -> str | None:
    """The attribute that a statement prints, where that is a string or an address."""
    match statement:
        case Action(pipe=Pipe(declared=(), commands=(Command(operands=(Field(names=(name,)),)),))):
            return STRING_FIELDS.get(name) or ADDRESS_FIELDS.get(name)
    return None


def _unset(attribute: str) -> str:
    """How a field prints that is None or empty."""
    return "" if attribute in STRING_FIELDS.values() else "<nil>"


def _getter(attribute: str) -> Callable[[Any], str]:
    get: Callable[[Any], str | None] = attrgetter(attribute)
    unset = _unset(attribute)
    if not unset:
        return attrgetter(attribute)
    return lambda target: get(target) or unset


def _around(texts: list[str], attribute: str) -> Renderer:
    get = _getter(attribute)
    before, after = texts

    def alone(target: TargetData, variables: Variables = _NO_VARIABLES, /) -> str:
        return get(target)

    def first(target: TargetData, variables: Variables = _NO_VARIABLES, /) -> str:
        return get(target) + after

    def last(target: TargetData, variables: Variables = _NO_VARIABLES, /) -> str:
        return before + get(target)

    def between(target: TargetData, variables: Variables = _NO_VARIABLES, /) -> str:
        return before + get(target) + after

    if before and after:
        return between
    return first if after else last if before else alone


def _joining(texts: list[str], attributes: list[str], limits: Limits) -> Renderer:
    get: Callable[[Any], tuple[str | None, ...]] = attrgetter(*attributes)
    unset = tuple([_unset(attribute) for attribute in attributes])
    maybe_unset = any(unset)
    form = "%s".join([text.replace("%", "%%") for text in texts])
    most = limits.output

    def render(target: TargetData, variables: Variables = _NO_VARIABLES, /) -> str:
        values = get(target)
        if maybe_unset:
            values = tuple([value or blank for value, blank in zip(values, unset, strict=True)])
        text = form % values
        if len(text) > most:
            raise TemplateError(kind="exec", message=f"the output is longer than {most} characters")
        return text

    return render
