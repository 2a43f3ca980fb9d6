"""Finds entry points of the group `contest` by reading the metadata of installed distributions.

`importlib.metadata` does the same and costs more than everything else that `contest --help` does (it brings
the email package); the formats read here are fixed by the packaging specifications "Entry points" and "Core
metadata". Editable installs have the same files.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence

from msgspec import Struct

from contest_core.registry import RegistrationError

GROUP = "contest"
_FOLDER = re.compile(r"(?P<name>[^-]+)-(?P<version>[^-]+)\.dist-info", re.ASCII)
_REQUIREMENT = re.compile(
    r"^Requires-Dist: *contest[-_.]core\b *(\[[^\]]*\])? *\(?(?P<spec>[^;)\n]*)", re.M | re.I
)


class EntryPoint(Struct, frozen=True, kw_only=True):
    """One plugin as its distribution declares it."""

    name: str
    module: str
    distribution: str
    version: str
    folder: str
    """The distribution's metadata on disk; empty where there is none (a test)."""


def entry_points(path: Sequence[str] | None = None) -> list[EntryPoint]:
    """All entry points of the group, of the distributions on `sys.path` (the first of a name counts)."""
    seen: set[str] = set()
    found: list[EntryPoint] = []
    for directory in sys.path if path is None else path:
        for folder in _metadata_folders(directory or "."):
            match = _FOLDER.fullmatch(os.path.basename(folder))
            if match is None or match["name"].lower() in seen:
                continue
            seen.add(match["name"].lower())
            found.extend(_of(folder, match["name"].replace("_", "-"), match["version"]))
    return found


def check_requirement(point: EntryPoint) -> None:
    """Holds the distribution's own requirement on contest-core against the core that runs.

    Raises `RegistrationError` where it is not met.
    """
    spec = _requirement(point.folder)
    if not spec:
        return
    from contest_core.core_version import CORE_VERSION, satisfies

    if not satisfies(CORE_VERSION, spec):
        raise RegistrationError(
            f"{point.distribution} {point.version} needs contest-core {spec}, this is {CORE_VERSION}"
        )


def _metadata_folders(directory: str) -> Iterator[str]:
    try:
        with os.scandir(directory) as entries:
            names = sorted(entry.name for entry in entries if entry.name.endswith(".dist-info"))
    except OSError:
        return
    for name in names:
        yield os.path.join(directory, name)


def _of(folder: str, distribution: str, version: str) -> Iterator[EntryPoint]:
    section = ""
    for raw in _read(os.path.join(folder, "entry_points.txt")).splitlines():
        line = raw.strip()
        if line.startswith("["):
            section = line.strip("[] ")
        elif section == GROUP and "=" in line and not line.startswith("#"):
            name, _, target = line.partition("=")
            yield EntryPoint(
                name=name.strip(),
                module=target.partition("[")[0].partition(":")[0].strip(),
                distribution=distribution,
                version=version,
                folder=folder,
            )


def _requirement(folder: str) -> str:
    metadata = _read(os.path.join(folder, "METADATA")) if folder else ""
    match = _REQUIREMENT.search(metadata)
    return match["spec"].strip() if match else ""


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return ""
