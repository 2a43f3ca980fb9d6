"""Reads parsed JSON into typed structs by a walk that finds everything that is wrong, each thing with its place.

Used for job descriptors and for the parameter objects of plugins. By ConTest's rules: keys match without regard to
case and a later one overwrites an earlier one, unknown keys are told and ignored, null leaves the default.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, NoReturn, get_args, get_origin

import msgspec
from msgspec import UNSET, Raw, Struct

from contest_core import ByteSize, Duration, Finding, Secret, Severity
from contest_core.settings import dec_hook
from contest_runner.aside import Work
from contest_runner.exact import Inexact, check_length, counted, exactly, plain
from contest_runner.nearest import Nearest
from contest_runner.words import in_words, named

BAD: Final[Any] = type("Bad", (), {"__repr__": lambda self: "BAD"})()
"""What could not be read; the findings say why."""

MAX_FINDINGS: Final = 1000
"""More are not kept: a person reads the first few, and memory is bounded."""

MAX_FINDINGS_LENGTH: Final = 1_000_000
"""Characters of all findings together: keys, and with them places, may be very long."""

_OWN_TYPES = (Duration, ByteSize, Secret)


class Whole(Struct, kw_only=True):
    """A struct whose members all have defaults: where one cannot be read the others are, and what comes of them.

    The document is refused; so that everything is said at once, a default stands for what could not be read, and of
    that nothing more is said.
    """


class Enough(Exception):
    """The document is refused, and there are as many findings as are kept: nobody has to read on."""


class Walk:
    """One reading of one document."""

    def __init__(self, work: Work | None = None) -> None:
        self.findings: list[Finding] = []
        self.refused = False
        """Whether an error was found."""
        self.ambiguous = False
        """Some object has a key twice in different casing: which one counts depends on their order."""
        self.full = False
        """No more findings are kept but the first error."""
        self.nearest = Nearest()
        self._work = work or Work()
        self._places: dict[tuple[str, str], str] = {}
        self._unread: set[str] = set()
        """Places for which a default stands."""
        self._length = 0

    # --- findings

    def error(self, code: str, path: str, message: str, *, nearest: str | None = None) -> None:
        """The document is refused for this."""
        self._say(Severity.ERROR, code, path, message, nearest)

    def warning(self, code: str, path: str, message: str, *, nearest: str | None = None) -> None:
        """The document is accepted with this."""
        self._say(Severity.WARNING, code, path, message, nearest)

    def _say(self, severity: Severity, code: str, path: str, message: str, nearest: str | None) -> None:
        hint = f", did you mean {nearest!r}?" if nearest else ""
        self.add(Finding(severity=severity, code=code, path=path, message=message + hint, nearest=nearest))

    def add(self, finding: Finding) -> None:
        """Something is to be said; where there is too much, only that there is more.

        Raises `Enough` where that is so and the document is refused.
        """
        if self._unread and self._is_unread(finding.path):
            return
        first_error = finding.severity == Severity.ERROR and not self.refused
        self.refused = self.refused or first_error
        if not self.full or first_error:
            self.findings.append(finding)
            self._length += len(finding.path) + len(finding.message)
        if not self.full:
            self.full = len(self.findings) >= MAX_FINDINGS or self._length > MAX_FINDINGS_LENGTH
            if self.full:
                self.findings.append(_MORE)
        if self.full and self.refused:
            raise Enough

    def _is_unread(self, path: str) -> bool:
        while path not in self._unread:
            if not path:
                return False
            path = path.rpartition("/")[0]
        return True

    def lacks(self, path: str) -> bool:
        """Whether a default stands for something there or in it: what seems to be missing may be what was meant."""
        return any(unread == path or unread.startswith(f"{path}/") for unread in self._unread)

    def place(self, path: str, key: str) -> str:
        """Where a member of the object at `path` stands, as it is spelt there; the object, where it is not."""
        return self._places.get((path, key), path)

    # --- reading

    def read(self, value: Any, kind: Any, path: str) -> Any:
        """The typed value, or `BAD`. Raises `Enough`, and `Aborted` where nobody waits for it any more."""
        return self._read(value, kind, path)

    def _read(self, value: Any, kind: Any, path: str, *, whole: bool = False) -> Any:
        """With `whole`, an entry of a list or an object that cannot be read is replaced, as in a `Whole`."""
        self._work.check()
        kind, optional = plain(kind)
        if value is None and optional:
            return None
        kind, length = counted(kind)
        if length is not None:
            if isinstance(value, list | dict) and not self._counted(len(value), length, path):
                return BAD
            kind, _ = plain(kind)
        if isinstance(kind, type) and issubclass(kind, Struct):
            return self._object(value, kind, path)
        origin, inner = get_origin(kind), get_args(kind)
        if origin in (list, Sequence) or (origin is tuple and inner[1:] == (...,)):
            return self._list(value, inner[0], path, tuple if origin is tuple else list, whole=whole)
        if origin in (dict, Mapping) and inner[0] in (str, Any):
            return self._mapping(value, inner[1], path, whole=whole)
        if kind is Raw:
            return Raw(msgspec.json.encode(value))
        if kind is Any or kind is object:
            return value
        return self._leaf(value, kind, path)

    def _counted(self, has: int, length: msgspec.Meta, path: str) -> bool:
        """Whether there are as many entries as there may be."""
        what = length.title or "entries"
        if length.max_length is not None and has > length.max_length:
            self.error("too_many", path, f"has {has:,} {what}, the limit is {length.max_length:,}")
            return False
        if length.min_length is not None and has < length.min_length:
            self.error("too_few", path, f"has {has:,} {what}, there have to be {length.min_length:,}")
            return False
        return True

    def _object(self, value: Any, kind: type[Struct], path: str) -> Any:
        if not isinstance(value, dict):
            return self._wrong(value, "an object", path)
        fields = _fields(kind)
        given = self._members(value, fields, path)
        arguments: dict[str, Any] = {}
        bad, whole = False, issubclass(kind, Whole)
        for field in fields.values():
            if field.key not in given:
                if field.required:
                    self.error("missing", path, f"{field.key!r} is missing")
                    bad = True
                continue
            member = given[field.key]
            if member is None and not field.required and not field.null_is_wrong:
                continue
            place = self.place(path, field.key)
            read = self._read(member, field.kind, place, whole=whole)
            if read is BAD and whole:
                self._unread.add(place)
                continue
            bad = bad or read is BAD
            arguments[field.name] = read
        if bad:
            return BAD
        try:
            return kind(**arguments)
        except (ValueError, TypeError) as error:
            self.error("invalid", path, str(error))
            return BAD

    def _members(self, value: dict[str, Any], fields: Mapping[str, _Field], path: str) -> dict[str, Any]:
        given: dict[str, Any] = {}
        spelt: dict[str, str] = {}
        for key, member in value.items():
            field = fields.get(key.lower())
            if field is None:
                self._unknown_key(key, fields, path)
                continue
            if field.key in given:
                self._second_key(spelt[field.key], key, path)
                if member is None and field.kind in (str, int, float, bool):
                    continue  # null changes nothing
            spelt[field.key] = key
            given[field.key] = member
            self._places[path, field.key] = f"{path}/{pointer(key)}"
        return given

    def _unknown_key(self, key: str, fields: Mapping[str, _Field], path: str) -> None:
        if self.full and not self.refused:
            return
        nearest = self.nearest.to(key, [field.key for field in fields.values()])
        self.warning("unknown_key", f"{path}/{pointer(key)}", f"unknown key {key[:64]!r}", nearest=nearest)

    def _second_key(self, first: str, second: str, path: str) -> None:
        self.ambiguous = True
        message = f"{first!r} and {second!r} are one key, and the later one counts: {second!r}"
        self.warning("duplicate_key", f"{path}/{pointer(first)}", message)

    def _list(self, value: Any, kind: Any, path: str, make: type, *, whole: bool) -> Any:
        if value is None:
            return make()
        if not isinstance(value, list):
            return self._wrong(value, "a list", path)
        if kind is Any:
            return make(value)
        if (quick := _at_once(value, kind)) is not None:
            return make(quick)
        items = [
            self._entry(item, kind, f"{path}/{number}", whole=whole) for number, item in enumerate(value)
        ]
        return BAD if any(item is BAD for item in items) else make(items)

    def _mapping(self, value: Any, kind: Any, path: str, *, whole: bool) -> Any:
        if value is None:
            return {}
        if not isinstance(value, dict):
            return self._wrong(value, "an object", path)
        read = {
            key: self._entry(item, kind, f"{path}/{pointer(key)}", whole=whole) for key, item in value.items()
        }
        return BAD if any(item is BAD for item in read.values()) else read

    def _entry(self, item: Any, kind: Any, path: str, *, whole: bool) -> Any:
        read = self._read(item, kind, path, whole=whole)
        if read is BAD and (whole or _is_whole(kind)):
            self._unread.add(path)
            return _stand_in(kind)
        return read

    def _leaf(self, value: Any, kind: Any, path: str) -> Any:
        if kind in _OWN_TYPES and not isinstance(value, str):
            return self._wrong(value, "a text", path)
        try:
            check_length(kind, value)
            return msgspec.convert(value, kind, dec_hook=dec_hook, str_keys=True)
        except (msgspec.ValidationError, ValueError) as error:
            self.error("wrong_type", path, in_words(error, kind))
            return BAD

    def _wrong(self, value: Any, wanted: str, path: str) -> Any:
        self.error("wrong_type", path, f"must be {wanted}, is {named(value)}")
        return BAD


def _is_whole(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Whole)


def _stand_in(kind: Any) -> Any:
    """What stands for an entry that cannot be read; `BAD` where nothing can."""
    kind, _ = plain(counted(kind)[0])
    made = get_origin(kind) or kind
    return made() if made in (list, dict, str, int) or _is_whole(made) else BAD


class ExactWalk(Walk):
    """A walk through what is spelt exactly: it finds nothing, or raises `Inexact` and leaves it to the other one."""

    def add(self, finding: Finding) -> NoReturn:
        """Says nothing."""
        raise Inexact

    def place(self, path: str, key: str) -> str:
        """Where the member stands if it is there; nobody asks where it is not."""
        return f"{path}/{key}"

    def read(self, value: Any, kind: Any, path: str) -> Any:
        """The typed value."""
        self._work.check()
        return exactly(value, kind)


class _Field(Struct, frozen=True, kw_only=True):
    name: str
    key: str
    kind: Any
    required: bool
    null_is_wrong: bool


@lru_cache(maxsize=256)
def _fields(kind: type[Struct]) -> dict[str, _Field]:
    """The fields of a struct, by their key in lower case."""
    hints = typing.get_type_hints(kind, include_extras=True)
    return {
        field.encode_name.lower(): _Field(
            name=field.name,
            key=field.encode_name,
            kind=hints[field.name],
            required=field.required,
            # A duration that has a default of its own cannot be null: so it is in ConTest.
            null_is_wrong=hints[field.name] is Duration or field.default is UNSET,
        )
        for field in msgspec.structs.fields(kind)
    }


_MANY: Final = 16
"""From so many items on it pays to try a list at once."""


def _at_once(value: list[Any], kind: Any) -> list[Any] | None:
    """A long list of plain objects that are spelt exactly, converted in one go; None where one of them is not."""
    if len(value) < _MANY or not (isinstance(kind, type) and issubclass(kind, Struct) and _flat(kind)):
        return None
    try:
        found: list[Any] = exactly(value, list[kind])
    except Inexact:
        return None
    return found


@lru_cache(maxsize=64)
def _flat(kind: type[Struct]) -> bool:
    """Whether the members of a struct are no objects or lists themselves, so that none has a place to remember."""
    return all(plain(field.kind)[0] in (str, int, float, bool, Any) for field in _fields(kind).values())


def pointer(key: str) -> str:
    """A key as a token of a JSON pointer (RFC 6901)."""
    return key.replace("~", "~0").replace("/", "~1")


_MORE: Final = Finding(
    severity=Severity.WARNING,
    code="too_many_findings",
    path="",
    message=f"there are more than {MAX_FINDINGS:,} findings, or very long ones: the others are not shown",
)
