"""What `contest new` writes works: it is installed and tested as its README says, without a network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
from importlib.util import find_spec
from pathlib import Path

import pytest

from contest_core.scaffold import LISTENER, BadName, render, write
from contest_runner.scaffold import STEP

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "docs" / "examples" / "contest-unix"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """That of a virtual environment of its own, in which Contest is installed and nothing can be fetched."""
    folder = tmp_path_factory.mktemp("new")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True, timeout=60)
    (site,) = (folder / "venv").glob("lib/python*/site-packages")
    (site / "ours.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    program = folder / "venv" / "bin" / "contest"
    program.write_text(f"#!{folder}/venv/bin/python\nfrom contest_core.cli import main\n\nmain()\n")
    program.chmod(0o755)
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("CONTEST_", "PYTEST_", "PIP_"))
    }
    return {
        **kept,
        "PATH": f"{folder}/venv/bin:{os.environ['PATH']}",
        "HOME": str(folder),
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": "",
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def run(environment: dict[str, str], folder: Path, *command: str) -> str:
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=100
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def install(environment: dict[str, str], folder: Path) -> None:
    """`pip install -e .`, by the pip that is here."""
    python = f"{environment['PATH'].partition(':')[0]}/python"
    run(environment, folder, sys.executable, "-m", "pip", "--python", python, "install", "-e", ".")


@pytest.mark.skipif(find_spec("pip") is None, reason="pip is not installed here")
@pytest.mark.timeout(150)
@pytest.mark.parametrize(
    ("kind", "name", "some"),
    # The kit takes longer: that of the listener is run where its example is written, in `test_docs.py`.
    [
        ("listener", "my-bus", "reference or socket"),
        ("step", "my-check", "passes or fails or said or refused"),
    ],
)
def test_what_is_written_installs_and_passes_its_tests_at_once_and_offline(
    environment: dict[str, str], tmp_path: Path, kind: str, name: str, some: str
) -> None:
    told = run(environment, tmp_path, "contest", "new", kind, name)
    assert told.startswith(f"wrote contest-{name}: ")
    folder = tmp_path / f"contest-{name}"
    install(environment, folder)
    listed = run(environment, folder, "contest", "plugins", name)
    assert f"{kind} {name}" in listed
    assert "failed" not in listed
    tests = ("pytest", "-q", "-x", "-W", "error", "-p", "no:cacheprovider", "-p", "no:asyncio", "-k", some)
    run(environment, folder, "python", "-m", *tests)
    (shown, *_) = re.findall(r"^```yaml\n((?:.*\n)*?)```$", (folder / "README.md").read_text(), re.MULTILINE)
    (folder / "shown.yaml").write_text(shown)
    command = ("contest", "run", "-q") if kind == "step" else ("contest", "config", "check", "-c")
    run(environment, folder, *command, "shown.yaml")


def test_the_example_is_what_is_written() -> None:
    made = render(LISTENER, "unix")
    if os.environ.get("UPDATE_DOCS"):
        for path, text in made.items():
            (EXAMPLE / path).write_text(text)
    there = {
        str(file.relative_to(EXAMPLE)): file.read_text()
        for file in EXAMPLE.rglob("*")
        if file.is_file() and file.suffix != ".pyc"
    }
    assert there == made, f"UPDATE_DOCS=1 pytest {__file__} writes it anew"


@pytest.mark.parametrize("scaffold", [LISTENER, STEP], ids=["listener", "step"])
@pytest.mark.parametrize("name", ["x", "my-bus", "my_bus2", "a" * 40])
def test_a_name_is_put_in_everywhere(scaffold: object, name: str) -> None:
    made = render(scaffold, name)  # type: ignore[arg-type]
    package = f"contest_{name.replace('-', '_')}"
    assert {f"src/{package}/plugin.py", "pyproject.toml", "README.md", "build_backend.py"} <= set(made)
    assert [path for path, text in made.items() if re.search(r"@\w+@", path + text)] == []
    for path, text in made.items():
        if path.endswith(".py"):
            compile(text, path, "exec")


@pytest.mark.parametrize(
    "name", ["", "My", "1st", "a b", "-a", "a-", "a--b", "../a", "core", "contest-a", "a" * 41, "ä", "a.b"]
)
def test_a_name_of_which_no_plugin_can_be_made_is_refused(name: str) -> None:
    with pytest.raises(BadName):
        render(LISTENER, name)


def test_nothing_is_written_over(tmp_path: Path) -> None:
    with pytest.raises(FileExistsError):
        write({"a": "b"}, tmp_path)
    assert list(tmp_path.iterdir()) == []
