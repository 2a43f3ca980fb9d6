"""Reads YAML strictly, with the places of its values.

Built on PyYAML's events (libyaml's where it is there), not on its nodes: events come one by one, so that
nesting ends at a limit instead of in a RecursionError. What is stricter than YAML 1.1: only `true` and
`false` are booleans; there are no dates, no sexagesimals, no octal by a leading zero; a key is text and
occurs once; a file is one document; there are no tags but those of JSON's types; what aliases expand to is
bounded.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import yaml

from contest_core.document_tree import MAX_DEPTH, Node, Text

if TYPE_CHECKING:
    from contest_core.document_tree import DocumentError

MAX_ALIASED: Final = 100_000
"""Values that all aliases of a document may stand for together."""

_INTEGER: Final = re.compile(r"[-+]?(?:0|[1-9][0-9]*)|0x[0-9a-fA-F]+|0o[0-7]+")
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_WORDS: Final[dict[str, bool | None]] = {"true": True, "false": False, "null": None, "~": None, "": None}
_TAGS: Final[dict[str, tuple[type, ...]]] = {
    "tag:yaml.org,2002:int": (int,),
    "tag:yaml.org,2002:float": (float, int),
    "tag:yaml.org,2002:bool": (bool,),
    "tag:yaml.org,2002:null": (type(None),),
}
_TEXT_TAG: Final = "tag:yaml.org,2002:str"
_CONTAINER_TAGS: Final = {None, "!", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"}
_MERGE: Final = "<<"
_BETWEEN_TOKENS: Final = "while scanning for the next token"
"""A context of PyYAML's that says nothing to a person."""

Scalar = str | int | float | bool | None


def resolve_plain(text: str) -> Scalar:
    """What a scalar without quotes is: true, false, null, a number, else text.

    Raises ValueError for a number that is too large to be kept.
    """
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in "+-.0123456789":
        return text
    if _INTEGER.fullmatch(text):
        try:
            return int(text, 0)
        except ValueError:
            raise ValueError("this number is too large") from None
    if _FLOAT.fullmatch(text):
        number = float(text)
        if math.isinf(number):
            raise ValueError("this number is too large: put quotes around it if it is text")
        return number
    return text


def read_yaml(text: Text, *, loader: Any = None) -> tuple[object, Node]:
    """The value of a document and its nodes. Raises `DocumentError`. `loader` is for tests."""
    builder = _Builder(text)
    try:
        for event in _events(text, loader or getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        raise _explain(error, text) from None
    except yaml.reader.ReaderError as error:
        character = error.character if isinstance(error.character, int) else ord(error.character[:1] or "\0")
        message = f"the character U+{character:04X} may not be in a YAML file"
        raise text.error(max(0, text.content.find(chr(character))), message) from None
    return builder.value, builder.root


def _events(text: Text, loader: Any) -> Iterator[Any]:
    try:
        yield from yaml.parse(text.content, Loader=loader)
    # PyYAML's own scanner hands an escape such as "\UFFFFFFFF" to chr(); libyaml refuses it itself.
    except (ValueError, OverflowError) as error:
        raise text.error(0, f"an escape that is no character ({type(error).__name__})") from None


def _explain(error: yaml.MarkedYAMLError, text: Text) -> DocumentError:
    mark = error.problem_mark or error.context_mark
    offset = min(mark.index, len(text.content)) if mark else 0
    message = error.problem or "not YAML"
    begun = error.context_mark
    if error.context and begun is not None and error.context != _BETWEEN_TOKENS:
        message = f"{message} ({error.context}, which begins in line {text.place(begun.index).line})"
    return text.error(offset, message + _hint(message, text.content[max(0, offset - 1) : offset + 1]))


def _hint(message: str, around: str) -> str:
    """What usually helps, by the message and the characters before and at the place."""
    if around == "${":
        return "; within { } or [ ] write quotes around ${...}"
    if "cannot start any token" in message:
        if around.endswith("\t"):
            return "; indent with spaces, not with tabs"
        return f"; write quotes around a text that begins with {around[-1:]}"
    if "mapping values are not allowed" in message:
        return "; write quotes around a text with ': ' in it, and check the indentation"
    return ""


class _Open:
    """A container whose end has not come yet."""

    __slots__ = ("anchor", "height", "key", "key_offset", "merged", "node", "size", "value")

    def __init__(self, value: dict[str, Any] | list[Any], node: Node, anchor: str | None) -> None:
        self.value = value
        self.node = node
        self.anchor = anchor
        self.size = 1
        """Values within, itself and what aliases stand for included."""
        self.height = 1
        """Containers within containers, itself included."""
        self.key: str | None = None
        self.key_offset = 0
        self.merged: list[tuple[dict[str, Any], Node]] = []


class _Builder:
    """Makes a value and its nodes of events."""

    def __init__(self, text: Text) -> None:
        self.text = text
        self.value: object = None
        self.root = Node(0, "", plain=True)
        self.documents = 0
        self.open: list[_Open] = []
        self.anchors: dict[str, tuple[Any, Node, int, int]] = {}
        """By name: the value, its node, its size and its height."""
        self.aliased = 0

    def take(self, event: Any) -> None:
        """Takes the next event."""
        if isinstance(event, yaml.ScalarEvent):
            self.scalar(event)
        elif isinstance(event, yaml.CollectionStartEvent):
            self.begin(event)
        elif isinstance(event, yaml.CollectionEndEvent):
            self.end()
        elif isinstance(event, yaml.AliasEvent):
            self.alias(event)
        elif isinstance(event, yaml.DocumentStartEvent):
            self.documents += 1
            if self.documents > 1:
                raise self.error(event, "a second document begins: a file holds one")

    def scalar(self, event: Any) -> None:
        offset = event.start_mark.index
        container = self.open[-1] if self.open else None
        if container is not None and isinstance(container.value, dict) and container.key is None:
            self.key(container, event, offset)
            return
        value = self.resolve(event)
        node = Node(offset, event.value, plain=not event.style)
        if event.anchor:
            self.anchors[event.anchor] = value, node, 1, 0
        self.add(value, node, size=1, height=0)

    def key(self, container: _Open, event: Any, offset: int) -> None:
        key = event.value
        if event.tag not in (None, _TEXT_TAG):
            raise self.error(event, "a key is text: take the tag away")
        if not key and not event.style:
            raise self.error(event, "expected a key")
        if key in container.node.keys:
            first = self.text.place(container.node.keys[key])
            raise self.error(
                event, f"the key {key[:64]!r} is already in line {first.line}, column {first.column}"
            )
        # A merge key is marked by an offset in `keys` too, so that it cannot occur twice; `end` takes it out.
        container.key = key
        container.key_offset = container.node.keys[key] = offset
        if event.anchor:
            self.anchors[event.anchor] = key, Node(offset, key, plain=not event.style), 1, 0

    def resolve(self, event: Any) -> Scalar:
        text: str = event.value
        if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
            raise self.error(event, "half of a surrogate pair is no text")
        if event.tag == _TEXT_TAG or (event.tag is None and not event.implicit[0]) or event.tag == "!":
            return text
        kinds = _TAGS.get(event.tag) if event.tag else None
        if event.tag and kinds is None:
            raise self.error(event, "an unknown tag: write quotes around a text that begins with !")
        try:
            value = resolve_plain(text)
        except ValueError as error:
            raise self.error(event, str(error)) from None
        if kinds is not None and type(value) not in kinds:
            raise self.error(event, "the value is not of the type that its tag names")
        return value

    def begin(self, event: Any) -> None:
        offset = event.start_mark.index
        self.check_no_key(event)
        if event.tag not in _CONTAINER_TAGS:
            raise self.error(event, "an unknown tag: write quotes around a text that begins with !")
        self.check_depth(event, 1)
        if event.anchor:
            self.anchors.pop(event.anchor, None)
        is_mapping = isinstance(event, yaml.MappingStartEvent)
        node = Node(offset, children={} if is_mapping else [])
        self.open.append(_Open({} if is_mapping else [], node, event.anchor))

    def end(self) -> None:
        done = self.open.pop()
        for merged, node in done.merged:
            self.merge(done, merged, node)
        if done.anchor:
            self.anchors[done.anchor] = done.value, done.node, done.size, done.height
        self.add(done.value, done.node, size=done.size, height=done.height)

    def merge(self, done: _Open, merged: dict[str, Any], node: Node) -> None:
        """Puts in what a merge key names, where the mapping or an earlier merge has no such key."""
        if not isinstance(done.value, dict) or not isinstance(done.node.children, dict):
            return
        done.node.keys.pop(_MERGE, None)
        for key, value in merged.items():
            if key not in done.value and isinstance(node.children, dict):
                done.value[key] = value
                done.node.children[key] = node.children[key]
                done.node.keys[key] = node.keys[key]

    def alias(self, event: Any) -> None:
        self.check_no_key(event)
        if any(container.anchor == event.anchor for container in self.open):
            raise self.error(event, "an alias within what it stands for")
        if event.anchor not in self.anchors:
            # The name is not shown: it may be a password that begins with an asterisk.
            raise self.error(event, "an alias of nothing: write quotes around a text that begins with *")
        value, node, size, height = self.anchors[event.anchor]
        self.aliased += size
        if self.aliased > MAX_ALIASED:
            raise self.error(event, f"the aliases stand for more than {MAX_ALIASED} values")
        self.check_depth(event, height)
        here = Node(event.start_mark.index, node.text, plain=node.plain, children=node.children)
        here.keys = node.keys
        self.add(value, here, size=size, height=height)

    def add(self, value: Any, node: Node, *, size: int, height: int) -> None:
        if not self.open:
            self.value, self.root = value, node
            return
        container = self.open[-1]
        container.size += size
        container.height = max(container.height, height + 1)
        children = container.node.children
        if isinstance(container.value, list) and isinstance(children, list):
            container.value.append(value)
            children.append(node)
        elif isinstance(container.value, dict) and isinstance(children, dict) and container.key is not None:
            if container.key == _MERGE and self.text.content.startswith(_MERGE, container.key_offset):
                container.merged += self.mappings(value, node)
            else:
                container.value[container.key] = value
                children[container.key] = node
            container.key = None

    def mappings(self, value: Any, node: Node) -> list[tuple[dict[str, Any], Node]]:
        """The mappings that a merge key names: one, or a list of them."""
        if isinstance(value, dict):
            return [(value, node)]
        if isinstance(value, list) and all(isinstance(each, dict) for each in value):
            nodes = node.children if isinstance(node.children, list) else []
            return list(zip(value, nodes, strict=True))
        raise self.text.error(node.offset, "what << merges is a mapping or a list of mappings")

    def check_no_key(self, event: Any) -> None:
        container = self.open[-1] if self.open else None
        if container is not None and isinstance(container.value, dict) and container.key is None:
            raise self.error(event, "a key is plain text, no list, mapping or alias")

    def check_depth(self, event: Any, height: int) -> None:
        if len(self.open) + height > MAX_DEPTH:
            raise self.error(event, f"nested more than {MAX_DEPTH} deep")

    def error(self, event: Any, message: str) -> DocumentError:
        return self.text.error(event.start_mark.index, message)
