"""What a configuration is: the core's own settings, the whole when it is checked, and what can be wrong with it.

Made by `config`, which is what others import; the server and the program read it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Protocol

from msgspec import Meta, Struct

from contest_core.config_convert import Hidden
from contest_core.document_tree import Place
from contest_core.settings import Duration, InvalidSettings, out_of_bounds

if TYPE_CHECKING:
    from contest_core.caller import Authenticator
    from contest_core.job_manager import JobManager
    from contest_core.listener import Listener

Ending = Annotated[Literal["cancel", "drain"], Meta(extra={"later": ("pause",)})]
"""What becomes of the jobs at an end."""


class ServerSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What stands under `server:`."""

    id: Annotated[str, Meta(min_length=1, max_length=64)] | None = None
    """The server's ID in every answer, at most 64 bytes; else the host name."""
    event_timeout: Duration = Duration("3s")
    """How long a request waits to be taken, and then again how long it waits for its answer."""
    in_flight: Annotated[int, Meta(ge=1, le=1_000_000)] = 1000
    """Requests that may be carried out at once; further ones wait to be taken."""
    grace: Duration = Duration("10s")
    """At the end: how long requests that were taken may still be answered before they are cancelled."""
    start_timeout: Duration = Duration("30s")
    """How long the job manager and the listeners may take to become ready."""
    on_terminate: Ending = "cancel"
    """What SIGTERM and SIGINT do to running jobs: cancel them, or let them finish (drain)."""

    def __post_init__(self) -> None:
        bounds = {"event_timeout": ("1ms", "1h"), "start_timeout": ("1ms", "24h"), "grace": ("0s", "24h")}
        problems = out_of_bounds(self, bounds)
        if self.id is not None and len(self.id.encode()) > 64:
            problems["id"] = f'the "id" is too long: {len(self.id.encode())} > 64 bytes'
        if problems:
            raise InvalidSettings(problems)


class ListenerKeys(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the core itself takes of the keys of a listener; the rest are the listener's own settings."""

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")] | None = None
    """Its name in logs and errors, else its kind; two of one kind need different ones."""
    allow_anonymous: bool = False
    """Whether it may be reached from beyond this machine where nobody is authenticated."""
    trust: bool = False
    """Whether it may vouch for the names of its users, as a chat does."""
    on_disconnect: Ending = "drain"
    """What the end of its input does to running jobs, where it is the only listener."""


class PluginsSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What stands under `plugins:`."""

    disabled: tuple[str, ...] = ()
    """Entry point names of plugins that are not to be loaded."""


class PartConfiguration(Struct, frozen=True, kw_only=True):
    """What the configuration of every part has, checked."""

    kind: str
    """The key that it stands under."""
    settings: Struct
    """An instance of its class's `Settings`."""
    place: Place
    """Where it is in the file."""
    hidden: tuple[Hidden, ...] = ()
    """What of it came from the environment: no error may show it."""


class ListenerConfiguration(PartConfiguration, frozen=True, kw_only=True):
    """One listener, checked."""

    name: str
    listener_class: type[Listener]
    allow_anonymous: bool
    trust: bool
    on_disconnect: Literal["cancel", "drain"]


class JobManagerConfiguration(PartConfiguration, frozen=True, kw_only=True):
    """The job manager, checked."""

    job_manager_class: type[JobManager]


class AuthenticatorConfiguration(PartConfiguration, frozen=True, kw_only=True):
    """One authenticator, checked."""

    authenticator_class: type[Authenticator]


class Configuration(Struct, frozen=True, kw_only=True):
    """A whole configuration, checked; nothing is constructed yet."""

    server: ServerSettings
    listeners: tuple[ListenerConfiguration, ...]
    job_manager: JobManagerConfiguration
    authentication: tuple[AuthenticatorConfiguration, ...]
    plugins: PluginsSettings
    source: str
    """The path of the file as it was given, or `<embedded default>`."""
    directory: Path
    """What relative paths are relative to: the folder of the file, or the user's state directory."""


class Problem(Struct, frozen=True, kw_only=True):
    """One thing that is wrong with a configuration."""

    source: str
    line: int | None = None
    """From 1; None where the file cannot be read at all."""
    column: int | None = None
    message: str
    nearest: str | None = None
    """The known name that is nearest to the wrong one."""

    def __str__(self) -> str:
        where = f"{self.source}:{self.line}:{self.column}" if self.line is not None else self.source
        return f"{where}: {self.message}" + (f', did you mean "{self.nearest}"?' if self.nearest else "")


class ConfigurationError(Exception):
    """A configuration that cannot be used; its text has a line for each problem, in the order of the file."""

    exit_code = 2

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


class RegistryLike(Protocol):
    """What is needed of a registry (`contest_core.registry.Registry`)."""

    def names(self) -> list[str]: ...

    def load(self, name: str) -> object: ...


class InfoLike(Protocol):
    """What is needed of a plugin that was found (`contest_core.plugins.PluginInfo`)."""

    @property
    def name(self) -> str: ...


class Registries(Protocol):
    """What is needed of the loaded plugins (`contest_core.plugins.Plugins`)."""

    @property
    def infos(self) -> Sequence[InfoLike]: ...

    @property
    def listeners(self) -> RegistryLike: ...

    @property
    def job_managers(self) -> RegistryLike: ...

    @property
    def authenticators(self) -> RegistryLike: ...
