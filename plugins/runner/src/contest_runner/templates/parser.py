"""Makes a syntax tree of the tokens of a template; called by `compile`, calls the lexer.

What Go's text/template refuses is refused here, with its words. Names of functions are known here and nothing else
about them: how many arguments they take shows when they are called.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import Enum
from typing import Final, Literal, NoReturn

from contest_runner.templates import literals
from contest_runner.templates.errors import TemplateError, parse_error
from contest_runner.templates.lexer import Kind, Token, lex
from contest_runner.templates.limits import Limits
from contest_runner.templates.nodes import (
    ROOT,
    Action,
    Block,
    Bool,
    Branch,
    Break,
    Chain,
    Command,
    Continue,
    Dot,
    Field,
    Identifier,
    Invocation,
    Nil,
    Number,
    Operand,
    Pipe,
    Range,
    Statement,
    String,
    Text,
    Variable,
)
from contest_runner.templates.quoting import quote

_NUMBERS: Final = {
    Kind.NUMBER: literals.number,
    Kind.RUNE: literals.rune,
    Kind.COMPLEX: literals.complex_number,
}
_BEGIN_OPERAND: Final = frozenset(
    (
        Kind.BOOL,
        Kind.RUNE,
        Kind.COMPLEX,
        Kind.DOT,
        Kind.FIELD,
        Kind.IDENTIFIER,
        Kind.NUMBER,
        Kind.NIL,
        Kind.RAW_STRING,
        Kind.STRING,
        Kind.VARIABLE,
        Kind.LEFT_PAREN,
    )
)


class _Close(Enum):
    """What ends a block, as it is written."""

    END = "{{end}}"
    ELSE = "{{else}}"


def parse(source: str, functions: Collection[str], limits: Limits) -> dict[str, Block]:
    """The definitions of a template, its own body under `ROOT`.

    Raises TemplateError.
    """
    return _Parser(source, functions, limits).parse()


class _Parser:
    def __init__(self, source: str, functions: Collection[str], limits: Limits) -> None:
        self._source = source
        self._functions = functions
        self._limits = limits
        self._tokens = lex(source)
        self._count = 0
        self._ahead: list[Token] = []
        """Tokens that were read and given back, the next one last."""
        self._last = Token(Kind.EOF, "", 0)
        """The newest token of the lexer: errors are there."""
        self._action_position = -1
        self._scopes: list[set[str]] = [{"$"}]
        """The variables that are known here, block by block."""
        self._loops = 0
        self._nesting = 0
        self._definitions: dict[str, Block] = {}

    # Tokens

    def _next(self) -> Token:
        if self._ahead:
            return self._ahead.pop()
        while self._last.kind is not Kind.ERROR:
            self._last = next(self._tokens)
            self._count += 1
            if self._count > self._limits.tokens:
                self._fail(f"more than {self._limits.tokens} tokens")
            if self._last.kind is not Kind.COMMENT:
                break
        return self._last

    def _next_word(self) -> Token:
        token = self._next()
        while token.kind is Kind.SPACE:
            token = self._next()
        return token

    def _back(self, *tokens: Token) -> None:
        self._ahead.extend(reversed(tokens))

    def _peek(self) -> Token:
        token = self._next()
        self._back(token)
        return token

    def _peek_word(self) -> Token:
        token = self._next_word()
        self._back(token)
        return token

    def _expect(self, context: str, *kinds: Kind) -> Token:
        token = self._next_word()
        if token.kind not in kinds:
            self._unexpected(token, context)
        return token

    def _fail(self, message: str) -> NoReturn:
        raise self._error(message)

    def _error(self, message: str) -> TemplateError:
        return parse_error(self._source, self._last.position, message)

    def _unexpected(self, token: Token, context: str) -> NoReturn:
        if token.kind is not Kind.ERROR:
            self._fail(f"unexpected {token} in {context}")
        extra = ""
        begun = self._source.count("\n", 0, max(self._action_position, 0)) + 1
        if self._action_position >= 0 and begun != self._source.count("\n", 0, token.position) + 1:
            started = f"started at :{begun}"
            extra = f" {started}" if token.text.endswith(" action") else f" in action {started}"
        self._fail(f"{token}{extra}")

    # Blocks

    def parse(self) -> dict[str, Block]:
        statements: list[Statement] = []
        while self._peek().kind is not Kind.EOF:
            if self._peek().kind is Kind.LEFT and self._definition():
                continue
            statement = self._statement()
            if isinstance(statement, _Close):
                self._fail(f"unexpected {statement.value}")
            statements.append(statement)
        self._define(ROOT, tuple(statements))
        return self._definitions

    def _definition(self) -> bool:
        left = self._next()
        word = self._next_word()
        if word.kind is not Kind.DEFINE:
            self._back(left, word)
            return False
        context = "define clause"
        name = self._unquote(self._expect(context, Kind.STRING, Kind.RAW_STRING))
        self._expect(context, Kind.RIGHT)
        self._body_of(name, context)
        return True

    def _body_of(self, name: str, context: str) -> None:
        """The body of a definition: it sees no variable and no loop of where it is written."""
        outer = self._scopes, self._loops
        self._scopes, self._loops = [{"$"}], 0
        body, close = self._block()
        if close is not _Close.END:
            self._fail(f"unexpected {close.value} in {context}")
        self._scopes, self._loops = outer
        self._define(name, body)

    def _define(self, name: str, body: Block) -> None:
        if _is_empty(self._definitions.get(name, ())):
            self._definitions[name] = body
        elif not _is_empty(body):
            self._fail(f"template: multiple definition of template {quote(name)}")

    def _block(self) -> tuple[Block, _Close]:
        self._nest()
        statements: list[Statement] = []
        while self._peek_word().kind is not Kind.EOF:
            statement = self._statement()
            if isinstance(statement, _Close):
                self._nesting -= 1
                return tuple(statements), statement
            statements.append(statement)
        self._fail("unexpected EOF")

    def _nest(self) -> None:
        self._nesting += 1
        if self._nesting > self._limits.nesting:
            self._fail(f"nested more than {self._limits.nesting} deep")

    def _statement(self) -> Statement | _Close:
        token = self._next_word()
        if token.kind is Kind.TEXT:
            return Text(token.position, token.text)
        if token.kind is not Kind.LEFT:
            self._unexpected(token, "input")
        self._action_position = token.position
        statement = self._action()
        self._action_position = -1
        return statement

    def _action(self) -> Statement | _Close:
        token = self._next_word()
        match token.kind:
            case Kind.IF:
                return self._branch(token, "if")
            case Kind.WITH:
                return self._branch(token, "with")
            case Kind.RANGE:
                return self._range(token)
            case Kind.BREAK | Kind.CONTINUE:
                return self._leave_loop(token)
            case Kind.TEMPLATE:
                return self._invocation()
            case Kind.BLOCK:
                return self._inline_definition()
            case Kind.END:
                self._expect("end", Kind.RIGHT)
                return _Close.END
            case Kind.ELSE:
                if self._peek_word().kind not in (Kind.IF, Kind.WITH):
                    self._expect("else", Kind.RIGHT)
                return _Close.ELSE
            case _:
                self._back(token)
                # What it declares is known until the block ends.
                return Action(token.position, self._pipe("command", Kind.RIGHT))

    def _branch(self, token: Token, keyword: Literal["if", "with"]) -> Branch:
        self._scopes.append(set())
        again = Kind.IF if keyword == "if" else Kind.WITH
        arms: list[tuple[Pipe, Block]] = []
        otherwise: Block = ()
        while True:
            pipe = self._pipe(keyword, Kind.RIGHT)
            body, close = self._block()
            arms.append((pipe, body))
            if close is _Close.ELSE and self._peek().kind is again:
                self._next()
                continue
            if close is _Close.ELSE:
                otherwise = self._rest()
            break
        self._scopes.pop()
        return Branch(token.position, keyword, tuple(arms), otherwise)

    def _range(self, token: Token) -> Range:
        self._scopes.append(set())
        pipe = self._pipe("range", Kind.RIGHT)
        self._loops += 1
        body, close = self._block()
        self._loops -= 1
        otherwise = self._rest() if close is _Close.ELSE else ()
        self._scopes.pop()
        return Range(pipe.position, pipe, body, otherwise)

    def _rest(self) -> Block:
        block, close = self._block()
        if close is not _Close.END:
            self._fail(f"expected end; found {close.value}")
        return block

    def _leave_loop(self, token: Token) -> Statement:
        written = f"{{{{{token.text}}}}}"
        self._expect(written, Kind.RIGHT)
        if not self._loops:
            self._fail(f"{written} outside {{{{range}}}}")
        return (Break if token.kind is Kind.BREAK else Continue)(token.position)

    def _invocation(self) -> Invocation:
        token = self._expect("template clause", Kind.STRING, Kind.RAW_STRING)
        name = self._unquote(token)
        word = self._next_word()
        if word.kind is Kind.RIGHT:
            return Invocation(token.position, name, None)
        self._back(word)
        return Invocation(token.position, name, self._pipe("template clause", Kind.RIGHT))

    def _inline_definition(self) -> Invocation:
        context = "block clause"
        token = self._expect(context, Kind.STRING, Kind.RAW_STRING)
        name = self._unquote(token)
        pipe = self._pipe(context, Kind.RIGHT)
        self._body_of(name, context)
        return Invocation(token.position, name, pipe)

    # Expressions

    def _pipe(self, context: str, end: Kind) -> Pipe:
        position = self._peek_word().position
        declared, assigns = self._declarations(context)
        commands: list[Command] = []
        while (token := self._next_word()).kind is not end:
            if token.kind not in _BEGIN_OPERAND:
                self._unexpected(token, context)
            self._back(token)
            commands.append(self._command())
        if not commands:
            self._fail(f"missing value for {context}")
        for stage, command in enumerate(commands[1:], 2):
            if isinstance(command.operands[0], Bool | Dot | Nil | Number | String):
                self._fail(f"non executable command in pipeline stage {stage}")
        return Pipe(position, tuple(declared), assigns, tuple(commands))

    def _declarations(self, context: str) -> tuple[list[Variable], bool]:
        declared: list[Variable] = []
        while (variable := self._next_word()).kind is Kind.VARIABLE:
            after = self._next()
            sign = self._next_word() if after.kind is Kind.SPACE else after
            comma = sign.kind is Kind.CHAR and sign.text == ","
            if sign.kind not in (Kind.ASSIGN, Kind.DECLARE) and not comma:
                self._back(variable, *((after, sign) if after.kind is Kind.SPACE else (after,)))
                return declared, False
            declared.append(Variable(variable.position, variable.text))
            self._scopes[-1].add(variable.text)
            if not comma:
                return declared, sign.kind is Kind.ASSIGN
            if context != "range" or len(declared) > 1:
                self._fail(f"too many declarations in {context}")
            if self._peek_word().kind not in (Kind.VARIABLE, Kind.RIGHT, Kind.RIGHT_PAREN):
                self._fail("range can only initialize variables")
        self._back(variable)
        return declared, False

    def _command(self) -> Command:
        position = self._peek_word().position
        operands: list[Operand] = []
        while True:
            operand = self._operand()
            if operand is not None:
                operands.append(operand)
            token = self._next()
            if token.kind is Kind.SPACE:
                continue
            if token.kind in (Kind.RIGHT, Kind.RIGHT_PAREN):
                self._back(token)
            elif token.kind is not Kind.PIPE:
                self._unexpected(token, "operand")
            break
        if not operands:
            self._fail("empty command")
        return Command(position, tuple(operands))

    def _operand(self) -> Operand | None:
        token = self._next_word()
        operand = self._term(token)
        if operand is None:
            self._back(token)
            return None
        position = self._peek().position
        names: list[str] = []
        while self._peek().kind is Kind.FIELD:
            names.append(self._next().text[1:])
        if not names:
            return operand
        match operand:
            case Field():
                return Field(position, (*operand.names, *names))
            case Variable():
                return Variable(position, operand.name, (*operand.names, *names))
            case Identifier() | Chain() | Pipe():
                return Chain(position, operand, tuple(names))
        self._fail(f"unexpected . after term {quote(str(operand))}")

    def _term(self, token: Token) -> Operand | None:
        position, text = token.position, token.text
        match token.kind:
            case Kind.IDENTIFIER:
                if text not in self._functions:
                    self._fail(f"function {quote(text)} not defined")
                return Identifier(position, text)
            case Kind.DOT:
                return Dot(position)
            case Kind.NIL:
                return Nil(position)
            case Kind.VARIABLE:
                if not any(text in scope for scope in self._scopes):
                    self._fail(f"undefined variable {quote(text)}")
                return Variable(position, text)
            case Kind.FIELD:
                return Field(position, (text[1:],))
            case Kind.BOOL:
                return Bool(position, text == "true")
            case Kind.RUNE | Kind.NUMBER | Kind.COMPLEX:
                return self._number(token)
            case Kind.LEFT_PAREN:
                self._nest()
                pipe = self._pipe("parenthesized pipeline", Kind.RIGHT_PAREN)
                self._nesting -= 1
                return pipe
            case Kind.STRING | Kind.RAW_STRING:
                return String(position, text, self._unquote(token))
        return None

    def _number(self, token: Token) -> Number:
        try:
            return Number(token.position, token.text, _NUMBERS[token.kind](token.text))
        except ValueError as error:
            raise self._error(str(error)) from None

    def _unquote(self, token: Token) -> str:
        try:
            return literals.unquote(token.text)
        except ValueError as error:
            raise self._error(str(error)) from None


def _is_empty(block: Block) -> bool:
    return all(isinstance(statement, Text) and not statement.value.strip() for statement in block)
