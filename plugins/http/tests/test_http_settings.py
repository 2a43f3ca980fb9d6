"""The settings and the plugin."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import msgspec
import pytest

from contest_core.plugins import load_plugins
from contest_core.settings import ByteSize, Duration, dec_hook
from contest_http.client import HttpClient
from contest_http.listener import HttpListener
from contest_http.settings import HttpSettings


def convert(settings: dict[str, Any]) -> HttpSettings:
    return msgspec.convert(settings, HttpSettings, dec_hook=dec_hook)


def test_the_defaults_are_those_of_the_design() -> None:
    settings = convert({})
    assert (settings.host, settings.port, settings.origins) == ("127.0.0.1", 8080, ())
    assert (settings.max_request, settings.max_answer) == (16 << 20, 64 << 20)
    assert settings.request_timeout == Duration("30s")


def test_what_a_configuration_says_is_taken() -> None:
    settings = convert(
        {"port": 0, "max_request": "1MiB", "idle_timeout": "5m", "origins": ["https://lab.example"]}
    )
    assert (settings.max_request, settings.idle_timeout) == (ByteSize("1MiB"), Duration("5m"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"prot": 1},
        {"port": 65536},
        {"port": -1},
        {"request_timeout": "0s"},
        {"idle_timeout": "-1s"},
        {"max_header": 0},
        {"max_connections": 0},
        {"origins": ["*"]},
        {"origins": ["https://lab.example/"]},
        {"origins": ["lab.example"]},
    ],
)
def test_what_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        convert(wrong)


def test_the_plugin_is_found_and_gives_a_listener_and_two_schemes() -> None:
    plugins = load_plugins()
    assert plugins.listeners.load("http") is HttpListener
    assert plugins.clients.load("http") is HttpClient
    assert plugins.clients.load("https") is HttpClient


def test_the_plugin_and_the_clients_module_load_no_server_and_no_http_library() -> None:
    code = "import sys, contest_http.plugin, contest_http.client; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert {"uvicorn", "uvloop", "httptools", "httpx2", "asyncio"} & set(loaded) == set()
