"""The documentation is true: what it shows is run, what it lists is compared with the code, what it links to is there.

The info string of a fenced block says what is done with it:

    console           each `$` command is run, in order, and what is shown below it compared; `...` is anything
    yaml FILE         the same, written to that file first
    yaml, json        read, and judged as what they look like; `json KIND` as that kind of object
    python FILE       it is that file; without one it is run in a test of its own
    python new FILE   it is written there, as a reader does, and `more FILE` behind what is there: see the tutorial
    python hook       a signature, and `python file NAME`, an example of `docs/hooks.md`: see `test_hooks.py`
    jsonl session     `-->` is sent over a JSON-RPC session, `<--` compared with what comes back
    sh                not run: installing, and the tests themselves
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import pkgutil
import re
import shutil
import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

import contest_core
from contest_core import (
    VERBS,
    Finding,
    JobEntry,
    JobEvent,
    ResponseDataStart,
    ResponseDataStatus,
    ServerOptions,
    Waiting,
    hookspecs,
    open_server,
)
from contest_core.config import default_text, parse, resolve
from contest_core.document import read
from contest_core.plugins import load_plugins
from contest_core.rpc import Session
from contest_core.testing.memory import MemoryJobManager
from contest_runner import descriptor_fields
from contest_runner import hookspecs as runner_hookspecs
from contest_runner.catalog import Catalog
from contest_runner.descriptor import read_descriptor
from contest_steps.target_list import TargetEntry

ROOT = Path(__file__).parents[1]
SECONDS = 50

_spec = importlib.util.spec_from_file_location("docs_tables", Path(__file__).parent / "docs_tables.py")
assert _spec is not None
assert _spec.loader is not None
docs_tables = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(docs_tables)

PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted(ROOT.glob("plugins/*/README.md")),
]
"""Where the tests run against wheels, the plugins' own pages are not there."""

RUN = (
    "getting-started.md",
    "reports.md",
    "configuration.md",
    "wires.md",
    "http/README.md",
    "stdio/README.md",
    "websocket/README.md",
)
"""Pages whose console blocks are run as they are."""

RUN_PAGES = [page for page in PAGES if str(page).endswith(RUN)]

KINDS: dict[str, Any] = {
    "start": ResponseDataStart,
    "status": ResponseDataStatus,
    "finding": Finding,
    "job": JobEntry,
    "waiting": Waiting,
    "event": JobEvent,
}


class Block(NamedTuple):
    page: Path
    line: int
    language: str
    about: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(*languages: str, pages: list[Path] = PAGES) -> list[Block]:
    """The fenced blocks in these languages."""
    found = []
    for page in pages:
        text = page.read_text()
        for match in re.finditer(r"^```(\w*) ?(.*)\n((?:.*\n)*?)```$", text, re.MULTILINE):
            if match[1] in languages:
                line = text.count("\n", 0, match.start()) + 1
                found.append(Block(page, line, match[1], match[2], match[3]))
    return found


def same(shown: str, real: str) -> bool:
    """Whether what a page shows is what came, where `...` is anything."""
    pieces = [re.escape(piece) for piece in shown.strip().split("...")]
    real = "\n".join(line.rstrip() for line in real.strip().splitlines())
    return re.fullmatch(".*?".join(pieces), real, re.DOTALL) is not None


# --- what is run


class Terminal:
    """Runs the commands of a page in a folder of its own, on a port of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = str(free.getsockname()[1])
        kept = {name: value for name, value in os.environ.items() if not name.startswith("CONTEST_")}
        self.environment = {
            **kept,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(folder),
            "XDG_STATE_HOME": str(folder / "state"),
            "LOGNAME": "me",
        }
        self.servers: list[subprocess.Popen[str]] = []

    def here(self, text: str) -> str:
        """A page's text with the port that is used here."""
        return text.replace("8080", self.port)

    def begin(self, command: str, **more: Any) -> subprocess.Popen[str]:
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        options = {"cwd": self.folder, "env": self.environment, "text": True, **pipes, **more}
        return subprocess.Popen(["bash", "-c", command], **options)

    def run(self, command: str, shown: str) -> None:
        if re.fullmatch(r"contest serve\b[^|&;]*&?", command):
            self.serve(command.rstrip("& "), shown)
            return
        if command == "kill %1":
            self.close()
            return
        if any(re.search(rf"\b{tool}\b", command) and not shutil.which(tool) for tool in ("curl", "jq")):
            return
        with self.begin(command) as process:
            out, err = process.communicate(timeout=SECONDS)
        assert process.returncode == 0, f"{command}\n{out}{err}"
        # Of a refusal, which is on stderr, a page shows both as a terminal does.
        assert not shown or same(shown, out) or same(shown, err + out), f"{command}\n{out}{err}"

    def serve(self, command: str, shown: str) -> None:
        # From now on the page's commands ask this server; a reader's is at the default address.
        self.environment["CONTEST_ADDRESS"] = f"http://localhost:{self.port}"
        if command == "contest serve":
            (self.folder / "default.yaml").write_text(self.here(default_text()))
            command = "contest serve -c default.yaml"
        self.servers.append(process := self.begin(f"exec {command}"))
        assert process.stderr is not None
        lines = [process.stderr.readline() for _ in shown.splitlines()]
        assert same(shown, "".join(lines)), f"{command}\n{lines}"

    def close(self) -> None:
        for process in self.servers:
            process.send_signal(signal.SIGTERM)
        while self.servers:
            with self.servers.pop() as process:
                process.communicate(timeout=SECONDS)
            assert process.returncode == 0

    def write(self, how: str, name: str, text: str) -> None:
        """Writes a file of a page, or the next part of it: a blank line comes between, two where it is not indented."""
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        before = "" if how == "new" else file.read_text() + ("\n" if text[:1].isspace() else "\n\n")
        file.write_text(before + text)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    shutil.copytree(ROOT / "configs", tmp_path / "configs", ignore=shutil.ignore_patterns("*.db*"))
    terminal = Terminal(tmp_path)
    yield terminal
    terminal.close()


def commands(text: str) -> list[tuple[str, str]]:
    """The commands of a console block, each with what is shown below it."""
    parts = re.split(r"^\$ ", text, flags=re.MULTILINE)
    assert not parts[0].strip(), "a console block begins with a command"
    return [(command, shown) for command, _, shown in (part.partition("\n") for part in parts[1:])]


def play(terminal: Terminal, page: Path) -> None:
    for block in blocks("console", "yaml", "python", "toml", pages=[page]):
        how, _, name = block.about.partition(" ")
        if how in ("new", "more"):
            terminal.write(how, name, block.text)
        elif block.language == "console":
            for command, shown in commands(terminal.here(block.text)):
                terminal.run(command, shown)
        elif block.language == "yaml" and block.about:
            (terminal.folder / block.about).write_text(terminal.here(block.text))


@pytest.mark.timeout(150)
@pytest.mark.parametrize("page", RUN_PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_shows_of_a_terminal_is_what_comes(page: Path, terminal: Terminal) -> None:
    play(terminal, page)


def install(terminal: Terminal, name: str, src: Path | None = None) -> None:
    """Installs the example `contest-NAME` as `pip` would from its pyproject.toml, without a network.

    `src` is where its packages are, or will be.
    """
    example = ROOT / "docs" / "examples" / f"contest-{name}"
    project = tomllib.loads((example / "pyproject.toml").read_text())["project"]
    info = terminal.folder / "site" / f"contest_{name}-{project['version']}.dist-info"
    info.mkdir(parents=True)
    points = [f"{key} = {value}\n" for key, value in project["entry-points"]["contest"].items()]
    (info / "entry_points.txt").write_text("".join(["[contest]\n", *points]))
    requires = [f"Requires-Dist: {requirement}\n" for requirement in project["dependencies"]]
    head = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (info / "METADATA").write_text("".join([head, *requires]))
    if src is None:
        shutil.copytree(example, terminal.folder / f"contest-{name}")
    paths = [os.environ.get("PYTHONPATH", ""), str(info.parent), str(src or example / "src")]
    terminal.environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))


def test_the_listener_of_the_page_is_served_by_the_program(terminal: Terminal) -> None:
    install(terminal, "spool")
    play(terminal, ROOT / "docs" / "writing-a-listener.md")


def test_the_job_manager_of_the_page_is_tested_and_served(terminal: Terminal) -> None:
    install(terminal, "script")
    play(terminal, ROOT / "docs" / "writing-a-job-manager.md")


def test_the_steps_of_the_page_are_tested_and_run(terminal: Terminal) -> None:
    install(terminal, "sensor")
    play(terminal, ROOT / "docs" / "writing-a-step.md")


@pytest.mark.timeout(150)
def test_who_follows_the_tutorial_ends_with_the_example(terminal: Terminal) -> None:
    example = ROOT / "docs" / "examples" / "contest-unix"
    page = ROOT / "docs" / "tutorial.md"
    install(terminal, "unix", terminal.folder / "src")
    play(terminal, page)
    written = {
        block.about.partition(" ")[2] for block in blocks("python", "toml", pages=[page]) if block.about
    }
    for name in written:
        assert (terminal.folder / name).read_text() == (example / name).read_text(), name
    there = {
        str(file.relative_to(example))
        for file in example.rglob("*")
        if file.is_file() and file.suffix != ".pyc"
    }
    left_out = {"README.md", "build_backend.py", "src/contest_unix/py.typed", "tests/test_socket.py"}
    assert there == written | left_out


def test_the_mcp_server_of_the_examples_is_tested_with_a_client_that_is_not_ours(terminal: Terminal) -> None:
    pytest.importorskip("mcp", reason="the package `mcp` is not installed")
    install(terminal, "mcp")
    play(terminal, ROOT / "docs" / "examples" / "contest-mcp" / "README.md")
    terminal.run("pytest -q -p no:cacheprovider contest-mcp/tests", "...16 passed...")


def test_the_programs_of_the_page_ask_a_server(terminal: Terminal) -> None:
    shutil.copytree(ROOT / "docs" / "examples" / "client", terminal.folder / "client")
    play(terminal, ROOT / "docs" / "client.md")


def test_the_readme_shows_nothing_that_the_pages_do_not() -> None:
    run = dict(command for block in blocks("console", pages=RUN_PAGES) for command in commands(block.text))
    for block in blocks("console", pages=PAGES[:1]):
        for command, shown in commands(block.text):
            assert command in run
            assert {*shown.splitlines()} <= {"...", *run[command].splitlines()}


async def test_json_rpc_is_answered_as_shown() -> None:
    options = ServerOptions(server_id="lab-1")
    answers: list[str] = []

    async def send(message: bytes) -> None:
        answers.append(message.decode())

    async with open_server(MemoryJobManager(), options=options) as server:
        session = Session(
            server.api, caller=lambda: server.api.caller(listener="docs", peer="this test"), send=send
        )
        for block in blocks("jsonl"):
            for sent, shown in re.findall(r"--> (.*)\n<-- (.*)\n", block.text):
                await session.received(sent.encode())
                assert same(shown, answers[-1]), f"{block}\n{answers[-1]}"
        await session.aclose()
    assert answers


async def test_the_function_of_the_page_answers() -> None:
    names: dict[str, Any] = dict(vars(contest_core))
    page = ROOT / "docs" / "writing-a-listener.md"
    for block in blocks("python", pages=[page]):
        if not block.about:
            exec(f"from __future__ import annotations\n{block.text}", names)
    async with open_server(MemoryJobManager()) as server:
        caller = server.api.caller(listener="docs", peer="this test", requestor="me")
        assert b'"JobIDs":[]' in await names["answer"](server.api, caller, "list", {})
        assert b'"Code":"unknown_verb"' in await names["answer"](server.api, caller, "lists", {})
        await server.api.start(caller, '{"JobName": "one"}')
        sent: list[bytes] = []

        async def send(message: bytes) -> None:
            sent.append(message)
            if len(sent) == 2:
                await server.api.stop(caller, 1)

        await names["follow"](server.api, caller, {"jobID": 1}, send)
        assert [sorted(json.loads(message)) for message in sent] == [["Begins"], ["Event"], ["Event"]]


# --- what is read


async def test_configurations_and_jobs_are_right(tmp_path: Path) -> None:
    plugins = load_plugins()
    log = logging.LoggerAdapter(logging.getLogger("docs"), {})
    for block in blocks("yaml"):
        value = read(block.text, source=str(block)).value
        assert isinstance(value, dict)
        if block.page.name == "writing-a-step.md":
            assert value["JobName"]  # its steps are not installed here: the program runs it, see above
        elif "JobName" in value:
            reading = await read_descriptor(json.dumps(value), Catalog(plugins), log=log)
            assert not reading.findings, str(block)
        elif not re.search("spool|unix|script", block.text) and "examples" not in block.page.parts:
            (tmp_path / "shown.yaml").write_text(block.text)
            resolve(parse(tmp_path / "shown.yaml", environ={}), plugins)


def test_json_is_what_it_says() -> None:
    for block in blocks("json"):
        value = json.loads(block.text)
        kind = KINDS.get(block.about)
        if kind is None:
            assert not block.about, f"{block}: of what kind is this?"
        elif block.about in VERBS:
            assert sorted(value)[-4:] == sorted(["ServerID", "Type", "Data", "Error"])[-4:] or "Code" in value
            msgspec.convert(value["Data"], kind)
        else:
            assert set(value) == set(msgspec.to_builtins(msgspec.convert(value, kind)))


def test_code_is_a_file_of_the_examples() -> None:
    shown = blocks("python", "toml")
    assert shown
    for block in shown:
        if block.about and block.about.split()[0] not in ("hook", "file", "new", "more"):
            assert block.text == (ROOT / block.about).read_text(), f"{block}: not what the file has"


# --- what is compared

TABLE = re.compile(r"(<!-- table: (.*) -->\n\n)(?:\|.*\n)*")


def test_tables_are_what_the_code_says() -> None:
    made = docs_tables.tables()
    compared = set()
    for page in PAGES:
        text = page.read_text()
        new = TABLE.sub(lambda found: found[1] + "\n".join([*made[found[2]](), ""]), text)
        if os.environ.get("UPDATE_DOCS"):
            page.write_text(new)
        else:
            assert text == new, f"{page.name}: UPDATE_DOCS=1 pytest {__file__} writes it anew"
        assert not re.search(r"^\|.*\n[^|\n]", text, re.MULTILINE), f"{page.name}: a table runs into a text"
        compared |= {found[2] for found in TABLE.finditer(text)}
    if (ROOT / "CONTRIBUTING.md").exists():
        assert compared == set(made)


KEYS: dict[str, list[Any]] = {
    "job": [descriptor_fields.JobFields],
    "test": [descriptor_fields.TestFields, descriptor_fields.RetryFields],
    "step": [descriptor_fields.StepFields],
    "reporting": [descriptor_fields.ReportingFields, descriptor_fields.ReporterFields],
    "target": [TargetEntry],
}


LATER = {"Timeout", "CleanupTimeout", "MaxTargets", "Queue", "Priority"}
"""Kept free, and refused where they have no type yet."""


def test_keys_of_jobs_are_what_the_code_reads() -> None:
    for page in PAGES:
        for name, lines in re.findall(r"<!-- keys: (\w+) -->\n\n((?:\|.*\n)*)", page.read_text()):
            listed = {
                key for line in lines.splitlines()[2:] for key in re.findall(r"`(\w+)`", line.split("|")[1])
            }
            known = {
                field.encode_name
                for kind in KEYS[name]
                for field in msgspec.structs.fields(kind)
                if field.encode_name not in LATER or field.default is not msgspec.UNSET
            }
            assert listed == known, f"{page}: {name}"


def test_settings_are_all_on_their_plugins_page() -> None:
    plugins = load_plugins()
    for registry in (plugins.listeners, plugins.job_managers):
        for entry in registry:
            page = ROOT / "plugins" / entry.plugin / "README.md"
            for field in msgspec.structs.fields(registry.load(entry.name).Settings) if page.exists() else ():  # type: ignore[attr-defined]
                assert f"`{field.encode_name}`" in page.read_text(), f"{page}: {field.encode_name}"


def test_hooks_and_names_of_the_code_exist() -> None:
    hooks = {name for module in (hookspecs, runner_hookspecs) for name in vars(module)}
    for page in PAGES:
        text = page.read_text()
        own = set(re.findall(r"^@hookspec\ndef (\w+)", text, re.MULTILINE))
        for hook in re.findall(r"\bcontest_(?:register|add)_\w+", text):
            assert hook in hooks | own, f"{page.name}: {hook}"
        for name in re.findall(
            r"`(contest_(?:core|runner|http|relay|stdio|steps|websocket)(?:\.\w+)*(?::\w+(?:\.\w+)*)?)`", text
        ):
            pkgutil.resolve_name(name)


def test_every_defect_of_contest_is_told_once() -> None:
    text = (ROOT / "docs" / "differences.md").read_text()
    defects = [int(number) for number in re.findall(r"\bD(\d+)\b", text)]
    assert sorted(defects) == list(range(1, 73))


@pytest.mark.skipif(not (ROOT / "CONTRIBUTING.md").exists(), reason="not all files are here")
def test_links_lead_somewhere() -> None:
    anchors = {
        page: set(map(_anchor, re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE))) for page in PAGES
    }
    for page in (*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"):
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
            if target.startswith(("http://", "https://")):
                continue
            path, _, anchor = target.partition("#")
            file = (page.parent / path).resolve() if path else page
            assert file.exists(), f"{page.name}: {target}"
            assert not anchor or anchor in anchors.get(file, {anchor}), f"{page.name}: {target}"


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
