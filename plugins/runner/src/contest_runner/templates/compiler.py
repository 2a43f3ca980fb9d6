"""Compiles the definitions of a template into closures; called by `Template`.

A statement is a closure too: it adds to the output of the rendering and returns None, or BREAK or CONTINUE where the
loop around it shall hear of it. Blocks, not single nodes, count the work that they do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeAlias

from contest_runner.templates.calls import Expression, Reveal
from contest_runner.templates.errors import Refused
from contest_runner.templates.expressions import Expressions
from contest_runner.templates.functions import Function
from contest_runner.templates.limits import Limits
from contest_runner.templates.nodes import (
    ROOT,
    Action,
    Block,
    Bool,
    Branch,
    Break,
    Continue,
    Invocation,
    Node,
    Number,
    Pipe,
    Range,
    Statement,
    String,
    Text,
    latest,
    sees_target,
)
from contest_runner.templates.printer import action_text, pointed_text
from contest_runner.templates.quoting import quote
from contest_runner.templates.state import Scope, State
from contest_runner.templates.values import Byte, ByteSlice

Run: TypeAlias = Callable[[State, Any], object]

_BREAK: Final = "break"
_CONTINUE: Final = "continue"


def compile_definitions(
    source: str,
    definitions: Mapping[str, Block],
    functions: Mapping[str, Function],
    limits: Limits,
    reveal: Reveal | None,
) -> tuple[Run, bool]:
    """The closure of the template itself, and whether it wants a scope in the state.

    With a state and the target it writes into the state's output.
    """
    bodies: dict[str, Run] = {}
    needs_scope = False
    for name, block in definitions.items():
        expressions = Expressions(source, name, functions, limits, reveal)
        on_target = sees_target(name, definitions)
        bodies[name] = _Statements(expressions, bodies, limits).block(block, on_target=on_target)
        needs_scope = needs_scope or expressions.needs_scope
    return bodies[ROOT], needs_scope


def fold(block: Block) -> Block:
    """The block with constants as the text that they print, and with neighbouring texts as one."""
    folded: list[Statement] = []
    for statement in block:
        text = _constant_text(statement)
        if text is None:
            folded.append(statement)
        elif folded and isinstance(folded[-1], Text):
            folded[-1] = Text(folded[-1].position, folded[-1].value + text)
        else:
            folded.append(Text(statement.position, text))
    return tuple(folded)


def _constant_text(statement: Statement) -> str | None:
    if isinstance(statement, Text):
        return statement.value
    if not isinstance(statement, Action) or statement.pipe.declared:
        return None
    operands = [operand for command in statement.pipe.commands for operand in command.operands]
    if len(operands) != 1:
        return None
    match operands[0]:
        case String(value=str(text)):
            return text
        case Bool(value=bool(value)):
            return "true" if value else "false"
        case Number(value=numeral) if numeral.constant is not None:
            return action_text(numeral.constant, 100)
    return None


class _Statements:
    """The compiler of the statements of one definition."""

    def __init__(self, expressions: Expressions, bodies: dict[str, Run], limits: Limits) -> None:
        self._expressions = expressions
        self._bodies = bodies
        """Of all definitions; complete when the first closure runs."""
        self._limits = limits
        self._level = 0

    def block(self, block: Block, *, on_target: bool, around: Node | None = None) -> Run:
        """The closure of a block. `on_target` says that dot is the target for certain; `around` is for errors."""
        expressions = self._expressions
        weight_around, expressions.weight = expressions.weight, 0
        self._level += 1
        runs = [self._statement(statement, on_target) for statement in fold(block)]
        self._level -= 1
        weight = expressions.weight + len(runs) + 1
        expressions.weight = weight_around
        most = self._limits.steps
        where = around or (_shown(block[0]) if block else Text(0, ""))

        def run(state: State, dot: Any) -> object:
            state.steps += weight
            if state.steps > most:
                raise self._expressions.failure(where, f"takes more than {most} steps")
            for statement in runs:
                signal = statement(state, dot)
                if signal is not None:
                    return signal
            return None

        return run

    def _statement(self, statement: Statement, on_target: bool) -> Run:
        match statement:
            case Text():
                return self._text(statement)
            case Action():
                return self._action(statement, on_target)
            case Branch():
                return self._branch(statement, on_target)
            case Range():
                return self._range(statement, on_target)
            case Invocation():
                return self._invocation(statement, on_target)
            case Break():
                return lambda state, dot: _BREAK
            case Continue():
                return lambda state, dot: _CONTINUE

    # Output

    def _text(self, node: Text) -> Run:
        text, length, most = node.value, len(node.value), self._limits.output

        def write(state: State, dot: Any) -> None:
            state.size += length
            if state.size > most:
                raise self._too_much(node)
            state.output.append(text)

        return write

    def _too_much(self, node: Statement) -> Exception:
        message = f"the output is longer than {self._limits.output} characters"
        return self._expressions.failure(_shown(node), message)

    def _action(self, node: Action, on_target: bool) -> Run:
        value = self._expressions.pipe(node.pipe, on_target=on_target)
        if node.pipe.declared:

            def evaluate(state: State, dot: Any) -> None:
                value(state, dot)

            return evaluate
        most = self._limits.output

        def write(state: State, dot: Any) -> None:
            text = value(state, dot)
            if type(text) is not str:
                text = self._printed(node, text)
            state.size += len(text)
            if state.size > most:
                raise self._too_much(node)
            state.output.append(text)

        return write

    def _printed(self, node: Action, value: object) -> str:
        try:
            return action_text(value, self._limits.output)
        except Refused as error:
            raise self._expressions.failure(node, str(error)) from None

    # Control

    def _branch(self, node: Branch, on_target: bool) -> Run:
        declared = self._expressions.declarations
        with_value = node.keyword == "with"
        arms = [
            (
                self._expressions.pipe(pipe, on_target=on_target),
                self.block(body, on_target=on_target and not with_value),
            )
            for pipe, body in node.arms
        ]
        otherwise = self.block(node.otherwise, on_target=on_target)

        def run(state: State, dot: Any) -> object:
            for condition, body in arms:
                value = condition(state, dot)
                if value:
                    return body(state, value if with_value else dot)
            return otherwise(state, dot)

        return run if declared == self._expressions.declarations else _scoped(run)

    def _range(self, node: Range, on_target: bool) -> Run:
        declared = self._expressions.declarations
        value = self._expressions.pipe(node.pipe, on_target=on_target)
        body = self._turn(node)
        otherwise = self.block(node.otherwise, on_target=on_target)

        def run(state: State, dot: Any) -> object:
            items = self._items(state, node, value(state, dot))
            empty = True
            for index, item in items:
                empty = False
                if body(state, index, item) == _BREAK:
                    break
            if not empty:
                return None
            # As in Go, the rest of a loop can go on with the loop around, but what it can leave is only itself.
            signal = otherwise(state, dot)
            return None if signal == _BREAK else signal

        return run if declared == self._expressions.declarations else _scoped(run)

    def _turn(self, node: Range) -> Callable[[State, object, object], object]:
        """One turn of a loop: sets its variables, runs its body, forgets what that declared."""
        declared = self._expressions.declarations
        body = self.block(node.body, on_target=False, around=node.pipe)
        if declared != self._expressions.declarations:
            body = _scoped(body)
        names = [variable.name for variable in node.pipe.declared]
        if not names:
            return lambda state, index, item: body(state, item)
        set_variables = self._assign_turn(node.pipe, names) if node.pipe.assigns else _declare_turn(names)

        def run(state: State, index: object, item: object) -> object:
            set_variables(state, index, item)
            return body(state, item)

        return run

    def _assign_turn(self, pipe: Pipe, names: list[str]) -> Callable[[State, object, object], None]:
        seen = latest(pipe)

        def assign(state: State, index: object, item: object) -> None:
            values = (item,) if len(names) == 1 else (index, item)
            for name, value in zip(names, values, strict=True):
                self._expressions.assign(state, seen, name, value)

        return assign

    def _items(self, state: State, node: Range, value: object) -> Iterable[tuple[object, object]]:
        if value is None:
            return ()
        if isinstance(value, list):
            return enumerate(value)
        if isinstance(value, dict):
            self._expressions.spend(state, node.pipe, len(value))
            return [(key, value[key]) for key in sorted(value)]
        if isinstance(value, ByteSlice):
            return enumerate(map(Byte, self._bytes(node.pipe, value)))
        if isinstance(value, int) and not isinstance(value, bool):
            if len(node.pipe.declared) > 1:
                message = f"can't use {int(value)} to iterate over more than one variable"
                raise self._expressions.failure(latest(node.pipe), message)
            return ((None, type(value)(number)) for number in range(value))
        shown = pointed_text(value, self._limits.output)
        raise self._expressions.failure(latest(node.pipe), f"range can't iterate over {shown}")

    def _bytes(self, node: Pipe, value: ByteSlice) -> bytes:
        try:
            return value.data
        except Refused as error:
            raise self._expressions.failure(node, str(error)) from None

    def _invocation(self, node: Invocation, on_target: bool) -> Run:
        bodies, name, level, most = self._bodies, node.name, self._level, self._limits.depth
        self._expressions.needs_scope = True
        value: Expression = lambda state, dot: None  # noqa: E731
        if node.pipe is not None:
            value = self._expressions.pipe(node.pipe, on_target=on_target)

        def run(state: State, dot: Any) -> None:
            body = bodies.get(name)
            if body is None:
                raise self._expressions.failure(node, f"template {quote(name)} not defined")
            depth = state.depth
            if depth + level > most:
                raise self._expressions.failure(node, f"exceeded maximum template depth ({most})")
            argument = value(state, dot)
            scope, state.scope, state.depth = state.scope, Scope(argument), depth + level
            body(state, argument)
            state.scope, state.depth = scope, depth

        return run


def _scoped(run: Run) -> Run:
    """Forgets afterwards what a block declared."""

    def scoped(state: State, dot: Any) -> object:
        scope = state.scope
        length = len(scope.names)
        signal = run(state, dot)
        scope.leave(length)
        return signal

    return scoped


def _declare_turn(names: list[str]) -> Callable[[State, object, object], None]:
    """Sets the variables that the pipeline of a loop has declared just before, the last ones of the scope."""

    def declare(state: State, index: object, item: object) -> None:
        values = state.scope.values
        if len(names) == 1:
            values[names[0]][-1] = item
        elif names[0] == names[1]:
            values[names[0]][-2:] = [index, item]
        else:
            values[names[0]][-1] = index
            values[names[1]][-1] = item

    return declare


def _shown(statement: Statement) -> Node:
    """The node that an error names: of a statement that does not print, the pipeline in it."""
    match statement:
        case Action() | Range():
            return statement.pipe
        case Branch():
            return statement.arms[0][0]
        case Text():
            return String(statement.position, quote(statement.value[:20]), statement.value)
        case Break() | Continue():
            return String(statement.position, f"{{{{{type(statement).__name__.lower()}}}}}", "")
    return statement
