"""What can be said of a template without rendering it: for the checks when a job is handed in.

All of it is what is certain: a field of something that is not surely the target, or a reference that is put
together while the template runs, is not listed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from msgspec import Struct

from contest_runner.templates.functions import Function
from contest_runner.templates.nodes import (
    Action,
    Block,
    Branch,
    Chain,
    Command,
    Field,
    Identifier,
    Invocation,
    Operand,
    Pipe,
    Range,
    String,
    Variable,
    sees_target,
)


class Facts(Struct, frozen=True, kw_only=True):
    """The names in a template, each once, in the order in which they appear."""

    fields: tuple[str, ...] = ()
    """Fields of the target: `ID` for `{{.ID}}` and `{{$.ID}}`."""
    functions: tuple[str, ...] = ()
    """Functions, those of the language included."""
    references: tuple[str, ...] = ()
    """`label.variable` as given to functions that read variables."""


def find(definitions: Mapping[str, Block], functions: Mapping[str, Function]) -> Facts:
    """The facts of a template's definitions."""
    finder = _Finder(functions)
    for name, block in definitions.items():
        certain = sees_target(name, definitions)
        finder.block(block, on_target=certain, in_root=certain)
    return Facts(
        fields=tuple(finder.fields), functions=tuple(finder.names), references=tuple(finder.references)
    )


class _Finder:
    def __init__(self, functions: Mapping[str, Function]) -> None:
        self._functions = functions
        # Dictionaries, for they keep the order.
        self.fields: dict[str, None] = {}
        self.names: dict[str, None] = {}
        self.references: dict[str, None] = {}

    def block(self, block: Block, *, on_target: bool, in_root: bool) -> None:
        for statement in block:
            match statement:
                case Action(pipe=Pipe() as pipe) | Invocation(pipe=Pipe() as pipe):
                    self._pipe(pipe, on_target, in_root)
                case Branch():
                    inner = on_target and statement.keyword == "if"
                    for pipe, body in statement.arms:
                        self._pipe(pipe, on_target, in_root)
                        self.block(body, on_target=inner, in_root=in_root)
                    self.block(statement.otherwise, on_target=on_target, in_root=in_root)
                case Range():
                    self._pipe(statement.pipe, on_target, in_root)
                    self.block(statement.body, on_target=False, in_root=in_root)
                    self.block(statement.otherwise, on_target=on_target, in_root=in_root)

    def _pipe(self, pipe: Pipe, on_target: bool, in_root: bool) -> None:
        before: Command | None = None
        for command in pipe.commands:
            self._command(command, before)
            before = command
            for operand in command.operands:
                for inner in _inside(operand):
                    self._operand(inner, on_target, in_root)

    def _command(self, command: Command, before: Command | None) -> None:
        first = command.operands[0]
        if not isinstance(first, Identifier) or not self._functions[first.name].needs_variables:
            return
        arguments = [*command.operands[1:], *(before.operands if before is not None else ())]
        if len(arguments) == 1 and isinstance(arguments[0], String):
            self.references[arguments[0].value] = None

    def _operand(self, operand: Operand, on_target: bool, in_root: bool) -> None:
        match operand:
            case Identifier():
                self.names[operand.name] = None
            case Field() if on_target:
                self.fields[operand.names[0]] = None
            case Variable(name="$") if in_root and operand.names:
                self.fields[operand.names[0]] = None
            case Pipe():
                self._pipe(operand, on_target, in_root)


def _inside(operand: Operand) -> Iterator[Operand]:
    while isinstance(operand, Chain):
        operand = operand.operand
    yield operand
