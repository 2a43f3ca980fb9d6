"""What the readers of one descriptor share: the walk, the catalog, its text; names and parameters of parts.

Made for each reading by `contest_runner.descriptor.reading`.
"""

from __future__ import annotations

from functools import lru_cache
from logging import Logger, LoggerAdapter
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw, Struct

from contest_core import Registry
from contest_runner.aside import Work
from contest_runner.catalog import Catalog
from contest_runner.faults import describe
from contest_runner.parts import encode_part
from contest_runner.raw_json import RawTexts
from contest_runner.shapes import what_is_wrong
from contest_runner.walk import BAD, Walk

_LATER: Final = ("Timeout", "CleanupTimeout", "MaxTargets", "Queue", "Priority")
"""Names of ours that mean something, and nothing yet: a job that has them is refused, never run without."""


class Desk:
    """One reading of one descriptor."""

    def __init__(
        self, walk: Walk, catalog: Catalog, log: LoggerAdapter[Logger], text: str, work: Work
    ) -> None:
        self.walk = walk
        self.catalog = catalog
        self.log = log
        self.text = text
        self.texts = RawTexts(text)
        self.work = work
        self.steps = 0
        """Of all tests so far."""
        self.values = 0
        """Of parameters of all steps so far."""

    # --- what any object may have

    def later(self, read: Struct, path: str) -> None:
        """Refuses what is not there yet."""
        for name, key in _later_fields(type(read)):
            if getattr(read, name) is not UNSET:
                self.walk.error("unsupported", self.walk.place(path, key), f"{key!r} is not supported yet")

    def length(self, text: str, limit: int, what: str, path: str) -> None:
        """Refuses a name that is too long for a store, in bytes."""
        size = len(text.encode("utf-8", "surrogatepass"))
        if "\0" in text:
            self.walk.error("invalid", path, f"{what} has a NUL character, which no store keeps")
        if size > limit:
            self.walk.error("too_long", path, f"{what} is too long: {size} > {limit} bytes")

    # --- parts

    def read(self, value: Any, kind: type[Struct], path: str, key: str) -> Any:
        """A part's parameter object, checked, or `BAD`."""
        if value is UNSET:
            self.walk.error("missing", path, f"{key!r} is missing")
            return BAD
        return self.walk.read({} if value is None else value, kind, self.walk.place(path, key))

    def parameters(self, value: Any, kind: type[Struct], path: str, key: str) -> Raw | None:
        """A part's parameter object, checked, in its canonical spelling."""
        read = self.read(value, kind, path, key)
        return None if read is BAD else encode_part(read)

    def known(self, registry: Registry, name: str, key: str, path: str) -> str | None:
        """The name in lower case, where it is registered and can be used."""
        if not name.strip():
            self.walk.error("missing", path, f"{key!r} is missing or empty")
            return None
        if name in registry:
            return name.lower() if self._usable(registry, name, path) else None
        names = registry.names()
        near = self.walk.nearest.to(name, names)
        known = "" if near else f"; there are: {', '.join(names) or 'none'}"
        code = f"unknown_{registry.kind.replace(' ', '_')}"
        self.walk.error(code, path, f"unknown {registry.kind} {name[:64]!r}{known}", nearest=near)
        return None

    def _usable(self, registry: Registry, name: str, path: str) -> bool:
        try:
            part = registry.load(name)
        # The boundary to a plugin's import: its fault refuses this descriptor and no more.
        except Exception as error:
            message = f"{registry.kind} {name[:64]!r} cannot be loaded: {describe(error)}"
            self.walk.error("broken_plugin", path, message)
            self.log.exception("%s %s cannot be loaded", registry.kind, name)
            return False
        if (wrong := what_is_wrong(registry.kind, part)) is not None:
            plugin = registry.get(name).plugin
            message = f"{registry.kind} {name[:64]!r} of plugin {plugin!r} cannot be used: {wrong}"
            self.walk.error("broken_plugin", path, message)
            self.log.error("%s", message)
            return False
        return True


@lru_cache(maxsize=8)
def _later_fields(kind: type[Struct]) -> tuple[tuple[str, str], ...]:
    fields = msgspec.structs.fields(kind)
    return tuple(
        (field.name, field.encode_name)
        for field in fields
        if field.encode_name in _LATER and field.default is UNSET
    )
