"""From a configuration to what `open_server` wants; used by `serve`, and by plugins' commands that embed a server."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

from contest_core.cli.failures import Failure
from contest_core.config import (
    EMBEDDED,
    Configuration,
    ConfigurationError,
    Parts,
    Problem,
    construct,
    parse,
    resolve,
)
from contest_core.job_manager import Termination
from contest_core.plugins import Plugins, load_plugins
from contest_core.server import ListenerOptions, ServerOptions, open_server
from contest_core.standard_streams import stdout_diverted

if TYPE_CHECKING:
    from contest_core.lifecycle import Server


def read_configuration(path: str | None) -> tuple[Configuration, Plugins]:
    """The checked configuration and the plugins, without those that it disables.

    Raises `ConfigurationError` with all problems; a plugin that failed is among them, as it may be the reason.
    """
    # What a plugin writes while it is imported must not reach stdout, which may be a protocol's.
    with stdout_diverted():
        parsed = parse(path)
        plugins = load_plugins(disabled=parsed.disabled)
        try:
            return resolve(parsed, plugins), plugins
        except ConfigurationError as error:
            raise ConfigurationError([*error.problems, *failed_plugins(plugins)]) from None


def failed_plugins(plugins: Plugins) -> list[Problem]:
    """A line for each plugin that could not be loaded."""
    return [
        Problem(source=f"plugin {info.name}", message=f"not loaded: {info.failure}")
        for info in plugins.infos
        if info.failure
    ]


def construct_parts(configuration: Configuration) -> Parts:
    """Makes the objects, and the folder of the embedded default. Raises `ConfigurationError`, `Failure`."""
    if configuration.source == EMBEDDED:
        try:
            configuration.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            where = f"cannot make {configuration.directory}, where the embedded default keeps its store"
            raise Failure(f"{where}: {error.strerror}; set XDG_STATE_HOME, or give a file with -c") from error
    with stdout_diverted():
        return construct(configuration)


def server_options(configuration: Configuration, plugins: Plugins) -> ServerOptions:
    """What a configuration says of the server itself."""
    server = configuration.server
    return ServerOptions(
        server_id=server.id,
        event_timeout=server.event_timeout.seconds,
        in_flight=server.in_flight,
        grace=server.grace.seconds,
        start_timeout=server.start_timeout.seconds,
        directory=configuration.directory,
        plugins=plugins,
    )


def on_terminate(configuration: Configuration) -> Termination:
    """What the first SIGTERM or SIGINT does."""
    return Termination[configuration.server.on_terminate.upper()]


def open_configured(
    configuration: Configuration, parts: Parts, plugins: Plugins
) -> AbstractAsyncContextManager[Server]:
    """The server that a configuration describes; see `open_server`."""
    options: dict[str, Any] = {
        listener.name: ListenerOptions(
            allow_anonymous=listener.allow_anonymous,
            trust=listener.trust,
            on_disconnect=Termination[listener.on_disconnect.upper()],
        )
        for listener in configuration.listeners
    }
    return open_server(
        parts.job_manager,
        listeners=parts.listeners,
        listener_options=options,
        authenticators=parts.authenticators,
        options=server_options(configuration, plugins),
    )
