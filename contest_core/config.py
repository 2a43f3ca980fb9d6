"""The configuration: from a YAML file to typed settings, every error with its place, all of them at once.

Called by the program, in steps, because a file also says which plugins are not to be loaded:

    parsed = parse(path)                                     # read, variables put in
    plugins = load_plugins(disabled=parsed.disabled)
    configuration = resolve(parsed, plugins)                 # names, imports, settings
    parts = construct(configuration)                         # the objects, which do no I/O yet

It calls the registries and the `Settings` of what they name; it knows no listener and no job manager itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from contest_core.config_convert import conceal
from contest_core.config_model import (
    AuthenticatorConfiguration,
    Configuration,
    ConfigurationError,
    JobManagerConfiguration,
    ListenerConfiguration,
    ListenerKeys,
    PartConfiguration,
    PluginsSettings,
    Problem,
    Registries,
    ServerSettings,
)
from contest_core.config_resolve import Resolver, guarded
from contest_core.config_variables import Substituted
from contest_core.document import Document, DocumentError, read

if TYPE_CHECKING:
    from contest_core.caller import Authenticator
    from contest_core.job_manager import JobManager
    from contest_core.listener import Listener

__all__ = [
    "EMBEDDED",
    "AuthenticatorConfiguration",
    "Configuration",
    "ConfigurationError",
    "JobManagerConfiguration",
    "ListenerConfiguration",
    "ListenerKeys",
    "Parsed",
    "PartConfiguration",
    "Parts",
    "PluginsSettings",
    "Problem",
    "Registries",
    "ServerSettings",
    "check",
    "construct",
    "default_text",
    "load",
    "parse",
    "resolve",
    "state_directory",
]

EMBEDDED: Final = "<embedded default>"
"""The source of the configuration that is used where no file is given."""


class Parsed(NamedTuple):
    """A file that was read, before any plugin is asked."""

    document: Document
    substituted: Substituted
    directory: Path

    @property
    def disabled(self) -> tuple[str, ...]:
        """Entry point names of plugins that are not to be loaded; what is wrong with the list, `resolve` says."""
        value = self.substituted.value
        section = value.get("plugins") if isinstance(value, dict) else None
        names = section.get("disabled") if isinstance(section, dict) else None
        return tuple(name for name in names if isinstance(name, str)) if isinstance(names, list) else ()


class Parts(NamedTuple):
    """The objects that a configuration describes."""

    listeners: dict[str, Listener]
    """By name, in the order of the file."""
    job_manager: JobManager
    authenticators: tuple[Authenticator, ...]


def state_directory(environ: Mapping[str, str] | None = None) -> Path:
    """The user's folder for what Contest keeps: `$XDG_STATE_HOME/contest`, else `~/.local/state/contest`."""
    base = Path((os.environ if environ is None else environ).get("XDG_STATE_HOME", ""))
    # The XDG specification says that a relative path here is to be ignored.
    return (base if base.is_absolute() else Path.home() / ".local" / "state") / "contest"


def default_text() -> str:
    """The embedded default, as YAML."""
    return Path(__file__).with_name("default.yaml").read_text("utf-8")


def parse(path: str | Path | None, *, environ: Mapping[str, str] | None = None) -> Parsed:
    """Reads a file (None is the embedded default) and puts the variables in.

    Raises `ConfigurationError` where it cannot be read or is no YAML.
    """
    environ = os.environ if environ is None else environ
    source = EMBEDDED if path is None else str(path)
    try:
        text = default_text() if path is None else Path(path).read_bytes()
        directory = state_directory(environ) if path is None else Path(path).resolve().parent
        document = read(text, source=source)
    except OSError as error:
        problem = Problem(source=source, message=f"cannot be read: {error.strerror or error}")
        raise ConfigurationError([problem]) from error
    except DocumentError as error:
        problem = Problem(source=source, line=error.line, column=error.column, message=error.message)
        raise ConfigurationError([problem]) from error
    return Parsed(document, Substituted(document, environ), directory)


def resolve(parsed: Parsed, registries: Registries) -> Configuration:
    """Looks the names up, imports what they name and converts all settings.

    Raises `ConfigurationError` with every problem of the file.
    """
    resolver = Resolver(parsed.document, parsed.substituted, registries)
    configuration = resolver.configuration(parsed.directory)
    if configuration is None:
        raise ConfigurationError(resolver.problems())
    return configuration


def load(
    path: str | Path | None, *, plugins: Registries, environ: Mapping[str, str] | None = None
) -> Configuration:
    """`parse` and `resolve` in one, where the plugins are loaded already."""
    return resolve(parse(path, environ=environ), plugins)


def check(
    path: str | Path | None, *, plugins: Registries, environ: Mapping[str, str] | None = None
) -> tuple[Problem, ...]:
    """All problems of a configuration; none where `load` gives one."""
    try:
        load(path, plugins=plugins, environ=environ)
    except ConfigurationError as error:
        return error.problems
    return ()


def construct(configuration: Configuration) -> Parts:
    """Makes the objects. Raises `ConfigurationError` with every constructor that raised."""
    problems: list[Problem] = []

    def make(part: PartConfiguration, constructor: Callable[[Any], Any]) -> Any:
        made, failure = guarded(lambda: constructor(part.settings))
        if failure:
            message = f'"{part.kind}" cannot be made: {conceal(failure, part.hidden)}'
            line, column = part.place
            problems.append(Problem(source=configuration.source, line=line, column=column, message=message))
        return made

    listeners = {each.name: make(each, each.listener_class) for each in configuration.listeners}
    manager = make(configuration.job_manager, configuration.job_manager.job_manager_class)
    authenticators = tuple(make(each, each.authenticator_class) for each in configuration.authentication)
    if problems:
        raise ConfigurationError(problems)
    return Parts(listeners, manager, authenticators)
