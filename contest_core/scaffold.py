"""Scaffolds: what `contest new` writes, a whole distribution of templates that come with a plugin.

A plugin registers one by the hook `contest_register_scaffolds`; the core has `listener`. A template is a file that ends
in `.txt`, which its copy does not; in its path and its text these are replaced:

    @name@          the name that was given              my-bus
    @package@       the package                          contest_my_bus
    @Class@         the beginning of names of classes    MyBus
    @requirement@   the releases of Contest it needs     >=0.1,<0.2

What every distribution has alike is in the folder `common` of the core.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

from msgspec import Struct

from contest_core.core_version import CORE_VERSION

MAX_NAME: Final = 40
"""Characters of a name."""

_NAME: Final = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*", re.ASCII)
_SUFFIX: Final = ".txt"


class Scaffold(Struct, frozen=True, kw_only=True):
    """A kind of distribution that `contest new` can write."""

    package: str
    """The package that has the templates as its data."""
    folder: str
    """Where they are in it, with `/` between."""
    kinds: tuple[str, ...]
    """Of what the new plugin registers under its name, in the words of `contest plugins`: `("listener", "client")`."""


LISTENER: Final = Scaffold(package="contest_core", folder="scaffolds/listener", kinds=("listener", "client"))
"""A transport."""

_COMMON: Final = Scaffold(package="contest_core", folder="scaffolds/common", kinds=())


class BadName(ValueError):
    """A name of which no distribution can be made; the message says why."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name[:60]!r} {reason}")


def check_name(name: str) -> None:
    """Raises `BadName` where no plugin can be called that."""
    if name.startswith(("contest-", "contest_")):
        raise BadName(name, f"already says contest: the distribution of {name[8:]!r} is {name!r}")
    if not _NAME.fullmatch(name) or len(name) > MAX_NAME:
        rule = f"lower case, digits, and single - or _ in between, at most {MAX_NAME} characters"
        raise BadName(name, f"cannot be the name of a plugin: {rule}, such as my-bus")
    if name == "core":
        raise BadName(name, "is the core itself: contest-core")


def render(scaffold: Scaffold, name: str) -> dict[str, str]:
    """The files of a distribution, by their path in it. Raises `BadName`."""
    check_name(name)
    words = _words(name)
    made: dict[str, str] = {}
    for source in (_COMMON, scaffold):
        for path, template in _templates(files(source.package).joinpath(source.folder), ""):
            made[_put(path.removesuffix(_SUFFIX), words)] = _put(template, words)
    return dict(sorted(made.items()))


def write(made: Mapping[str, str], directory: Path) -> None:
    """Writes the files into a directory that it makes. Raises `FileExistsError` where there is one, `OSError`.

    Where not all of it can be written, nothing is left.
    """
    directory.mkdir(parents=True)
    try:
        for path, text in made.items():
            file = directory / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, "utf-8")
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise


def _templates(folder: Traversable, path: str) -> Iterator[tuple[str, str]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _templates(entry, f"{path}{entry.name}/")
        elif entry.name.endswith(_SUFFIX):
            yield path + entry.name, entry.read_text("utf-8")


def _words(name: str) -> dict[str, str]:
    major, minor = CORE_VERSION.split(".")[:2]
    return {
        "@name@": name,
        "@package@": f"contest_{name.replace('-', '_')}",
        "@Class@": "".join(part.capitalize() for part in re.split("[-_]", name)),
        "@requirement@": f">={major}.{minor},<{major}.{int(minor) + 1}",
    }


def _put(template: str, words: Mapping[str, str]) -> str:
    for word, value in words.items():
        template = template.replace(word, value)
    return template
