"""Entry points are found as `importlib.metadata` finds them, without its price."""

from __future__ import annotations

import importlib.metadata
import sys
import zipfile
from pathlib import Path

import pytest

from contest_core import CORE_VERSION
from contest_core.core_version import satisfies
from contest_core.distributions import EntryPoint, entry_points

METADATA = """Metadata-Version: 2.4
Name: Contest.Carrier
Version: 1.2.3
Requires-Dist: contest-core>=0.1,<0.2
Requires-Dist: rich; extra == "color"

# Carrier

Requires-Dist: contest-core>=9
Name: not this
"""

ENTRY_POINTS = """
[console_scripts]
carrier = contest_carrier:main

# pigeons
[contest]
carrier = contest_carrier.plugin
falcon=contest_carrier.falcon:Falcon [fast]

[contest.other]
no = no.no
"""


def lay(folder: Path, metadata: str = METADATA, points: str | None = ENTRY_POINTS) -> None:
    folder.mkdir(parents=True)
    (folder / ("METADATA" if folder.suffix == ".dist-info" else "PKG-INFO")).write_text(metadata)
    if points is not None:
        (folder / "entry_points.txt").write_text(points)


def known_to_python(path: list[str] | None = None) -> set[tuple[str, str, str, str]]:
    """What `importlib.metadata.entry_points(group="contest")` finds, on a path of its own."""
    seen: set[str] = set()
    found = set()
    for one in importlib.metadata.distributions(path=sys.path if path is None else path):
        name = one.name.lower().replace("_", "-").replace(".", "-")
        if name not in seen:
            seen.add(name)
            found |= {
                (p.name, p.module, one.name, one.version) for p in one.entry_points.select(group="contest")
            }
    return found


def as_tuples(points: list[EntryPoint]) -> set[tuple[str, str, str, str]]:
    return {(point.name, point.module, point.distribution, point.version) for point in points}


def test_this_environment_has_the_entry_points_that_python_finds() -> None:
    ours = entry_points()
    theirs = importlib.metadata.entry_points(group="contest")
    assert sorted((point.name, point.module) for point in ours) == sorted((p.name, p.module) for p in theirs)
    assert as_tuples(ours) == known_to_python()
    assert {"http", "runner", "stdio", "steps"} <= {point.name for point in ours}


@pytest.mark.parametrize(
    "folder",
    ["contest_carrier-1.2.3.dist-info", "contest_carrier.egg-info", "Contest.Carrier-1.2.3-py3.11.egg-info"],
)
def test_wheels_and_eggs_are_read(tmp_path: Path, folder: str) -> None:
    lay(tmp_path / folder)
    found = entry_points([str(tmp_path)])
    assert as_tuples(found) == known_to_python([str(tmp_path)])
    assert [(point.name, point.module) for point in found] == [
        ("carrier", "contest_carrier.plugin"),
        ("falcon", "contest_carrier.falcon"),
    ]
    assert {(point.distribution, point.version) for point in found} == {("Contest.Carrier", "1.2.3")}


def test_requirements_are_those_of_the_metadata_and_not_of_the_description(tmp_path: Path) -> None:
    lay(tmp_path / "contest_carrier-1.2.3.dist-info")
    assert entry_points([str(tmp_path)])[0].requires == ("contest-core>=0.1,<0.2", 'rich; extra == "color"')


def test_an_eggs_requirements_are_in_a_file_of_their_own(tmp_path: Path) -> None:
    folder = tmp_path / "contest_carrier.egg-info"
    lay(folder, metadata="Name: contest-carrier\nVersion: 1\n")
    (folder / "requires.txt").write_text("contest-core>=0.1\n\n[color]\nrich\n")
    assert [line for line in entry_points([str(tmp_path)])[0].requires if line] == ["contest-core>=0.1"]


def test_the_first_distribution_of_a_name_on_the_path_counts(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    lay(first / "contest_carrier-2.0.dist-info", METADATA.replace("1.2.3", "2.0"))
    lay(second / "Contest-Carrier-1.2.3.egg-info".replace("Contest-Carrier", "contest.carrier"))
    path = [str(first), str(second)]
    assert {point.version for point in entry_points(path)} == {"2.0"}
    assert as_tuples(entry_points(path)) == known_to_python(path)


def test_one_without_entry_points_hides_a_later_one_too(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    lay(first / "contest_carrier-2.0.dist-info", points=None)
    lay(second / "contest_carrier-1.2.3.dist-info")
    path = [str(first), str(second)]
    assert entry_points(path) == []
    assert known_to_python(path) == set()


def test_an_archive_on_the_path_is_read(tmp_path: Path) -> None:
    archive = tmp_path / "app.pyz"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("contest_carrier-1.2.3.dist-info/METADATA", METADATA)
        file.writestr("contest_carrier-1.2.3.dist-info/entry_points.txt", ENTRY_POINTS)
    found = entry_points([str(archive)])
    assert as_tuples(found) == known_to_python([str(archive)])
    assert len(found) == 2
    assert found[0].requires[0] == "contest-core>=0.1,<0.2"


def test_what_is_on_the_path_and_is_nothing_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "file.txt").write_text("x")
    (tmp_path / "broken-1.dist-info").mkdir()
    (tmp_path / "flat-1.egg-info").write_text("Name: flat\n")
    assert entry_points([str(tmp_path), str(tmp_path / "gone"), str(tmp_path / "file.txt")]) == []


@pytest.mark.parametrize(
    ("version", "specifiers", "met"),
    [
        ("0.1.0", "", True),
        ("0.1.0", ">=0.1", True),
        ("0.1.0", ">=0.1.0,<0.2", True),
        ("0.1.0", ">=0.1.1", False),
        ("0.1.0", "<0.1", False),
        ("0.10.0", ">=0.9", True),
        ("0.10.0", "<0.9", False),
        ("1.0", ">=1,<2", True),
        ("2.0", ">=1,<2", False),
        ("0.1.0", "~=0.1", True),
        ("0.1.0", "==0.1.*", True),
        ("0.1.0", "!=0.1.0", False),
        ("0.1.0", "<=0.1", True),
        ("0.1.0", ">0.1", False),
        ("0.2.0rc1", ">=0.1,<0.2", False),
        ("0.2.0rc1", ">=0.1", True),
        ("0.1.0", ">= 0.1 , < 0.2", True),
    ],
)
def test_versions_are_compared_as_pep_440_says(version: str, specifiers: str, met: bool) -> None:
    from packaging.specifiers import SpecifierSet

    assert satisfies(version, specifiers) is met
    assert SpecifierSet(specifiers).contains(version, prereleases=True) is met


def test_the_running_cores_version_is_the_installed_one() -> None:
    assert importlib.metadata.version("contest-core") == CORE_VERSION
