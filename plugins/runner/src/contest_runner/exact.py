"""Reads parsed JSON in which everything is spelt as its type has it, at once: so most descriptors are.

The walk (`contest_runner.walk`) reads by ConTest's generous rules and finds the place of everything, for a hundred
times the price; it asks here first where it can. What is read here, the walk reads alike.
"""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Annotated, Any, Final, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, Raw, Struct

from contest_core import ByteSize, Duration
from contest_core.settings import dec_hook
from contest_runner.ready import ready

MAX_QUANTITY: Final = 1_000
"""Characters of a duration or a size."""


class Inexact(Exception):
    """Something is spelt otherwise, or is wrong: the walk has to read it."""


def exactly(value: Any, kind: Any) -> Any:
    """The typed value. Raises `Inexact`."""
    twin = ready(_twin_of(kind))
    try:
        if twin is not kind:
            msgspec.convert(value, twin, dec_hook=of_text)
        return msgspec.convert(value, ready(kind), dec_hook=of_text)
    except (msgspec.MsgspecError, ValueError, TypeError, RecursionError) as error:
        raise Inexact from error


def of_text(kind: type, value: object) -> Any:
    """`dec_hook` of a document that is no YAML: durations and their like are texts."""
    if not isinstance(value, str):
        raise ValueError("must be a text")
    check_length(kind, value)
    return dec_hook(kind, value)


def check_length(kind: Any, text: str) -> None:
    """Raises `ValueError` for so long a duration or size that reading it would take long."""
    if kind in (Duration, ByteSize) and len(text) > MAX_QUANTITY:
        raise ValueError(f"has {len(text):,} characters, the limit is {MAX_QUANTITY:,}")


@lru_cache(maxsize=256)
def _twin_of(kind: Any) -> Any:
    return _twin(kind, ())


def _twin(kind: Any, inside: tuple[Any, ...]) -> Any:
    """A type whose values are those of `kind` that are spelt exactly; `kind` itself where it is so strict.

    Null is among them only as an entry that may be null: elsewhere the walk knows what it means. Raises `Inexact`
    where there is no such type.
    """
    kind, _ = plain(kind)
    whole, (kind, length) = kind, counted(kind)
    if length is not None:
        twin = _twin(kind, inside)
        return whole if twin is kind else Annotated[twin, length]
    if isinstance(kind, type) and issubclass(kind, Struct):
        if kind in inside:
            raise Inexact
        return _struct_twin(kind, (*inside, kind))
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (list, Sequence) or (origin is tuple and arguments[1:] == (...,)):
        item = _twin(arguments[0], inside)
        same = item is plain(arguments[0])[0]
        return kind if same else tuple[item, ...] if origin is tuple else list[item]  # type: ignore[valid-type]
    if origin in (dict, Mapping) and arguments[0] is str:
        item = _twin(arguments[1], inside)
        return kind if item is plain(arguments[1])[0] else dict[str, item]  # type: ignore[valid-type]
    if kind is Raw or origin in (tuple, dict, Mapping):
        raise Inexact
    return kind


def _struct_twin(kind: type[Struct], inside: tuple[Any, ...]) -> Any:
    settings = kind.__struct_config__
    if settings.tag is not None or settings.array_like:
        raise Inexact
    hints = get_type_hints(kind, include_extras=True)
    fields = msgspec.structs.fields(kind)
    twins = [_twin(hints[field.name], inside) for field in fields]
    if settings.forbid_unknown_fields and all(
        _as_strict(field, twin, hints[field.name]) for field, twin in zip(fields, twins, strict=True)
    ):
        return kind
    members = [
        (
            field.name,
            twin,
            msgspec.field(name=field.encode_name, **({} if field.required else {"default": None})),
        )
        for field, twin in zip(fields, twins, strict=True)
    ]
    return msgspec.defstruct(kind.__name__, members, forbid_unknown_fields=True, kw_only=True)


def _as_strict(field: msgspec.structs.FieldInfo, twin: Any, hint: Any) -> bool:
    """Whether the field takes what its twin takes, and null for what null means to the walk: its default."""
    inner, optional = plain(hint)
    return twin is inner and (not optional or field.default is None)


@lru_cache(maxsize=1024)
def plain(kind: Any) -> tuple[Any, bool]:
    """The type without `| None` and `| UnsetType`, and whether null is one of its values."""
    if get_origin(kind) not in (Union, types.UnionType):
        return kind, False
    members = [member for member in get_args(kind) if member not in (type(None), msgspec.UnsetType)]
    optional = type(None) in get_args(kind)
    return (members[0] if len(members) == 1 else kind), optional


@lru_cache(maxsize=1024)
def counted(kind: Any) -> tuple[Any, Meta | None]:
    """The type of an annotated object or list without the annotation, and the annotation."""
    if get_origin(kind) is Annotated:
        inner, *marks = get_args(kind)
        bare, _ = plain(inner)
        container = get_origin(bare) in (list, tuple, dict, Sequence, Mapping) or bare in (list, dict, tuple)
        for mark in marks:
            if isinstance(mark, Meta) and container:
                return inner, mark
    return kind, None
