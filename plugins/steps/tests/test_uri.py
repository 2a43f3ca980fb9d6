"""The fetcher `URI`, with real files and a real web server on loopback."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from contest_runner.testing import Lab, job_of, one_test, step
from contest_steps import uri

STEPS = json.dumps({"steps": [step("echo", "hello", text="fetched")], "Report": 1}).encode()


def uri_job(where: object, *, name: str = "fetched", **more: Any) -> Any:
    parameters = {"TestName": name, "URI": str(where)}
    return job_of(one_test(TestFetcherName="uri", TestFetcherFetchParameters=parameters, **more))


async def refusal(lab: Lab, where: object) -> str:
    """Why a job is refused."""
    (finding,) = (await lab.read(uri_job(where))).findings
    assert finding.severity.value == "error"
    assert finding.path == "/TestDescriptors/0/TestFetcherFetchParameters"
    return finding.message


# --- files


async def test_steps_of_a_file_are_run_and_kept_with_the_job(lab: Lab, tmp_path: Path) -> None:
    file = tmp_path / "steps of mine.json"
    file.write_bytes(STEPS)
    async with lab.server() as serving:
        job = await serving.start(uri_job(file))
        file.unlink()
        status = await serving.ended(job)
        assert status["Verdict"] == "passed"
        assert status["RunStatus"]["TestStatuses"][0]["TestName"] == "fetched"
        assert "hello" in status["RunStatus"]["TestStatuses"][0]["TestStepStatuses"][0]["TestStepLabel"]


def cleaning_job(where: object, *, steps: object | None = None, **more: Any) -> Any:
    """A job whose cleanup steps are fetched; its test's are, too, where it is said from where."""
    cleanup = {"CleanupFetcherName": "Uri", "CleanupFetcherFetchParameters": {"URI": str(where), **more}}
    if steps is not None:
        return uri_job(steps, **cleanup)
    return job_of(one_test(step("echo", "hello", text="x"), targets=("a", "b"), **cleanup))


@pytest.mark.parametrize("fetched", [False, True])
async def test_cleanup_steps_are_fetched_too_whatever_has_the_steps_of_the_test(
    lab: Lab, tmp_path: Path, fetched: bool
) -> None:
    steps, cleanup = tmp_path / "steps.json", tmp_path / "cleanup.json"
    steps.write_bytes(STEPS)
    script = ["-c", f"echo {{{{ .ID }}}} >>{tmp_path}/log"]
    cleanup.write_text(json.dumps({"Steps": [step("cmd", "sweep", executable="sh", args=script)]}))
    async with lab.server() as serving:
        status = await serving.run(cleaning_job(cleanup, steps=steps if fetched else None, TestName="any"))
    assert status["Verdict"] == "passed"
    (test,) = status["RunStatus"]["TestStatuses"]
    (swept,) = test["CleanupStepStatuses"]
    assert swept["TestStepLabel"] == "sweep"
    ids = sorted(entry["Target"]["ID"] for entry in swept["TargetStatuses"])
    assert sorted((tmp_path / "log").read_text().split()) == ids == (["t1"] if fetched else ["a", "b"])


async def test_fetched_cleanup_steps_may_be_none_and_are_judged_where_they_are_fetched(
    lab: Lab, tmp_path: Path
) -> None:
    file = tmp_path / "cleanup.json"
    file.write_text('{"Steps": []}')
    assert (await lab.read(cleaning_job(file))).findings == ()
    file.write_bytes(STEPS)
    (finding,) = (await lab.read(cleaning_job(file))).findings
    where = "/TestDescriptors/0/CleanupFetcherFetchParameters"
    assert (finding.code, finding.path) == ("duplicate", f"{where}/URI/0/label")
    for text in ("{}", "["):
        file.write_text(text)
        (finding,) = (await lab.read(cleaning_job(file))).findings
        assert (finding.code, finding.path) == ("fetch_failed", where)
    (finding,) = (await lab.read(cleaning_job(tmp_path / "none"))).findings
    assert (finding.code, finding.path) == ("fetch_failed", where)


async def test_a_relative_path_is_relative_to_the_servers_directory(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / "a b.json").write_bytes(STEPS)
    monkeypatch.chdir(tmp_path)
    for name in ("samples/a b.json", "samples/a%20b.json", f"file://{tmp_path}/samples/a%20b.json"):
        assert not (await lab.read(uri_job(name))).findings


async def test_values_that_are_no_texts_reach_the_step_as_they_are_written(lab: Lab, tmp_path: Path) -> None:
    file = tmp_path / "steps.json"
    file.write_text(
        '{"Steps": [{"name": "variables", "label": "v", "parameters": {"o": [{"b":  1.50, "a": "x"}], "s": ["y"]}},'
        ' {"name": "cmd", "label": "c", "parameters": {"executable": ["test"], "args": [1.50, "=", "1.50"]}}]}'
    )
    async with lab.server() as serving:
        status = await serving.run(uri_job(file))
        assert status["Verdict"] == "passed"
        rows = [json.loads(row.payload) for row in await serving.events(1) if row.name == "VariableEmitted"]
        assert {row["Name"]: json.loads(row["Value"]) for row in rows} == {
            "o": {"b": 1.5, "a": "x"},
            "s": "y",
        }


async def test_what_is_wrong_with_the_steps_is_told_at_the_uri(lab: Lab, tmp_path: Path) -> None:
    file = tmp_path / "steps.json"
    file.write_text(json.dumps({"Steps": [step("ecko", "one"), step("echo", "1", text="x")]}))
    findings = (await lab.read(uri_job(file))).findings
    where = "/TestDescriptors/0/TestFetcherFetchParameters/URI"
    assert [(finding.code, finding.path) for finding in findings] == [
        ("unknown_step", f"{where}/0/name"),
        ("bad_label", f"{where}/1/label"),
    ]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "is no JSON test description"),
        (b"[]", "is no JSON test description"),
        (b"{}", "has no 'Steps'"),
        (b"\xff", "is not UTF-8"),
        (b"[" * 100_000, "is no JSON test description"),
        (b" " * (1024 * 1024 + 1), "it is larger than 1MiB"),
    ],
)
async def test_a_file_that_is_no_test_is_refused_with_words(
    lab: Lab, tmp_path: Path, content: bytes, words: str
) -> None:
    file = tmp_path / "bad.json"
    file.write_bytes(content)
    assert words in await refusal(lab, file)


async def test_what_is_no_file_is_refused_and_not_waited_for(lab: Lab, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "no ordinary file" in await refusal(lab, tmp_path / "pipe")
    assert "no ordinary file" in await refusal(lab, "/dev/zero")
    assert "No such file" in await refusal(lab, tmp_path / "none")


@pytest.mark.parametrize(
    ("where", "words"),
    [
        (
            "ftp://example.org/x",
            "unsupported scheme 'ftp': a URI here is a path, or has file:// or http:// or",
        ),
        ("javascript:alert(1)", "unsupported scheme 'javascript'"),
        ("file://elsewhere/x", "unsupported host 'elsewhere'"),
        ("", "the URI is empty"),
        ("http://", "no host"),
        ("http://x:99999/", "Port out of range"),
        ("http://[::1/", "Invalid IPv6 URL"),
        ("a\nb", "control character"),
        ("x" * 9000, "the limit is 8,192"),
    ],
)
async def test_what_is_no_uri_for_us_is_refused_with_words(lab: Lab, where: str, words: str) -> None:
    assert words in await refusal(lab, where)


# --- the web


@asynccontextmanager
async def serving(
    answer: Callable[[str, dict[str, str]], bytes | None], tls: ssl.SSLContext | None = None
) -> AsyncIterator[str]:
    """A web server; `answer` is given the path and the headers, and gives the bytes of an answer, or silence."""
    silent = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:])}
        said = answer(head[0].split()[1], headers)
        if said is None:
            await silent.wait()
        else:
            writer.write(said)
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0, ssl=tls)
    async with server:
        scheme = "https" if tls else "http"
        yield f"{scheme}://localhost:{server.sockets[0].getsockname()[1]}"
        silent.set()


def said(status: str, body: bytes = b"", **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def test_steps_are_fetched_from_the_web_with_the_query_as_it_is_written(lab: Lab) -> None:
    paths: list[str] = []

    def answer(path: str, headers: dict[str, str]) -> bytes:
        paths.append(path)
        return said("200 OK", STEPS)

    async with serving(answer) as address, lab.server() as server:
        status = await server.run(uri_job(f"{address}/a%20b?x=1&y=<2>#there"))
        assert status["Verdict"] == "passed"
    assert paths == ["/a%20b?x=1&y=%3C2%3E"]


@pytest.mark.parametrize("status", ["404 Not Found", "500 Oh", "204 No Content", "304 Not Modified"])
async def test_any_status_but_200_is_refused_though_steps_come_with_it(lab: Lab, status: str) -> None:
    body = b"" if status[:3] in ("204", "304") else STEPS
    async with serving(lambda *_: said(status, body)) as address:
        assert f"cannot fetch {address}/x: it was answered with {status}" in await refusal(
            lab, f"{address}/x"
        )


async def test_redirections_are_followed_but_not_out_of_the_web_nor_for_ever(lab: Lab) -> None:
    def answer(path: str, headers: dict[str, str]) -> bytes:
        if path == "/steps":
            return said("200 OK", STEPS)
        to = {"/once": "steps", "/out": "file:///etc/passwd", "/round": "/round"}[path]
        return said("302 Found", Location=to)

    async with serving(answer) as address:
        assert not (await lab.read(uri_job(f"{address}/once"))).findings
        assert "redirects to 'file:///etc/passwd': unsupported scheme" in await refusal(lab, f"{address}/out")
        assert "more than 10 redirections" in await refusal(lab, f"{address}/round")


async def test_a_user_is_for_that_server_alone_and_no_password_is_told(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "httpx2")
    given: list[str | None] = []

    async with serving(
        lambda path, headers: given.append(headers.get("authorization")) or said("404 No")
    ) as other:

        def answer(path: str, headers: dict[str, str]) -> bytes:
            given.append(headers.get("authorization"))
            return said("302 Found", Location="/again" if path == "/" else other)

        async with serving(answer) as address:
            message = await refusal(lab, address.replace("//", "//me:s%65cret@") + "/")
    basic = "Basic " + base64.b64encode(b"me:secret").decode()
    assert given == [basic, basic, None]
    assert "404 No" in message
    assert "s%65cret" not in message + caplog.text
    assert "secret" not in message + caplog.text


async def test_a_document_is_no_larger_than_the_limit_whatever_its_head_says(lab: Lab) -> None:
    endless = b"HTTP/1.1 200 OK\r\n\r\n" + b" " * (1024 * 1024 + 1)
    async with serving(lambda *_: endless) as address:
        assert "it is larger than 1MiB" in await refusal(lab, address)
    async with serving(lambda *_: said("200 OK", b"xx", Content_Encoding="gzip")) as address:
        assert "it came compressed (gzip)" in await refusal(lab, address)


async def test_a_server_that_is_silent_is_given_up_and_the_loop_goes_on(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uri, "TIMEOUT", 0.2)
    async with serving(lambda *_: None) as address:
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0.01)

        counting = asyncio.ensure_future(count())
        message = await asyncio.wait_for(refusal(lab, address), 5)
        counting.cancel()
        assert f"cannot fetch {address}: " in message
        assert turns > 5


async def test_a_server_that_is_not_there_or_talks_nonsense_is_told(lab: Lab) -> None:
    async with serving(lambda *_: b"nonsense\r\n\r\n") as address:
        assert f"cannot fetch {address}: " in await refusal(lab, address)
    assert "Connection refused" in await refusal(lab, address)


async def test_a_certificate_that_the_system_does_not_know_is_refused(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "1"]
    try:
        subprocess.run([*make, *names, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("there is no openssl here to make a certificate")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    async with serving(lambda *_: said("200 OK", STEPS), tls) as address:
        assert "certificate verify failed" in await refusal(lab, address)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert not (await lab.read(uri_job(address))).findings
