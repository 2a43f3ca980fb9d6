"""Builds this distribution: by hatchling, but for `pip install -e .`, which needs nothing from a network.

To do without this file, say in pyproject.toml `requires = ["hatchling>=1.27"]` and `build-backend = "hatchling.build"`.
"""

from __future__ import annotations

import base64
import hashlib
import tomllib
import zipfile
from pathlib import Path
from typing import Any

WHEEL = "Wheel-Version: 1.0\nGenerator: build_backend\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def get_requires_for_build_editable(config_settings: Any = None) -> list[str]:
    """Nothing: what follows needs the standard library alone."""
    return []


def build_editable(wheel_directory: str, config_settings: Any = None, metadata_directory: Any = None) -> str:
    """Writes a wheel that puts `src` on the path."""
    project = tomllib.loads(Path("pyproject.toml").read_text("utf-8"))["project"]
    stem = f"{project['name'].replace('-', '_')}-{project['version']}"
    files = {
        f"{stem}.pth": f"{Path('src').resolve()}\n",
        f"{stem}.dist-info/METADATA": _metadata(project),
        f"{stem}.dist-info/WHEEL": WHEEL,
        f"{stem}.dist-info/entry_points.txt": _entry_points(project),
    }
    record = f"{stem}.dist-info/RECORD"
    files[record] = "".join([*(_recorded(name, text) for name, text in files.items()), f"{record},,\n"])
    wheel = f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(Path(wheel_directory, wheel), "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return wheel


def _metadata(project: dict[str, Any]) -> str:
    lines = ["Metadata-Version: 2.1", f"Name: {project['name']}", f"Version: {project['version']}"]
    lines += [f"Requires-Python: {project['requires-python']}"]
    lines += [f"Requires-Dist: {requirement}" for requirement in project["dependencies"]]
    for extra, requirements in project.get("optional-dependencies", {}).items():
        lines.append(f"Provides-Extra: {extra}")
        lines += [f"Requires-Dist: {requirement}; extra == '{extra}'" for requirement in requirements]
    return "\n".join([*lines, ""])


def _entry_points(project: dict[str, Any]) -> str:
    lines = []
    for group, points in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {place}" for name, place in points.items())]
    return "\n".join([*lines, ""])


def _recorded(name: str, text: str) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
    return f"{name},sha256={digest},{len(text.encode())}\n"


# --- a release is built by hatchling, which pip fetches


def get_requires_for_build_wheel(config_settings: Any = None) -> list[str]:
    """What pip installs before `build_wheel`."""
    return ["hatchling>=1.27"]


def build_wheel(wheel_directory: str, config_settings: Any = None, metadata_directory: Any = None) -> str:
    """Builds the wheel of a release."""
    from hatchling import build

    return str(build.build_wheel(wheel_directory, config_settings, metadata_directory))


get_requires_for_build_sdist = get_requires_for_build_wheel


def build_sdist(sdist_directory: str, config_settings: Any = None) -> str:
    """Builds the source archive of a release."""
    from hatchling import build

    return str(build.build_sdist(sdist_directory, config_settings))
