"""The syntax tree of a template: made by the parser, read by the compiler and by `facts`.

Each node prints as Go prints it; errors show that. Positions are offsets in the source.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, Literal, TypeAlias

from msgspec import Struct

from contest_runner.templates.literals import Numeral
from contest_runner.templates.quoting import quote

ROOT: Final = ""
"""The name of the template itself among its definitions."""


class Node(Struct, frozen=True):
    """What all nodes have."""

    position: int


class Identifier(Node, frozen=True):
    """The name of a function."""

    name: str

    def __str__(self) -> str:
        return self.name


class Dot(Node, frozen=True):
    """The value that `.` is here."""

    def __str__(self) -> str:
        return "."


class Nil(Node, frozen=True):
    """The constant nil: only ever an argument."""

    def __str__(self) -> str:
        return "nil"


class Field(Node, frozen=True):
    """`.A.B`: a field of dot, and fields of that."""

    names: tuple[str, ...]

    def __str__(self) -> str:
        return "." + ".".join(self.names)


class Variable(Node, frozen=True):
    """`$x.A.B`: a variable, with its dollar, and fields of it."""

    name: str
    names: tuple[str, ...] = ()

    def __str__(self) -> str:
        return ".".join((self.name, *self.names))


class Chain(Node, frozen=True):
    """`(…).A.B`: fields of what an expression yields."""

    operand: Operand
    names: tuple[str, ...]

    def __str__(self) -> str:
        return f"{_argument(self.operand)}.{'.'.join(self.names)}"


class Bool(Node, frozen=True):
    """A constant."""

    value: bool

    def __str__(self) -> str:
        return "true" if self.value else "false"


class Number(Node, frozen=True):
    """A constant, with what it can be taken for."""

    text: str
    value: Numeral

    def __str__(self) -> str:
        return self.text


class String(Node, frozen=True):
    """A constant."""

    text: str
    value: str

    def __str__(self) -> str:
        return self.text


class Command(Node, frozen=True):
    """A function or a value, with arguments."""

    operands: tuple[Operand, ...]

    def __str__(self) -> str:
        return " ".join([_argument(operand) for operand in self.operands])


class Pipe(Node, frozen=True):
    """Commands, each getting the value of the one before as its last argument."""

    declared: tuple[Variable, ...]
    assigns: bool
    """`=` rather than `:=`."""
    commands: tuple[Command, ...]

    def __str__(self) -> str:
        commands = " | ".join([str(command) for command in self.commands])
        if not self.declared:
            return commands
        sign = "=" if self.assigns else ":="
        return f"{', '.join([str(variable) for variable in self.declared])} {sign} {commands}"


Operand: TypeAlias = Identifier | Dot | Nil | Field | Variable | Chain | Bool | Number | String | Pipe


def _argument(operand: Operand) -> str:
    return f"({operand})" if isinstance(operand, Pipe) else str(operand)


def latest(node: Command | Operand) -> Node:
    """The node that Go names where something is wrong with a value: the last one that it looked at to get it."""
    match node:
        case Pipe():
            return latest(node.commands[-1])
        case Command():
            first, *arguments = node.operands
            return latest(arguments[-1] if arguments else first)
        case Chain():
            return latest(node.operand)
    return node


class Text(Node, frozen=True):
    """Text that is printed as it is."""

    value: str


class Action(Node, frozen=True):
    """A pipeline whose value is printed, unless it goes into variables."""

    pipe: Pipe

    def __str__(self) -> str:
        return f"{{{{{self.pipe}}}}}"


class Branch(Node, frozen=True):
    """`if` or `with`: the first arm whose condition holds, else the rest."""

    keyword: Literal["if", "with"]
    arms: tuple[tuple[Pipe, Block], ...]
    otherwise: Block


class Range(Node, frozen=True):
    """A loop, and what is done where there is nothing to loop over."""

    pipe: Pipe
    body: Block
    otherwise: Block


class Invocation(Node, frozen=True):
    """`{{template "name" pipeline}}`."""

    name: str
    pipe: Pipe | None

    def __str__(self) -> str:
        argument = "" if self.pipe is None else f" {self.pipe}"
        return f"{{{{template {quote(self.name)}{argument}}}}}"


class Break(Node, frozen=True):
    """Leaves the innermost loop."""


class Continue(Node, frozen=True):
    """Goes on with the next turn of the innermost loop."""


Statement: TypeAlias = Text | Action | Branch | Range | Invocation | Break | Continue
Block: TypeAlias = tuple[Statement, ...]


def invoked(block: Block) -> Iterator[str]:
    """The names of the templates that a block invokes, in all of its depth."""
    for statement in block:
        match statement:
            case Invocation():
                yield statement.name
            case Branch():
                for _, body in statement.arms:
                    yield from invoked(body)
                yield from invoked(statement.otherwise)
            case Range():
                yield from invoked(statement.body)
                yield from invoked(statement.otherwise)


def sees_target(name: str, definitions: Mapping[str, Block]) -> bool:
    """Whether dot, where a definition begins, is the target for certain: nobody invokes it with anything else."""
    return name == ROOT and not any(ROOT in invoked(block) for block in definitions.values())
