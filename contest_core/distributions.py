"""Finds entry points of the group `contest` by reading the metadata of installed distributions.

`importlib.metadata` does the same and costs more than everything else that `contest --help` does (it brings
the email package), so it is left to archives on the path. The formats read here are fixed by the packaging
specifications "Entry points" and "Core metadata". Editable installs have the same files.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence

from msgspec import Struct

from contest_core.registry import RegistrationError

GROUP = "contest"
_CORE = "contest-core"


class EntryPoint(Struct, frozen=True, kw_only=True):
    """One plugin as its distribution declares it."""

    name: str
    module: str
    distribution: str
    version: str
    requires: tuple[str, ...] = ()
    """The distribution's requirements, as PEP 508 writes them."""


def entry_points(path: Sequence[str] | None = None) -> list[EntryPoint]:
    """All entry points of the group, of the distributions on `sys.path` (the first of a name counts)."""
    seen: set[str] = set()
    found: list[EntryPoint] = []
    for directory in sys.path if path is None else path:
        if os.path.isfile(directory):
            _in_archive(directory, seen, found)
            continue
        for folder in _metadata_folders(directory or "."):
            name = _normal(os.path.basename(folder).rpartition(".")[0].partition("-")[0])
            if name not in seen:
                seen.add(name)
                found.extend(_in_folder(folder))
    return found


def check_requirement(point: EntryPoint) -> None:
    """Holds the distribution's own requirement on contest-core against the core that runs.

    Raises `RegistrationError` where it is not met.
    """
    for requirement in point.requires:
        name, specifiers, marker = _parts(requirement)
        if name != _CORE or not specifiers:
            continue
        from contest_core.core_version import CORE_VERSION, satisfies

        if _applies(marker) and not satisfies(CORE_VERSION, specifiers):
            raise RegistrationError(
                f"{point.distribution} {point.version} needs contest-core {specifiers}, this is {CORE_VERSION}"
            )


def _parts(requirement: str) -> tuple[str, str, str]:
    """The normal name, the version specifiers (none for an address) and the marker of a requirement."""
    text, _, marker = requirement.partition(";")
    text = text.strip()
    end = next(
        (place for place, letter in enumerate(text) if not (letter.isalnum() or letter in "._-")), len(text)
    )
    specifiers = text[end:].strip()
    if specifiers.startswith("["):
        specifiers = specifiers.partition("]")[2].strip()
    return _normal(text[:end]), "" if specifiers.startswith("@") else specifiers.strip("() "), marker.strip()


def _normal(name: str) -> str:
    """As PEP 503: without regard to case, and one kind of separator."""
    name = name.lower().replace("_", "-").replace(".", "-")
    while "--" in name:
        name = name.replace("--", "-")
    return name


def _applies(marker: str) -> bool:
    """Whether an environment marker holds here, without any extra."""
    if not marker:
        return True
    from packaging.markers import Marker  # brings much, for what hardly a plugin writes

    return Marker(marker).evaluate({"extra": ""})


def _metadata_folders(directory: str) -> Iterator[str]:
    try:
        with os.scandir(directory) as entries:
            names = sorted(
                entry.name for entry in entries if entry.name.endswith((".dist-info", ".egg-info"))
            )
    except OSError:
        return
    for name in names:
        yield os.path.join(directory, name)


def _in_folder(folder: str) -> Iterator[EntryPoint]:
    targets = dict(_targets(_read(os.path.join(folder, "entry_points.txt"))))
    if not targets:
        return
    metadata = _read(os.path.join(folder, "METADATA")) or _read(os.path.join(folder, "PKG-INFO"))
    # Behind the first empty line is the description, in which anything may stand.
    headers = [line.partition(":")[::2] for line in metadata.partition("\n\n")[0].splitlines()]
    fields = {name.lower(): value.strip() for name, value in reversed(headers)}
    requires = [value.strip() for name, value in headers if name.lower() == "requires-dist"]
    requires += _read(os.path.join(folder, "requires.txt")).partition("\n[")[0].splitlines()
    for name, module in targets.items():
        yield EntryPoint(
            name=name,
            module=module,
            distribution=fields.get("name", ""),
            version=fields.get("version", ""),
            requires=tuple(requires),
        )


def _targets(text: str) -> Iterator[tuple[str, str]]:
    section = ""
    for raw in text.splitlines():
        line = raw.strip()
        if line.startswith("["):
            section = line.strip("[] ")
        elif section == GROUP and "=" in line and not line.startswith("#"):
            name, _, target = line.partition("=")
            yield name.strip(), target.partition("[")[0].partition(":")[0].strip()


def _in_archive(path: str, seen: set[str], found: list[EntryPoint]) -> None:
    from importlib.metadata import distributions

    for distribution in distributions(path=[path]):
        name = _normal(distribution.name)
        if name in seen:
            continue
        seen.add(name)
        found += [
            EntryPoint(
                name=point.name,
                module=point.module,
                distribution=distribution.name,
                version=distribution.version,
                requires=tuple(distribution.requires or ()),
            )
            for point in distribution.entry_points.select(group=GROUP)
        ]


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return ""
