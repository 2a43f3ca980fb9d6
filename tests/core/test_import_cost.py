"""`import contest_core` stays cheap: what it may not bring, and that it brings no plugin."""

from __future__ import annotations

import subprocess
import sys

import pytest

PLUGINS = (
    "contest_http",
    "contest_relay",
    "contest_runner",
    "contest_stdio",
    "contest_steps",
    "contest_websocket",
)

SERVERS_AND_STORES = (
    "sqlalchemy",
    "sqlite3",
    "uvicorn",
    "uvloop",
    "httptools",
    "httpx2",
    "rich",
    "websockets",
    "yaml",
)

SLOW = (
    "asyncio",
    "logging",
    "pathlib",
    "difflib",
    "socket",
    "secrets",
    "hashlib",
    "email",
    "importlib.metadata",
)


def imported_by(code: str) -> set[str]:
    """The names of all modules that a fresh interpreter has when it has run this, beyond what it starts with."""
    script = f"import sys; before = set(sys.modules); {code}; print(*(set(sys.modules) - before))"
    # Isolated: what the environment makes every interpreter load is not ours.
    run = subprocess.run(
        [sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    return set(run.stdout.split())


@pytest.fixture(scope="module")
def of_the_core() -> set[str]:
    return imported_by("import contest_core")


@pytest.mark.parametrize("name", [*PLUGINS, *SERVERS_AND_STORES, *SLOW])
def test_importing_the_core_does_not_import(name: str, of_the_core: set[str]) -> None:
    assert name not in of_the_core


def test_the_trace_of_imports_names_no_plugin_server_or_store() -> None:
    run = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "import contest_core"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    named = {line.rpartition("|")[2].strip() for line in run.stderr.splitlines()}
    assert "contest_core.api" in named
    assert not {name for name in named if name.partition(".")[0] in (*PLUGINS, *SERVERS_AND_STORES)}


def test_importing_the_core_opens_nothing_of_its_server() -> None:
    assert not {
        "contest_core.lifecycle",
        "contest_core.contexts",
        "contest_core.answering",
        "contest_core.rpc",
    } & (imported_by("import contest_core"))


def test_loading_the_plugins_imports_their_plugin_modules_and_nothing_that_they_only_name() -> None:
    modules = imported_by("from contest_core.plugins import load_plugins; plugins = load_plugins()")
    assert {f"{name}.plugin" for name in PLUGINS} <= modules
    ours = {name for name in modules if name.partition(".")[0] in PLUGINS}
    allowed = {*PLUGINS, *(f"{name}.plugin" for name in PLUGINS), "contest_runner.hookspecs"}
    assert ours <= allowed
    assert not modules & {*SERVERS_AND_STORES, *SLOW}
