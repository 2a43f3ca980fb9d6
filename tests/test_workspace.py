"""The workspace holds together: adding a plugin and forgetting a line fails here, and says which line."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from contest_core import CORE_VERSION
from contest_core.plugins import load_plugins

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(
    not (ROOT / "constraints.txt").is_file(), reason="the tests run apart from the workspace, against wheels"
)

PLUGINS = sorted(path.parent.name for path in ROOT.glob("plugins/*/pyproject.toml"))
NAMES = [f"contest-{plugin}" for plugin in PLUGINS]

LONGEST_FILE = 500
LONGEST_PLUGIN = 40

# A folder of somebody's own machine, and where packages come from: neither belongs in a source.
MACHINE = re.compile(r"(?<![\w.])/(?:work|root|Users|home/(?!somebody\b)\w+)/")
INDEX = re.compile(r"pypi\.org|pythonhosted\.org|--index-url|--extra-index-url|--find-links")


def project(folder: str) -> dict[str, Any]:
    return tomllib.loads((ROOT / folder / "pyproject.toml").read_text("utf-8"))


def requirements(lines: list[str]) -> dict[str, Requirement]:
    parsed = [Requirement(line) for line in lines]
    return {one.name.lower(): one for one in parsed}


@pytest.fixture(scope="module")
def core() -> dict[str, Any]:
    return project(".")


def lines_of(name: str) -> list[str]:
    lines = (line.partition("#")[0].strip() for line in (ROOT / name).read_text("utf-8").splitlines())
    return [line for line in lines if line]


def product() -> Iterator[Path]:
    for folder in (ROOT / "contest_core", *(ROOT / "plugins" / plugin / "src" for plugin in PLUGINS)):
        yield from folder.rglob("*.py")


def tracked() -> list[Path]:
    """The text files of the repository; of what is laid out without one, all that is not hidden."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    if listed.returncode == 0:
        return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]
    return [
        path
        for path in ROOT.rglob("*")
        if path.is_file() and not any(p[0] == "." for p in path.relative_to(ROOT).parts)
    ]


def imported(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


# --- one rule for names


@pytest.mark.parametrize("plugin", PLUGINS)
def test_a_plugin_is_named_by_its_folder(plugin: str) -> None:
    its = project(f"plugins/{plugin}")
    assert its["project"]["name"] == f"contest-{plugin}"
    assert its["project"]["entry-points"]["contest"] == {plugin: f"contest_{plugin}.plugin"}
    assert its["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == [f"src/contest_{plugin}"]
    assert [path.name for path in (ROOT / "plugins" / plugin / "src").iterdir() if path.is_dir()] == [
        f"contest_{plugin}"
    ]


@pytest.mark.parametrize("plugin", PLUGINS)
def test_a_plugin_has_what_every_distribution_has(plugin: str) -> None:
    folder = ROOT / "plugins" / plugin
    assert (folder / "src" / f"contest_{plugin}" / "py.typed").is_file()
    assert len((folder / "README.md").read_text("utf-8").splitlines()) > 5, (
        "it says what it is and how it is set"
    )
    assert list((folder / "tests").glob("test_*.py"))
    assert (folder / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


@pytest.mark.parametrize("plugin", PLUGINS)
def test_what_all_distributions_say_alike_is_alike(plugin: str, core: dict[str, Any]) -> None:
    its = project(f"plugins/{plugin}")
    assert its["build-system"] == core["build-system"]
    for key in ("requires-python", "license", "readme"):
        assert its["project"][key] == core["project"][key]
    assert "Typing :: Typed" in its["project"]["classifiers"]


def test_the_core_has_what_every_distribution_has(core: dict[str, Any]) -> None:
    assert (ROOT / "contest_core" / "py.typed").is_file()
    assert (ROOT / "LICENSE").read_text("utf-8").startswith("MIT License")
    assert core["project"]["scripts"] == {"contest": "contest_core.cli:main"}


def test_every_plugin_of_the_workspace_is_found_and_loads() -> None:
    found = {info.name: info for info in load_plugins().infos}
    for plugin in PLUGINS:
        assert found[plugin].failure is None
        assert found[plugin].module == f"contest_{plugin}.plugin"


# --- versions


def test_the_versions_of_project_and_code_are_one(core: dict[str, Any]) -> None:
    assert core["project"]["version"] == CORE_VERSION


@pytest.mark.parametrize("folder", [".", *(f"plugins/{plugin}" for plugin in PLUGINS)])
def test_what_members_require_of_each_other_they_are(folder: str) -> None:
    versions = {f"contest-{plugin}": project(f"plugins/{plugin}")["project"]["version"] for plugin in PLUGINS}
    versions["contest-core"] = CORE_VERSION
    its = project(folder)["project"]
    lines = [
        *its["dependencies"],
        *(line for extra in its.get("optional-dependencies", {}).values() for line in extra),
    ]
    for name, requirement in requirements(lines).items():
        if name in versions:
            assert requirement.specifier, f"{requirement} has no range, which pip would need"
            assert Version(versions[name]) in requirement.specifier


@pytest.mark.parametrize("plugin", PLUGINS)
def test_a_plugin_requires_the_core_and_no_sibling_but_the_runner(plugin: str) -> None:
    needed = requirements(project(f"plugins/{plugin}")["project"]["dependencies"])
    assert "contest-core" in needed
    assert set(needed) & set(NAMES) <= {"contest-runner"}


# --- lists


def test_the_standard_extra_names_every_plugin(core: dict[str, Any]) -> None:
    assert list(requirements(core["project"]["optional-dependencies"]["standard"])) == NAMES


def test_the_dependency_group_and_uvs_sources_name_every_plugin(core: dict[str, Any]) -> None:
    group = requirements(core["dependency-groups"]["dev"])
    assert [name for name in group if name.startswith("contest-")] == NAMES
    assert core["tool"]["uv"]["sources"] == {name: {"workspace": True} for name in NAMES}
    assert core["tool"]["uv"]["workspace"]["members"] == ["plugins/*"]


def test_requirements_dev_installs_every_member_and_the_same_tools_as_the_group(core: dict[str, Any]) -> None:
    lines = lines_of("requirements-dev.txt")
    editable = [line.removeprefix("-e ") for line in lines if line.startswith("-e ")]
    assert editable == [".", *(f"plugins/{plugin}" for plugin in PLUGINS)]
    tools = [line for line in lines if not line.startswith("-e ")]
    assert tools == [line for line in core["dependency-groups"]["dev"] if not line.startswith("contest-")]


def test_the_type_checker_is_told_of_every_package(core: dict[str, Any]) -> None:
    assert core["tool"]["mypy"]["packages"] == ["contest_core", *(f"contest_{plugin}" for plugin in PLUGINS)]


def test_constraints_pin_everything_that_is_required_within_its_range(core: dict[str, Any]) -> None:
    pins = {
        Requirement(line).name.lower().replace("_", "-"): line.partition("==")[2]
        for line in lines_of("constraints.txt")
    }
    assert all(pins.values()), "every line is a pin"
    projects = [core, *(project(f"plugins/{plugin}") for plugin in PLUGINS)]
    lines = [line for one in projects for line in one["project"]["dependencies"]] + core["dependency-groups"][
        "dev"
    ]
    for name, requirement in requirements(lines).items():
        if not name.startswith("contest-"):
            assert name.replace("_", "-") in pins, f"constraints.txt does not pin {name}"
            assert Version(pins[name.replace("_", "-")]) in requirement.specifier


def test_one_requirement_has_one_range_wherever_it_stands(core: dict[str, Any]) -> None:
    seen: dict[str, set[str]] = {}
    for one in [core, *(project(f"plugins/{plugin}") for plugin in PLUGINS)]:
        for name, requirement in requirements(one["project"]["dependencies"]).items():
            seen.setdefault(name, set()).add(str(requirement.specifier))
    assert {name: ranges for name, ranges in seen.items() if len(ranges) > 1} == {}


# --- the sources


@pytest.mark.parametrize("plugin", PLUGINS)
def test_plugin_py_has_the_hook_implementations_and_nothing_else(plugin: str) -> None:
    text = (ROOT / "plugins" / plugin / "src" / f"contest_{plugin}" / "plugin.py").read_text("utf-8")
    assert len(text.splitlines()) <= LONGEST_PLUGIN
    tree = ast.parse(text)
    assert ast.get_docstring(tree)
    for node in tree.body[1:]:
        assert isinstance(node, ast.Import | ast.ImportFrom | ast.If | ast.FunctionDef), ast.unparse(node)
        if isinstance(node, ast.If):
            assert ast.unparse(node.test) == "TYPE_CHECKING"
        if isinstance(node, ast.FunctionDef):
            assert [ast.unparse(mark) for mark in node.decorator_list] == ["hookimpl"]
    hooks = load_plugins().manager.hook
    own = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert own
    assert all(getattr(hooks, name).has_spec() for name in own)


def test_the_core_imports_no_plugin() -> None:
    for file in (ROOT / "contest_core").rglob("*.py"):
        assert not [
            name for name in imported(file) if name.partition(".")[0] in {n.replace("-", "_") for n in NAMES}
        ], file


@pytest.mark.parametrize("plugin", PLUGINS)
def test_a_plugin_imports_only_what_it_requires_of_us(plugin: str) -> None:
    needed = {
        name.replace("-", "_")
        for name in requirements(project(f"plugins/{plugin}")["project"]["dependencies"])
    }
    ours = {name.replace("-", "_") for name in NAMES} - {f"contest_{plugin}"}
    for file in (ROOT / "plugins" / plugin / "src").rglob("*.py"):
        used = {name.partition(".")[0] for name in imported(file)} & ours
        assert used <= needed, file


def test_no_source_of_the_product_is_longer_than_it_can_be_read() -> None:
    long = {
        str(file.relative_to(ROOT)): count for file in product() if (count := _length(file)) > LONGEST_FILE
    }
    assert long == {}


def _length(file: Path) -> int:
    return len(file.read_text("utf-8").splitlines())


def test_every_module_of_the_product_says_what_it_is() -> None:
    silent = [
        file
        for file in product()
        if file.stat().st_size and not ast.get_docstring(ast.parse(file.read_text("utf-8")))
    ]
    assert silent == []


def test_no_file_knows_a_machine_or_an_index_of_packages() -> None:
    found = []
    for file in tracked():
        if file == Path(__file__):
            continue
        try:
            text = file.read_text("utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{file.relative_to(ROOT)}: {match[0]}" for match in MACHINE.finditer(text)]
        if file.suffix in (".txt", ".toml", ".py", ".cfg", ".sh", ".yaml") or file.name == "run":
            found += [f"{file.relative_to(ROOT)}: {match[0]}" for match in INDEX.finditer(text)]
    assert found == []
