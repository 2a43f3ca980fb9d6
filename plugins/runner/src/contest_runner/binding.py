"""Binds a step's parameters: from the descriptor's lists of JSON values to the typed struct that `run` gets.

The lists are taken by ConTest's rules (a scalar takes the first value, a list all; an empty text is the same as
none). Literals are converted once; fields that the struct marks as `Expanded` may be templates, which are
compiled once a job and rendered for each target.
"""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, Union, get_args, get_origin

import msgspec

from contest_core import Blame, ByteSize, Duration, Finding, Secret, Severity
from contest_core.settings import dec_hook
from contest_runner.exact import check_length
from contest_runner.nearest import Nearest
from contest_runner.parts import decode_part
from contest_runner.plan import Plan, StepPlan
from contest_runner.ready import ready
from contest_runner.step import EXPANDED, REST, SINGLE, AllTargetsStep, BaseStep, OnInterrupt, ThreadStep
from contest_runner.target import Target
from contest_runner.templates import Template, TemplateError
from contest_runner.variables import Variables
from contest_runner.words import in_words, wanted

if TYPE_CHECKING:
    from contest_runner.catalog import Catalog

_INTEGER = re.compile(r"[+-]?[0-9]+", re.ASCII)
_NUMBER = re.compile(
    r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?|[+-]?(inf|nan)", re.ASCII | re.IGNORECASE
)
_BOOLEANS: Final = {
    **dict.fromkeys(("1", "t", "T", "TRUE", "true", "True"), True),
    **dict.fromkeys(("0", "f", "F", "FALSE", "false", "False"), False),
}
"""Go's `strconv.ParseBool`."""

MISSING: Final = object()
"""What an optional parameter renders to that comes to nothing: the step has its default."""


class BindFailed(Exception):
    """A target's parameters could not be made: a template failed, or what it gave is not of the type."""

    def __init__(self, message: str, *, blame: Blame = Blame.TEST) -> None:
        super().__init__(message)
        self.blame = blame


class ParameterField(msgspec.Struct, frozen=True, kw_only=True):
    """One field of a step's `Parameters`."""

    name: str
    """In the struct."""
    key: str
    """In the descriptor."""
    type: Any
    """Without `Expanded`."""
    expanded: bool
    many: bool
    """A list: it takes all values."""
    item: Any
    """The type of one value."""
    required: bool
    rest: bool = False
    """It takes the parameters that no other field does, as their JSON."""
    single: bool = False
    """A second value is refused, not ignored."""


@lru_cache(maxsize=512)
def parameter_fields(parameters: type[msgspec.Struct]) -> tuple[ParameterField, ...]:
    """The fields of a step's parameters."""
    hints = typing.get_type_hints(parameters, include_extras=True)
    return tuple(_field(field, hints[field.name]) for field in msgspec.structs.fields(parameters))


def _field(field: msgspec.structs.FieldInfo, hint: Any) -> ParameterField:
    if get_origin(hint) is typing.Annotated and REST in get_args(hint)[1:]:
        return ParameterField(
            name=field.name,
            key="",
            type=get_args(hint)[0],
            expanded=False,
            many=True,
            item=msgspec.Raw,
            required=False,
            rest=True,
        )
    marks, bare = _bare(hint)
    many = get_origin(bare) in (list, tuple, Sequence)
    inner_marks, item = _bare(get_args(bare)[0]) if many else ((), bare)
    return ParameterField(
        name=field.name,
        key=field.encode_name,
        type=bare,
        expanded=EXPANDED in marks or EXPANDED in inner_marks,
        many=many,
        item=item,
        required=field.required,
        single=SINGLE in marks,
    )


def _bare(hint: Any) -> tuple[tuple[Any, ...], Any]:
    """The type without `Annotated` and `| None`, and how it was marked."""
    marks: tuple[Any, ...] = ()
    while True:
        origin = get_origin(hint)
        if origin is typing.Annotated:
            hint, *more = get_args(hint)
            marks += tuple(more)
        elif origin in (Union, types.UnionType):
            members = [member for member in get_args(hint) if member is not type(None)]
            if len(members) != 1:
                return marks, hint
            hint = members[0]
        else:
            return marks, hint


def text_form(value: Any) -> str:
    """ConTest's text of one value: a string's content, nothing for null, the JSON of anything else."""
    if isinstance(value, str):
        return value
    return "" if value is None else msgspec.json.encode(value).decode()


def convert_text(text: str, kind: Any) -> Any:
    """The typed value of a text. Raises `ValueError` with a reason."""
    if kind is str or kind is Any:
        return text
    if kind is int:
        if not _INTEGER.fullmatch(text):
            raise ValueError(f"{text[:60]!r} is not a whole number")
        # Go's 64 bits; so long a text would also be slow to read.
        if len(text) > 20 or not -(2**63) <= int(text) < 2**63:
            raise ValueError(f"{text[:60]!r} is beyond 64 bits")
        return int(text)
    if kind is bool:
        if text not in _BOOLEANS:
            raise ValueError(f"{text[:60]!r} is neither true nor false")
        return _BOOLEANS[text]
    if kind is float:
        if not _NUMBER.fullmatch(text):
            raise ValueError(f"{text[:60]!r} is not a number")
        return float(text)
    if kind in (Duration, ByteSize, Secret):
        check_length(kind, text)
        return dec_hook(kind, text)
    try:
        if get_origin(kind) is Literal or (isinstance(kind, type) and issubclass(kind, Enum)):
            return msgspec.convert(text, kind, strict=False)
        return msgspec.json.decode(text, type=ready(kind), dec_hook=dec_hook)
    except msgspec.ValidationError as error:
        raise ValueError(in_words(error, kind)) from None
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(f"must be {wanted(kind)}; {in_words(error)}") from None


class Broken:
    """Stands for a template that did not parse: accepted with a warning, it fails each target, as in ConTest."""

    literal = None
    references = ()
    fields = ()

    def __init__(self, source: str, error: TemplateError) -> None:
        self.source = source
        self._error = error

    def render(self, target: Target, variables: Variables) -> str:
        raise self._error


class Slot:
    """A field whose value is rendered for each target."""

    __slots__ = ("field", "templates")

    def __init__(self, field: ParameterField, templates: Sequence[Template | Broken]) -> None:
        self.field = field
        self.templates = tuple(templates)

    def render(self, target: Target, variables: Variables) -> Any:
        texts = [template.render(target, variables) for template in self.templates]
        if self.field.many:
            return [convert_text(text, self.field.item) for text in texts]
        if not texts[0] and not self.field.required:
            return MISSING
        return convert_text(texts[0], self.field.item)


class BoundStep:
    """One step of a test, ready to run: its code, its literals, its templates."""

    def __init__(
        self,
        plan: StepPlan,
        step: Any,
        position: int,
        literals: Mapping[str, Any],
        slots: Sequence[Slot],
    ) -> None:
        self.plan = plan
        self.step = step
        self.position = position
        self.label = plan.label
        self.display_name = step.display_name
        self.threaded = isinstance(step, ThreadStep)
        self.gathers = isinstance(step, AllTargetsStep)
        self.on_interrupt = OnInterrupt(plan.on_interrupt) if plan.on_interrupt else step.on_interrupt
        self.literals = literals
        self.slots = tuple(slots)
        self._secret_fields = tuple(
            field.name for field in parameter_fields(step.Parameters) if field.item is Secret
        )
        self.has_secrets = bool(self._secret_fields)
        """Some parameter is one that nobody may read."""
        self._text = self._fast_text()
        self.literal: Any = None if slots else step.Parameters(**literals)
        """The parameters, where they are the same for every target."""

    def bind(self, target: Target, variables: Variables) -> Any:
        """The parameters for one target. Raises `BindFailed`."""
        if self._text is not None:
            slot, template = self._text
            try:
                return self.step.Parameters(**{slot: template.render(target, variables)})
            except TemplateError as error:
                raise BindFailed(f"failed to expand parameter {slot!r}: {error}") from None
        values = dict(self.literals)
        for part in self.slots:
            try:
                value = part.render(target, variables)
            except (TemplateError, ValueError) as error:
                raise BindFailed(f"failed to expand parameter {part.field.key!r}: {error}") from None
            if value is not MISSING:
                values[part.field.name] = value
        return self._checked(values)

    @property
    def templates(self) -> Iterator[tuple[str, int, Template | Broken]]:
        """Its templates, each with its parameter and its place there."""
        for slot in self.slots:
            for number, template in enumerate(slot.templates):
                yield slot.field.key, number, template

    @property
    def outputs(self) -> frozenset[str] | None:
        """The variables that it sets; None where that is not known. Raises what the step's code raises."""
        return self.step.outputs(self.literal)  # type: ignore[no-any-return]

    @property
    def reusable(self) -> bool:
        """Another job's step that says the same may be made of this one: nothing is checked, and nothing is secret."""
        frozen: bool = self.step.Parameters.__struct_config__.frozen
        return frozen and not self.step.checks and self._without_check() and not self.has_secrets

    def again(self) -> BoundStep:
        """The same step for another job: with an object of its own to run."""
        twin = object.__new__(BoundStep)
        twin.__dict__.update(self.__dict__)
        twin.step = type(self.step)()
        return twin

    def secrets_of(self, parameters: Any) -> Iterator[str]:
        """What of the parameters is to be masked wherever it turns up."""
        for name in self._secret_fields:
            value = getattr(parameters, name)
            for secret in value if isinstance(value, list | tuple) else (value,):
                if secret:
                    yield secret.reveal()

    def _fast_text(self) -> tuple[str, Template | Broken] | None:
        """The common shape, one required text and nothing else: it needs no conversion and no check."""
        if len(self.slots) != 1 or self.literals or self.step.checks or not self._without_check():
            return None
        slot = self.slots[0]
        plain = slot.field.item is str and not slot.field.many and slot.field.required
        return (slot.field.name, slot.templates[0]) if plain else None

    def _without_check(self) -> bool:
        return type(self.step).check is BaseStep.check

    def _checked(self, values: dict[str, Any]) -> Any:
        try:
            parameters = self.step.Parameters(**values)
        except (TypeError, ValueError) as error:
            raise BindFailed(str(error)) from None
        for slot in self.slots:
            check = self.step.checks.get(slot.field.name)
            if check is not None and slot.field.name in values:
                _refuse(check(values[slot.field.name]))
        if not self._without_check():
            _refuse(self.step.check(parameters))
        return parameters


class BoundTest(msgspec.Struct, frozen=True):
    """All steps of a test, ready to run."""

    steps: tuple[BoundStep, ...]
    cleanup: tuple[BoundStep, ...] = ()


BoundSteps: TypeAlias = tuple[BoundTest, ...]
"""The steps of each test of a plan."""


def _refuse(findings: Any) -> None:
    for finding in findings:
        if finding.severity == Severity.ERROR:
            raise BindFailed(finding.message)


def bind_step(
    plan: StepPlan,
    code: type[BaseStep[Any]],
    position: int,
    compiled: Callable[[str], Template],
    findings: list[Finding] | None = None,
    path: str = "",
    nearest: Nearest | None = None,
) -> BoundStep | None:
    """Binds one step; with `findings`, says there all that is wrong and gives None where that is fatal.

    `path` is where the step's parameters stand, `nearest` gives the hints. Without findings, what is wrong raises
    `BindFailed`: the plan was accepted once, so a plugin has changed.
    """
    said: list[Finding] = []
    step = code()
    literals: dict[str, Any] = {}
    slots: list[Slot] = []
    fields = parameter_fields(code.Parameters)
    for field in fields:
        if field.rest:
            literals[field.name] = _rest(plan, fields)
            continue
        where = f"{path}/{_pointer(field.key)}" if field.key in plan.parameters else path
        said.extend(_bind_field(field, plan, step, compiled, where, literals, slots))
    said.extend(_unknown_keys(plan, fields, path, nearest or Nearest()))
    errors = [finding for finding in said if finding.severity == Severity.ERROR]
    bound: BoundStep | None = None
    if not errors:
        try:
            bound = BoundStep(plan, step, position, literals, slots)
        except (TypeError, ValueError) as error:
            errors = [_error("bad_parameters", path, str(error))]
            said.extend(errors)
    if bound is not None and bound.literal is not None:
        said.extend(_moved(step.check(bound.literal), path))
    if findings is not None:
        findings.extend(said)
    elif errors:
        raise BindFailed(errors[0].message)
    return bound


def plan_secrets(plan: Plan, catalog: Catalog) -> set[str]:
    """The secrets that stand in a plan, of whatever part; to mask them where its descriptor is shown."""
    found: set[str] = set()
    for test in plan.tests:
        for each in (*test.steps, *test.cleanup):
            for field in parameter_fields(catalog.step(each.name).Parameters):
                if field.item is Secret:
                    found.update(text_form(value) for value in each.parameters.get(field.key, ()))
        manager = catalog.target_manager(test.target_manager)
        found.update(_part_secrets(test.acquire_parameters, manager.AcquireParameters))
        found.update(_part_secrets(test.release_parameters, manager.ReleaseParameters))
    for reporter in plan.run_reporters:
        found.update(_part_secrets(reporter.parameters, catalog.reporter(reporter.name).RunParameters))
    for reporter in plan.final_reporters:
        found.update(_part_secrets(reporter.parameters, catalog.reporter(reporter.name).FinalParameters))
    return {secret for secret in found if secret}


def _part_secrets(raw: msgspec.Raw, kind: Any) -> Iterator[str]:
    parameters = decode_part(raw, kind)
    for name in getattr(parameters, "__struct_fields__", ()):
        value = getattr(parameters, name)
        if isinstance(value, Secret):
            yield value.reveal()


def _bind_field(
    field: ParameterField,
    plan: StepPlan,
    step: BaseStep[Any],
    compiled: Callable[[str], Template],
    where: str,
    literals: dict[str, Any],
    slots: list[Slot],
) -> Iterator[Finding]:
    given = plan.parameters.get(field.key, [])
    if field.single and len(given) > 1:
        message = f"parameter {field.key!r} takes one value, has {len(given)}"
        yield _error("too_many", where, message)
        return
    values = given if field.many else given[:1]
    texts = [text_form(value) for value in values]
    if not any(texts) and not (field.many and texts):
        if field.required:
            yield _error("missing_parameter", where, f"missing parameter {field.key!r} of step {plan.name}")
        return
    templates: list[Template | Broken] = []
    if field.expanded:
        for number, text in enumerate(texts):
            try:
                templates.append(compiled(text))
            except TemplateError as error:
                templates.append(Broken(text, error))
                yield _warning("bad_template", f"{where}/{number}", f"the template does not parse: {error}")
        if any(template.literal is None for template in templates):
            slots.append(Slot(field, templates))
            return
        # A template of constants is one text whatever the target; as it was written it is none.
        texts = [template.literal or "" for template in templates]
    try:
        converted = [convert_text(text, field.item) for text in texts]
    except ValueError as error:
        yield _error("bad_parameter", where, f"parameter {field.key!r}: {error}")
        return
    literals[field.name] = converted if field.many else converted[0]
    check = step.checks.get(field.name)
    if check is not None:
        yield from _moved(check(literals[field.name]), where)


def rest_of(code: type[BaseStep[Any]], keys: Iterable[str]) -> frozenset[str]:
    """Those of a step's parameters whose values it takes as they are written."""
    fields = parameter_fields(code.Parameters)
    if not any(field.rest for field in fields):
        return frozenset()
    return frozenset(keys).difference(field.key for field in fields)


def _rest(plan: StepPlan, fields: Sequence[ParameterField]) -> dict[str, list[msgspec.Raw]]:
    named = {field.key for field in fields if not field.rest}
    return {
        key: [msgspec.Raw(text.encode()) for text in values]
        for key, values in plan.parameters.items()
        if key not in named
    }


def _unknown_keys(
    plan: StepPlan, fields: Sequence[ParameterField], path: str, nearest: Nearest
) -> Iterator[Finding]:
    if any(field.rest for field in fields):
        return
    known = [field.key for field in fields]
    for key in plan.parameters:
        if key not in known:
            near = nearest.to(key, known)
            hint = f", did you mean {near!r}?" if near else ""
            yield Finding(
                severity=Severity.WARNING,
                code="unknown_key",
                path=f"{path}/{_pointer(key)}",
                message=f"step {plan.name} has no parameter {key[:64]!r}{hint}",
                nearest=near,
            )


def _moved(findings: Any, path: str) -> Iterator[Finding]:
    for finding in findings:
        yield msgspec.structs.replace(finding, path=path + finding.path)


def _error(code: str, path: str, message: str) -> Finding:
    return Finding(severity=Severity.ERROR, code=code, path=path, message=message)


def _warning(code: str, path: str, message: str) -> Finding:
    return Finding(severity=Severity.WARNING, code=code, path=path, message=message)


def _pointer(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")
