"""Names and where their objects are: what plugins fill by their hooks, one registry a kind.

A registry keeps places (`module:object`), not objects: nothing is imported until a configuration or a command
uses it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module

from msgspec import Struct

_NAME = re.compile(r"[a-z][a-z0-9_-]*", re.ASCII)
_PLACE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", re.ASCII)


class RegistrationError(Exception):
    """A plugin registered what cannot be; it names the plugins."""


class NameTaken(RegistrationError):
    """A name that another plugin has registered before."""

    def __init__(self, *, kind: str, name: str, plugin: str, owner: str) -> None:
        super().__init__(f"{kind} {name!r} of plugin {plugin!r} is already registered by {owner!r}")
        self.owner = owner


class UnknownName(LookupError):
    """Nobody registered this name; `nearest` is the known name that is nearest to it."""

    def __init__(self, *, kind: str, name: str, known: list[str]) -> None:
        from difflib import get_close_matches  # keeps `contest --help` free of difflib

        near = get_close_matches(name, known, n=1)
        self.nearest = near[0] if near else None
        hint = f", did you mean {self.nearest!r}?" if near else f"; there are: {', '.join(known) or 'none'}"
        super().__init__(f"unknown {kind} {name!r}{hint}")


class Entry(Struct, frozen=True, kw_only=True):
    """One registered name."""

    name: str
    place: str
    """`module:object`."""
    summary: str
    """One sentence for a person."""
    plugin: str
    """The entry point name of the plugin that registered it."""


class Registry:
    """The names of one kind.

    `pattern` is what a name may look like; with `fold` names match without regard to case, as ConTest's do.
    """

    def __init__(self, kind: str, *, pattern: re.Pattern[str] = _NAME, fold: bool = False) -> None:
        self.kind = kind
        self.current_plugin = "contest_core"
        self._pattern = pattern
        self._fold = fold
        self._entries: dict[str, Entry] = {}
        self._loaded: dict[str, object] = {}

    def add(self, name: str, place: str, *, summary: str = "") -> None:
        """Registers a name and the place of its object. Raises `RegistrationError` where it cannot be."""
        if not self._pattern.fullmatch(name):
            raise RegistrationError(f"{self.kind} name {name!r} does not match {self._pattern.pattern}")
        if not _PLACE.fullmatch(place):
            raise RegistrationError(f"{self.kind} {name!r}: {place!r} is not of the form module:object")
        other = self._entries.get(self._key(name))
        if other is not None:
            raise NameTaken(kind=self.kind, name=name, plugin=self.current_plugin, owner=other.plugin)
        self._entries[self._key(name)] = Entry(
            name=name, place=place, summary=summary, plugin=self.current_plugin
        )

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted(entry.name for entry in self._entries.values())

    def get(self, name: str) -> Entry:
        """The entry of a name. Raises `UnknownName`, which knows the nearest one."""
        entry = self._entries.get(self._key(name))
        if entry is None:
            raise UnknownName(kind=self.kind, name=name, known=self.names())
        return entry

    def load(self, name: str) -> object:
        """Imports and gives the object. Raises `UnknownName`, or whatever the import raises that is an `Exception`."""
        key = self._key(name)
        if key not in self._loaded:
            module, _, attribute = self.get(name).place.partition(":")
            try:
                self._loaded[key] = getattr(import_module(module), attribute)
            # A script without a guard ends the program where it is imported.
            except SystemExit as error:
                raise ImportError(f"the import of {module} ended with SystemExit: {error}") from error
        return self._loaded[key]

    def drop(self, plugin: str) -> None:
        """Forgets what a plugin registered: it failed half-way."""
        self._entries = {key: entry for key, entry in self._entries.items() if entry.plugin != plugin}
        self._loaded.clear()

    def __iter__(self) -> Iterator[Entry]:
        return iter(sorted(self._entries.values(), key=lambda entry: entry.name))

    def __contains__(self, name: str) -> bool:
        return self._key(name) in self._entries

    def _key(self, name: str) -> str:
        return name.lower() if self._fold else name
