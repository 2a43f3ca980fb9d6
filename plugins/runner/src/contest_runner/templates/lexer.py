"""Splits the text of a template into tokens; called by the parser alone.

Rules, those of Go's text/template:

1. Outside of `{{ }}` all is text. `{{- ` and ` -}}` trim the text beside them of spaces, tabs and newlines.
2. Inside, blanks are a token, for they separate arguments. `{{/* ... */}}` is one token.
3. What is no token ends the stream with an ERROR that says why: whether anybody reads so far is the parser's affair.

It knows nothing of nesting, but that parentheses close before the action does.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from enum import Enum
from typing import Final, NamedTuple

from contest_runner.templates.quoting import code_point, quote


class Kind(Enum):
    """What a token is. The value says how an error names it."""

    TEXT = "text"
    LEFT = "{{"
    RIGHT = "}}"
    SPACE = "space"
    ASSIGN = "="
    DECLARE = ":="
    PIPE = "|"
    LEFT_PAREN = "("
    RIGHT_PAREN = ")"
    CHAR = "character"
    """Any other character of ASCII; only a comma has a meaning."""
    STRING = "string"
    RAW_STRING = "raw string"
    RUNE = "rune"
    NUMBER = "number"
    COMPLEX = "complex"
    BOOL = "bool"
    IDENTIFIER = "identifier"
    VARIABLE = "variable"
    DOT = "."
    FIELD = "field"
    BLOCK = "block"
    BREAK = "break"
    CONTINUE = "continue"
    DEFINE = "define"
    ELSE = "else"
    END = "end"
    IF = "if"
    NIL = "nil"
    RANGE = "range"
    TEMPLATE = "template"
    WITH = "with"
    COMMENT = "comment"
    EOF = "EOF"
    ERROR = "error"


KEYWORDS: Final = {
    kind.value: kind
    for kind in (
        Kind.BLOCK,
        Kind.BREAK,
        Kind.CONTINUE,
        Kind.DEFINE,
        Kind.ELSE,
        Kind.END,
        Kind.IF,
        Kind.NIL,
        Kind.RANGE,
        Kind.TEMPLATE,
        Kind.WITH,
    )
}


class Token(NamedTuple):
    """A piece of the source."""

    kind: Kind
    text: str
    """As it is written; of an ERROR, what is wrong."""
    position: int

    def __str__(self) -> str:
        if self.kind is Kind.EOF:
            return "EOF"
        if self.kind is Kind.ERROR:
            return self.text
        if self.text in KEYWORDS or self.kind is Kind.DOT:
            return f"<{self.text}>"
        return f"{quote(self.text[:10])}..." if len(self.text) > 10 else quote(self.text)


_SPACES = " \t\r\n"
_TERMINATORS = _SPACES + ".,|:)("
_NUMBER_PATTERN = r"""
    [+-]?(?: 0[xX][0-9a-fA-F_]*(?:\.[0-9a-fA-F_]*)?(?:[pP][+-]?[0-9_]*)?
           | 0[oO][0-7_]*(?:\.[0-7_]*)?
           | 0[bB][01_]*(?:\.[01_]*)?
           | [0-9_]*(?:\.[0-9_]*)?(?:[eE][+-]?[0-9_]*)? )i?"""
_NUMBER = re.compile(_NUMBER_PATTERN, re.VERBOSE)
# The order is Go's: a dot before a digit begins a number, a digit of another script an identifier.
_LEXEME = re.compile(
    rf"""(?P<SPACE>[ \t\r\n]+)
    | (?P<NUMBER>(?=[+\-0-9]|\.(?:[0-9]|\Z)){_NUMBER_PATTERN})
    | (?P<FIELD>\.\w*)
    | (?P<VARIABLE>\$\w*)
    | (?P<IDENTIFIER>\w+)
    | (?P<DECLARE>:=)
    | (?P<ASSIGN>=)
    | (?P<PIPE>\|)
    | (?P<LEFT_PAREN>\()
    | (?P<RIGHT_PAREN>\))
    | (?P<STRING>"(?:[^"\\\n]++|\\[^\n])*+")
    | (?P<RAW_STRING>`[^`]*+`)
    | (?P<RUNE>'(?:[^'\\\n]++|\\[^\n])*+')
    | (?P<CHAR>[!-~])
    """,
    re.VERBOSE,
)
_NO_TOKEN = {
    ":": "expected :=",
    '"': "unterminated quoted string",
    "`": "unterminated raw quoted string",
    "'": "unterminated character constant",
}


def lex(source: str) -> Iterator[Token]:
    """The tokens of a template, made as they are asked for; the last is EOF or ERROR."""
    position = 0
    while (start := source.find("{{", position)) >= 0:
        inside = start + 2
        text = source[position:start]
        if source.startswith("-", inside) and source[inside + 1 : inside + 2] in tuple(_SPACES):
            text = text.rstrip(_SPACES)
            inside += 2
        if text:
            yield Token(Kind.TEXT, text, position)
        if source.startswith("/*", inside):
            position = _skip_comment(source, inside)
            if position < 0:
                yield Token(Kind.ERROR, _comment_error(source, inside), inside)
                return
            yield Token(Kind.COMMENT, "", start)
        else:
            yield Token(Kind.LEFT, "{{", start)
            position = yield from _Action(source, inside).tokens()
            if position < 0:
                return
    if position < len(source):
        yield Token(Kind.TEXT, source[position:], position)
    yield Token(Kind.EOF, "EOF", len(source))


def _closing(source: str, position: int) -> int:
    """The length of the right delimiter at a position, 0 where there is none."""
    if source.startswith("}}", position):
        return 2
    if source.startswith("-}}", position + 1) and source[position] in _SPACES:
        return 4
    return 0


def _after_closing(source: str, position: int, length: int) -> int:
    position += length
    if length == 4:
        while position < len(source) and source[position] in _SPACES:
            position += 1
    return position


def _skip_comment(source: str, position: int) -> int:
    end = source.find("*/", position + 2)
    length = _closing(source, end + 2) if end >= 0 else 0
    return _after_closing(source, end + 2, length) if length else -1


def _comment_error(source: str, position: int) -> str:
    unclosed = source.find("*/", position + 2) < 0
    return "unclosed comment" if unclosed else "comment ends before closing delimiter"


def _alphanumeric(char: str) -> bool:
    """Whether a character may stand in a name: as Go sees it, no `\\w` of Python's has fewer."""
    return char == "_" or char.isalpha() or char.isdecimal()


class _Action:
    """What is between two delimiters."""

    def __init__(self, source: str, position: int) -> None:
        self._source = source
        self._position = position
        self._parens = 0

    def tokens(self) -> Generator[Token, None, int]:
        """Yields the tokens and the right delimiter; returns the position after it, -1 after an error."""
        source = self._source
        while not (length := _closing(source, self._position)):
            token = self._next()
            yield token
            if token.kind is Kind.ERROR:
                return -1
            self._position = token.position + len(token.text)
        if self._parens:
            yield self._error("unclosed left paren")
            return -1
        yield Token(Kind.RIGHT, "}}", self._position + length - 2)
        return _after_closing(source, self._position, length)

    def _error(self, reason: str) -> Token:
        return Token(Kind.ERROR, reason, self._position)

    def _next(self) -> Token:
        match = _LEXEME.match(self._source, self._position)
        if match is None:
            if self._position == len(self._source):
                return self._error("unclosed action")
            return self._unrecognized()
        kind, text = Kind[match.lastgroup or "CHAR"], match[0]
        if kind in (Kind.FIELD, Kind.VARIABLE, Kind.IDENTIFIER):
            return self._word(kind, text)
        if kind is Kind.NUMBER:
            return self._number(text)
        if kind is Kind.CHAR and text in _NO_TOKEN:
            return self._error(_NO_TOKEN[text])
        if kind is Kind.SPACE and self._source.startswith("-}}", match.end()):
            text = text[:-1]  # the last blank belongs to the delimiter
        elif kind is Kind.LEFT_PAREN:
            self._parens += 1
        elif kind is Kind.RIGHT_PAREN:
            self._parens -= 1
            if self._parens < 0:
                return self._error("unexpected right paren")
        return Token(kind, text, self._position)

    def _unrecognized(self) -> Token:
        return self._error(f"unrecognized character in action: {code_point(self._source[self._position])}")

    def _word(self, kind: Kind, text: str) -> Token:
        source, start = self._source, self._position
        length = len(text) if text.isascii() else 0 if kind is Kind.IDENTIFIER else 1
        while length < len(text) and _alphanumeric(text[length]):
            length += 1
        if length == 0:
            return self._unrecognized()
        end = start + length
        if end < len(source) and source[end] not in _TERMINATORS and not source.startswith("}}", end):
            return self._error(f"bad character {code_point(source[end])}")
        text = text[:length]
        if text == ".":
            kind = Kind.DOT
        elif kind is Kind.IDENTIFIER:
            kind = Kind.BOOL if text in ("true", "false") else KEYWORDS.get(text, kind)
        return Token(kind, text, start)

    def _number(self, text: str) -> Token:
        source, end = self._source, self._position + len(text)
        kind = Kind.NUMBER
        if source[end : end + 1] in ("+", "-"):
            imaginary = _NUMBER.match(source, end)
            end = imaginary.end() if imaginary else end
            kind = Kind.COMPLEX
        follows = source[end : end + 1]
        if follows and _alphanumeric(follows):
            end += 1
        elif kind is Kind.NUMBER or source[end - 1] == "i":
            return Token(kind, source[self._position : end], self._position)
        return self._error(f"bad number syntax: {quote(source[self._position : end])}")
