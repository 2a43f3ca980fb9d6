"""Compiles the expressions of one definition into closures; the statements of `compiler` call them.

A closure takes the state of the rendering and what dot is, and returns a value. All that can be found out before is
found out while compiling: which function, how many arguments, constants of which type. What Go finds out only
when it executes the template is an error then, too: the closure that would do it raises instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from typing import Any, NoReturn, TypeAlias

from msgspec import structs

from contest_runner.templates.calls import TYPES, Caller, Expression, Reveal
from contest_runner.templates.errors import Refused
from contest_runner.templates.functions import Function, Parameter
from contest_runner.templates.limits import Limits
from contest_runner.templates.methods import method_of
from contest_runner.templates.nodes import (
    Bool,
    Chain,
    Command,
    Dot,
    Field,
    Identifier,
    Nil,
    Node,
    Number,
    Operand,
    Pipe,
    String,
    Variable,
    latest,
)
from contest_runner.templates.state import State
from contest_runner.templates.values import TARGET_FIELDS, TARGET_TYPE, ByteSlice, field_of

Stage: TypeAlias = Callable[[State, Any, object], object]
"""A command that gets the value of the one before it."""
_CONSTANT = (Nil, Bool, Number, String)


class Expressions(Caller):
    """The compiler of the expressions of one definition."""

    def __init__(
        self, source: str, name: str, functions: Mapping[str, Function], limits: Limits, reveal: Reveal | None
    ) -> None:
        super().__init__(source, name, limits, reveal)
        self._functions = functions
        self.weight = 0
        """Nodes compiled so far: what running them costs."""
        self.declarations = 0
        """Variables declared so far."""
        self.needs_scope = False
        """Whether a variable was named so far."""

    # Pipelines

    def pipe(self, pipe: Pipe, *, on_target: bool) -> Expression:
        """The value of a pipeline. `on_target` says that dot is the target for certain."""
        value = self._commands(pipe, on_target)
        if not pipe.declared:
            return value
        names = [variable.name for variable in pipe.declared]
        self.declarations += len(names)
        self.needs_scope = True
        return self._assigning(pipe, value, names) if pipe.assigns else _declaring(value, names)

    def _commands(self, pipe: Pipe, on_target: bool) -> Expression:
        first = self._command(pipe.commands[0], on_target, pipe)
        if len(pipe.commands) == 2 and (function := self._of_one_string(pipe.commands[1])):
            name = str(pipe.commands[1])
            return self.call_with_string(
                pipe.commands[1], name, function, first, pipe.commands[1].operands[0]
            )
        stages = [
            self._stage(command, on_target, latest(before)) for before, command in pairwise(pipe.commands)
        ]
        if not stages:
            return first
        if len(stages) == 1:
            last = stages[0]
            return lambda state, dot: last(state, dot, first(state, dot))

        def run(state: State, dot: Any) -> object:
            value = first(state, dot)
            for stage in stages:
                value = stage(state, dot, value)
            return value

        return run

    def _assigning(self, pipe: Pipe, value: Expression, names: list[str]) -> Expression:
        seen = latest(pipe)

        def assign(state: State, dot: Any) -> object:
            result = value(state, dot)
            for name in names:
                self.assign(state, seen, name, result)
            return result

        return assign

    def assign(self, state: State, node: Node, name: str, value: object) -> None:
        """Gives a variable that is declared another value."""
        values = state.scope.values.get(name)
        if not values:
            raise self.failure(node, f"undefined variable: {name}")
        values[-1] = value

    # Commands

    def _command(self, command: Command, on_target: bool, before: Node) -> Expression:
        first, arguments = command.operands[0], command.operands[1:]
        if isinstance(first, Identifier):
            return self._call(command, first, arguments, on_target)
        value = self._operand(first, on_target)
        if arguments:
            call = self._with_arguments(first, arguments, on_target, before, piped=False)
            return lambda state, dot: call(state, dot, None)
        if isinstance(first, Nil):
            return self._failing(first, "nil is not a command")
        return value

    def _stage(self, command: Command, on_target: bool, before: Node) -> Stage:
        first = command.operands[0]
        if isinstance(first, Identifier):
            return self._piped_call(command, first, command.operands[1:], on_target)
        return self._with_arguments(first, command.operands[1:], on_target, before, piped=True)

    def _with_arguments(
        self,
        operand: Operand,
        arguments: tuple[Operand, ...],
        on_target: bool,
        before: Node,
        *,
        piped: bool,
    ) -> Stage:
        """A command that is no function but gets arguments: only a method takes them.

        `before` is the node that Go was at when it came to the command.
        """
        if not isinstance(operand, Field | Variable | Chain) or not operand.names:
            return self._no_function(operand, before)
        receiver = self._fields(operand, self._base(operand, on_target), operand.names[:-1])
        last, seen = operand.names[-1], _seen(operand)
        final_seen = latest(arguments[-1]) if arguments else seen
        values = [self._method_argument(node, on_target) for node in arguments]
        given = len(values) + piped

        def call(state: State, dot: Any, final: object) -> object:
            value = receiver(state, dot)
            if value is None:
                return None
            method = method_of(value, last)
            if method is None:
                self._field_of(state, operand, value, last)  # what is wrong with the field itself comes first
                raise self.failure(seen, f"{last} has arguments but cannot be invoked as function")
            self.check_arity(seen, last, method, given)
            wanted = method.parameters
            passed = [argument(state, dot, kind) for argument, kind in zip(values, wanted, strict=False)]
            if piped:
                passed.append(self.slice_argument(final_seen, wanted[-1], final))
            return self.call_method(state, operand, last, method, value, *passed)

        return call

    def _no_function(self, operand: Operand, before: Node) -> Stage:
        where = before if isinstance(operand, Pipe) else operand
        look = self._variable(operand) if isinstance(operand, Variable) else _dot

        def fail(state: State, dot: Any, final: object) -> NoReturn:
            look(state, dot)  # a variable that is not there comes first
            raise self.failure(where, f"can't give argument to non-function {operand}")

        return fail

    def _method_argument(
        self, node: Operand, on_target: bool
    ) -> Callable[[State, Any, type[ByteSlice]], ByteSlice]:
        if isinstance(node, Bool | Number | String):

            def fail(state: State, dot: Any, wanted: type[ByteSlice]) -> NoReturn:
                raise self.failure(node, f"can't handle {node} for arg of type {wanted.go_type}")

            return fail
        value, seen = self._operand(node, on_target), latest(node)
        return lambda state, dot, wanted: self.slice_argument(seen, wanted, value(state, dot))

    def _failing(self, node: Node, message: str) -> Expression:
        def fail(state: State, dot: Any) -> NoReturn:
            raise self.failure(node, message)

        return fail

    # Operands

    def _operand(self, node: Operand, on_target: bool) -> Expression:
        self.weight += 1
        match node:
            case Dot():
                return _dot
            case Nil():
                return lambda state, dot: None
            case Field():
                return self._field(node, on_target)
            case Variable() | Chain():
                return self._fields(node, self._base(node, on_target), node.names)
            case Identifier():
                return self._call(node, node, (), on_target)
            case Pipe():
                return self.pipe(node, on_target=on_target)
            case Bool() | String():
                return _constant(node.value)
            case Number():
                if node.value.constant is None:
                    return self._failing(node, f"{node} overflows int")
                return _constant(node.value.constant)

    def _field(self, node: Field, on_target: bool) -> Expression:
        name, rest = node.names[0], node.names[1:]
        if not on_target:
            return self._fields(node, _dot, node.names)
        if name == "String":
            value: Expression = lambda state, dot: self._field_of(state, node, dot, name)  # noqa: E731
        elif name in TARGET_FIELDS:
            get = TARGET_FIELDS[name]
            value = lambda state, dot: get(dot)  # noqa: E731
        else:
            return self._failing(node, f"can't evaluate field {name} in type {TARGET_TYPE}")
        return self._fields(node, value, rest)

    def _base(self, node: Field | Variable | Chain, on_target: bool) -> Expression:
        """What the fields of an operand are fields of."""
        if isinstance(node, Field):
            return _dot
        if isinstance(node, Variable):
            return self._variable(node)
        if isinstance(node.operand, Nil):
            return self._failing(node, f"indirection through explicit nil in {node}")
        return self._operand(node.operand, on_target)

    def _fields(self, node: Operand, value: Expression, names: tuple[str, ...]) -> Expression:
        if not names:
            return value

        def read(state: State, dot: Any) -> object:
            result = value(state, dot)
            for name in names:
                result = self._field_of(state, node, result, name)
            return result

        return read

    def _field_of(self, state: State, node: Operand, value: object, name: str) -> object:
        method = method_of(value, name)
        if method is not None:
            self.check_arity(_seen(node), name, method, 0)
            return self.call_method(state, node, name, method, value)
        try:
            return field_of(value, name)
        except Refused as error:
            raise self.failure(_seen(node), str(error)) from None

    def _variable(self, node: Variable) -> Expression:
        name = node.name
        self.needs_scope = True

        def read(state: State, dot: Any) -> object:
            values = state.scope.values.get(name)
            if not values:
                raise self.failure(node, f"undefined variable: {name}")
            return values[-1]

        return read

    # Calls

    def _call(
        self, node: Node, identifier: Identifier, arguments: tuple[Operand, ...], on_target: bool
    ) -> Expression:
        self.weight += 1
        name = identifier.name
        function = self._functions[name]
        wrong = function.arity_error(name, len(arguments), False)
        if wrong is not None:
            return self._failing(identifier, wrong)
        if function.built_in and name in ("and", "or"):
            return self._short_circuit(name, arguments, on_target)
        if (
            len(arguments) == 1
            and self._takes_one_string(function)
            and not isinstance(arguments[0], _CONSTANT)
        ):
            value = self._operand(arguments[0], on_target)
            return self.call_with_string(node, name, function, value, latest(arguments[0]))
        values = self._arguments(function, arguments, on_target)
        apply = self.apply(node, name, _named(function, name, arguments))
        if len(values) == 1:
            only = values[0]
            return lambda state, dot: apply(state, [only(state, dot)])
        if len(values) == 2:
            first, second = values
            return lambda state, dot: apply(state, [first(state, dot), second(state, dot)])
        return lambda state, dot: apply(state, [value(state, dot) for value in values])

    def _takes_one_string(self, function: Function) -> bool:
        """Whether a function may be called with one string and nothing else, by the short way."""
        special = function.built_in or function.needs_variables
        return not special and function.parameter(0) is Parameter.STRING and function.least <= 1

    def _of_one_string(self, command: Command) -> Function | None:
        """The function that a command calls with nothing but what is piped into it, where that is a string."""
        first = command.operands[0]
        if len(command.operands) > 1 or not isinstance(first, Identifier):
            return None
        function = self._functions[first.name]
        wrong = function.arity_error(first.name, 1, True)
        return function if wrong is None and self._takes_one_string(function) else None

    def _piped_call(
        self, node: Command, identifier: Identifier, arguments: tuple[Operand, ...], on_target: bool
    ) -> Stage:
        self.weight += 1
        name = identifier.name
        function = self._functions[name]
        wrong = function.arity_error(name, len(arguments) + 1, True)
        if wrong is not None:
            fail = self._failing(identifier, wrong)
            return lambda state, dot, final: fail(state, dot)
        if function.built_in and name in ("and", "or"):
            return self._piped_short_circuit(name, arguments, on_target)
        values = self._arguments(function, arguments, on_target)
        parameter = function.parameter(len(arguments))
        apply = self.apply(node, name, _named(function, name, arguments))
        seen = latest(arguments[-1]) if arguments else identifier

        def call(state: State, dot: Any, final: object) -> object:
            given = [value(state, dot) for value in values]
            given.append(self.checked(seen, parameter, final))
            return apply(state, given)

        return call

    def _arguments(
        self, function: Function, arguments: tuple[Operand, ...], on_target: bool
    ) -> list[Expression]:
        return [
            self._argument(node, function.parameter(index), on_target) for index, node in enumerate(arguments)
        ]

    def _argument(self, node: Operand, parameter: Parameter, on_target: bool) -> Expression:
        if parameter is Parameter.ANY:
            return self._operand(node, on_target)
        match node:
            case Nil():
                return self._failing(node, f"cannot assign nil to {parameter.value}")
            case Bool() | Number() | String():
                return self._typed_constant(node, parameter)
        value, seen = self._operand(node, on_target), latest(node)
        return lambda state, dot: self.checked(seen, parameter, value(state, dot))

    def _typed_constant(self, node: Bool | String | Number, parameter: Parameter) -> Expression:
        self.weight += 1
        value: object = node.value
        if isinstance(node, Number):
            value = node.value.integer if parameter is Parameter.INT else node.value.real
            value = None if parameter in (Parameter.STRING, Parameter.BOOL) else value
        if type(value) is not TYPES[parameter]:
            wanted = {Parameter.INT: "integer", Parameter.FLOAT: "float"}.get(parameter, parameter.value)
            return self._failing(node, f"expected {wanted}; found {node}")
        return _constant(value)

    def _short_circuit(self, name: str, arguments: tuple[Operand, ...], on_target: bool) -> Expression:
        values = [self._operand(node, on_target) for node in arguments]
        ends_at = name == "or"

        def evaluate(state: State, dot: Any) -> object:
            result: object = None
            for value in values:
                result = value(state, dot)
                if bool(result) is ends_at:
                    break
            return result

        return evaluate

    def _piped_short_circuit(self, name: str, arguments: tuple[Operand, ...], on_target: bool) -> Stage:
        evaluate = self._short_circuit(name, arguments, on_target)
        ends_at = name == "or"

        def with_final(state: State, dot: Any, final: object) -> object:
            if not arguments:
                return final
            result = evaluate(state, dot)
            return result if bool(result) is ends_at else final

        return with_final


def _named(function: Function, name: str, arguments: tuple[Operand, ...]) -> Function:
    """The function; `call` is told how what it shall call is written."""
    if not (function.built_in and name == "call" and arguments):
        return function
    return structs.replace(function, call=partial(function.call, written=str(arguments[0])))


def _seen(operand: Operand) -> Node:
    """The node that an error names which is about a field of an operand."""
    return latest(operand.operand) if isinstance(operand, Chain) else operand


def _dot(state: State, dot: Any) -> object:
    return dot


def _constant(value: object) -> Expression:
    return lambda state, dot: value


def _declaring(value: Expression, names: list[str]) -> Expression:
    def declare(state: State, dot: Any) -> object:
        result = value(state, dot)
        for name in names:
            state.scope.declare(name, result)
        return result

    return declare
