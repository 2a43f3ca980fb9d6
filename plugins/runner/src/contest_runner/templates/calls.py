"""Calls functions with the values of a template; what the closures of `expressions` have in common.

The one place where a plugin's function runs: whatever it raises fails the rendering, with its reason.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

from contest_runner.faults import FAULTS, describe
from contest_runner.templates.errors import Refused, TemplateError, exec_error
from contest_runner.templates.functions import Function, Parameter
from contest_runner.templates.limits import Limits
from contest_runner.templates.methods import Method, converted
from contest_runner.templates.nodes import Node
from contest_runner.templates.state import State
from contest_runner.templates.values import Byte, ByteSlice, from_function, to_function, type_name

Expression: TypeAlias = Callable[[State, Any], object]
"""Takes the state of the rendering and what dot is."""
Apply: TypeAlias = Callable[[State, list[object]], object]
Reveal: TypeAlias = Callable[[object], object]
"""Turns what a function returned into a plain value, where it knows it."""

_BIG: Final = 64
"""Strings of so many characters count as work of their own."""
_VERB: Final = 4
"""Steps that a verb of `printf` counts for."""
_PLAIN: Final = frozenset((str, int, float, bool, complex, type(None)))
TYPES: Final[dict[Parameter, type]] = {
    Parameter.STRING: str,
    Parameter.INT: int,
    Parameter.FLOAT: float,
    Parameter.BOOL: bool,
}
"""What a value has to be for each kind of parameter but ANY."""


class Caller:
    """Calls functions for one definition, and makes its errors."""

    def __init__(self, source: str, name: str, limits: Limits, reveal: Reveal | None) -> None:
        self._source = source
        self._name = name
        self._limits = limits
        self._reveal = reveal

    def failure(self, node: Node, message: str) -> TemplateError:
        """The error at a node."""
        return exec_error(self._source, node.position, self._name, str(node), message)

    def spend(self, state: State, node: Node, amount: int) -> None:
        """Counts work. Raises TemplateError where it is too much."""
        state.steps += amount
        if state.steps > self._limits.steps:
            raise self.failure(node, f"takes more than {self._limits.steps} steps")

    def checked(self, node: Node, parameter: Parameter, value: object) -> object:
        """The value, if a parameter takes it. Raises TemplateError where it does not."""
        if parameter is Parameter.ANY or type(value) is TYPES[parameter]:
            return value
        if value is None:
            raise self.failure(node, f"invalid value; expected {parameter.value}")
        got = type_name(value)
        raise self.failure(node, f"wrong type for value; expected {parameter.value}; got {got}")

    def check_arity(self, node: Node, name: str, method: Method, given: int) -> None:
        """Raises TemplateError where a method wants another number of arguments."""
        wanted = len(method.parameters)
        if given != wanted:
            raise self.failure(node, f"wrong number of args for {name}: want {wanted} got {given}")
        if method.unfit:
            raise self.failure(node, f"invalid function signature for {name}: {method.unfit}")

    def slice_argument(self, node: Node, wanted: type[ByteSlice], value: object) -> ByteSlice:
        """The value as an argument of a method. Raises TemplateError where it is none."""
        argument = wanted(None) if value is None else converted(value, wanted)
        if argument is None:
            got = type_name(value)
            raise self.failure(node, f"wrong type for value; expected {wanted.go_type}; got {got}")
        return argument

    def call_method(
        self, state: State, node: Node, name: str, method: Method, value: object, *arguments: object
    ) -> object:
        """What a method returns; its arguments have been checked."""
        try:
            result = method.call(value, *arguments)
        except Refused as error:
            raise self._call_failure(node, name, error) from None
        if type(result) is str:
            self.spend(state, node, len(result) >> 4)
        return result

    def apply(self, node: Node, name: str, function: Function) -> Apply:
        """A closure that calls a function; its values have been checked."""
        call = function.call
        # A function of the language raises nothing else: any other exception there is a mistake of ours.
        expected = Refused if function.built_in else FAULTS
        foreign = not function.built_in
        needs_variables = function.needs_variables
        formats = function.built_in and name == "printf"

        def apply(state: State, values: list[object]) -> object:
            for value in values:
                if type(value) is str:
                    if len(value) > _BIG:
                        self.spend(state, node, len(value) >> 4)
                elif type(value) not in _PLAIN:
                    self._spend_on(state, node, value)
                    if foreign:
                        values = [to_function(value) for value in values]
            if formats:
                self.spend(state, node, _VERB * str(values[0]).count("%"))
            try:
                result = call(state, *values) if needs_variables else call(*values)
            except expected as error:
                raise self._call_failure(node, name, error) from error
            if (foreign and type(result) not in _PLAIN) or (type(result) is str and len(result) > _BIG):
                return self._result(state, node, name, result)
            return result

        return apply

    def _spend_on(self, state: State, node: Node, value: object) -> None:
        if isinstance(value, ByteSlice | list | dict):
            self.spend(state, node, len(value) >> 4)

    def _call_failure(self, node: Node, name: str, error: BaseException) -> TemplateError:
        said = str(error) if isinstance(error, Exception) else describe(error)
        return self.failure(node, f"error calling {name}: {said or type(error).__name__}")

    def _result(self, state: State, node: Node, name: str, result: object) -> object:
        """What a function returned, as a value of a template, if it is one and not too long."""
        if type(result) not in _PLAIN and not isinstance(result, Byte | ByteSlice):
            try:
                result = from_function(result if self._reveal is None else self._reveal(result))
            except TypeError as error:
                raise self._call_failure(node, name, error) from error
        if type(result) is str and len(result) > _BIG:
            if len(result) > self._limits.output:
                reason = Refused(f"the result is longer than {self._limits.output} characters")
                raise self._call_failure(node, name, reason)
            self.spend(state, node, len(result) >> 4)
        return result

    def call_with_string(
        self, node: Node, name: str, function: Function, argument: Expression, given: Node
    ) -> Expression:
        """The common case, `{{ToUpper .FQDN}}`: what `apply` does, for one string, which comes from `given`."""
        call, general = function.call, self.apply(node, name, function)

        def run(state: State, dot: Any) -> object:
            value = argument(state, dot)
            if type(value) is not str or len(value) > _BIG:
                return general(state, [self.checked(given, Parameter.STRING, value)])
            try:
                result = call(value)
            except FAULTS as error:
                raise self._call_failure(node, name, error) from error
            if type(result) is str and len(result) <= _BIG:
                return result
            return self._result(state, node, name, result)

        return run
