"""The functions of ConTest, and what the engine has to know of any function.

A function is a Python callable: what it takes is read from its annotations, `str`, `int`, `float` and `bool` are held
against what the template passes, as Go does it, all else takes anything. It returns a string or a number; what it
raises fails the rendering with `error calling NAME: REASON`. Plugins add theirs to the mapping that the runner hands
to `compile`; `STANDARD` are the ones that ConTest always has.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Final, Protocol, TypeAlias, TypeVar, get_type_hints

from msgspec import DecodeError, Struct
from msgspec.json import Decoder

from contest_runner.templates.quoting import without_surrogates
from contest_runner.templates.values import TargetData

Variables: TypeAlias = Mapping[str, Mapping[str, bytes]]
"""What the steps before have set for a target: by label, by name, as raw JSON."""


class Rendering(Protocol):
    """What a function marked by `needs_variables` gets before its arguments."""

    @property
    def target(self) -> TargetData:
        """The target that the template is rendered for."""

    @property
    def variables(self) -> Variables:
        """The variables of that target."""


class Parameter(Enum):
    """What a function takes; the value is the type's name in Go."""

    ANY = "interface {}"
    STRING = "string"
    INT = "int"
    FLOAT = "float64"
    BOOL = "bool"


class Function(Struct, frozen=True, kw_only=True):
    """A callable, with what the engine has to know of it."""

    call: Callable[..., object]
    parameters: tuple[Parameter, ...]
    """Of its arguments, but for those that `rest` stands for."""
    least: int
    """How many it needs."""
    rest: Parameter | None = None
    """Of any number of further arguments; None takes none."""
    needs_variables: bool = False
    """Gets a `Rendering` first."""
    built_in: bool = False
    """Of the language itself: takes and yields values as the engine has them, and raises nothing but Refused."""

    def parameter(self, index: int) -> Parameter:
        """Of the argument at an index that `takes` allows."""
        return self.parameters[index] if index < len(self.parameters) else self.rest or Parameter.ANY

    def arity_error(self, name: str, given: int, piped: bool) -> str | None:
        """What is wrong with so many arguments, the piped one included; None where nothing is."""
        if given < self.least:
            least = "at least " if self.rest is not None or self.least < len(self.parameters) else ""
            got = given - piped if self.rest is not None else given
            return f"wrong number of args for {name}: want {least}{self.least} got {got}"
        if self.rest is None and given > len(self.parameters):
            most = "at most " if self.least < len(self.parameters) else ""
            return f"wrong number of args for {name}: want {most}{len(self.parameters)} got {given}"
        return None


_NEEDS_VARIABLES: Final = "__contest_needs_variables__"
_Callable = TypeVar("_Callable", bound=Callable[..., object])
_PARAMETERS: Final[dict[object, Parameter]] = {
    str: Parameter.STRING,
    int: Parameter.INT,
    float: Parameter.FLOAT,
    bool: Parameter.BOOL,
}


def needs_variables(function: _Callable) -> _Callable:
    """Marks a function that reads variables: it gets a `Rendering` first, and exists only where there are variables."""
    setattr(function, _NEEDS_VARIABLES, True)
    return function


def reads_variables(function: Callable[..., object] | Function) -> bool:
    """Whether a function exists only where there are variables."""
    if isinstance(function, Function):
        return function.needs_variables
    return bool(getattr(function, _NEEDS_VARIABLES, False))


def describe(function: Callable[..., object]) -> Function:
    """What the engine has to know of a callable."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except ValueError:  # some functions written in C do not say
        return Function(call=function, parameters=(), least=0, rest=Parameter.ANY)
    types = _annotations(function)
    needs = reads_variables(function)
    positional = [
        parameter
        for parameter in parameters[needs:]
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    rest = [parameter for parameter in parameters if parameter.kind is parameter.VAR_POSITIONAL]

    def kind(parameter: inspect.Parameter) -> Parameter:
        return _PARAMETERS.get(types.get(parameter.name), Parameter.ANY)

    return Function(
        call=function,
        parameters=tuple([kind(parameter) for parameter in positional]),
        least=sum(parameter.default is parameter.empty for parameter in positional),
        rest=kind(rest[0]) if rest else None,
        needs_variables=needs,
    )


def _annotations(function: Callable[..., object]) -> dict[str, Any]:
    try:
        return get_type_hints(function if inspect.isroutine(function) else type(function).__call__)
    except (AttributeError, NameError, SyntaxError, TypeError):
        return {}  # names that only a type checker has: then it takes anything


def _simple_case(char: str, mapped: str) -> str:
    # Go maps a character to one character; Python's `title` has that one where `upper` has more.
    if len(mapped) == 1:
        return mapped
    title = char.title()
    return title if len(title) == 1 else char


def to_upper(text: str) -> str:
    """`ToUpper`: every letter for itself, so that `ß` stays."""
    if text.isascii():
        return text.upper()
    return "".join([_simple_case(char, char.upper()) for char in without_surrogates(text)])


def to_lower(text: str) -> str:
    """`ToLower`: every letter for itself, whatever is beside it."""
    if text.isascii():
        return text.lower()
    return "".join([char.lower()[0] for char in without_surrogates(text)])


_WORD_START: Final = re.compile(r"(?<![0-9A-Za-z_])[a-z]")


def title(text: str) -> str:
    """`Title`: the first letter of each word in upper case, the rest as it is."""
    if text.isascii():
        return _WORD_START.sub(lambda match: match[0].upper(), text)
    before = " "
    characters: list[str] = []
    for char in without_surrogates(text):
        characters.append(_simple_case(char, char.title()) if _is_separator(before) else char)
        before = char
    return "".join(characters)


def _is_separator(char: str) -> bool:
    if char.isascii():
        return not (char.isalnum() or char == "_")
    return not (char.isalpha() or char.isdecimal()) and char.isspace()


def do_nothing(*texts: str) -> str:
    """`do_nothing`: its first argument."""
    if not texts:
        raise ValueError("at least one argument is needed")
    return texts[0]


_decode_string = Decoder(str).decode
_INTEGER: Final = re.compile(b"-?[0-9]{1,19}")
_KINDS: Final = {"{": "object", "[": "array", '"': "string", "t": "bool", "f": "bool", "n": "null"}


def check_reference(reference: str) -> tuple[str, str]:
    """The label and the name in `label.variable`. Raises ValueError where it is no such reference."""
    label, dot, name = reference.partition(".")
    if not dot:
        raise ValueError(f"not 'label.variable' format of '{reference}'")
    for what, part in (("step label", label), ("variable name", name)):
        if not (part.isascii() and part.isidentifier()) or part[0] == "_":
            raise ValueError(f"invalid {what}: '{part}': want a letter, then letters, digits and '_'")
    return label, name


def _read(rendering: Rendering, reference: str) -> bytes:
    label, name = check_reference(reference)
    of_step = rendering.variables.get(label)
    if of_step is None:
        raise ValueError(f"step '{label}' didn't emit any variables yet")
    raw = of_step.get(name)
    if raw is None:
        raise ValueError(
            f"step '{label}' didn't emit variable '{name}' yet for target '{rendering.target.id}'"
        )
    return raw.strip(b" \t\r\n")


def _mismatch(raw: bytes, wanted: str) -> ValueError:
    text = raw.decode("utf-8", "replace")
    kind = _KINDS.get(text[:1], "number")
    shown = f"number {text}" if kind == "number" and wanted == "int" else kind
    return ValueError(f"json: cannot unmarshal {shown} into Go value of type {wanted}")


@needs_variables
def string_var(rendering: Rendering, reference: str) -> str:
    """`StringVar`: a variable that holds a string, empty where it is null."""
    raw = _read(rendering, reference)
    if raw == b"null":
        return ""
    if not raw.startswith(b'"'):
        raise _mismatch(raw, "string")
    try:
        return _decode_string(raw)
    except DecodeError:  # half a surrogate pair, which Go reads as U+FFFD
        return without_surrogates(str(json.loads(raw.decode("utf-8", "replace"), strict=False)))


@needs_variables
def int_var(rendering: Rendering, reference: str) -> int:
    """`IntVar`: a variable that holds an integer, 0 where it is null."""
    raw = _read(rendering, reference)
    if raw == b"null":
        return 0
    if not _INTEGER.fullmatch(raw):
        raise _mismatch(raw, "int")
    value = int(raw)
    if not -(2**63) <= value < 2**63:
        raise _mismatch(raw, "int")
    return value


STANDARD: Final[Mapping[str, Callable[..., object]]] = {
    "ToUpper": to_upper,
    "ToLower": to_lower,
    "Title": title,
    "do_nothing": do_nothing,
    "StringVar": string_var,
    "IntVar": int_var,
}
"""The functions of ConTest by the names that templates use."""
