"""Files that are nearly right: configurations and job descriptors, in YAML and JSON, read with the real plugins.

As `test_hostile_peers`, for what is read from a disk: there is a value, or what is wrong, at its place.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
from contextlib import suppress
from pathlib import Path

import pytest

from contest_core import InvalidParameters, ServerOptions, open_server
from contest_core.config import check
from contest_core.document import DocumentError, read
from contest_core.plugins import load_plugins
from contest_runner.manager import LocalJobManager
from contest_runner.settings import LocalSettings

_spec = importlib.util.spec_from_file_location("hostile_bytes", Path(__file__).parent / "hostile_bytes.py")
assert _spec is not None
assert _spec.loader is not None
made = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(made)

CONFIGS = Path(__file__).parent.parent / "configs"
OF_YAML = [
    *made.OF_JSON,
    *b"- ? | > |+9 >-1 & &a *a *b ! !!str !!binary !!python/object/apply:os.system !<x> % @ `".split(b" "),
    *b"~ << --- ... # yes off 1_0 0o7 0x1f .inf .nan 1:20 2026-01-02 2026-01-02T03:04:05Z".split(b" "),
    *b"3s 16MiB -3s 1PiB ${HOME} ${X:-}".split(b" "),
    *(
        b"\n",
        b"\n\n",
        b"\n  ",
        b"\t",
        b"\r",
        b"\x85",
        b"\xe2\x80\xa8",
        b"\xef\xbf\xbe",
        b"\xc0\x80",
        b"- " * 300,
    ),
    b"&a [*a, *a]",
    b"{a: &b [x], c: *b, d: *b}",
    b"[" * 300,
    b"sqlite:///nowhere/x.db",
]

SHARES = [pytest.param(0, 25, id="short")] + [
    pytest.param(share, examples, id=str(share), marks=[pytest.mark.heavy, pytest.mark.timeout(1200)])
    for share, examples in ((2, 400), (3, 4000), (4, 4000))
]


@pytest.mark.parametrize(("share", "examples"), SHARES)
def test_a_configuration_that_is_nearly_right_has_its_problems_told(
    tmp_path: Path, share: int, examples: int
) -> None:
    whole = [file.read_bytes() for file in sorted(CONFIGS.glob("*.yaml"))]
    plugins = load_plugins()
    file = tmp_path / "config.yaml"

    def examine(text: bytes) -> None:
        file.write_bytes(text)
        for problem in check(file, plugins=plugins, environ={}):
            assert problem.message
            assert problem.line is None or problem.line >= 1

    made.explore(made.mangled(whole, OF_YAML, most=6), examine, examples=examples, share=share)


@pytest.mark.parametrize(("share", "examples"), SHARES)
def test_a_job_that_is_nearly_right_has_findings(tmp_path: Path, share: int, examples: int) -> None:
    files = [file for file in sorted((CONFIGS / "jobs").glob("*")) if file.suffix in (".yaml", ".json")]
    written = {".yaml": [], ".json": [made.DESCRIPTOR]}  # type: dict[str, list[bytes]]
    for file in files:
        written[file.suffix].append(file.read_bytes())
        if file.suffix == ".yaml":
            written[".json"].append(json.dumps(read(file.read_text(), source=file.name).value).encode())

    with asyncio.Runner() as runner:

        async def validated(descriptor: str) -> None:
            with suppress(InvalidParameters):  # of an empty text
                response = await server.api.call(caller, "validate", {"jobDesc": descriptor, "plan": True})
                assert response.error is None or response.error.code == "invalid_descriptor"

        def examine(given: tuple[str, bytes]) -> None:
            suffix, text = given
            try:
                value = read(text, source=f"job{suffix}").value
            except DocumentError:
                descriptor = text.decode(errors="replace")
            else:
                descriptor = json.dumps(value)
            runner.run(asyncio.wait_for(validated(descriptor), 20))

        manager = LocalJobManager(LocalSettings(store="sqlite:///store.db"))
        opened = open_server(
            manager, options=ServerOptions(directory=tmp_path, plugins=load_plugins(), event_timeout=20)
        )
        server = runner.run(opened.__aenter__())
        caller = server.api.caller(listener="test", peer="test", requestor="me")
        either = made.st.one_of(
            made.mangled(texts, tokens, most=5).map(lambda text, suffix=suffix: (suffix, text))
            for suffix, texts, tokens in (
                (".yaml", written[".yaml"], OF_YAML),
                (".json", written[".json"], made.OF_JSON),
            )
        )
        try:
            made.explore(either, examine, examples=examples, share=share)
        finally:
            runner.run(opened.__aexit__(None, None, None))
